"""One instrument's edge: from a feature row and a raw claim to a forecast row, thence to a record.

The order is model, calibration, tilt, in one kernel that also keeps the regime. The session holds
the standing outlook and learns from outcomes between rows, never inside one. It knows its artifact
and its instrument; it reads no clock (the caller stamps `ts_emit`) and never sees a future row.
"""

import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError, InputError
from finllm.domain.forecast import Forecast, Outcome, Quantiles, Rung, Status, Triple
from finllm.domain.identity import content_id
from finllm.domain.instrument import Horizon
from finllm.domain.label import SIGMA_BAND
from finllm.domain.market import Flag
from finllm.domain.protocol import Outlook
from finllm.domain.spec import FeatureSpec
from finllm.domain.tilt import tilt as tilt_rule
from finllm.edge.artifact import Artifact, HorizonPrior
from finllm.edge.baselines import Baselines
from finllm.edge.calibration import Calibration
from finllm.edge.regime import ACTIVE, NAMES, motion_of, sigma_ewma, watch
from finllm.edge.resolved import Resolved
from finllm.runtime.kernels import kernel

N_PENDING: Final = 65_536
"""Forecasts whose outcome is awaited at most; the oldest is forgotten first."""
GOOD: Final = int(Flag.VALID)
BAD: Final = int(~(Flag.VALID | Flag.UNVERIFIED) & (Flag.ABSTAINED - 1))
ABSTAINED: Final = int(Flag.ABSTAINED)
LN2: Final = math.log(2.0)
Doubles = NDArray[np.float64]

# Columns of the table that the kernel reads, one row per horizon.
_ROOT_S, _IS_HALF_SPREAD, _TILT_C, _CAL, _SHIFT, _LOG_K, _SHARE = 0, 1, 2, 3, 7, 8, 9
_CLIMATE_P, _EMPIRICAL_Q, _PRIOR_Q = 10, 13, 18
_TABLE_WIDTH: Final = 23
# Offsets into the integer state: 0 to 2 are the regime's (see `regime.watch`).
_STATE, _CAL_VERSION, _OUT_VERSION, _OUT_TS, _OUT_EXPIRES, _OUT_HALF_LIFE, _SIGMA = (
    2,
    3,
    4,
    5,
    6,
    7,
    8,
)
_MARKS_SIZE: Final = 9

_tilt = kernel(tilt_rule)


class Issued(Protocol):
    """What `learn` needs of a forecast; a `Forecast` has it all."""

    @property
    def forecast_id(self) -> str:
        """Hash of its inputs."""
        ...


