"""Scoring: how often the driver of a planted conflict is named, beside chance and the oracle.

Intervals are bootstrapped over whole tapes.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.units import NS_PER_S
from finllm.reasoning.conflict import DRAIN, REGIME
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm_lab.conflicts.packs import Case
from finllm_lab.conflicts.planted import DRIVERS, TOLD

REACH_NS: Final = 10 * NS_PER_S
"""Horizon of the band whose driver is looked at."""
_MARKET: Final = {DRAIN: "market depth", REGIME: "market restlessness"}

Bools = NDArray[np.bool_]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


class ReaderScore(msgspec.Struct, frozen=True, kw_only=True):
    """What the reasoner makes of conflicts as one reader reads them."""

    top_1: Share
    of_oracle: Share
    """Over the oracle's share."""
    nats: float
    confusion: tuple[tuple[int, ...], ...]
    """[true, named], in the order of `DRIVERS`."""
    sources: dict[str, float]
    """Driver -> share of its cases in which leaving sources out names the one that it is planted in."""


class ConflictScore(msgspec.Struct, frozen=True, kw_only=True):
    """One scoring."""

    model: str
    seeds: str
    n: int
    chance: float
    oracle: Share
    readers: dict[str, ReaderScore]

    def figures(self) -> dict[str, float]:
        """Return the figures for the record of experiments."""
        found = {"oracle": self.oracle.value, "chance": self.chance, "n": float(self.n)}
        for name, one in self.readers.items():
            found |= {f"{name} top-1": one.top_1.value, f"{name} nats": one.nats}
            found[f"{name} share of the oracle"] = one.of_oracle.value
        return found


def score_cases(cases: list[Case]) -> ConflictScore:
    """Return the shipped model's scores on cases with the oracle's beliefs."""
    reasoner = EmbeddedReasoner()
    names = sorted({case.reader for case in cases})
    first = [case for case in cases if case.reader == names[0]]
    tape = np.array([case.tape for case in first])
    by_oracle = np.array([DRIVERS[int(np.argmax(c.oracle))] == c.episode.driver for c in first])
    readers = {
        name: _score([c for c in cases if c.reader == name], reasoner, by_oracle, tape)
        for name in names
    }
    return ConflictScore(
        model=reasoner.conflict_model,
        seeds=f"{tape.min()} to {tape.max()}",
        n=len(first),
        chance=1.0 / len(DRIVERS),
        oracle=_share(by_oracle, np.ones(len(first), dtype=bool), tape),
        readers=readers,
    )


def _score(
    cases: list[Case], reasoner: EmbeddedReasoner, by_oracle: Bools, tape: NDArray[np.int64]
) -> ReaderScore:
    confusion = np.zeros((len(DRIVERS), len(DRIVERS)), dtype=np.int64)
    right, nats = np.zeros(len(cases), dtype=bool), np.zeros(len(cases))
    named: dict[str, list[bool]] = {}
    for i, case in enumerate(cases):
        truth = case.episode.driver
        tested = reasoner.test(case.pack)
        p = {one.name: one.probability for one in tested}
        confusion[DRIVERS.index(truth), DRIVERS.index(tested[0].name)] += 1
        right[i] = tested[0].name == truth
        nats[i] = -np.log(p[truth])
        if truth in TOLD or truth in _MARKET:
            named.setdefault(truth, []).append(_is_named(case, reasoner))
    return ReaderScore(
        top_1=_share(right, np.ones(len(cases), dtype=bool), tape),
        of_oracle=_share(right, by_oracle, tape),
        nats=round(float(nats.mean()), 4),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        sources={name: round(float(np.mean(hits)), 4) for name, hits in sorted(named.items())},
    )


def _is_named(case: Case, reasoner: EmbeddedReasoner) -> bool:
    """Return whether the driver is the part of the market, or a text of the origin, that was planted."""
    driver = reasoner.driver(case.pack, REACH_NS)
    if driver is None:
        return False
    if case.episode.driver in _MARKET:
        return driver.source == _MARKET[case.episode.driver]
    planted = {
        e.origin
        for e in case.pack.evidence
        if e.document_id == case.episode.story or e.event_type == "denial"
    }
    return driver.source in planted


def _share(hits: Bools, of: Bools, tape: NDArray[np.int64]) -> Share:
    """Return the hits over the number in `of`, with a bootstrap over tapes."""
    _, block = np.unique(tape, return_inverse=True)
    top, bottom = np.bincount(block, hits), np.bincount(block, of)
    drawn = np.random.default_rng(7).integers(0, len(top), (2_000, len(top)))
    low, high = np.quantile(top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1), (0.025, 0.975))
    return Share(
        value=round(float(top.sum() / bottom.sum()), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
    )
