"""How sure a score is: time blocks, their bootstrap, Diebold-Mariano, the effective n.

Forecasts issued every 100 ms about the next 5 s are nearly copies of each other, and instruments
move together. So rows are first summed over cells of time, jointly over instruments; blocks of four
cells are the unit that is resampled. Knows times and losses, nothing of what was forecast.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from finllm.audit.rules import Floats, Ints
from finllm.audit.scorecard import Finding, Interval
from finllm.domain.units import NS_PER_S

LEAST_BLOCK_NS: Final = 5 * NS_PER_S
HORIZONS_PER_BLOCK: Final = 3
STEPS_PER_BLOCK: Final = 5
"""Five bars on bars; on order books far less than five seconds."""
LEAST_BLOCKS: Final = 20
"""With fewer a result is tentative."""
LEAST_FOR_INTERVAL: Final = 5
"""With fewer an interval would only pretend."""
MOST_BLOCKS: Final = 100
"""With more data blocks grow longer: that costs no precision and covers slower dependence."""
CELLS_PER_BLOCK: Final = 4
SIGNIFICANT: Final = 0.05
_TAIL: Final = 0.025


@dataclass(frozen=True, slots=True)
class Blocks:
    """The cell of each row, int64 [n] from 0, every cell occupied."""

    cell: Ints
    n_cells: int
    block_s: float

    @property
    def n_blocks(self) -> int:
        """Return the number of whole blocks."""
        return self.n_cells // CELLS_PER_BLOCK

    @property
    def is_tentative(self) -> bool:
        """Return whether there are too few blocks for a result."""
        return self.n_blocks < LEAST_BLOCKS

    def sums(self, columns: Floats) -> Floats:
        """Return columns [n, k] summed by cell, float64 [n_cells, k]."""
        summed = [
            np.bincount(self.cell, weights=column, minlength=self.n_cells) for column in columns.T
        ]
        return np.stack(summed, axis=1)


def typical_step_ns(ts: Ints, instrument: Ints) -> float:
    """Return the median time between an instrument's forecasts; the longest over instruments.

    An instrument with fewer than five gaps only counts where no other has more: two lonely forecasts
    of it would set the length of everybody's blocks.
    """
    gaps = [np.diff(np.unique(ts[instrument == one])) for one in np.unique(instrument)]
    paced = [one for one in gaps if len(one) >= STEPS_PER_BLOCK] or [
        one for one in gaps if len(one)
    ]
    return max((float(np.median(one)) for one in paced), default=0.0)


def blocks_of(ts: Ints, horizon_ns: int, step_ns: float) -> Blocks:
    """Return the cells of rows issued at `ts`, int64 ns [n] in any order.

    A block lasts at least 5 s, three horizons and five steps. Time is trading time: a pause longer
    than a step (and than 1 s) counts as one step, so that nights and week-ends fill no block.
    """
    moments, row_moment = np.unique(ts, return_inverse=True)
    pace = np.minimum(np.diff(moments), max(step_ns, float(NS_PER_S)))
    trading = np.concatenate([[0.0], np.cumsum(pace)])
    span = trading[-1] + step_ns
    block_ns = max(
        LEAST_BLOCK_NS,
        HORIZONS_PER_BLOCK * horizon_ns,
        STEPS_PER_BLOCK * step_ns,
        span / MOST_BLOCKS,
    )
    slot = np.floor(trading / (block_ns / CELLS_PER_BLOCK) + 1e-9).astype(np.int64)
    occupied, cell = np.unique(slot, return_inverse=True)
    return Blocks(cell[row_moment], len(occupied), float(block_ns) / NS_PER_S)


def draw_runs(n_cells: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Return how often each run of four cells is drawn: float64 [resamples, n_cells].

    Circular moving blocks: every run of four cells, round the end, is equally likely.

    Source:
        Kunsch (1989); Politis & Romano (1992), "A circular block-resampling procedure".
    """
    n_drawn = max(1, round(n_cells / CELLS_PER_BLOCK))
    drawn = rng.integers(n_cells, size=(resamples, n_drawn))
    drawn += n_cells * np.arange(resamples)[:, None]
    times = np.bincount(drawn.ravel(), minlength=resamples * n_cells)
    return times.reshape(resamples, n_cells).astype(np.float64)


