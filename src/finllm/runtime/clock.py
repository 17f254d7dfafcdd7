"""Clocks. The only module that reads the time; everyone else is handed a `Clock`."""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> int:
        """Return nanoseconds since the Unix epoch, UTC."""
        ...

    def sleep(self, duration_ns: int) -> None:
        """Wait for a duration; returns at once if it is not positive."""
        ...


class WallClock:
    """The machine's own time."""

    def now(self) -> int:
        """Return nanoseconds since the Unix epoch, UTC."""
        return time.time_ns()

    def sleep(self, duration_ns: int) -> None:
        """Wait for a duration; returns at once if it is not positive."""
        if duration_ns > 0:
            time.sleep(duration_ns / 1e9)


class VirtualClock:
    """Time that moves only when told to, never backwards."""

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        """Return nanoseconds since the Unix epoch, UTC."""
        return self._now

    def sleep(self, duration_ns: int) -> None:
        """Move time forward by a duration."""
        self.advance(self._now + max(0, duration_ns))

    def advance(self, to: int) -> None:
        """Move time forward to an instant; an earlier instant leaves it where it is."""
        self._now = max(self._now, to)


def stopwatch_ns() -> int:
    """Return a monotonic reading in nanoseconds, for measuring durations only."""
    return time.perf_counter_ns()
