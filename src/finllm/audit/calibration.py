"""Calibration: is what was said also what happened, and how much of the gap is mere luck?

Bins have equal mass: they are cut at quantiles of each class's probability, so that equal
probabilities share a bin. Knows probabilities and labels; time enters only as each row's cell.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from finllm.audit.intervals import LEAST_FOR_INTERVAL, Blocks
from finllm.audit.rules import N_CLASSES, Floats, Ints, one_hot
from finllm.domain.forecast import LEVELS

MOST_BINS: Final = 10
ROWS_PER_BIN: Final = 10
"""Fewer independent rows than this to a bin, and there are fewer bins."""
_SIMULATIONS: Final = 64
_MOST_SIMULATED: Final = 4_000
"""Larger samples are simulated at this size; the error of a frequency falls with the root of n."""
_PIT_MASS: Final = np.diff([0.0, *LEVELS, 1.0])


@dataclass(frozen=True, slots=True)
class Bins:
    """The bin of each row by class, int64 [n, 3]."""

    of: Ints
    n_bins: int


def bins_of(p: Floats, n_eff: int) -> Bins:
    """Return equal-mass bins of probabilities [n, 3]: ten, or one for each ten effective rows."""
    n_bins = max(1, min(MOST_BINS, n_eff // ROWS_PER_BIN))
    cuts = len(p) * np.arange(1, n_bins) // n_bins
    columns = [np.searchsorted(np.sort(column)[cuts], column, side="right") for column in p.T]
    return Bins(np.stack(columns, axis=1), n_bins)


def gap_columns(p: Floats, label: Ints, bins: Bins, blocks: Blocks) -> Floats:
    """Return said less seen summed by cell, class and bin: float64 [n_cells, 3 * n_bins]."""
    gap = p - one_hot(label)
    size = blocks.n_cells * bins.n_bins
    columns = [
        np.bincount(blocks.cell * bins.n_bins + bins.of[:, i], weights=gap[:, i], minlength=size)
        for i in range(N_CLASSES)
    ]
    return np.concatenate([c.reshape(blocks.n_cells, bins.n_bins) for c in columns], axis=1)


def expected_error(gap_sums: Floats, n: Floats | float) -> Floats:
    """Return the ECE from said less seen summed by class and bin, last axis; mean over the classes.

    Source:
        Naeini, Cooper & Hauskrecht (2015), by class; equal-mass bins as in Nixon et al. (2019).
    """
    ece: Floats = np.abs(gap_sums).sum(axis=-1) / (N_CLASSES * n)
    return ece


def perfect_error(
    p: Floats, bins: Bins, n_eff: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the ECE that a perfect forecaster would show on `n_eff` independent rows: mean, 95 %.

    Labels are drawn from the probabilities themselves, on rows spread evenly over the sample.
    """
    n_drawn = min(n_eff, len(p), _MOST_SIMULATED)
    rows = np.linspace(0, len(p) - 1, n_drawn).astype(np.int64)
    said, bins_drawn = p[rows], bins.of[rows]
    chance = rng.random((_SIMULATIONS, n_drawn))
    label = (chance > said[:, 0]).astype(np.int8) + (chance > said[:, 0] + said[:, 1])
    sums = [
        (said[:, i] - (label == i)) @ np.eye(bins.n_bins)[bins_drawn[:, i]]
        for i in range(N_CLASSES)
    ]
    ece = expected_error(np.concatenate(sums, axis=1), n_drawn) * np.sqrt(n_drawn / n_eff)
    return float(ece.mean()), float(np.quantile(ece, 0.95))


def error_interval(ece: float, draws: Floats, n_blocks: int) -> tuple[float, float] | None:
    """Return the 95 % basic bootstrap interval of an ECE, never below zero.

    The basic interval mirrors the draws at the estimate, because resampling adds to an ECE the same
    upward bias that sampling did.
    """
    if n_blocks < LEAST_FOR_INTERVAL:
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return max(0.0, 2.0 * ece - float(high)), max(0.0, 2.0 * ece - float(low))


def murphy_parts(p: Floats, label: Ints, bins: Bins) -> tuple[float, float]:
    """Return reliability and resolution of the Brier score, summed over the classes.

    Source:
        Murphy (1973), "A new vector partition of the probability score".
    """
    seen = one_hot(label)
    reliability = resolution = 0.0
    for i in range(N_CLASSES):
        count = np.bincount(bins.of[:, i], minlength=bins.n_bins).astype(np.float64)
        filled = count > 0
        said_sum = np.bincount(bins.of[:, i], weights=p[:, i], minlength=bins.n_bins)
        seen_sum = np.bincount(bins.of[:, i], weights=seen[:, i], minlength=bins.n_bins)
        weight = count[filled] / len(p)
        rate = seen_sum[filled] / count[filled]
        said = said_sum[filled] / count[filled]
        reliability += float((weight * (said - rate) ** 2).sum())
        resolution += float((weight * (rate - seen[:, i].mean()) ** 2).sum())
    return reliability, resolution


def pit_mass(q: Floats, value: Floats) -> Floats:
    """Return which of the six cells that five quantiles cut each outcome fell in, float64 [n, 6].

    An outcome equal to one or more quantiles is spread over the cells that touch it, by their mass.

    Source:
        Gneiting, Balabdaoui & Raftery (2007); for ties Czado, Gneiting & Held (2009).
    """
    low = (q < value[:, None]).sum(axis=1)
    high = (q <= value[:, None]).sum(axis=1)
    cells = np.arange(len(_PIT_MASS))
    mass = np.where((low[:, None] <= cells) & (cells <= high[:, None]), _PIT_MASS, 0.0)
    share: Floats = mass / mass.sum(axis=1, keepdims=True)
    return share
