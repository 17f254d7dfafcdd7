"""How far a minute's price will range: from earlier ranges, the clock and its open, and from its first post.

A log range is a constant, what the market is like this fortnight and this hour, what the clock adds, a share
of how far the open lies from the last close, where texts are given a weight for each of their words, and
noise. All are Gaussian with deviations fixed beforehand; what is foreseen is the mean given the ranges
before. Knows nothing of where bars and texts come from.

Source:
    Rasmussen & Williams (2006), "Gaussian Processes for Machine Learning", eq. 2.25; several speeds of
    forgetting after Corsi (2009), "A simple approximate long-memory model of realized volatility".
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from finllm.domain.market import Bar
from finllm.domain.units import BPS, NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from finllm.market.bars import NEW_YORK
from finllm.narrative.reading.features import tokens
from finllm.narrative.text.canonical import canonical_text
from finllm_lab.realised import log_ranges

Floats = NDArray[np.float64]
LEAST_SEEN: Final = 50
"""Minutes before the first that is foreseen."""
USUAL: Final = -7.5
"""About what a minute of SPY ranges, in logs; the constant is learnt, so it hardly matters."""
CONSTANT: Final = 3.0
LEVELS: Final = ((0.5, 14.0), (0.3, 1.0 / 24.0))
"""Deviation of each level and the days in which it is forgotten."""
CLOCK: Final = np.array([0.7, 0.7, 0.5, 0.5])
"""Deviations of what a quarter and an hour after the open, the last hour, and full and half hours add."""
MOVE: Final = 0.2
WORD: Final = 0.05
"""Deviations of the weights of the open's move and of a word. All are round figures near the likeliest of
posts to 2025-04-28 (docs/lab-log.md, 2026-11-22, "Ranges of posts' minutes, a third time")."""
NOISE: Final = 0.35
"""Of a minute's log range about the one to be expected: 0.3 for a walk, a little more in prices."""


def predicted(bars: Sequence[Bar], texts: Sequence[str] | None = None) -> Floats:
    """Return the log range foreseen for each bar from earlier ones, float64 [n]; nan for the first.

    Of the bar itself only its start, its open and its text are read.

    Args:
        bars: One instrument's, in order; none begins before the last is over.
        texts: The first post of each, empty where there is none. None = as the bar opens, without a word.
    """
    y = log_ranges(bars) - USUAL
    expected = _linear(_inputs(bars), np.array([CONSTANT, *CLOCK, MOVE])) + _levels(bars)
    if texts is not None:
        expected += _linear(_words(texts), WORD)
    root = np.linalg.cholesky(expected + NOISE**2 * np.eye(len(bars)))
    surprise = solve_triangular(root, y, lower=True)
    found: Floats = USUAL + np.tril(root, -1) @ surprise
    found[:LEAST_SEEN] = np.nan
    return found


def _linear(x: Floats, deviation: Floats | float) -> Floats:
    """Return the covariances [n, n] of sums of columns [n, k], whose weights have these deviations."""
    scaled = x * deviation
    return np.asarray(scaled @ scaled.T, np.float64)


def _levels(bars: Sequence[Bar]) -> Floats:
    """Return the covariances [n, n] of levels that are forgotten with time."""
    days = np.array([bar.ts_start / NS_PER_DAY for bar in bars])
    apart = np.abs(days[:, None] - days)
    covariances = [sd**2 * np.exp(-apart / forgotten) for sd, forgotten in LEVELS]
    return np.asarray(sum(covariances), np.float64)


def _inputs(bars: Sequence[Bar]) -> Floats:
    """Return what is known of bars as they open, [n, 6]: one, the clock's four, and the open's move."""
    moves = [0.0, *(_move(before, bar) for before, bar in pairwise(bars))]
    return np.array(
        [(1.0, *_clock(bar.ts_start), move) for bar, move in zip(bars, moves, strict=True)]
    )


def _clock(start: int) -> tuple[float, float, float, float]:
    """Return how near New York's open and close a minute is, and whether it begins a half hour."""
    at = datetime.fromtimestamp(start // NS_PER_S, UTC).astimezone(NEW_YORK)
    since_open = max(0, at.hour * 60 + at.minute - 570)
    return (
        float(np.exp(-since_open / 15.0)),
        float(np.exp(-since_open / 60.0)),
        max(0.0, (since_open - 330) / 60.0),
        float(at.minute % 30 == 0),
    )


def _move(before: Bar, bar: Bar) -> float:
    """Return how far a bar opens from the last close, in logs, against what is usual after such a time."""
    hours = (bar.ts_start - before.ts_recv) / NS_PER_HOUR
    usual_bps = 2.0 + 3.0 * np.sqrt(min(max(hours, 0.0), 7.0))
    return float(np.log((abs(np.log(bar.open / before.close)) * BPS + 1.0) / usual_bps))


def _words(texts: Sequence[str]) -> Floats:
    """Return which words stand in which text, 0 or 1, [n, words]."""
    found = [set(tokens(canonical_text(text))) for text in texts]
    column = {word: i for i, word in enumerate(sorted(set().union(*found)))}
    stands = np.zeros((len(texts), len(column)))
    for row, words in enumerate(found):
        stands[row, [column[word] for word in words]] = 1.0
    return stands
