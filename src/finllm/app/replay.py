"""Replay: the whole walk on recorded input, in virtual time, and a summary of what happened.

Inputs are merged by receive time. On a bare tape every row is served, and each answer of the reasoner
comes after a time drawn from the configured latency distribution, seeded by the question's id, so
that thinking is never free. A live run is replayed by its schedule instead.
"""

from collections.abc import Callable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import TypeVar

import msgspec

from finllm.app.gate_state import read_beginning
from finllm.app.pipeline import Pipeline
from finllm.app.polling import PollCounts
from finllm.app.recording import (
    SUMMARY,
    LedgerHead,
    Traces,
    discard,
    read_completions,
    read_ending,
    read_start,
    recorded,
)
from finllm.app.schedule import Schedule
from finllm.app.settings import Settings
from finllm.app.tiers import TierSettings
from finllm.app.wiring import Tallies, Wired, new_tallies, wire
from finllm.domain.completion import Completion
from finllm.domain.errors import InputError, TamperedError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.market import Bar, Frame
from finllm.domain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S, iso
from finllm.edge.inference import WorkerPool
from finllm.market.bars import read_bars
from finllm.market.capture import look, read_recordings
from finllm.market.connection import FeedCounts
from finllm.market.markets import venue_of
from finllm.market.tape import Places, Tape
from finllm.narrative.memory.writer import MemoryCounts
from finllm.narrative.sources.documents import read_documents
from finllm.reasoning.ensemble.track import Scored
from finllm.reasoning.llm.settings import LlmSettings
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.tally import Tally

CONTEXT = frozenset({"SPY"})
"""Symbols whose bars feed other symbols' features when they are not asked for themselves."""
_FOREVER = 2**62
T = TypeVar("T")
Chunk = list[Frame] | list[Bar]


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What to replay."""

    tapes: tuple[Path, ...] = ()
    """Tapes, and folders of runs whose recorded frames and documents are to be replayed."""
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
    answers: Path | None = None
    """Folder of a run whose language model's answers are used; a run that is replayed brings its own."""


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
    """Of those, best bid and ask price the same."""
    sizes_equal: int
    """Of those, both sizes the same as well."""
    undecidable: int
    """Comparisons given up: no message of the venue had a fitting number."""


