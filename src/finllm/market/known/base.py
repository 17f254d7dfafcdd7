"""The base forecast of a known world: what an edge can know from prices alone.

Volatility is followed at two speeds; the chance of a move and its lean are two logits on what the last
minutes did, fitted to the worlds themselves (`finllm_lab worth base`), news and all. So what a second look
adds to it is what the news says, and not the mending of a careless base.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.market.known.law import BAND, GRID_S, HORIZONS_S, LISTINGS, STEPS
from finllm.market.known.world import Day

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REACH: Final = tuple(horizon // GRID_S for horizon in HORIZONS_S)
"""Steps of each horizon."""
TILT_C: Final = 1.4
"""What ln k is worth in log-odds of a move: the slope under a normal law at a band of 0.4 deviations."""
FAST_S: Final = 120.0
SLOW_S: Final = 1_800.0
FAST_SHARE: Final = (0.6, 0.6, 0.5, 0.4)
"""Weight of the fast volatility in the log, by horizon."""
MOVE: Final[tuple[tuple[float, ...], ...]] = (
    (0.651, 0.363, 0.0987, -0.0332),
    (0.6491, 0.2843, 0.0929, -0.0106),
    (0.7855, 0.1836, 0.0504, -0.0152),
    (0.8454, -0.0474, 0.0317, -0.0002),
)
"""By horizon, logit of a move: 1, log of fast over slow volatility, absolute z of 30 s and of 10 minutes."""
LEAN: Final[tuple[tuple[float, ...], ...]] = (
    (0.0298, 0.0619),
    (0.0332, 0.0924),
    (0.0451, 0.0776),
    (0.0366, 0.0328),
)
"""By horizon, logit of up against down: z of 30 s and of 10 minutes."""
MOST_Z: Final = 4.0
REGIMES: Final = ("calm", "active", "stressed")
_REGIME_FROM: Final = (1.5, 2.5)
"""Slow volatility over the listing's usual, from which on a market is active, and stressed."""


@dataclass(frozen=True, slots=True)
class Base:
    """Base forecasts of a day, on its grid."""

    sigma: Floats
    """[i, h, t], believed deviation of the return over the horizon, bps."""
    band: Floats
    """[i, h, t], half-width of the flat band, bps."""
    p: Floats
    """[i, h, t, 3], p_down, p_flat, p_up."""
    z: Floats
    """[i, t], the last 30 s' return in believed deviations."""
    regime: Ints
    """[i, t], index in `REGIMES`, as believed."""
    is_open: NDArray[np.bool_]
    """[h, t], the target lies within the day."""


def inputs(day: Day) -> tuple[Floats, Floats, Floats, Floats]:
    """Return log fast and slow volatility of a step, and z of 30 s and 10 minutes, each [i, t]."""
    fast = np.log(_volatility(day, FAST_S))
    slow = np.log(_volatility(day, SLOW_S))
    believed = np.exp(0.5 * (fast + slow))
    total = np.cumsum(np.pad(day.returns, ((0, 0), (1, 0))), axis=1)
    zs = []
    for steps in (3, 60):
        since = np.maximum(np.arange(STEPS) - steps, 0)
        z = (total[:, :STEPS] - total[:, since]) / (believed * np.sqrt(steps))
        zs.append(np.clip(z, -MOST_Z, MOST_Z))
    return fast, slow, zs[0], zs[1]


def base_of(day: Day) -> Base:
    """Return a day's base forecasts."""
    fast, slow, z30, z600 = inputs(day)
    reach = np.array(REACH)
    share = np.array(FAST_SHARE)[None, :, None]
    sigma = np.exp(share * fast[:, None] + (1.0 - share) * slow[:, None])
    sigma = sigma * np.sqrt(reach)[None, :, None]
    columns = np.stack([np.ones_like(z30), fast - slow, np.abs(z30), np.abs(z600)], axis=-1)
    move = _logistic(np.einsum("itk,hk->iht", columns, np.array(MOVE)))
    up = _logistic(np.einsum("itk,hk->iht", np.stack([z30, z600], axis=-1), np.array(LEAN)))
    p = np.stack([move * (1.0 - up), 1.0 - move, move * up], axis=-1)
    usual = np.array([listing.sigma_bps for listing in LISTINGS])[:, None]
    regime = np.digitize(np.exp(slow) / usual, _REGIME_FROM).astype(np.int64)
    is_open = np.arange(STEPS)[None, :] + reach[:, None] <= STEPS
    return Base(sigma, BAND * sigma, p, z30, regime, is_open)


def ahead(day: Day, columns: Floats) -> Floats:
    """Return sums of a step's quantity [i, t] over each horizon from each step on, [i, h, t]."""
    total = np.cumsum(np.pad(columns, ((0, 0), (1, 0))), axis=1)
    at = np.arange(STEPS)
    sums = [total[:, np.minimum(at + reach, STEPS)] - total[:, at] for reach in REACH]
    return np.stack(sums, axis=1)


def labels(day: Day, base: Base) -> Ints:
    """Return what became of each forecast: 0 down, 1 flat, 2 up, [i, h, t]; -1 where it is not open."""
    moved = ahead(day, day.returns)
    label = np.where(moved >= base.band, 2, np.where(moved <= -base.band, 0, 1))
    return np.where(base.is_open[None], label, -1)


def _volatility(day: Day, half_life_s: float) -> Floats:
    """Return an exponentially weighted deviation of a step before each step, [i, t]."""
    keep = 0.5 ** (GRID_S / half_life_s)
    level = day.usual[:, 0] ** 2
    out = np.empty_like(day.returns)
    squares = day.returns**2
    for t in range(STEPS):
        out[:, t] = level
        level = keep * level + (1.0 - keep) * squares[:, t]
    return np.sqrt(out)


def _logistic(x: Floats) -> Floats:
    out: Floats = 1.0 / (1.0 + np.exp(-x))
    return out
