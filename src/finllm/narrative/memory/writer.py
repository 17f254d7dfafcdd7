"""The writer of memory: what the room admits, in transactions, each a sealed partition of time.

The room goes on whatever happens to the file: where it cannot be written, memory stops, says so, and counts
what it no longer keeps.
"""

import os
import sqlite3
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Final, Self

import msgspec
import numpy as np
from msgspec import Meta

from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, Evidence, Quarantine
from finllm.domain.identity import canonical
from finllm.domain.units import NS_PER_DAY, NS_PER_S
from finllm.narrative.memory import schema
from finllm.narrative.memory.schema import ALWAYS
from finllm.narrative.memory.vectors import Vector, whole
from finllm.narrative.reading.encoder import Encoder
from finllm.narrative.repeats.meanings import Meaning
from finllm.narrative.repeats.words import Codes
from finllm.narrative.text.canonical import Changes
from finllm.runtime import database

_RETIRED_SHARE: Final = 0.25
"""Of the documents, what is retired when the file is too large: in bulk, so that it is seldom."""


class MemorySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of the documents, and for how long."""

    keep: bool = True
    """Write `memory.sqlite` into a run's folder."""
    batch: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """Documents in a transaction; a killed run loses those of the open one."""
    hold_s: Annotated[float, Meta(ge=0.0, le=3_600.0)] = 5.0
    """How long a live run may leave a transaction open."""
    text_chars: Annotated[int, Meta(ge=0, le=1_000_000)] = 4_000
    """Characters of a canonical text that are kept."""
    retention_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """Documents older than this, against the newest, are retired; 0 = none for their age."""
    max_mb: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 2_000
    """Megabytes of the file beyond which its oldest quarter is retired; 0 = the disk's own."""


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A document that the room has admitted, with all that it made of it."""

    document: Document
    text: str
    """Canonical, as far as it was read."""
    changes: Changes
    copy_of: str
    """The first document that said this; empty if this one did."""
    cluster: int
    """Number of the first text that it repeats or resembles."""
    claims: tuple[Evidence, ...]
    standings: tuple[Quarantine, ...]
    """What it changes in the standing of claims, its own and earlier ones."""
    words: Codes
    """Its distinct words, uint32, at most `MOST_WORDS`."""
    meaning: Meaning | None
    """Its embedding, if the room has an encoder."""


class MemoryCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of what memory was given."""

    documents: int = 0
    claims: int = 0
    standings: int = 0
    retired_documents: int = 0
    retired_claims: int = 0
    lost: int = 0
    """Documents not kept, once the file could not be written."""
    failed: str = ""
    """Why it could not."""


