"""How far the price has come over several windows, as evidence that a reasoner may cite.

Together the windows are a coarse path of the mid: what it did before and after something was said can
be read off it. Knows nothing of features; keeps the mids of the longest window.
"""

import math
from bisect import bisect_right
from typing import Final

from finllm.domain.evidence import Evidence
from finllm.domain.units import BPS, NS_PER_S
from finllm.features.observations import observation

_MEMORY: Final = 600
"""Samples over which the volatility forgets: a minute on a 100 ms grid."""


class Moves:
    """The mid of one instrument over the last while.

    Args:
        instrument: Instrument key.
        windows_s: Windows in whole seconds, shortest first; none = nothing is kept.
    """

    def __init__(self, instrument: str, windows_s: tuple[int, ...]) -> None:
        self._instrument = instrument
        self._windows_s = windows_s
        self._reach_ns = windows_s[-1] * NS_PER_S if windows_s else 0
        self._ts: list[int] = []
        self._log_mid: list[float] = []
        self._n = 0
        self._variance = 0.0
        """Of a second's return, bps squared."""

    def push(self, ts: int, mid2: int) -> None:
        """Take one mid, given as twice the mid in ticks; nothing unless it is above zero and later."""
        if not self._windows_s or mid2 <= 0 or (self._ts and ts <= self._ts[-1]):
            return
        log_mid = math.log(mid2)
        if self._ts:
            step = BPS * (log_mid - self._log_mid[-1])
            rate = step * step / ((ts - self._ts[-1]) / NS_PER_S)
            self._n += 1
            self._variance += max(1.0 / self._n, 1.0 / _MEMORY) * (rate - self._variance)
        self._ts.append(ts)
        self._log_mid.append(log_mid)
        if len(self._ts) > 4 * _MEMORY:
            self._forget(ts)

    def observations(self, ts: int, mid2: int) -> tuple[Evidence, ...]:
        """Return the move over each window that is known in full, in bps, known at `ts`.

        The z-score is the move over the volatility of the last minute times the root of the window.
        """
        if mid2 <= 0:
            return ()
        found = []
        for window_s in self._windows_s:
            move = self._move(window_s, ts, mid2)
            if move is None:
                break
            value, usual = move
            found.append(
                observation(
                    self._instrument,
                    f"move_{window_s}s",
                    ts,
                    value,
                    spread=usual,
                    deviation=value,
                    unit="bps",
                    window_ns=window_s * NS_PER_S,
                )
            )
        return tuple(found)

    def z(self, window_s: int, ts: int, mid2: int) -> float:
        """Return the z-score of the move over a window; 0 where it is not known."""
        move = self._move(window_s, ts, mid2) if mid2 > 0 else None
        if move is None or move[1] <= 0.0:
            return 0.0
        return move[0] / move[1]

    def _move(self, window_s: int, ts: int, mid2: int) -> tuple[float, float] | None:
        """Return the move over a window and its usual size, bps; None where it is not known in full."""
        at = bisect_right(self._ts, ts - window_s * NS_PER_S) - 1
        if at < 0:
            return None
        value = BPS * (math.log(mid2) - self._log_mid[at])
        return value, math.sqrt(self._variance * window_s)

    def _forget(self, now: int) -> None:
        """Drop what lies before the longest window, but for the last mid before it."""
        first = max(0, bisect_right(self._ts, now - self._reach_ns) - 1)
        del self._ts[:first], self._log_mid[:first]
