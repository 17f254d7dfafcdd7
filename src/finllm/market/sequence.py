"""The continuity rules of Binance's diff streams: which diff may be applied next.

Knows the numbers of a message, not its levels. A break is a value (`Step.GAP`), never an exception.

Source: Binance API documents, "How to manage a local order book correctly" (spot: `U` and `u`;
futures: `pu`, `U` and `u`), with one widening that the recordings ask for: on futures the first diff
after a snapshot may also satisfy `pu <= lastUpdateId <= u`.
"""

from enum import Enum
from typing import Final

NO_PREVIOUS: Final = -1
"""`pu` of a stream that has none."""
NONE_YET: Final = -1
"""Before the first number; 0 is one."""
RESTART_MS: Final = 5_000
"""A snapshot is never this far ahead of its stream; old diffs for longer mean a restarted numbering."""


class Step(Enum):
    """What to do with a diff."""

    APPLY = "apply"
    OLD = "old"
    """Already contained: a duplicate, a late one, or one from before the snapshot."""
    GAP = "gap"
    """At least one diff between the last one and this is missing."""
    RESTART = "restart"
    """The venue began to number anew."""


def connects(first: int, final: int, previous: int, snapshot: int) -> bool:
    """Return whether a diff (`U`, `u`, `pu`) may be the first one after a snapshot's number."""
    if previous != NO_PREVIOUS and previous <= snapshot <= final:
        return True
    return first <= snapshot + 1 <= final


class Continuity:
    """Follows one diff stream.

    Args:
        is_futures: Whether the stream links its diffs by `pu`; spot links them by `U` and `u`.
    """

    __slots__ = ("_after_snapshot", "_is_futures", "last", "last_event_ms")

    def __init__(self, *, is_futures: bool) -> None:
        self._is_futures = is_futures
        self._after_snapshot = False
        self.last = NONE_YET
        """Number of the last diff accepted, or of the snapshot; below 0 = none yet."""
        self.last_event_ms = 0

    def judge(self, first: int, final: int, previous: int, event_ms: int) -> Step:
        """Return what to do with a diff, and move on to it unless it is old.

        Args:
            first: `U`.
            final: `u`.
            previous: `pu`, or NO_PREVIOUS.
            event_ms: `E`; tells a restarted numbering from a duplicate.
        """
        step = self._place(first, final, previous, event_ms)
        if step is not Step.OLD:
            self._after_snapshot = False
            self.last = final
            self.last_event_ms = event_ms
        return step

    def _place(self, first: int, final: int, previous: int, event_ms: int) -> Step:
        if self._after_snapshot:
            return self._place_after_snapshot(first, final, previous, event_ms)
        last = self.last
        if last == NONE_YET or (previous == last if self._is_futures else first == last + 1):
            return Step.APPLY
        if final <= last:
            return Step.RESTART if event_ms > self.last_event_ms else Step.OLD
        if not self._is_futures and first <= last:
            return Step.APPLY
        return Step.GAP

    def _place_after_snapshot(self, first: int, final: int, previous: int, event_ms: int) -> Step:
        if final < self.last or (final == self.last and not self._is_futures):
            if self.last_event_ms == 0:
                self.last_event_ms = event_ms
            is_late = event_ms - self.last_event_ms > RESTART_MS
            return Step.RESTART if is_late else Step.OLD
        return Step.APPLY if connects(first, final, previous, self.last) else Step.GAP

    def restart_from(self, snapshot: int) -> None:
        """Take up from a snapshot's number: the next diff has to connect to it."""
        self._after_snapshot = True
        self.last = snapshot
        self.last_event_ms = 0
