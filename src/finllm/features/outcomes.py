"""What became of each forecast: its target is watched until it can be seen, then labelled.

One rule for every kind of horizon: a clock horizon is valued at the last row received at or before
its target time, an event horizon at the row of the n-th later bar. A target that could not be seen
well is void, with the reason, never guessed. Knows nothing of what was forecast.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import Outcome
from finllm.domain.instrument import Horizon
from finllm.domain.label import label, return_bps
from finllm.domain.market import Flag
from finllm.domain.units import NS_PER_S

NEVER: Final = (1 << 63) - 1
"""`next_due` while no clock target is pending."""
SILENCE_NS: Final = 5 * NS_PER_S
"""A clock target is void if the last row before it is older than this or than half the horizon,
whichever is longer: half a horizon of silence leaves the return in doubt by as much as it says."""
VOID: Final = -1
NO_ROW: Final = "no row before the target"
NOT_VALID: Final = "last row before the target was not valid"
SILENT: Final = "silent before the target"
MISSED: Final = "the row at the target was not seen"
NO_PRICE: Final = "no price at issue"
ENDED: Final = "the record ended before the target"

Head = NDArray[np.void] | np.void
_VALID: Final = int(Flag.VALID)


class _Pending(NamedTuple):
    """A target that is waited for; the first two fields order the heap."""

    due: int
    """Target time in ns, or the row sequence of the target bar."""
    serial: int
    horizon: int
    forecast_id: str
    mid2: int
    band_bps: float


class OutcomeResolver:
    """The pending targets of one instrument.

    On a stream of book views, call `resolve(head of the row before, now)` before each row later than
    `next_due` is processed. On bars, call `resolve(head, now)` with each bar's own head once it is
    pushed, and `open` after that; for clock horizons on bars also with the head before, first.

    Attributes:
        next_due: Earliest clock target still pending, ns; `NEVER` if there is none.
    """

    def __init__(self, instrument: str, horizons: Sequence[Horizon]) -> None:
        self._instrument = instrument
        self._horizons = tuple(horizons)
        self._clock: list[_Pending] = []
        self._bars: list[_Pending] = []
        self._serial = 0
        self._seq = 0
        self._seen_ts = -1
        self.next_due = NEVER

    @property
    def pending(self) -> int:
        """Return how many targets are waited for."""
        return len(self._clock) + len(self._bars)

    def open(self, forecast_id: str, horizon: int, ts: int, mid2: int, band_bps: float) -> None:
        """Wait for a forecast's target.

        Args:
            forecast_id: Id of the forecast, or of the row.
            horizon: Index of the horizon.
            ts: Receive time of the row that it was made from.
            mid2: Twice the mid of that row, ticks.
            band_bps: Half-width of the flat band as fixed at issue.

        Raises:
            ValueError: If an event horizon is opened on a bar that was not resolved first.
        """
        self._serial += 1
        events = self._horizons[horizon].events
        if events == 0:
            due = ts + self._horizons[horizon].ns
            waiting = _Pending(due, self._serial, horizon, forecast_id, mid2, band_bps)
            heappush(self._clock, waiting)
            self.next_due = self._clock[0].due
            return
        if ts != self._seen_ts:
            raise ValueError(f"resolve the bar of {ts} before opening a forecast on it")
        due = self._seq + events
        heappush(self._bars, _Pending(due, self._serial, horizon, forecast_id, mid2, band_bps))

    def resolve(self, last_head: Head | None, now: int) -> list[Outcome]:
        """Return the outcomes of all targets that can be seen, by due time, then order of opening.

        A clock target is due once `now` is later than it, because rows may share one receive time.

        Args:
            last_head: `ROW_HEAD` of the last row processed, or None if there is none.
            now: Receive time of the row about to be processed; on bars that of the head itself.
        """
        found = []
        while self._clock and self._clock[0].due < now:
            found.append(self._value_at_time(heappop(self._clock), last_head, now))
        self.next_due = self._clock[0].due if self._clock else NEVER
        if last_head is not None:
            self._seq = last_head["seq"].item()
            self._seen_ts = last_head["ts_recv"].item()
            while self._bars and self._bars[0].due <= self._seq:
                found.append(self._value_at_bar(heappop(self._bars), last_head, now))
        return found

    def abandon(self, now: int) -> list[Outcome]:
        """Return a void outcome for every target still pending, once the record has ended."""
        waiting = sorted(self._clock) + sorted(self._bars)
        self._clock, self._bars, self.next_due = [], [], NEVER
        return [self._void(target, now, ENDED) for target in waiting]

    def _value_at_time(self, target: _Pending, head: Head | None, now: int) -> Outcome:
        if head is None:
            return self._void(target, now, NO_ROW)
        silence = target.due - head["ts_recv"].item()
        if silence < 0:
            return self._void(target, now, MISSED)
        if silence > max(SILENCE_NS, self._horizons[target.horizon].ns // 2):
            return self._void(target, now, SILENT)
        return self._value(target, head, now)

    def _value_at_bar(self, target: _Pending, head: Head, now: int) -> Outcome:
        if self._seq > target.due:
            return self._void(target, now, MISSED)
        return self._value(target, head, now)

    def _value(self, target: _Pending, head: Head, now: int) -> Outcome:
        mid2 = head["mid2"].item()
        if target.mid2 <= 0:
            return self._void(target, now, NO_PRICE)
        if mid2 <= 0 or not head["flags"].item() & _VALID:
            return self._void(target, now, NOT_VALID)
        ret_bps = return_bps(target.mid2, mid2)
        return self._outcome(target, now, ret_bps, label(ret_bps, target.band_bps))

    def _void(self, target: _Pending, now: int, reason: str) -> Outcome:
        return self._outcome(target, now, 0.0, VOID, reason)

    def _outcome(
        self, target: _Pending, now: int, ret_bps: float, which: int, void: str = ""
    ) -> Outcome:
        return Outcome(
            forecast_id=target.forecast_id,
            instrument=self._instrument,
            horizon=self._horizons[target.horizon].name,
            ts_resolved=now,
            return_bps=ret_bps,
            label=which,
            void=void,
        )
