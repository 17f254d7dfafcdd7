"""Choosing how much a model may say: its penalty, and how far it is trusted, by what was left out.

Recordings are left out in turn, the rest is fitted along the path of penalties, and what an edge with
that fit would have said over the one left out (calibration and references included) is scored against
climatology. Where nothing beats climatology there, the horizon abstains. Each penalty tried is a trial and
goes on the record. Knows nothing of files.
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
"""Shares of the model in what is said that are tried, the rest being climatology."""
LEAST_GAIN: Final = 0.002
"""A horizon that gains less than this share over climatology abstains."""
NEAR: Final = 0.01
"""Differences below this share of climatology's loss are no news on a handful of recordings."""
Say = Callable[[str], None]
Array = NDArray[np.float64]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about one horizon."""

    classes: tuple[int, ...]
    """Penalties whose fits of the classes are averaged."""
    quantiles: tuple[int, ...]
    trust_p: float
    """Share of the model in the probabilities; 0 = it abstains."""
    trust_q: float


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Losses over climatology's of everything that was tried."""

    log: Array
    """float64 [S, R, T, H], by what was left out, penalty, trust and horizon."""
    pinball: Array
    """float64 [S, R, T, H]."""


class Comparing:
    """Gathers what each penalty comes to.

    Args:
        n_penalties: How many are tried.
    """

    def __init__(self, n_penalties: int) -> None:
        self._log: list[list[Array]] = [[] for _ in range(n_penalties)]
        self._pinball: list[list[Array]] = [[] for _ in range(n_penalties)]

    def add(self, penalty: int, said: Sequence[Said]) -> None:
        """Take in what was said over one recording that was left out, at full trust, by horizon."""
        self._log[penalty].append(np.stack([_log_ratios(one) for one in said], axis=1))
        self._pinball[penalty].append(np.stack([_pinball_ratios(one) for one in said], axis=1))

    def compared(self) -> Compared:
        """Return what was gathered."""
        log, pinball = (np.array(one).swapaxes(0, 1) for one in (self._log, self._pinball))
        return Compared(log=log, pinball=pinball)


def _log_ratios(said: Said) -> Array:
    rows = np.arange(len(said.label))
    edge, climatology = (said.p[rows, voice, said.label] for voice in (0, 1))
    losses = [
        -np.log(np.maximum(trust * edge + (1.0 - trust) * climatology, P_FLOOR)).mean()
        for trust in TRUSTS
    ]
    ratios: Array = np.array(losses) / losses[0]
    return ratios


def _pinball_ratios(said: Said) -> Array:
    edge, climatology = said.q[:, 0], said.q[:, 1]
    losses = [
        pinball_of(trust * edge + (1.0 - trust) * climatology, said.return_bps).mean()
        for trust in TRUSTS
    ]
    return np.array(losses) / losses[0] if losses[0] > 0.0 else np.ones(len(TRUSTS))


def chosen(
    compared: Compared,
    horizons: Sequence[Horizon],
    penalties: Sequence[Penalty],
    most_trust: Mapping[str, float],
    say: Say,
) -> list[Choice]:
    """Return what is decided for each horizon.

    Fits no worse than the best by more than one standard error of their difference over what was left out,
    or by more than `NEAR`, are averaged: few recordings cannot tell them apart. The trust is the least
    that will do by the same rule (Hastie, Tibshirani & Friedman 2009, section 7.10).

    Args:
        compared: What was tried.
        horizons: Shortest first.
        penalties: In the order of `compared`.
        most_trust: Largest share of the model by horizon, where less than all is decided beforehand.
        say: Told what was found.
    """
    choices = []
    for h, horizon in enumerate(horizons):
        picked = []
        for what, ratios in (("log", compared.log), ("pinball", compared.pinball)):
            near = np.flatnonzero(_is_near_best(ratios[:, :, -1, h]))
            near = near[near > 0] if (near > 0).any() else near
            pooled = ratios[:, near, :, h].mean(axis=1)
            t = int(np.argmax(_is_near_best(pooled)))
            gain = 1.0 - float(pooled[:, t].mean())
            trust = min(TRUSTS[t], most_trust.get(horizon.name, 1.0)) if gain >= LEAST_GAIN else 0.0
            picked.append((tuple(int(r) for r in near) if trust else (0,), trust))
            full = 100 * (1 - ratios[:, :, -1, h].mean(axis=0))
            say(
                f"{horizon.name} {what}: penalties {', '.join(str(penalties[int(r)]) for r in near)}; trust"
                f" {trust:g}; over climatology {100 * gain:.1f} %; at full trust by penalty"
                f" {full.round(1).tolist()}"
            )
        (classes, trust_p), (quantiles, trust_q) = picked
        choices.append(
            Choice(classes=classes, quantiles=quantiles, trust_p=trust_p, trust_q=trust_q)
        )
    return choices


def _is_near_best(ratios: Array) -> NDArray[np.bool_]:
    """Return which columns of float64 [S, K] are within one standard error, or `NEAR`, of the best."""
    behind = ratios - ratios[:, [int(np.argmin(ratios.mean(axis=0)))]]
    error = behind.std(axis=0, ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    is_near: NDArray[np.bool_] = behind.mean(axis=0) <= np.maximum(error, NEAR)
    return is_near
