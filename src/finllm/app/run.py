"""The live run: frames from sockets, forecast rows by way of the workers, documents as they are written.

One loop takes whatever has come, in chunks, and gives the pipeline each thing as it happens: the journal
that the pipeline writes is the schedule by which the run can be replayed to the same digest.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from finllm.app.feed import Resync, open_feed, streams_of
from finllm.app.replay import Live, Summary, summarise, write_summary
from finllm.app.settings import Settings
from finllm.app.sources import Sources, check_sources, clamped
from finllm.app.status import Status, Stop, Told
from finllm.app.subscribe import Publisher, socket_path
from finllm.app.wiring import new_tallies, wire
from finllm.domain.evidence import Document, Refusal
from finllm.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from finllm.edge.artifact import SHIPPED
from finllm.edge.bank import read_bank
from finllm.edge.drift import Fit
from finllm.edge.isolated import IsolatedEdge
from finllm.market.streams import Stream
from finllm.narrative.sources.documents import document_of
from finllm.runtime.clock import Clock, WallClock, stopwatch_ns
from finllm.runtime.tally import Tally

_NAP_MS: Final = 10
_COMMIT_NS: Final = 250 * NS_PER_MS
_KEEP_NS: Final = NS_PER_MIN
"""How often what the gates have learnt is kept."""
_LAST_ROWS_NS: Final = NS_PER_S // 2
"""How long the last rows are waited for at the end."""


MOST_AT_END: Final = 10_000
"""Documents that have come and are still used when the run ends."""
MAX_LINE: Final = 1 << 24
"""Bytes of a line that has not ended; a longer one is given up."""


class Follower:
    """A file of JSON lines that others append to: each new whole line is a document.

    A file that another has taken the place of, or that became shorter, is read from its start; both are
    noted.

    Args:
        path: The file; it may be missing at first, and None never has anything. What it holds already
            is left out.
        tally: Counts what is read and refused.
    """

    def __init__(self, path: Path | None, tally: Tally) -> None:
        self._path, self._tally = path, tally
        self._file: BinaryIO | None = None
        self._rest = b""
        self._number = 0
        self._skip = path.stat().st_size if path is not None and path.exists() else 0

    def read(self, now: int) -> Iterator[Document | Refusal]:
        """Yield what has been appended since the last look, as received now."""
        for line in self._lines():
            self._number += 1
            if line.strip():
                place = f"{self._path}: new line {self._number}"
                yield document_of(line, place=place, ts_recv=now, tally=self._tally)

    def _lines(self) -> Iterator[bytes]:
        """Yield the whole lines that are new: what is left of the old file, then the one in its place."""
        found = self._look()
        if self._file is not None:
            mine = os.fstat(self._file.fileno())
            if mine.st_size < self._file.tell():
                self._restart("truncated")
                self._file.seek(0)
            yield from self._new(self._file)
            if found is None or (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                return
            self._restart("replaced")
            self.close()
        if found is not None and self._path is not None:
            self._file = self._path.open("rb")
            self._file.seek(self._skip)
            self._skip = 0
            yield from self._new(self._file)

    def _look(self) -> os.stat_result | None:
        try:
            return None if self._path is None else self._path.stat()
        except FileNotFoundError:
            return None

    def _new(self, file: BinaryIO) -> list[bytes]:
        *lines, self._rest = (self._rest + file.read()).split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._tally.read += 1
            self._tally.drop(
                "endless_line", f"{self._path}: new line {self._number + len(lines) + 1}"
            )
            self._rest = b""
        return lines

    def _restart(self, why: str) -> None:
        self._tally.note(f"documents_file_{why}", str(self._path))
        if self._rest.strip():
            self._tally.read += 1
            self._tally.drop("cut_line", f"{self._path}: new line {self._number + 1}")
        self._rest = b""

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class _Desk:
    """One live run's parts, and its loop.

    Args:
        settings: All settings.
        streams: What is connected to.
        run: The run's folder.
        edge: The workers, started.
        publisher: Tells other processes of them.
        options: What the caller asked for.
        undo: Closes what is opened here.
    """

    def __init__(
        self,
        settings: Settings,
        streams: list[Stream],
        run: Path,
        edge: IsolatedEdge,
        publisher: Publisher,
        *,
        options: "Options",
        undo: ExitStack,
    ) -> None:
        self.edge, self._clock, self._publisher = edge, options.clock, publisher
        self.tallies = new_tallies()
        self.wired = wire(
            settings,
            run,
            self.tallies,
            keep_frames=True,
            venues=[stream.venue for stream in streams],
            serve_by=lambda _: edge,
            defer=True,
            on_failure=options.on_failure,
        )
        undo.callback(self.wired.close)
        self._reader = edge.reader()
        self.feed = undo.enter_context(open_feed(settings, streams, self._clock, self._reader.wake))
        self._follower = Follower(options.documents, self.tallies.documents)
        undo.callback(self._follower.close)
        self._sources = undo.enter_context(
            Sources(
                settings.source,
                tally=self.tallies.documents,
                clock=self._clock,
                journal=self.wired.parts.recorder.message,
            )
        )
        self._resync = Resync(self.wired.parts.market, self.feed)
        self._chunk = self.wired.parts.chunk
        self._named = 0
        self._next_commit = 0
        self._next_keep = options.clock.now() + _KEEP_NS
        self._unusable = 0
        self._last_told = 0
        self.first = 0
        self.last = 0

    def turn(self, now: int) -> None:
        """Take what has come once, waiting a little if nothing has."""
        pipeline = self.wired.pipeline
        chunk = self.feed.take(self._chunk)
        if chunk:
            self.tallies.frames.read += len(chunk)
            self.first = self.first or chunk[0].ts_recv
            self.last = chunk[-1].ts_recv
            pipeline.feed(chunk)
            self._name()
        self._tell(self._sources.read())
        self._tell(self._follower.read(now))
        self._take(0 if chunk else _NAP_MS)
        pipeline.tick(now)
        self._unusable = self._resync.look(now)
        if now >= self._next_commit:
            pipeline.commit()
            self._next_commit = now + _COMMIT_NS
        if now >= self._next_keep:
            self.wired.keeper.keep()
            self._next_keep = now + _KEEP_NS

    def _tell(self, found: Iterator[Document | Refusal]) -> None:
        """Hand documents on in order of receipt, whichever source was slow to be read."""
        for made in found:
            told = clamped(made, self._last_told, self.tallies.documents)
            self._last_told = told.ts_recv
            self.wired.pipeline.tell(told)

    def _take(self, timeout_ms: int) -> None:
        served = self._reader.read(timeout_ms)
        while served is not None:
            self.wired.pipeline.take(served)
            served = self._reader.read()

    def _name(self) -> None:
        instruments = self.wired.parts.market.instruments
        while self._named < len(instruments):
            self._publisher.name(instruments[self._named].key)
            self._named += 1

    def end(self) -> None:
        """Hang up, use what has come, wait for its rows, and finish."""
        self.feed.close()
        self._sources.close()
        while chunk := self.feed.take(self._chunk):
            self.tallies.frames.read += len(chunk)
            self.last = chunk[-1].ts_recv
            self.wired.pipeline.feed(chunk)
        self._tell(self._sources.read(MOST_AT_END))
        until = self._clock.now() + _LAST_ROWS_NS
        while self.edge.waiting and self._clock.now() < until:
            self._take(_NAP_MS)
        self._take(0)
        self.wired.parts.market.finish()
        self.wired.finish()

    def status(self, now: int) -> Status:
        """Return how it stands."""
        pipeline = self.wired.pipeline
        return Status(
            ts=now,
            frames=self.tallies.frames.read,
            waiting=self.feed.waiting,
            rows=pipeline.emission.n_rows,
            forecasts=pipeline.counts["forecasts"],
            escalated=pipeline.counts["escalated"],
            applied=pipeline.counts["applied"],
            drifted=pipeline.fits[Fit.DRIFTED],
            worse=pipeline.fits[Fit.WORSE],
            gaps=pipeline.counts["gaps"],
            unusable=self._unusable,
            downs=self.feed.counts.downs,
            failed_connects=self.feed.counts.failed_connects,
            last_failure=self.feed.last_failure or self._sources.last_failure,
            notes=self.wired.notes,
        )

    @property
    def live(self) -> Live:
        """Return what only a live run has to tell."""
        return Live(
            feed=self.feed.counts,
            sources=self._sources.counts,
            source_offsets_s=self._sources.offsets_s,
            handed_over=self.edge.written,
            served=self.edge.published,
            conflated=self.edge.conflated,
            overrun=self._reader.overruns,
            late_horizons=sum(lane.n_late for lane in self.wired.pipeline.lanes),
            worker_falls=len(self.edge.crew.falls),
        )


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to run live."""

    stop: Stop
    """Asked after every turn."""
    documents: Path | None = None
    """A file that documents are appended to, as JSON lines; read as it grows."""
    name: str = "edge"
    """Under which other processes find the rows with `finllm.subscribe`."""
    clock: Clock = WallClock()
    """The workers always use the machine's own."""
    told: Told = lambda _: None
    """Told how the run stands, after every turn."""
    on_failure: Callable[[str], None] | None = None
    """Told once if recording has to stop."""
    on_edge: Callable[[IsolatedEdge], None] = lambda _: None
    """Told the edge once it has started."""


