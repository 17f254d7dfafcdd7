"""What the gate learns: how far an answer will move forecasts, and how much of that comes true.

A realised gain is a hundred times noisier than its mean, so the two are learnt apart. How far an answer moves
what stands (the relative entropy of the new forecasts to the old: its *claim*) is known for every answer,
with no luck in it, and is predicted from the notice by a regression with a logarithmic link. What share of
claims comes true needs outcomes, and is one slowly learnt number by reasoner, kind and horizon.

Knows no reasoner, notice or forecast record: numbers and names only. Plain arithmetic in a fixed order, so
that the same history gives the same bits on every machine.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from finllm.domain.errors import InputError

FORMAT: Final = 1
"""Of the state's bytes."""
MOST_KEYS: Final = 4_096
MOST_CREDIT: Final = 60.0
"""Questions that may be saved up for a busy hour."""
RESERVE: Final = 30.0
"""Saved questions beyond which the threshold comes down faster."""
_STEEPEST: Final = 1.0
"""Most that one answer may change the log of an estimate like its own."""
_LEAST: Final = 1e-9


Inputs = tuple[tuple[int, float], ...]
"""The inputs of a question that are not zero: (number, value)."""


class Regression:
    """Expected claim = exp(weights . inputs), learnt answer by answer.

    The variance of a claim is taken to be `dispersion` x mean^1.5, between a count's and a size's: most
    answers move nothing and a few move much (Tweedie 1984; Jorgensen 1987). One step of an extended Kalman
    filter per answer, whose prior is where it starts.

    Args:
        mean: Prior mean of each weight.
        deviation: Prior deviation of each.
        dispersion: Of a claim.
    """

    def __init__(
        self, mean: Sequence[float], deviation: Sequence[float], dispersion: float = 4.0
    ) -> None:
        self.weights = list(mean)
        n = len(self.weights)
        self.spread = [[deviation[i] ** 2 if i == j else 0.0 for j in range(n)] for i in range(n)]
        self._dispersion = dispersion

    def log_expected(self, inputs: Inputs) -> float:
        """Return the log of the expected claim."""
        total = 0.0
        for i, x in inputs:
            total += self.weights[i] * x
        return min(20.0, max(-20.0, total))

    def learn(self, inputs: Inputs, expected: float, claim: float) -> None:
        """Learn from one answer.

        Args:
            inputs: Of the question.
            expected: What was expected of it when it was asked.
            claim: What the answer claimed.
        """
        toward = [0.0] * len(self.weights)
        for i, row in enumerate(self.spread):
            for j, x in inputs:
                toward[i] += row[j] * x
        along = 0.0
        for i, x in inputs:
            along += x * toward[i]
        total = expected * expected * along + self._dispersion * max(expected, _LEAST) ** 1.5
        step = expected * (claim - expected) / total
        if abs(step * along) > _STEEPEST:
            step = math.copysign(_STEEPEST / along, step)
        shrink = expected * expected / total
        for i, t in enumerate(toward):
            if t != 0.0:
                self.weights[i] += step * t
                row = self.spread[i]
                for j, other in enumerate(toward):
                    row[j] -= shrink * t * other


class Names:
    """A weight for each name heard of, among a fixed number of places.

    Names take places as they come; once all are taken, further names share one, so that a flood of them
    can neither fill memory nor move what is known of others.

    Args:
        places: How many, the shared one included.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.known: dict[str, int] = {}

    def place(self, name: str) -> int:
        """Return a name's place."""
        at = self.known.get(name)
        if at is None:
            at = min(len(self.known), self.places - 1)
            if at < self.places - 1:
                self.known[name] = at
        return at


class Reliability:
    """What share of claimed gain comes true, by reasoner, then kind, then horizon, each shrunk to the last.

    A claim may come true more than wholly: answers that are bounded or shrunk promise less than they keep.
    It is never told as less than half a deviation of what luck does to it (what claims c nats realises c with
    a variance of about 2c), so that a few unlucky answers do not shut a gate that would then hear no better.

    Args:
        prior: Share before any outcome.
        weight: Nats claimed that the prior is worth.
    """

    def __init__(self, prior: float = 0.8, weight: float = 10.0) -> None:
        self._prior, self._weight = prior, weight
        self.sums: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def of(self, reasoner: str, kind: str = "", horizon_s: float = 0.0) -> float:
        """Return the share for a reasoner, and where named for a kind and a horizon; up to 3."""
        share = self._prior
        for name in _levels(reasoner, kind):
            share = self._shrunk(name, share)
        if horizon_s:
            share = self._shrunk(f"{reasoner}|{horizon_s:g}s", share)
        claimed, _ = self.sums.get(reasoner, (0.0, 0.0))
        luck = math.sqrt(2.0 / (max(0.0, claimed) + self._weight))
        return min(3.0, max(0.5 * luck, share))

    def count(
        self, reasoner: str, kind: str, horizon_s: float, claimed: float, realised: float
    ) -> None:
        """Count what forecasts claimed and realised, nats; each by as much as it overlaps no other."""
        for name in (*_levels(reasoner, kind), f"{reasoner}|{horizon_s:g}s"):
            before = self.sums.pop(name, (0.0, 0.0))
            self.sums[name] = (before[0] + claimed, before[1] + realised)
        while len(self.sums) > MOST_KEYS:
            self.sums.popitem(last=False)

    def _shrunk(self, name: str, towards: float) -> float:
        claimed, realised = self.sums.get(name, (0.0, 0.0))
        return (realised + self._weight * towards) / (claimed + self._weight)


