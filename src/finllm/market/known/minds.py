"""Simulated reasoners: what a second look would say, by skill. Their judgement is simulated.

A mind sees what is true of every story that has been told, through its own errors: it may take the sign
wrong, misjudge size and half-life, be taken in by a rumour, miss that something is priced in, or see an
effect in what has none. Its errors are a function of story and mind, so that asking twice does not help.
It answers as a reasoner does: shift and ln k by horizon, and a half-life. Latencies are lognormal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.units import NS_PER_S
from finllm.market.known.base import REACH, Base
from finllm.market.known.law import GRID_S, KINDS, LISTINGS
from finllm.market.known.stories import Story
from finllm.market.known.world import Day, whole_bps
from finllm.market.synthetic.chance import Draw, draws, normal

Floats = NDArray[np.float64]
SLOPE: Final = 2.13
"""Of log(p_up / p_down) in the mean over the deviation, under a normal law at a band of 0.4 deviations."""
MOST_SHIFT: Final = 1.0
MOST_LOG_SCALE: Final = 0.7
"""The bounds of the shipped fusion, within which any reasoner's verdict stays."""
OUTLOOK_LIVES: Final = 4
"""Half-lives until an outlook expires."""
_USUAL_HALF_LIFE_NS: Final = 180 * NS_PER_S
_USUAL_LAG_NS: Final = 20 * NS_PER_S
_ABSORBED_S: Final = 240.0
"""Half-life with which a base forecast comes to see a story's volatility for itself."""


