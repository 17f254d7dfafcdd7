"""Does the depth agree with the venue's own best bid and offer at the same update number?

At every n-th diff the touch that the diffs alone give is set against the last bookTicker numbered no
higher. That can only be decided once a higher-numbered bookTicker has come, or at the end.
"""

from collections import deque
from collections.abc import Iterable

from finllm.market.book import Array, Cell, depth_touch, touch_at

MAX_PENDING = 256
"""Undecided checks kept for one book; beyond that the oldest is given up and counted."""


class BookChecks:
    """Counts of one book, or over all books."""

    def __init__(self) -> None:
        self.done = 0
        """Checks decided."""
        self.equal = 0
        """Of those, best bid and ask price the same."""
        self.sizes_equal = 0
        """Of those, both sizes the same as well."""
        self.undecidable = 0
        """Checks for which no touch of a fitting place was left."""
        self.checksums = 0
        """Checksums of the venue compared with that of our book."""
        self.checksums_equal = 0


def total(counts: Iterable[BookChecks]) -> BookChecks:
    """Return the sum of several counts."""
    whole = BookChecks()
    for count in counts:
        for name, value in vars(count).items():
            setattr(whole, name, getattr(whole, name) + value)
    return whole


class TouchCheck:
    """The open checks of one book.

    Args:
        book: The book.
        every: Check at every n-th applied diff.
        totals: Where decided checks are counted.
    """

    __slots__ = ("_book", "_every", "_totals", "n_diffs", "pending")

    def __init__(self, book: Array, every: int, totals: BookChecks) -> None:
        self._book = book
        self._every = every
        self._totals = totals
        self.n_diffs = 0
        self.pending: deque[tuple[int, tuple[int, int, int, int]]] = deque()

    def on_diff(self) -> None:
        """Count an applied diff and take a check if it is due."""
        self.n_diffs += 1
        if self.n_diffs % self._every:
            return
        if len(self.pending) == MAX_PENDING:
            self.pending.popleft()
            self._totals.undecidable += 1
        self.pending.append((int(self._book[Cell.DEPTH_U]), depth_touch(self._book)))
        self.decide()

    def decide(self, *, at_end: bool = False) -> None:
        """Decide what can be decided now; at the end, everything."""
        newest = int(self._book[Cell.TOUCH_U])
        while self.pending and (at_end or newest > self.pending[0][0]):
            update, ours = self.pending.popleft()
            at = touch_at(self._book, update)
            if at < 0:
                self._totals.undecidable += 1
                continue
            theirs = tuple(int(x) for x in self._book[at + 1 : at + 5])
            is_equal = ours[0] == theirs[0] and ours[2] == theirs[2]
            self._totals.done += 1
            self._totals.equal += is_equal
            self._totals.sizes_equal += is_equal and ours == theirs

    def forget(self) -> None:
        """Give up what is open, because the numbering it relied on broke."""
        self._totals.undecidable += len(self.pending)
        self.pending.clear()
