"""A lane: everything that belongs to one instrument on its way from row to forecast record."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finllm.app.standing import StandingOutlook
from finllm.domain.evidence import Evidence
from finllm.domain.forecast import Forecast, Outcome, Rung
from finllm.domain.market import ROW_HEAD, Flag, RowKind
from finllm.domain.outlook import Market
from finllm.domain.protocol import Outlook
from finllm.domain.spec import FeatureSpec
from finllm.edge.bank import Bank
from finllm.edge.serving import EWMA, REGIME, ROW, entry_words
from finllm.edge.session import EdgeSession
from finllm.escalation.watch import Signs
from finllm.features.moves import Moves
from finllm.features.observations import Observer
from finllm.features.outcomes import OutcomeResolver

CITED_BOOK: Final = (
    *("obi_1", "obi_5", "ofi_2s", "flow_2s", "sigma", "spread_rel"),
    *("obi_10", "depth_slope_skew", "depletion_10s", "rv_10s", "rv_60s", "event_rate_2s"),
)
"""Columns of a book row that a reasoner may cite: who presses, how deep, how restless."""
CITED_LATELY: Final = ("obi_10", "depth_slope_skew", "depth_slope")
"""Columns of which the mean of the last seconds may be cited as well."""
MOVES_S: Final = (2, 5, 10, 20, 30, 60)
"""Windows over which a reasoner may cite the move of a book's mid, seconds."""
LAST_MOVE_S: Final = 10
"""Window of a book's last move, seconds."""
_CITED_BAR: Final = ("ret_1", "ret_7", "sigma")
_VALID: Final = int(Flag.VALID)
_BAR: Final = int(RowKind.BAR)
_STATE: Final = slice(8, 12)
"""Flags, regime, calibration and outlook version of a forecast row seen as int32."""


class Facts(NamedTuple):
    """A `ROW_HEAD` as plain integers, in its order."""

    seq: int
    ts_recv: int
    ts_event: int
    mid2: int
    spread: int
    flags: int
    kind: int


