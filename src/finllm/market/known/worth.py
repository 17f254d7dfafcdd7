"""What a refinement is worth: its expected gain under the law that made the price, and what it realised.

The truth of a forecast counts what has been set in motion by then: news that nobody has published yet is no
part of what a second look could have known. (The variance is the path's own.) Arrays are [i, h, t].
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finllm.domain.tilt import P_FLOOR
from finllm.domain.units import NS_PER_S
from finllm.market.known.base import REACH, TILT_C, Base, ahead, base_of, labels
from finllm.market.known.law import GRID_S, STEPS
from finllm.market.known.world import Day, profile, whole_bps

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Truth:
    """A day's base forecasts, what is true of their targets and what became of them."""

    base: Base
    p: Floats
    """[i, h, t, 3], the true probabilities of down, flat, up."""
    label: Ints
    """[i, h, t]; -1 = no target within the day."""


def truth_of(day: Day) -> Truth:
    """Return the truth of a day."""
    base = base_of(day)
    mean = ahead(day, day.drift)
    for story in day.plan.stories:
        if story.size:
            _forget(day, story.instrument, mean, profile(story, day.start),
                    whole_bps(story, day.start, day.usual), story.ts)  # fmt: skip
    deviation = np.sqrt(ahead(day, day.variance))
    deviation = np.maximum(deviation, 1e-9)
    up = normal_cdf((mean - base.band) / deviation)
    down = normal_cdf((-mean - base.band) / deviation)
    p = np.stack([down, np.maximum(1.0 - up - down, 0.0), up], axis=-1)
    return Truth(base, p, labels(day, base))


def _forget(
    day: Day, i: int, mean: Floats, moves: tuple[int, Floats], whole: float, published: int
) -> None:
    """Take a story's pull out of the forecasts that were made before it was published."""
    first, share = moves
    until = -((day.start - published) // (GRID_S * NS_PER_S))  # first step at or after publication
    until = min(STEPS, max(0, until))
    if not len(share) or first >= until + max(REACH):
        return
    done = np.concatenate([[0.0], np.cumsum(share)]) * whole
    for h, reach in enumerate(REACH):
        low = max(0, first - reach + 1)
        at = np.arange(low, until)
        end = np.clip(at + reach - first, 0, len(share))
        begin = np.clip(at - first, 0, len(share))
        mean[i, h, low:until] -= done[end] - done[begin]


def tilted(p: Floats, shift: Floats, log_scale: Floats) -> Floats:
    """Return probabilities [n, 3] after tilts [n]: `domain.tilt`, on arrays."""
    down, flat, up = np.maximum(p.T, P_FLOOR)
    share = 1.0 / (1.0 + np.exp(-(np.log(up / down) + shift)))
    move = 1.0 / (1.0 + np.exp(-(np.log((up + down) / flat) + TILT_C * log_scale)))
    low, high = move * (1.0 - share), move * share
    out: Floats = np.stack([low, 1.0 - low - high, high], axis=1)
    return out


def expected_gain(truth: Floats, said: Floats, base: Floats) -> Floats:
    """Return the expected log score gained over the base, nats [n]; all arguments [n, 3]."""
    gain: Floats = (truth * np.log(said / base)).sum(axis=1)
    return gain


def divergence(said: Floats, base: Floats) -> Floats:
    """Return what a forecast claims to gain over the base: their relative entropy, nats [n]."""
    return expected_gain(said, said, base)


def normal_cdf(x: Floats) -> Floats:
    """Return the standard normal law's distribution function.

    Source:
        Abramowitz & Stegun (1964), 7.1.26; absolute error below 1e-7.
    """
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x) / math.sqrt(2.0))
    series = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    tail = 0.5 * series * np.exp(-0.5 * x * x)
    out: Floats = np.where(x >= 0.0, 1.0 - tail, tail)
    return out


def unseen_share(
    documents: Iterable[tuple[int, int]], start: int, within_s: float, n: int
) -> float:
    """Return the share of a day's decisions with a document of the last `within_s`, which no edge reads.

    Args:
        documents: (instrument, receipt in ns) of each.
        start: The day's.
        within_s: How long a document counts as news.
        n: Instruments.
    """
    covered = np.zeros((n, STEPS), dtype=bool)
    for instrument, ts in documents:
        at = -((start - ts) // (GRID_S * NS_PER_S))
        covered[instrument, max(0, at) : max(0, at + int(within_s) // GRID_S)] = True
    return float(covered.mean())
