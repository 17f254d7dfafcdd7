"""One instrument's edge: what it has seen, what it has learnt, and the outlook in force.

A row is observed once, in order; it is then spoken about with the parameters that the session keeps
(`serving`), here or in a worker. The session learns from outcomes between rows, never inside one. It
knows its artifact and its instrument; it reads no clock (the caller states `ts_emit`) and never sees a
future row.
"""

import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError, InputError
from finllm.domain.forecast import (
    Forecast,
    Outcome,
    Quantiles,
    Rung,
    Status,
    Triple,
    forecast_row_dtype,
)
from finllm.domain.identity import content_id
from finllm.domain.instrument import Horizon
from finllm.domain.protocol import Outlook
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import Artifact, HorizonPrior
from finllm.edge.baselines import EMPIRICAL_Q as TABLE_Q
from finllm.edge.baselines import SHARE as TABLE_SHARE
from finllm.edge.baselines import Baselines
from finllm.edge.calibration import Calibration
from finllm.edge.regime import ACTIVE, NAMES, STATE, motion_of
from finllm.edge.resolved import Resolved
from finllm.edge.serving import (
    ABSTAINED,
    CAL,
    CAL_VERSION,
    CLIMATE_P,
    EMPIRICAL_Q,
    EWMA,
    IS_HALF_SPREAD,
    LINE,
    LINES,
    LOG_K,
    N_HORIZONS,
    OUT_HALF_LIFE,
    OUT_VERSION,
    PRIOR_Q,
    ROOT_S,
    ROW,
    SHARE,
    SHIFT,
    SIGMA,
    TILT_C,
    TS_EMIT,
    VERSION,
    observe,
    parameter_words,
    speak,
)

