"""A book row's columns in numpy, as a careful user would compute them at every event.

One table of running sums, a row an event; the sums over all windows are one `searchsorted` and one
subtraction. It writes 43 of the 52 columns of `BOOK_SPEC` and leaves at zero what needs more
state than that: the learnt microprice, what came and left price by price (cancel rates, resilience),
and the leader's. Its windows end at the event exactly, where ours move in bins.
"""

from math import exp, log, log1p, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.features.book_spec import BOOK_SPEC

Doubles = NDArray[np.float64]

WINDOWS_NS: Final = np.array([100, 500, 2_000, 10_000, 1_000, 60_000], dtype=np.int64) * 1_000_000
"""The first four are those of the flows."""
W_500MS, W_2S, W_10S, W_1S, W_60S = 1, 2, 3, 4, 5
OFI, MLOFI, FLOW, TURNOVER, TRADES, EVENTS, DEPTH, LEVEL, SMALLEST, MOVE, SQUARED = range(11)
"""What is summed."""
N_SUMS: Final = 11
KEPT: Final = 1 << 16
"""Events kept; a minute of a busy book is a quarter of it."""
DEEP: Final = 5
NEAR: Final = np.array([0, 2, 4, 9])
BPS: Final = 1e4
LEAST: Final = 1e-9
"""Size taken for that of a level that is not there."""
FADE: Final = log(2.0)

_AT: Final = BOOK_SPEC.columns


def _slog(x: float) -> float:
    return log1p(x) if x >= 0.0 else -log1p(-x)


