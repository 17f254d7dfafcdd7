"""Recording: frames from sockets into a run's folder, as tapes, and nothing else.

Books are kept as well, because only they know when a snapshot is missing and has to be asked for.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from finllm.app.feed import Feed, Resync, open_feed, streams_of
from finllm.app.recording import Recorder, Start
from finllm.app.settings import Settings
from finllm.app.status import Status, Stop, Told
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS
from finllm.market.connection import FeedCounts
from finllm.market.markets import open_market
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.tally import Tally

_NAP_NS = 10 * NS_PER_MS


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording took in."""

    frames: int
    used: int
    dropped: dict[str, int]
    instruments: list[str]
    gaps: int
    feed: FeedCounts
    lost_records: int
    recording: str
    """`ok`, or why recording stopped."""
    run: str


class _Tape:
    """Takes frames in: journal first, then their books."""

    def __init__(self, recorder: Recorder, venues: list[str]) -> None:
        self.tally = Tally()
        self.books = open_market(venues, self.tally)
        self.n_gaps = 0
        self._recorder = recorder
        recorder.start(Start(venues=tuple(venues), served_by=""))

    def take(self, chunk: list[Frame]) -> None:
        """Keep frames, and rebuild their books."""
        self._recorder.frames(chunk)
        for frame in chunk:
            self.tally.read += 1
            index = self.books.push(frame)
            while index >= 0:
                index = self.books.more()
        self.n_gaps += len(self.books.gaps)
        self.books.gaps.clear()


def record_live(
    settings: Settings,
    run: Path,
    *,
    stop: Stop,
    clock: Clock | None = None,
    told: Told = lambda _: None,
    on_failure: Callable[[str], None] | None = None,
) -> Recorded:
    """Keep frames until told to stop.

    Args:
        settings: All settings; `feed.connections` says where frames come from.
        run: Folder for the run, empty or to be made.
        stop: Asked after every turn.
        clock: The machine's own when None.
        told: Told how the recording stands, after every turn.
        on_failure: Told once if recording has to stop.

    Raises:
        SettingsError: If no feed is named.
    """
    streams = streams_of(settings)
    clock = clock or WallClock()
    recorder = Recorder(run, keep_frames=True, on_failure=on_failure)
    try:
        tape = _Tape(recorder, [stream.venue for stream in streams])
        with open_feed(settings, streams, clock) as feed:
            resync = Resync(tape.books, feed)
            while not stop():
                chunk = feed.take(settings.edge.chunk)
                if chunk:
                    tape.take(chunk)
                else:
                    clock.sleep(_NAP_NS)
                now = clock.now()
                told(_status(now, tape, feed, resync.look(now)))
        while chunk := feed.take(settings.edge.chunk):
            tape.take(chunk)
    finally:
        recorder.close()
    tape.books.finish()
    tally = tape.tally
    return Recorded(
        frames=tally.read,
        used=tally.used,
        dropped=dict(sorted(tally.dropped.items())),
        instruments=[instrument.key for instrument in tape.books.instruments],
        gaps=tape.n_gaps,
        feed=feed.counts,
        lost_records=recorder.lost,
        recording=recorder.failed or "ok",
        run=str(run),
    )


def _status(now: int, tape: _Tape, feed: Feed, unusable: int) -> Status:
    return Status(
        ts=now,
        frames=tape.tally.read,
        waiting=feed.waiting,
        gaps=tape.n_gaps,
        unusable=unusable,
        downs=feed.counts.downs,
        failed_connects=feed.counts.failed_connects,
        last_failure=feed.last_failure,
    )
