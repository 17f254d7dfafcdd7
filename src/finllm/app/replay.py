"""Replay: the whole walk on recorded input, in virtual time, and a summary of what happened.

Inputs are merged by receive time. On a bare tape every row is served, and each answer of the reasoner
comes after a time drawn from the configured latency distribution, seeded by the question's id, so
that thinking is never free.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec

from finllm.app.pipeline import Pipeline
from finllm.app.recording import Recorder
from finllm.app.settings import Settings
from finllm.app.wiring import Tallies, Wired, new_tallies, wire
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.market import Bar, Frame
from finllm.domain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S
from finllm.market.bars import read_bars
from finllm.market.capture import look, read_recordings
from finllm.market.markets import venue_of
from finllm.narrative.documents import read_documents
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.tally import Tally

CONTEXT = frozenset({"SPY"})
"""Symbols whose bars feed other symbols' features when they are not asked for themselves."""
_FOREVER = 2**62
T = TypeVar("T")


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What to replay."""

    tapes: tuple[Path, ...] = ()
    bars: Path | None = None
    documents: Path | None = None
    venue: str = ""
    """Whose messages the tapes hold, where they do not tell."""
    symbols: frozenset[str] = frozenset()
    """Only these symbols' bars; empty = all."""
    since: int = 0
    """Emit nothing for inputs received before this instant, ns; they warm the state up."""
    until: int = _FOREVER
    """Use nothing received at or after this instant, ns."""


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one kind of input."""

    read: int
    used: int
    dropped: dict[str, int]
    noted: dict[str, int]
    places: dict[str, str]
    """Where each reason was first met."""


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the documents."""

    read: int
    admitted: int
    refused: dict[str, int]
    noted: dict[str, int]
    places: dict[str, str]


class BookChecks(msgspec.Struct, frozen=True, kw_only=True):
    """Comparisons of the rebuilt book with the venue's own touch."""

    done: int
    equal: int


class LedgerHead(msgspec.Struct, frozen=True, kw_only=True):
    """How many records the ledger acknowledged, and the hash of the last."""

    count: int
    hash: str


