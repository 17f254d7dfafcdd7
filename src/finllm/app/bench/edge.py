"""How long a frame takes to become a forecast row: by stage, in one process, and through a worker.

`in_process_us` and each peer are service times: the clock is read before and after each frame that
makes a row, one after the other. `worker_us` and everything under `paced` is measured from the instant
at which the frame should have arrived at that pace, so that waiting behind another frame counts.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from finllm.app.bench.context import NEEDS, ReplayedBook
from finllm.app.bench.measure import (
    Line,
    Nanoseconds,
    Quiet,
    Say,
    Spread,
    arrivals,
    service_times,
    take_turns,
)
from finllm.app.bench.outlook import stand_outlook
from finllm.app.bench.peers import KINDS, PeerPath, missing, tick_sizes
from finllm.app.bench.queue import NAME as QUEUE
from finllm.app.bench.queue import QueueLine
from finllm.app.bench.worker import FlatOut, Workers
from finllm.app.fastpath import FastPath, quiet_collector
from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.edge.artifact import SHIPPED, Artifact, load_artifact
from finllm.edge.bank import alone
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.feed import Market
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.market.tape import read_chain
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.tally import Tally

WARM_UP_S: Final = 15.0
"""Seconds of tape before what is measured, so that rows are good and every kernel is loaded."""
SYMBOLS: Final = (b"BTCUSDT", b"ETHUSDT", b"BTCUSD_PERP", b"ETHUSD_PERP")
HELD: Final = 100
"""Frames before the first snapshot that a load begins with: the diffs that continue it."""
LOAD_FRAMES: Final = 40_000
"""Frames of a load, over all instruments."""
IN_PROCESS: Final = "in process"
TARGETS: Final = {"in_process": 5.0, "worker": 2.5}
"""How many times our p50 a peer's should be, by what it stands against."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Instruments in one process, flat out."""

    instruments: int
    with_depth: int
    """Those whose depth was complete and continuous at the end."""
    frames_per_s: float
    service_us: Spread


class PeerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A peer's latencies beside ours, microseconds, both from the same turns."""

    against: str
    """in_process or worker."""
    p50: float
    p99: float
    ours_p50: float
    ours_p99: float
    ratio_p50: float
    """Its p50 / ours."""
    target: float
    """What that ratio should be at least."""

    @classmethod
    def of(cls, against: str, theirs: Nanoseconds, ours: Nanoseconds) -> "PeerFigures":
        """Return the figures of two sets of latencies in nanoseconds."""
        peer, mine = Spread.of(theirs), Spread.of(ours)
        return cls(
            against=against,
            p50=peer.p50,
            p99=peer.p99,
            ours_p50=mine.p50,
            ours_p99=mine.p99,
            ratio_p50=round(peer.p50 / mine.p50, 2),
            target=TARGETS[against],
        )


class EdgeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `finllm bench edge` reports."""

    stages_us: dict[str, Spread]
    in_process_us: Spread
    worker_us: Spread
    frames_per_s: float
    quiet: dict[str, Quiet]
    """How quiet the machine was, before and after."""
    peers: dict[str, PeerFigures]
    context: dict[str, dict[str, float | str]]
    paced: dict[str, Spread]
    by_instruments: list[Load]
    flat_out: FlatOut


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    tapes: tuple[Path, ...] = ()
    """Frame tapes; none = ninety seconds of the synthetic market."""
    seconds: float = 20.0
    """Seconds of tape that are measured."""
    paces: tuple[float, ...] = (1.0, 10.0)
    instruments: tuple[int, ...] = (1, 10, 100, 500)
    artifact: Path = SHIPPED["book"]


def bench_edge(plan: Plan, say: Say, warn: Say) -> tuple[EdgeFigures, dict[str, Nanoseconds]]:
    """Measure, and return the figures and the latencies behind them by name, nanoseconds.

    Args:
        plan: What to measure.
        say: Told what is being measured.
        warn: Told which peers are left out, and why.

    Raises:
        InputError: If a tape cannot be read or makes no rows.
    """
    artifact = load_artifact(plan.artifact, spec=BOOK_SPEC)
    frames, first = frames_of(plan)
    say(f"{len(frames) - first} frames measured after {first} to warm up")
    quiet = {"before": Quiet.look()}
    quiet_collector()
    say("stages")
    stages = _stages(artifact, frames, first)
    say("in process, flat out")
    per_s = _flat_out(artifact, frames, first)
    say("in process and its peers")
    found, peers = _against_peers(artifact, frames, first, warn)
    for pace in plan.paces:
        say(f"in process, {pace:g} x real time")
        found[f"in process, {pace:g} x"] = paced(artifact, frames, first, pace)
    with Workers(plan.artifact, artifact) as workers:
        for pace in plan.paces:
            say(f"through a worker, {pace:g} x real time")
            found |= _through_workers(workers, artifact, frames, first, pace, plan.paces[0])
        say("through a worker, flat out")
        flat_out = workers.flat_out(frames)
    base = f"{plan.paces[0]:g} x"
    queued, served = found[f"{QUEUE}, {base}"], found[f"worker, {base}"]
    peers[QUEUE] = PeerFigures.of("worker", queued, served)
    loads = []
    for n in plan.instruments:
        say(f"{n} instruments")
        loads.append(_load(artifact, frames, n))
    say("context")
    figures = EdgeFigures(
        stages_us={name: Spread.of(values) for name, values in stages.items()},
        in_process_us=Spread.of(found[IN_PROCESS]),
        worker_us=Spread.of(served),
        frames_per_s=round(per_s),
        quiet=quiet | {"after": Quiet.look()},
        peers=peers,
        context=_context(frames, warn),
        paced={
            name: Spread.of(latencies)
            for name, latencies in found.items()
            if name.startswith(("in process, ", "worker, "))
        },
        by_instruments=loads,
        flat_out=flat_out,
    )
    return figures, found


def _against_peers(
    artifact: Artifact, frames: list[Frame], first: int, warn: Say
) -> tuple[dict[str, Nanoseconds], dict[str, PeerFigures]]:
    """Time the in-process path and every peer that is installed, in turns."""
    contenders: dict[str, Callable[[Frame], object]] = {}
    ticks = tick_sizes(frames[:first])
    for kind in KINDS:
        if lacking := missing(kind.needs):
            warn(_left_out(kind.name, lacking))
            continue
        path = PeerPath(kind.book, kind.columns, artifact, ticks)
        rows = [path.push(frame) for frame in frames[:first]]
        if any(row is not None for row in rows):
            contenders[kind.name] = path.push
        else:
            warn(f"{kind.name} is left out: no row of it in the warm-up, for want of a snapshot")
    ours = _warmed(artifact, frames[:first])
    quiet_collector()
    found = service_times({IN_PROCESS: ours.push, **contenders}, frames, first)
    return found, {
        name: PeerFigures.of("in_process", found[name], found[IN_PROCESS]) for name in contenders
    }


def _left_out(name: str, lacking: str) -> str:
    return f"{name} is left out: {lacking} is not installed. pip install 'fin-llm-inference[bench]'"


def _through_workers(
    workers: Workers,
    artifact: Artifact,
    frames: list[Frame],
    first: int,
    pace: float,
    queue_pace: float,
) -> dict[str, Nanoseconds]:
    """Time the way through a worker, at one pace in turns with the way through the queue."""
    with ExitStack() as stack:
        lines: dict[str, Line] = {}
        if pace == queue_pace:
            queue = stack.enter_context(QueueLine(artifact, frames, first))
            lines[f"{QUEUE}, {pace:g} x"] = queue
        lines[f"worker, {pace:g} x"] = workers.line(frames, first)
        take_turns(list(lines.values()), frames, first, pace)
        return {name: line.finish() for name, line in lines.items()}


def _context(frames: list[Frame], warn: Say) -> dict[str, dict[str, float | str]]:
    """Time what does a part of the job, on the first source's frames."""
    if lacking := missing(NEEDS):
        warn(_left_out("hftbacktest's book", lacking))
        return {}
    market = Market(Tally())
    mine = [frame for frame in frames if frame.source == frames[0].source]
    made = [index for frame in mine if (index := market.push(frame)) >= 0]
    instrument = market.instruments[made[0]] if made else None
    if instrument is None or market.needs_snapshot(made[0]):
        warn("hftbacktest's book is left out: the tape has no depth snapshot")
        return {}
    book = ReplayedBook(mine, instrument.tick_size, instrument.lot_size)
    return {"hftbacktest": book.measure()}


def frames_of(plan: Plan) -> tuple[list[Frame], int]:
    """Return the frames to measure with, and the index of the first that is measured.

    Raises:
        InputError: If a tape cannot be read or holds no frame.
    """
    if plan.tapes:
        frames = list(read_chain(plan.tapes, Tally()))
    else:
        market = SyntheticMarket(seed=7, duration_s=WARM_UP_S + plan.seconds + 5.0)
        frames = list(generate(market).frames())
    if not frames:
        raise InputError("holds no frame", place="bench edge", mend="Name a tape of frames.")
    starts = frames[0].ts_recv + int(WARM_UP_S * 1e9)
    ends = starts + int(plan.seconds * 1e9)
    kept = [frame for frame in frames if frame.ts_recv < ends]
    return kept, sum(frame.ts_recv < starts for frame in kept)