class Lane:
    """One instrument's session, open targets, standing forecasts and outlook.

    Args:
        index: The lane's number within its run.
        instrument: Instrument key.
        bank: The models, which state the horizons.
        spec: The rows' feature spec.
        grid_ns: Least time between two records, unless flags, regime or outlook change.
    """

    def __init__(
        self, index: int, instrument: str, bank: Bank, spec: FeatureSpec, grid_ns: int
    ) -> None:
        self.index = index
        self.instrument = instrument
        self.horizons = bank.horizons
        self.session = EdgeSession(bank, spec, instrument)
        self.resolver = OutcomeResolver(instrument, bank.horizons)
        self._columns = spec.columns
        is_book = "obi_1" in self._columns
        self.observer = (
            Observer(instrument, spec, CITED_BOOK, CITED_LATELY)
            if is_book
            else Observer(instrument, spec, _CITED_BAR)
        )
        self.moves = Moves(instrument, MOVES_S if is_book else ())
        self.out = self.session.out
        """The row last served, shape [1]: ours, or what a worker said."""
        self._state = self.out.view(np.int32)[_STATE]
        self.n_late = 0
        """Horizons of served rows that were over when the row came back; no record is made of them."""
        self.head: np.void | None = None
        """`ROW_HEAD` of the row last observed; None before the first."""
        self.facts = Facts(0, 0, 0, 0, 0, 0, 0)
        """The head of the row last served, as plain integers."""
        self.entry_f = np.zeros(entry_words(len(spec)))
        """The entry of the row last served (`edge.serving`), as float64."""
        self.standing: dict[int, Forecast] = {}
        self.outlook_version = 0
        self.told = -1
        """Version of the parameters that the server was last told."""
        self.outlook = StandingOutlook(self.session)
        self._pending: dict[str, Forecast] = {}
        self._grid_ns = grid_ns
        self._next_grid = 0
        self._last = (-1, -1, -1)
        self._awake = False

    def settle(self, now: int) -> list[tuple[Forecast, Outcome]]:
        """Resolve the targets that lie before `now`, and learn from them."""
        if self.resolver.next_due >= now:
            return []
        return self._learn(self.resolver.resolve(self.head, now))

    def settle_bar(self, head: np.void) -> list[tuple[Forecast, Outcome]]:
        """Resolve the targets that this bar ends, and learn from them."""
        return self._learn(self.resolver.resolve(head, int(head["ts_recv"])))

    def abandon(self, now: int) -> list[tuple[Forecast, Outcome]]:
        """End every target still pending as void; nothing is learnt from that."""
        ended = self.resolver.abandon(now)
        return [(self._pending.pop(outcome.forecast_id), outcome) for outcome in ended]

    def _learn(self, outcomes: list[Outcome]) -> list[tuple[Forecast, Outcome]]:
        settled = []
        for outcome in outcomes:
            forecast = self._pending.pop(outcome.forecast_id)
            self.session.learn(forecast, outcome)
            settled.append((forecast, outcome))
        return settled

    def observations(self) -> tuple[Evidence, ...]:
        """Return what the last row shows, as of its receipt; nothing if it was not valid."""
        if not self.facts.flags & _VALID:
            return ()
        ts = self.facts.ts_recv
        seen = self.observer.observations(self.row, ts)
        return (*seen, *self.moves.observations(ts, self.facts.mid2))

    def signs(self) -> Signs:
        """Return what may be flagged of the row last served: if it is not valid, its regime alone."""
        regime = int(self._state[1])
        if not self.facts.flags & _VALID:
            return Signs(regime=regime)
        if "obi_10" not in self._columns:
            return Signs(regime=regime, move_z=self.move_z())
        return Signs(
            regime=regime,
            move_z=self.move_z(),
            depth_z=self.observer.z("depletion_10s", self.row),
            lean=self._column("obi_10"),
        )

    def move_z(self) -> float:
        """Return the last move of the price, in its own deviations; 0 where it is not known."""
        if not self.facts.flags & _VALID:
            return 0.0
        if "ret_1_z" in self._columns:
            return self._column("ret_1_z")
        return self.moves.z(LAST_MOVE_S, self.facts.ts_recv, self.facts.mid2)

    def _column(self, name: str) -> float:
        value = float(self.row[self._columns[name]])
        return value if math.isfinite(value) else 0.0

    @property
    def row(self) -> NDArray[np.float64]:
        """Return the features of the row last served, float64 [F]."""
        return self.entry_f[ROW:]

    def forecast(
        self,
        facts: "Facts",
        head: np.void,
        entry: NDArray[np.int64],
        entry_f: NDArray[np.float64],
        raw: NDArray[np.float64],
    ) -> NDArray[np.void]:
        """Serve one observed row: fill and return the lane's forecast row, shape [1].

        Args:
            facts: The row's head as plain integers.
            head: The row's `ROW_HEAD`; kept until the next row.
            entry: int64 [9 + F], observed; kept until the next row.
            entry_f: The same memory as float64.
            raw: [n_horizons, 8], what the model said.
        """
        self.facts, self.entry_f, self.head = facts, entry_f, head
        return self.session.speak(entry, raw, facts.ts_recv)

    def observe(self, head: np.void, entry: NDArray[np.int64]) -> None:
        """Take in one row, in order, whether or not it will be served.

        Args:
            head: The row's `ROW_HEAD`; kept until the next row.
            entry: int64 [9 + F], head and features written.
        """
        self.head = head
        self.session.observe(entry)

    def take(self, row: NDArray[np.void], entry: NDArray[np.int64]) -> None:
        """Take a row that was served elsewhere.

        Args:
            row: The forecast row, shape [1]; kept until the next.
            entry: int64 [9 + F], what it speaks about; likewise.
        """
        self.out = row
        self._state = row.view(np.int32)[_STATE]
        self.entry_f = entry.view(np.float64)
        self.facts = Facts(*entry[:REGIME].view(ROW_HEAD)[0].item())

    def state(self) -> list[int]:
        """Return flags, regime, calibration version and outlook version of the row just served."""
        state: list[int] = self._state.tolist()
        return state

    def is_due(self, state: list[int]) -> bool:
        """Tell whether the row just served is to become forecast records."""
        facts = self.facts
        if not self._awake:
            self._awake = facts.flags & _VALID != 0
        if not self._awake or facts.mid2 <= 0:
            return False
        flags, regime, _, outlook = state
        now = (flags, regime, outlook)
        if facts.kind != _BAR and now == self._last and facts.ts_recv < self._next_grid:
            return False
        self._last = now
        self._next_grid = facts.ts_recv + self._grid_ns
        return True

    def records(self, epoch: int, rung: Rung) -> list[Forecast]:
        """Return the row just served as one forecast record per horizon, and open their targets."""
        self.observer.push(self.row)
        self.moves.push(self.facts.ts_recv, self.facts.mid2)
        out, mid2 = self.out[0], self.facts.mid2
        ts_recv, ts_emit = self.facts.ts_recv, int(out["ts_emit"])
        seen = ts_emit if self.head is None else max(ts_emit, int(self.head["ts_recv"]))
        made = []
        for h, horizon in enumerate(self.horizons):
            if not horizon.events and seen > ts_recv + horizon.ns:
                self.n_late += 1
                continue
            forecast = self.session.record(out, self.entry_f, h, epoch=epoch, rung=rung)
            self.standing[h] = forecast
            self._pending[forecast.forecast_id] = forecast
            self.resolver.open(forecast.forecast_id, h, forecast.ts_recv, mid2, forecast.band_bps)
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

    @property
    def market(self) -> Market:
        """Return what conditions on an outlook go by, of the row last served."""
        return _market(self.facts, self.entry_f.view(np.int64))

    def watch(self, facts: Facts, entry: NDArray[np.int64], now: int) -> Outlook | None:
        """Let what stands be ended by a row that is about to be served; see `StandingOutlook`.

        Args:
            facts: The row's head as plain integers.
            entry: int64 [9 + F], observed.
            now: The present instant, ns UTC.
        """
        if not self.outlook.is_due(now):
            return None
        return self.outlook.watch(_market(facts, entry) if facts.flags & _VALID else None, now)


def _market(facts: Facts, entry: NDArray[np.int64]) -> Market:
    sigma_bps = float(entry[EWMA : EWMA + 1].view(np.float64)[0])
    return Market(mid2=facts.mid2, regime=int(entry[REGIME]), sigma_bps=sigma_bps)
