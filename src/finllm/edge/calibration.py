"""Online calibration: a few numbers a horizon, learnt from resolved outcomes of untilted claims.

With m the raw log-odds of a move and d the raw log(p_up / p_down), the calibrated claim has
m' = offset + scale m and d' = direction d; each quantile's deviation from the median is multiplied
by a width. Offset and scale are Platt's two parameters, found by penalised likelihood: Gaussian
priors at the artifact's first values, worth a stated number of independent outcomes; overlapping
outcomes share their weight and older ones fade. Width is the factor with the least pinball loss, unfaded.
Every applied refit is a new version, which the session counts. Knows nothing of
outlooks: learning from tilted claims would unlearn them.

Source:
    Platt (1999), "Probabilistic outputs for support vector machines"; Koenker & Bassett (1978).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.edge.artifact import HorizonPrior, Learning
from finllm.edge.baselines import kept_weight
from finllm.edge.fitting import fit_line, fit_width
from finllm.edge.resolved import DIRECTION, LABEL, MOVE, QUANTILE, RETURN, Resolved

OFFSET, SCALE, TURN, WIDTH = 0, 1, 2, 3
"""Offsets into one horizon's parameters."""
LEAST: Final = (-3.0, 0.3, 0.2, 0.3)
MOST: Final = (3.0, 2.0, 3.0, 3.0)
"""Bounds of the parameters: beyond them the model is wrong, not uncalibrated."""


class Calibration:
    """The calibration of one instrument at every horizon.

    Args:
        priors: First values, one per horizon.
        learning: Prior strength, weights and fading.
    """

    def __init__(self, priors: Sequence[HorizonPrior], learning: Learning) -> None:
        self._first = np.array(
            [(p.move_offset, p.move_scale, p.direction_scale, p.width_scale) for p in priors]
        )
        self.parameters = self._first.copy()
        """Values in force, float64 [H, 4]."""
        self._strength = learning.prior_n
        self._weights = [kept_weight(prior, learning) for prior in priors]
        self._half_life_n = learning.half_life_n

    def refit(self, resolved: Resolved) -> None:
        """Refit on what has resolved by now."""
        fresh = self.parameters.copy()
        for horizon in range(len(fresh)):
            ring, n, newest = resolved.ring(horizon)
            if n:
                # Oldest first: the fade below counts back from the end.
                order = (newest + 1 + np.arange(n)) % n
                self._refit_horizon(fresh[horizon], horizon, ring[order])
        self.parameters = np.clip(fresh, LEAST, MOST)

    def _refit_horizon(
        self, fresh: NDArray[np.float64], horizon: int, rows: NDArray[np.float32]
    ) -> None:
        weight = self._fading(horizon, len(rows))
        first = self._first[horizon]
        label = rows[:, LABEL]
        moved = label != 1.0
        fit_line(
            rows[:, MOVE].astype(np.float64),
            moved.astype(np.float64),
            weight,
            first[:2],
            self._strength,
            fresh[:2],
        )
        if moved.any():
            fit_line(
                rows[moved, DIRECTION].astype(np.float64),
                (label[moved] == 2.0).astype(np.float64),
                weight[moved],
                first[2:3],
                self._strength,
                fresh[2:3],
            )
        # Widths are scarcer in what they tell than classes: fading them made them worse.
        fresh[WIDTH] = fit_width(
            np.ascontiguousarray(rows[:, RETURN]),
            np.ascontiguousarray(rows[:, QUANTILE : QUANTILE + 5]),
            np.full(len(rows), self._weights[horizon]),
            float(first[WIDTH]),
            self._strength,
        )

    def _fading(self, horizon: int, n: int) -> NDArray[np.float64]:
        weight = self._weights[horizon]
        fade = 0.5 ** (weight / self._half_life_n) if self._half_life_n > 0 else 1.0
        out = np.empty(n)
        for i in range(n - 1, -1, -1):
            out[i] = weight
            weight *= fade
        return out
