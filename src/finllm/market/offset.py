"""How far our clock stands from a source's: estimated as messages come, in constant time and memory.

Estimates local receive time less exchange time. That difference is clock offset plus feed latency;
its median is the usual figure, its minimum over a window the nearest to the offset alone.
"""

from typing import Final

from finllm.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S, NS_PER_US

FIRST_STEP_NS: Final = 8 * NS_PER_MS
LEAP_NS: Final = 2 * NS_PER_S
"""An exchange time this far ahead of what the offset says is not believed: nothing can be early."""
BELIEVED_AFTER_NS: Final = 10 * NS_PER_S
"""Unless it stays so for this long: then the source has set its clock."""
ENOUGH: Final = 64
"""Messages before the offset is taken for known."""
LAST_STEP_NS: Final = 20 * NS_PER_US
"""The median moves at least this much a message, so that it follows a drifting clock."""


class ClockOffset:
    """Running median and windowed minimum of (receive time - exchange time).

    Args:
        window_ns: Length of the window of the minimum; it covers between one and two of these.

    Source:
        Feldman & Shavitt (2007), "An economic median estimator" (FAME), with a least step.
        The minimum as a clock filter: Mills, RFC 5905, section 10.
    """

    __slots__ = ("_before", "_ends", "_leapt", "_now", "_step", "_window_ns", "median_ns", "n")

    def __init__(self, window_ns: int = NS_PER_MIN) -> None:
        self._window_ns = window_ns
        self._step = FIRST_STEP_NS
        self._ends = 0
        self._now = 0
        self._before = 0
        self._leapt = 0
        self.n = 0
        """Messages seen."""
        self.median_ns = 0
        """Running median, ns; negative when our clock is behind."""

    @property
    def floor_ns(self) -> int:
        """Return the smallest difference within the window, ns; 0 before the first message."""
        return min(self._now, self._before)

    def observe(self, ts_recv: int, ts_exchange: int) -> bool:
        """Take in one message's receive and exchange time, both ns; tell whether the latter is believed.

        A late message is only late; one from the future shows that the source's clock has leapt.
        """
        delta = ts_recv - ts_exchange
        if delta < self.median_ns - LEAP_NS and self.n >= ENOUGH:
            self._leapt = self._leapt or ts_recv
            if ts_recv - self._leapt < BELIEVED_AFTER_NS:
                return False
            self.n, self._step, self._ends = 0, FIRST_STEP_NS, 0
        self._leapt = 0
        if self.n == 0:
            self.median_ns = self._before = delta
        self.n += 1
        if ts_recv >= self._ends:
            if self._ends:
                self._before = self._now
            self._ends, self._now = ts_recv + self._window_ns, delta
        elif delta < self._now:
            self._now = delta
        away = delta - self.median_ns
        self.median_ns += self._step if away > 0 else -self._step if away < 0 else 0
        if -self._step < away < self._step and self._step > LAST_STEP_NS:
            self._step >>= 1
        return True
