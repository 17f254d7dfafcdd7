"""How far a minute's price will range, from ranges seen before and the clock alone: the edge's part, no text.

Log ranges regressed on their own averages of different reach (Corsi 2009, "A simple approximate long-memory
model of realized volatility") and on where in the session the minute lies, fitted anew each day on the days
before. Knows nothing of documents.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import Bar
from finllm.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from finllm.market.bars import NEW_YORK
from finllm_lab.realised import log_range

Floats = NDArray[np.float64]
HALF_LIVES_NS: Final = (NS_PER_DAY, 4 * NS_PER_DAY)
LAST_NS: Final = 30 * NS_PER_MIN
"""How fast what the last minute seen did is forgotten."""
LEAST_SEEN: Final = 50
"""Minutes before the first fit."""
RIDGE: Final = 0.1


def predicted(bars: Sequence[Bar]) -> Floats:
    """Return the log range foreseen for each bar from earlier ones, float64 [n]; nan before a fit."""
    y = np.array([np.log(log_range(bar)) for bar in bars])
    ends = np.array([bar.ts_recv for bar in bars], dtype=np.int64)
    x = np.array([_inputs(bars, y, ends, i) for i in range(len(bars))])
    day = ends // NS_PER_DAY
    found = np.full(len(bars), np.nan)
    for one in np.unique(day):
        seen, now = day < one, day == one
        if seen.sum() >= LEAST_SEEN:
            found[now] = x[now] @ _fitted(x[seen], y[seen])
    return found


def _inputs(bars: Sequence[Bar], y: Floats, ends: NDArray[np.int64], i: int) -> list[float]:
    """Return what is known of a bar as it begins."""
    start = bars[i].ts_start
    n = int(np.searchsorted(ends, start, side="right"))
    ages = (start - ends[:n]).astype(np.float64)
    means = [float(np.average(y[:n], weights=_weights(ages, life))) for life in HALF_LIVES_NS if n]
    last = float((y[n - 1] - means[-1]) * _weights(ages[-1:], LAST_NS)[0]) if n else 0.0
    return [1.0, *(means or [0.0] * len(HALF_LIVES_NS)), last, *_clock(start)]


def _weights(ages: Floats, half_life_ns: int) -> Floats:
    weights: Floats = 0.5 ** (ages / half_life_ns)
    return weights + 1e-12


def _clock(start: int) -> tuple[float, float, float]:
    """Return how near the open and the close of the session in New York a minute is."""
    at = datetime.fromtimestamp(start // NS_PER_S, UTC).astimezone(NEW_YORK)
    since_open = at.hour * 60 + at.minute - 570
    return (
        float(np.exp(-max(0, since_open) / 15.0)),
        float(np.exp(-max(0, since_open) / 60.0)),
        max(0.0, (since_open - 330) / 60.0),
    )


def _fitted(x: Floats, y: Floats) -> Floats:
    penalty = np.full(x.shape[1], RIDGE)
    penalty[0] = 0.0
    return np.asarray(np.linalg.solve(x.T @ x + np.diag(penalty + 1e-9), x.T @ y), np.float64)
