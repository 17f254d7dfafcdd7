"""Whether any model in the bank still fits: its inputs, and its scores against climatology.

Inputs: each column's running mean and deviation on grid rows, against those of the training tapes; drifted
when too large a share of the columns lies outside. Scores: outcomes that do not overlap are bets that
the served probabilities are no worse than climatology; the stake grows with every loss and never falls
below one, so that under a model that is no worse it passes `ALARM` once in `ALARM` outcomes at most, however
long one looks. O(columns) on grid rows, nothing on others. Knows nothing of models.

Source:
    Shin, Ramdas & Rinaldo (2023), "E-detectors"; Page (1954), continuous inspection schemes.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.instrument import Horizon

MEMORY_ROWS: Final = 600
"""Grid rows after which one counts a third in the running means: a minute on a 100 ms grid."""
LEAST_ROWS: Final = 300
SHIFT: Final = 3.0
"""Training deviations by which a column's running mean may lie off."""
STRETCH: Final = 5.0
"""Factor by which its running deviation may be larger."""
SHARE: Final = 0.2
"""Share of the columns outside from which inputs count as drifted; half of it ends the alarm."""
ALARM: Final = 1_000.0
"""Stake from which scores count as worse than climatology; one ends the alarm."""
CEILING: Final = 100.0 * ALARM
"""A stake grows no further, so that a model that comes round is believed within minutes."""
BET: Final = 0.5
"""Share of the stake that is bet on the next outcome."""
MOST: Final = 2.0
"""Differences of log loss beyond this many nats count as this much."""


class Fit(StrEnum):
    """What the monitor says."""

    FITS = "fits"
    DRIFTED = "inputs drifted"
    WORSE = "worse than climatology"


class Monitor:
    """The monitor of one instrument.

    Args:
        inputs: Mean and deviation of each column on the training tapes; none = inputs are not watched.
        horizons: Those of the forecasts.
    """

    def __init__(self, inputs: Sequence[tuple[float, float]], horizons: Sequence[Horizon]) -> None:
        law = np.array(inputs, dtype=np.float64).reshape(-1, 2)
        self._centre, spread = law[:, 0], law[:, 1]
        # A column that never changed in training says nothing in units of its deviation.
        self._counts = spread > 1e-9
        self._gain = 1.0 / np.where(self._counts, spread, 1.0)
        self._mean, self._square = np.zeros(len(law)), np.zeros(len(law))
        self.n_rows = 0
        self.stakes = np.ones(len(horizons))
        """What the bets against each horizon are worth."""
        self._spans = [horizon.ns for horizon in horizons]
        self._next = [0] * len(horizons)
        self._is_drifted = self._is_worse = False

    @property
    def fit(self) -> Fit:
        """Return the state; worse scores count more than drifted inputs."""
        if self._is_worse:
            return Fit.WORSE
        return Fit.DRIFTED if self._is_drifted else Fit.FITS

    def see(self, row: NDArray[np.float64]) -> None:
        """Take in a grid row, float64 [F]; a column that is not finite there is passed over."""
        if not len(self._centre):
            return
        z = (row - self._centre) * self._gain
        known = np.isfinite(z)
        z = np.where(known, np.clip(z, -100.0, 100.0), self._mean)
        self.n_rows += 1
        weight = max(1.0 / self.n_rows, 1.0 / MEMORY_ROWS)
        self._mean += weight * (z - self._mean)
        self._square += weight * (z * z - self._square)
        if self.n_rows >= LEAST_ROWS:
            share = self.outside_share
            self._is_drifted = share > (0.5 * SHARE if self._is_drifted else SHARE)

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Return which columns lie outside, bool [F]."""
        deviation = np.sqrt(np.maximum(self._square - self._mean**2, 0.0))
        away = (np.abs(self._mean) > SHIFT) | (deviation > STRETCH)
        return np.asarray(away & self._counts)

    @property
    def outside_share(self) -> float:
        """Return the share of the columns that lie outside."""
        return float(self.outside.sum()) / max(1, int(self._counts.sum()))

    def score(self, horizon: int, ts: int, said: float, climatology: float) -> None:
        """Take in what was said of the class that came true; outcomes that overlap are passed over.

        Args:
            horizon: Index of the horizon.
            ts: When the forecast was issued, ns.
            said: Probability that was served for the class that came true, above zero.
            climatology: What climatology gave it.
        """
        if ts < self._next[horizon]:
            return
        self._next[horizon] = ts + self._spans[horizon]
        worse = max(-MOST, min(MOST, math.log(climatology / said)))
        # E[worse] <= 0 under the null, so this is a fair bet or a losing one.
        held = min(max(1.0, float(self.stakes[horizon])), CEILING)
        self.stakes[horizon] = held * (1.0 + BET * worse / MOST)
        mean = float(np.mean(self.stakes))
        self._is_worse = mean >= (1.0 if self._is_worse else ALARM)
