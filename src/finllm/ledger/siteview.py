"""Which version of each forecast stands for a whole site: the fold of the site's log, behind the fence.

Whoever folds the same log sees the same, whenever it comes to it. Two things that an owner wrote are in
the log and count for nothing: what comes after its successor began, and a revision that reaches the log
only after its forecast's expiry, by the log's clock, whatever the owner's clock said.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Closing, Outlook, Revision, follows
from finllm.domain.tenure import Fence, Tenure
from finllm.domain.units import NS_PER_S
from finllm.ledger.sitelog import Logged
from finllm.ledger.view import LatestView

CLOCKS_APART_NS: Final = 2 * NS_PER_S
"""How far the clocks of owners and log may be apart before a revision in time is taken for a late one."""


def is_in_time(revision: Revision, standing: Forecast, logged_at: int) -> bool:
    """Return whether a revision was in the log before its forecast's expiry."""
    return not revision.forecast or logged_at < standing.valid_until + CLOCKS_APART_NS


class SiteView:
    """A follower's fold. Takes each entry once, in the log's order."""

    def __init__(self) -> None:
        self.count = 0
        """Entries of the log taken."""
        self.fence = Fence()
        self._open = LatestView()
        self._outlooks: dict[str, Outlook] = {}

    def __iter__(self) -> Iterator[Forecast]:
        return iter(self._open)

    def get(self, forecast_id: str) -> Forecast | None:
        """Return the standing version of an open forecast."""
        return self._open.get(forecast_id)

    def outlook(self, instrument: str) -> Outlook | None:
        """Return the newest outlook on an instrument, over or not."""
        return self._outlooks.get(instrument)

    def take(self, logged: Logged) -> bool:
        """Take the next entry; tell whether it counts."""
        self.count += 1
        writer, record = logged.writer, logged.record
        if isinstance(record, Tenure):
            return record.owner == writer and self.fence.begin(record)
        if isinstance(record, Forecast):
            return self._opened(writer, record)
        if isinstance(record, Outlook):
            return self._outlook(writer, record)
        if isinstance(record, Revision | Closing):
            return self._changed(logged, record)
        return True

    def inherited(self, instrument: str, epoch: int) -> list[Forecast]:
        """Return the open forecasts of lower epochs, as the owner of a new one goes on with them."""
        return [
            msgspec.structs.replace(forecast, epoch=epoch)
            for forecast in self._open
            if forecast.instrument == instrument and forecast.epoch < epoch
        ]

    def _opened(self, writer: str, forecast: Forecast) -> bool:
        if not self.fence.admits(writer, forecast.instrument, forecast.epoch):
            return False
        standing = self._open.get(forecast.forecast_id)
        if standing is None:
            goes_on = forecast.version == 1 and self._open.ended(forecast.forecast_id) is None
        else:
            goes_on = forecast == msgspec.structs.replace(standing, epoch=forecast.epoch)
        if goes_on:
            self._open.opened(forecast)
        return goes_on

    def _outlook(self, writer: str, outlook: Outlook) -> bool:
        if not self.fence.admits(writer, outlook.instrument):
            return False
        standing = self._outlooks.get(outlook.instrument)
        if follows(outlook, 0 if standing is None else standing.version):
            self._outlooks[outlook.instrument] = outlook
            return True
        return False

    def _changed(self, logged: Logged, record: Revision | Closing) -> bool:
        standing = self._open.get(record.forecast_id)
        if standing is None:
            return False
        if not self.fence.admits(logged.writer, standing.instrument, standing.epoch):
            return False
        if isinstance(record, Closing):
            return self._closed(record, standing)
        counts = is_in_time(record, standing, logged.ts)
        if counts:
            self._open.revised(record)
        return counts

    def _closed(self, closing: Closing, standing: Forecast) -> bool:
        """End a forecast; not by an owner whose last revision of it did not count."""
        counts = closing.version == standing.version
        if counts:
            self._open.closed(closing)
        return counts
