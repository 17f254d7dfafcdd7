"""A day's stories and the documents that tell them. Pure functions of the law, the seed and the day.

A story is one pull on one instrument's price, or none; the reversal of a false rumour is a story of its own,
told by its denial. A document belongs to one story; chatter is a story that moves nothing.
"""

import math
from collections.abc import Iterator

import msgspec

from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.known import words
from finllm.market.known.law import (
    DAY_S,
    KINDS,
    LISTINGS,
    OFFICIAL,
    OUTLETS,
    SILENT,
    Kind,
    Law,
    Outlet,
)
from finllm.market.synthetic.chance import between, draws, normal, pick, waiting
from finllm.market.synthetic.settings import START

_SOUND = tuple(outlet for outlet in OUTLETS[1:] if outlet.is_sound)
_LOOSE = tuple(outlet for outlet in OUTLETS if not outlet.is_sound)
_NOISE = frozenset({"no effect", "campaign", "chatter"})


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a story."""

    story_id: str
    kind: str
    instrument: int
    """Index in `LISTINGS`."""
    ts: int
    """Publication of its first document; of a silent one, the market's flag. ns UTC."""
    onset: int
    size: float
    """Signed whole move, in usual deviations of ten minutes at the present volatility; 0 = none."""
    half_life_ns: int
    volatility: float
    """Added to the factor of volatility at the onset; halves as the move does."""
    is_false: bool = False
    reverses: str = ""
    """The false story that it takes back."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A document with what is true of it."""

    document: Document
    story: Story
    is_first: bool
    """No copy: the story's first document."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """The market's own flag: one side of the book is thin, with no news."""

    instrument: int
    ts: int
    is_down: bool
    """The side that is thin."""
    strength: float
    """Deviations of depth from usual."""
    story: Story | None = None
    """What it foretells; None for a false alarm."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is planted in a day."""

    stories: tuple[Story, ...]
    told: tuple[Told, ...]
    """In order of receipt."""
    alarms: tuple[Alarm, ...]
    """In order of time."""


def day_start(day: int) -> int:
    """Return a day's first instant, ns UTC."""
    return START + day * DAY_S * NS_PER_S


def plan(law: Law, seed: int, day: int) -> Plan:
    """Return a day's stories, documents and alarms."""
    found = [_Desk(law, seed, day, i) for i in range(len(LISTINGS))]
    for desk in found:
        desk.write()
    end = day_start(day + 1)
    told = [t for desk in found for t in desk.told if t.document.ts_recv < end]
    alarms = [alarm for desk in found for alarm in desk.alarms if alarm.ts < end]
    return Plan(
        stories=tuple(story for desk in found for story in desk.stories),
        told=tuple(sorted(told, key=lambda t: (t.document.ts_recv, t.document.document_id))),
        alarms=tuple(sorted(alarms, key=lambda alarm: (alarm.ts, alarm.instrument))),
    )


