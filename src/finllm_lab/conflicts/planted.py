"""Planted conflicts: stretches of a synthetic market in which one known thing drives the price.

Frozen: `FROZEN` is the hash of the law below and of the first two episodes of a tape, fixed before any
model was fitted. A tape is a function of its seed alone. What makes it hard: a fifth of true stories is
worded as rumours and a fifth of false ones as news, a third of what has nothing to do with any story
comes with one that moves nothing, and half of the unrelated cases have a move of the price of their own.
The floor, the words, the copies and the outlets are those of the synthetic market; so are the sizes of
effects.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

import msgspec

from finllm.domain.evidence import Document
from finllm.domain.identity import canonical, content_id
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.synthetic import phrases
from finllm.market.synthetic.chance import Draw, between, draws, normal, pick, waiting
from finllm.market.synthetic.floor import Floor
from finllm.market.synthetic.latent import ACTIVITY, CELL_NS, VOLATILITY_BPS, EfficientPrice
from finllm.market.synthetic.newswire import OUTLETS, Outlet
from finllm.market.synthetic.plan import TYPICAL_10S_BPS, Drain, Effect
from finllm.market.synthetic.settings import LISTINGS, START, VENUE, Listing

FROZEN: Final = "45f69a445174f0a7f324e1e101f05644a9ec2436b50d97a412dc461ff7cd18dd"
"""What `frozen_hash` must return: the same conflicts as when it was first set, before anything was fitted."""

DRIVERS: Final = (
    "market lags the news",
    "news lags the market",
    "priced in",
    "false rumour",
    "hidden liquidity drain",
    "regime change",
    "unrelated",
)
"""What may drive an episode, each as likely."""
TOLD: Final = DRIVERS[:4]
"""Drivers that are a story; the others have one only by chance, and it moves nothing."""


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """Every number that the conflicts depend on. Spans in seconds, sizes in usual 10 s deviations."""

    n_episodes: int = 20
    warm_s: float = 60.0
    episode_s: float = 90.0
    at_s: tuple[float, float] = (50.0, 54.0)
    """Within an episode, when the words come that raise the question."""
    events_per_s: float = 30.0
    busier_with_news: float = 0.4
    noise_every_s: float = 12.0
    calm: float = 0.6
    """Chance of a calm market; else it is active."""
    as_rumour: float = 0.2
    """Chance that a story that is not false is worded as a rumour, or a false one is not."""
    fitting_outlet: float = 0.85
    """Chance of a loose outlet for a rumour and for whatever is false, of a sound one for the rest."""
    n_echoes: int = 3
    """A story has 1 to so many copies by other outlets, a false one has one fewer."""
    echo_s: tuple[float, float] = (0.4, 5.0)
    """From one copy to the next."""
    dud: float = 0.3
    """Chance of a story where the driver is none."""
    bystander: float = 0.5
    """Chance that the question is raised by chatter after the story, not by the story itself."""
    bystander_s: tuple[float, float] = (0.5, 8.0)
    denied: float = 0.5
    """Chance that a false rumour has been denied when the question is raised: by the denial."""
    denial_s: tuple[float, float] = (14.0, 22.0)
    news_size: tuple[float, float] = (3.0, 8.0)
    news_half_life_s: tuple[float, float] = (4.0, 8.0)
    news_gain: tuple[float, float] = (0.5, 0.9)
    lag_s: tuple[float, float] = (2.0, 10.0)
    """Market lags the news: from the story to the onset."""
    lead_s: tuple[float, float] = (3.0, 12.0)
    """News lags the market: from the onset to the story."""
    priced_s: tuple[float, float] = (25.0, 45.0)
    """Priced in: from the onset to the story."""
    rumour_size: tuple[float, float] = (1.5, 3.0)
    rumour_lag_s: tuple[float, float] = (2.0, 5.0)
    reversal_lag_s: tuple[float, float] = (1.0, 4.0)
    brief_half_life_s: tuple[float, float] = (2.0, 4.0)
    rumour_gain: float = 0.4
    other_gain: float = 0.3
    """Of drains, reversals and moves of no cause."""
    drain_s: tuple[float, float] = (4.0, 12.0)
    """From the first thinning to the words."""
    slip_lag_s: tuple[float, float] = (5.0, 8.0)
    slip_size: tuple[float, float] = (2.0, 4.0)
    drain_after_slip_s: float = 6.0
    switch_s: tuple[float, float] = (4.0, 20.0)
    """From the change of regime to the words."""
    stressed_s: float = 40.0
    moves_alone: float = 0.5
    alone_s: tuple[float, float] = (0.0, 40.0)
    """From the onset of a move of no cause to the words."""
    alone_size: tuple[float, float] = (2.0, 4.0)
    alone_half_life_s: tuple[float, float] = (2.0, 8.0)


LAW: Final = Law()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The words of an episode, as the oracle may know them."""

    has_story: bool
    is_rumour: bool = False
    """Worded as one."""
    is_loose: bool = False
    is_good: bool = False
    n_echoes: int = 0
    """All that will come."""
    ts: int
    """When the story was received; without one, the chatter that raises the question."""
    raised_by: str
    """`story`, `bystander`, `denial` or `chatter`."""


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One conflict."""

    driver: str
    instrument: str
    start: int
    """ns UTC."""
    question: int
    """When the words that raise the question were received: what came later is unknown."""
    told: Told
    story: str
    """Document id of the story; empty if there is none."""
    regime: str
    switch: int = 0
    """When the market became stressed, ns UTC; 0 = never."""
    effects: tuple[Effect, ...] = ()
    drain: Drain | None = None


class Conflicts:
    """One tape: its episodes, documents and frames. `frames` starts a fresh stream at each call.

    Args:
        seed: Any; the same seed gives the same tape.
        n_episodes: Fewer, for a look at the beginning.
    """

    def __init__(self, seed: int, n_episodes: int = LAW.n_episodes) -> None:
        self.seed = seed
        self.listing: Listing = pick(draws(seed, "conflict listing"), LISTINGS)
        self.instrument = f"{VENUE}:{self.listing.symbol}"
        found = [self._episode(number) for number in range(n_episodes)]
        self.episodes = tuple(episode for episode, _ in found)
        self.documents = tuple(
            sorted(
                (document for _, documents in found for document in documents),
                key=lambda d: (d.ts_recv, d.document_id),
            )
        )
        self.end = START + _ns(LAW.warm_s) + n_episodes * _ns(LAW.episode_s)
        self.path: list[float] = []
        """Efficient price after each grid cell, in ticks, as far as `frames` has come."""
        self.boosts: list[float] = []
        """What news had added to volatility before each grid cell."""

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order of receipt."""
        self.path, self.boosts = [], []
        draw = draws(self.seed, "conflict price")
        price = EfficientPrice(self.listing, draws(self.seed, "conflict own price"))
        floor = Floor(self.listing, price, draws(self.seed, "conflict floor"), 0)
        effects = sorted((x for e in self.episodes for x in e.effects), key=lambda x: x.onset)
        drains = [e.drain for e in self.episodes if e.drain is not None]
        for start in range(START, self.end, CELL_NS):
            while effects and effects[0].onset < start + CELL_NS:
                price.begin(effects.pop(0))
            if drains and drains[0].start < start + CELL_NS:
                floor.drain(drains.pop(0))
            regime = self._regime(start)
            self.boosts.append(price.boost)
            price.step(VOLATILITY_BPS[regime], normal(draw))
            self.path.append(price.ticks)
            busy = ACTIVITY[regime] * (1.0 + LAW.busier_with_news * price.boost)
            yield from floor.cell(start, LAW.events_per_s * busy)

    def _regime(self, ts: int) -> str:
        number = (ts - START - _ns(LAW.warm_s)) // _ns(LAW.episode_s)
        episode = self.episodes[max(0, number)]
        is_stressed = 0 < episode.switch <= ts < episode.switch + _ns(LAW.stressed_s)
        return "stressed" if is_stressed else episode.regime

    def _episode(self, number: int) -> tuple[Episode, list[Document]]:
        draw = draws(self.seed, "conflict", number)
        teller = _Teller(draws(self.seed, "conflict words", number), self.listing)
        start = START + _ns(LAW.warm_s) + number * _ns(LAW.episode_s)
        driver = pick(draw, DRIVERS)
        at = start + _span(draw, LAW.at_s)
        regime = "calm" if draw() < LAW.calm else "active"
        told, documents, story, denied = teller.tell(draw, driver, at)
        documents += teller.chatter(start, start + _ns(LAW.episode_s))
        is_up = told.is_good if driver in TOLD else draw() < 0.5
        drain = _drain(draw, at, is_up=is_up) if driver == "hidden liquidity drain" else None
        effects = _effects(draw, driver, told.ts, denied, is_up=is_up)
        return (
            Episode(
                driver=driver,
                instrument=self.instrument,
                start=start,
                question=teller.question,
                told=told,
                story=story,
                regime=regime,
                switch=at - _span(draw, LAW.switch_s) if driver == "regime change" else 0,
                effects=(drain.slip,) if drain is not None else effects,
                drain=drain,
            ),
            documents,
        )


