"""Linking a recording: its documents through the room, its market to anomalies, and both joined.

Works from recorded input alone and tells how things went, with hindsight; it feeds no forecast.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from finllm.app.reader import load_encoder, open_room
from finllm.app.recording import Input, check_run_folder, recorded
from finllm.app.settings import Settings
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, Evidence
from finllm.domain.market import ROW_HEAD, Bar, Flag
from finllm.domain.units import NS_PER_S
from finllm.features.book import BookFeatures, BookRows
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.bars import read_bars
from finllm.market.capture import look, read_recordings
from finllm.market.markets import open_market, venue_of
from finllm.market.tape import Tape
from finllm.narrative.alignment.anomalies import N_CHANNELS, Anomaly, AnomalyDetector, Values
from finllm.narrative.alignment.explanations import Answer, Explainer, Explanation, Move, moves_of
from finllm.narrative.alignment.space import load_space
from finllm.narrative.reading.encoder import Encoder, HashingEncoder
from finllm.narrative.sources.documents import read_documents
from finllm.runtime.journal import read_journal
from finllm.runtime.tally import Tally

BOOK_BEAT_NS: Final = NS_PER_S
"""Beat of a book."""
_LEAST_RANGE_BPS: Final = 0.1
_AT: Final = BOOK_SPEC.columns


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be linked."""

    run: Path | None = None
    tapes: tuple[Path, ...] = ()
    bars: Path | None = None
    documents: Path | None = None
    symbols: frozenset[str] = frozenset()
    """Only these symbols' bars; empty = all."""
    since: int = 0
    """Nothing before this instant is told of, ns; earlier beats say what is usual."""
    until: int = 2**62
    """Nothing received at or after it is used, ns."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A document as far as it is shown."""

    document_id: str
    ts_recv: int
    source: str
    text: str


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """What an instrument's market did."""

    detector: AnomalyDetector
    ends: list[int]
    """When each beat was known, ns UTC."""
    prices: list[float]
    """Close of each beat: quote currency for bars, half ticks for books."""
    moves: tuple[Move, ...]


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """A recording, linked."""

    explainer: dict[str, Explainer]
    markets: dict[str, Priced]
    """By instrument."""
    claims: dict[str, list[Evidence]]
    """By instrument, in order of receipt."""
    documents: dict[str, Told]
    copy_of: dict[str, str]
    """The first document that said the same, by document."""
    dropped: dict[str, int]
    """Inputs that could not be used, by reason."""
    space: str
    encoder: str

    def answer(self, move: Move) -> Answer:
        """Return what may be behind a move."""
        claims = self.claims.get(move.instrument, [])
        return self.explainer[move.instrument].look_back(move, claims)

    def moves(self) -> list[Move]:
        """Return every move, in order of time."""
        found = [move for market in self.markets.values() for move in market.moves]
        return sorted(found, key=lambda move: (move.ts_start, move.move_id))


def link(sources: Sources, settings: Settings, encoder: Encoder | None = None) -> Linked:
    """Read a recording and link it.

    Args:
        sources: The market and the documents.
        settings: The room's settings.
        encoder: What reads the texts; the one that the room's settings name when None, and the hashing
            one where its weights are not installed.

    Raises:
        InputError: If there is no market or no documents, or one cannot be read.
        ArtifactError: If no space was learnt for the encoder.
    """
    encoder = encoder or load_encoder(settings.narrative.encoder) or HashingEncoder()
    space = load_space(encoder.name)
    tally = Tally()
    markets = _markets(sources, tally)
    if not markets:
        raise InputError(
            "no beat of any instrument is left",
            place="link",
            mend="Mend the market's input, or change --symbol, --from or --until.",
        )
    claims, documents, copy_of = _claims(sources, settings, sorted(markets), tally)
    return Linked(
        explainer={key: Explainer(space, encoder, one.detector) for key, one in markets.items()},
        markets=markets,
        claims=claims,
        documents=documents,
        copy_of=copy_of,
        dropped=dict(tally.dropped),
        space=space.name,
        encoder=encoder.name,
    )


# --- the market ------------------------------------------------------------------------------------


