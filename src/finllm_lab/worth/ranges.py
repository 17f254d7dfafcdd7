"""How far a minute's price will range, from earlier ranges, the clock and its open: the edge's part, no text.

The clock's part is fitted within days, so that a wild month does not pass for a wild hour. What is left of
log ranges is regressed on its mean of late, the last one, today's, and how far the open lies from the last
close seen, pulled towards "as the mean of late"; both anew each day on the days before. Knows nothing of
documents.

Source:
    Corsi (2009), "A simple approximate long-memory model of realized volatility".
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import Bar
from finllm.domain.units import BPS, NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from finllm.market.bars import NEW_YORK
from finllm_lab.realised import log_range

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HALF_LIFE_NS: Final = NS_PER_DAY
LAST_NS: Final = 30 * NS_PER_MIN
"""How fast what the last minute seen did is forgotten."""
LEAST_SEEN: Final = 50
"""Minutes before the first fit."""
FIRST: Final = 30
"""Minutes whose mean of late rests on too few to be learnt from."""
RIDGE_CLOCK: Final = 3.0
RIDGE: Final = 30.0
AS_OF_LATE: Final = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
"""What the coefficients are pulled towards: the mean of late, and nothing else."""


def predicted(bars: Sequence[Bar]) -> Floats:
    """Return the log range foreseen for each bar from earlier ones, float64 [n]; nan before a fit.

    Of the bar itself only its start and its open are read.
    """
    y = np.array([np.log(log_range(bar)) for bar in bars])
    clock = np.array([_clock(bar.ts_start) for bar in bars])
    day = np.array([bar.ts_start // NS_PER_DAY for bar in bars], dtype=np.int64)
    found = np.full(len(bars), np.nan)
    for one in np.unique(day):
        seen, now = np.flatnonzero(day < one), np.flatnonzero(day == one)
        if len(seen) < LEAST_SEEN:
            continue
        slope = _clock_slope(clock[seen], y[seen], day[seen])
        plain = y - clock @ slope
        known = np.array([_inputs(bars, plain, day, int(i)) for i in seen[FIRST:]])
        weights = _pulled(known, plain[seen[FIRST:]])
        asked = np.array([_inputs(bars, plain, day, int(i)) for i in now])
        found[now] = asked @ weights + clock[now] @ slope
    return found


def _clock(start: int) -> tuple[float, float, float]:
    """Return how near the open and the close of the session in New York a minute is."""
    at = datetime.fromtimestamp(start // NS_PER_S, UTC).astimezone(NEW_YORK)
    since_open = max(0, at.hour * 60 + at.minute - 570)
    return (
        float(np.exp(-since_open / 15.0)),
        float(np.exp(-since_open / 60.0)),
        max(0.0, (since_open - 330) / 60.0),
    )


def _clock_slope(clock: Floats, y: Floats, day: Ints) -> Floats:
    """Return what the clock adds, from differences within days alone."""
    _, at = np.unique(day, return_inverse=True)
    n = np.bincount(at)
    x = clock - np.stack([np.bincount(at, column) / n for column in clock.T], axis=1)[at]
    left = y - (np.bincount(at, y) / n)[at]
    return np.asarray(np.linalg.solve(x.T @ x + RIDGE_CLOCK * np.eye(3), x.T @ left), np.float64)


def _inputs(bars: Sequence[Bar], plain: Floats, day: Ints, i: int) -> tuple[float, ...]:
    """Return what is known of a bar as it opens: one, mean of late, last, today, move of the open."""
    start = bars[i].ts_start
    n = i
    while n > 0 and bars[n - 1].ts_recv > start:
        n -= 1
    if n == 0:
        return 1.0, 0.0, 0.0, 0.0, 0.0
    ages = np.array([start - bar.ts_recv for bar in bars[:n]], dtype=np.float64)
    late = float(np.average(plain[:n], weights=0.5 ** (ages / HALF_LIFE_NS) + 1e-12))
    last = float((plain[n - 1] - late) * 0.5 ** (ages[-1] / LAST_NS))
    of_today = plain[:n][day[:n] == day[i]]
    today = float((of_today - late).sum() / (len(of_today) + 2))
    moved = abs(np.log(bars[i].open / bars[n - 1].close)) * BPS
    usual = 2.0 + 3.0 * np.sqrt(min(ages[-1] / NS_PER_HOUR, 7.0))
    return 1.0, late, last, today, float(np.log((moved + 1.0) / usual))


def _pulled(x: Floats, y: Floats) -> Floats:
    """Return the coefficients of a regression pulled towards `AS_OF_LATE`; the constant is free."""
    penalty = np.full(x.shape[1], RIDGE)
    penalty[0] = 1e-9
    left = y - x @ AS_OF_LATE
    return np.asarray(
        AS_OF_LATE + np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ left), np.float64
    )