class MemoryWriter:
    """The one writer of a memory. Make one with `create`, go on with `open`.

    Args:
        path: The file.
        settings: What is kept, and for how long.
        encoder: What embeds a text where the room has not; embeddings bear its name.
    """

    def __init__(self, path: Path, settings: MemorySettings, encoder: Encoder) -> None:
        self._path, self._settings, self._encoder = path, settings, encoder
        self._hold_ns = int(settings.hold_s * NS_PER_S)
        self._counts = {name: 0 for name in MemoryCounts.__struct_fields__ if name != "failed"}
        self._failed = ""
        self._waiting: list[Admitted] = []
        self._vectors: list[Vector] = []
        """Of the first appearances that wait."""
        self._names: list[tuple[str, str, int, int, int]] = []
        with ExitStack() as undo, schema.damage_told(path):
            undo.callback(os.close, _lock(path))
            # A by-product need only survive a killed process: the journal is what is synced.
            self._connection = database.connect_for_writing(path, synchronous="NORMAL")
            undo.callback(self._connection.close)
            if database.is_blank(self._connection):
                database.make(self._connection, schema.LAYOUT)
            schema.check(self._connection, path)
            self._go_on()
            self._close = undo.pop_all().close

    @classmethod
    def create(cls, path: Path, settings: MemorySettings, encoder: Encoder) -> Self:
        """Begin a memory.

        Raises:
            InputError: If there is a file already, or none can be made.
        """
        if path.exists():
            raise InputError(
                "is there already", place=str(path), mend="Use a new folder, or go on with it."
            )
        return cls(path, settings, encoder)

    @classmethod
    def open(cls, path: Path, settings: MemorySettings, encoder: Encoder) -> Self:
        """Go on with a memory, after a crash too.

        Raises:
            InputError: If there is none, it is damaged or another's, or another process writes it.
        """
        if not path.exists():
            raise InputError("is not there", place=str(path), mend="Begin one, or name another.")
        return cls(path, settings, encoder)

    def _go_on(self) -> None:
        row = self._connection.execute(
            "SELECT coalesce(max(settled), -1), coalesce(max(batch), 0), coalesce(max(ts_last), -1)"
            " FROM batches"
        ).fetchone()
        self._settled, self._batch, self._latest = (int(n) for n in row)
        (self._seq,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM documents"
        ).fetchone()
        (self._floor,) = self._connection.execute(
            "SELECT coalesce(max(floor), -1) FROM retirements"
        ).fetchone()
        e = self._encoder
        known = self._connection.execute(
            "SELECT dim, knows_until FROM encoders WHERE name = ?", (e.name,)
        ).fetchone()
        if known is None:
            self._connection.execute(
                "INSERT INTO encoders VALUES (?, ?, ?)", (e.name, e.dim, e.knows_until)
            )
        elif known != (e.dim, e.knows_until):
            raise InputError(
                f"holds vectors of another encoder that is called {e.name} as well",
                place=str(self._path),
                mend="Begin a new memory.",
            )

    @property
    def counts(self) -> MemoryCounts:
        """Return what became of what was given so far."""
        return MemoryCounts(**self._counts, failed=self._failed)

    @property
    def settled(self) -> int:
        """Return the instant up to which everything received is in the file, ns; -1 = none."""
        return self._settled

    def keep(self, admitted: Admitted) -> None:
        """Keep a document; it comes in order of receipt.

        Raises:
            InputError: If it was received at an instant whose questions have been answerable already.
        """
        ts = admitted.document.ts_recv
        if ts <= self._settled or ts < self._latest:
            raise InputError(
                f"document {admitted.document.document_id} was received before what memory holds",
                place=str(self._path),
                mend="Hand documents over in order of receipt.",
            )
        if self._waiting and ts >= self._waiting[0].document.ts_recv + self._hold_ns:
            self._commit(ts - 1)
        if self._failed:
            self._counts["lost"] += 1
            return
        if not admitted.copy_of:
            meaning = admitted.meaning
            vector = self._encoder.embed(admitted.text) if meaning is None else meaning.vector()
            self._vectors.append(whole(vector, self._encoder.name))
        self._waiting.append(admitted)
        self._latest = ts
        if len(self._waiting) >= self._settings.batch:
            self._commit(ts - 1)

    def alias(
        self,
        instrument: str,
        names: tuple[str, ...],
        *,
        known_from: int,
        valid_from: int = 0,
        valid_until: int = ALWAYS,
    ) -> None:
        """Keep that names stand for an instrument over some time; what is known last of a name holds.

        Args:
            instrument: Key.
            names: As texts write them.
            known_from: When this became known, ns.
            valid_from: First instant at which the names stand for it, ns.
            valid_until: First instant at which they no longer do, ns.

        Raises:
            InputError: If it was known at an instant whose questions have been answerable already.
        """
        if known_from <= self._settled:
            raise InputError(
                f"names of {instrument} were known before what memory holds",
                place=str(self._path),
                mend="Say from which later instant on they are known.",
            )
        self._names += ((instrument, name, valid_from, valid_until, known_from) for name in names)

    def rest(self, now: int) -> None:
        """Close the open transaction if it has been open for long."""
        if self._waiting and now >= self._waiting[0].document.ts_recv + self._hold_ns:
            self._commit(self._latest - 1)

    def settle(self, now: int) -> None:
        """Close the open transaction: everything received up to and including now has been given."""
        self._latest = max(self._latest, now)
        self._commit(now)

    def close(self) -> None:
        """Close the open transaction and the file."""
        self._commit(self._latest - 1)
        self._close()

    # --- writing ---------------------------------------------------------------------------------

    def _commit(self, settled: int) -> None:
        settled = max(settled, self._settled)
        if self._failed or not (self._waiting or self._names or settled > self._settled):
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(settled)
            self._connection.execute("COMMIT")
            self._settled = settled
            self._count()
        except (sqlite3.Error, OSError) as why:
            self._counts["lost"] += len(self._waiting)
            self._fail(str(why))
        self._waiting.clear()
        self._vectors.clear()
        self._names.clear()
        try:
            if not self._failed:
                self._retire()
        except (sqlite3.Error, OSError) as why:
            self._fail(str(why))

    def _count(self) -> None:
        self._counts["documents"] += len(self._waiting)
        self._counts["claims"] += sum(len(one.claims) for one in self._waiting)
        self._counts["standings"] += sum(len(one.standings) for one in self._waiting)

    def _fail(self, why: str) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._failed = self._failed or f"{self._path}: {why}"

    def _write(self, settled: int) -> None:
        run = self._connection.executemany
        waiting, first = self._waiting, self._seq + 1
        seqs = range(first, first + len(waiting))
        run(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self._document(seq, one) for seq, one in zip(seqs, waiting, strict=True)),
        )
        run(
            "INSERT INTO claims (seq, evidence_id, instrument, ts_recv, body) VALUES (?, ?, ?, ?, ?)",
            (
                (seq, claim.evidence_id, claim.instrument, claim.ts_recv, canonical(claim))
                for seq, one in zip(seqs, waiting, strict=True)
                for claim in one.claims
            ),
        )
        run(
            "INSERT INTO standings (evidence_id, ts, body) VALUES (?, ?, ?)",
            ((c.evidence_id, c.ts, canonical(c)) for one in waiting for c in one.standings),
        )
        run(
            "INSERT INTO aliases (instrument, name, valid_from, valid_until, known_from)"
            " VALUES (?, ?, ?, ?, ?)",
            self._names,
        )
        self._seq += len(waiting)
        self._batch += 1
        self._connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self._batch, settled, *self._span(settled), len(waiting), *self._blocks(first)),
        )

    def _document(self, seq: int, one: Admitted) -> tuple[object, ...]:
        d = one.document
        return (
            seq,
            d.document_id,
            d.ts_recv,
            d.ts_published,
            d.source,
            d.author,
            d.lang,
            one.copy_of,
            one.cluster,
            canonical(one.changes),
            len(one.text),
            one.text[: self._settings.text_chars],
        )

    def _span(self, settled: int) -> tuple[int, int]:
        if not self._waiting:
            return settled, settled
        return self._waiting[0].document.ts_recv, self._waiting[-1].document.ts_recv

    def _blocks(self, first: int) -> tuple[object, ...]:
        """Return what a batch holds of its first appearances, each as one run of bytes."""
        fresh = [(first + i, one) for i, one in enumerate(self._waiting) if not one.copy_of]
        words = [one.words for _, one in fresh]
        return (
            self._encoder.name,
            np.array([seq for seq, _ in fresh], dtype="<i8").tobytes(),
            np.array([one.document.ts_recv for _, one in fresh], dtype="<i8").tobytes(),
            np.cumsum([len(each) for each in words], dtype="<i4").tobytes(),
            b"".join(each.astype("<u4").tobytes() for each in words),
            b"".join(vector.astype("<i2").tobytes() for vector in self._vectors),
        )

    # --- retiring --------------------------------------------------------------------------------

    def _retire(self) -> None:
        """Retire in bulk what is too old, then what is too much; whole batches, the newest never."""
        s = self._settings
        age_ns = s.retention_days * NS_PER_DAY
        if age_ns and self._oldest() < self._latest - age_ns - age_ns // 8:
            old = [ts for ts, _ in self._closed() if ts < self._latest - age_ns]
            self._retire_to(max(old, default=-1), "age")
        if s.max_mb and self._bytes() > s.max_mb * 1_000_000:
            closed = self._closed()
            share = _RETIRED_SHARE * sum(n for _, n in closed)
            before = accumulate(n for _, n in closed)
            much = (ts for (ts, _), n in zip(closed, before, strict=True) if n >= share)
            self._retire_to(next(much, -1), "size")

    def _closed(self) -> list[tuple[int, int]]:
        """Return (last receipt, documents) of the batches that may be retired, oldest first."""
        query = "SELECT ts_last, n_documents FROM batches WHERE batch < ? AND ts_last <= ? ORDER BY batch"
        return self._connection.execute(query, (self._batch, self._settled)).fetchall()

    def _oldest(self) -> int:
        query = "SELECT coalesce(min(ts_recv), ?) FROM documents"
        return int(self._connection.execute(query, (self._latest,)).fetchone()[0])

    def _bytes(self) -> int:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def _retire_to(self, floor: int, why: str) -> None:
        if floor <= self._floor:
            return
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        n_documents = run("DELETE FROM documents WHERE ts_recv <= ?", (floor,)).rowcount
        n_claims = run("DELETE FROM claims WHERE ts_recv <= ?", (floor,)).rowcount
        run("DELETE FROM standings WHERE ts <= ?", (floor,))
        run("DELETE FROM batches WHERE ts_last <= ? AND batch < ?", (floor, self._batch))
        run(
            "INSERT INTO retirements (floor, why, n_documents, n_claims) VALUES (?, ?, ?, ?)",
            (floor, why, n_documents, n_claims),
        )
        run("COMMIT")
        self._floor = floor
        self._counts["retired_documents"] += n_documents
        self._counts["retired_claims"] += n_claims


def _lock(path: Path) -> int:
    """Return a descriptor that holds the writer's lock."""
    try:
        return database.lock(path.with_name(path.name + ".lock"))
    except BlockingIOError as why:
        raise InputError(
            "another process writes it", place=str(path), mend="Wait until its run has ended."
        ) from why
    except OSError as why:
        raise InputError(
            f"cannot be written ({why.strerror})", place=str(path), mend="Name another folder."
        ) from why
