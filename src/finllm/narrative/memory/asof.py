"""Asking memory: always as of an instant, and what is answered once is answered so for ever.

An instant can be asked about once everything received by it is in the file; before, the question is
refused. So is one whose answer would have needed what has been retired since. Between the two, an answer is a
function of the instant and the question alone. Newest first; ties by id.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.domain.errors import InputError
from finllm.domain.evidence import Evidence, Quarantine, QuarantineState
from finllm.domain.units import iso
from finllm.narrative.memory import schema
from finllm.narrative.memory.schema import ALWAYS
from finllm.narrative.memory.vectors import Vector, cosine, products, whole
from finllm.narrative.reading.encoder import Embedding
from finllm.narrative.repeats.copies import read_for_copies
from finllm.narrative.text.canonical import Changes

_EVER: Final = -1
"""Asked for since then, everything is asked for: receipt is never negative."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A document as memory keeps it."""

    document_id: str
    ts_recv: int
    ts_published: int
    source: str
    author: str
    lang: str
    copy_of: str
    """The first document that said this; empty if this one did."""
    cluster: int
    """Number, within its run, of the first text that it repeats or resembles."""
    changes: Changes
    """What canonical form took away."""
    n_chars: int
    """Length of its canonical text, as far as it was read."""
    text: str
    """The start of that, at most `memory.text_chars` characters."""


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """A claim as it stood at an instant."""

    claim: Evidence
    """With the credibility, and its reasons, that it had then."""
    state: QuarantineState | None = None
    """None = nothing had changed it."""
    reason: str = ""
    """Why it stood so."""
    since: int
    """From when on it stood so, ns."""
    is_visible: bool = True
    """Packs held it."""


class Alike(msgspec.Struct, frozen=True, kw_only=True):
    """A document that says something like what was asked for."""

    document: Remembered
    similarity: float
    """Cosine of the two embeddings, in whole numbers of 2^-30."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How common words were."""

    n_texts: int
    """First appearances."""
    holding: dict[str, int]
    """By what was asked for, how many of them held every word of it."""


class KnownEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """What turned texts into vectors."""

    name: str
    dim: int
    knows_until: str
    """Last month whose texts it may have been trained on; empty = it knows nothing."""


_DOCUMENTS: Final = (
    "SELECT document_id, ts_recv, ts_published, source, author, lang, copy_of, cluster, changes, n_chars,"
    " text FROM documents WHERE "
)
_Partition = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int16]]
MOST_HELD: Final = 256_000_000
"""Bytes of vectors that a reader holds; what is beyond is read again with each question."""
_CLAIMS: Final = "SELECT body FROM claims WHERE "


class Memory:
    """A memory file, for reading. It tells nothing but as of an instant. A context manager.

    Args:
        path: The file.

    Raises:
        InputError: Here and while asking, if there is none, it is damaged, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise InputError(
                "is not there",
                place=str(path),
                mend="Name a run that kept one: replay and run do, unless memory.keep is false.",
            )
        self._path = path
        with ExitStack() as undo, schema.damage_told(path):
            self._connection = undo.enter_context(schema.reading(path))
            schema.check(self._connection, path)
            self._held: dict[int, _Partition] = {}
            self._held_bytes = 0
            self._close = undo.pop_all().close

    def __enter__(self) -> Self:
        """Return the memory itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._close()

    @property
    def span(self) -> tuple[int, int]:
        """Return the instants that can be asked about, first and last, ns; (0, -1) = none yet."""
        with self._at_once() as (floor, settled):
            return floor + 1, settled

    @property
    def encoders(self) -> tuple[KnownEncoder, ...]:
        """Return the encoders whose vectors it holds, by name."""
        with self._at_once():
            found = self._connection.execute(
                "SELECT name, dim, knows_until FROM encoders ORDER BY name"
            ).fetchall()
        return tuple(KnownEncoder(name=n, dim=d, knows_until=k) for n, d, k in found)

    def as_of(self, ts: int) -> "AsOf":
        """Return what was known at an instant, everything received at it included.

        Raises:
            InputError: If that instant is not over in this memory, or is retired from it.
        """
        with self._at_once() as (floor, settled):
            self._check(ts, floor, settled)
        return AsOf(self, ts)

    # --- for views --------------------------------------------------------------------------------

    def _sealed(self, batch: int, dim: int) -> _Partition:
        """Return the numbers, times and vectors of a batch; they never change, so the first are held."""
        held = self._held.get(batch)
        if held is not None:
            return held
        seqs, stamps, vectors = self._connection.execute(
            "SELECT seqs, stamps, vectors FROM batches WHERE batch = ?", (batch,)
        ).fetchone()
        times = np.frombuffer(stamps, dtype="<i8")
        rows: Vector = np.frombuffer(vectors, dtype="<i2").reshape(len(times), dim)
        made = np.frombuffer(seqs, dtype="<i8"), times, rows
        if self._held_bytes + len(vectors) <= MOST_HELD:
            self._held[batch] = made
            self._held_bytes += len(vectors)
        return made

    @contextmanager
    def _at_once(self) -> Iterator[tuple[int, int]]:
        """Read one state of the file, whatever its writer does; yield its floor and how far it reaches."""
        with schema.damage_told(self._path):
            self._connection.execute("BEGIN")
            try:
                floor, settled = self._connection.execute(
                    "SELECT (SELECT coalesce(max(floor), -1) FROM retirements),"
                    " (SELECT coalesce(max(settled), -1) FROM batches)"
                ).fetchone()
                yield int(floor), int(settled)
            finally:
                self._connection.execute("ROLLBACK")

    def _check(self, ts: int, floor: int, settled: int) -> None:
        if ts > settled:
            raise InputError(
                "that instant is not over in this memory: more may still be received by it",
                place=f"as of {_told(ts)}",
                mend=f"Ask as of {_told(settled)} or earlier."
                if settled >= 0
                else "It holds nothing.",
            )
        if ts <= floor:
            raise InputError(
                "what was known then is retired from this memory",
                place=f"as of {_told(ts)}",
                mend=f"Ask as of a later instant than {_told(floor)}, or keep more: "
                "memory.retention_days, memory.max_mb.",
            )


