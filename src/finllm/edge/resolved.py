"""What became of the last few thousand forecasts: a memory that baselines and calibration share.

One ring per horizon, float32, 2,048 outcomes (about 100 kB a horizon once the first outcome is in).
Outcomes that overlap by more than three quarters say nearly the same, so only one in each quarter of a
horizon is kept: a refit costs what it must, and at 1 s the memory reaches back ten minutes, on hourly bars
a year. Knows nothing of what is fitted on it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

CAPACITY: Final = 2048
"""Outcomes kept per horizon."""
SHARE: Final = 4
"""Outcomes kept in the length of a horizon, at most."""

LABEL, COLUMN, RETURN, SCALE, BAND, MOVE, DIRECTION, QUANTILE = 0, 1, 2, 3, 4, 5, 6, 7
"""Offsets into one remembered outcome: label; baseline column; return, sigma_ewma * sqrt(horizon) and band
in bps; raw log-odds of a move; raw log(p_up / p_down); from 7 on five raw quantiles in bps."""
WIDTH: Final = 12


def spacing_ns(horizon_ns: int) -> int:
    """Return the least time between two forecasts whose outcomes are both kept."""
    return horizon_ns // SHARE


class Resolved:
    """Rings of resolved outcomes, oldest overwritten first.

    Args:
        horizons_ns: Length of each horizon.
        capacity: Outcomes kept of each.
    """

    def __init__(self, horizons_ns: Sequence[int], capacity: int = CAPACITY) -> None:
        self._shape = (len(horizons_ns), capacity, WIDTH)
        self._spacing = [spacing_ns(ns) for ns in horizons_ns]
        self._due = [0] * len(horizons_ns)
        self._rings: NDArray[np.float32] | None = None
        self.seen = np.zeros(len(horizons_ns), dtype=np.int64)
        """Outcomes ever kept, by horizon."""

    def wants(self, horizon: int, ts: int) -> bool:
        """Return whether the outcome of a forecast made at `ts`, ns, would be remembered."""
        return ts >= self._due[horizon]

    def add(self, horizon: int, ts: int, outcome: Sequence[float] | NDArray[np.float64]) -> None:
        """Remember one outcome (12 numbers, see the offsets) of a forecast made at `ts`, ns.

        In the order of `ts`; one too near to the one before it is passed over.
        """
        if not self.wants(horizon, ts):
            return
        self._due[horizon] = ts + self._spacing[horizon]
        if self._rings is None:
            # Made at the first outcome: an instrument that never resolves one costs nothing.
            self._rings = np.zeros(self._shape, dtype=np.float32)
        self._rings[horizon, self.seen[horizon] % self._shape[1]] = outcome
        self.seen[horizon] += 1

    def ring(self, horizon: int) -> tuple[NDArray[np.float32], int, int]:
        """Return a horizon's ring [capacity, 12], how many rows count, and the newest's index."""
        if self._rings is None:
            return np.zeros((0, WIDTH), dtype=np.float32), 0, 0
        seen, capacity = int(self.seen[horizon]), self._shape[1]
        return self._rings[horizon], min(seen, capacity), (seen - 1) % capacity