class _Watched:
    """One instrument while its beats come in."""

    def __init__(self, instrument: str) -> None:
        self.detector = AnomalyDetector(instrument)
        self.ends: list[int] = []
        self.prices: list[float] = []
        self.found: list[Anomaly] = []

    def push(self, ts_start: int, ts_recv: int, price: float, values: Values) -> None:
        """Take one beat; `values` lacks the return, which the price tells."""
        if self.prices and self.prices[-1] > 0.0:
            values[0] = (price / self.prices[-1] - 1.0) * 1e4
        self.found += self.detector.push(ts_start, ts_recv, values)
        self.ends.append(ts_recv)
        self.prices.append(price)

    def priced(self, since: int) -> Priced:
        """Return what was seen, with the moves from an instant on."""
        moves = tuple(move for move in moves_of(self.found) if move.ts_recv >= since)
        return Priced(detector=self.detector, ends=self.ends, prices=self.prices, moves=moves)


def _markets(sources: Sources, tally: Tally) -> dict[str, Priced]:
    watched: dict[str, _Watched] = {}
    bars = _bars(sources, tally)
    if bars is not None:
        last: dict[str, int] = {}
        for bar in bars:
            if bar.ts_recv >= sources.until or bar.ts_start <= last.get(bar.instrument, -1):
                tally.withdraw("after_until" if bar.ts_recv >= sources.until else "not_later")
                continue
            last[bar.instrument] = bar.ts_start
            one = watched.setdefault(bar.instrument, _Watched(bar.instrument))
            one.push(bar.ts_start, bar.ts_recv, bar.close, _of_bar(bar))
    else:
        _walk_books(sources, tally, watched)
    return {key: one.priced(sources.since) for key, one in sorted(watched.items())}


def _bars(sources: Sources, tally: Tally) -> Iterator[Bar] | None:
    """Return the bars that are named or that a run recorded; None if it is books."""
    if sources.bars is not None:
        return read_bars(sources.bars, tally=tally, symbols=sources.symbols or None)
    if sources.run is None or sources.tapes:
        return None
    folder = check_run_folder(sources.run) / "journal"
    bars = [
        bar
        for _, kind, body in read_journal(folder, "run")
        if kind == Input.BAR
        for bar in [msgspec.msgpack.decode(body, type=Bar)]
        if not sources.symbols or bar.instrument.rpartition(":")[2].upper() in sources.symbols
    ]
    return iter(bars) if bars else None


def _of_bar(bar: Bar) -> Values:
    """Return a bar's channels, without its return."""
    values = np.full(N_CHANNELS, np.nan)
    high, low = max(bar.high, bar.open, bar.close), min(bar.low, bar.open, bar.close)
    values[1] = math.log(max((high - low) / bar.close * 1e4, _LEAST_RANGE_BPS))
    if bar.volume > 0.0:
        values[5] = math.log1p(bar.volume)
    return values


def _walk_books(sources: Sources, tally: Tally, watched: dict[str, _Watched]) -> None:
    """Walk recorded frames; a book's beat is its last good row of each second."""
    tapes: list[Tape] = list(sources.tapes)
    venues = [venue_of(look(tape), "") for tape in tapes]
    if not tapes and sources.run is not None:
        found = recorded(sources.run)
        tapes += found.frames
        venues += found.venues or [venue_of(look(tape), "") for tape in found.frames]
    if not tapes:
        raise InputError(
            "there is no market to link to",
            place="link",
            mend="Name a run with --run, bars with --bars, or a tape with --tape.",
        )
    market = open_market(venues, tally)
    rows = BookRows()
    row, head = np.zeros(len(BOOK_SPEC)), np.zeros(1, dtype=ROW_HEAD)
    beats: list[_Second] = []
    features: list[BookFeatures] = []
    for frame in read_recordings(tapes, tally):
        if frame.ts_recv >= sources.until:
            break
        index = market.push(frame)
        while index >= 0:
            while index >= len(beats):
                key = market.instruments[len(beats)].key
                features.append(rows.features(key))
                beats.append(_Second(watched.setdefault(key, _Watched(key))))
            features[index].push(market.view(index), row, head)
            beats[index].take(row, head)
            index = market.more()