def _ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)


def _span(draw: Draw, span_s: tuple[float, float]) -> int:
    return _ns(between(draw, *span_s))


def _effect(
    draw: Draw, onset: int, sizes: tuple[float, float], half_life_s: tuple[float, float], *,
    gain: float, is_up: bool,
) -> Effect:  # fmt: skip
    size = between(draw, *sizes) * TYPICAL_10S_BPS
    return Effect(
        symbol=0,
        onset=onset,
        effect_bps=size if is_up else -size,
        half_life_ns=_span(draw, half_life_s),
        volatility_gain=gain,
    )


def _effects(draw: Draw, driver: str, told: int, denied: int, *, is_up: bool) -> tuple[Effect, ...]:
    """Return the pulls on the price in an episode without a drain."""
    law = LAW
    if driver == "false rumour":
        onset = told + _span(draw, law.rumour_lag_s)
        brief, gain = law.brief_half_life_s, law.rumour_gain
        move = _effect(draw, onset, law.rumour_size, brief, gain=gain, is_up=is_up)
        back = Effect(
            symbol=0,
            onset=denied + _span(draw, law.reversal_lag_s),
            effect_bps=-move.effect_bps,
            half_life_ns=_span(draw, brief),
            volatility_gain=law.other_gain,
        )
        return move, back
    if driver in TOLD:
        onset = {
            "market lags the news": told + _span(draw, law.lag_s),
            "news lags the market": told - _span(draw, law.lead_s),
            "priced in": told - _span(draw, law.priced_s),
        }[driver]
        gain = between(draw, *law.news_gain)
        half_life = law.news_half_life_s
        return (_effect(draw, onset, law.news_size, half_life, gain=gain, is_up=is_up),)
    if driver == "unrelated" and draw() < law.moves_alone:
        onset = told - _span(draw, law.alone_s)
        half_life, gain = law.alone_half_life_s, law.other_gain
        return (_effect(draw, onset, law.alone_size, half_life, gain=gain, is_up=is_up),)
    return ()


