"""From bars to feature rows, in constant memory.

Volatility is stated per root second of *nominal* time, in which a bar of an hour lasts 3,600 s and a
night nothing: `sigma * sqrt(horizon.nominal_s)` is the volatility of a horizon whose `nominal_s` is
its number of bars times the nominal seconds of a bar. The returns of the bars that open a session
carry the night, so the night's part of the variance is in it.
"""

from collections import deque
from math import fsum, isfinite, log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.label import return_bps
from finllm.domain.market import Bar, Flag, RowKind
from finllm.domain.units import BPS, NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from finllm.features.bar_spec import BAR_SPEC

BAR_TICK: Final = 1e-6
"""Quote currency per tick of `mid2` on bars: prices adjusted for splits lie on no venue's grid."""
BAR_S: Final = 3_600.0
"""Nominal length of a bar unless told otherwise."""
SESSION_S: Final = 23_400.0
"""Length of a session unless told otherwise: 09:30 to 16:00 in New York."""
PAUSE_NS: Final = 4 * NS_PER_HOUR
"""A longer time between the starts of two bars begins a session."""
WINDOW: Final = 35
"""Longest window, and half-life of the volatility, in bars."""
DECAY: Final = 0.5 ** (1.0 / WINDOW)
FLOOR_BPS: Final = 1.0
"""Least volatility and range per bar, in bps."""
MAX_PRICE: Final = 1e9
MAX_VOLUME: Final = 1e18
_COLUMN: Final = BAR_SPEC.columns
_SIGMA: Final = _COLUMN["sigma"]


class MarketLead:
    """What the leading instrument's bars said; shared by the bar rows of a whole market.

    A bar of the same instant does not count as known: whether it came first is an accident.

    Args:
        instrument: Key of the instrument that leads, such as that of SPY.
    """

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self._said = ((-1, 0.0, 0.0), (-1, 0.0, 0.0))
        """The bar before the last, then the last: receive time, returns over 1 and 7 bars."""

    def say(self, ts_recv: int, ret_1: float, ret_7: float) -> None:
        """Take in the leading instrument's next bar."""
        self._said = (self._said[1], (ts_recv, ret_1, ret_7))

    def heard(self, since: int, before: int) -> tuple[float, float]:
        """Return its newest returns over 1 and 7 bars received in [since, before), else zeros."""
        for ts_recv, ret_1, ret_7 in reversed(self._said):
            if since <= ts_recv < before:
                return ret_1, ret_7
        return 0.0, 0.0


