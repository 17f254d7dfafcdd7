"""One side of the visible book: sizes by price, the best price, and what changed of late."""


class Side:
    """One side of the book; `sign` is +1 for bids, -1 for asks: better = a higher price x sign."""

    def __init__(self, sign: int, best: int, size: int) -> None:
        self.sign = sign
        self.best = best
        self.levels = {best: size}
        self.changed: dict[int, int] = {}

    @property
    def touch(self) -> tuple[int, int]:
        """Return the best price in ticks and its size in lots."""
        return self.best, self.levels[self.best]

    def put(self, price: int, size: int) -> None:
        """Set the size at a price at or behind the best; 0 removes the level, never the best."""
        if size > 0:
            self.levels[price] = size
            self.changed[price] = size
        elif price != self.best and self.levels.pop(price, 0):
            self.changed[price] = 0

    def improve(self, price: int, size: int) -> None:
        """Quote a better price than the best."""
        self.best = price
        self.put(price, size)

    def retreat(self, price: int, size: int) -> None:
        """Give up everything better than a price; it becomes the best, at least so large."""
        sign = self.sign
        for gone in [each for each in self.levels if (each - price) * sign > 0]:
            del self.levels[gone]
            self.changed[gone] = 0
        self.best = price
        self.put(price, max(size, self.levels.get(price, 0)))

    def worst(self) -> int:
        """Return the price farthest from the touch."""
        return min(self.levels) if self.sign > 0 else max(self.levels)

    def take_changes(self) -> dict[int, int]:
        """Return what changed since the last call: absolute sizes by price, 0 = deleted."""
        changed = self.changed
        self.changed = {}
        return changed
