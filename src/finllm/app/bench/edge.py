"""How long a frame takes to become a forecast row: by stage, in one process, and through a worker.

`in_process_us` and each peer are service times: the clock is read before and after each frame that
makes a row, one after the other. `worker_us` and everything under `paced` is measured from the instant
at which the frame should have arrived at that pace, so that waiting behind another frame counts.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.fastpath import FastPath, quiet_collector
from finllm.app.subscribe import Publisher
from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.domain.protocol import Outlook, OutlookBand
from finllm.edge.artifact import SHIPPED, Artifact, load_artifact
from finllm.edge.isolated import IsolatedEdge
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.feed import Market
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.market.tape import read_chain
from finllm.runtime.clock import WallClock, stopwatch_ns
from finllm.runtime.tally import Tally

Say = Callable[[str], None]
Nanoseconds = NDArray[np.int64]
CLOCK: Final = WallClock()

WARM_UP_S: Final = 15.0
"""Seconds of tape before what is measured, so that rows are good and every kernel is loaded."""
SLACK_NS: Final = 200_000
"""A wait longer than this is slept through but for its end."""
SYMBOLS: Final = (b"BTCUSDT", b"ETHUSDT", b"BTCUSD_PERP", b"ETHUSD_PERP")


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of latencies, microseconds."""

    p50: float
    p99: float
    p999: float
    max: float
    n: int

    @classmethod
    def of(cls, latencies: Nanoseconds) -> "Spread":
        """Return the distribution of latencies in nanoseconds."""
        if not len(latencies):
            raise InputError(
                "no frame of it makes a row",
                place="bench edge",
                mend="Name a tape that holds a snapshot and at least 20 s.",
            )
        p50, p99, p999 = np.quantile(latencies, (0.5, 0.99, 0.999)) / 1e3
        return cls(
            p50=round(float(p50), 2),
            p99=round(float(p99), 2),
            p999=round(float(p999), 2),
            max=round(float(latencies.max()) / 1e3, 1),
            n=len(latencies),
        )


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Instruments in one process, flat out."""

    instruments: int
    frames_per_s: float
    service_us: Spread


class FlatOut(msgspec.Struct, frozen=True, kw_only=True):
    """The feed side of an isolated edge, as fast as it can."""

    frames_per_s: float
    rows: int
    served: int
    conflated_share: float


class EdgeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `finllm bench edge` reports."""

    stages_us: dict[str, Spread]
    in_process_us: Spread
    worker_us: Spread
    frames_per_s: float
    load_1m: float
    peers: dict[str, dict[str, float | str]]
    context: dict[str, float | str]
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


def bench_edge(plan: Plan, say: Say) -> tuple[EdgeFigures, dict[str, Nanoseconds]]:
    """Measure, and return the figures and the latencies behind them by name, nanoseconds.

    Raises:
        InputError: If a tape cannot be read or makes no rows.
    """
    artifact = load_artifact(plan.artifact, spec=BOOK_SPEC)
    frames, first = _frames(plan)
    say(f"{len(frames) - first} frames measured after {first} to warm up")
    quiet_collector()
    found: dict[str, Nanoseconds] = {}
    say("stages")
    stages = _stages(artifact, frames, first)
    say("in process")
    found["in process"], per_s = _flat_out(artifact, frames, first)
    paced = {}
    for pace in plan.paces:
        say(f"in process, {pace:g} x real time")
        found[f"in process, {pace:g} x"] = _paced(artifact, frames, first, pace)
    with _isolated(plan.artifact, artifact) as desk:
        for pace in plan.paces:
            say(f"through a worker, {pace:g} x real time")
            found[f"worker, {pace:g} x"] = desk.paced(frames, first, pace)
        say("through a worker, flat out")
        flat_out = desk.flat_out(frames)
    loads = []
    for n in plan.instruments:
        say(f"{n} instruments")
        loads.append(_load(artifact, frames[first:], n))
    for name, latencies in found.items():
        if " x" in name:
            paced[name] = Spread.of(latencies)
    figures = EdgeFigures(
        stages_us={name: Spread.of(values) for name, values in stages.items()},
        in_process_us=Spread.of(found["in process"]),
        worker_us=Spread.of(found[f"worker, {plan.paces[0]:g} x"]),
        frames_per_s=round(per_s),
        load_1m=round(os.getloadavg()[0], 2),
        peers={},
        context={},
        paced=paced,
        by_instruments=loads,
        flat_out=flat_out,
    )
    return figures, found