class BarFeatures:
    """The feature rows of one instrument's bars.

    A bar whose prices are unusable, or that is not later than the one before it, changes nothing: it
    gets a row of zeros (sigma as it stood) that is not valid, and `push` says why.

    Args:
        lead: The leading instrument's state, shared; None leaves the market's columns at zero.
        bar_s: Nominal seconds of a bar.
        session_s: Seconds of a session.
    """

    def __init__(
        self, lead: MarketLead | None = None, *, bar_s: float = BAR_S, session_s: float = SESSION_S
    ) -> None:
        self._lead = lead
        self._bar_s = bar_s
        self._session_s = session_s
        self._seq = 0
        self._ts_start = -1
        self._ts_recv = -1
        self._session_start = 0
        self._gap = 0.0
        self._mid2s: deque[int] = deque(maxlen=WINDOW + 1)
        self._squares: deque[float] = deque(maxlen=WINDOW)
        self._ranges: deque[float] = deque(maxlen=WINDOW)
        self._volumes: deque[float] = deque(maxlen=WINDOW)
        self._sum = 0.0
        self._weight = 0.0

    def push(self, bar: Bar, row: NDArray[np.float64], head: NDArray[np.void]) -> str:
        """Write the feature row of one bar; return why the bar was refused, empty if it was not.

        Args:
            bar: The bar, once complete.
            row: float64 [len(BAR_SPEC)], overwritten; always finite.
            head: One `ROW_HEAD`, as an array of no dimension or of one element; overwritten.
        """
        self._seq += 1
        row[:] = 0.0
        refused = self._refusal(bar)
        if not refused:
            self._take(bar)
            self._write(bar, row)
            self._write_head(bar, head, self._mid2s[-1])
        else:
            self._write_head(bar, head, 0)
        row[_SIGMA] = self._sigma_bar() / sqrt(self._bar_s)
        return refused

    def _refusal(self, bar: Bar) -> str:
        prices = (bar.open, bar.high, bar.low, bar.close)
        if not all(isfinite(price) and BAR_TICK <= price < MAX_PRICE for price in prices):
            return "price_out_of_bounds"
        if bar.ts_start <= self._ts_start or bar.ts_recv < max(self._ts_recv, bar.ts_start):
            return "not_later"
        return ""

    def _take(self, bar: Bar) -> None:
        """Move the windows on by one bar."""
        mid2 = 2 * round(bar.close / BAR_TICK)
        if bar.ts_start - self._ts_start > PAUSE_NS:
            self._session_start = bar.ts_start
            self._gap = self._ret_from_last(2 * round(bar.open / BAR_TICK))
        if self._mid2s:
            square = self._ret_from_last(mid2) ** 2
            self._squares.append(square)
            self._sum = self._sum * DECAY + (1.0 - DECAY) * square
            self._weight = self._weight * DECAY + (1.0 - DECAY)
        self._mid2s.append(mid2)
        self._ranges.append(_range_bps(bar))
        volume = bar.volume if isfinite(bar.volume) else 0.0
        self._volumes.append(min(max(volume, 0.0), MAX_VOLUME))

    def _ret_from_last(self, mid2: int) -> float:
        return return_bps(self._mid2s[-1], mid2) if self._mid2s else 0.0

    def _ret(self, n_bars: int) -> float:
        """Return the return over the last n bars in bps; 0 while there are not that many."""
        if len(self._mid2s) <= n_bars:
            return 0.0
        return return_bps(self._mid2s[-1 - n_bars], self._mid2s[-1])

    def _sigma_bar(self) -> float:
        """Return the EWMA volatility of one bar in bps, at least the floor."""
        if self._weight <= 0.0:
            return FLOOR_BPS
        return max(sqrt(self._sum / self._weight), FLOOR_BPS)

    def _write(self, bar: Bar, row: NDArray[np.float64]) -> None:
        ret_1, ret_7, sigma = self._ret(1), self._ret(7), self._sigma_bar()
        row[0], row[1], row[2], row[3] = ret_1, self._ret(2), ret_7, self._ret(35)
        row[_COLUMN["ret_1_z"]] = ret_1 / sigma
        row[_COLUMN["ret_7_z"]] = ret_7 / (sigma * sqrt(7.0))
        row[_COLUMN["rv_ratio"]] = log(_rms(self._squares, 7) / _rms(self._squares, WINDOW))
        row[_COLUMN["range"]] = self._ranges[-1]
        mean_range = fsum(self._ranges) / len(self._ranges)
        row[_COLUMN["range_rel"]] = log(
            max(self._ranges[-1], FLOOR_BPS) / max(mean_range, FLOOR_BPS)
        )
        row[_COLUMN["close_in_range"]] = _close_in_range(bar)
        row[_COLUMN["gap"]] = self._gap
        mean_volume = fsum(self._volumes) / len(self._volumes)
        row[_COLUMN["volume_rel"]] = log((self._volumes[-1] + 1.0) / (mean_volume + 1.0))
        self._write_clock(bar, row)
        self._write_market(bar, row, ret_1, ret_7)
        self._ts_start, self._ts_recv = bar.ts_start, bar.ts_recv

    def _write_clock(self, bar: Bar, row: NDArray[np.float64]) -> None:
        into_s = (bar.ts_start - self._session_start) / NS_PER_S
        weekday = (bar.ts_start // NS_PER_DAY + 3) % 7
        row[_COLUMN["session_clock"]] = min(into_s / self._session_s, 1.0)
        row[_COLUMN["is_first"]] = float(into_s == 0.0)
        row[_COLUMN["is_last"]] = float(into_s + self._bar_s >= self._session_s)
        row[_COLUMN["weekday"]] = min(weekday, 4) / 2.0 - 1.0
        row[_COLUMN["is_monday"]] = float(weekday == 0)
        row[_COLUMN["is_friday"]] = float(weekday == 4)

    def _write_market(self, bar: Bar, row: NDArray[np.float64], ret_1: float, ret_7: float) -> None:
        lead = self._lead
        if lead is None:
            return
        at = _COLUMN["market_ret_1"]
        if bar.instrument == lead.instrument:
            lead.say(bar.ts_recv, ret_1, ret_7)
            row[at], row[at + 1] = ret_1, ret_7
        else:
            row[at], row[at + 1] = lead.heard(self._ts_recv, bar.ts_recv)

    def _write_head(self, bar: Bar, head: NDArray[np.void], mid2: int) -> None:
        flags = 0
        if mid2 > 0:
            flags = Flag.VALID if len(self._mid2s) > WINDOW else Flag.WARMING
        head["seq"] = self._seq
        head["ts_recv"] = bar.ts_recv
        head["ts_event"] = min(bar.ts_start + round(self._bar_s * NS_PER_S), bar.ts_recv)
        head["mid2"] = mid2
        head["spread"] = 0
        head["flags"] = flags
        head["kind"] = RowKind.BAR


def _range_bps(bar: Bar) -> float:
    high = max(bar.high, bar.open, bar.close)
    low = min(bar.low, bar.open, bar.close)
    return (high - low) / bar.close * BPS


def _close_in_range(bar: Bar) -> float:
    """Return where the close lies between low (-1) and high (+1); 0 for a bar without a range."""
    high = max(bar.high, bar.open, bar.close)
    low = min(bar.low, bar.open, bar.close)
    return (2.0 * bar.close - high - low) / (high - low) if high > low else 0.0


def _rms(squares: deque[float], n: int) -> float:
    """Return the root mean square of the last n returns in bps, at least the floor."""
    last = list(squares)[-n:]
    return max(sqrt(fsum(last) / len(last)), FLOOR_BPS) if last else FLOOR_BPS
