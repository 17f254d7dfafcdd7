"""How a source's stamps stand to our clock: the least delay among its new documents, in constant memory.

Stamps lie before receipt by the source's own delay, the wait until we ask, and whatever its clock or its
zone is off. The least of the recent delays is the nearest to that last part alone. Nothing is corrected by
it: what it shows is told.
"""

from collections import deque
from typing import Final

from finllm.domain.units import NS_PER_MIN

RECENT: Final = 32
"""Documents that the least delay is taken over."""
ENOUGH: Final = 4
"""Documents before anything is said of a clock."""
ZONE_STEP_NS: Final = 30 * NS_PER_MIN
"""Zones differ by multiples of this, but for three that differ by a quarter of an hour more."""
NEAR_NS: Final = 5 * NS_PER_MIN
"""A least delay this near to such a multiple looks like a zone."""


class SourceClock:
    """Running estimate of (receive time - stamp) for one source.

    Source:
        The minimum as a clock filter: Mills, RFC 5905, section 10.
    """

    def __init__(self) -> None:
        self._delays: deque[int] = deque(maxlen=RECENT)
        self.n = 0
        """Documents seen."""

    @property
    def offset_ns(self) -> int:
        """Return the least recent delay, ns; negative if stamps lie ahead of our clock; 0 at first."""
        return min(self._delays, default=0)

    @property
    def is_mis_zoned(self) -> bool:
        """Return whether the stamps are off by about a whole number of half hours, one at least."""
        if len(self._delays) < ENOUGH:
            return False
        zones = round(self.offset_ns / ZONE_STEP_NS)
        return zones != 0 and abs(self.offset_ns - zones * ZONE_STEP_NS) <= NEAR_NS

    def observe(self, ts_recv: int, ts_published: int) -> None:
        """Take in the receive time and the stamp of a document that was new when it came, both ns."""
        self.n += 1
        self._delays.append(ts_recv - ts_published)
