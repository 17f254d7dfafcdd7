"""Synthetic minutes, walked once by the real market room and shared by the tests that measure."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from finllm.domain.market import BookView, Gap
from finllm.market.feed import Market
from finllm.market.synthetic import SyntheticMarket, SyntheticTape, Truth, TruthKind, generate
from finllm.runtime.tally import Tally


class Walked:
    """What the market room made of one instrument: its views, int64 [n_rows, VIEW_SIZE]."""

    def __init__(self, views: NDArray[np.int64]) -> None:
        self.views = views
        self.ts = views[:, BookView.TS_RECV]
        self.flags = views[:, BookView.FLAGS]
        self.mid2 = views[:, BookView.BID_PX] + views[:, BookView.ASK_PX]
        self._ts = self.ts.tolist()

    def column(self, offset: int) -> NDArray[np.int64]:
        """Return one number of the view for every row."""
        return self.views[:, offset]

    def mid_at(self, ts: int) -> int:
        """Return twice the mid of the last row at or before an instant."""
        return int(self.mid2[bisect_right(self._ts, ts) - 1])

    def mids(self, step_ns: int) -> NDArray[np.int64]:
        """Return twice the mid on a grid that starts a second after the first row."""
        grid = np.arange(self.ts[0] + 10**9, self.ts[-1], step_ns)
        return self.mid2[np.searchsorted(self.ts, grid, side="right") - 1]

    def return_bps(self, start: int, end: int) -> float:
        """Return the mid's return between two instants."""
        return (self.mid_at(end) / self.mid_at(start) - 1.0) * 1e4


@dataclass
class Session:
    """A tape and what became of it."""

    tape: SyntheticTape
    truths: tuple[Truth, ...]
    market: Market
    tally: Tally
    gaps: list[Gap]
    rows: dict[str, Walked]
    n_frames: int

    def of(self, kind: TruthKind) -> list[Truth]:
        """Return the truths of one kind that have 45 s of tape after them."""
        last = self.tape.settings.end - 45 * 10**9
        return [truth for truth in self.truths if truth.kind is kind and truth.ts < last]


@pytest.fixture(scope="package")
def session() -> Session:
    tape = generate(SyntheticMarket(seed=5, duration_s=450.0))
    tally = Tally()
    market = Market(tally, check_every=1)
    views: list[list[NDArray[np.int64]]] = [[] for _ in tape.instruments]
    n_frames = 0
    for frame in tape.frames():
        n_frames += 1
        index = market.push(frame)
        if index >= 0:
            views[index].append(market.view(index).copy())
    market.finish()
    rows = {
        each.key: Walked(np.array(seen))
        for each, seen in zip(market.instruments, views, strict=True)
    }
    return Session(tape, tape.truths, market, tally, market.gaps, rows, n_frames)
