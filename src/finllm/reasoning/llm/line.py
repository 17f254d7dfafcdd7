"""The line in front of an endpoint: so many at a time, the most valuable next, the hopeless sent away.

Asks no clock: times of the caller's loop come in. Belongs to one event loop.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Final

WINDOW: Final = 32
"""Requests whose duration is remembered."""
LEAST_KNOWN: Final = 3
"""Requests before a duration is relied on."""


class ShedError(Exception):
    """A question was sent away; the text says why."""


class _Waiting:
    def __init__(self, value: float, order: int, deadline: float) -> None:
        self.value, self.order, self.deadline = value, order, deadline
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: "_Waiting") -> bool:
        return (-self.value, self.order) < (-other.value, other.order)


class Line:
    """Slots of an endpoint and who waits for one.

    Args:
        slots: Requests at a time.
        most: Questions that may wait; beyond that the least valuable is shed.
        now: The loop's time, s.
    """

    def __init__(self, slots: int, most: int, now: Callable[[], float]) -> None:
        self._free, self._most, self._now = slots, most, now
        self._heap: list[_Waiting] = []
        self._order = 0
        self._took: deque[float] = deque(maxlen=WINDOW)
        self.shed = 0
        """Questions sent away."""

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._heap)

    async def enter(self, value: float, deadline: float) -> None:
        """Wait for a slot; whoever gets one must leave.

        Args:
            value: Of the answer; the largest goes first, then who came first.
            deadline: Of the answer, by the loop's time.

        Raises:
            ShedError: If there is more of value than there is time.
        """
        if self._free and not self._heap:
            self._free -= 1
            return
        self._order += 1
        mine = _Waiting(value, self._order, deadline)
        heapq.heappush(self._heap, mine)
        if len(self._heap) > self._most:
            self._send_away(max(self._heap), "the queue is full of more valuable questions")
        try:
            await mine.turn
        except asyncio.CancelledError:
            if mine in self._heap:
                self._remove(mine)
            elif mine.turn.done() and not mine.turn.cancelled() and not mine.turn.exception():
                self._give()  # the slot came in the very moment in which it was given up
            raise

    def leave(self, took: float) -> None:
        """Give a slot back.

        Args:
            took: How long it was held, s.
        """
        self._took.append(took)
        self._give()

    def _give(self) -> None:
        while self._heap:
            first = heapq.heappop(self._heap)
            if first.turn.done():
                continue
            if first.deadline - self._now() < self._usual():
                self._refuse(first, "there is less time left than an answer usually takes")
                continue
            first.turn.set_result(None)
            return
        self._free += 1

    def _usual(self) -> float:
        """Return how long a request usually takes, s; 0 until some are known."""
        return median(self._took) if len(self._took) >= LEAST_KNOWN else 0.0

    def _send_away(self, who: _Waiting, why: str) -> None:
        self._remove(who)
        self._refuse(who, why)

    def _remove(self, who: _Waiting) -> None:
        self._heap.remove(who)
        heapq.heapify(self._heap)

    def _refuse(self, who: _Waiting, why: str) -> None:
        self.shed += 1
        who.turn.set_exception(ShedError(why))