def _warmed(artifact: Artifact, frames: list[Frame]) -> FastPath:
    path = FastPath(alone(artifact), Market(Tally()))
    for frame in frames:
        path.push(frame)
    stand_outlook(path)
    return path


def _flat_out(artifact: Artifact, frames: list[Frame], first: int) -> float:
    """Return frames per second, one after the other."""
    push = _warmed(artifact, frames[:first]).push
    started = stopwatch_ns()
    for frame in frames[first:]:
        push(frame)
    return (len(frames) - first) / (stopwatch_ns() - started) * 1e9


def _stages(artifact: Artifact, frames: list[Frame], first: int) -> dict[str, Nanoseconds]:
    """Time each stage of the path by itself; the clock's own cost is taken off."""
    path, now = _warmed(artifact, frames[:first]), stopwatch_ns
    marks = np.zeros((len(frames) - first, 6), dtype=np.int64)
    for i in range(first, len(frames)):
        mark = marks[i - first]
        a = now()
        index = path.market.push(frames[i])
        b = now()
        if index < 0:
            continue
        track = path.tracks[index]
        track.features.push(path.market.view(index), track.row, track.head)
        c = now()
        track.session.observe(track.entry)
        d = now()
        raw = artifact.model.infer(track.rows)
        e = now()
        track.session.speak(track.entry, raw[0], a)
        mark[:] = a, b, c, d, e, now()
    made = marks[marks[:, 5] > 0]
    clock = np.median(np.diff([now() for _ in range(2_000)]))
    names = ("decode and book", "features", "regime", "model", "calibrate and tilt")
    spans = np.maximum(np.diff(made, axis=1) - int(clock), 1)
    return {name: spans[:, k] for k, name in enumerate(names)}


def paced(artifact: Artifact, frames: list[Frame], first: int, pace: float) -> Nanoseconds:
    """Return how long after its intended arrival each row was made in this process, int64 [n], ns.

    Args:
        artifact: The model.
        frames: The tape.
        first: Frames before it warm the path and are not measured.
        pace: Times real time.
    """
    path = _warmed(artifact, frames[:first])
    took = np.zeros(len(frames) - first, dtype=np.int64)
    for i, due in arrivals(frames, range(first, len(frames)), pace, stopwatch_ns() + 1_000_000):
        if path.push(frames[i]) is not None:
            took[i - first] = stopwatch_ns() - due
    return took[took > 0]


def _load(artifact: Artifact, frames: list[Frame], n: int) -> Load:
    """Deal a source's frames out to n instruments, all with the same book, and go flat out."""
    mine = [frame for frame in frames if frame.source == frames[0].source]
    begin = next((i for i, frame in enumerate(mine) if b"lastUpdateId" in frame.payload), 0)
    kept = mine[max(0, begin - HELD) :][: max(4 * HELD, LOAD_FRAMES // n)]
    many = [
        msgspec.structs.replace(frame, payload=_renamed(frame.payload, k), source=k)
        for frame in kept
        for k in range(n)
    ]
    market = Market(Tally())
    path = FastPath(alone(artifact), market)
    half = len(many) // 2
    for frame in many[:half]:
        path.push(frame)
    stand_outlook(path)
    took, push = np.zeros(len(many) - half, dtype=np.int64), path.push
    started = stopwatch_ns()
    for i in range(half, len(many)):
        before = stopwatch_ns()
        if push(many[i]) is not None:
            took[i - half] = stopwatch_ns() - before
    passed = stopwatch_ns() - started
    known = range(len(market.instruments))
    return Load(
        instruments=len(path.tracks),
        with_depth=sum(not market.needs_snapshot(i) for i in known),
        frames_per_s=round((len(many) - half) / passed * 1e9),
        service_us=Spread.of(took[took > 0]),
    )


def _renamed(payload: bytes, k: int) -> bytes:
    """Return a frame under another symbol: K0042BTCUSDT for the 43rd of BTCUSDT."""
    for symbol in SYMBOLS:
        other = b"K%04d%b" % (k, symbol)
        payload = payload.replace(symbol, other).replace(symbol.lower(), other.lower())
    return payload
