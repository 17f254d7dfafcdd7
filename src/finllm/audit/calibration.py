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


NOMINAL_COVERAGE: Final = LEVELS[-1] - LEVELS[0]


def share_by_luck(share: Floats | float, n_eff: Floats | float) -> tuple[Floats, Floats]:
    """Return where a frequency lies 95 % of the time, if `share` is true and `n_eff` rows are drawn.

    The quantiles of the binomial law, divided by n; fewer than one row counts as one.
    """
    n = np.maximum(1.0, np.floor(np.asarray(n_eff, np.float64)))
    p = np.clip(np.asarray(share, np.float64), 0.0, 1.0)
    return _binomial_quantile(0.025, n, p) / n, _binomial_quantile(0.975, n, p) / n


def _binomial_quantile(level: float, n: Floats, p: Floats) -> Floats:
    """Return the least count whose cumulative probability reaches the level, n at most."""
    from scipy.special import bdtr, bdtrik  # a tenth of the time that scipy.stats takes to load

    with np.errstate(invalid="ignore"):
        above = np.clip(np.ceil(np.nan_to_num(bdtrik(level, n, p))), 0.0, n)
    below = np.maximum(above - 1.0, 0.0)
    found: Floats = np.where(bdtr(below, n.astype(np.int64), p) >= level, below, above)
    return np.where(p >= 1.0, n, found)


@dataclass(frozen=True, slots=True)
class Curve:
    """One class's reliability: by bin what was said and seen, and where luck alone would put it."""

    said: Floats
    """float64 [bins], mean probability."""
    seen: Floats
    """float64 [bins], frequency."""
    count: Floats
    low: Floats
    """float64 [bins], lower end of the consistency band at the bin's share of the effective rows."""
    high: Floats


def reliability_curves(p: Floats, label: Ints, bins: Bins, n_eff: int) -> tuple[Curve, ...]:
    """Return the reliability of each class, empty bins left out.

    Source:
        Brocker & Smith (2007), "Increasing the reliability of reliability diagrams", with the binomial
        law in place of resampling, on effective rows.
    """
    seen = one_hot(label)
    curves = []
    for i in range(N_CLASSES):
        count = np.bincount(bins.of[:, i], minlength=bins.n_bins).astype(np.float64)
        filled = count > 0
        said_sum = np.bincount(bins.of[:, i], weights=p[:, i], minlength=bins.n_bins)
        seen_sum = np.bincount(bins.of[:, i], weights=seen[:, i], minlength=bins.n_bins)
        count, said = count[filled], said_sum[filled] / count[filled]
        low, high = share_by_luck(said, count * n_eff / len(p))
        curves.append(Curve(said, seen_sum[filled] / count, count, low, high))
    return tuple(curves)