N_PENDING: Final = 65_536
"""Forecasts whose outcome is awaited at most; the oldest is forgotten first."""
_ONE_OF: Final = np.eye(3, dtype=np.int64)


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
        self._sigma = spec.columns[manifest.sigma_column]
        self._calibration = Calibration(manifest.priors, manifest.learning)
        self._baselines = Baselines(manifest.priors, manifest.learning)
        self._resolved = Resolved([horizon.ns for horizon in self.horizons])
        self._pending: dict[str, tuple[float, ...]] = {}
        self._refit_due = 0
        self._motion = motion_of(manifest.regime)
        self._marks = np.array([0, 0, ACTIVE], dtype=np.int64)
        self.parameters = np.zeros(parameter_words(len(self.horizons)), dtype=np.int64)
        """What `speak` needs, int64; its first word grows with every change."""
        self._parameters_f = self.parameters.view(np.float64)
        self._lines = self._parameters_f[LINES:].reshape(-1, LINE)
        self.parameters[[SIGMA, N_HORIZONS]] = self._sigma, len(self.horizons)
        _write_priors(self._lines, manifest.priors)
        self.out = np.zeros(1, dtype=forecast_row_dtype(len(self.horizons)))
        """The forecast row last spoken, shape [1]; overwritten by the next."""
        self._out = self.out.view(np.int64)
        self._out_f = self.out.view(np.float64)
        self._publish()

    @property
    def regime(self) -> str:
        """Return the regime's name after the last row."""
        return NAMES[self._marks[STATE]]

    @property
    def calibration_version(self) -> int:
        """Return the version of the calibration in force."""
        return self._calibration.version

    def observe(self, entry: NDArray[np.int64], entry_f: NDArray[np.float64]) -> None:
        """Take in one row, in order: keep the regime, and write into the entry what was found.

        Args:
            entry: int64 [8 + F], head and features written; see `serving`.
            entry_f: The same memory as float64.
        """
        observe(entry, entry_f, self._motion, self._marks)

    def speak(
        self,
        entry: NDArray[np.int64],
        entry_f: NDArray[np.float64],
        raw: NDArray[np.float64],
        ts_emit: int,
    ) -> NDArray[np.void]:
        """Fill and return `out` for an observed row, with the parameters in force.

        A row that is not good, or a raw claim that is not finite, is served climatology, untilted,
        with the flag ABSTAINED.

        Args:
            entry: int64 [8 + F].
            entry_f: The same memory as float64.
            raw: float64 [H, 8], the model's claim about this row.
            ts_emit: When the row leaves, ns.
        """
        self._out[TS_EMIT] = ts_emit
        speak(entry, entry_f, raw, self.parameters, self._parameters_f, self._out, self._out_f)
        return self.out

    def adopt(self, outlook: Outlook | None) -> None:
        """Put an outlook in force for later rows, in place of the standing one; None ends it.

        Raises:
            InputError: If it is about another instrument, or its numbers cannot be used.
        """
        if outlook is not None and outlook.instrument != self.instrument:
            raise InputError(
                f"an outlook on {outlook.instrument} was handed to {self.instrument}",
                place=f"outlook {outlook.version}",
                mend="Hand each outlook to its own instrument's session.",
            )
        self.parameters[VERSION] += 1
        self._lines[:, (SHIFT, LOG_K)] = 0.0
        self.parameters[OUT_VERSION : OUT_HALF_LIFE + 1] = 0
        if outlook is None:
            return
        for i, horizon in enumerate(self.horizons):
            shift, k = outlook.at(horizon.ns, outlook.ts)
            self._lines[i, SHIFT] = shift
            self._lines[i, LOG_K] = math.log(k)
        self.parameters[OUT_VERSION : OUT_HALF_LIFE + 1] = (
            outlook.version,
            outlook.ts,
            outlook.expires,
            outlook.half_life_ns,
        )

    def record(
        self,
        out: Any,
        entry_f: NDArray[np.float64],
        horizon_index: int,
        *,
        epoch: int,
        rung: Rung,
    ) -> Forecast:
        """Return one horizon of a forecast row as a record, beside what the baselines say.

        Args:
            out: One forecast row record, spoken here or in a worker.
            entry_f: float64 [8 + F], the entry that it was spoken about.
            horizon_index: Which horizon.
            epoch: Fencing epoch of the owner.
            rung: Rung of the degradation ladder.
        """
        horizon, manifest = self.horizons[horizon_index], self._manifest
        ts_recv, ts_emit = int(out["ts_recv"]), int(out["ts_emit"])
        versions = (int(out["calibration_version"]), int(out["outlook_version"]))
        root_s = float(self._lines[horizon_index, ROOT_S])
        column = float(entry_f[ROW + self._column])
        sigma = _usable(float(entry_f[ROW + self._sigma]))
        ewma = float(entry_f[EWMA])
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
            forecast.ts_recv,
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
        horizon, ts, column, unit_bps, band, *claim = issued
        self._baselines.count(int(horizon), _ONE_OF[outcome.label])
        self._resolved.add(
            int(horizon),
            int(ts),
            (outcome.label, column, outcome.return_bps, unit_bps, band, *claim),
        )

    def _publish(self) -> None:
        lines, baselines = self._lines, self._baselines
        self.parameters[VERSION] += 1
        lines[:, CAL : CAL + 4] = self._calibration.parameters
        lines[:, CLIMATE_P : CLIMATE_P + 3] = baselines.tables[:, :3]
        lines[:, EMPIRICAL_Q : EMPIRICAL_Q + 5] = baselines.tables[:, TABLE_Q : TABLE_Q + 5]
        lines[:, SHARE] = baselines.tables[:, TABLE_SHARE]
        self.parameters[CAL_VERSION] = self._calibration.version


def _write_priors(lines: NDArray[np.float64], priors: tuple[HorizonPrior, ...]) -> None:
    for line, prior in zip(lines, priors, strict=True):
        horizon = prior.horizon
        if horizon.band not in {"half_spread", "sigma"}:
            raise ArtifactError(f"horizon {horizon.name} has no such band as {horizon.band!r}")
        line[ROOT_S] = math.sqrt(horizon.nominal_s)
        line[IS_HALF_SPREAD] = horizon.band == "half_spread"
        line[TILT_C] = prior.tilt_c
        line[PRIOR_Q : PRIOR_Q + 5] = prior.climatology_q


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
