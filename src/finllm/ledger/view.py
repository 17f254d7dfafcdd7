"""The latest view: which version of each open forecast stands. In memory, rebuilt from entries."""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Applied, Closing, Revision, Standing, standing_of
from finllm.domain.units import NS_PER_S

ENDED_KEPT: Final = 65_536
"""Closed forecasts remembered at most, so that a late verdict can be told from one about nothing."""
ENDED_NS: Final = 300 * NS_PER_S
"""How long one is remembered after it closed: no verdict is awaited for so long."""


class LatestView:
    """Open forecasts by id, and the last closed ones. Changed only by records that are kept."""

    def __init__(self) -> None:
        self._open: dict[str, Forecast] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._ended: OrderedDict[str, tuple[int, Standing]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Forecast]:
        return iter(sorted(self._open.values(), key=lambda f: (f.valid_until, f.forecast_id)))

    def get(self, forecast_id: str) -> Forecast | None:
        """Return the standing version of an open forecast."""
        return self._open.get(forecast_id)

    def ended(self, forecast_id: str) -> Standing | None:
        """Return how a forecast stood when it closed, if that is remembered."""
        found = self._ended.get(forecast_id)
        return None if found is None else found[1]

    def admits(self, forecast: Forecast) -> bool:
        """Return whether a forecast is new: its id unheard of, or opened by a lower epoch."""
        known = self._open.get(forecast.forecast_id) or self.ended(forecast.forecast_id)
        return known is None or known.epoch < forecast.epoch

    def opened(self, forecast: Forecast) -> None:
        """Take a new forecast."""
        self._open[forecast.forecast_id] = forecast
        heapq.heappush(self._deadlines, (forecast.valid_until, forecast.forecast_id))

    def revised(self, revision: Revision) -> None:
        """Take a revision; only an applied one changes anything."""
        if revision.applied is Applied.APPLIED and revision.forecast is not None:
            self._open[revision.forecast_id] = revision.forecast

    def closed(self, closing: Closing) -> None:
        """Take a closing."""
        forecast = self._open.pop(closing.forecast_id, None)
        if forecast is None:
            return
        self._ended[closing.forecast_id] = closing.ts, standing_of(forecast)
        while len(self._ended) > ENDED_KEPT or self._oldest() < closing.ts - ENDED_NS:
            self._ended.popitem(last=False)

    def _oldest(self) -> int:
        """Return when the forecast that closed first of those remembered did."""
        return next(iter(self._ended.values()))[0]

    def due(self, now: int) -> Iterator[Forecast]:
        """Yield the forecasts whose time is over, by (valid_until, id); each must be closed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            valid_until, forecast_id = heapq.heappop(self._deadlines)
            forecast = self._open.get(forecast_id)
            if forecast is not None and forecast.valid_until == valid_until:
                yield forecast