def _frames(plan: Plan) -> tuple[list[Frame], int]:
    """Return the frames, and the index of the first that is measured."""
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


def _path(artifact: Artifact) -> FastPath:
    return FastPath(artifact, Market(Tally()))


def _with_outlook(path: FastPath) -> None:
    """Put an outlook in force for every instrument, so that the tilt is timed too."""
    for track in path.tracks:
        now = CLOCK.now()
        track.session.adopt(
            Outlook(
                instrument=track.session.instrument,
                version=1,
                ts=now,
                bands=(OutlookBand(up_to_ns=10**12, shift=0.2, vol_scale=1.2),),
                half_life_ns=10**12,
                expires=now + 10**15,
            )
        )


def _warmed(artifact: Artifact, frames: list[Frame]) -> FastPath:
    path = _path(artifact)
    for frame in frames:
        path.push(frame)
    _with_outlook(path)
    return path


def _flat_out(artifact: Artifact, frames: list[Frame], first: int) -> tuple[Nanoseconds, float]:
    path = _warmed(artifact, frames[:first])
    push, took = path.push, np.zeros(len(frames) - first, dtype=np.int64)
    started = stopwatch_ns()
    for i in range(first, len(frames)):
        before = stopwatch_ns()
        if push(frames[i]) is not None:
            took[i - first] = stopwatch_ns() - before
    passed = stopwatch_ns() - started
    return took[took > 0], (len(frames) - first) / passed * 1e9


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
        track.session.observe(track.entry, track.entry_f)
        d = now()
        raw = artifact.model.infer(track.rows)
        e = now()
        track.session.speak(track.entry, track.entry_f, raw[0], a)
        mark[:] = a, b, c, d, e, now()
    made = marks[marks[:, 5] > 0]
    clock = np.median(np.diff([now() for _ in range(2_000)]))
    names = ("decode and book", "features", "regime", "model", "calibrate and tilt")
    spans = np.maximum(np.diff(made, axis=1) - int(clock), 1)
    return {name: spans[:, k] for k, name in enumerate(names)}


def _paced(artifact: Artifact, frames: list[Frame], first: int, pace: float) -> Nanoseconds:
    path = _warmed(artifact, frames[:first])
    took = np.zeros(len(frames) - first, dtype=np.int64)
    for i, due in _arrivals(frames, first, pace, stopwatch_ns() + 1_000_000):
        if path.push(frames[i]) is not None:
            took[i - first] = stopwatch_ns() - due
    return took[took > 0]


def _arrivals(
    frames: list[Frame], first: int, pace: float, start: int
) -> Iterator[tuple[int, int]]:
    """Yield (index, intended arrival) at the intended arrival, or as soon after as we are free."""
    now, zero = stopwatch_ns, frames[first].ts_recv
    for i in range(first, len(frames)):
        due = start + int((frames[i].ts_recv - zero) / pace)
        left = due - now()
        if left > SLACK_NS:
            CLOCK.sleep(left - SLACK_NS)
        while now() < due:
            pass
        yield i, due


# -- many instruments -------------------------------------------------------------------------------------