def resample(sums: Floats, runs: Floats) -> Floats:
    """Return totals [resamples, k] of cell sums [n_cells, k] over the runs drawn."""
    length = min(CELLS_PER_BLOCK, len(sums))
    upto = np.concatenate([np.zeros((1, sums.shape[1])), sums, sums[: length - 1]]).cumsum(axis=0)
    totals: Floats = runs @ (upto[length:] - upto[:-length])
    return totals


def percentile_interval(draws: Floats, n_blocks: int) -> Interval | None:
    """Return the 95 % interval of resampled values [resamples], widened for few blocks.

    None with fewer than five blocks.

    Source:
        Hesterberg (2015), "What teachers should know about the bootstrap", expanded percentiles.
    """
    if n_blocks < LEAST_FOR_INTERVAL or not np.isfinite(draws).all():
        return None
    from scipy.special import ndtr, stdtrit

    widened = np.sqrt(n_blocks / (n_blocks - 1)) * stdtrit(n_blocks - 1, _TAIL)
    tail = float(ndtr(widened))
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def hac_variance(residual: Floats, lags: int) -> float:
    """Return the variance of the *sum* of a series [T] of mean zero, Bartlett weights.

    Source:
        Newey & West (1987).
    """
    total = float(residual @ residual)
    for lag in range(1, min(lags, len(residual) - 1) + 1):
        weight = 1.0 - lag / (lags + 1.0)
        total += 2.0 * weight * float(residual[lag:] @ residual[:-lag])
    return total


def lags_of(n_cells: int) -> int:
    """Return the lags, in cells: a block, or more on long series by the usual 4 (T / 100)^(2/9)."""
    return max(CELLS_PER_BLOCK, int(4.0 * (n_cells / 100.0) ** (2.0 / 9.0)))


def diebold_mariano(difference: Floats, count: Floats) -> float | None:
    """Return the two-sided p-value of equal mean loss; None where it cannot be had.

    Args:
        difference: float64 [n_cells], loss differences summed by cell, jointly over instruments.
        count: float64 [n_cells], rows in each cell.

    Source:
        Diebold & Mariano (1995); small-sample factor and Student's law of Harvey, Leybourne &
        Newbold (1997), equation 9, with cells as periods and a block's cells as the steps ahead.
    """
    n_cells = len(difference)
    mean = difference.sum() / count.sum()
    variance = hac_variance(difference - mean * count, lags_of(n_cells))
    ahead = CELLS_PER_BLOCK
    shrink = (n_cells + 1 - 2 * ahead + ahead * (ahead - 1) / n_cells) / n_cells
    if n_cells <= 2 * ahead or variance <= 0.0:
        return None
    from scipy.special import stdtr

    statistic = difference.sum() / np.sqrt(variance) * np.sqrt(shrink)
    return float(2.0 * stdtr(n_cells - 1, -abs(statistic)))


def finding_of(interval: Interval | None, p_value: float | None) -> Finding:
    """Return better or worse only where the interval and Diebold-Mariano agree at 5 %."""
    if interval is None or p_value is None or p_value >= SIGNIFICANT:
        return Finding.INCONCLUSIVE
    if interval[0] > 0.0:
        return Finding.BETTER
    return Finding.WORSE if interval[1] < 0.0 else Finding.INCONCLUSIVE


def disjoint(ts: Ints, ts_end: Ints) -> int:
    """Return how many forecasts can be picked, earliest first, whose targets do not overlap.

    Args:
        ts: int64 [n], issue times of one instrument and horizon, never decreasing.
        ts_end: int64 [n], when each target was over and known.
    """
    following = np.maximum(np.searchsorted(ts, ts_end), np.arange(len(ts)) + 1).tolist()
    row = picked = 0
    while row < len(following):
        picked += 1
        row = following[row]
    return picked


def effective_n(n_disjoint: int, variance: float, draws: Floats, blocks: Blocks) -> int:
    """Return the number of independent forecasts that a sample is worth: the smaller of two counts.

    One is the count of forecasts whose targets do not overlap (summed over instruments); the other,
    with enough blocks to tell, is the variance of a single loss over the bootstrap variance of its
    mean, which also sees dependence between instruments and slow dependence in time.

    Args:
        n_disjoint: The first count.
        variance: Variance of the loss over rows.
        draws: float64 [resamples], resampled mean losses.
        blocks: The blocks behind the draws.
    """
    spread = float(draws.var())
    if blocks.is_tentative or spread <= 0.0:
        return n_disjoint
    return max(1, min(n_disjoint, int(variance / spread)))
