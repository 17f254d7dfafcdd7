"""What became of each grid point of a session: returns and labels by the one rule of the domain.

A target is valued as the live resolver values it: at the last row received at or before a clock
target, at the n-th later row for an event horizon, and not at all where that row cannot be believed.
Knows nothing of models.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.instrument import Horizon
from finllm.domain.label import DOWN, FLAT, SIGMA_BAND, SLACK, UP
from finllm.domain.market import Flag
from finllm.domain.units import BPS, NS_PER_HOUR, NS_PER_MS, NS_PER_S
from finllm_lab.tapes import Session

GRID_NS: Final = 100 * NS_PER_MS
"""Time between two grid points on order books; on bars every row is one."""
SILENCE_NS: Final = 5 * NS_PER_S

BOOK_HORIZONS: Final = tuple(
    Horizon(
        name=f"{seconds:g}s",
        ns=round(seconds * NS_PER_S),
        nominal_s=seconds,
        band="half_spread" if seconds <= 1.0 else "sigma",
    )
    for seconds in (0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0)
)
STOCK_HORIZONS: Final = tuple(
    Horizon(
        name=f"{seconds}s",
        ns=seconds * NS_PER_S,
        nominal_s=float(seconds),
        band="half_spread",
    )
    for seconds in (1, 5, 10, 30, 60)
)
"""Half a spread is a quarter of a move on stocks with a wide tick: most of a minute leaves them flat."""
BAR_HORIZONS: Final = (
    Horizon(name="1bar", ns=NS_PER_HOUR, events=1, nominal_s=3_600.0, band="sigma"),
    Horizon(name="1d", ns=24 * NS_PER_HOUR, events=7, nominal_s=25_200.0, band="sigma"),
)

DAY_HORIZONS: Final = (
    Horizon(name="1d", ns=24 * NS_PER_HOUR, events=1, nominal_s=3_600.0, band="sigma"),
)
"""A bar of a day lasts as many nominal seconds as any bar (`finllm.features.bars`)."""


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """The grid points of one session and what became of them at every horizon."""

    at: NDArray[np.int64]
    """[n], index of each grid point's row."""
    label: NDArray[np.int64]
    """[n, H], 0 down, 1 flat, 2 up, -1 unknown."""
    scaled: NDArray[np.float64]
    """float64 [n, H], return in units of sigma * sqrt(horizon)."""
    return_bps: NDArray[np.float64]
    """float64 [n, H]."""
    band_bps: NDArray[np.float64]
    """float64 [n, H]."""
    seen_at: NDArray[np.int64]
    """[n, H], the row on whose arrival the outcome is known; as many as there are rows = never."""


def grid(heads: NDArray[np.void], grid_ns: int) -> NDArray[np.int64]:
    """Return the rows that are grid points: good ones, at least `grid_ns` apart.

    Args:
        heads: [n] of `ROW_HEAD`.
        grid_ns: Least time between two; 0 takes every good row.
    """
    picked, due = [], 0
    # A stream without a continuity rule is no worse for that: its rows are served as well.
    is_good = (heads["flags"] & ~int(Flag.UNVERIFIED)) == int(Flag.VALID)
    for i, (ts, good) in enumerate(zip(heads["ts_recv"].tolist(), is_good.tolist(), strict=True)):
        if good and ts >= due:
            picked.append(i)
            due = ts + grid_ns
    return np.array(picked, dtype=np.int64)


def targets(
    session: Session, horizons: Sequence[Horizon], sigma_column: int, grid_ns: int
) -> Targets:
    """Return what became of a session's grid points, valued by all its rows.

    Grid points are chosen among the rows whose features are kept.
    """
    kept = session.kept
    at = kept[grid(session.heads[kept], grid_ns)]
    sigma = session.rows_at(at)[:, sigma_column]
    parts = [_ahead(session.heads, at, sigma, horizon) for horizon in horizons]
    label_, scaled, moved, band, seen_at = (
        np.stack(column, axis=1) for column in zip(*parts, strict=True)
    )
    return Targets(
        at=at, label=label_, scaled=scaled, return_bps=moved, band_bps=band, seen_at=seen_at
    )


def _ahead(
    heads: NDArray[np.void], at: NDArray[np.int64], sigma: NDArray[np.float64], horizon: Horizon
) -> tuple[NDArray[Any], ...]:
    """Return one horizon's columns: label, scaled return, return, band, row of knowledge."""
    ends, seen_at = _ends(heads, at, horizon)
    start, end = heads["mid2"][at], heads["mid2"][ends]
    scale = sigma * math.sqrt(horizon.nominal_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = (end / start - 1.0) * BPS
        half_spread = heads["spread"][at] / start * BPS
        scaled = moved / scale
    band = half_spread if horizon.band == "half_spread" else SIGMA_BAND * scale
    room = band * (1.0 - SLACK)
    is_known = (ends >= 0) & (start > 0)
    label_ = np.where((moved >= room) & (moved > 0.0), UP, FLAT)
    label_ = np.where((moved <= -room) & (moved < 0.0), DOWN, label_)
    return (
        np.where(is_known, label_, -1),
        np.where(is_known, scaled, 0.0),
        np.where(is_known, moved, 0.0),
        band,
        seen_at,
    )


def _ends(
    heads: NDArray[np.void], at: NDArray[np.int64], horizon: Horizon
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row at which each target is valued, -1 where it cannot be believed, and when it is known."""
    n = len(heads)
    if horizon.events:
        seen_at = np.minimum(at + horizon.events, n)
        ends = np.where(seen_at < n, seen_at, -1)
    else:
        ts = heads["ts_recv"]
        due = ts[at] + horizon.ns
        seen_at = np.searchsorted(ts, due, side="right")
        silence = due - ts[seen_at - 1]
        is_seen = (seen_at < n) & (silence <= max(SILENCE_NS, horizon.ns // 2))
        ends = np.where(is_seen, seen_at - 1, -1)
    good = (heads["flags"][ends] & int(Flag.VALID) > 0) & (heads["mid2"][ends] > 0)
    return np.where(good, ends, -1), seen_at