def _publish(edge: IsolatedEdge, folder: Path, name: str) -> Publisher:
    """Let other processes find the rows under a name."""
    bank = read_bank(folder)
    return Publisher(
        edge,
        socket_path(name),
        horizons=tuple(horizon.name for horizon in bank.horizons),
        model_version=bank.version,
        spec_hash=bank.manifests[0].spec_hash,
    )


def run_live(settings: Settings, run: Path, options: Options) -> Summary:
    """Run live until told to stop, and keep the run.

    Args:
        settings: All settings; `feed.connections` says where frames come from.
        run: Folder for the run, empty or to be made.
        options: How.

    Raises:
        SettingsError: If no feed is named.
        InputError: If another process publishes under the name.
    """
    streams = streams_of(settings)
    check_sources(settings.source)
    started = stopwatch_ns()
    with ExitStack() as undo:
        artifact = settings.edge.book_artifact
        folder = Path(artifact) if artifact else SHIPPED["book"]
        edge = IsolatedEdge(folder, max(1, settings.edge.workers), provider=settings.edge.provider)
        undo.callback(edge.close)
        # Before anything is written or started: another run may have the name.
        publisher = _publish(edge, folder, options.name)
        undo.callback(publisher.close)
        edge.start()
        options.on_edge(edge)
        # Rows of books go to the edge's workers; a pool beside them would have nothing to do.
        alone = msgspec.structs.replace(settings.edge, workers=0)
        inner = msgspec.structs.replace(settings, edge=alone)
        desk = _Desk(inner, streams, run, edge, publisher, options=options, undo=undo)
        while not options.stop():
            now = options.clock.now()
            desk.turn(now)
            options.told(desk.status(now))
        desk.end()
        live = desk.live
    took = stopwatch_ns() - started
    summary = summarise(desk.wired, desk.tallies, run, (desk.first, desk.last), took, live)
    return write_summary(run, summary, options.on_failure)
