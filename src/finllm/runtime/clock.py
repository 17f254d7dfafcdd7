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


def stopwatch_ns() -> int:
    """Return a monotonic reading in nanoseconds, for measuring durations only."""
    return time.perf_counter_ns()
