"""Scoring: is a credibility of 0.7 right seven times in ten, and does it tell true from false?

A story's claims are true or false together, so intervals are bootstrapped over whole wires, and the
calibration error that perfect calibration would show is simulated with one draw a story.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm_lab.credibility.cases import Case, Standing
from finllm_lab.credibility.fit import nats
from finllm_lab.credibility.planted import KINDS

BINS: Final = 15
"""Of equal width."""
_DRAWN: Final = 1_000

Floats = NDArray[np.float64]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How one set of claims is believed at one instant."""

    n: int
    share_true: float
    mean: float
    """Mean credibility."""
    brier: Figure
    nats: Figure
    brier_constant: float
    nats_constant: float
    """Of the share that was true on the wires that were fitted on, said of every claim."""
    auc: Figure | None
    """None where all are true, or none."""
    ece: float
    ece_perfect: Figure
    """What perfect calibration would show."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One way of weighing, scored."""

    made: Score
    """As claims were made."""
    later: Score
    """As they stood a day later."""
    by_kind: dict[str, Score]
    """As they were made, by what they are."""
    by_kind_later: dict[str, Score]
    held_back: dict[str, float]
    """Share of true and of false claims that were held back, as made and later."""

    def figures(self, prefix: str) -> dict[str, float]:
        """Return the figures for the record of experiments."""
        found: dict[str, float] = {}
        for name, one in (("made", self.made), ("later", self.later)):
            auc = one.auc.value if one.auc is not None else float("nan")
            found |= {
                f"{prefix} {name} brier": one.brier.value,
                f"{prefix} {name} nats": one.nats.value,
                f"{prefix} {name} auc": auc,
                f"{prefix} {name} ece": one.ece,
            }
        return found


def score(cases: list[Case], constant: float) -> Report:
    """Return how calibrated the credibility of cases is.

    Args:
        cases: Gathered with the weights that are scored.
        constant: What is said of every claim to compare with.
    """

    def of(chosen: list[Case], stand: Callable[[Case], Standing]) -> Score:
        p = np.array([stand(case).credibility for case in chosen])
        return _score(p, chosen, constant)

    by_kind = {kind: [case for case in cases if case.kind == kind] for kind in KINDS}
    return Report(
        made=of(cases, _made),
        later=of(cases, _later),
        by_kind={kind: of(chosen, _made) for kind, chosen in by_kind.items() if chosen},
        by_kind_later={kind: of(chosen, _later) for kind, chosen in by_kind.items() if chosen},
        held_back=_held_back(cases),
    )


def _made(case: Case) -> Standing:
    return case.made


def _later(case: Case) -> Standing:
    return case.later


def _held_back(cases: list[Case]) -> dict[str, float]:
    found = {}
    for name, chosen in (
        ("true", [case for case in cases if case.is_true]),
        ("false", [case for case in cases if not case.is_true]),
    ):
        n = max(1, len(chosen))
        found[f"{name}, as made"] = sum(case.held_back != "" for case in chosen) / n
        found[f"{name}, later"] = sum(case.is_held_back_later for case in chosen) / n
    return {name: round(share, 4) for name, share in found.items()}


def _score(p: Floats, cases: list[Case], constant: float) -> Score:
    y = np.array([float(case.is_true) for case in cases])
    tape = np.array([case.tape for case in cases])
    flat = np.full(len(y), constant)
    perfect = _perfect(p, cases)
    both = 0.0 < y.mean() < 1.0
    return Score(
        n=len(y),
        share_true=round(float(y.mean()), 4),
        mean=round(float(p.mean()), 4),
        brier=_interval(p, y, tape, lambda a, b: float(((a - b) ** 2).mean())),
        nats=_interval(p, y, tape, nats),
        brier_constant=round(float(((flat - y) ** 2).mean()), 4),
        nats_constant=round(nats(flat, y), 4),
        auc=_interval(p, y, tape, auc) if both else None,
        ece=round(ece(p, y), 4),
        ece_perfect=Figure(
            value=round(float(perfect.mean()), 4),
            low=round(float(np.quantile(perfect, 0.025)), 4),
            high=round(float(np.quantile(perfect, 0.975)), 4),
        ),
    )


def ece(p: Floats, y: Floats) -> float:
    """Return the expected calibration error over bins of equal width."""
    place = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(place, p - y, minlength=BINS)
    return float(np.abs(gap).sum() / len(p))


def auc(p: Floats, y: Floats) -> float:
    """Return the chance that a true claim is believed more than a false one; ties count half."""
    n_true = int(y.sum())
    if not 0 < n_true < len(y):
        return float("nan")
    _, place, n = np.unique(p, return_inverse=True, return_counts=True)
    rank = (np.cumsum(n) - (n - 1) / 2.0)[place]
    return float((rank[y == 1.0].sum() - n_true * (n_true + 1) / 2) / (n_true * (len(y) - n_true)))


def _perfect(p: Floats, cases: Sequence[Case]) -> Floats:
    """Return calibration errors of as many outcomes drawn from the credibilities, one draw a story."""
    stories = np.array([case.tape * 1_000_000 + case.story for case in cases])
    denies = np.array([case.is_denial for case in cases])
    _, story = np.unique(stories, return_inverse=True)
    chance = np.random.default_rng(7)
    found = np.empty(_DRAWN)
    for i in range(_DRAWN):
        drawn = chance.random(story.max() + 1)[story]
        found[i] = ece(p, (np.where(denies, 1.0 - drawn, drawn) < p).astype(np.float64))
    return found


def _interval(
    p: Floats, y: Floats, tape: NDArray[np.int64], measure: Callable[[Floats, Floats], float]
) -> Figure:
    """Return a measure with its bootstrap interval over whole wires."""
    rows = [np.flatnonzero(tape == one) for one in np.unique(tape)]
    chance = np.random.default_rng(7)
    found = []
    for _ in range(400):
        chosen = np.concatenate([rows[i] for i in chance.integers(0, len(rows), len(rows))])
        found.append(measure(p[chosen], y[chosen]))
    low, high = np.nanquantile(found, (0.025, 0.975))
    return Figure(
        value=round(measure(p, y), 4), low=round(float(low), 4), high=round(float(high), 4)
    )
