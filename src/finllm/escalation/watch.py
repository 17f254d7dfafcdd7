"""What the market itself flags, without a word: a switch of regime, a book that drains, a sudden move.

Told of one instrument's rows as numbers, it says at which of them the gate is to be asked. Knows no book.
"""

import math
from typing import Final

import msgspec

from finllm.domain.units import NS_PER_MS, NS_PER_S

REGIME_SWITCH: Final = "regime switch"
THIN_BOOK: Final = "thin book"
SUDDEN_MOVE: Final = "sudden move"
LEAST_APART_NS: Final = 100 * NS_PER_MS
"""Least time between two alarms of one instrument."""
_NEWS_NS: Final = 60 * NS_PER_S
"""Within which of a notice a move is taken to be the news's."""
_CALM: Final = 0.5
"""Share of the threshold below which a kind may sound again."""
_SWITCH: Final = 4.0
"""Strength of a switch of regime, which has been confirmed before it is told."""


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What a row shows of what may be flagged."""

    regime: int
    move_z: float = 0.0
    """The last move of the price, in deviations."""
    depth_z: float = 0.0
    """The depth of the book against its recent past, in deviations."""
    lean: float = 0.0
    """Of the book, -1 where asks press to +1 where bids do."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the market itself flags."""

    kind: str
    strength: float
    """In deviations."""
    lean: float
    """Which way it points, -1 to +1."""

    @property
    def credibility(self) -> float:
        """Return how far it is believed to be more than noise."""
        return min(0.95, 0.2 * self.strength)


class Watch:
    """Watches one instrument. A kind that has sounded is silent until it has calmed down.

    Args:
        least_z: Deviations from which a drain or a move is flagged.
    """

    def __init__(self, least_z: float) -> None:
        self._least_z = least_z
        self._regime = -1
        self._told = self._last = -_NEWS_NS
        self._sounding: set[str] = set()

    def tell(self, now: int) -> None:
        """Take in that there is news of it."""
        self._told = now

    def see(self, signs: Signs, now: int) -> Alarm | None:
        """Return what a row is flagged for, the strongest if for several things.

        Args:
            signs: What it shows.
            now: When it was received, ns UTC.
        """
        found = [
            *self._switched(signs),
            *self._beyond(THIN_BOOK, -signs.depth_z, signs.lean),
            *self._moved(signs, now),
        ]
        if not found or now - self._last < LEAST_APART_NS:
            return None
        self._last, self._regime = now, signs.regime
        self._sounding.update(alarm.kind for alarm in found)
        return max(found, key=lambda alarm: alarm.strength)

    def _switched(self, signs: Signs) -> list[Alarm]:
        if self._regime == -1:
            self._regime = signs.regime
        if self._regime == signs.regime:
            return []
        return [Alarm(kind=REGIME_SWITCH, strength=_SWITCH, lean=0.0)]

    def _moved(self, signs: Signs, now: int) -> list[Alarm]:
        found = self._beyond(SUDDEN_MOVE, abs(signs.move_z), math.copysign(1.0, signs.move_z))
        if found and now - self._told < _NEWS_NS:
            self._sounding.add(SUDDEN_MOVE)
            return []
        return found

    def _beyond(self, kind: str, z: float, lean: float) -> list[Alarm]:
        if z < _CALM * self._least_z:
            self._sounding.discard(kind)
        if z < self._least_z or kind in self._sounding:
            return []
        return [Alarm(kind=kind, strength=z, lean=lean)]
