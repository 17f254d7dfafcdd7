"""One instrument's edge: what it has seen, what it has learnt, and the outlook in force.

A row is observed once, in order; it is then spoken about with the parameters that the session keeps
(`serving`), here or in a worker, by the member of the bank that the row's regime calls for. Each member
has a calibration of its own, and an outcome teaches the one that spoke. The session learns from outcomes
between rows, never inside one. It knows its bank and its instrument; it reads no clock (the caller states
`ts_emit`) and never sees a future row.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError, InputError
from finllm.domain.forecast import (
    LEVELS,
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
from finllm.domain.label import BANDS
from finllm.domain.protocol import Outlook
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import HorizonPrior, Manifest
from finllm.edge.bank import Bank
from finllm.edge.baselines import EMPIRICAL_Q as TABLE_EMPIRICAL_Q
from finllm.edge.baselines import PRIOR_Q as TABLE_PRIOR_Q
from finllm.edge.baselines import SHARE as TABLE_SHARE
from finllm.edge.baselines import SIZES as TABLE_SIZES
from finllm.edge.baselines import Baselines, climatology_quantile, weight_of
from finllm.edge.calibration import Calibration
from finllm.edge.drift import Fit, Monitor
from finllm.edge.regime import COUNT, IS_KNOWN, N_REGIMES, NAMES, STATE, watch_words
from finllm.edge.resolved import Resolved
from finllm.edge.serving import (
    ABSTAINED,
    BLOCKS,
    CAL,
    CAL_VERSION,
    CLIMATE_P,
    EARNED,
    EMPIRICAL_Q,
    EWMA,
    IS_HALF_SPREAD,
    LINE,
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
    SIZES,
    SWITCHES,
    TILT_C,
    TRUST_P,
    TRUST_Q,
    TS_EMIT,
    VERSION,
    WIDTH_FRESH,
    WIDTH_NOW,
    block_words,
    observe,
    parameter_words,
    speak,
)
from finllm.edge.sizes import implied

N_PENDING: Final = 65_536
"""Forecasts whose outcome is awaited at most; the oldest is forgotten first."""
N_VERSIONS: Final = 256
"""Calibrations kept, so that a claim made under an older one can be read back into raw terms."""
_ONE_OF: Final = np.eye(3, dtype=np.int64)
WIDTH_STEP: Final = 64.0
"""Widths after a switch are rounded to one in so many: each change is a new version."""


class Issued(Protocol):
    """What `learn` needs of a forecast; a `Forecast` has it all."""

    @property
    def forecast_id(self) -> str:
        """Hash of its inputs."""
        ...


class _Voice:
    """One member of the bank as one instrument knows it: its calibration, and what it learnt that from."""

    def __init__(self, manifest: Manifest, resolved: Resolved) -> None:
        self.manifest = manifest
        self.calibration = Calibration(manifest.priors, manifest.learning)
        self.resolved = resolved
        self.version = 0
        """Of the calibration in force, counted over the whole session."""
        self.fresh = np.full(len(manifest.priors), manifest.learning.widen)
        """Widths right after a switch, float64 [H]."""
        self.now = np.ones(len(manifest.priors))
        """Widths in force for what was earned since the last switch that has outcomes, float64 [H]."""


class _Spoken(msgspec.Struct, frozen=True):
    """What a calibration version stands for."""

    voice: _Voice
    parameters: NDArray[np.float64]
    """float64 [H, 4]."""
    tables: NDArray[np.float64]
    """What the baselines said then, float64 [H, 54]; see `baselines`."""
    earned: int
    """The switch after which the widths were earned."""
    widths: NDArray[np.float64]
    """float64 [H]."""


class _Issued(msgspec.Struct, frozen=True):
    """What is remembered of a forecast until its outcome comes."""

    spoken: _Spoken
    """By which it was calibrated."""
    horizon: int
    ts: int
    switches: int
    base: Triple
    base_q: Quantiles
    climatology: Triple
    column: float
    ewma_bps: float
    """The EWMA's sigma * sqrt(horizon)."""
    unit_bps: float
    """The row's sigma * sqrt(horizon), or the EWMA's where it has none."""
    band_bps: float


