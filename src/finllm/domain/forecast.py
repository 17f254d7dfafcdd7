"""The two grains of forecast, what becomes of one, and what it is measured against."""

from enum import StrEnum
from typing import Final

import msgspec
import numpy as np

Triple = tuple[float, float, float]
"""p_down, p_flat, p_up."""
Quantiles = tuple[float, float, float, float, float]
"""Return quantiles in bps at `LEVELS`."""

LEVELS: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Probabilities at which return quantiles are stated."""


class Status(StrEnum):
    """Where a forecast stands."""

    SPECULATIVE = "speculative"
    CONFIRMED = "confirmed"
    REFINED = "refined"
    RETRACTED = "retracted"
    FINAL = "final"
    EXPIRED = "expired"


class Rung(StrEnum):
    """Rung of the degradation ladder, best first."""

    FULL = "full"
    NO_EXPLANATION = "no_explanation"
    FEW_ESCALATIONS = "few_escalations"
    EDGE_ONLY = "edge_only"
    LAST_VALID = "last_valid"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What the three baselines said at the same instant, each fitted on labels resolved by then."""

    climatology: Triple
    ewma: Triple
    """Zero-mean, exponentially weighted volatility."""
    obi: Triple
    """Logistic on touch imbalance alone; on bars on the last return alone."""
    climatology_q: Quantiles
    """Empirical return quantiles, bps."""
    ewma_q: Quantiles


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a forecast or verdict has cost so far."""

    tokens: int = 0
    usd: float = 0.0
    energy_j: float = 0.0
    method: str = "none"
    """How the energy was arrived at."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """One calibrated claim about one instrument and horizon; version 1 of it is the edge's."""

    forecast_id: str
    """Hash of its inputs."""
    instrument: str
    horizon: str
    """The horizon's name."""
    horizon_ns: int
    horizon_s: float
    ts_event: int
    ts_recv: int
    ts_emit: int
    valid_until: int
    """0.8 of the horizon after issue; never past the target time."""
    epoch: int
    version: int
    base_version: int
    """The version that this one was made from; 0 on version 1."""
    base: Triple
    """The edge's calibrated probabilities before any outlook."""
    emitted: Triple
    """The same after the standing outlook, or after the verdict."""
    base_q: Quantiles
    emitted_q: Quantiles
    band_bps: float
    """Half-width of the flat band."""
    regime: str
    model_version: str
    calibration_version: int
    outlook_version: int
    """0 = no outlook in force."""
    spec_hash: str
    row_seq: int
    status: Status
    flags: int
    rung: Rung
    tilt_c: float
    """The artifact's c for this horizon, so that any tilt can be recomputed from the record."""
    reference: Reference | None = None
    cost: Cost = Cost()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one forecast's target."""

    forecast_id: str
    instrument: str
    horizon: str
    ts_resolved: int
    """When the outcome was known to us."""
    return_bps: float
    label: int
    """0 down, 1 flat, 2 up; -1 = void, the target could not be observed."""
    void: str = ""
    """Why, if void."""


def forecast_row_dtype(n_horizons: int) -> np.dtype[np.void]:
    """Return the dtype of a forecast row over `n_horizons` horizons.

    `base_p` and `p` are [n_horizons, 3]; `base_q` and `q` are [n_horizons, 5] in bps.
    """
    return np.dtype(
        [
            ("seq", np.int64),
            ("ts_event", np.int64),
            ("ts_recv", np.int64),
            ("ts_emit", np.int64),
            ("flags", np.int32),
            ("regime", np.int32),
            ("calibration_version", np.int32),
            ("outlook_version", np.int32),
            ("base_p", np.float64, (n_horizons, 3)),
            ("p", np.float64, (n_horizons, 3)),
            ("base_q", np.float64, (n_horizons, 5)),
            ("q", np.float64, (n_horizons, 5)),
            ("band_bps", np.float64, (n_horizons,)),
        ]
    )