def _load(artifact: Artifact, frames: list[Frame], n: int) -> Load:
    """Deal a tape's frames out to n instruments, all with the same book, and go flat out."""
    snapshot = [frame for frame in frames if b"lastUpdateId" in frame.payload]
    kept = frames[: max(2_000, 20_000 // max(1, n // 10))] if not snapshot else frames
    many = [
        msgspec.structs.replace(frame, payload=_renamed(frame.payload, k), source=k)
        for frame in kept[: max(200, 40_000 // n)]
        for k in range(n)
    ]
    path = _path(artifact)
    half = len(many) // 2
    for frame in many[:half]:
        path.push(frame)
    _with_outlook(path)
    took, push = np.zeros(len(many) - half, dtype=np.int64), path.push
    started = stopwatch_ns()
    for i in range(half, len(many)):
        before = stopwatch_ns()
        if push(many[i]) is not None:
            took[i - half] = stopwatch_ns() - before
    passed = stopwatch_ns() - started
    return Load(
        instruments=len(path.tracks),
        frames_per_s=round((len(many) - half) / passed * 1e9),
        service_us=Spread.of(took[took > 0]),
    )


def _renamed(payload: bytes, k: int) -> bytes:
    """Return a frame under another symbol: K0042USDT for the 43rd."""
    for symbol in SYMBOLS:
        other = b"K%04d%b" % (k, symbol[3:])
        payload = payload.replace(symbol, other).replace(symbol.lower(), other.lower())
    return payload


# -- through a worker ----------------------------------------------------------------------------------------

CONSUMER: Final = """
import sys, time
from pathlib import Path
import numpy as np
import finllm
with finllm.subscribe(path=Path(sys.argv[1])) as feed:
    print("ready", flush=True)
    kept = []
    while not feed.is_closed:
        batch = feed.read(0.2)
        if batch is not None:
            kept.append((time.perf_counter_ns(), batch.rows["ts_recv"].copy()))
start = int(Path(sys.argv[2]).with_name("start").read_text())
took = [now - ts for now, rows in kept for ts in rows.tolist() if ts >= start]
np.save(sys.argv[2], np.array(took, dtype=np.int64))
"""


class _isolated:  # noqa: N801 - used as a function is
    """An isolated edge with its publisher, as a context."""

    def __init__(self, folder: Path, artifact: Artifact) -> None:
        self._folder, self._artifact = folder, artifact

    def __enter__(self) -> Self:
        self._temporary = TemporaryDirectory(prefix="finllm-bench-")
        self._edge = IsolatedEdge(self._folder, 1)
        self._edge.start()
        self._edge.crew.wait_for_spare()
        return self

    def __exit__(self, *_: object) -> None:
        self._edge.close()
        self._temporary.cleanup()

    def paced(self, frames: list[Frame], first: int, pace: float) -> Nanoseconds:
        """Return the latencies from intended arrival to readable by a consumer in another process."""
        folder = Path(self._temporary.name)
        publisher = Publisher(
            self._edge,
            folder / "edge.sock",
            horizons=tuple(h.name for h in self._artifact.horizons),
            model_version=self._artifact.version,
            spec_hash=self._artifact.spec.hash,
        )
        path = FastPath(self._artifact, Market(Tally()), edge=self._edge)
        consumer = subprocess.Popen(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-c", CONSUMER, str(folder / "edge.sock"), str(folder / "took.npy")],
            stdout=subprocess.PIPE,
        )
        try:
            if consumer.stdout is not None:
                consumer.stdout.readline()
            # Receive times are on the clock that the consumer reads; the warm-up lies before them.
            start = stopwatch_ns() + 2_000_000_000
            behind = frames[first].ts_recv - start
            for frame in frames[:first]:
                path.hand_over(Frame(ts_recv=frame.ts_recv - behind, payload=frame.payload))
            _with_outlook(path)
            (folder / "start").write_text(str(start))
            for i, due in _arrivals(frames, first, pace, start):
                path.hand_over(Frame(ts_recv=due, payload=frames[i].payload))
            CLOCK.sleep(300_000_000)
        finally:
            publisher.close()
            consumer.wait(30)
            if consumer.stdout is not None:
                consumer.stdout.close()
        return np.asarray(np.load(folder / "took.npy"))

    def flat_out(self, frames: list[Frame]) -> FlatOut:
        """Return how fast the feed goes when it waits for nobody, and what became of its rows."""
        path = FastPath(self._artifact, Market(Tally()), edge=self._edge)
        before = (self._edge.written, self._edge.published)
        started = resource.getrusage(resource.RUSAGE_SELF).ru_utime, stopwatch_ns()
        for frame in frames:
            path.hand_over(frame)
        passed = stopwatch_ns() - started[1]
        while self._edge.waiting:
            CLOCK.sleep(1_000_000)
        rows, served = self._edge.written - before[0], self._edge.published - before[1]
        return FlatOut(
            frames_per_s=round(len(frames) / passed * 1e9),
            rows=rows,
            served=served,
            conflated_share=round(1.0 - served / max(rows, 1), 4),
        )


def plot(found: dict[str, Nanoseconds], out: Path) -> None:
    """Draw the latency distributions: the share of rows that took longer than a time.

    Raises:
        InputError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InputError(
            "drawing needs matplotlib", place="bench edge", mend="Install fin-llm-inference[bench]."
        ) from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5))
    for name, latencies in found.items():
        ordered = np.sort(latencies) / 1e3
        axes.plot(ordered, 1.0 - np.arange(len(ordered)) / len(ordered), label=name)
    axes.set(xscale="log", yscale="log", xlabel="microseconds", ylabel="share of rows slower")
    axes.set_title("From frame to forecast row")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plt.close(figure)