def _levels(reasoner: str, kind: str) -> list[str]:
    """Return the names under which a kind such as `first/newswire` is counted, coarsest first."""
    parts = [part for part in kind.split("/") if part]
    return ["|".join((reasoner, *parts[:n])) for n in range(len(parts) + 1)]


class Threshold:
    """The worth from which a share of questions is asked: their quantile, followed as they come.

    A credit besides holds the share over any stretch: what is not spent is kept, up to a bound.

    Source:
        Robbins & Monro (1951).
    """

    def __init__(self, share: float, explore: float) -> None:
        self.share = share
        self._aim = max(0.0, share - explore)
        self.level = -20.0
        """Log of the worth."""
        self.n = 0
        self.credit = 1.0

    def passes(self, worth: float, factor: float = 1.0) -> bool:
        """Return whether a question is worth one of the share; the quantile follows.

        Args:
            worth: Nats.
            factor: Times the quantile that it must be worth.
        """
        value = math.log(max(worth, _LEAST))
        if not self.n:
            self.level = value
        self.n += 1
        self.credit = min(MOST_CREDIT, self.credit + self.share)
        is_above, passes = value >= self.level, value >= self.level + math.log(factor)
        step = max(0.03, 2.0 / (self.n + 5.0))
        # Credit beyond a reserve says that the level is behind worths that have fallen.
        spare = 1.0 + max(0.0, self.credit - RESERVE) / 10.0
        self.level += step * (1.0 - self._aim if is_above else -self._aim * spare)
        return passes or self.share >= 1.0

    @property
    def can_spend(self) -> bool:
        """Return whether a question can be paid for."""
        return self.credit >= 1.0 or self.share >= 1.0


class State(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """All that was learnt."""

    format: int
    weights: list[float]
    spread: list[list[float]]
    names: list[list[str]]
    reliability: list[tuple[str, float, float]]
    level: float
    n: int


def encode(
    regression: Regression, names: Sequence[Names], reliability: Reliability, threshold: Threshold
) -> bytes:
    """Return what was learnt as bytes; the same learning, the same bytes."""
    return msgspec.msgpack.encode(
        State(
            format=FORMAT,
            weights=regression.weights,
            spread=regression.spread,
            names=[list(each.known) for each in names],
            reliability=[(k, *v) for k, v in reliability.sums.items()],
            level=threshold.level,
            n=threshold.n,
        )
    )


def restore(
    state: bytes, regression: Regression, names: Sequence[Names], reliability: Reliability,
    threshold: Threshold,
) -> None:  # fmt: skip
    """Put back what was learnt; questions saved up are not carried over.

    Raises:
        InputError: If the bytes are no such state, or another format's.
    """
    try:
        held = msgspec.msgpack.decode(state, type=State)
    except msgspec.DecodeError as error:
        raise InputError(str(error), place="the gate's state", mend="Start without it.") from error
    if held.format != FORMAT or not _fits(held, len(regression.weights), names):
        raise InputError(
            f"format {held.format} with {len(held.weights)} weights",
            place="the gate's state",
            mend="Start without it.",
        )
    regression.weights, regression.spread = held.weights, held.spread
    for mine, known in zip(names, held.names, strict=True):
        mine.known = {name: place for place, name in enumerate(known)}
    reliability.sums = OrderedDict((k, (a, b)) for k, a, b in held.reliability)
    threshold.level, threshold.n = held.level, held.n


def _fits(held: State, n: int, names: Sequence[Names]) -> bool:
    """Return whether a state is one of `n` weights and these places, and holds numbers."""
    if len(held.names) != len(names) or len(held.spread) != n or held.n < 0:
        return False
    for mine, known in zip(names, held.names, strict=True):
        if not len(set(known)) == len(known) < mine.places:
            return False
    if any(claimed < 0.0 for _, claimed, _ in held.reliability):
        return False
    sums = [x for _, *pair in held.reliability for x in pair]
    return all(
        len(row) == size and all(map(math.isfinite, row))
        for row, size in (
            *((row, n) for row in (held.weights, *held.spread)),
            ([held.level, *sums], 1 + len(sums)),
        )
    )
