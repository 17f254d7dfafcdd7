"""Made-up forecasts."""

from typing import Any

import msgspec

from finllm.domain.forecast import Forecast, Reference, Rung, Status

S = 1_000_000_000
REFERENCE = Reference(
    climatology=(0.25, 0.5, 0.25),
    ewma=(0.3, 0.4, 0.3),
    obi=(0.3, 0.4, 0.3),
    climatology_q=(-3.0, -1.5, 0.0, 1.5, 3.0),
    ewma_q=(-2.0, -1.0, 0.0, 1.0, 2.0),
)


def forecast(horizon_s: float = 10.0, *, issued: int, **changes: Any) -> Forecast:
    """Return version 1 of a forecast that the edge issued at an instant; `changes` are its fields."""
    horizon_ns = int(horizon_s * S)
    made = Forecast(
        forecast_id=f"f-{horizon_s:g}",
        instrument="test:A",
        horizon=f"{horizon_s:g}s",
        horizon_ns=horizon_ns,
        horizon_s=horizon_s,
        ts_event=issued,
        ts_recv=issued,
        ts_emit=issued,
        valid_until=issued + horizon_ns * 4 // 5,
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
        reference=REFERENCE,
    )
    return msgspec.structs.replace(made, **changes)
