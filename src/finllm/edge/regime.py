"""Calm, active or stressed: a fast volatility against a slow one, with hysteresis, O(1) per row.

Both are exponentially weighted sums of squared mid returns in clock time, as bps^2 per second. The
ratio says whether the market moves more than it lately did; two thresholds a side keep it from
flapping. The same fast volatility is what the EWMA baseline stands on. Knows nothing of models.

Source:
    RiskMetrics Technical Document (1996), section 5.2, exponential weights; in continuous time.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.edge.artifact import RegimeRule
from finllm.runtime.kernels import kernel

CALM: Final = 0
ACTIVE: Final = 1
STRESSED: Final = 2
NAMES: Final = ("calm", "active", "stressed")

FAST, SLOW, FAST_MASS, SLOW_MASS, RATIO = 0, 1, 2, 3, 4
FAST_S, SLOW_S, ROW_S, RISE_0, RISE_1, FALL_0, FALL_1 = 5, 6, 7, 8, 9, 10, 11
MOTION_SIZE: Final = 12
TS, MID2, STATE = 0, 1, 2
"""Offsets into the integer state: last time, last doubled mid (0 = none), regime."""
LEAST_MASS: Final = 0.3
"""Share of the slow window that must have passed before the ratio is believed."""


def motion_of(rule: RegimeRule) -> NDArray[np.float64]:
    """Return a fresh volatility state for `watch`, float64 [12]."""
    motion = np.zeros(MOTION_SIZE)
    motion[RATIO] = 1.0
    motion[FAST_S:] = (rule.fast_s, rule.slow_s, rule.row_s, *rule.rise, *rule.fall)
    return motion


@kernel
def watch(
    ts: int,
    mid2: int,
    is_good: bool,  # noqa: FBT001 - a kernel
    motion: NDArray[np.float64],
    marks: NDArray[np.int64],
) -> None:
    """Take in one row's mid and time; update volatilities, their ratio and the regime.

    Args:
        ts: Receive time, ns.
        mid2: Doubled mid; 0 = unknown.
        is_good: Whether the book behind it is to be trusted. A jump over a bad stretch counts as
            no return.
        motion: float64 [12], state and constants.
        marks: int64, time, mid and regime at offsets 0 to 2.
    """
    if not is_good or mid2 <= 0:
        marks[1] = 0
        return
    if marks[0] > 0:
        passed = motion[7] if motion[7] > 0.0 else max(0.0, (ts - marks[0]) * 1e-9)
        move = (mid2 / marks[1] - 1.0) * 1e4 if marks[1] > 0 else 0.0
        for i in range(2):
            fade = math.exp(-passed / motion[5 + i])
            motion[i] = motion[i] * fade + move * move / motion[5 + i]
            motion[2 + i] = motion[2 + i] * fade + (1.0 - fade)
    marks[0] = ts
    marks[1] = mid2
    if motion[3] < LEAST_MASS or motion[1] <= 0.0:
        return
    ratio = math.sqrt(motion[0] / motion[2] * motion[3] / motion[1])
    motion[4] = ratio
    state = marks[2]
    if state < 2 and ratio > motion[8 + state]:
        marks[2] = state + 1
    elif state > 0 and ratio < motion[9 + state]:
        marks[2] = state - 1


def sigma_ewma(motion: NDArray[np.float64]) -> float:
    """Return the fast volatility in bps per root second; 0 before the first return."""
    mass = float(motion[FAST_MASS])
    return math.sqrt(float(motion[FAST]) / mass) if mass > 0.0 else 0.0