class Revisions(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the verdicts."""

    applied: int
    superseded: int
    late: int
    refused: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run read, dropped, served and said. The digest covers everything emitted."""

    digest: str
    frames: Intake
    bars: Intake
    documents: Documents
    gaps: int
    book_checks: BookChecks
    rows: int
    forecasts: int
    escalated: int
    held: int
    outlooks: int
    revisions: Revisions
    clock_offset_ms: dict[str, float]
    """Our clock less the venue's, median with feed latency in it, by source; below 0 ours is behind."""
    span_s: float
    wall_s: float
    speed_x: float
    ledger: LedgerHead
    recording: str
    """`ok`, or why recording stopped."""
    run: str


Progress = Callable[[int, int, int], None]
"""Told (market inputs taken, first receive time, latest receive time)."""


def replay(
    inputs: Inputs,
    settings: Settings,
    run: Path,
    *,
    watch: Callable[[int, object], None] | None = None,
    progress: Progress | None = None,
    on_commit: Callable[[int, str], None] | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> Summary:
    """Run the whole pipeline on recorded input and write the run's folder.

    Args:
        inputs: Tapes or bars, and documents.
        settings: All settings.
        run: An empty folder for the run.
        watch: Told (time, record or row bytes) of everything emitted, in order.
        progress: Told how far it is.
        on_commit: Told (count, hash) after each group of records is synced.
        on_failure: Told once if recording has to stop.

    Raises:
        InputError: If there is nothing to replay, or an input cannot be read at all.
    """
    _check(inputs)
    tallies = new_tallies()
    wired = wire(
        settings,
        run,
        tallies,
        keep_frames=False,
        venues=[venue_of(look(tape), inputs.venue) for tape in inputs.tapes],
        emit_from=inputs.since,
        context=_context(inputs),
        on_commit=on_commit,
        on_failure=on_failure,
    )
    if watch is not None:
        wired.pipeline.emission.watchers.append(watch)
    started = stopwatch_ns()
    try:
        span = _drive(wired, inputs, settings, tallies, progress)
        wired.pipeline.finish()
        summary = summarise(wired, tallies, run, span, stopwatch_ns() - started)
    finally:
        wired.close()
    write_summary(run, summary)
    return summary


def write_summary(run: Path, summary: Summary) -> None:
    """Write a run's summary beside its ledger."""
    body = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    (run / "run.json").write_bytes(body + b"\n")


def _check(inputs: Inputs) -> None:
    if not inputs.tapes and inputs.bars is None:
        raise InputError(
            "there is nothing to replay", place="replay", mend="Name a tape, or give --bars FILE."
        )
    if inputs.tapes and inputs.bars is not None:
        raise InputError(
            "tapes and bars are two market inputs",
            place="replay",
            mend="Replay them in two runs.",
        )


def _context(inputs: Inputs) -> frozenset[str]:
    if not inputs.symbols:
        return frozenset()
    return frozenset(f"us-equity:{symbol}" for symbol in CONTEXT - inputs.symbols)


def _drive(
    wired: Wired, inputs: Inputs, settings: Settings, tallies: Tallies, progress: Progress | None
) -> tuple[int, int]:
    documents = _Agenda(wired.pipeline, inputs, settings, tallies.documents)
    pipeline, taken, first, last = wired.pipeline, 0, 0, 0
    for chunk in _chunks(inputs, tallies, settings):
        first = first or chunk[0].ts_recv
        last = chunk[-1].ts_recv
        documents.up_to(last)
        if isinstance(chunk[0], Frame):
            pipeline.feed(chunk)
        else:
            pipeline.feed_bars(chunk)
        taken += len(chunk)
        if progress is not None:
            progress(taken, first, last)
    documents.rest(min(inputs.until, _FOREVER))
    wired.parts.market.finish()
    return first, last


def _chunks(
    inputs: Inputs, tallies: Tallies, settings: Settings
) -> Iterator[list[Frame] | list[Bar]]:
    """Yield market input in chunks in order of receipt. Bars received together stay together."""
    size = settings.edge.chunk
    if inputs.bars is not None:
        oldest = inputs.since - settings.replay.warm_up_days * NS_PER_DAY
        symbols = inputs.symbols | CONTEXT if inputs.symbols else None
        bars = read_bars(inputs.bars, tally=tallies.bars, symbols=symbols)
        kept = _bars_in_time(bars, inputs, tallies.bars, oldest)
        for _, together in groupby(kept, key=lambda bar: bar.ts_recv):
            yield from _split(together, size)
        return
    frames = read_recordings(inputs.tapes, tallies.frames)
    kept_frames = (f for f in frames if _in_time(f.ts_recv, inputs, tallies.frames))
    yield from _split(kept_frames, size)


def _in_time(ts_recv: int, inputs: Inputs, tally: Tally) -> bool:
    if ts_recv < inputs.until:
        return True
    tally.drop("after_until")
    return False


def _bars_in_time(bars: Iterator[Bar], inputs: Inputs, tally: Tally, oldest: int) -> Iterator[Bar]:
    """Yield the bars within the warm-up and the end; the reader has counted each as used already."""
    for bar in bars:
        if oldest <= bar.ts_recv < inputs.until:
            yield bar
            continue
        tally.used -= 1
        tally.drop("after_until" if bar.ts_recv >= inputs.until else "before_warm_up")


def _split(items: Iterator[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for one in items:
        chunk.append(one)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class _Agenda:
    """Hands documents to the pipeline just ahead of the market input that they belong before."""

    def __init__(
        self, pipeline: Pipeline, inputs: Inputs, settings: Settings, tally: Tally
    ) -> None:
        self._pipeline = pipeline
        self._tally = tally
        delay_ns = int(settings.documents.delay_s * NS_PER_S)
        self._read: Iterator[Document | Refusal] = (
            read_documents(inputs.documents, tally=tally, delay_ns=delay_ns)
            if inputs.documents is not None
            else iter(())
        )
        self._high = 0
        self._next = self._take()

    def _take(self) -> Document | Refusal | None:
        """Return the next one. An undated refusal happens when its neighbour before it does."""
        found = next(self._read, None)
        if found is not None:
            self._high = max(self._high, found.ts_recv)
        return found

    def up_to(self, now: int) -> None:
        """Hand over what is received by `now`."""
        while self._next is not None and self._high <= now:
            self._pipeline.expect(self._next, self._high)
            self._next = self._take()

    def rest(self, until: int) -> None:
        """Count the documents that came after the last market input; nothing is left to forecast."""
        while self._next is not None:
            if isinstance(self._next, Document):
                self._tally.drop("after_until" if self._next.ts_recv >= until else "after_market")
            self._next = self._take()


def summarise(
    wired: Wired, tallies: Tallies, run: Path, span: tuple[int, int], wall_ns: int
) -> Summary:
    """Return the summary of a finished run."""
    pipeline, counts = wired.pipeline, wired.pipeline.counts
    market, documents = wired.parts.market, tallies.documents
    head = wired.parts.ledger.head
    span_s, wall_s = (span[1] - span[0]) / NS_PER_S, wall_ns / NS_PER_S
    return Summary(
        digest=pipeline.emission.digest,
        frames=_intake(tallies.frames),
        bars=_intake(tallies.bars),
        documents=Documents(
            read=documents.read,
            admitted=documents.used,
            refused=dict(sorted(documents.dropped.items())),
            noted=dict(sorted(documents.noted.items())),
            places=dict(sorted(documents.first_place.items())),
        ),
        gaps=counts["gaps"],
        book_checks=BookChecks(done=market.checks.done, equal=market.checks.equal),
        rows=pipeline.emission.n_rows,
        forecasts=counts["forecasts"],
        escalated=counts["escalated"],
        held=counts["held"],
        outlooks=counts["outlooks"],
        revisions=Revisions(
            applied=counts["applied"],
            superseded=counts["superseded"],
            late=counts["late"],
            refused=counts["refused"],
        ),
        clock_offset_ms={
            str(i): offset.median_ns / NS_PER_MS for i, offset in market.offsets.items()
        },
        span_s=span_s,
        wall_s=wall_s,
        speed_x=span_s / wall_s if wall_s > 0 else 0.0,
        ledger=LedgerHead(count=head.count, hash=head.hash),
        recording=_recording(wired.parts.recorder, wired.parts.ledger.failed),
        run=str(run),
    )


def _recording(recorder: Recorder, ledger_failed: str | None) -> str:
    return recorder.failed or ledger_failed or "ok"


def _intake(tally: Tally) -> Intake:
    return Intake(
        read=tally.read,
        used=tally.used,
        dropped=dict(sorted(tally.dropped.items())),
        noted=dict(sorted(tally.noted.items())),
        places=dict(sorted(tally.first_place.items())),
    )
