"""A map of fixed size: the keys longest unused are let go of, and counted."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LastUsed(Generic[K, V]):
    """The values of the keys that were put last.

    Which keys those are follows from the order of the calls alone, never from a clock.

    Args:
        most: Keys kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.n_let_go = 0
        self._of: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are kept."""
        return len(self._of)

    def get(self, key: K) -> V | None:
        """Return a key's value, None if it is not kept; looking is no use."""
        return self._of.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value; the key longest unused gives way."""
        self._of[key] = value
        self._of.move_to_end(key)
        if len(self._of) > self.most:
            self._of.popitem(last=False)
            self.n_let_go += 1
