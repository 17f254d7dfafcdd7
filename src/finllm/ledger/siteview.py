"""Which version of each forecast stands for a whole site: the fold of the site's log, behind the fence.

Whoever folds the same log sees the same, whenever it comes to it: what an owner wrote after its
successor began is in the log and counts for nothing.
"""

from collections.abc import Iterator

import msgspec

from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Closing, Outlook, Revision, follows
from finllm.domain.tenure import Fence, Tenure
from finllm.ledger.sitelog import Logged
from finllm.ledger.view import LatestView


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
            return self._changed(writer, record)
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

    def _changed(self, writer: str, record: Revision | Closing) -> bool:
        standing = self._open.get(record.forecast_id)
        if standing is None or not self.fence.admits(writer, standing.instrument, standing.epoch):
            return False
        if isinstance(record, Revision):
            self._open.revised(record)
        else:
            self._open.closed(record)
        return True
