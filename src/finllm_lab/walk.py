"""The edge walked over a session as if live: forecasts on the grid, outcomes fed back as they resolve.

What is scored is what is served: the real session, calibration and baselines, in order of receive
time. Knows nothing of fitting.
"""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS, Forecast, Outcome, Rung
from finllm.domain.market import ROW_HEAD
from finllm.edge.artifact import Artifact
from finllm.edge.bank import alone
from finllm.edge.serving import entries_of
from finllm.edge.session import EdgeSession
from finllm.features.outcomes import OutcomeResolver
from finllm_lab.labels import grid
from finllm_lab.tapes import Session

P_FLOOR: Final = 1e-6
VOICES: Final = ("edge", "climatology", "ewma", "obi")
"""Whose probabilities are scored, in this order."""


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """The losses of one session, one entry per resolved forecast, by horizon."""

    ts: list[NDArray[np.int64]]
    log: list[NDArray[np.float64]]
    """Per horizon float64 [n, 4]: log loss of each of `VOICES`."""
    pinball: list[NDArray[np.float64]]
    """Per horizon float64 [n, 3]: mean pinball loss of edge, climatology and EWMA, bps."""


def walk(session: Session, artifact: Artifact, grid_ns: int) -> Losses:
    """Walk the edge over a session and return the losses of its untilted claims."""
    raw = artifact.model.infer(session.rows)
    edge = EdgeSession(alone(artifact), artifact.spec, session.instrument)
    resolver = OutcomeResolver(session.instrument, artifact.horizons)
    entries = entries_of(session.heads, session.rows)
    entries_f = entries.view(np.float64)
    picked = set(grid(session.heads, grid_ns).tolist())
    pending: dict[str, Forecast] = {}
    ledger = _Ledger([horizon.name for horizon in artifact.horizons])
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
            ledger.enter(forecast, outcome)
        edge.observe(entries[i], entries_f[i])
        out = edge.speak(entries[i], entries_f[i], raw[i], ts)
        last[0] = head
        if i in picked:
            for h in range(len(artifact.horizons)):
                made = edge.record(out[0], entries_f[i], h, epoch=1, rung=Rung.FULL)
                pending[made.forecast_id] = made
                resolver.open(made.forecast_id, h, ts, int(head["mid2"]), made.band_bps)
    return ledger.losses()


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
