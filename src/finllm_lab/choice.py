"""Choosing how much a model may say: its penalty, and how far it is trusted, by what was left out.

Recordings are left out in turn, the rest is fitted along the path of penalties, and what an edge with
that fit would have said over the one left out (calibration and references included) is scored against
climatology. Where nothing beats climatology there, the horizon abstains. Quantiles of its own a model says
only where they beat those that its classes imply. The record counts a training, with all that it
tried, as one trial. Knows nothing of files.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.instrument import Horizon
from finllm_lab.training import Penalty
from finllm_lab.walk import P_FLOOR, Said, pinball_of

TRUSTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the model in what is said that are tried."""
LEAST_GAIN: Final = 0.002
"""What gains less than this share is not let speak."""
Say = Callable[[str], None]
Array = NDArray[np.float64]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about the classes, or the quantiles, of one horizon."""

    penalties: tuple[int, ...]
    """Those whose fits are averaged."""
    trust: float
    """Share of the model; 0 = classes abstain, and quantiles are those that the classes imply."""


class Comparing:
    """Gathers what each penalty comes to on what was left out.

    Args:
        n_penalties: How many are tried.
    """

    def __init__(self, n_penalties: int) -> None:
        self._held: list[list[Array]] = [[] for _ in range(n_penalties)]

    def add(self, penalty: int, ratios: Array) -> None:
        """Take in one recording's ratios, float64 [T, H]."""
        self._held[penalty].append(ratios)

    def ratios(self) -> Array:
        """Return losses over climatology's: by what was left out, penalty, trust and horizon.

        Returns:
            float64 [S, R, T, H].
        """
        return np.array(self._held).swapaxes(0, 1)


def class_ratios(said: Sequence[Said]) -> Array:
    """Return log losses over climatology's, float64 [T, H], of what was said at full trust."""
    return np.stack([_log_ratios(one) for one in said], axis=1)


def quantile_ratios(said: Sequence[Said], implied: Sequence[Said]) -> Array:
    """Return pinball losses over climatology's, float64 [T, H].

    Args:
        said: With the model's own quantiles alone, by horizon.
        implied: The same with those that its classes imply.
    """
    pairs = zip(said, implied, strict=True)
    return np.stack([_pinball_ratios(one, other) for one, other in pairs], axis=1)


def _log_ratios(said: Said) -> Array:
    rows = np.arange(len(said.label))
    edge, climatology = (said.p[rows, voice, said.label] for voice in (0, 1))
    losses = [
        -np.log(np.maximum(trust * edge + (1.0 - trust) * climatology, P_FLOOR)).mean()
        for trust in TRUSTS
    ]
    ratios: Array = np.array(losses) / losses[0]
    return ratios


def _pinball_ratios(said: Said, implied: Said) -> Array:
    climatology = pinball_of(said.q[:, 1], said.return_bps).mean()
    losses = [
        pinball_of(trust * said.q[:, 0] + (1.0 - trust) * implied.q[:, 0], said.return_bps).mean()
        for trust in TRUSTS
    ]
    return np.array(losses) / climatology if climatology > 0.0 else np.ones(len(TRUSTS))


def chosen(
    ratios: Array,
    horizons: Sequence[Horizon],
    penalties: Sequence[Penalty],
    most_trust: Mapping[str, float],
    near: float,
    say: Say,
) -> list[Choice]:
    """Return what is decided for each horizon.

    Fits no worse than the best by more than one standard error of their difference over what was left out,
    or by more than `near`, are averaged: few recordings cannot tell them apart. The trust is the least
    that will do by the same rule (Hastie, Tibshirani & Friedman 2009, section 7.10).

    Args:
        ratios: float64 [S, R, T, H], losses over climatology's.
        horizons: Shortest first.
        penalties: In the order of `ratios`.
        most_trust: Largest share of the model by horizon, where less than all is decided beforehand.
        near: Differences below this share of climatology's loss are no news.
        say: Told what was found.
    """
    choices = []
    for h, horizon in enumerate(horizons):
        good = np.flatnonzero(_is_near_best(ratios[:, :, -1, h], near))
        good = good[good > 0] if (good > 0).any() else good
        pooled = ratios[:, good, :, h].mean(axis=1)
        t = int(np.argmax(_is_near_best(pooled, near)))
        gained = 1.0 - float(pooled[:, t].mean() / pooled[:, 0].mean())
        trust = min(TRUSTS[t], most_trust.get(horizon.name, 1.0)) if gained >= LEAST_GAIN else 0.0
        full = 100 * (1 - ratios[:, :, -1, h].mean(axis=0))
        least = 100 * (1 - pooled[:, 0].mean())
        say(
            f"{horizon.name}: penalties {', '.join(str(penalties[int(r)]) for r in good)}; trust"
            f" {trust:g}; over climatology {100 * (1.0 - float(pooled[:, t].mean())):.1f} %; without"
            f" trust {least:.1f}; at full trust by penalty {full.round(1).tolist()}"
        )
        choices.append(
            Choice(penalties=tuple(int(r) for r in good) if trust else (0,), trust=trust)
        )
    return choices


def _is_near_best(ratios: Array, near: float) -> NDArray[np.bool_]:
    """Return which columns of float64 [S, K] are within one standard error, or `near`, of the best."""
    behind = ratios - ratios[:, [int(np.argmin(ratios.mean(axis=0)))]]
    error = behind.std(axis=0, ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    is_near: NDArray[np.bool_] = behind.mean(axis=0) <= np.maximum(error, near)
    return is_near
