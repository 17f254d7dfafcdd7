"""What may go wrong, how often, and where each chance comes from: one generator for each source.

Leaving one kind of fault out leaves the draws of all others as they are.
"""

from collections import Counter
from typing import Final
from zlib import crc32

import numpy as np

RATES: Final = {
    "loss": 0.04,
    "duplicate": 0.04,
    "reorder": 0.03,
    "partition": 7.0,
    "skew": 5.0,
    "crash": 4.0,
    "pause": 5.0,
    "late": 0.05,
    "twice": 0.08,
    "second opinion": 0.08,
    "other version": 0.06,
    "other epoch": 0.06,
    "old outlook": 0.12,
    "after retraction": 0.6,
    "unusable": 0.03,
    "at expiry": 0.10,
}
"""Probability per message (loss, duplicate, reorder), times in ten minutes (partition, skew, crash, pause),
or probability per answer (the others: what a reasoner does)."""
KINDS: Final = tuple(RATES)
_BLOCK: Final = 256
_MOST: Final = 0.9
"""Probability of a fault at most, so that something arrives at last."""


class Chance:
    """All chance of one run.

    Args:
        seed: Of the run.
        without: Kinds of fault that are left out.
        fire: Times the usual rates.
    """

    def __init__(self, seed: int, without: frozenset[str] = frozenset(), fire: float = 1.0) -> None:
        self.happened: Counter[str] = Counter()
        self._seed = seed
        self._without = without
        self._fire = fire
        self._sources: dict[str, tuple[np.random.Generator, list[float]]] = {}

    def happens(self, kind: str) -> bool:
        """Return whether a fault of a kind happens now; a kind that is left out draws nothing."""
        if kind in self._without or self.unit(kind) >= min(_MOST, RATES[kind] * self._fire):
            return False
        self.happened[kind] += 1
        return True

    def times(self, kind: str, minutes: float) -> list[float]:
        """Return when faults of a kind are planned, in order, as shares of the run."""
        if kind in self._without:
            return []
        n = round(RATES[kind] * self._fire * minutes / 10.0 * (0.5 + self.unit(kind)))
        return sorted(self.unit(kind) for _ in range(n))

    def unit(self, source: str) -> float:
        """Return the next draw of a source, uniform in [0, 1)."""
        found = self._sources.get(source)
        if found is None:
            generator = np.random.default_rng((self._seed, crc32(source.encode())))
            found = self._sources[source] = generator, []
        generator, block = found
        if not block:
            block.extend(generator.random(_BLOCK).tolist())
        return block.pop()

    def between(self, source: str, low: float, high: float) -> float:
        """Return a draw, uniform between two numbers."""
        return low + (high - low) * self.unit(source)

    def pick(self, source: str, n: int) -> int:
        """Return a draw, uniform in 0..n-1."""
        return int(self.unit(source) * n)
