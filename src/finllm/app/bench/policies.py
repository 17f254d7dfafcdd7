"""Lives through a known world under a policy: who is asked when, what stands, and what it was worth.

A policy is asked once per occasion. An answer takes as long as its mind thinks and waits; then it becomes
the outlook of later forecasts, and the verdict on those asked about that are still valid. What comes late
changes nothing.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from finllm.app.bench.known import LIFE, Occasion, Read
from finllm.domain.units import NS_PER_S
from finllm.market.known.base import REACH
from finllm.market.known.law import GRID_S, LISTINGS, STEPS
from finllm.market.known.minds import OUTLOOK_LIVES, Answer, Mind, Seeing, latency_of
from finllm.market.known.worth import divergence, expected_gain, tilted

Floats = NDArray[np.float64]
GRID_NS: Final = GRID_S * NS_PER_S
_ANSWER, _LEARN = 0, 1


@dataclass(frozen=True, slots=True)
class Stands:
    """An answer in force as an outlook."""

    answer: Answer
    since: int
    """When it came into force, ns."""
    expires: int
    number: int
    """Of the question."""
    before: "Stands | None" = None
    """What stood before it, and would have stood on."""


@dataclass(slots=True)
class Learnt:
    """What became of one answer, once all that it touched is known; by horizon [h]."""

    number: int
    claimed: Floats
    """Gain over what stood before that the answer promised, nats of disjoint forecasts."""
    realised: Floats


@dataclass(frozen=True, slots=True)
class Ask:
    """A policy's yes."""

    number: int
    deadline: int
    """ns; an answer after it is worth nothing."""
    mind: int = 0
    """Who is asked: index in the life's minds."""


@dataclass(frozen=True, slots=True)
class Took:
    """When a question was asked, and when its answer came, ns."""

    asked: int
    came: int


class Policy(Protocol):
    """Decides what is asked."""

    def decide(self, life: "Life", read: Read, occasion: Occasion) -> Ask | None:
        """Return the question, or None to hold."""
        ...

    def hear(self, life: "Life", i: int, ask: Ask, answer: Answer, took: "Took") -> Ask | None:
        """Hear an answer when it comes, and return a further question, to the next reasoner, if any."""
        ...

    def learn(self, learnt: Learnt) -> None:
        """Hear what became of an answer."""
        ...


@dataclass(slots=True)
class Tally:
    """What a policy's life was worth."""

    asked: int = 0
    tokens: int = 0
    """Of all questions and answers."""
    occasions: int = 0
    """Those that the gate is asked about."""
    late: int = 0
    late_applied: int = 0
    """Verdicts that changed a forecast at or after its end, or after the deadline; there must be none."""
    expected: float = 0.0
    """Summed expected gain, nats."""
    outlook: float = 0.0
    """Of that, from outlooks."""
    harm: float = 0.0
    """Summed expected loss, over forecasts that lose."""
    harm_answers: float = 0.0
    """The same over answers whose whole effect loses."""
    rows: int = 0
    realised: list[Floats] = field(default_factory=list)
    """By day, realised gain by step [t], summed over instruments and horizons."""
    loss: list[Floats] = field(default_factory=list)
    """By day, realised loss of the base by step [t]."""
    squares: float = 0.0
    """Summed squares of the base's loss."""
    counts: list[Floats] = field(default_factory=list)
    """By day, forecasts by step [t]."""


