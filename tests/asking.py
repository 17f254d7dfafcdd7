"""Notices, standing forecasts and beliefs to ask a gate about."""

from typing import Any

import msgspec

from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast, Rung, Status
from finllm.escalation.latency import LatencyBelief, LatencySettings

MS = 1_000_000
S = 1_000 * MS
NOW = 1_000 * S


def belief(p95_ms: float = 20.0) -> LatencyBelief:
    told = LatencyBelief(LatencySettings(window=40))
    for i in range(40):
        told.observe(int((p95_ms if i % 4 == 0 else p95_ms / 4) * MS))
    return told


def forecast(horizon_s: float = 10.0, age_s: float = 0.0, **changes: Any) -> Forecast:
    ts = NOW - int(age_s * S)
    horizon_ns = int(horizon_s * S)
    made = Forecast(
        forecast_id=f"f-{horizon_s}-{age_s}",
        instrument="test:A",
        horizon=f"{horizon_s:g}s",
        horizon_ns=horizon_ns,
        horizon_s=horizon_s,
        ts_event=ts,
        ts_recv=ts,
        ts_emit=ts,
        valid_until=ts + horizon_ns * 4 // 5,
        epoch=1,
        version=1,
        base_version=0,
        base=(0.3, 0.4, 0.3),
        emitted=(0.3, 0.4, 0.3),
        base_q=(-2.0, -1.0, 0.0, 1.0, 2.0),
        emitted_q=(-2.0, -1.0, 0.0, 1.0, 2.0),
        band_bps=0.5,
        regime="calm",
        model_version="m",
        calibration_version=0,
        outlook_version=0,
        spec_hash="s",
        row_seq=1,
        status=Status.SPECULATIVE,
        flags=1,
        rung=Rung.FULL,
        tilt_c=1.0,
    )
    return msgspec.structs.replace(made, **changes)


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
