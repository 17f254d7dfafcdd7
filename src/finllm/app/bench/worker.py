"""The isolated edge under measurement: its feed here, its worker and its reader in processes of their own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import msgspec
import numpy as np

from finllm.app.bench.measure import CLOCK, Nanoseconds, arrivals
from finllm.app.bench.outlook import stand_outlook
from finllm.app.fastpath import FastPath
from finllm.app.subscribe import Publisher
from finllm.domain.errors import WorkerError
from finllm.domain.market import Frame
from finllm.edge.artifact import Artifact
from finllm.edge.bank import alone
from finllm.edge.isolated import IsolatedEdge
from finllm.market.feed import Market
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.tally import Tally

AHEAD_NS: Final = 500_000_000
"""How long after its warm-up a line's first frame is due."""
SETTLE_NS: Final = 500_000_000
"""How long a consumer has for its last rows."""
WAIT_NS: Final = 30_000_000_000

CONSUMER: Final = """
import sys, time
from pathlib import Path
import numpy as np
import finllm
with finllm.subscribe(path=Path(sys.argv[1])) as feed:
    print("ready", flush=True)
    kept, batch, is_closed = [], None, False
    while batch is not None or not is_closed:
        is_closed = feed.is_closed
        batch = feed.read(0.2)
        if batch is not None:
            kept.append((time.perf_counter_ns(), batch.rows["ts_recv"].copy()))
start = int(Path(sys.argv[2]).with_name("start").read_text())
took = [now - ts for now, rows in kept for ts in rows.tolist() if ts >= start]
np.save(sys.argv[2], np.array(took, dtype=np.int64))
"""


class FlatOut(msgspec.Struct, frozen=True, kw_only=True):
    """The feed side of an isolated edge, as fast as it can."""

    frames_per_s: float
    rows: int
    served: int
    conflated_share: float


def _drain(edge: IsolatedEdge) -> None:
    """Wait until no row is waiting.

    Raises:
        WorkerError: If that takes more than `WAIT_NS`.
    """
    until = stopwatch_ns() + WAIT_NS
    while edge.waiting:
        if stopwatch_ns() > until:
            raise WorkerError(
                f"rows have been waiting for {WAIT_NS / 1e9:g} s: no worker serves them"
            )
        CLOCK.sleep(1_000_000)


class Workers:
    """An isolated edge of one worker, as a context."""

    def __init__(self, folder: Path, artifact: Artifact) -> None:
        self._folder, self._artifact = folder, artifact

    def __enter__(self) -> Self:
        self._edge = IsolatedEdge(self._folder, 1)
        self._edge.start()
        self._edge.crew.wait_for_spare()
        return self

    def __exit__(self, *_: object) -> None:
        self._edge.close()

    def line(self, frames: Sequence[Frame], first: int) -> "WorkerLine":
        """Return a line to a new consumer, warmed by the frames before `first`."""
        return WorkerLine(self._edge, self._artifact, frames, first)

    def flat_out(self, frames: Sequence[Frame]) -> FlatOut:
        """Return how fast the feed goes when it waits for nobody, and what became of its rows."""
        path = FastPath(alone(self._artifact), Market(Tally()), edge=self._edge)
        before = (self._edge.written, self._edge.published)
        started = stopwatch_ns()
        for frame in frames:
            path.hand_over(frame)
        passed = stopwatch_ns() - started
        _drain(self._edge)
        rows, served = self._edge.written - before[0], self._edge.published - before[1]
        return FlatOut(
            frames_per_s=round(len(frames) / passed * 1e9),
            rows=rows,
            served=served,
            conflated_share=round(1.0 - served / max(rows, 1), 4),
        )


class WorkerLine:
    """Feed, worker, and a consumer in another process; see `measure.Line`."""

    def __init__(
        self, edge: IsolatedEdge, artifact: Artifact, frames: Sequence[Frame], first: int
    ) -> None:
        self._edge = edge
        self._temporary = TemporaryDirectory(prefix="finllm-bench-")
        self._at = Path(self._temporary.name)
        self._publisher = Publisher(
            edge,
            self._at / "edge.sock",
            horizons=tuple(h.name for h in artifact.horizons),
            model_version=artifact.version,
            spec_hash=artifact.spec.hash,
        )
        self._consumer = subprocess.Popen(  # noqa: S603 - our own interpreter and text
            [
                sys.executable,
                "-c",
                CONSUMER,
                str(self._at / "edge.sock"),
                str(self._at / "took.npy"),
            ],
            stdout=subprocess.PIPE,
        )
        if self._consumer.stdout is not None:
            self._consumer.stdout.readline()
        self._path = FastPath(alone(artifact), Market(Tally()), edge=edge)
        self._warm(frames, first)

    def _warm(self, frames: Sequence[Frame], first: int) -> None:
        # Receive times are on the clock that the consumer reads; the warm-up lies before them.
        start = stopwatch_ns() + AHEAD_NS
        behind = frames[first].ts_recv - start
        named = 0
        for frame in frames[:first]:
            self._path.hand_over(msgspec.structs.replace(frame, ts_recv=frame.ts_recv - behind))
            if len(self._path.tracks) > named:  # a consumer asks for a name that it does not know
                self._publisher.name(self._path.market.instruments[named].key)
                named += 1
        _drain(self._edge)
        stand_outlook(self._path)
        (self._at / "start").write_text(str(start))
        CLOCK.sleep(max(0, start - stopwatch_ns()))

    def run(self, frames: Sequence[Frame], span: range, pace: float) -> None:
        """Hand frames over at their intended arrivals. See `measure.Line`."""
        push = self._path.hand_over
        for i, due in arrivals(frames, span, pace, stopwatch_ns() + 1_000_000):
            push(Frame(ts_recv=due, payload=frames[i].payload, source=frames[i].source))
        _drain(self._edge)
        CLOCK.sleep(20_000_000)  # the consumer's

    def finish(self) -> Nanoseconds:
        """Close; return from intended arrival to readable by the consumer, int64 [n], ns."""
        CLOCK.sleep(SETTLE_NS)
        self._publisher.close()
        self._consumer.wait(30)
        if self._consumer.stdout is not None:
            self._consumer.stdout.close()
        took = np.asarray(np.load(self._at / "took.npy"))
        self._temporary.cleanup()
        return took