class NumpyColumns:
    """The columns of one book. Keeps what lies behind them."""

    def __init__(self) -> None:
        self._times = np.zeros(KEPT, dtype=np.int64)
        self._sums = np.zeros((KEPT + 1, N_SUMS))
        self._event = np.zeros(N_SUMS)
        self._n = 0
        self._row = np.zeros(len(BOOK_SPEC))
        self._before = np.zeros((4, 10))
        self._mid2 = 0.0
        self._started = 0
        self._moved = 0
        self._traded = 0
        self._last_move = 0.0
        self._sampled = (0, 0.0)
        self._variance = (0.0, 0.0)
        self._mean_spread = (0.0, 0.0, 0)

    def push(self, now: int, sides: Doubles, signed: float) -> Doubles:
        """Return the row of one event, float64 [52]; reused by the next.

        Args:
            now: Receive time, ns; never decreasing.
            sides: float64 [4, 10]: bid prices and sizes, ask prices and sizes, best first; prices
                in whole ticks.
            signed: Size traded by this event, positive if the aggressor bought; 0 = no trade.
        """
        self._add(now, sides, signed)
        self._sample(now)
        sums = self._window_sums(now)
        row = self._row
        spread = float(sides[2, 0] - sides[0, 0])
        sigma = self._sigma()
        scale = max(sigma * self._mid2 / BPS, spread, 1.0)
        touch = sums[W_10S, DEPTH] / (2.0 * sums[W_10S, EVENTS])
        self._write_flows(row, sums, touch)
        self._write_queues(row, now, sums, touch)
        self._write_moves(row, now, sums, scale)
        self._write_depth(row, sides)
        self._write_spread(row, now, spread, sigma, scale)
        return row

    def _add(self, now: int, sides: Doubles, signed: float) -> None:
        """Measure one event against the one before, and keep it."""
        if self._n == 0:
            self._started = self._moved = self._traded = now
        bid_px, bid_sz, ask_px, ask_sz = sides[:, :DEEP]
        was_bid_px, was_bid_sz, was_ask_px, was_ask_sz = self._before[:, :DEEP]
        flow = (
            (bid_px >= was_bid_px) * bid_sz
            - (bid_px <= was_bid_px) * was_bid_sz
            - (ask_px <= was_ask_px) * ask_sz
            + (ask_px >= was_ask_px) * was_ask_sz
        )
        mid2 = float(sides[0, 0] + sides[2, 0])
        move = mid2 - self._mid2 if self._n else 0.0
        bid, ask = float(bid_sz[0]), float(ask_sz[0])
        size = abs(signed)
        self._event[:] = (
            flow[0], flow.sum(), signed, size, size > 0.0, 1.0, bid + ask,
            (bid_sz.sum() + ask_sz.sum()) / (2 * DEEP), min(bid, ask), move, move * move,
        )  # fmt: skip
        if self._n == 0:
            self._event[: MLOFI + 1] = 0.0
        self._keep(now)
        self._before[:] = sides
        self._mid2 = mid2
        if move:
            self._moved, self._last_move = now, move
        if size:
            self._traded = now

    def _keep(self, now: int) -> None:
        """Add the event to the running sums; a full table keeps its newer half."""
        if self._n == KEPT:
            self._n = KEPT // 2
            self._times[: self._n] = self._times[self._n :]
            self._sums[: self._n + 1] = self._sums[self._n :].copy()
        np.add(self._sums[self._n], self._event, out=self._sums[self._n + 1])
        self._times[self._n] = now
        self._n += 1

    def _window_sums(self, now: int) -> Doubles:
        """Return the sums over each window, float64 [6, 11]."""
        first = self._times[: self._n].searchsorted(now - WINDOWS_NS, side="right")
        sums: Doubles = self._sums[self._n] - self._sums[first]
        return sums

    def _sample(self, now: int) -> None:
        """Take a 1 s return into the fading variance, as often as a second is full."""
        ts, mid2 = self._sampled
        if ts == 0:
            self._sampled = (now, self._mid2)
        elif now - ts >= 1_000_000_000:
            seconds = (now - ts) / 1e9
            fade = exp(-FADE * seconds / 30.0)
            squared = ((self._mid2 - mid2) / self._mid2 * BPS) ** 2
            total, weight = self._variance
            self._variance = (total * fade + squared, weight * fade + seconds)
            self._sampled = (now, self._mid2)

    def _sigma(self) -> float:
        total, weight = self._variance
        least = BPS / self._mid2 / sqrt(60.0)
        return max(sqrt(total / weight) if weight else 0.0, least)

    def _length_s(self, now: int, window_s: float) -> float:
        return min(window_s, max((now - self._started) / 1e9, 0.2 * window_s))

    @staticmethod
    def _write_flows(row: Doubles, sums: Doubles, touch: float) -> None:
        level = sums[W_10S, LEVEL] / sums[W_10S, EVENTS]
        flows = sums[:4, : FLOW + 1] / (touch, level, touch)
        first = _AT["ofi_100ms"]
        row[first : first + 12] = (np.sign(flows) * np.log1p(np.abs(flows))).T.ravel()

    def _write_queues(self, row: Doubles, now: int, sums: Doubles, touch: float) -> None:
        first = _AT["trade_rate_2s"]
        lately = float(sums[W_10S, TRADES]) / self._length_s(now, 10.0)
        minute = float(sums[W_60S, TRADES]) / self._length_s(now, 60.0)
        row[first : first + 4] = (
            log1p(float(sums[W_2S, TRADES]) / self._length_s(now, 2.0)),
            log((lately + 0.1) / (minute + 0.1)),
            log1p(float(sums[W_500MS, EVENTS]) / self._length_s(now, 0.5)),
            log1p(float(sums[W_2S, EVENTS]) / self._length_s(now, 2.0)),
        )
        row[_AT["turnover_10s"]] = log1p(float(sums[W_10S, TURNOVER]) / touch)
        level = float(self._event[LEVEL])
        if level > 0.0:
            means = sums[[W_10S, W_60S], LEVEL] / sums[[W_10S, W_60S], EVENTS]
            first = _AT["depletion_10s"]
            row[first : first + 2] = np.log(level / means)
        smallest = float(self._event[SMALLEST] * sums[W_10S, EVENTS] / sums[W_10S, SMALLEST])
        row[_AT["min_queue"]] = log(smallest)

    def _write_moves(self, row: Doubles, now: int, sums: Doubles, scale: float) -> None:
        first = _AT["ret_500ms"]
        row[first : first + 3] = (
            _slog(float(sums[W_500MS, MOVE]) / (scale * sqrt(0.5))),
            _slog(float(sums[W_1S, MOVE]) / scale),
            _slog(float(sums[W_10S, MOVE]) / (scale * sqrt(10.0))),
        )
        first = _AT["rv_1s"]
        for i, (window, seconds) in enumerate(((W_1S, 1.0), (W_10S, 10.0), (W_60S, 60.0))):
            realised = sqrt(float(sums[window, SQUARED]) / self._length_s(now, seconds))
            row[first + i] = log(max(realised / scale, 0.05))
        row[_AT["last_move_sign"]] = float(self._last_move > 0.0) - float(self._last_move < 0.0)
        row[_AT["since_move"]] = log(min(max((now - self._moved) / 1e9, 1e-4), 60.0))
        row[_AT["since_trade"]] = log(min(max((now - self._traded) / 1e9, 1e-4), 60.0))

    @staticmethod
    def _write_depth(row: Doubles, sides: Doubles) -> None:
        depth = sides[1::2].cumsum(axis=1)
        bids, asks = depth
        row[:4] = ((bids - asks) / (bids + asks))[NEAR]
        bid, ask = float(bids[0]), float(asks[0])
        row[_AT["log_queue_ratio"]] = log(bid / ask)
        near, to_7, full = (bids + asks)[[2, 6, 9]].tolist()
        first = _AT["depth_slope"]
        row[first : first + 3] = (
            log(full / (10.0 * (bid + ask))),
            log(float(bids[9]) / bid) - log(float(asks[9]) / ask),
            log(near / 6.0)
            - 2.0 * log(max(to_7 - near, LEAST) / 8.0)
            + log(max(full - to_7, LEAST) / 6.0),
        )

    def _write_spread(
        self, row: Doubles, now: int, spread: float, sigma: float, scale: float
    ) -> None:
        at_least_one = max(spread, 1.0)
        row[_AT["log_spread"]] = log(at_least_one)
        row[_AT["sigma"]] = sigma
        row[_AT["sigma_half_spread"]] = log(sigma / (at_least_one / self._mid2 * BPS))
        row[_AT["last_move_size"]] = log1p(abs(self._last_move) / at_least_one)
        row[_AT["wmid_offset"]] = _slog(float(row[0]) * spread / scale)
        total, weight, before = self._mean_spread
        seconds = (now - before) / 1e9 if before else 0.0
        fade = exp(-FADE * seconds / 60.0)
        total, weight = total * fade + at_least_one * seconds, weight * fade + seconds
        self._mean_spread = (total, weight, now)
        if weight > 0.0:
            row[_AT["spread_rel"]] = log(at_least_one * weight / total)
