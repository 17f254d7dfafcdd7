"""The edge walked over a session as if live: forecasts on the grid, outcomes fed back as they resolve.

What is scored is what is served: the real session, calibration and baselines, in order of receive
time. Knows nothing of fitting.
"""

import math
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS, Forecast, Outcome, Rung
from finllm.domain.instrument import Horizon
from finllm.domain.market import ROW_HEAD, Flag
from finllm.edge.artifact import Artifact
from finllm.edge.regime import NAMES
from finllm.edge.serving import entries_of
from finllm.edge.session import EdgeSession
from finllm.features.outcomes import OutcomeResolver
from finllm_lab.labels import grid
from finllm_lab.tapes import Session

P_FLOOR: Final = 1e-6
VOICES: Final = ("edge", "climatology", "ewma", "obi")
"""Whose probabilities are scored, in this order."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge and its references said at each resolved grid point of one session and horizon."""

    session: str
    """Name of the recording."""
    instrument: str
    horizon: Horizon
    model_version: str
    ts: NDArray[np.int64]
    """int64 [n], receive time of the row, ns UTC."""
    ts_end: NDArray[np.int64]
    """int64 [n], when the outcome was known."""
    label: NDArray[np.int64]
    """int64 [n], 0 down, 1 flat, 2 up."""
    return_bps: NDArray[np.float64]
    band_bps: NDArray[np.float64]
    regime: NDArray[np.int64]
    """int64 [n], at issue; see `finllm.edge.regime.NAMES`."""
    is_abstained: NDArray[np.bool_]
    column: NDArray[np.float64]
    """float64 [n], the baseline column."""
    p: NDArray[np.float64]
    """float64 [n, 4, 3], down, flat, up by `VOICES`."""
    q: NDArray[np.float64]
    """float64 [n, 3, 5], bps, of edge, climatology and EWMA."""


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """The losses of one session, one entry per resolved forecast, by horizon."""

    ts: list[NDArray[np.int64]]
    log: list[NDArray[np.float64]]
    """Per horizon float64 [n, 4]: log loss of each of `VOICES`."""
    pinball: list[NDArray[np.float64]]
    """Per horizon float64 [n, 3]: mean pinball loss of edge, climatology and EWMA, bps."""


def walk(session: Session, artifact: Artifact, grid_ns: int) -> Losses:
    """Walk the edge over a session and return the losses of its untilted claims."""
    ledger = _Ledger([horizon.name for horizon in artifact.horizons])
    _walk(session, artifact, grid_ns, ledger.enter)
    return ledger.losses()


def spoken(session: Session, artifact: Artifact, grid_ns: int) -> list[Said]:
    """Walk the edge over a session and return what it and its references said, one record a horizon."""
    told: dict[str, list[tuple[Forecast, Outcome]]] = {h.name: [] for h in artifact.horizons}

    def enter(forecast: Forecast, outcome: Outcome) -> None:
        if outcome.label >= 0 and forecast.reference is not None:
            told[forecast.horizon].append((forecast, outcome))

    _walk(session, artifact, grid_ns, enter)
    baseline = artifact.spec.columns[artifact.manifest.baseline_column]
    column = dict(
        zip(session.heads["seq"].tolist(), session.rows[:, baseline].tolist(), strict=True)
    )
    return [_said(session, artifact, h, told[h.name], column) for h in artifact.horizons]