class AsOf:
    """What was known at one instant.

    Args:
        memory: The file.
        ts: The instant, ns; use `Memory.as_of`, which sees that it can be asked about.
    """

    def __init__(self, memory: Memory, ts: int) -> None:
        self._memory, self.ts = memory, ts
        self._connection = memory._connection  # noqa: SLF001 - two halves of one thing

    # --- documents --------------------------------------------------------------------------------

    def document(self, document_id: str) -> Remembered:
        """Return a document, as last received by then: what comes again after days has its id.

        Raises:
            InputError: If none of this id was received by then, or it is retired.
        """
        with self._asking():
            row = self._connection.execute(
                _DOCUMENTS + "document_id = ? AND ts_recv <= ?"
                " ORDER BY ts_recv DESC, seq DESC LIMIT 1",
                (document_id, self.ts),
            ).fetchone()
        if row is None:
            raise self._not_held(f"document {document_id}")
        return _remembered(row)

    def documents(
        self,
        *,
        instrument: str = "",
        source: str = "",
        after: int = _EVER,
        until: int | None = None,
        limit: int = 100,
    ) -> tuple[Remembered, ...]:
        """Return the newest documents, newest first, ties by id.

        Args:
            instrument: Only those that made a claim about it.
            source: Only those of it.
            after: Only those received after this instant, ns.
            until: Only those received up to this instant.
            limit: At most so many.

        Raises:
            InputError: If one that the answer would hold may have been retired.
        """
        about = "EXISTS (SELECT 1 FROM claims WHERE claims.seq = documents.seq AND instrument = ?)"
        where, given = _only({about: instrument, "source = ?": source})
        with self._asking() as floor:
            rows = self._connection.execute(
                _DOCUMENTS + where + " ORDER BY ts_recv DESC, document_id, seq LIMIT ?",
                (max(after, floor), self._end(until), *given, _positive(limit)),
            ).fetchall()
            self._complete(after, floor, is_full=len(rows) == limit)
        return tuple(_remembered(row) for row in rows)

    def copies(self, document_id: str) -> tuple[Remembered, ...]:
        """Return the copies of a first appearance that had come by then, in order of receipt, ties by id.

        Raises:
            InputError: If no first appearance of this id was received by then, or it is retired.
        """
        with self._asking():
            first = self._connection.execute(
                "SELECT seq FROM documents WHERE document_id = ? AND copy_of = '' AND ts_recv <= ?"
                " ORDER BY seq DESC LIMIT 1",
                (document_id, self.ts),
            ).fetchone()
            if first is None:
                raise self._not_held(f"document {document_id}")
            rows = self._connection.execute(
                _DOCUMENTS + "copy_of = ? AND copy_of <> '' AND seq > ?"
                " AND ts_recv <= ? ORDER BY ts_recv, document_id, seq",
                (document_id, *first, self.ts),
            ).fetchall()
        return tuple(_remembered(row) for row in rows)

    # --- claims -----------------------------------------------------------------------------------

    def claims(
        self,
        *,
        instrument: str = "",
        after: int = _EVER,
        until: int | None = None,
        limit: int = 100,
    ) -> tuple[Recalled, ...]:
        """Return the newest claims as they stood, newest first, ties by id.

        Claims that were held back are among them, and say so.

        Args:
            instrument: Only those about it.
            after: Only those received after this instant, ns.
            until: Only those received up to this instant.
            limit: At most so many.

        Raises:
            InputError: If one that the answer would hold may have been retired.
        """
        where, given = _only({"instrument = ?": instrument})
        with self._asking() as floor:
            rows = self._connection.execute(
                _CLAIMS + where + " ORDER BY ts_recv DESC, evidence_id, claim LIMIT ?",
                (max(after, floor), self._end(until), *given, _positive(limit)),
            ).fetchall()
            self._complete(after, floor, is_full=len(rows) == limit)
            return tuple(self._as_it_stood(body) for (body,) in rows)

    def claims_of(self, document_id: str) -> tuple[Recalled, ...]:
        """Return what a document claims, as it stood, by instrument.

        Raises:
            InputError: As for `document`.
        """
        with self._asking():
            found = self._connection.execute(
                "SELECT seq FROM documents WHERE document_id = ? AND ts_recv <= ?"
                " ORDER BY ts_recv DESC, seq DESC LIMIT 1",
                (document_id, self.ts),
            ).fetchone()
            if found is None:
                raise self._not_held(f"document {document_id}")
            rows = self._connection.execute(
                "SELECT body FROM claims WHERE seq = ? ORDER BY instrument, claim", found
            ).fetchall()
            return tuple(self._as_it_stood(body) for (body,) in rows)

    def claim(self, evidence_id: str) -> Recalled:
        """Return a claim as it stood.

        Raises:
            InputError: If none of this id was made by then, or it is retired.
        """
        with self._asking():
            return self._as_it_stood(self._made(evidence_id))

    def standings(self, evidence_id: str) -> tuple[Quarantine, ...]:
        """Return what had changed a claim's standing and credibility by then, in order.

        Raises:
            InputError: As for `claim`.
        """
        with self._asking():
            claim = msgspec.msgpack.decode(self._made(evidence_id), type=Evidence)
            return tuple(self._changes(claim))

    def _made(self, evidence_id: str) -> bytes:
        """Return a claim as it was made; the last one where a document came again after days."""
        row = self._connection.execute(
            "SELECT body FROM claims WHERE evidence_id = ? AND ts_recv <= ? ORDER BY claim DESC LIMIT 1",
            (evidence_id, self.ts),
        ).fetchone()
        if row is None:
            raise self._not_held(f"claim {evidence_id}")
        body: bytes = row[0]
        return body

    def _changes(self, claim: Evidence) -> list[Quarantine]:
        rows = self._connection.execute(
            "SELECT body FROM standings WHERE evidence_id = ? AND ts >= ? AND ts <= ? ORDER BY change",
            (claim.evidence_id, claim.ts_recv, self.ts),
        )
        return [msgspec.msgpack.decode(body, type=Quarantine) for (body,) in rows]

    def _repeated(self, claim: Evidence) -> Evidence:
        """Return a claim with the number of copies of its document that had come by then."""
        (n,) = self._connection.execute(
            "SELECT count(*) FROM documents WHERE copy_of = ? AND copy_of <> ''"
            " AND ts_recv >= ? AND ts_recv <= ?",
            (claim.document_id, claim.ts_recv, self.ts),
        ).fetchone()
        return msgspec.structs.replace(claim, n_copies=n)

    def _as_it_stood(self, body: bytes) -> Recalled:
        claim = self._repeated(msgspec.msgpack.decode(body, type=Evidence))
        changes = self._changes(claim)
        if not changes:
            return Recalled(claim=claim, since=claim.ts_recv)
        last = changes[-1]
        return Recalled(
            claim=msgspec.structs.replace(
                claim, credibility=last.credibility, reasons=last.reasons
            ),
            state=last.state,
            reason=last.reason,
            since=last.ts,
            is_visible=last.state is QuarantineState.RELEASED
            or (last.state is QuarantineState.CONDEMNED and last.was_visible),
        )

    # --- meaning ----------------------------------------------------------------------------------

    def alike(
        self,
        embedding: Embedding,
        encoder: str,
        *,
        instrument: str = "",
        after: int = _EVER,
        until: int | None = None,
        limit: int = 10,
    ) -> tuple[Alike, ...]:
        """Return the first appearances most like a text, exactly: every one is compared. Ties by id.

        Args:
            embedding: The text's vector, float [dim], of unit length.
            encoder: What made it; only vectors of the same one are compared.
            instrument: Only documents that made a claim about it.
            after: Only those received after this instant, ns.
            until: Only those received up to this instant.
            limit: At most so many.

        Raises:
            InputError: If memory holds no vectors of this encoder, they are of another length, or one that
                the answer may have held has been retired.
        """
        query = whole(embedding, encoder)
        _positive(limit)
        with self._asking() as floor:
            self._complete(after, floor, is_full=False)
            self._check_encoder(encoder, len(query))
            among = self._about(instrument, after, until) if instrument else None
            best = _Best(limit)
            for seqs, rows in self._partitions(encoder, len(query), after, until):
                chosen = slice(None) if among is None else _is_among(seqs, among)
                if len(seqs[chosen]):
                    found = np.empty(len(seqs[chosen]), dtype=np.int32)
                    products(query, np.ascontiguousarray(rows[chosen]), found)
                    best.add(seqs[chosen], found)
            return tuple(self._ordered(best, limit))

    def _check_encoder(self, encoder: str, dim: int) -> None:
        rows = self._connection.execute("SELECT name, dim FROM encoders ORDER BY name").fetchall()
        if (encoder, dim) not in rows:
            held = ", ".join(f"{name} ({length})" for name, length in rows) or "none"
            raise InputError(
                f"memory holds no vectors of it with {dim} components, but of: {held}",
                place=f"encoder {encoder}",
                mend="Ask with the encoder that the run had.",
            )

    def _about(self, instrument: str, after: int, until: int | None) -> npt.NDArray[np.int64]:
        rows = self._connection.execute(
            "SELECT seq FROM claims WHERE instrument = ? AND ts_recv > ? AND ts_recv <= ?",
            (instrument, after, self._end(until)),
        ).fetchall()
        return np.array(sorted(seq for (seq,) in rows), dtype=np.int64)

    def _partitions(
        self, encoder: str, dim: int, after: int, until: int | None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int16]]]:
        """Yield document numbers [n] and vectors [n, dim] in time, a partition at a time."""
        end = self._end(until)
        found = self._connection.execute(
            "SELECT batch FROM batches"
            " WHERE ts_last > ? AND ts_first <= ? AND encoder = ? ORDER BY batch",
            (after, end, encoder),
        ).fetchall()
        for (batch,) in found:
            seqs, stamps, vectors = self._memory._sealed(batch, dim)  # noqa: SLF001
            low, high = np.searchsorted(stamps, (after, end), side="right")
            yield seqs[low:high], vectors[low:high]

    def _ordered(self, best: "_Best", limit: int) -> list[Alike]:
        query = _DOCUMENTS + "seq = ?"
        found = [
            Alike(
                document=_remembered(self._connection.execute(query, (seq,)).fetchone()),
                similarity=cosine(product),
            )
            for product, seq in best.found()
        ]
        return sorted(found, key=lambda one: (-one.similarity, one.document.document_id))[:limit]

    # --- names and words --------------------------------------------------------------------------

    def aliases(self, instrument: str, at: int | None = None) -> tuple[str, ...]:
        """Return the names that stood for an instrument at an instant, as known then, sorted.

        Args:
            instrument: Key.
            at: When they stood for it, ns; by default the instant asked as of.
        """
        at = self.ts if at is None else at
        with self._asking():
            rows = self._connection.execute(
                "SELECT name, valid_from, valid_until FROM aliases"
                " WHERE instrument = ? AND known_from <= ? ORDER BY known_from, alias",
                (instrument, self.ts),
            ).fetchall()
        last = {name: (start, end) for name, start, end in rows}
        return tuple(sorted(name for name, (start, end) in last.items() if start <= at < end))

    def instruments(self) -> tuple[str, ...]:
        """Return the instruments that had names by then, sorted."""
        with self._asking():
            rows = self._connection.execute(
                "SELECT DISTINCT instrument FROM aliases WHERE known_from <= ? ORDER BY instrument",
                (self.ts,),
            ).fetchall()
        return tuple(instrument for (instrument,) in rows)

    def frequencies(
        self, words: tuple[str, ...], *, after: int = _EVER, until: int | None = None
    ) -> Counted:
        """Return in how many first appearances each of some words, or all words of a phrase, stood.

        Of a long text a sample of `MOST_WORDS` words counts, as it does for copies.

        Raises:
            InputError: If a text that would count may have been retired, or no word is asked for.
        """
        codes = {word: np.unique(read_for_copies(word).codes) for word in words}
        if any(len(each) == 0 for each in codes.values()):
            raise InputError(
                "no word is left of one of them", place=f"words {words}", mend="Ask for words."
            )
        holding, n_texts = dict.fromkeys(words, 0), 0
        with self._asking() as floor:
            self._complete(after, floor, is_full=False)
            end = self._end(until)
            found = self._connection.execute(
                "SELECT stamps, ends, words FROM batches WHERE ts_last > ? AND ts_first <= ?",
                (after, end),
            )
            for stamps, ends, kept in found:
                times = np.frombuffer(stamps, dtype="<i8")
                low, high = np.searchsorted(times, (after, end), side="right")
                n_texts += int(high - low)
                stops, have = np.frombuffer(ends, dtype="<i4"), np.frombuffer(kept, dtype="<u4")
                for word, wanted in codes.items():
                    at = np.flatnonzero(np.isin(have, wanted))
                    texts = np.searchsorted(stops, at, side="right")
                    each = np.bincount(texts, minlength=len(times))[low:high]
                    holding[word] += int(np.count_nonzero(each == len(wanted)))
        return Counted(n_texts=n_texts, holding=holding)

    # --- the law ----------------------------------------------------------------------------------

    @contextmanager
    def _asking(self) -> Iterator[int]:
        """Ask of one state of the file; yield its floor."""
        memory = self._memory
        with memory._at_once() as (floor, settled):  # noqa: SLF001 - two halves of one thing
            memory._check(self.ts, floor, settled)  # noqa: SLF001
            yield floor

    def _end(self, until: int | None) -> int:
        return self.ts if until is None else min(until, self.ts)

    def _complete(self, after: int, floor: int, *, is_full: bool) -> None:
        """Refuse an answer that would have been longer before something was retired."""
        if floor > after and not is_full:
            raise InputError(
                "part of what the answer would hold is retired from this memory",
                place=f"as of {_told(self.ts)}",
                mend=f"Ask for what was received after {_told(floor)}, or keep more: "
                "memory.retention_days, memory.max_mb.",
            )

    def _not_held(self, what: str) -> InputError:
        return InputError(
            f"was not received by {_told(self.ts)}, or is retired from this memory",
            place=what,
            mend="Give its whole id, or ask as of a later instant.",
        )