def _drain(draw: Draw, at: int, *, is_up: bool) -> Drain:
    start = at - _span(draw, LAW.drain_s)
    onset = start + _span(draw, LAW.slip_lag_s)
    brief, gain = LAW.brief_half_life_s, LAW.other_gain
    slip = _effect(draw, onset, LAW.slip_size, brief, gain=gain, is_up=is_up)
    end = onset + _ns(LAW.drain_after_slip_s)
    return Drain(symbol=0, start=start, end=end, is_bid=not is_up, slip=slip)


class _Teller:
    """Puts an episode into words."""

    def __init__(self, draw: Draw, listing: Listing) -> None:
        self._draw = draw
        self._listing = listing
        self.question = 0
        """When what raises the question is received, once it is told."""

    def tell(self, draw: Draw, driver: str, at: int) -> tuple[Told, list[Document], str, int]:
        """Return what is told, its documents, the story's id and when it is denied (0 = never).

        Args:
            draw: The episode's chance.
            driver: What drives it.
            at: When the words are published that raise the question, ns UTC.
        """
        law = LAW
        if driver not in TOLD and draw() >= law.dud:
            return self._chat(draw, at)
        is_false, is_good = driver == "false rumour", draw() < 0.5
        is_rumour = (draw() < law.as_rumour) != is_false
        is_loose = (draw() < law.fitting_outlet) == (is_false or is_rumour)
        raised_by, ago = self._raised(draw, is_false=is_false)
        outlet = pick(draw, OUTLETS[3:] if is_loose else OUTLETS[:3])
        words = self._words()
        claims = phrases.GOOD_CLAIM if is_good else phrases.BAD_CLAIM
        claim = pick(draw, claims).format(**words)
        news = pick(draw, phrases.GOOD if is_good else phrases.BAD).format(**words)
        text = pick(draw, phrases.RUMOUR).format(claim=claim) if is_rumour else news
        story = self._write(outlet, at - ago, text[0].upper() + text[1:])
        denied = 0
        echoes = int(draw() * law.n_echoes) + (not is_false)
        documents = [*self._echoes(story, echoes), story]
        if is_false:
            denied = at if raised_by == "denial" else story.ts_published + _span(draw, law.denial_s)
            denies = pick(draw, phrases.DENIAL)
            denied_claim = claim if is_rumour else news[0].lower() + news[1:]
            denial = denies.format(claim=denied_claim, **words)
            documents.append(self._write(pick(draw, OUTLETS[:3]), denied, denial))
        if raised_by == "bystander":
            text = pick(draw, phrases.NOISE).format(**self._words())
            documents.append(self._write(pick(draw, OUTLETS), at, text))
        raising = documents[-1] if raised_by != "story" else story
        self.question = raising.ts_recv
        told = Told(
            has_story=True,
            is_rumour=is_rumour,
            is_loose=is_loose,
            is_good=is_good,
            n_echoes=echoes,
            ts=story.ts_recv,
            raised_by=raised_by,
        )
        return told, documents, story.document_id, denied

    def _chat(self, draw: Draw, at: int) -> tuple[Told, list[Document], str, int]:
        """Return what `tell` does where there is no story: chatter raises the question."""
        outlet = pick(draw, OUTLETS)
        said = self._write(outlet, at, pick(draw, phrases.NOISE).format(**self._words()))
        self.question = said.ts_recv
        return Told(has_story=False, ts=said.ts_recv, raised_by="chatter"), [said], "", 0

    def _echoes(self, story: Document, n: int) -> Iterator[Document]:
        """Yield copies of a story by other outlets, one after another."""
        ts = story.ts_recv
        others = [outlet for outlet in OUTLETS if outlet.name != story.source]
        for _ in range(n):
            ts += _span(self._draw, LAW.echo_s)
            framed = pick(self._draw, phrases.ECHO).format(text=story.text, source=story.source)
            yield self._write(others.pop(int(self._draw() * len(others))), ts, framed)

    def _raised(self, draw: Draw, *, is_false: bool) -> tuple[str, int]:
        """Return what raises the question, and how long after the story, ns."""
        if is_false and draw() < LAW.denied:
            return "denial", _span(draw, LAW.denial_s)
        if draw() < LAW.bystander:
            return "bystander", _span(draw, LAW.bystander_s)
        return "story", 0

    def chatter(self, start: int, end: int) -> Iterator[Document]:
        """Yield documents about the instrument that tell of nothing."""
        ts = start + _ns(waiting(self._draw, LAW.noise_every_s))
        while ts < end:
            text = pick(self._draw, phrases.NOISE).format(**self._words())
            yield self._write(pick(self._draw, OUTLETS), ts, text)
            ts += _ns(waiting(self._draw, LAW.noise_every_s))

    def _words(self) -> dict[str, str]:
        return {
            "name": pick(self._draw, self._listing.names),
            "place": pick(self._draw, self._listing.places),
            "n": str(5 * (1 + int(self._draw() * 19.0))),
        }

    def _write(self, outlet: Outlet, ts: int, text: str) -> Document:
        ts = ts // NS_PER_MS * NS_PER_MS
        delay = int(outlet.delay_ms * between(self._draw, 0.6, 3.0) * NS_PER_MS)
        return Document(
            document_id=content_id(outlet.name, ts, text),
            source=outlet.name,
            ts_published=ts,
            ts_recv=ts + delay,
            lang="en",
            text=text,
            symbols=(self._listing.symbol,),
            author=pick(self._draw, outlet.authors),
            followers=outlet.followers,
        )


def frozen_hash() -> str:
    """Return the hash that must be `FROZEN`: the law, and all of a tape of two episodes."""
    tape = Conflicts(1, 2)
    seen = sha256(canonical((DRIVERS, msgspec.to_builtins(LAW), phrases.NOISE, phrases.DENIAL)))
    told = [(d.source, d.author, d.ts_published, d.ts_recv, d.text) for d in tape.documents]
    seen.update(canonical((told, tape.episodes)))
    for frame in tape.frames():
        seen.update(b"%d %b\n" % (frame.ts_recv, frame.payload))
    return seen.hexdigest()
