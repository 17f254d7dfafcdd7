"""When to ask again: intervals with jitter, longer after each failure, never before one is told to.

Pure: times come in, times go out. Not a retry of one request but the pace of endless polling, which is why
no retry library fits: the next poll is the retry.
"""

from typing import Final

import numpy as np

from finllm.domain.units import NS_PER_S
from finllm.runtime.retry import LONGEST_NS

JITTER: Final = 0.1
"""Share of an interval by which polls are spread, so that many sources do not ask at once."""
MOST_DOUBLINGS: Final = 12


class Pace:
    """The pace of one source's polls.

    Args:
        every_ns: Usual interval.
        chance: Source of jitter.
    """

    def __init__(self, every_ns: int, chance: np.random.Generator) -> None:
        self._every_ns, self._chance = every_ns, chance
        self.failures = 0
        """Failures since the last answer."""

    def answered(self, now: int) -> int:
        """Return when to ask again after an answer: the interval, a tenth more or less."""
        self.failures = 0
        return now + int(self._every_ns * (1.0 + JITTER * (2.0 * self._chance.random() - 1.0)))

    def failed(self, now: int, told_ns: int = 0) -> int:
        """Return when to ask again after a failure: twice as late for each, between half of it and all.

        Args:
            now: The present, ns.
            told_ns: For how long the other side said to wait; 0 = it did not.
        """
        self.failures += 1
        longer = self._every_ns << min(self.failures, MOST_DOUBLINGS)
        wait = int(
            min(longer, max(LONGEST_NS, self._every_ns)) * (0.5 + 0.5 * self._chance.random())
        )
        return now + max(wait, told_ns)


class HostLimit:
    """The least time between two requests to one host, whichever sources make them."""

    def __init__(self) -> None:
        self._free: dict[str, int] = {}

    def turn(self, host: str, now: int, per_second: float) -> int:
        """Return from when on a request may be made, ns, and take that turn."""
        begins = max(now, self._free.get(host, 0))
        self._free[host] = begins + int(NS_PER_S / per_second)
        return begins

    def close_until(self, host: str, until: int) -> None:
        """Let nobody ask a host before an instant: it has said so."""
        self._free[host] = max(self._free.get(host, 0), until)
