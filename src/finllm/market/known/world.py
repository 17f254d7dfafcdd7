"""A day of a known world: the law of its prices, step by step, and one draw from it.

Each step of the grid is normal given everything planted: its mean is what the stories pull, its variance the
regime, a slow noise and what the stories unsettle. So the return over any horizon is normal as well, and
what a forecast is worth is an integral, not a sample. Arrays are [instrument, step].
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finllm.domain.units import NS_PER_S
from finllm.market.known.law import GRID_S, LISTINGS, STEPS, Law
from finllm.market.known.stories import Plan, Story, day_start, plan

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TEN_MINUTES = 600 // GRID_S
_LASTS = 12.0
"""Half-lives after which nothing is left of a move."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day: what is planted, the law that follows from it, and what happened."""

    start: int
    plan: Plan
    regime: Ints
    """[i, t], 0 calm, 1 active, 2 stressed."""
    usual: Floats
    """[i, t], deviation of a step without news, bps."""
    drift: Floats
    """[i, t], mean of the step from t to t + 1, bps."""
    variance: Floats
    """[i, t], of the same step, bps squared."""
    returns: Floats
    """[i, t], what the step was, bps."""

    def step(self, ts: int) -> int:
        """Return the last step that begins at or before an instant."""
        return min(STEPS - 1, max(0, (ts - self.start) // (GRID_S * NS_PER_S)))


def days(law: Law, seed: int, n: int) -> Iterator[Day]:
    """Yield `n` days; each is a function of the law, the seed and its number alone."""
    for number in range(n):
        yield make_day(law, seed, number)


def make_day(law: Law, seed: int, number: int) -> Day:
    """Return one day."""
    planted = plan(law, seed, number)
    rng = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(b"known prices"), number]))
    )
    n = len(LISTINGS)
    regime = _regimes(law, rng, n)
    ratio = np.array(law.regime_ratio)[regime]
    sigma = np.array([listing.sigma_bps for listing in LISTINGS])[:, None]
    usual = sigma * ratio * np.exp(_slow_noise(law, rng, n))
    start = day_start(number)
    drift, boost = np.zeros((n, STEPS)), np.zeros((n, STEPS))
    for story in planted.stories:
        if story.size:
            _pull(story, start, usual, drift, boost)
    variance = (usual * (1.0 + np.minimum(boost, 2.0 * law.most_volatility))) ** 2
    returns = drift + np.sqrt(variance) * rng.standard_normal((n, STEPS))
    return Day(start, planted, regime, usual, drift, variance, returns)


def profile(story: Story, start: int) -> tuple[int, Floats]:
    """Return the first step that a story moves, and the share of its move in each step from there on.

    Steps before the day's start are cut off: what was priced in yesterday is.
    """
    since = (np.arange(STEPS + 1) * GRID_S * NS_PER_S + start - story.onset) / story.half_life_ns
    first = int(np.searchsorted(since, 0.0, side="right")) - 1
    last = min(STEPS, int(np.searchsorted(since, _LASTS)))
    first = max(0, first)
    if first >= last:
        return STEPS, np.zeros(0)
    done = -np.expm1(-np.log(2.0) * np.maximum(since[first : last + 1], 0.0))
    share: Floats = np.diff(done)
    return first, share


def whole_bps(story: Story, start: int, usual: Floats) -> float:
    """Return a story's whole move, bps: its size in deviations of ten minutes as they are at its onset."""
    at = min(STEPS - 1, max(0, (story.onset - start) // (GRID_S * NS_PER_S)))
    return float(story.size * usual[story.instrument, at] * TEN_MINUTES**0.5)


def _pull(story: Story, start: int, usual: Floats, drift: Floats, boost: Floats) -> None:
    first, share = profile(story, start)
    if not len(share):
        return
    span = slice(first, first + len(share))
    drift[story.instrument, span] += whole_bps(story, start, usual) * share
    since = (np.arange(first, first + len(share)) * GRID_S * NS_PER_S + start - story.onset) / (
        story.half_life_ns
    )
    boost[story.instrument, span] += story.volatility * np.exp2(-np.maximum(since, 0.0))


def _chain(law: Law, rng: np.random.Generator) -> Ints:
    """Return a chain of regimes, int64 [t]: from calm to active or stressed, from these mostly back."""
    out = np.empty(STEPS, dtype=np.int64)
    state, at = int(rng.random() < 0.35), 0
    chances = {0: (1, 2, 0.85), 1: (0, 2, 0.75), 2: (1, 0, 0.7)}
    while at < STEPS:
        stay = max(6, int(rng.exponential(law.dwell_s[state]) / GRID_S))
        out[at : at + stay] = state
        at += stay
        likely, other, p = chances[state]
        state = likely if rng.random() < p else other
    return out


def _regimes(law: Law, rng: np.random.Generator, n: int) -> Ints:
    whole = _chain(law, rng)
    own = [_chain(law, rng) for _ in range(n)]
    return np.stack([whole if rng.random() < law.common else chain for chain in own])


def _slow_noise(law: Law, rng: np.random.Generator, n: int) -> Floats:
    """Return a first-order autoregression in the log of volatility, float64 [n, t]."""
    keep = 0.5 ** (GRID_S / law.log_vol_half_life_s)
    shocks = rng.standard_normal((n, STEPS)) * law.log_vol_sd * np.sqrt(1.0 - keep * keep)
    out = np.empty((n, STEPS))
    level = rng.standard_normal(n) * law.log_vol_sd
    for t in range(STEPS):
        level = keep * level + shocks[:, t]
        out[:, t] = level
    return out