class Life:
    """One policy's life, over the days of one world.

    Args:
        minds: Who may be asked, cheapest first.
        policy: Who asks.
        seed: Of the minds' errors and latencies.
    """

    def __init__(self, minds: Sequence[Mind], policy: Policy, seed: int = 0) -> None:
        self.minds = tuple(minds)
        self._policy, self._seed = policy, seed
        self.tally = Tally()
        self._gain = np.zeros(STEPS)

    def live(self, reads: Sequence[Read]) -> Tally:
        """Live through days in order, and return the tally of all."""
        for read in reads:
            self._day(read)
        return self.tally

    def _day(self, read: Read) -> None:
        self.read = read
        self.seeing = Seeing(self.minds, read.day, read.truth.base, self._seed)
        self.standing: list[Stands | None] = [None] * len(LISTINGS)
        self._slots = [[0] * mind.slots for mind in self.minds]
        self._events: list[tuple[int, int, int, tuple[int, int, Ask] | Learnt]] = []
        self._order = 0
        self._revised: dict[tuple[int, int, int], tuple[Floats, Floats]] = {}
        self._gain = np.zeros(STEPS)
        for occasion in read.occasions:
            self._happen(occasion.ts)
            self.tally.occasions += occasion.notice is not None
            ask = self._policy.decide(self, read, occasion)
            if ask is not None:
                self._asked(occasion.instrument, occasion.ts, ask)
        end = read.day.start + STEPS * GRID_NS
        self._happen(end)
        for i, stands in enumerate(self.standing):
            if stands is not None:
                self._close(i, stands, end)
        self._happen(2**62)
        self._count(read)

    def _count(self, read: Read) -> None:
        label, p = read.truth.label, read.truth.base.p
        is_open = label >= 0
        hit = np.take_along_axis(p, np.maximum(label, 0)[..., None], axis=-1)[..., 0]
        loss = np.where(is_open, -np.log(hit), 0.0)
        self.tally.rows += int(is_open.sum())
        self.tally.squares += float((loss**2).sum())
        self.tally.realised.append(self._gain)
        self.tally.loss.append(loss.sum(axis=(0, 1)))
        self.tally.counts.append(is_open.sum(axis=(0, 1)).astype(np.float64))

    # --- time ----------------------------------------------------------------------------------

    def _asked(self, i: int, ts: int, ask: Ask) -> None:
        self.tally.asked += 1
        self.tally.tokens += self.minds[ask.mind].tokens
        slots = self._slots[ask.mind]
        starts = max(ts, heapq.heappop(slots))
        came = starts + self.thinking_ns(i, ts, ask.mind)
        heapq.heappush(slots, came)
        self._put(came, _ANSWER, (i, ts, ask))

    def thinking_ns(self, i: int, ts: int, mind: int) -> int:
        """Return how long a mind thinks about an instrument's news of an instant once it has a slot."""
        name = f"{self.read.seed} {i} {ts}"
        return int(latency_of(self.minds[mind], self._seed, name) * NS_PER_S)

    def _put(self, ts: int, kind: int, what: tuple[int, int, Ask] | Learnt) -> None:
        self._order += 1
        heapq.heappush(self._events, (ts, kind, self._order, what))

    def _happen(self, now: int) -> None:
        while self._events and self._events[0][0] <= now:
            ts, _, _, what = heapq.heappop(self._events)
            if isinstance(what, Learnt):
                self._policy.learn(what)
            else:
                self._answered(ts, *what)

    def _answered(self, came: int, i: int, asked: int, ask: Ask) -> None:
        if came > ask.deadline or came >= self.read.day.start + STEPS * GRID_NS:
            self.tally.late += 1
            return
        self.seeing.read(i, asked, ask.mind)
        answer = self.seeing.answer(i, asked)
        before = self.standing[i]
        self._verdict(i, asked, came, ask, answer)
        if before is not None:
            self._close(i, before, came)
        expires = came + OUTLOOK_LIVES * answer.half_life_ns
        stood = None if before is None else replace(before, before=None)
        self.standing[i] = Stands(answer, came, expires, ask.number, stood)
        further = self._policy.hear(self, i, ask, answer, Took(asked, came))
        if further is not None:
            self._asked(i, came, further)

    def _verdict(self, i: int, asked: int, came: int, ask: Ask, answer: Answer) -> None:
        """Revise the forecasts asked about that are still valid, for what is left of their lives."""
        step = self.read.day.step(asked)
        issued = self.read.day.start + step * GRID_NS
        before = self.standing[i]
        for h, reach in enumerate(REACH):
            life = LIFE * reach * GRID_NS
            left = 1.0 - (came - issued) / life
            is_served = reach * GRID_S >= 10.0 * self.minds[ask.mind].p95_s
            if left <= 0.0 or not is_served or self.read.truth.label[i, h, step] < 0:
                continue
            at = np.array([step])
            said = (answer.shift[h : h + 1], answer.log_scale[h : h + 1])
            expected, realised = self._gains(i, np.array([h]), at, *said)
            revised = self._revised.get((i, h, step))
            if revised is None and before is not None and before.since <= issued < before.expires:
                revised = self._said(before, np.array([h]), at)
            if revised is not None:
                stood = self._gains(i, np.array([h]), at, *revised)
                expected, realised = expected - stood[0], realised - stood[1]
            self._revised[i, h, step] = said
            self._earn(at, left * expected, left * realised)
            self.tally.late_applied += came >= min(issued + int(life), ask.deadline + 1)

    # --- worth ---------------------------------------------------------------------------------

    def _said(
        self, stands: Stands, h: NDArray[np.int64], at: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """Return shift and ln k of an outlook for forecasts issued at some steps."""
        now = self.read.day.start + at * GRID_NS
        fade = np.exp2(-(now - stands.since) / stands.answer.half_life_ns)
        return stands.answer.shift[h] * fade, stands.answer.log_scale[h] * fade

    def _gains(
        self, i: int, h: NDArray[np.int64], at: NDArray[np.int64], shift: Floats, log_scale: Floats
    ) -> tuple[Floats, Floats]:
        """Return expected and realised gain of forecasts under tilts, each [n]."""
        truth = self.read.truth
        base = truth.base.p[i, h, at]
        said = tilted(base, shift, log_scale)
        ratio = np.log(said / base)
        label = truth.label[i, h, at]
        realised = np.take_along_axis(ratio, label[:, None], axis=1)[:, 0]
        return expected_gain(truth.p[i, h, at], said, base), realised

    def covers(
        self, i: int, stands: Stands, until: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (horizon, step) of the forecasts that an outlook covers up to an instant."""
        start = self.read.day.start
        first = -((start - stands.since) // GRID_NS)
        last = -((start - min(until, stands.expires)) // GRID_NS)
        at = np.arange(max(0, first), min(STEPS, last))
        h = np.repeat(np.arange(len(REACH)), len(at))
        at = np.tile(at, len(REACH))
        is_open = self.read.truth.label[i, h, at] >= 0
        return h[is_open], at[is_open]

    def worth(self, i: int, stands: Stands, until: int) -> float:
        """Return the expected gain of an outlook over the base, up to an instant."""
        h, at = self.covers(i, stands, until)
        if not len(at) or not _says_anything(stands.answer):
            return 0.0
        return float(self._gains(i, h, at, *self._said(stands, h, at))[0].sum())

    def _close(self, i: int, stands: Stands, until: int) -> None:
        """Count what an outlook was worth while it stood."""
        h, at = self.covers(i, stands, until)
        if not len(at) or not _says_anything(stands.answer):
            return
        expected, realised = self._gains(i, h, at, *self._said(stands, h, at))
        self._earn(at, expected, realised)
        self.tally.outlook += float(expected.sum())
        self.tally.harm_answers -= min(0.0, float(expected.sum()))
        known = self.read.day.start + (int(at.max()) + max(REACH)) * GRID_NS
        self._put(known, _LEARN, self._learnt(i, stands, h, at))

    def _learnt(
        self, i: int, stands: Stands, h: NDArray[np.int64], at: NDArray[np.int64]
    ) -> Learnt:
        """Return what an outlook claimed and realised over what had stood before it."""
        truth = self.read.truth
        base, label = truth.base.p[i, h, at], truth.label[i, h, at]
        said = tilted(base, *self._said(stands, h, at))
        stood = base
        if stands.before is not None:
            stood = tilted(base, *self._said(stands.before, h, at))
            over = self.read.day.start + at * GRID_NS >= stands.before.expires
            stood[over] = base[over]
        ratio = np.log(said / stood)
        realised = np.take_along_axis(ratio, label[:, None], axis=1)[:, 0]
        sums = [
            np.bincount(h, weights=x, minlength=len(REACH)) / np.array(REACH)
            for x in (divergence(said, stood), realised)
        ]
        return Learnt(stands.number, sums[0], sums[1])

    def _earn(self, at: NDArray[np.int64], expected: Floats, realised: Floats) -> None:
        self.tally.expected += float(expected.sum())
        self.tally.harm -= float(np.minimum(expected, 0.0).sum())
        np.add.at(self._gain, at, realised)


def _says_anything(answer: Answer) -> bool:
    return bool(answer.shift.any() or answer.log_scale.any())


class Unlearning:
    """What most policies do with what they hear: nothing."""

    def hear(self, life: Life, i: int, ask: Ask, answer: Answer, took: Took) -> Ask | None:
        """Hear an answer, and ask nobody further."""
        return None

    def learn(self, learnt: Learnt) -> None:
        """Hear what became of an answer."""


DEADLINE_NS: Final = 60 * NS_PER_S


class Chance(Unlearning):
    """Asks about a random share of occasions.

    Args:
        share: Of the occasions.
        seed: Of its chance.
        any_document: Every document counts as an occasion, and nothing else does.
    """

    def __init__(self, share: float, seed: int, *, any_document: bool = False) -> None:
        self._share, self._any = share, any_document
        self._rng = np.random.default_rng(seed)
        self._n = 0

    def decide(self, life: Life, read: Read, occasion: Occasion) -> Ask | None:
        """Ask with a fixed chance."""
        is_one = occasion.told is not None if self._any else occasion.notice is not None
        if not is_one or self._rng.random() >= self._share:
            return None
        self._n += 1
        return Ask(self._n, occasion.ts + DEADLINE_NS)


class Unsure(Unlearning):
    """Asks where the base is least sure: above a quantile of its mean entropy, known in advance.

    Args:
        share: Of the occasions.
        entropies: Those of all occasions that will come.
    """

    def __init__(self, share: float, entropies: Floats) -> None:
        self._from = float(np.quantile(entropies, 1.0 - share)) if share < 1.0 else -np.inf
        self._n = 0

    def decide(self, life: Life, read: Read, occasion: Occasion) -> Ask | None:
        """Ask where the entropy is high."""
        if occasion.notice is None or entropy_at(read, occasion) < self._from:
            return None
        self._n += 1
        return Ask(self._n, occasion.ts + DEADLINE_NS)


def entropy_at(read: Read, occasion: Occasion) -> float:
    """Return the mean entropy of the base forecasts at an occasion, nats."""
    p = read.truth.base.p[occasion.instrument, :, read.day.step(occasion.ts)]
    return float(-(p * np.log(p)).sum(axis=-1).mean())


class Oracle(Unlearning):
    """Knows what each answer would truly gain over what stands, and asks from a threshold on.

    Greedy: it does not know what it will ask later.

    Args:
        least: Expected gain from which it asks, nats.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self.gains: list[float] = []
        self._n = 0

    def decide(self, life: Life, read: Read, occasion: Occasion) -> Ask | None:
        """Ask where the truth says that it pays."""
        if occasion.notice is None:
            return None
        gain = self._gain(life, occasion)
        self.gains.append(gain)
        if gain < self._least:
            return None
        self._n += 1
        return Ask(self._n, occasion.ts + DEADLINE_NS)

    def _gain(self, life: Life, occasion: Occasion) -> float:
        i, best = occasion.instrument, len(life.minds) - 1
        answer = life.seeing.answer(i, occasion.ts, also=best)
        came = occasion.ts + life.thinking_ns(i, occasion.ts, best)
        after = Stands(answer, came, came + OUTLOOK_LIVES * answer.half_life_ns, 0)
        gain = life.worth(i, after, after.expires)
        before = life.standing[i]
        if before is not None and before.expires > came:
            rest = Stands(before.answer, before.since, before.expires, 0)
            gain -= life.worth(i, rest, rest.expires) - life.worth(i, rest, came)
        return gain