class _Second:
    """The second of a book that is not over yet."""

    def __init__(self, watched: _Watched) -> None:
        self._watched = watched
        self._start = -1
        self._price = 0.0
        self._values: Values = np.full(N_CHANNELS, np.nan)

    def take(self, row: Values, head: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        """Take a row; if it opens another second, the one before is a beat."""
        if int(head["flags"][0]) != Flag.VALID or int(head["mid2"][0]) <= 0:
            return
        start = int(head["ts_recv"][0]) // BOOK_BEAT_NS * BOOK_BEAT_NS
        if start > self._start >= 0:
            end = self._start + BOOK_BEAT_NS
            self._watched.push(self._start, end, self._price, self._values.copy())
        if start >= self._start:
            self._start, self._price = start, float(head["mid2"][0])
            self._values[1] = row[_AT["rv_1s"]] + math.log(max(row[_AT["sigma"]], 1e-9))
            self._values[2] = row[_AT["log_spread"]]
            self._values[3] = row[_AT["depletion_10s"]]
            self._values[4] = row[_AT["mlofi_2s"]]
            self._values[5] = row[_AT["trade_rate_2s"]]


# --- the documents ---------------------------------------------------------------------------------


def _claims(
    sources: Sources, settings: Settings, instruments: list[str], tally: Tally
) -> tuple[dict[str, list[Evidence]], dict[str, Told], dict[str, str]]:
    # A pack of one instant: everything that the room made of the documents received at it.
    narrative = msgspec.structs.replace(settings.narrative, look_back_ns=1, pack_size=64)
    room = open_room(narrative)
    for instrument in instruments:
        room.watch(instrument)
    claims: dict[str, list[Evidence]] = {}
    told: dict[str, Told] = {}
    copy_of: dict[str, str] = {}
    for document in _documents(sources, settings, tally):
        if document.ts_recv >= sources.until:
            break
        admission = room.admit(document, document.ts_recv)
        if admission.refusal is not None:
            tally.drop(admission.refusal.reason)
            continue
        told[document.document_id] = Told(
            document_id=document.document_id,
            ts_recv=document.ts_recv,
            source=document.source,
            text=document.text[:400],
        )
        if admission.copy_of:
            copy_of[document.document_id] = admission.copy_of
        for notice in admission.notices:
            pack = room.gather(notice.instrument, document.ts_recv)
            claims.setdefault(notice.instrument, []).extend(
                one for one in pack.evidence if one.evidence_id == notice.evidence_id
            )
    return claims, told, copy_of


def _documents(sources: Sources, settings: Settings, tally: Tally) -> Iterator[Document]:
    path = sources.documents
    if path is not None:
        delay_ns = int(settings.documents.delay_s * NS_PER_S)
        for document in read_documents(path, tally=tally, delay_ns=delay_ns):
            if isinstance(document, Document):
                yield document
        return
    if sources.run is None:
        raise InputError(
            "there are no documents to link",
            place="link",
            mend="Name a run with --run, or a file with --documents.",
        )
    for _, kind, body in read_journal(check_run_folder(sources.run) / "journal", "run"):
        if kind == Input.DOCUMENT:
            yield msgspec.msgpack.decode(body, type=Document)


# --- asking ----------------------------------------------------------------------------------------


def find_document(linked: Linked, prefix: str) -> Told:
    """Return the document whose id starts with a prefix.

    Raises:
        InputError: If none does, or several do.
    """
    found = [one for key, one in linked.documents.items() if key.startswith(prefix)]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} documents start with it",
            place=f"document {prefix!r}",
            mend="Give the whole id: 'finllm link' without a document lists those that explain a move.",
        )
    return found[0]


def find_move(linked: Linked, which: str, ts: int | None) -> Move:
    """Return the move of an id (of it or of one of its anomalies), or the one nearest to an instant.

    Raises:
        InputError: If there is none.
    """
    moves = linked.moves()
    if ts is not None and moves:
        return min(moves, key=lambda move: (abs(move.ts_start - ts), move.move_id))
    found = [
        move for move in moves if any(one.anomaly_id.startswith(which) for one in move.anomalies)
    ]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} moves fit it, of {len(moves)} found",
            place=f"--move {which!r}",
            mend="Give an instant such as 2015-08-24T14:00, or an id that 'finllm link' lists.",
        )
    return found[0]


def explained_by(linked: Linked, document: Told) -> list[tuple[Answer, Explanation]]:
    """Return the moves that a document may be behind, most probable first.

    Its chance with each is what is left to it by everything else that could be behind that move. A
    copy stands for the first document that said so.
    """
    said_by = linked.copy_of.get(document.document_id, document.document_id)
    found = []
    for instrument, claims in linked.claims.items():
        mine = [one for one in claims if one.document_id == said_by]
        market = linked.markets[instrument]
        for claim in mine:
            at = bisect_left(market.ends, claim.ts_recv)
            around = market.ends[max(0, at - 16) : at + 48]
            for move in market.moves:
                if around and around[0] <= move.ts_recv <= around[-1]:
                    answer = linked.answer(move)
                    found += [(answer, e) for e in answer.explanations if e.document_id == said_by]
    return sorted(found, key=lambda one: (-one[1].p, one[1].move_id))
