"""A worker stopped for five seconds in a burst, and workers that crash, under frames of a real recording."""

import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from finllm.app.fastpath import FastPath
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.edge.artifact import SHIPPED
from finllm.edge.bank import load_bank
from finllm.edge.isolated import IsolatedEdge, Reader
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.feed import Market
from finllm.market.tape import merged, read_frames
from finllm.runtime.tally import Tally
from soak.test_memory import TAPE, rounds

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
STOP_S = 5.0
BURST = 200
"""Times the tape's mean."""
N_STOPS = 3
N_CRASHES = 20


class Feed:
    """Frames of the tape, round after round, into an isolated edge."""

    def __init__(self, tape: Path, edge: IsolatedEdge) -> None:
        self.tally = Tally()
        self.path = FastPath(
            load_bank(SHIPPED["book"], spec=BOOK_SPEC), Market(self.tally), edge=edge
        )
        self.frames: Iterator[Frame] = (frame for one in rounds(tape) for frame in one)

    def push(self, n: int) -> None:
        for frame in islice(self.frames, n):
            self.tally.read += 1
            self.path.hand_over(frame)

    def push_until(self, reader: Reader, timeout_s: float = 30.0) -> tuple[float, int]:
        """Push a frame a millisecond until a row comes back; return ms until then, and its number."""
        start = time.perf_counter_ns()
        while time.perf_counter_ns() - start < timeout_s * NS_PER_S:
            self.push(1)
            served = reader.read(1)
            if served is not None:
                passed = time.perf_counter_ns() - start
                return passed / NS_PER_MS, int(served.rows["seq"][-1])
        raise AssertionError(f"no row in {timeout_s:g} s")


@pytest.fixture
def tape(shared: Path) -> Path:
    return shared / "orderbook" / "binance_frames" / f"{TAPE}.ndjson.gz"


def mean_rate(tape: Path) -> float:
    sound = [frame.ts_recv for frame in merged([read_frames(tape, source=0, tally=Tally())])]
    return len(sound) / (sound[-1] - sound[0]) * NS_PER_S


def drain(edge: IsolatedEdge, reader: Reader) -> None:
    end = time.monotonic() + 30
    while edge.waiting:
        assert time.monotonic() < end
        reader.read(1)
    while reader.read() is not None:
        pass


def stop(edge: IsolatedEdge, reader: Reader, feed: Feed, n_frames: int) -> tuple[float, int, float]:
    """Stop the worker while the frames come; return the seconds they took, rows held, ms to recover."""
    os.kill(edge.crew.pids[0], signal.SIGSTOP)
    begin = time.perf_counter()
    feed.push(n_frames)
    took = time.perf_counter() - begin
    time.sleep(max(0.0, STOP_S - took))
    held, newest = edge.waiting, int(feed.path.tracks[0].head["seq"][0])
    os.kill(edge.crew.pids[0], signal.SIGCONT)
    came_back = time.perf_counter_ns()
    served = reader.read(10_000)
    recovered_ms = (time.perf_counter_ns() - came_back) / NS_PER_MS
    assert served is not None
    assert int(served.rows["seq"][-1]) == newest
    drain(edge, reader)
    assert edge.written == edge.published + edge.conflated
    return round(took, 2), held, round(recovered_ms, 2)


def test_a_worker_stopped_in_a_burst_costs_the_feed_nothing(tape: Path) -> None:
    n_frames = int(mean_rate(tape) * BURST * STOP_S)
    edge = IsolatedEdge(SHIPPED["book"], stall_ns=60 * NS_PER_S)
    edge.start()
    reader, feed = edge.reader(), Feed(tape, edge)
    try:
        feed.push(20_000)
        drain(edge, reader)
        stops = [stop(edge, reader, feed, n_frames) for _ in range(N_STOPS)]
        assert feed.tally.read == feed.tally.used + sum(feed.tally.dropped.values())
        assert edge.crew.falls == []
    finally:
        edge.close()
    print(  # noqa: T201 - a long run says what it saw
        json.dumps(
            {
                "stops": N_STOPS,
                "frames_each": n_frames,
                "fed_in_s": [one[0] for one in stops],
                "held": [one[1] for one in stops],
                "recovered_ms": [one[2] for one in stops],
                "conflated": edge.conflated,
                "dropped": dict(feed.tally.dropped),
            }
        )
    )
    assert max(one[2] for one in stops) < 100.0


def test_after_a_crash_the_next_forecast_comes_within_half_a_second(tape: Path) -> None:
    edge = IsolatedEdge(SHIPPED["book"])
    edge.start()
    reader, feed = edge.reader(), Feed(tape, edge)
    took = []
    try:
        feed.push(20_000)
        drain(edge, reader)
        for n_fallen in range(N_CRASHES):
            while len(edge.crew.falls) < n_fallen:
                time.sleep(0.01)
            assert edge.crew.wait_for_spare()
            os.kill(edge.crew.pids[0], signal.SIGSEGV)
            took.append(feed.push_until(reader)[0])
            drain(edge, reader)
        assert edge.written == edge.published + edge.conflated
        assert len(edge.crew.falls) == N_CRASHES
    finally:
        edge.close()
    spread = np.round(np.quantile(took, (0.5, 1.0)), 1).tolist()
    print(  # noqa: T201
        json.dumps({"crashes": N_CRASHES, "next_forecast_ms": {"p50": spread[0], "max": spread[1]}})
    )
    assert max(took) < 500.0