class EdgeSession:
    """The edge's state for one instrument.

    Args:
        bank: Models, priors and rules.
        spec: The feature spec of the rows to come.
        instrument: Instrument key.

    Raises:
        ArtifactError: If the bank reads another spec.
    """

    def __init__(self, bank: Bank, spec: FeatureSpec, instrument: str) -> None:
        manifest = bank.manifest
        if manifest.spec_hash != spec.hash:
            raise ArtifactError(f"{bank.version} reads spec {manifest.spec_hash}, not {spec.hash}")
        self.instrument, self._manifest = instrument, manifest
        self.horizons: tuple[Horizon, ...] = manifest.horizons
        self.n_unmatched = 0
        """Outcomes that taught nothing: void, of an abstaining forecast, or of a forgotten one."""
        named = (manifest.baseline_column, manifest.sigma_column)
        self._column, self._sigma = (spec.columns[name] for name in named)
        self._baselines = Baselines(manifest.priors, manifest.learning)
        self._resolved = self._memory()
        self._monitor = Monitor(manifest.inputs, self.horizons)
        self._pending: dict[str, _Issued] = {}
        self._refit_due = self._n_versions = 0
        self._spoken: OrderedDict[int, _Spoken] = OrderedDict()
        self._earned = np.zeros(len(self.horizons))
        self._words, n = watch_words(manifest.regime), len(self.horizons)
        self.parameters = np.zeros(parameter_words(n), dtype=np.int64)
        """What `speak` needs, int64; its first word grows with every change."""
        blocks = self.parameters[BLOCKS:].reshape(N_REGIMES, block_words(n))
        self._versions = blocks[:, CAL_VERSION]
        self._lines = blocks.view(np.float64)[:, 1:].reshape(N_REGIMES, n, LINE)
        self.parameters[[SIGMA, N_HORIZONS]] = self._sigma, n
        self.out = np.zeros(1, dtype=forecast_row_dtype(n))
        """The forecast row last spoken, shape [1]; overwritten by the next."""
        self._out = self.out.view(np.int64)
        self._seat(bank, {})
        self._publish()

    def _seat(self, bank: Bank, known: dict[str, _Voice]) -> None:
        """Give every regime its member's voice; one that is known keeps what it has learnt."""
        shares = len(bank.artifacts) == 1 and not known
        self._voices = []
        for artifact in bank.artifacts:
            manifest = artifact.manifest
            voice = known.get(manifest.version)
            if voice is None:
                resolved = self._resolved if shares else self._memory()
                voice = _Voice(manifest, resolved)
            self._voices.append(voice)
            self._renew(voice)
        self._by_regime = [self._voices[number] for number in bank.by_regime]
        for lines, voice in zip(self._lines, self._by_regime, strict=True):
            _write_priors(lines, voice.manifest.priors)
            lines[:, WIDTH_FRESH] = voice.fresh

    def _memory(self) -> Resolved:
        return Resolved([horizon.ns for horizon in self.horizons])

    def fits(self, bank: Bank) -> None:
        """Check that a bank could serve in place of the present one.

        Raises:
            ArtifactError: If it reads another spec, serves other horizons or needs other columns.
        """
        manifest, before = bank.manifest, self._manifest
        for what in ("spec_hash", "horizons", "sigma_column", "baseline_column"):
            if getattr(manifest, what) != getattr(before, what):
                raise ArtifactError(
                    f"{bank.version} has another {what} than the bank that serves"
                    f" {self.instrument}: a live swap needs the same"
                )

    def swap(self, bank: Bank) -> None:
        """Let another bank speak from the next row on; call it between two rows.

        A member that both banks hold keeps its calibration; a new one begins at its own first values.
        What was issued before still teaches the member that spoke. Baselines and the outlook stay.

        Raises:
            ArtifactError: As `fits`; nothing has changed then.
        """
        self.fits(bank)
        manifest, before = bank.manifest, self._manifest
        known = {voice.manifest.version: voice for voice in self._voices}
        # What a member learnt of its own claims is its own; the baselines go on from a copy.
        if any(voice.resolved is self._resolved for voice in known.values()):
            self._resolved = deepcopy(self._resolved)
        self._manifest = manifest
        if manifest.regime != before.regime:
            self._adopt_rule(bank)
        self._monitor = Monitor(manifest.inputs, self.horizons)
        self._seat(bank, known)
        self._publish()

    def _adopt_rule(self, bank: Bank) -> None:
        """Follow another regime rule, keeping the volatilities and the count of switches."""
        words = watch_words(bank.rule)
        words[: COUNT + 1] = self._words[: COUNT + 1]
        words[IS_KNOWN] = 0
        self._words[:] = words

    @property
    def regime(self) -> str:
        """Return the regime's name after the last row."""
        return NAMES[self._words[STATE]]

    @property
    def calibration_version(self) -> int:
        """Return the version of the calibration in force in the present regime."""
        return int(self._versions[self._words[STATE]])

    @property
    def fit(self) -> Fit:
        """Return whether a model of the bank still fits."""
        return self._monitor.fit

    def observe(self, entry: NDArray[np.int64]) -> None:
        """Take in one row, in order: keep the regime, and write into the entry what was found.

        Args:
            entry: int64 [9 + F], head and features written; see `serving`.
        """
        observe(entry, self._words)

    def speak(
        self,
        entry: NDArray[np.int64],
        raw: NDArray[np.float64],
        ts_emit: int,
    ) -> NDArray[np.void]:
        """Fill and return `out` for an observed row, with the parameters in force.

        A row that is not good, or a raw claim that is not finite, is served climatology, untilted,
        with the flag ABSTAINED.

        Args:
            entry: int64 [9 + F].
            raw: float64 [H, 8], the model's claim about this row.
            ts_emit: When the row leaves, ns.
        """
        self._out[TS_EMIT] = ts_emit
        speak(entry, raw, self.parameters, self._out)
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
        self._lines[:, :, (SHIFT, LOG_K)] = 0.0
        self.parameters[OUT_VERSION : OUT_HALF_LIFE + 1] = 0
        if outlook is None:
            return
        for i, horizon in enumerate(self.horizons):
            shift, k = outlook.at(horizon.ns, outlook.ts)
            self._lines[:, i, SHIFT] = shift
            self._lines[:, i, LOG_K] = math.log(k)
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
            entry_f: float64 [9 + F], the entry that it was spoken about.
            horizon_index: Which horizon.
            epoch: Fencing epoch of the owner.
            rung: Rung of the degradation ladder.
        """
        horizon = self.horizons[horizon_index]
        ts_recv, ts_emit = int(out["ts_recv"]), int(out["ts_emit"])
        versions = (int(out["calibration_version"]), int(out["outlook_version"]))
        regime = int(out["regime"])
        spoken = self._spoken.get(versions[0])
        voice = self._by_regime[regime] if spoken is None else spoken.voice
        manifest = voice.manifest
        root_s = float(self._lines[regime, horizon_index, ROOT_S])
        column = float(entry_f[ROW + self._column])
        sigma = _usable(float(entry_f[ROW + self._sigma]))
        ewma = float(entry_f[EWMA])
        band = float(out["band_bps"][horizon_index])
        reference = self._baselines.reference(
            horizon_index,
            column=_usable(column),
            unit_bps=(sigma or ewma) * root_s,
            ewma_bps=ewma * root_s,
            band_bps=band,
        )
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
            regime=NAMES[regime],
            model_version=manifest.version,
            calibration_version=versions[0],
            outlook_version=versions[1],
            spec_hash=manifest.spec_hash,
            row_seq=int(out["seq"]),
            status=Status.SPECULATIVE,
            flags=int(out["flags"]),
            rung=rung,
            tilt_c=manifest.priors[horizon_index].tilt_c,
            reference=reference,
        )
        if horizon_index == 0:
            self._monitor.see(entry_f[ROW:])
        if spoken is not None and not forecast.flags & ABSTAINED:
            self._pending[forecast.forecast_id] = _Issued(
                spoken,
                horizon_index,
                ts_recv,
                int(entry_f[SWITCHES : SWITCHES + 1].view(np.int64)[0]),
                forecast.base,
                forecast.base_q,
                reference.climatology,
                column,
                ewma * root_s,
                (sigma or ewma) * root_s,
                band,
            )
            if len(self._pending) > N_PENDING:
                del self._pending[next(iter(self._pending))]
        return forecast

    def learn(self, forecast: Issued, outcome: Outcome) -> None:
        """Take in what became of a forecast that this session recorded. Untilted claims only.

        Baselines and calibrations are refitted when an outcome arrives at least `refit_ns` after the
        last refit, on all that had resolved before it; each calibration then has a new version.

        Args:
            forecast: The forecast as issued.
            outcome: Its outcome, handed in at a row boundary.
        """
        if self._refit_due == 0:
            self._refit_due = outcome.ts_resolved + self._manifest.learning.refit_ns
        elif outcome.ts_resolved >= self._refit_due:
            self._refit_due = outcome.ts_resolved + self._manifest.learning.refit_ns
            self._refit()
        issued = self._pending.pop(forecast.forecast_id, None)
        if issued is None or outcome.label < 0:
            self.n_unmatched += 1
            return
        label, horizon, mine = outcome.label, issued.horizon, issued.spoken.voice.resolved
        self._baselines.count(horizon, _ONE_OF[label])
        if any(held.wants(horizon, issued.ts) for held in (self._resolved, mine)):
            claim = _raw_of(issued)
            facts = (issued.column, outcome.return_bps, issued.ewma_bps, issued.band_bps)
            self._resolved.add(horizon, issued.ts, (label, *facts, *claim))
            if mine is not self._resolved:
                mine.add(horizon, issued.ts, (label, *facts, *claim))
        self._monitor.score(horizon, issued.ts, issued.base[label], issued.climatology[label])
        self._earn(issued)

    def _refit(self) -> None:
        self._baselines.refit(self._resolved)
        for voice in self._voices:
            voice.calibration.refit(voice.resolved)
            self._renew(voice)
        self._publish()

    def _earn(self, issued: _Issued) -> None:
        """Let the widening after a switch decay by an outcome of a forecast issued since."""
        horizon, voice = issued.horizon, issued.spoken.voice
        learning = voice.manifest.learning
        if issued.switches < self.parameters[EARNED] or learning.widen <= 1.0:
            return
        if issued.switches > self.parameters[EARNED]:
            self.parameters[EARNED] = issued.switches
            self._earned[:] = 0.0
            for held in self._voices:
                held.now[:] = held.fresh
                self._renew(held)
            self._publish()
        if issued.switches == 0:
            return
        self._earned[horizon] += weight_of(voice.manifest.priors[horizon], learning)
        left = learning.widen_n / (learning.widen_n + self._earned[horizon])
        width = 1.0 + round((learning.widen - 1.0) * left * WIDTH_STEP) / WIDTH_STEP
        if width < voice.now[horizon]:
            voice.now[horizon] = width
            self._renew(voice)
            self._publish()

    def _renew(self, voice: _Voice) -> None:
        """Give a voice's calibration a version, and remember what that stands for."""
        voice.version = self._n_versions
        self._n_versions += 1
        self._spoken[voice.version] = _Spoken(
            voice,
            voice.calibration.parameters,
            self._baselines.tables.copy(),
            int(self.parameters[EARNED]),
            voice.now.copy(),
        )
        if len(self._spoken) > N_VERSIONS:
            self._spoken.popitem(last=False)

    def _publish(self) -> None:
        lines, baselines = self._lines, self._baselines
        self.parameters[VERSION] += 1
        empirical_q = slice(TABLE_EMPIRICAL_Q, TABLE_EMPIRICAL_Q + 5)
        lines[:, :, CLIMATE_P : CLIMATE_P + 3] = baselines.tables[:, :3]
        lines[:, :, EMPIRICAL_Q : EMPIRICAL_Q + 5] = baselines.tables[:, empirical_q]
        lines[:, :, PRIOR_Q : PRIOR_Q + 5] = baselines.tables[:, TABLE_PRIOR_Q : TABLE_PRIOR_Q + 5]
        lines[:, :, SHARE] = baselines.tables[:, TABLE_SHARE]
        lines[:, :, SIZES:LINE] = baselines.tables[:, TABLE_SIZES:]
        for number, voice in enumerate(self._by_regime):
            lines[number, :, CAL : CAL + 4] = voice.calibration.parameters
            lines[number, :, WIDTH_NOW] = voice.now
            self._versions[number] = voice.version