class Revisions(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the verdicts."""

    applied: int
    superseded: int
    late: int
    refused: int


class Incidents(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong on the way and was borne; all zero on a good day."""

    lost_records: int
    """Inputs, choices and records that could not be kept, once recording had stopped."""
    deleted_segments: int
    """Old segments of the recording that its bound deleted."""
    uncompressed_segments: int
    """Closed segments that could not be compressed, and stay readable as they are."""
    refused_forecasts: int
    """Forecasts not emitted, because one of the same id was open already or had been."""
    outcomes_not_learnt: int
    """Outcomes that taught the edge nothing: void, of an abstaining forecast, or of a forgotten one."""
    cancelled_questions: int
    """Questions whose answer had not come when the input ended."""
    worker_restarts: int
    llm_restarts: int
    """Times that the language model's process died or fell silent and was started again."""
    feature_restarts: int
    """Times that a book's windows started afresh, at a gap or a leap of the clock."""
    clock_steps_back: int
    """Times that a book's clock went back."""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What only a live run has to tell."""

    feed: FeedCounts
    sources: dict[str, PollCounts] = {}
    """What happened to the text sources' requests, by name."""
    source_offsets_s: dict[str, float] = {}
    """By text source, the least recent delay from stamp to receipt, s."""
    handed_over: int
    """Rows given to the workers."""
    served: int
    conflated: int
    """Rows replaced by a newer one of their instrument before a worker came to them."""
    overrun: int
    """Rows served that the pipeline was too slow to take."""
    late_horizons: int
    """Horizons that were over when their row came back; no forecast was made of them."""
    worker_falls: int


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
    flagged: int
    """Notices that the market itself raised; all others are of texts."""
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
    incidents: Incidents
    explained: bool
    """Whether traces were to be written."""
    traces: Traces
    """What became of them."""
    untraced_digest: str
    """Over everything but the traces: the same whether any were to be written or not."""
    memory: MemoryCounts | None = None
    """What became of what memory was given; None = none was kept."""
    tiers: dict[str, dict[str, int]] = {}
    """By tier, how often it was escalated to, held, answered, fell_back, late or cancelled."""
    hedges: dict[str, int] = {}
    """Second requests to a language model that were sent, and those whose answer came first."""
    members: dict[str, dict[str, int]] = {}
    """Of an ensemble of language models: by member, how its questions ended."""
    notes: tuple[str, ...] = ()
    """What is to be known before any of this is trusted."""
    run: str
    live: Live | None = None
    """Of a live run only."""


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
        run: Folder for the run, empty or to be made; nothing is written before all inputs are open.
        watch: Told (time, record or row bytes) of everything emitted, in order.
        progress: Told how far it is.
        on_commit: Told (count, hash) after each group of records is synced.
        on_failure: Told once if recording has to stop.

    Raises:
        InputError: If there is nothing to replay, or an input cannot be read at all.
    """
    tallies = new_tallies()
    before = _before(inputs, settings)
    settings = before.settings
    source = _open(inputs, settings, tallies)
    wired = wire(
        settings,
        run,
        tallies,
        keep_frames=False,
        venues=source.venues,
        emit_from=inputs.since,
        context=_context(inputs),
        answers=before.answers,
        scored=before.scored,
        learnt=before.learnt,
        defer=isinstance(source, Schedule),
        serve_by=source.serve_by,
        place_of=source.places.of,
        on_commit=on_commit,
        on_failure=on_failure,
    )
    if watch is not None:
        wired.pipeline.emission.watchers.append(watch)
    started = stopwatch_ns()
    try:
        span = source.drive(wired.pipeline, progress)
        wired.parts.market.finish()
        wired.finish()
    finally:
        wired.close()
    if span[1] < inputs.since:
        discard(run)
        raise InputError(
            f"everything was received before it, the last at {iso(span[1])}",
            place="--from",
            mend="Give an earlier instant.",
        )
    summary = summarise(wired, tallies, run, span, stopwatch_ns() - started)
    notes = *summary.notes, *_unlike(inputs, summary.digest)
    return write_summary(run, msgspec.structs.replace(summary, notes=notes), on_failure)


def write_summary(
    run: Path, summary: Summary, on_failure: Callable[[str], None] | None = None
) -> Summary:
    """Write a run's summary beside its ledger; return it, saying so if it could not be written."""
    body = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    try:
        (run / SUMMARY).write_bytes(body + b"\n")
    except OSError as error:
        why = f"{run / SUMMARY}: {error.strerror or error}"
        if summary.recording != "ok":
            return summary
        if on_failure is not None:
            on_failure(why)
        return msgspec.structs.replace(summary, recording=why)
    return summary


def _unlike(inputs: Inputs, digest: str) -> tuple[str, ...]:
    """Return a note where a run's whole recording has not come to what the run itself came to."""
    if len(inputs.tapes) != 1 or inputs != Inputs(tapes=inputs.tapes):
        return ()
    (tape,) = inputs.tapes
    if not (tape / "ledger").is_dir():
        return ()
    try:
        ended = read_ending(tape)
    except TamperedError as why:
        return (f"what {tape} came to is not known: {why}",)
    if ended is None or ended.digest in {"", digest}:
        return ()
    return (f"{tape} came to another digest: give the settings that it ran with (--config)",)


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
    if inputs.symbols and inputs.bars is None:
        raise InputError(
            "only bars are chosen by symbol",
            place="--symbol",
            mend="Leave it out: a tape's instruments are all replayed.",
        )


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """The files behind what is to be replayed; a run's folder stands for what it recorded."""

    tapes: list[Tape]
    venues: list[str]
    documents: list[Path]


def _files(inputs: Inputs) -> _Found:
    tapes: list[Tape] = []
    venues: list[str] = []
    documents = [] if inputs.documents is None else [[inputs.documents]]
    for path in inputs.tapes:
        if not path.is_dir():
            tapes.append(path)
            venues.append(venue_of(look(path), inputs.venue))
            continue
        found = recorded(path)
        tapes += found.frames
        venues += found.venues or [venue_of(look(tape), inputs.venue) for tape in found.frames]
        documents += [found.documents] if found.documents else []
    if len(documents) > 1:
        raise InputError(
            "documents come from two places",
            place="replay",
            mend="Replay one run's folder without --documents, or name its frames one by one.",
        )
    return _Found(tapes=tapes, venues=venues, documents=documents[0] if documents else [])


def _context(inputs: Inputs) -> frozenset[str]:
    if not inputs.symbols:
        return frozenset()
    return frozenset(f"us-equity:{symbol}" for symbol in CONTEXT - inputs.symbols)


class _Before(msgspec.Struct, frozen=True, kw_only=True):
    """What a run to be replayed began with."""

    settings: Settings
    answers: dict[str, Completion] | None = None
    """Of whom it asked; None = those of the settings are asked."""
    scored: tuple[Scored, ...] = ()
    """The track record of its ensemble."""
    learnt: bytes | None = None
    """By its gates; None = as the settings say."""


def _before(inputs: Inputs, settings: Settings) -> _Before:
    """Return what the run to be replayed began with: the first that asked somebody, else the first.

    One that asked no language model and is replayed by its schedule asks none now.
    """
    folders = [path for path in inputs.tapes if path.is_dir()]
    first = None
    for folder in [inputs.answers, *folders] if inputs.answers else folders:
        start = read_start(folder)
        if start is None:
            continue
        learnt = read_beginning(folder, start.gates)
        first = first or _Before(settings=settings, learnt=learnt)
        if not (start.asked or start.served_by):
            continue
        reasoning = msgspec.structs.replace(
            settings.reasoning,
            llm=start.llm or LlmSettings(),
            member=start.members,
            ensemble=start.ensemble,
        )
        dearest = TierSettings(reasoner=reasoning.known[-1])
        asked = msgspec.structs.replace(
            settings, reasoning=reasoning, tier=start.tiers or (dearest,)
        )
        return _Before(
            settings=asked,
            answers=read_completions(folder),
            scored=start.scored,
            learnt=learnt,
        )
    return first or _Before(settings=settings)


def _open(inputs: Inputs, settings: Settings, tallies: Tallies) -> "_Merged | Schedule":
    for path in inputs.tapes:
        start = read_start(path) if path.is_dir() else None
        if start is None or not start.served_by:
            continue
        if inputs != Inputs(tapes=(path,)):
            raise InputError(
                "a live run is replayed by its own schedule, whole and alone",
                place=str(path),
                mend="Name nothing else; or replay the frames in its journal as tapes.",
            )
        return Schedule(path, start, tallies)
    return _Merged(inputs, settings, tallies)


class _Merged:
    """Inputs merged by receive time: the first of each has been read, and nothing is written yet.

    Raises:
        InputError: If an input cannot be read, or nothing of the market input is left to replay.
    """

    def __init__(self, inputs: Inputs, settings: Settings, tallies: Tallies) -> None:
        _check(inputs)
        found = _files(inputs)
        self.inputs = inputs
        self.venues = found.venues
        self.places = Places()
        delay_ns = int(settings.documents.delay_s * NS_PER_S)
        read = read_documents(found.documents, tally=tallies.documents, delay_ns=delay_ns)
        self.agenda = _Agenda(read if found.documents else iter(()), tallies.documents)
        chunks = self._market(found.tapes, settings, tallies)
        first = next(chunks, None)
        if first is None:
            raise _nothing_left(tallies.frames if inputs.bars is None else tallies.bars)
        self.chunks: Iterator[Chunk] = chain([first], chunks)

    serve_by = None
    """Every row is served in the pipeline, at once."""

    def drive(self, pipeline: Pipeline, progress: Progress | None) -> tuple[int, int]:
        """Drive a pipeline through it all; return the first and last receive times of the market."""
        taken, first, last = 0, 0, 0
        for chunk in self.chunks:
            first = first or chunk[0].ts_recv
            last = chunk[-1].ts_recv
            self.agenda.up_to(last, pipeline)
            if isinstance(chunk[0], Frame):
                pipeline.feed(chunk)
            else:
                pipeline.feed_bars(chunk)
            taken += len(chunk)
            if progress is not None:
                progress(taken, first, last)
        self.agenda.rest(self.inputs.until, pipeline)
        return first, last

    def _market(self, tapes: list[Tape], settings: Settings, tallies: Tallies) -> Iterator[Chunk]:
        """Return the market input in chunks in order of receipt."""
        if self.inputs.bars is not None:
            return _bar_chunks(self.inputs.bars, self.inputs, settings, tallies.bars)
        frames = read_recordings(tapes, tallies.frames, self.places)
        return _split(_until(frames, self.inputs, tallies.frames), settings.edge.chunk)


def _nothing_left(tally: Tally) -> InputError:
    dropped = "; ".join(
        f"{n:,} {why}, the first: {tally.first_place[why]}" for why, n in tally.dropped.items()
    )
    return InputError(
        f"nothing is left of {tally.read:,} read" + (f" ({dropped})" if dropped else ""),
        place="replay",
        mend="Mend the input, or change --symbol, --from or --until.",
    )


def _bar_chunks(
    path: Path, inputs: Inputs, settings: Settings, tally: Tally
) -> Iterator[list[Bar]]:
    """Yield bars in chunks in order of receipt; those received together stay together."""
    oldest = inputs.since - settings.replay.warm_up_days * NS_PER_DAY
    bars = read_bars(path, tally=tally, symbols=inputs.symbols or None, context=CONTEXT)
    kept = _bars_in_time(bars, inputs, tally, oldest)
    for _, together in groupby(kept, key=lambda bar: bar.ts_recv):
        yield from _split(together, settings.edge.chunk)


def _until(frames: Iterator[Frame], inputs: Inputs, tally: Tally) -> Iterator[Frame]:
    for frame in frames:
        if frame.ts_recv < inputs.until:
            yield frame
        else:
            tally.drop("after_until", f"received {iso(frame.ts_recv)}")


def _bars_in_time(bars: Iterator[Bar], inputs: Inputs, tally: Tally, oldest: int) -> Iterator[Bar]:
    """Yield the bars within the warm-up and the end; the reader has counted each as used already."""
    for bar in bars:
        if oldest <= bar.ts_recv < inputs.until:
            yield bar
            continue
        reason = "after_until" if bar.ts_recv >= inputs.until else "before_warm_up"
        tally.withdraw(reason, f"received {iso(bar.ts_recv)}")


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

    def __init__(self, read: Iterator[Document | Refusal], tally: Tally) -> None:
        self._read = read
        self._tally = tally
        self._high = 0
        self._next = self._take()

    def _take(self) -> Document | Refusal | None:
        """Return the next one. An undated refusal happens when its neighbour before it does."""
        found = next(self._read, None)
        if found is not None:
            self._high = max(self._high, found.ts_recv)
        return found

    def up_to(self, now: int, pipeline: Pipeline) -> None:
        """Hand over what is received by `now`."""
        while self._next is not None and self._high <= now:
            pipeline.expect(self._next, self._high)
            self._next = self._take()

    def rest(self, until: int, pipeline: Pipeline) -> None:
        """Hand over what came after the last market input, and let every answer come."""
        while self._next is not None:
            if self._high < until:
                pipeline.expect(self._next, self._high)
                pipeline.advance(self._high)
            else:
                self._tally.drop("after_until")
            self._next = self._take()
        pipeline.drain(until)


def summarise(
    wired: Wired,
    tallies: Tallies,
    run: Path,
    span: tuple[int, int],
    wall_ns: int,
    live: Live | None = None,
) -> Summary:
    """Return the summary of a finished run, once everything is closed."""
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
            noted=dict(sorted((documents.noted + wired.parts.narrative.tally.noted).items())),
            places=dict(sorted(documents.first_place.items())),
        ),
        gaps=counts["gaps"],
        book_checks=BookChecks(
            done=market.checks.done,
            equal=market.checks.equal,
            sizes_equal=market.checks.sizes_equal,
            undecidable=market.checks.undecidable,
        ),
        rows=pipeline.emission.n_rows,
        forecasts=counts["forecasts"],
        escalated=counts["escalated"],
        held=counts["held"],
        flagged=counts["flagged"],
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
        recording=wired.parts.recorder.failed or wired.parts.ledger.failed or "ok",
        incidents=_incidents(wired),
        explained=wired.parts.explainer is not None,
        traces=pipeline.traces,
        untraced_digest=pipeline.emission.untraced_digest,
        memory=None if wired.parts.memory is None else wired.parts.memory.counts,
        tiers={name: dict(sorted(n.items())) for name, n in pipeline.tiers.items()},
        hedges=wired.hedges,
        members=wired.members,
        notes=wired.notes,
        run=str(run),
        live=live,
    )


def _incidents(wired: Wired) -> Incidents:
    parts, pipeline = wired.parts, wired.pipeline
    pools = (parts.book.inference, parts.bar.inference)
    return Incidents(
        lost_records=parts.recorder.lost + parts.ledger.lost,
        deleted_segments=parts.recorder.deleted_segments,
        uncompressed_segments=parts.recorder.compress_failures,
        refused_forecasts=parts.ledger.tally.dropped["already_open"],
        outcomes_not_learnt=sum(lane.session.n_unmatched for lane in pipeline.lanes),
        cancelled_questions=pipeline.counts["cancelled"],
        worker_restarts=sum(pool.n_restarts for pool in pools if isinstance(pool, WorkerPool)),
        llm_restarts=sum(local.n_restarts for local in wired.locals),
        feature_restarts=pipeline.feature_restarts,
        clock_steps_back=pipeline.clock_steps_back,
    )


def _intake(tally: Tally) -> Intake:
    return Intake(
        read=tally.read,
        used=tally.used,
        dropped=dict(sorted(tally.dropped.items())),
        noted=dict(sorted(tally.noted.items())),
        places=dict(sorted(tally.first_place.items())),
    )
