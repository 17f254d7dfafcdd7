"""The label rule: one pure function for lab, audit and live alike."""

import math
from typing import Final

from finllm.domain.units import BPS

DOWN: Final = 0
FLAT: Final = 1
UP: Final = 2

BANDS: Final = ("half_spread", "sigma")
"""Kinds of flat band."""
SIGMA_BAND: Final = 0.4
"""Width of a `sigma` band in standard deviations: leaves about a third flat under a normal law."""
SLACK: Final = 1e-9
"""A return this share short of the band still counts as a move: both come out of divisions."""


def return_bps(mid2_from: int, mid2_to: int) -> float:
    """Return the simple return between two mids in basis points. Both in the same integer unit."""
    return (mid2_to / mid2_from - 1.0) * BPS


def band_bps(kind: str, *, spread_ticks: int, mid2: int, sigma: float, horizon_s: float) -> float:
    """Return the half-width of the flat band in basis points, fixed at issue.

    Args:
        kind: `half_spread` or `sigma`.
        spread_ticks: Spread at issue.
        mid2: Twice the mid at issue, in ticks.
        sigma: Volatility at issue, bps per root second.
        horizon_s: Horizon in seconds.

    Raises:
        ValueError: If the kind is neither.
    """
    if kind == "half_spread":
        return spread_ticks / mid2 * BPS
    if kind == "sigma":
        return SIGMA_BAND * sigma * math.sqrt(horizon_s)
    raise ValueError(f"a flat band is 'half_spread' or 'sigma', not {kind!r}")


def label(ret_bps: float, band: float) -> int:
    """Return DOWN, FLAT or UP. A return as large as the band (to `SLACK`) is a move."""
    edge = band * (1.0 - SLACK)
    if ret_bps >= edge and ret_bps > 0.0:
        return UP
    if ret_bps <= -edge and ret_bps < 0.0:
        return DOWN
    return FLAT
