"""What the narrative room costs the edge: edge runs with a room at full load beside them, and without.

The room reads headlines as fast as it can in a process of its own, niced and of the idle class where there is
one, which is stopped for every other run. Runs come in pairs, first with and first without in turn, so that
what else the machine does hits both.
"""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, Self

import msgspec
import numpy as np

from finllm.app.bench.edge import Plan, frames_of, paced
from finllm.app.bench.measure import CLOCK, Say, Spread
from finllm.app.bench.room import FedRoom
from finllm.app.bench.texts import Sent
from finllm.app.fastpath import quiet_collector
from finllm.domain.errors import WorkerError
from finllm.edge.artifact import load_artifact
from finllm.features.book_spec import BOOK_SPEC
from finllm.narrative.room import NarrativeSettings
from finllm.runtime.clock import stopwatch_ns

NICENESS: Final = 19
WAIT_S: Final = 300.0
SETTLE_NS: Final = 100_000_000
WARM: Final = 50
"""Documents that it has read when it counts as up."""
READY: Final = b"ready"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The room that stands beside the edge."""

    settings: NarrativeSettings
    instruments: tuple[str, ...]
    lines: tuple[Sent, ...]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """An edge run without the room, and one beside it."""

    alone_us: Spread
    beside_us: Spread

    @property
    def ratio_p50(self) -> float:
        """Return p50 beside the room / p50 alone."""
        return self.beside_us.p50 / self.alone_us.p50

    @property
    def ratio_p99(self) -> float:
        """Return p99 beside the room / p99 alone."""
        return self.beside_us.p99 / self.alone_us.p99


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """The edge beside a room at full load: the median over pairs, and the least and greatest."""

    pairs: tuple[Pair, ...]
    ratio_p50: float
    ratio_p50_range: tuple[float, float]
    ratio_p99: float
    ratio_p99_range: tuple[float, float]
    documents_per_s: float
    """That the room took in while an edge ran."""

    @classmethod
    def of(cls, pairs: Sequence[Pair], documents_per_s: float) -> "Beside":
        """Return the figures of some pairs."""
        p50 = [pair.ratio_p50 for pair in pairs]
        p99 = [pair.ratio_p99 for pair in pairs]
        return cls(
            pairs=tuple(pairs),
            ratio_p50=round(float(np.median(p50)), 3),
            ratio_p50_range=(round(min(p50), 3), round(max(p50), 3)),
            ratio_p99=round(float(np.median(p99)), 3),
            ratio_p99_range=(round(min(p99), 3), round(max(p99), 3)),
            documents_per_s=round(documents_per_s, 1),
        )


def beside_the_edge(n_pairs: int, plan: Plan, load: Load, say: Say) -> Beside:
    """Run the edge in its process at the tape's own pace, in pairs, and return how the two compare.

    Args:
        n_pairs: Pairs of runs.
        plan: The edge's tape and its seconds.
        load: The room.
        say: Told which pair runs.

    Raises:
        InputError: If the tape cannot be read or makes no rows.
        WorkerError: If the room's process dies.
    """
    artifact = load_artifact(plan.artifact, spec=BOOK_SPEC)
    frames, first = frames_of(plan)
    quiet_collector()
    found, beside_ns = [], 0
    with RoomProcess(load) as room:
        for number in range(n_pairs):
            say(f"the edge beside the room, pair {number + 1} of {n_pairs}")
            spreads = {}
            for is_beside in (True, False) if number % 2 else (False, True):
                if is_beside:
                    room.go()
                else:
                    room.stand()
                started = stopwatch_ns()
                spreads[is_beside] = Spread.of(paced(artifact, frames, first, plan.paces[0]))
                beside_ns += is_beside * (stopwatch_ns() - started)
            found.append(Pair(alone_us=spreads[False], beside_us=spreads[True]))
        taken = room.taken
    return Beside.of(found, taken / beside_ns * 1e9)


class RoomProcess:
    """A room that reads as fast as it can in a niced process, or stands still. Use as a context manager.

    Args:
        load: The room, and what it reads.

    Raises:
        WorkerError: If it does not come up.
    """

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._taken = context.RawValue("q", 0)
        self._ear, mouth = context.Pipe(duplex=False)
        self._process = context.Process(target=_read, args=(load, self._taken, mouth), daemon=True)
        self._process.start()
        mouth.close()
        try:
            is_up = self._ear.poll(WAIT_S) and self._ear.recv_bytes() == READY
        except EOFError:
            is_up = False
        if not is_up:
            self.close()
            raise WorkerError("the narrative room's process has died, or did not come up")
        self._before = 0
        self.stand()
        self._before = self.taken

    @property
    def taken(self) -> int:
        """Return how many documents it has taken in since it was up."""
        return int(self._taken.value) - self._before

    def go(self) -> None:
        """Let it read.

        Raises:
            WorkerError: If it has died.
        """
        self._send(signal.SIGCONT)

    def stand(self) -> None:
        """Make it stand still.

        Raises:
            WorkerError: If it has died.
        """
        self._send(signal.SIGSTOP)

    def _send(self, number: signal.Signals) -> None:
        if self._process.pid is None or not self._process.is_alive():
            raise WorkerError("the narrative room's process has died")
        os.kill(self._process.pid, number)
        CLOCK.sleep(SETTLE_NS)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self._ear.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(load: Load, taken: Any, mouth: Connection) -> None:
    """Take in the lines again and again, each time in a new room: none of them is ever a copy."""
    os.nice(NICENESS)
    # A niced process still keeps a core for its slice when another wakes; one of the idle class does not.
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        fed = FedRoom(load.settings, load.instruments)
        for sent in load.lines:
            fed.push(sent)
            taken.value += 1
            if taken.value == WARM:
                mouth.send_bytes(READY)