def _write_priors(lines: NDArray[np.float64], priors: tuple[HorizonPrior, ...]) -> None:
    for line, prior in zip(lines, priors, strict=True):
        horizon = prior.horizon
        if horizon.band not in BANDS:
            raise ArtifactError(f"horizon {horizon.name} has no such band as {horizon.band!r}")
        line[ROOT_S] = math.sqrt(horizon.nominal_s)
        line[IS_HALF_SPREAD] = horizon.band == "half_spread"
        line[TILT_C] = prior.tilt_c
        line[TRUST_P], line[TRUST_Q] = prior.trust_p, prior.trust_q


def _usable(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _triple(p: NDArray[np.float64]) -> Triple:
    down, flat, up = p.tolist()
    return down, flat, up


def _quantiles(q: NDArray[np.float64]) -> Quantiles:
    a, b, c, d, e = q.tolist()
    return a, b, c, d, e


def _raw_of(issued: _Issued) -> tuple[float, ...]:
    """Read a base claim back into raw terms: log-odds of a move, direction, quantiles in bps.

    What was wholly climatology's holds nothing of the claim: noughts.
    """
    spoken, horizon = issued.spoken, issued.horizon
    offset, scale, turn, width = spoken.parameters[horizon].tolist()
    prior, table = spoken.voice.manifest.priors[horizon], spoken.tables[horizon]
    fresh = issued.switches > spoken.earned
    widened = float((spoken.voice.fresh if fresh else spoken.widths)[horizon])
    claim, q = (0.0, 0.0), [0.0] * 5
    if prior.trust_p > 0.0:
        part = widened / prior.trust_p
        down, flat, up = (
            max(1e-12, c + (p - c) * part)
            for p, c in zip(issued.base, table[:3].tolist(), strict=True)
        )
        claim = (math.log((down + up) / flat) - offset) / scale, math.log(up / down) / turn
    if prior.trust_q > 0.0:
        rest = _rest_of(issued, prior, table)
        q = [
            (said - (1.0 - prior.trust_q) * other) / prior.trust_q
            for said, other in zip(issued.base_q, rest, strict=True)
        ]
    return *claim, *(q[2] + (one - q[2]) / (width * widened) for one in q)


def _rest_of(issued: _Issued, prior: HorizonPrior, table: NDArray[np.float64]) -> Sequence[float]:
    """Return what a claim's quantiles were pooled with, bps; see `serving`."""
    if prior.trust_q == 1.0:
        return (0.0,) * 5
    if prior.trust_p > 0.0:
        down, flat, _ = issued.base
        sizes = table[TABLE_SIZES:]
        return [implied(level, down, flat, issued.band_bps, sizes) for level in LEVELS]
    share, pairs = (
        table[TABLE_SHARE],
        zip(table[TABLE_EMPIRICAL_Q:], table[TABLE_PRIOR_Q:], strict=False),
    )
    return [
        climatology_quantile(share, seen, first, issued.unit_bps)
        for (seen, first), _ in zip(pairs, LEVELS, strict=False)
    ]
