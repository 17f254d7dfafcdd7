"""What became of the last few thousand forecasts: a memory that baselines and calibration share.

One ring per horizon, float32, 4,096 outcomes (about 200 kB a horizon once the first outcome is in).
On a 100 ms grid that is the last seven minutes; on hourly bars over two years. Knows nothing of what
is fitted on it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

CAPACITY: Final = 4096
"""Outcomes kept per horizon."""

LABEL, COLUMN, RETURN, SCALE, BAND, MOVE, DIRECTION, QUANTILE = 0, 1, 2, 3, 4, 5, 6, 7
"""Offsets into one remembered outcome: label; baseline column; return, sigma_ewma * sqrt(horizon) and band
in bps; raw log-odds of a move; raw log(p_up / p_down); from 7 on five raw quantiles in bps."""
WIDTH: Final = 12


class Resolved:
    """Rings of resolved outcomes, oldest overwritten first.

    Args:
        n_horizons: Number of rings.
        capacity: Outcomes kept in each.
    """

    def __init__(self, n_horizons: int, capacity: int = CAPACITY) -> None:
        self._shape = (n_horizons, capacity, WIDTH)
        self._rings: NDArray[np.float32] | None = None
        self.seen = np.zeros(n_horizons, dtype=np.int64)
        """Outcomes ever taken in, by horizon."""

    def add(self, horizon: int, outcome: tuple[float, ...]) -> None:
        """Remember one outcome (12 numbers, see the offsets)."""
        if self._rings is None:
            # Made at the first outcome: an instrument that never resolves one costs nothing.
            self._rings = np.zeros(self._shape, dtype=np.float32)
        self._rings[horizon, self.seen[horizon] % self._shape[1]] = outcome
        self.seen[horizon] += 1

    def extend(self, horizon: int, outcomes: NDArray[np.float64]) -> None:
        """Remember many outcomes, float64 [n, 12], oldest first."""
        if self._rings is None:
            self._rings = np.zeros(self._shape, dtype=np.float32)
        capacity, seen = self._shape[1], int(self.seen[horizon])
        kept = outcomes[-capacity:]
        first = seen + len(outcomes) - len(kept)
        self._rings[horizon, (first + np.arange(len(kept))) % capacity] = kept
        self.seen[horizon] += len(outcomes)

    def ring(self, horizon: int) -> tuple[NDArray[np.float32], int, int]:
        """Return a horizon's ring [capacity, 12], how many rows count, and the newest's index."""
        if self._rings is None:
            return np.zeros((0, WIDTH), dtype=np.float32), 0, 0
        seen, capacity = int(self.seen[horizon]), self._shape[1]
        return self._rings[horizon], min(seen, capacity), (seen - 1) % capacity