class _Desk:
    """Writes one instrument's day."""

    def __init__(self, law: Law, seed: int, day: int, instrument: int) -> None:
        self._law = law
        self._instrument = instrument
        self._listing = LISTINGS[instrument]
        self._draw = draws(seed, f"known stories {day}", instrument)
        self._start = day_start(day)
        self._number = 0
        self._id = (seed, day, instrument)
        self.stories: list[Story] = []
        self.told: list[Told] = []
        self.alarms: list[Alarm] = []

    def write(self) -> None:
        for name, kind in KINDS.items():
            scale = self._law.noise if name in _NOISE else self._law.rate
            for ts in self._times(name, kind.per_hour * scale):
                self._story(name, kind, ts)
        rate = self._law.alarm_false_per_hour * self._law.noise
        for ts in self._arrivals(rate):
            is_down = self._draw() < 0.5
            strength = 2.0 + waiting(self._draw, 0.6)
            self.alarms.append(
                Alarm(instrument=self._instrument, ts=ts, is_down=is_down, strength=strength)
            )

    def _arrivals(self, per_hour: float) -> Iterator[int]:
        at = waiting(self._draw, 3_600.0 / per_hour) if per_hour > 0.0 else DAY_S
        while at < DAY_S:
            yield self._start + int(at * NS_PER_S)
            at += waiting(self._draw, 3_600.0 / per_hour)

    def _times(self, name: str, per_hour: float) -> Iterator[int]:
        if name == "scheduled":
            for hour in self._law.schedule_h:
                yield self._start + (hour * 3_600 + 420 * self._instrument) * NS_PER_S
        elif name == "chatter":
            # Geometric bursts: of mean (busy + 1) / 2, the variance over mean of their sum is `busy`.
            mean = (self._law.busy + 1.0) / 2.0
            for ts in self._arrivals(per_hour / mean):
                at = ts
                yield at
                while self._draw() < 1.0 - 1.0 / mean:
                    at += int(waiting(self._draw, 40.0) * NS_PER_S)
                    yield at
        else:
            yield from self._arrivals(per_hour)

    def _story(self, name: str, kind: Kind, ts: int) -> None:
        draw, law = self._draw, self._law
        sign = 1.0 if draw() < 0.5 else -1.0
        size = sign * law.size * kind.size * math.exp(kind.size_spread * normal(draw))
        half_life = law.pace * kind.half_life_s * math.exp(kind.half_life_spread * normal(draw))
        lag = between(draw, *kind.lag_s)
        story = self._made(
            name, ts, lag, size, half_life, kind.volatility, is_false="false" in name
        )
        if name in SILENT:
            strength = 2.0 + waiting(draw, 1.0)
            self.alarms.append(
                Alarm(
                    instrument=self._instrument, ts=ts, is_down=sign < 0.0, strength=strength,
                    story=story,
                )
            )  # fmt: skip
            return
        if name == "campaign":
            self._campaign(story, kind, is_good=sign > 0.0)
            return
        is_passing = draw() >= kind.named
        text = self._text(kind, is_good=sign > 0.0, is_passing=is_passing)
        symbols = self._symbols(is_passing=is_passing)
        first = self._tell(story, self._outlet(name, kind), ts, text, symbols, is_first=True)
        self._echoes(story, first, kind.echoes)
        if story.is_false:
            self._reversal(story, kind, text)

    def _made(
        self, kind: str, ts: int, lag_s: float, size: float, half_life_s: float, volatility: float,
        *, is_false: bool = False, reverses: str = "",
    ) -> Story:  # fmt: skip
        self._number += 1
        story = Story(
            story_id=content_id("known story", *self._id, self._number),
            kind=kind,
            instrument=self._instrument,
            ts=ts,
            onset=ts + int(lag_s * NS_PER_S),
            size=round(size, 6),
            half_life_ns=int(min(7_200.0, max(10.0, half_life_s)) * NS_PER_S),
            volatility=round(min(self._law.most_volatility, volatility * abs(size)), 6),
            is_false=is_false,
            reverses=reverses,
        )
        self.stories.append(story)
        return story

    def _symbols(self, *, is_passing: bool) -> tuple[str, ...]:
        own = self._listing.key.partition(":")[2]
        if is_passing:
            return (own, *(f"X{int(self._draw() * 1e3)}" for _ in range(2)))
        return (own,) if self._draw() < 0.5 else ()

    def _text(self, kind: Kind, *, is_good: bool, is_passing: bool) -> str:
        draw, lang = self._draw, self._listing.lang
        called = pick(draw, self._listing.names)
        if is_passing:
            return words.compose(draw, words.PASSING, lang, called)
        if draw() >= kind.headline:
            return words.compose(draw, words.CHAT, lang, called)
        said = words.compose(draw, words.GOOD if is_good else words.BAD, lang, called)
        return words.hedged(lang, said) if draw() < kind.as_rumour else said

    def _outlet(self, name: str, kind: Kind) -> Outlet:
        if name == "scheduled":
            return OFFICIAL
        # Preference over even odds, scaled: 1 leaves it, 0 would be none.
        sound = kind.sound
        if name not in _NOISE and self._law.soundness != 1.0:
            odds = (sound / (1.0 - sound)) ** self._law.soundness
            sound = odds / (1.0 + odds)
        if self._draw() >= sound:
            return pick(self._draw, _LOOSE)
        return OFFICIAL if self._draw() < 0.05 else pick(self._draw, _SOUND)

    def _tell(
        self, story: Story, outlet: Outlet, ts: int, text: str, symbols: tuple[str, ...], *,
        is_first: bool, account: str = "",
    ) -> Document:  # fmt: skip
        draw = self._draw
        ts = ts // NS_PER_MS * NS_PER_MS
        delay = outlet.delay_s * math.exp(0.6 * normal(draw))
        writes = f"writer{int(draw() * outlet.authors)}" if outlet.authors else ""
        followers = int(outlet.followers * math.exp(0.5 * normal(draw)))
        document = Document(
            document_id=content_id(outlet.name, ts, text, self._id),
            source=outlet.name,
            ts_published=ts,
            ts_recv=ts + int(delay * NS_PER_S),
            lang=self._listing.lang,
            text=text,
            symbols=symbols,
            author=account or writes,
            followers=int(draw() * 60.0) if account else followers,
            is_verified=outlet is OFFICIAL,
        )
        self.told.append(Told(document=document, story=story, is_first=is_first))
        return document

    def _echoes(self, story: Story, first: Document, mean: float) -> None:
        ts = first.ts_recv
        n = int(waiting(self._draw, mean) + 0.5) if mean > 0.0 else 0
        others = [outlet for outlet in OUTLETS[1:] if outlet.name != first.source]
        for _ in range(min(n, 6)):
            ts += int(between(self._draw, *self._law.echo_s) * NS_PER_S)
            outlet = pick(self._draw, others)
            is_exact = self._draw() < self._law.repost
            lang = self._listing.lang
            text = (
                first.text if is_exact else words.framed(self._draw, lang, first.text, first.source)
            )
            self._tell(story, outlet, ts, text, first.symbols, is_first=False)

    def _campaign(self, story: Story, kind: Kind, *, is_good: bool) -> None:
        low, high = self._law.campaign_posts
        text = self._text(kind, is_good=is_good, is_passing=False)
        for number in range(low + int(self._draw() * (high - low + 1))):
            ts = story.ts + int(self._draw() * self._law.campaign_s * NS_PER_S) * (number > 0)
            framed = words.framed(self._draw, self._listing.lang, text, "chirp")
            account = f"new{int(self._draw() * 1e6)}"
            outlet = pick(self._draw, OUTLETS[-2:])
            self._tell(story, outlet, ts, framed, (), is_first=number == 0, account=account)

    def _reversal(self, story: Story, kind: Kind, text: str) -> None:
        draw, law = self._draw, self._law
        is_denied = draw() < law.denied
        later = between(draw, *law.denial_s)
        half_life = story.half_life_ns / NS_PER_S
        if not is_denied:
            self._made(
                "fading", story.ts + int(law.fade_s * NS_PER_S), 0.0, -story.size, 300.0, 0.0
            )
            return
        ts = story.ts + int(later * NS_PER_S)
        back = self._made(
            "denial", ts, between(draw, 2.0, 30.0), -story.size, half_life, kind.volatility,
            reverses=story.story_id,
        )  # fmt: skip
        name = pick(draw, self._listing.names)
        said = words.denied(draw, self._listing.lang, name, text)
        outlet = OFFICIAL if draw() < 0.4 else pick(draw, _SOUND)
        symbols = self._symbols(is_passing=False)
        denial = self._tell(back, outlet, ts, said, symbols, is_first=True)
        self._echoes(back, denial, 1.0)
