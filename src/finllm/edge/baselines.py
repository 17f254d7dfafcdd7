"""The three references that every claim is measured against, refitted as outcomes resolve.

Climatology (class frequencies, expanding; empirical quantiles of the remembered returns), a
zero-mean normal law on an exponentially weighted volatility, and a logistic on touch imbalance alone
(on bars on the last return). With them goes what sizes returns have within each class, by which class
probabilities imply quantiles. Each starts from the artifact's prior and is refitted on labels resolved
by then: a static reference would flatter any model that adapts. Knows nothing of the model.

Source:
    Dawid (1984), "Statistical theory: the prequential approach".
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS, Reference
from finllm.domain.units import NS_PER_S
from finllm.edge.artifact import HorizonPrior, Learning
from finllm.edge.fitting import fit_deviation, fit_three_way, fit_width, normal_tail
from finllm.edge.resolved import BAND, COLUMN, LABEL, RETURN, SCALE, Resolved, spacing_ns
from finllm.edge.sizes import FIRST, KNOTS, N_KNOTS, SEEN
from finllm.runtime.kernels import kernel

NORMAL: Final = (
    -1.2815515655446004,
    -0.6744897501960817,
    0.0,
    0.6744897501960817,
    1.2815515655446004,
)
"""Standard normal quantiles at `LEVELS`."""


def weight_of(prior: HorizonPrior, learning: Learning, apart_s: float = 0.0) -> float:
    """Return what one outcome counts for: outcomes that overlap share their weight.

    Args:
        prior: Of the horizon.
        learning: Of the artifact; forecasts are made on its grid.
        apart_s: Least time between two that are counted; 0 counts all.
    """
    steps = max(1, math.ceil(apart_s / learning.grid_s - 1e-9))
    return min(1.0, steps * learning.grid_s / prior.horizon.nominal_s)


def kept_weight(prior: HorizonPrior, learning: Learning) -> float:
    """Return what one remembered outcome counts for (see `finllm.edge.resolved`)."""
    return weight_of(prior, learning, spacing_ns(prior.horizon.ns) / NS_PER_S)


# What `refer` reads of one horizon, float64 [20]; behind it what `sizes.implied` reads, float64 [34].
CLIMATE, THETA, CLASS_SCALE, WIDTH_SCALE, SHARE, EMPIRICAL_Q, PRIOR_Q = 0, 3, 7, 8, 9, 10, 15
SIZES: Final = 20
# What it reads of one row, float64 [4].
COLUMN_X, UNIT_X, EWMA_X, BAND_X = range(4)


@kernel
def climatology_quantile(share: float, seen: float, first: float, unit_bps: float) -> float:
    """Return climatology's quantile, bps.

    Args:
        share: Weight of what was seen.
        seen: The remembered returns' quantile, bps.
        first: The prior's, in units of sigma * sqrt(horizon).
        unit_bps: The row's sigma * sqrt(horizon).
    """
    return share * seen + (1.0 - share) * first * unit_bps


@kernel
def refer(
    x: NDArray[np.float64],
    table: NDArray[np.float64],
    p: NDArray[np.float64],
    q: NDArray[np.float64],
) -> None:
    """Fill in what the three references say of each row.

    Args:
        x: float64 [n, 4]: baseline column; the row's sigma, and the EWMA's before its learnt scale,
            both times sqrt(horizon); half-width of the flat band; the last three in bps.
        table: float64 [20], what they have learnt of one horizon.
        p: float64 [n, 3, 3], filled: climatology, EWMA, imbalance.
        q: float64 [n, 2, 5], filled: quantiles of climatology and EWMA, bps.
    """
    for i in range(x.shape[0]):
        for j in range(3):
            p[i, 0, j] = table[j]
        tail = normal_tail(x[i, 3], x[i, 2] * table[7])
        p[i, 1, 0], p[i, 1, 1], p[i, 1, 2] = tail, 1.0 - 2.0 * tail, tail
        down = math.exp(max(-30.0, min(30.0, table[3] + table[4] * x[i, 0])))
        up = math.exp(max(-30.0, min(30.0, table[5] + table[6] * x[i, 0])))
        total = 1.0 + down + up
        p[i, 2, 0], p[i, 2, 1], p[i, 2, 2] = down / total, 1.0 / total, up / total
        for j in range(5):
            q[i, 0, j] = climatology_quantile(table[9], table[10 + j], table[15 + j], x[i, 1])
            q[i, 1, j] = x[i, 2] * table[8] * NORMAL[j]


class Baselines:
    """The three references of one instrument at every horizon.

    Args:
        priors: One per horizon.
        learning: Weights of the priors and of overlapping outcomes.
    """

    def __init__(self, priors: Sequence[HorizonPrior], learning: Learning) -> None:
        self._priors = tuple(priors)
        self._strength = learning.baseline_prior_n
        self._size_strength = learning.prior_n
        self._weights = [weight_of(prior, learning) for prior in priors]
        self._kept_weights = [kept_weight(prior, learning) for prior in priors]
        self._counts = np.zeros((len(priors), 3), dtype=np.int64)
        self.tables = np.array(
            [
                (
                    *prior.climatology,
                    *prior.baseline_logit,
                    prior.ewma_scale,
                    prior.ewma_scale,
                    0.0,
                    *(0.0,) * 5,
                    *prior.climatology_q,
                    *(0.0,) * FIRST,
                    *prior.move_sizes,
                    *prior.flat_sizes,
                )
                for prior in priors
            ]
        )
        """What was learnt as of the last refit, float64 [H, 54]; see `refer` and `sizes`."""
        self._x = np.zeros((1, 4))
        self._p, self._q = np.zeros((1, 3, 3)), np.zeros((1, 2, 5))

    def count(self, horizon: int, labels: NDArray[np.int64]) -> None:
        """Take in how many labels of each class resolved, int [3]; it shows from the next refit on."""
        self._counts[horizon] += labels

    def refit(self, resolved: Resolved) -> None:
        """Refit all three on what has resolved by now."""
        for horizon, prior in enumerate(self._priors):
            ring, n, _ = resolved.ring(horizon)
            if n:
                self._refit_frequencies(horizon, prior, ring[:n])
                self._refit_laws(horizon, prior, ring[:n])
                self._refit_sizes(horizon, ring[:n])

    def _refit_frequencies(
        self, horizon: int, prior: HorizonPrior, ring: NDArray[np.float32]
    ) -> None:
        table, strength = self.tables[horizon], self._strength
        counts = self._counts[horizon] * self._weights[horizon]
        mass = float(counts[0]) + float(counts[1]) + float(counts[2])
        for j in range(3):
            table[CLIMATE + j] = (strength * prior.climatology[j] + counts[j]) / (strength + mass)
        table[EMPIRICAL_Q : EMPIRICAL_Q + 5] = empirical_quantiles(ring[:, RETURN], LEVELS)
        table[SHARE] = mass / (strength + mass)

    def _refit_laws(self, horizon: int, prior: HorizonPrior, ring: NDArray[np.float32]) -> None:
        table, weight = self.tables[horizon], self._kept_weights[horizon]
        label = np.ascontiguousarray(ring[:, LABEL])
        unit = np.ascontiguousarray(ring[:, SCALE])
        fit_three_way(
            np.ascontiguousarray(ring[:, COLUMN]),
            label,
            weight,
            np.array(prior.baseline_logit),
            self._strength,
            table[THETA : THETA + 4],
        )
        band = np.ascontiguousarray(ring[:, BAND])
        table[CLASS_SCALE] = fit_deviation(
            label, band, unit, weight, prior.ewma_scale, self._strength
        )
        law = unit[:, None] * np.array(NORMAL, dtype=np.float32)[None, :]
        returns = np.ascontiguousarray(ring[:, RETURN])
        weights = np.full(len(ring), weight)
        table[WIDTH_SCALE] = fit_width(
            returns, law, weights, min(5.0, max(0.02, prior.ewma_scale)), self._strength
        )

    def _refit_sizes(self, horizon: int, ring: NDArray[np.float32]) -> None:
        sizes, weight = self.tables[horizon, SIZES:], self._kept_weights[horizon]
        size, is_flat = np.abs(ring[:, RETURN]), ring[:, LABEL] == 1.0
        for inside, seen in enumerate((size[~is_flat], size[is_flat])):
            if len(seen):
                mass = weight * len(seen)
                sizes[inside] = mass / (self._size_strength + mass)
                at = SEEN + inside * N_KNOTS
                sizes[at : at + N_KNOTS] = empirical_quantiles(seen, KNOTS)
        sizes[SEEN + N_KNOTS] = 0.0  # where a fall turns into a rise nothing may jump

    def reference(
        self, horizon: int, *, column: float, unit_bps: float, ewma_bps: float, band_bps: float
    ) -> Reference:
        """Return what the three say of one row.

        Args:
            horizon: Index of the horizon.
            column: Value of the baseline column.
            unit_bps: The row's sigma * sqrt(horizon).
            ewma_bps: The EWMA's sigma * sqrt(horizon), before its learnt scale.
            band_bps: Half-width of the flat band.
        """
        self._x[0] = column, unit_bps, ewma_bps, band_bps
        refer(self._x, self.tables[horizon], self._p, self._q)
        climatology, ewma, obi = self._p[0].tolist()
        climatology_q, ewma_q = self._q[0].tolist()
        return Reference(
            climatology=tuple(climatology),
            ewma=tuple(ewma),
            obi=tuple(obi),
            climatology_q=tuple(climatology_q),
            ewma_q=tuple(ewma_q),
        )


def empirical_quantiles(sample: NDArray[np.float32], levels: Sequence[float]) -> list[float]:
    """Return the quantiles of a sample at some levels, by linear interpolation of order statistics."""
    ordered = np.sort(sample)
    out = []
    for level in levels:
        at = level * (len(ordered) - 1)
        below = int(at)
        above = min(below + 1, len(ordered) - 1)
        low, high = float(ordered[below]), float(ordered[above])
        out.append(low + (at - below) * (high - low))
    return out
