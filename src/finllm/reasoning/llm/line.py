"""The line in front of an endpoint: so many at a time, the most valuable next, the hopeless sent away.

It gives way to the more urgent where these would be late otherwise; where not all who wait can be in time,
the least valuable stand aside. Asks no clock: times of the caller's loop come in. Belongs to one event loop.

Source:
    Moore (1968), "An n job, one machine sequencing algorithm for minimizing the number of late jobs".
"""

import asyncio
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Final

WINDOW: Final = 9
"""Answers whose duration is remembered: after a slow spell, five quick ones are believed."""
LEAST_KNOWN: Final = 3
"""Answers before a duration is relied on."""


class ShedError(Exception):
    """A question was sent away; the text says why."""


class _Waiting:
    def __init__(self, value: float, order: int, deadline: float) -> None:
        self.value, self.order, self.deadline = value, order, deadline
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def worth(self) -> tuple[float, int]:
        """Return what the more valuable has less of, then who came first."""
        return -self.value, self.order

    @property
    def urgency(self) -> tuple[float, float, int]:
        """Return what the more urgent has less of."""
        return (self.deadline, *self.worth)


class Line:
    """Slots of an endpoint and who waits for one.

    Args:
        slots: Requests at a time.
        most: Questions that may wait; beyond that the least valuable is shed.
        now: The loop's time, s.
    """

    def __init__(self, slots: int, most: int, now: Callable[[], float]) -> None:
        self._slots, self._free, self._most, self._now = slots, slots, most, now
        self._line: list[_Waiting] = []
        self._order = 0
        self._took: deque[float] = deque(maxlen=WINDOW)
        self.shed = 0
        """Questions sent away."""

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._line)

    async def enter(self, value: float, deadline: float) -> None:
        """Wait for a slot; whoever gets one must leave.

        Args:
            value: Of the answer.
            deadline: Of the answer, by the loop's time.

        Raises:
            ShedError: If there is more of value than there is time.
        """
        if self._free and not self._line:
            self._free -= 1
            return
        self._order += 1
        mine = _Waiting(value, self._order, deadline)
        self._line.append(mine)
        if len(self._line) > self._most:
            least = max(self._line, key=lambda one: one.worth)
            self._send_away(least, "the queue is full of more valuable questions")
        try:
            await mine.turn
        except ShedError:
            self.shed += (
                1  # here: its deadline may have come in that very moment, and ended it instead
            )
            raise
        except asyncio.CancelledError:
            if mine in self._line:
                self._line.remove(mine)
            elif mine.turn.done() and not mine.turn.cancelled() and not mine.turn.exception():
                self._give()  # the slot came in the very moment in which it was given up
            raise

    def leave(self, took: float | None) -> None:
        """Give a slot back.

        Args:
            took: How long an answer took, s; None = there was none, which tells nothing of the next.
        """
        if took is not None:
            self._took.append(took)
        self._give()

    def _give(self) -> None:
        while self._line:
            first = self._next()
            self._line.remove(first)
            if first.turn.done():
                continue
            if first.deadline - self._now() < self._usual():
                self._refuse(first, "there is less time left than an answer usually takes")
                continue
            first.turn.set_result(None)
            return
        self._free += 1

    def _next(self) -> _Waiting:
        """Return the most valuable that leaves time for all others that can be in time."""
        kept: list[_Waiting] = []
        for one in sorted(self._line, key=lambda one: one.urgency):
            kept.append(one)
            if not self._is_in_time(kept):
                kept.remove(max(kept, key=lambda each: each.worth))
        for one in sorted(kept, key=lambda one: one.worth):
            if self._is_in_time([one, *(other for other in kept if other is not one)]):
                return one
        return min(self._line, key=lambda one: one.urgency)

    def _is_in_time(self, turns: list[_Waiting]) -> bool:
        """Return whether all would be in time if they had their turns in this order."""
        now, usual = self._now(), self._usual()
        return all(
            now + (1 + turn // self._slots) * usual <= one.deadline
            for turn, one in enumerate(turns)
        )

    def _usual(self) -> float:
        """Return how long an answer usually takes, s; 0 until some are known."""
        return median(self._took) if len(self._took) >= LEAST_KNOWN else 0.0

    def _send_away(self, who: _Waiting, why: str) -> None:
        self._line.remove(who)
        self._refuse(who, why)

    def _refuse(self, who: _Waiting, why: str) -> None:
        who.turn.set_exception(ShedError(why))