class Mind(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated reasoner."""

    name: str
    p50_s: float
    p95_s: float
    slots: int
    """Questions that it can think about at once."""
    tokens: int
    """Of a question and its answer."""
    energy_j: float
    usd: float
    misses: float
    """Chance that it sees nothing in a story with an effect."""
    wrong_sign: float
    """Chance that it takes a text for the opposite of what it says."""
    size_noise: float
    """Deviation of the log of the size that it sees."""
    false_alarm: float
    """Chance that it sees an effect in chatter; three times that in a headline without one."""
    sees_through: float
    """Chance that it knows a false rumour for one, and what is priced in for that."""
    abroad: float
    """Its misses, wrong signs and false alarms in languages other than English, times these."""


MINDS: Final = (
    Mind(
        name="embedded", p50_s=0.005, p95_s=0.02, slots=1, tokens=0, energy_j=0.1, usd=0.0,
        misses=0.3, wrong_sign=0.1, size_noise=0.7, false_alarm=0.04, sees_through=0.3, abroad=1.3,
    ),
    Mind(
        name="small", p50_s=1.5, p95_s=4.0, slots=4, tokens=1_800, energy_j=180.0, usd=0.0006,
        misses=0.12, wrong_sign=0.01, size_noise=0.4, false_alarm=0.015, sees_through=0.75, abroad=1.5,
    ),
    Mind(
        name="ensemble", p50_s=6.0, p95_s=14.0, slots=4, tokens=9_000, energy_j=2_000.0, usd=0.02,
        misses=0.06, wrong_sign=0.006, size_noise=0.3, false_alarm=0.01, sees_through=0.85, abroad=1.2,
    ),
)  # fmt: skip
"""Orders of magnitude: latencies and tokens as in the serving traces, skills set, not measured."""
POOL: Final = {"embedded": 0.0, "small": 0.35, "ensemble": 0.65}
"""Weight of each mind among those who have read a story; the embedded one only has a say on the others."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a mind says at an instant."""

    shift: Floats
    """[h]"""
    log_scale: Floats
    """[h], ln k."""
    half_life_ns: int


class Perceived(msgspec.Struct, frozen=True, kw_only=True):
    """A story as a mind sees it."""

    seen: int
    """From when on it can, ns."""
    onset: int
    bps: float
    half_life_ns: int
    volatility: float


@dataclass(slots=True)
class _Known:
    """A story as each mind sees it, None where it sees nothing in it, and who has read it."""

    seen: int
    by_mind: tuple[Perceived | None, ...]
    readers: frozenset[int] = frozenset()


class Seeing:
    """What minds see of one day, story by story, and what has been said by those who were asked.

    A mind that is asked reads all that has been told by then. What is said of a story is the mean over those
    who have read it, by the weights of `POOL`: who reads again is not counted twice.

    Args:
        minds: The reasoners, cheapest first.
        day: The day.
        base: Its base forecasts: an answer is relative to them.
        seed: Of the minds' errors.
    """

    def __init__(self, minds: Sequence[Mind], day: Day, base: Base, seed: int) -> None:
        self._day, self._base = day, base
        self._weights = tuple(POOL.get(mind.name, 1.0) for mind in minds)
        seen_from = _first_seen(day)
        self._stories: list[list[_Known]] = [[] for _ in LISTINGS]
        for story in day.plan.stories:
            if story.story_id not in seen_from:
                continue
            seen = seen_from[story.story_id]
            by_mind = tuple(
                _perceive(mind, story, day, draws(seed, mind.name + story.story_id), seen)
                for mind in minds
            )
            if any(by_mind):
                self._stories[story.instrument].append(_Known(seen, by_mind))

    def read(self, instrument: int, as_of: int, mind: int) -> None:
        """Let a mind read all that has been told of an instrument by an instant."""
        for known in self._stories[instrument]:
            if known.seen <= as_of:
                known.readers |= {mind}

    def answer(self, instrument: int, as_of: int, also: int | None = None) -> Answer:
        """Return what is said of an instrument by all who have read about it, as of an instant.

        Args:
            instrument: Index in `LISTINGS`.
            as_of: ns UTC.
            also: A mind that is taken to have read all, for this answer alone.
        """
        step = self._day.step(as_of)
        sigma = self._base.sigma[instrument, :, step]
        mean, boost = np.zeros(len(REACH)), np.zeros(len(REACH))
        rate = weight = 0.0
        for share, one in self._said(instrument, as_of, also):
            age = as_of - one.onset
            if age > 8 * one.half_life_ns:
                continue
            left = share * 0.5 ** (max(0, age) / one.half_life_ns)
            # An outlook serves later forecasts: what has not quite begun is taken as begun.
            done = 1.0 - 0.5 ** (_REACH_NS / one.half_life_ns)
            mean += one.bps * left * done
            unseen = 0.6 * 0.5 ** (max(0, age) / NS_PER_S / _ABSORBED_S)
            boost += one.volatility * left * done * unseen * one.half_life_ns / _REACH_NS
            rate += abs(one.bps) * left / one.half_life_ns
            weight += abs(one.bps) * left
        shift = np.clip(SLOPE * mean / sigma, -MOST_SHIFT, MOST_SHIFT)
        # Of several stories it falls as fast as their sum does at first, as outlooks do that are merged.
        half_life = weight / rate if rate > 0.0 else _USUAL_HALF_LIFE_NS
        return Answer(shift, np.minimum(np.log1p(boost), MOST_LOG_SCALE), int(half_life))

    def _said(
        self, instrument: int, as_of: int, also: int | None
    ) -> Iterator[tuple[float, Perceived]]:
        """Yield what each reader says of each story, with its share in what is said of it."""
        for known in self._stories[instrument]:
            if known.seen > as_of:
                continue
            readers = known.readers if also is None else known.readers | {also}
            total = sum(self._weights[mind] for mind in readers)
            for mind in sorted(readers):
                one = known.by_mind[mind]
                share = self._weights[mind] / total if total else 1.0 / len(readers)
                if one is not None and share > 0.0:
                    yield share, one


_REACH_NS: Final = np.array(REACH) * float(GRID_S * NS_PER_S)


def _first_seen(day: Day) -> dict[str, int]:
    """Return when each story was first known to anybody: its first document's receipt, or the flag."""
    found: dict[str, int] = {}
    for told in day.plan.told:
        found.setdefault(told.story.story_id, told.document.ts_recv)
    for alarm in day.plan.alarms:
        if alarm.story is not None:
            found[alarm.story.story_id] = alarm.ts
    return found


def _perceive(mind: Mind, story: Story, day: Day, draw: Draw, seen: int) -> Perceived | None:
    """Return a story as a mind sees it; None if it sees nothing in it."""
    worse = 1.0 if LISTINGS[story.instrument].lang == "en" else mind.abroad
    wrong = min(0.45, mind.wrong_sign * worse)
    sign = -1.0 if draw() < wrong else 1.0
    size = np.exp(mind.size_noise * normal(draw) - 0.5 * mind.size_noise**2)
    life = np.exp(0.3 * normal(draw))
    sees, misses, alarm = draw() < mind.sees_through, draw() < mind.misses * worse, draw()
    trust = (1.0 - 2.0 * wrong) * 0.8
    if not story.size:
        often = mind.false_alarm * worse * (1.0 if story.kind == "chatter" else 3.0)
        if alarm >= often:
            return None
        imagined = msgspec.structs.replace(story, size=1.0 if draw() < 0.5 else -1.0, onset=seen)
        return _seen_as(imagined, day, seen, 0.5 * trust * sign * size, _USUAL_HALF_LIFE_NS, 0.0)
    if misses:
        return None
    half_life = int(story.half_life_ns * life)
    onset = story.onset
    if story.kind == "priced in" and not sees:
        onset, trust = seen + _USUAL_LAG_NS, 0.4 * trust
    elif story.kind == "false rumour":
        trust *= 0.3 if sees else 0.7
    if onset > seen:
        low, high = KINDS[story.kind].lag_s if story.kind in KINDS else (0.0, 30.0)
        onset = story.ts + int(0.5 * (low + high) * NS_PER_S) if onset == story.onset else onset
    told = msgspec.structs.replace(story, onset=onset)
    return _seen_as(told, day, seen, trust * sign * size, half_life, story.volatility * trust)


def _seen_as(
    story: Story, day: Day, seen: int, factor: float, half_life_ns: int, volatility: float
) -> Perceived:
    return Perceived(
        seen=seen,
        onset=story.onset,
        bps=whole_bps(story, day.start, day.usual) * factor,
        half_life_ns=half_life_ns,
        volatility=volatility,
    )


def latency_of(mind: Mind, seed: int, question: str) -> float:
    """Return how long a mind takes for a question, seconds, when it has a slot free."""
    draw = draws(seed, mind.name + question + " latency")
    return float(mind.p50_s * np.exp(np.log(mind.p95_s / mind.p50_s) / 1.645 * normal(draw)))
