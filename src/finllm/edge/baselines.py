"""The three references that every claim is measured against, refitted as outcomes resolve.

Climatology (class frequencies, expanding; empirical quantiles of the last 4,096 returns), a
zero-mean normal law on an exponentially weighted volatility, and a logistic on touch imbalance alone
(on bars on the last return). Each starts from the artifact's prior and is refitted on labels resolved
by then: a static reference would flatter any model that adapts. Knows nothing of the model.

Source:
    Dawid (1984), "Statistical theory: the prequential approach".
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS, Quantiles, Reference, Triple
from finllm.edge.artifact import HorizonPrior, Learning
from finllm.edge.fitting import fit_deviation, fit_three_way, fit_width, normal_tail
from finllm.edge.resolved import BAND, COLUMN, LABEL, RETURN, SCALE, Resolved

NORMAL: Final = (
    -1.2815515655446004,
    -0.6744897501960817,
    0.0,
    0.6744897501960817,
    1.2815515655446004,
)
"""Standard normal quantiles at `LEVELS`."""


def weight_of(prior: HorizonPrior, learning: Learning) -> float:
    """Return what one outcome on the grid counts for: overlapping outcomes share their weight."""
    return min(1.0, learning.grid_s / prior.horizon.nominal_s)


class Baselines:
    """The three references of one instrument at every horizon.

    Args:
        priors: One per horizon.
        learning: Weights of the priors and of overlapping outcomes.
    """

    def __init__(self, priors: Sequence[HorizonPrior], learning: Learning) -> None:
        n = len(priors)
        self._priors = tuple(priors)
        self._strength = learning.baseline_prior_n
        self._weights = [weight_of(prior, learning) for prior in priors]
        self._counts = np.zeros((n, 3))
        self._logit_prior = np.array([prior.baseline_logit for prior in priors])
        self._logit = self._logit_prior.copy()
        self._class_scale = [prior.ewma_scale for prior in priors]
        self._width_scale = [prior.ewma_scale for prior in priors]
        self.climatology = np.array([prior.climatology for prior in priors])
        """Class frequencies as of the last refit, float64 [H, 3]."""
        self.empirical_q = np.zeros((n, 5))
        """Quantiles of resolved returns as of the last refit, bps, float64 [H, 5]."""
        self.empirical_share = np.zeros(n)
        """Weight of those against the prior's quantiles, float64 [H]."""

    def count(self, horizon: int, label: int) -> None:
        """Take in one resolved label; it shows from the next refit on."""
        self._counts[horizon, label] += self._weights[horizon]

    def refit(self, resolved: Resolved) -> None:
        """Refit all three on what has resolved by now."""
        for horizon, prior in enumerate(self._priors):
            ring, n, _ = resolved.ring(horizon)
            if n:
                self._refit_frequencies(horizon, prior, ring[:n])
                self._refit_laws(horizon, prior, ring[:n])

    def _refit_frequencies(
        self, horizon: int, prior: HorizonPrior, ring: NDArray[np.float32]
    ) -> None:
        counts, strength = self._counts[horizon], self._strength
        mass = float(counts[0]) + float(counts[1]) + float(counts[2])
        for j in range(3):
            self.climatology[horizon, j] = (strength * prior.climatology[j] + counts[j]) / (
                strength + mass
            )
        self.empirical_q[horizon] = empirical_quantiles(ring[:, RETURN])
        self.empirical_share[horizon] = mass / (strength + mass)

    def _refit_laws(self, horizon: int, prior: HorizonPrior, ring: NDArray[np.float32]) -> None:
        weight = self._weights[horizon]
        label = np.ascontiguousarray(ring[:, LABEL])
        unit = np.ascontiguousarray(ring[:, SCALE])
        fit_three_way(
            np.ascontiguousarray(ring[:, COLUMN]),
            label,
            weight,
            self._logit_prior[horizon],
            self._strength,
            self._logit[horizon],
        )
        band = np.ascontiguousarray(ring[:, BAND])
        self._class_scale[horizon] = fit_deviation(
            label, band, unit, weight, prior.ewma_scale, self._strength
        )
        law = unit[:, None] * np.array(NORMAL, dtype=np.float32)[None, :]
        returns = np.ascontiguousarray(ring[:, RETURN])
        weights = np.full(len(ring), weight)
        self._width_scale[horizon] = fit_width(
            returns, law, weights, min(5.0, max(0.02, prior.ewma_scale)), self._strength
        )

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
        tail = float(normal_tail(band_bps, ewma_bps * self._class_scale[horizon]))
        deviation = ewma_bps * self._width_scale[horizon]
        down, flat, up = (float(p) for p in self.climatology[horizon])
        return Reference(
            climatology=(down, flat, up),
            ewma=(tail, 1.0 - 2.0 * tail, tail),
            obi=self._imbalance(horizon, column),
            climatology_q=self._climatology_q(horizon, unit_bps),
            ewma_q=_five([deviation * z for z in NORMAL]),
        )

    def _imbalance(self, horizon: int, column: float) -> Triple:
        theta = self._logit[horizon]
        down = math.exp(max(-30.0, min(30.0, float(theta[0]) + float(theta[1]) * column)))
        up = math.exp(max(-30.0, min(30.0, float(theta[2]) + float(theta[3]) * column)))
        total = 1.0 + down + up
        return down / total, 1.0 / total, up / total

    def _climatology_q(self, horizon: int, unit_bps: float) -> Quantiles:
        share = float(self.empirical_share[horizon])
        prior = self._priors[horizon].climatology_q
        return _five(
            [
                share * float(self.empirical_q[horizon, j]) + (1.0 - share) * prior[j] * unit_bps
                for j in range(5)
            ]
        )


def empirical_quantiles(returns: NDArray[np.float32]) -> list[float]:
    """Return the quantiles of a sample at `LEVELS`, by linear interpolation of order statistics."""
    ordered = np.sort(returns)
    out = []
    for level in LEVELS:
        at = level * (len(ordered) - 1)
        below = int(at)
        above = min(below + 1, len(ordered) - 1)
        low, high = float(ordered[below]), float(ordered[above])
        out.append(low + (at - below) * (high - low))
    return out


def _five(values: Sequence[float]) -> Quantiles:
    return values[0], values[1], values[2], values[3], values[4]
