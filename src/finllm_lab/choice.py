"""Choosing how much a model may say: its penalty, and how far it is trusted, by what was left out.

Recordings are left out in turn, the rest is fitted along the path of penalties, and what an edge with
that fit would have said over the one left out (calibration and references included) is scored against
climatology. Where nothing beats climatology there, the horizon abstains. Each penalty tried is a trial and
goes on the record. Knows nothing of files.
"""

from collections.abc import Callable, Sequence
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
Say = Callable[[str], None]
Array = NDArray[np.float64]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about one horizon."""

    classes: int
    """Index of the penalty on the classes' weights."""
    quantiles: int
    trust_p: float
    """Share of the model in the probabilities; 0 = it abstains."""
    trust_q: float


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Losses over climatology's of everything that was tried, each mean over what was left out."""

    log: Array
    """float64 [R, T, H], by penalty, trust and horizon."""
    pinball: Array
    """float64 [R, T, H]."""


class Comparing:
    """Gathers what each penalty comes to.

    Args:
        n_penalties: How many are tried.
        n_horizons: How many horizons are chosen for.
    """

    def __init__(self, n_penalties: int, n_horizons: int) -> None:
        shape = (n_penalties, len(TRUSTS), n_horizons)
        self._log, self._pinball, self._n = np.zeros(shape), np.zeros(shape), np.zeros(n_penalties)

    def add(self, penalty: int, said: Sequence[Said]) -> None:
        """Take in what was said over one recording that was left out, at full trust, by horizon."""
        self._n[penalty] += 1
        for h, one in enumerate(said):
            self._log[penalty, :, h] += _log_ratios(one)
            self._pinball[penalty, :, h] += _pinball_ratios(one)

    def compared(self) -> Compared:
        """Return the means."""
        n = self._n[:, None, None]
        return Compared(log=self._log / n, pinball=self._pinball / n)


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
    abstains: Sequence[str],
    say: Say,
) -> list[Choice]:
    """Return what did best at each horizon; one that abstains from the first is not asked."""
    choices = []
    for h, horizon in enumerate(horizons):
        picked = []
        for what, ratios in (("log", compared.log), ("pinball", compared.pinball)):
            r, t = divmod(int(np.argmin(ratios[:, :, h])), len(TRUSTS))
            gain = 1.0 - float(ratios[r, t, h])
            if horizon.name in abstains or gain < LEAST_GAIN:
                r, t = 0, 0
            picked.append((r, TRUSTS[t]))
            say(
                f"{horizon.name} {what}: penalty {penalties[r]}, trust {TRUSTS[t]:g}; over climatology"
                f" {100 * gain:.1f} %; at full trust by penalty"
                f" {(100 * (1 - ratios[:, -1, h])).round(1).tolist()}"
            )
        (classes, trust_p), (quantiles, trust_q) = picked
        choices.append(
            Choice(classes=classes, quantiles=quantiles, trust_p=trust_p, trust_q=trust_q)
        )
    return choices
