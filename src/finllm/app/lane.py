"""A lane: everything that belongs to one instrument on its way from row to forecast record."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import Forecast, Outcome, Rung, forecast_row_dtype
from finllm.domain.market import ROW_HEAD, Flag, RowKind
from finllm.domain.protocol import Outlook
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import Artifact
from finllm.edge.session import EdgeSession
from finllm.features.observations import Observer
from finllm.features.outcomes import OutcomeResolver

_CITED_BOOK: Final = ("obi_1", "obi_5", "ofi_2s", "trade_flow_2s", "sigma", "spread_ticks")
_CITED_BAR: Final = ("ret_1", "ret_7", "sigma")


class Lane:
    """One instrument's session, open targets and standing forecasts.

    Args:
        index: The lane's number within its run.
        instrument: Instrument key.
        artifact: The model's artifact, which states the horizons.
        spec: The rows' feature spec.
        grid_ns: Least time between two records, unless flags, regime or outlook change.
    """

    def __init__(
        self, index: int, instrument: str, artifact: Artifact, spec: FeatureSpec, grid_ns: int
    ) -> None:
        self.index = index
        self.instrument = instrument
        self.horizons = artifact.horizons
        self.session = EdgeSession(artifact, spec, instrument)
        self.resolver = OutcomeResolver(instrument, artifact.horizons)
        columns = spec.columns
        cited = _CITED_BOOK if "obi_1" in columns else _CITED_BAR
        self.observer = Observer(instrument, spec, tuple(c for c in cited if c in columns))
        self.out = np.zeros(1, dtype=forecast_row_dtype(len(artifact.horizons)))
        self.head = np.zeros(1, dtype=ROW_HEAD)
        self.row = np.zeros(len(spec))
        self.standing: dict[int, Forecast] = {}
        self.outlook_version = 0
        self.n_bars = 0
        self._pending: dict[str, Forecast] = {}
        self._grid_ns = grid_ns
        self._next_grid = 0
        self._last = (-1, -1, -1)
        self._awake = False

    def settle(self, now: int) -> list[tuple[Forecast, Outcome]]:
        """Resolve the targets that lie before `now`, and learn from them."""
        if self.resolver.next_due >= now:
            return []
        return self._learn(self.resolver.resolve(self.head[0], now))

    def settle_bar(self, head: NDArray[np.void]) -> list[tuple[Forecast, Outcome]]:
        """Resolve the targets that this bar ends, and learn from them."""
        return self._learn(self.resolver.resolve(head, int(head["ts_recv"])))

    def _learn(self, outcomes: list[Outcome]) -> list[tuple[Forecast, Outcome]]:
        settled = []
        for outcome in outcomes:
            forecast = self._pending.pop(outcome.forecast_id)
            self.session.learn(forecast, outcome)
            settled.append((forecast, outcome))
        return settled

    def forecast(
        self, head: NDArray[np.void], row: NDArray[np.float64], raw: NDArray[np.float64]
    ) -> NDArray[np.void]:
        """Serve one row: fill and return the lane's forecast row, shape [1].

        Args:
            head: [1] of `ROW_HEAD`.
            row: [n_features].
            raw: [n_horizons, 8], what the model said.
        """
        self.head[:] = head
        self.row[:] = row
        self.out[0]["ts_emit"] = head[0]["ts_recv"]
        self.session.forecast(head[0], row, raw, self.out[0])
        return self.out

    def is_due(self) -> bool:
        """Tell whether the row just served is to become forecast records."""
        head, out = self.head[0], self.out[0]
        if not self._awake:
            self._awake = bool(head["flags"] & Flag.VALID)
        if not self._awake or head["mid2"] <= 0:
            return False
        now = (int(out["flags"]), int(out["regime"]), int(out["outlook_version"]))
        is_bar = head["kind"] == RowKind.BAR
        if not is_bar and now == self._last and head["ts_recv"] < self._next_grid:
            return False
        self._last = now
        self._next_grid = int(head["ts_recv"]) + self._grid_ns
        return True

    def records(self, epoch: int, rung: Rung) -> list[Forecast]:
        """Return the row just served as one forecast record per horizon, and open their targets."""
        self.observer.push(self.row)
        head = self.head[0]
        made = []
        for h in range(len(self.horizons)):
            forecast = self.session.record(self.out[0], head, self.row, h, epoch=epoch, rung=rung)
            self.standing[h] = forecast
            self._pending[forecast.forecast_id] = forecast
            self.resolver.open(
                forecast.forecast_id, h, forecast.ts_recv, int(head["mid2"]), forecast.band_bps
            )
            made.append(forecast)
        return made

    def asked_about(self, now: int) -> tuple[Forecast, ...]:
        """Return the standing forecasts that have not expired, shortest horizon first."""
        return tuple(f for _, f in sorted(self.standing.items()) if f.valid_until > now)

    def revise(self, forecast: Forecast) -> None:
        """Let a new version stand, if its forecast is still the newest of its horizon."""
        for h, standing in self.standing.items():
            if standing.forecast_id == forecast.forecast_id:
                self.standing[h] = forecast

    def adopt(self, outlook: Outlook) -> None:
        """Put an outlook in force from the next row on."""
        self.outlook_version = outlook.version
        self.session.adopt(outlook)
