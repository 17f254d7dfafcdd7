"""What other work costs the edge: edge runs with a load beside them, and without.

The load works as fast as it can in a process of its own, niced and of the idle class where there is one,
which is stopped for every other run. The edge keeps the first core in all runs, and the load the others, as a
desk would deal them out. Runs come in pairs, first with and first without in turn, so that what else the
machine does hits both.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol, Self

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
from finllm.runtime.cores import leave_first_core, on_first_core

NICENESS: Final = 19
WAIT_S: Final = 300.0
SETTLE_NS: Final = 100_000_000
WARM: Final = 50
"""What it has done of its first kind when it counts as up; of every other kind it has done something."""
READY: Final = b"ready"
TARGETS: Final = {"edge_p50_ratio": 1.05, "edge_p99_ratio": 1.5}
"""What the median ratios are to be at most."""


class Load(Protocol):
    """What stands beside the edge. It is sent to a process of its own, so it can be pickled."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of work that are counted, those that it begins with first."""
        ...

    def work(self) -> Iterator[str]:
        """Work without end, yielding each kind as it is done."""
        ...


class Headlines(msgspec.Struct, frozen=True, kw_only=True):
    """A narrative room that takes in the same lines again and again, each time in a new room: no copies."""

    settings: NarrativeSettings
    instruments: tuple[str, ...]
    lines: tuple[Sent, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return what is counted: documents."""
        return ("documents",)

    def work(self) -> Iterator[str]:
        """Work without end, yielding each kind as it is done."""
        while True:
            fed = FedRoom(self.settings, self.instruments)
            for sent in self.lines:
                fed.push(sent)
                yield "documents"


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """An edge run alone, and one beside the load."""

    alone_us: Spread
    beside_us: Spread

    @property
    def ratio_p50(self) -> float:
        """Return p50 beside the load / p50 alone."""
        return self.beside_us.p50 / self.alone_us.p50

    @property
    def ratio_p99(self) -> float:
        """Return p99 beside the load / p99 alone."""
        return self.beside_us.p99 / self.alone_us.p99


class Middle(msgspec.Struct, frozen=True, kw_only=True):
    """Edge runs of one kind: medians over pairs, microseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, spreads: Sequence[Spread]) -> "Middle":
        """Return the medians of some runs."""
        p50, p99 = np.median([(one.p50, one.p99) for one in spreads], axis=0)
        return cls(p50=round(float(p50), 2), p99=round(float(p99), 2))


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """The edge beside a load: the median over pairs, and the least and greatest."""

    pairs: tuple[Pair, ...]
    ratio_p50: float
    ratio_p50_range: tuple[float, float]
    ratio_p99: float
    ratio_p99_range: tuple[float, float]
    alone_us: Middle
    beside_us: Middle
    load_per_s: dict[str, float]
    """By kind, what the load did while an edge ran."""

    @classmethod
    def of(cls, pairs: Sequence[Pair], load_per_s: dict[str, float]) -> "Beside":
        """Return the figures of some pairs."""
        p50 = [pair.ratio_p50 for pair in pairs]
        p99 = [pair.ratio_p99 for pair in pairs]
        return cls(
            pairs=tuple(pairs),
            ratio_p50=round(float(np.median(p50)), 3),
            ratio_p50_range=(round(min(p50), 3), round(max(p50), 3)),
            ratio_p99=round(float(np.median(p99)), 3),
            ratio_p99_range=(round(min(p99), 3), round(max(p99), 3)),
            alone_us=Middle.of([pair.alone_us for pair in pairs]),
            beside_us=Middle.of([pair.beside_us for pair in pairs]),
            load_per_s={kind: round(per_s, 1) for kind, per_s in load_per_s.items()},
        )


def beside_the_edge(n_pairs: int, plan: Plan, load: Load, say: Say) -> Beside:
    """Run the edge in its process at the tape's own pace, in pairs, and return how the two compare.

    Args:
        n_pairs: Pairs of runs.
        plan: The edge's tape and its seconds.
        load: What works beside it.
        say: Told which pair runs.

    Raises:
        InputError: If the tape cannot be read or makes no rows.
        WorkerError: If the load's process dies.
    """
    artifact = load_artifact(plan.artifact, spec=BOOK_SPEC)
    frames, first = frames_of(plan)
    quiet_collector()
    found, beside_ns = [], 0
    with LoadProcess(load) as process, on_first_core():
        for number in range(n_pairs):
            say(f"the edge alone and beside the load, pair {number + 1} of {n_pairs}")
            spreads = {}
            for is_beside in (True, False) if number % 2 else (False, True):
                if is_beside:
                    process.go()
                else:
                    process.stand()
                started = stopwatch_ns()
                spreads[is_beside] = Spread.of(paced(artifact, frames, first, plan.paces[0]))
                beside_ns += is_beside * (stopwatch_ns() - started)
            found.append(Pair(alone_us=spreads[False], beside_us=spreads[True]))
        done = process.done
    return Beside.of(found, {kind: n / beside_ns * 1e9 for kind, n in done.items()})


class LoadProcess:
    """A load that works as fast as it can in a niced process, or stands still. Use as a context manager.

    Args:
        load: What it works at.

    Raises:
        WorkerError: If it does not come up.
    """

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._kinds = load.kinds
        self._done = context.RawArray("q", len(self._kinds))
        self._ear, mouth = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(load, self._done, mouth), daemon=True)
        self._process.start()
        mouth.close()
        try:
            is_up = self._ear.poll(WAIT_S) and self._ear.recv_bytes() == READY
        except EOFError:
            is_up = False
        if not is_up:
            self.close()
            raise WorkerError("the load's process has died, or did not come up")
        self._before = dict.fromkeys(self._kinds, 0)
        self.stand()
        self._before = self.done

    @property
    def done(self) -> dict[str, int]:
        """Return by kind how much it has done since it was up."""
        counts = zip(self._kinds, self._done, strict=True)
        return {kind: int(n) - self._before[kind] for kind, n in counts}

    def go(self) -> None:
        """Let it work.

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
            raise WorkerError("the load's process has died")
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


def _work(load: Load, done: Any, mouth: Connection) -> None:
    """Let a load work, counting by kind what it has done, as long as whoever started it lives."""
    os.nice(NICENESS)
    leave_first_core()
    # A niced process still keeps a core for its slice when another wakes; one of the idle class does not.
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    place = {kind: i for i, kind in enumerate(load.kinds)}
    is_up, parent = False, os.getppid()
    for kind in load.work():
        done[place[kind]] += 1
        if not is_up and done[0] >= WARM and all(done):
            mouth.send_bytes(READY)
            is_up = True
        if os.getppid() != parent:  # whoever would end it has been killed
            return
