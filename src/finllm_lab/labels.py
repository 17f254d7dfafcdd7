"""What became of each grid point of a session: returns and labels by the one rule of the domain.

A target is valued as the live resolver values it: at the last row received at or before a clock
target, at the n-th later row for an event horizon, and not at all where that row cannot be believed.
Knows nothing of models.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.instrument import Horizon
from finllm.domain.label import band_bps, label, return_bps
from finllm.domain.market import Flag
from finllm.domain.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S
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
    for seconds in (0.1, 0.5, 1.0, 5.0, 10.0, 30.0)
)
BAR_HORIZONS: Final = (
    Horizon(name="1bar", ns=NS_PER_HOUR, events=1, nominal_s=3_600.0, band="sigma"),
    Horizon(name="1d", ns=24 * NS_PER_HOUR, events=7, nominal_s=25_200.0, band="sigma"),
)


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
    sigmas = session.rows_at(at)[:, sigma_column].tolist()
    shape = (len(at), len(horizons))
    found = Targets(
        at=at,
        label=np.full(shape, -1, dtype=np.int64),
        scaled=np.zeros(shape),
        return_bps=np.zeros(shape),
        band_bps=np.zeros(shape),
    )
    for h, horizon in enumerate(horizons):
        ends = _ends(session.heads, at, horizon)
        mids = session.heads["mid2"][at].tolist(), session.heads["mid2"][ends].tolist()
        spreads = session.heads["spread"][at].tolist()
        for n, (mid2, later, spread) in enumerate(zip(*mids, spreads, strict=True)):
            _value(found, (n, h), (mid2, later, spread), sigmas[n], horizon)
        found.label[ends < 0, h] = -1
    return found


def _ends(heads: NDArray[np.void], at: NDArray[np.int64], horizon: Horizon) -> NDArray[np.int64]:
    """Return the row at which each target is valued; -1 where it cannot be believed."""
    if horizon.events:
        ends = at + horizon.events
        ends[ends >= len(heads)] = -1
    else:
        ts = heads["ts_recv"]
        due = ts[at] + horizon.ns
        ends = np.searchsorted(ts, due, side="right") - 1
        silence = due - ts[ends]
        ends[(due >= ts[-1]) | (silence > max(SILENCE_NS, horizon.ns // 2))] = -1
    good = (heads["flags"][ends] & int(Flag.VALID) > 0) & (heads["mid2"][ends] > 0)
    ends[~good] = -1
    return ends


def _value(
    found: Targets,
    place: tuple[int, int],
    seen: tuple[int, int, int],
    sigma: float,
    horizon: Horizon,
) -> None:
    """Enter one target: `seen` is the mid and the mid at its end, doubled, and the spread, ticks."""
    mid2, later, spread = seen
    band = band_bps(
        horizon.band, spread_ticks=spread, mid2=mid2, sigma=sigma, horizon_s=horizon.nominal_s
    )
    moved = return_bps(mid2, later)
    found.return_bps[place] = moved
    found.band_bps[place] = band
    found.scaled[place] = moved / (sigma * horizon.nominal_s**0.5)
    found.label[place] = label(moved, band)