class EdgeSession:
    """The edge's state for one instrument.

    Args:
        artifact: Model, priors and rules.
        spec: The feature spec of the rows to come.
        instrument: Instrument key.

    Raises:
        ArtifactError: If the artifact reads another spec.
    """

    def __init__(self, artifact: Artifact, spec: FeatureSpec, instrument: str) -> None:
        manifest = artifact.manifest
        if manifest.spec_hash != spec.hash:
            raise ArtifactError(f"{manifest.name} reads spec {manifest.spec_hash}, not {spec.hash}")
        self.instrument = instrument
        self.horizons: tuple[Horizon, ...] = manifest.horizons
        self.n_unmatched = 0
        """Outcomes that taught nothing: void, of an abstaining forecast, or of a forgotten one."""
        self._manifest = manifest
        self._column = spec.columns[manifest.baseline_column]
        self._calibration = Calibration(manifest.priors, manifest.learning)
        self._baselines = Baselines(manifest.priors, manifest.learning)
        self._resolved = Resolved(len(self.horizons))
        self._pending: dict[str, tuple[float, ...]] = {}
        self._refit_due = 0
        self._motion = motion_of(manifest.regime)
        self._marks = np.zeros(_MARKS_SIZE, dtype=np.int64)
        self._marks[_STATE] = ACTIVE
        self._marks[_SIGMA] = spec.columns[manifest.sigma_column]
        self._table = _table(manifest.priors)
        self._publish()

    @property
    def regime(self) -> str:
        """Return the regime's name after the last row."""
        return NAMES[self._marks[_STATE]]

    @property
    def calibration_version(self) -> int:
        """Return the version of the calibration in force."""
        return self._calibration.version

    def forecast(
        self, head: Any, row: NDArray[np.float64], raw: NDArray[np.float64], out: Any
    ) -> None:
        """Fill one forecast row: regime, calibration, base, the outlook's tilt, band and flags.

        A row that is not good, or a raw claim that is not finite, is served climatology, untilted,
        with the flag ABSTAINED.

        Args:
            head: One `ROW_HEAD` record.
            row: float64 [F], the features.
            raw: float64 [H, 8], the model's claim about this row.
            out: One `forecast_row_dtype(H)` record with `ts_emit` set by the caller; filled.
        """
        _serve(head, row, raw, out, self._table, self._motion, self._marks)

    def adopt(self, outlook: Outlook | None) -> None:
        """Put an outlook in force for later rows, in place of the standing one; None ends it.

        Raises:
            InputError: If it is about another instrument, or its numbers cannot be used.
        """
        self._table[:, _SHIFT] = 0.0
        self._table[:, _LOG_K] = 0.0
        self._marks[_OUT_VERSION : _OUT_HALF_LIFE + 1] = 0
        if outlook is None:
            return
        if outlook.instrument != self.instrument:
            raise InputError(
                f"an outlook on {outlook.instrument} was handed to {self.instrument}",
                place=f"outlook {outlook.version}",
                mend="Hand each outlook to its own instrument's session.",
            )
        for i, horizon in enumerate(self.horizons):
            shift, k = outlook.at(horizon.ns, outlook.ts)
            self._table[i, _SHIFT] = shift
            self._table[i, _LOG_K] = math.log(k)
        self._marks[_OUT_VERSION : _OUT_HALF_LIFE + 1] = (
            outlook.version,
            outlook.ts,
            outlook.expires,
            outlook.half_life_ns,
        )

    def record(
        self,
        out: Any,
        head: Any,
        row: NDArray[np.float64],
        horizon_index: int,
        *,
        epoch: int,
        rung: Rung,
    ) -> Forecast:
        """Return one horizon of a forecast row as a record, beside what the baselines say.

        Call it before the next row: the EWMA baseline stands where the last row left it.

        Args:
            out: The row that `forecast` filled.
            head: Its `ROW_HEAD` record.
            row: float64 [F], its features.
            horizon_index: Which horizon.
            epoch: Fencing epoch of the owner.
            rung: Rung of the degradation ladder.
        """
        horizon, manifest = self.horizons[horizon_index], self._manifest
        ts_recv, ts_emit = int(out["ts_recv"]), int(out["ts_emit"])
        versions = (int(out["calibration_version"]), int(out["outlook_version"]))
        column, root_s = float(row[self._column]), float(self._table[horizon_index, _ROOT_S])
        sigma = _usable(float(row[self._marks[_SIGMA]]))
        ewma = sigma_ewma(self._motion)
        band = float(out["band_bps"][horizon_index])
        forecast = Forecast(
            forecast_id=content_id(
                self.instrument,
                horizon.name,
                int(out["seq"]),
                ts_recv,
                ts_emit,
                epoch,
                manifest.version,
                *versions,
            ),
            instrument=self.instrument,
            horizon=horizon.name,
            horizon_ns=horizon.ns,
            horizon_s=horizon.nominal_s,
            ts_event=int(out["ts_event"]),
            ts_recv=ts_recv,
            ts_emit=ts_emit,
            valid_until=min(ts_emit + horizon.ns * 4 // 5, ts_recv + horizon.ns),
            epoch=epoch,
            version=1,
            base_version=0,
            base=_triple(out["base_p"][horizon_index]),
            emitted=_triple(out["p"][horizon_index]),
            base_q=_quantiles(out["base_q"][horizon_index]),
            emitted_q=_quantiles(out["q"][horizon_index]),
            band_bps=band,
            regime=NAMES[int(out["regime"])],
            model_version=manifest.version,
            calibration_version=versions[0],
            outlook_version=versions[1],
            spec_hash=manifest.spec_hash,
            row_seq=int(out["seq"]),
            status=Status.SPECULATIVE,
            flags=int(out["flags"]),
            rung=rung,
            tilt_c=manifest.priors[horizon_index].tilt_c,
            reference=self._baselines.reference(
                horizon_index,
                column=_usable(column),
                unit_bps=(sigma or ewma) * root_s,
                ewma_bps=ewma * root_s,
                band_bps=band,
            ),
        )
        self._await(forecast, horizon_index, column, ewma * root_s)
        return forecast

    def _await(self, forecast: Forecast, horizon: int, column: float, unit_bps: float) -> None:
        parameters = self._calibration.under(forecast.calibration_version)
        if forecast.flags & ABSTAINED or parameters is None:
            return
        self._pending[forecast.forecast_id] = (
            horizon,
            column,
            unit_bps,
            forecast.band_bps,
            *_raw_of(forecast, parameters[horizon]),
        )
        if len(self._pending) > N_PENDING:
            del self._pending[next(iter(self._pending))]

    def learn(self, forecast: Issued, outcome: Outcome) -> None:
        """Take in what became of a forecast that this session recorded. Untilted claims only.

        Baselines and calibration are refitted when an outcome arrives at least `refit_ns` after the
        last refit, on all that had resolved before it; the calibration's version then grows.

        Args:
            forecast: The forecast as issued.
            outcome: Its outcome, handed in at a row boundary.
        """
        if self._refit_due == 0:
            self._refit_due = outcome.ts_resolved + self._manifest.learning.refit_ns
        elif outcome.ts_resolved >= self._refit_due:
            self._refit_due = outcome.ts_resolved + self._manifest.learning.refit_ns
            self._baselines.refit(self._resolved)
            self._calibration.refit(self._resolved)
            self._publish()
        issued = self._pending.pop(forecast.forecast_id, None)
        if issued is None or outcome.label < 0:
            self.n_unmatched += 1
            return
        horizon, column, unit_bps, band, *claim = issued
        self._baselines.count(int(horizon), outcome.label)
        self._resolved.add(
            int(horizon), (outcome.label, column, outcome.return_bps, unit_bps, band, *claim)
        )

    def _publish(self) -> None:
        table, baselines = self._table, self._baselines
        table[:, _CAL : _CAL + 4] = self._calibration.parameters
        table[:, _CLIMATE_P : _CLIMATE_P + 3] = baselines.climatology
        table[:, _EMPIRICAL_Q : _EMPIRICAL_Q + 5] = baselines.empirical_q
        table[:, _SHARE] = baselines.empirical_share
        self._marks[_CAL_VERSION] = self._calibration.version


def _table(priors: tuple[HorizonPrior, ...]) -> NDArray[np.float64]:
    table = np.zeros((len(priors), _TABLE_WIDTH))
    for i, prior in enumerate(priors):
        horizon = prior.horizon
        if horizon.band not in {"half_spread", "sigma"}:
            raise ArtifactError(f"horizon {horizon.name} has no such band as {horizon.band!r}")
        table[i, _ROOT_S] = math.sqrt(horizon.nominal_s)
        table[i, _IS_HALF_SPREAD] = horizon.band == "half_spread"
        table[i, _TILT_C] = prior.tilt_c
        table[i, _PRIOR_Q : _PRIOR_Q + 5] = prior.climatology_q
    return table


def _usable(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _triple(p: NDArray[np.float64]) -> Triple:
    down, flat, up = p.tolist()
    return down, flat, up


def _quantiles(q: NDArray[np.float64]) -> Quantiles:
    a, b, c, d, e = q.tolist()
    return a, b, c, d, e


def _raw_of(forecast: Forecast, parameters: NDArray[np.float64]) -> tuple[float, ...]:
    """Read a base claim back into raw terms: log-odds of a move, direction, quantiles in bps."""
    offset, scale, turn, width = parameters.tolist()
    down, flat, up = forecast.base
    median = forecast.base_q[2]
    return (
        (math.log((down + up) / flat) - offset) / scale,
        math.log(up / down) / turn,
        *(median + (q - median) / width for q in forecast.base_q),
    )


@kernel
def _calibrate(claim: Doubles, cells: Doubles, scale_bps: float, p: Doubles, q: Doubles) -> None:
    move = cells[3] + cells[4] * math.log((claim[0] + claim[2]) / claim[1])
    turn = cells[5] * math.log(claim[2] / claim[0])
    p_move = 1.0 / (1.0 + math.exp(-max(-16.0, min(16.0, move))))
    up_share = 1.0 / (1.0 + math.exp(-max(-16.0, min(16.0, turn))))
    p[0] = p_move * (1.0 - up_share)
    p[2] = p_move * up_share
    p[1] = 1.0 - p[0] - p[2]
    median = claim[5]
    for j in range(5):
        q[j] = (median + (claim[3 + j] - median) * cells[6]) * scale_bps


@kernel
def _abstain(cells: Doubles, scale_bps: float, p: Doubles, q: Doubles) -> None:
    for j in range(3):
        p[j] = cells[10 + j]
    for j in range(5):
        q[j] = cells[9] * cells[13 + j] + (1.0 - cells[9]) * cells[18 + j] * scale_bps


@kernel
def _fade(now: int, marks: NDArray[np.int64]) -> float:
    if marks[4] == 0 or now < marks[5] or now >= marks[6]:
        return 0.0
    return math.exp(-LN2 * (now - marks[5]) / marks[7])


@kernel
def _speaks(head: Any, sigma: float, raw: Doubles) -> bool:
    if (head.flags & GOOD) == 0 or (head.flags & BAD) != 0 or head.mid2 <= 0:
        return False
    total = sigma
    for h in range(raw.shape[0]):
        for j in range(8):
            total += raw[h, j]
    return math.isfinite(total)


@kernel
def _or_fast(sigma: float, motion: Doubles) -> float:
    """Return the row's sigma, or the fast volatility where the row has none."""
    if math.isfinite(sigma) and sigma > 0.0:
        return sigma
    return math.sqrt(motion[0] / motion[2]) if motion[2] > 0.0 else 0.0


@kernel
def _half_spread(head: Any) -> float:
    return head.spread / head.mid2 * 1e4 if head.mid2 > 0 else 0.0


@kernel
def _stamp(head: Any, out: Any, marks: NDArray[np.int64]) -> None:
    out.seq = head.seq
    out.ts_event = head.ts_event
    out.ts_recv = head.ts_recv
    out.flags = head.flags
    out.regime = marks[2]
    out.calibration_version = marks[3]
    out.outlook_version = 0


@kernel
def _serve(  # noqa: PLR0917 - a kernel: every array handed over costs about 0.1 us, so they are few
    head: Any,
    row: Doubles,
    raw: Doubles,
    out: Any,
    table: Doubles,
    motion: Doubles,
    marks: NDArray[np.int64],
) -> None:
    """Fill a forecast row from a raw claim: regime, calibration, tilt and band in one call."""
    watch(head.ts_recv, head.mid2, (head.flags & GOOD) != 0, motion, marks)
    _stamp(head, out, marks)
    sigma = row[marks[8]]
    speaks = _speaks(head, sigma, raw)
    sigma = _or_fast(sigma, motion)
    fade = _fade(out.ts_emit, marks) if speaks else 0.0
    if fade > 0.0:
        out.outlook_version = marks[4]
    if not speaks:
        out.flags = head.flags | ABSTAINED
    half_spread = _half_spread(head)
    base_p, p, base_q, q, band = out.base_p, out.p, out.base_q, out.q, out.band_bps
    for h in range(raw.shape[0]):
        cells = table[h]
        scale_bps = sigma * cells[0]
        band[h] = SIGMA_BAND * scale_bps if cells[1] == 0.0 else half_spread
        if speaks:
            _calibrate(raw[h], cells, scale_bps, base_p[h], base_q[h])
        else:
            _abstain(cells, scale_bps, base_p[h], base_q[h])
        for j in range(3):
            p[h, j] = base_p[h, j]
        for j in range(5):
            q[h, j] = base_q[h, j]
        if fade > 0.0:
            _tilt(p[h], q[h], cells[7] * fade, math.exp(cells[8] * fade), cells[2])
