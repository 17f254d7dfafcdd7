"""Notices, standing forecasts and beliefs to ask a gate about."""

from typing import Any

import msgspec

from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast
from finllm.escalation.latency import LatencyBelief, LatencySettings
from support import forecasts
from support.forecasts import S

MS = 1_000_000
NOW = 1_000 * S


def belief(p95_ms: float = 20.0) -> LatencyBelief:
    told = LatencyBelief(LatencySettings(window=40))
    for i in range(40):
        told.observe(int((p95_ms if i % 4 == 0 else p95_ms / 4) * MS))
    return told


def forecast(horizon_s: float = 10.0, age_s: float = 0.0, **changes: Any) -> Forecast:
    names = {"forecast_id": f"f-{horizon_s}-{age_s}"}
    return forecasts.forecast(horizon_s, issued=NOW - int(age_s * S), **names | changes)


def notice(**changes: Any) -> EvidenceNotice:
    made = EvidenceNotice(
        notice_id="n",
        instrument="test:A",
        ts_recv=NOW,
        evidence_id="e",
        relevance=0.9,
        novelty=0.9,
        credibility=0.9,
        stance=0.5,
        burst=3.0,
    )
    return msgspec.structs.replace(made, **changes)