def _said(
    session: Session,
    artifact: Artifact,
    horizon: Horizon,
    told: list[tuple[Forecast, Outcome]],
    column: dict[int, float],
) -> Said:
    told.sort(key=lambda pair: pair[0].ts_recv)
    forecasts = [forecast for forecast, _ in told]
    references = [forecast.reference for forecast in forecasts if forecast.reference is not None]
    pairs = list(zip(forecasts, references, strict=True))
    p = [(f.base, r.climatology, r.ewma, r.obi) for f, r in pairs]
    q = [(f.base_q, r.climatology_q, r.ewma_q) for f, r in pairs]
    return Said(
        session=session.name,
        instrument=session.instrument,
        horizon=horizon,
        model_version=artifact.manifest.version,
        ts=np.array([f.ts_recv for f in forecasts], np.int64),
        ts_end=np.array([o.ts_resolved for _, o in told], np.int64),
        label=np.array([o.label for _, o in told], np.int64),
        return_bps=np.array([o.return_bps for _, o in told], np.float64),
        band_bps=np.array([f.band_bps for f in forecasts], np.float64),
        regime=np.array([NAMES.index(f.regime) for f in forecasts], np.int64),
        is_abstained=np.array([bool(f.flags & Flag.ABSTAINED) for f in forecasts], np.bool_),
        column=np.array([column[f.row_seq] for f in forecasts], np.float64),
        p=np.array(p, np.float64).reshape(-1, 4, 3),
        q=np.array(q, np.float64).reshape(-1, 3, 5),
    )


def _walk(
    session: Session,
    artifact: Artifact,
    grid_ns: int,
    enter: Callable[[Forecast, Outcome], None],
) -> None:
    raw = artifact.model.infer(session.rows)
    edge = EdgeSession(artifact, artifact.spec, session.instrument)
    resolver = OutcomeResolver(session.instrument, artifact.horizons)
    entries = entries_of(session.heads, session.rows)
    entries_f = entries.view(np.float64)
    picked = set(grid(session.heads, grid_ns).tolist())
    pending: dict[str, Forecast] = {}
    is_bars = artifact.horizons[0].events > 0
    last: NDArray[np.void] = np.zeros(1, dtype=ROW_HEAD)
    for i, ts in enumerate(session.heads["ts_recv"].tolist()):
        head = session.heads[i]
        outcomes: list[Outcome] = []
        if is_bars:
            outcomes = resolver.resolve(head, ts)
        elif resolver.next_due < ts:
            outcomes = resolver.resolve(last[0], ts)
        for outcome in outcomes:
            forecast = pending.pop(outcome.forecast_id)
            edge.learn(forecast, outcome)
            enter(forecast, outcome)
        edge.observe(entries[i], entries_f[i])
        out = edge.speak(entries[i], entries_f[i], raw[i], ts)
        last[0] = head
        if i in picked:
            for h in range(len(artifact.horizons)):
                made = edge.record(out[0], entries_f[i], h, epoch=1, rung=Rung.FULL)
                pending[made.forecast_id] = made
                resolver.open(made.forecast_id, h, ts, int(head["mid2"]), made.band_bps)


class _Ledger:
    """Losses as they come in."""

    def __init__(self, names: list[str]) -> None:
        self._rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}

    def enter(self, forecast: Forecast, outcome: Outcome) -> None:
        if outcome.label < 0 or forecast.reference is None:
            return
        said = forecast.reference
        claims = (forecast.base, said.climatology, said.ewma, said.obi)
        bands = (forecast.base_q, said.climatology_q, said.ewma_q)
        self._rows[forecast.horizon].append(
            (
                float(forecast.ts_recv),
                *(-math.log(max(p[outcome.label], P_FLOOR)) for p in claims),
                *(mean_pinball(q, outcome.return_bps) for q in bands),
            )
        )

    def losses(self) -> Losses:
        tables = [np.array(rows).reshape(-1, 8) for rows in self._rows.values()]
        return Losses(
            ts=[table[:, 0].astype(np.int64) for table in tables],
            log=[table[:, 1:5] for table in tables],
            pinball=[table[:, 5:] for table in tables],
        )


def mean_pinball(quantiles: tuple[float, ...], value: float) -> float:
    """Return the mean pinball loss of quantiles at `LEVELS`, in their unit."""
    total = 0.0
    for level, quantile in zip(LEVELS, quantiles, strict=True):
        miss = value - quantile
        total += level * miss if miss >= 0 else (level - 1.0) * miss
    return total / len(LEVELS)


def skill(losses: NDArray[np.float64], against: int) -> float:
    """Return 1 - mean loss of the first column / mean loss of column `against`; 0 of nothing."""
    if not len(losses):
        return 0.0
    return 1.0 - float(losses[:, 0].mean() / losses[:, against].mean())
