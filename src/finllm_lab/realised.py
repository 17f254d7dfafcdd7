"""What a price's volatility turned out to be, from the bars themselves: the proxy that forecasts are held to.

One bar's variance is the square of the gap from the close before, plus Parkinson's of high and low: it is
unbiased for a walk without drift and several times less noisy than a squared return, so that a ranking by
QLIKE is that of the true variances (Patton 2011).

Source:
    Parkinson (1980), "The extreme value method for estimating the variance of the rate of return".
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import Bar
from finllm.domain.units import BPS

LEAST_BPS: Final = 0.5
"""A bar that did not move counts as having moved this much: QLIKE has no value at nought."""


def log_range(bar: Bar) -> float:
    """Return ln(high / low) of a bar, nothing below half a basis point."""
    return max(math.log(bar.high / bar.low), LEAST_BPS / BPS)


def log_ranges(bars: Sequence[Bar]) -> NDArray[np.float64]:
    """Return the log of each bar's ln(high / low), float64 [n]."""
    return np.log([log_range(bar) for bar in bars])


def variance(before: Bar, bar: Bar) -> float:
    """Return a bar's realised variance from the close before it, bps squared."""
    gap = math.log(bar.open / before.close)
    return (gap * gap + log_range(bar) ** 2 / (4.0 * math.log(2.0))) * BPS * BPS


def variances(bars: Sequence[Bar]) -> NDArray[np.float64]:
    """Return each bar's realised variance, bps squared, float64 [n]; not a number for the first."""
    found = [variance(before, bar) for before, bar in pairwise(bars)]
    return np.array([math.nan, *found]) if bars else np.zeros(0)