class _Best:
    """The greatest products so far, with all that tie with the least of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seqs = np.empty(0, dtype=np.int64)
        self._products = np.empty(0, dtype=np.int32)

    def add(self, seqs: npt.NDArray[np.int64], found: npt.NDArray[np.int32]) -> None:
        """Take in more."""
        seqs, found = np.append(self._seqs, seqs), np.append(self._products, found)
        if len(found) > self._limit:
            least = np.partition(found, len(found) - self._limit)[len(found) - self._limit]
            seqs, found = seqs[found >= least], found[found >= least]
        self._seqs, self._products = seqs, found

    def found(self) -> list[tuple[int, int]]:
        """Return (product, document number)."""
        return list(zip(self._products.tolist(), self._seqs.tolist(), strict=True))


def _only(conditions: dict[str, str]) -> tuple[str, list[str]]:
    """Return the times and the conditions that are asked for, as SQL, and the conditions' values."""
    asked = {condition: value for condition, value in conditions.items() if value}
    return " AND ".join(("ts_recv > ? AND ts_recv <= ?", *asked)), list(asked.values())


def _is_among(seqs: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which of some numbers are among others; both are sorted."""
    at = np.searchsorted(among, seqs)
    is_in = at < len(among)
    is_in[is_in] = among[at[is_in]] == seqs[is_in]
    return is_in


def _positive(limit: int) -> int:
    if limit < 1:
        raise InputError(f"{limit} is below 1", place="limit", mend="Ask for 1 or more.")
    return limit


def _remembered(row: tuple[Any, ...]) -> Remembered:
    values = dict(zip(Remembered.__struct_fields__, row, strict=True))
    values["changes"] = msgspec.msgpack.decode(values["changes"], type=Changes)
    return Remembered(**values)


def _told(ts: int) -> str:
    return f"{iso(ts)} ({ts})" if 0 <= ts < ALWAYS else str(ts)
