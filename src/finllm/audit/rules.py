"""Proper scoring rules on arrays: what one forecast of one thing that happened is worth.

All are losses: lower is better, and the expected loss is least where the forecast is the truth.
Knows nothing of records, time or baselines.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

P_LEAST: Final = 1e-9
"""A probability below this is scored as this: one impossible thing that happens costs 20.7 nats."""
N_CLASSES: Final = 3
_LEVELS: Final = np.array(LEVELS)


def log_score(p: Floats, label: Ints) -> Floats:
    """Return the negative log likelihood in nats, float64 [n].

    Args:
        p: float64 [n, 3], p_down, p_flat, p_up.
        label: int64 [n], 0 down, 1 flat, 2 up.

    Source:
        Good (1952); Gneiting & Raftery (2007), section 4.1.
    """
    hit = np.take_along_axis(p, label[:, None], axis=1)[:, 0]
    scored: Floats = -np.log(np.maximum(hit, P_LEAST))
    return scored


def ranked_score(p: Floats, label: Ints) -> Floats:
    """Return the ranked probability score of three ordered classes, float64 [n], 0 to 2.

    The sum (not the mean) of the squared differences of the cumulative probabilities.

    Source:
        Epstein (1969), "A scoring system for probability forecasts of ranked categories".
    """
    below = np.cumsum(p[:, :2], axis=1)
    happened = label[:, None] <= np.arange(2)
    scored: Floats = ((below - happened) ** 2).sum(axis=1)
    return scored


def brier_score(p: Floats, label: Ints) -> Floats:
    """Return the squared error summed over the three classes, float64 [n], 0 to 2.

    Source:
        Brier (1950), equation 2.
    """
    scored: Floats = ((p - one_hot(label)) ** 2).sum(axis=1)
    return scored


def one_hot(label: Ints) -> Floats:
    """Return labels as float64 [n, 3] of zeros and ones."""
    return np.eye(N_CLASSES)[label]


def quantile_crps(q: Floats, value: Floats) -> Floats:
    """Return the CRPS as twice the mean pinball loss over the five stated levels, float64 [n].

    Args:
        q: float64 [n, 5], quantiles at `LEVELS`, bps.
        value: float64 [n], what happened, bps.

    Source:
        Gneiting & Ranjan (2011), equation 5; Berrisch & Ziel (2023) for the factor of two.
    """
    short = value[:, None] - q
    loss = np.where(short >= 0.0, _LEVELS * short, (_LEVELS - 1.0) * short)
    scored: Floats = 2.0 * loss.mean(axis=1)
    return scored


def is_covered(q: Floats, value: Floats) -> Floats:
    """Return 1 where the value lies in the central 80 % interval or on its ends, float64 [n]."""
    return ((q[:, 0] <= value) & (value <= q[:, 4])).astype(np.float64)


def width(q: Floats) -> Floats:
    """Return the width of the central 80 % interval in bps, float64 [n]."""
    spread: Floats = q[:, 4] - q[:, 0]
    return spread


def ranked_rightly(signal: Floats, is_up: NDArray[np.bool_]) -> Floats:
    """Return the share of the other class against which each row is ranked rightly, float64 [n].

    A tie counts half. The mean over either class is the AUC; both classes must occur.

    Source:
        DeLong, DeLong & Clarke-Pearson (1988), structural components.
    """
    share = np.empty(len(signal))
    for own, sign in ((is_up, 1.0), (~is_up, -1.0)):
        others = np.sort(sign * signal[~own])
        mine = sign * signal[own]
        below = np.searchsorted(others, mine, side="left")
        upto = np.searchsorted(others, mine, side="right")
        share[own] = (below + upto) / (2.0 * len(others))
    return share


def matthews(said: Ints, label: Ints) -> float | None:
    """Return the multi-class correlation of what was said with the label; None if undefined.

    Source:
        Matthews (1975); Gorodkin (2004), equation 8, for more than two classes.
    """
    table = confusion(said, label)
    n = table.sum()
    by_said, by_label = table.sum(axis=0), table.sum(axis=1)
    spread = (n * n - (by_said**2).sum()) * (n * n - (by_label**2).sum())
    if spread <= 0.0:
        return None
    return float((n * np.trace(table) - by_said @ by_label) / np.sqrt(spread))


def macro_f1(said: Ints, label: Ints) -> float:
    """Return the mean F1 over the classes that occur in the labels or in what was said."""
    table = confusion(said, label)
    marks = table.sum(axis=0) + table.sum(axis=1)
    seen = marks > 0
    return float((2.0 * np.diag(table)[seen] / marks[seen]).mean())


def confusion(said: Ints, label: Ints) -> Floats:
    """Return counts float64 [3, 3]: rows are labels, columns what was said."""
    cells = np.bincount(label * N_CLASSES + said, minlength=N_CLASSES**2)
    return cells.reshape(N_CLASSES, N_CLASSES).astype(np.float64)
