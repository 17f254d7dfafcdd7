"""The newswire: puts stories into words, copies them, and talks a lot of nothing besides."""

from collections.abc import Iterator
from typing import Final

import msgspec

from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from finllm.market.synthetic import phrases
from finllm.market.synthetic.chance import Draw, between, draws, pick, shuffled, waiting
from finllm.market.synthetic.plan import (
    CYCLE_NS,
    VOLATILITY_HALF_LIFE_NS,
    Cycle,
    Effect,
    Story,
)
from finllm.market.synthetic.settings import VENUE, Listing, SyntheticMarket, listings
from finllm.market.synthetic.truth import Truth, TruthKind


class Outlet(msgspec.Struct, frozen=True, kw_only=True):
    """A source on the newswire."""

    name: str
    reliability: float
    """Chance that what it says about a coin's fate is so."""
    authors: tuple[str, ...]
    followers: int
    delay_ms: int
    """Usual time from publication to receipt."""


OUTLETS: Final = (
    Outlet(
        name="meridian-newswire",
        reliability=0.99,
        authors=("A. Lindqvist", "M. Okafor", "desk"),
        followers=2_400_000,
        delay_ms=60,
    ),
    Outlet(
        name="ledger-post",
        reliability=0.97,
        authors=("R. Tanaka", "S. Duarte", "J. Wren"),
        followers=610_000,
        delay_ms=180,
    ),
    Outlet(
        name="block-courier",
        reliability=0.93,
        authors=("staff", "P. Ilves"),
        followers=180_000,
        delay_ms=250,
    ),
    Outlet(
        name="chirp",
        reliability=0.5,
        authors=("user4107", "user2291", "user8850", "user1313", "user7046"),
        followers=3_200,
        delay_ms=120,
    ),
    Outlet(
        name="tape-whispers",
        reliability=0.35,
        authors=("anon", "nightdesk"),
        followers=24_000,
        delay_ms=90,
    ),
)
"""Invented outlets, most reliable first."""

_SOUND: Final = OUTLETS[:3]
_LOOSE: Final = OUTLETS[3:]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A document with what is true about it."""

    document: Document
    truths: tuple[Truth, ...]


class Newsroom:
    """Writes the documents of one cycle after another."""

    def __init__(self, settings: SyntheticMarket) -> None:
        self._settings = settings
        self._listings = listings(settings)

    def publish(self, cycle: Cycle) -> list[Published]:
        """Return a cycle's documents in order of receipt; some are received after its end."""
        number = (cycle.start - self._settings.start) // CYCLE_NS
        draw = draws(self._settings.seed, "words", number)
        found: list[Published] = []
        for story in cycle.stories:
            found += self._tell(draw, story)
        found += self._noise(draws(self._settings.seed, "noise", number), cycle.start)
        return sorted(found, key=_received)

    def _tell(self, draw: Draw, story: Story) -> list[Published]:
        listing = self._listings[max(0, story.symbol)]
        words = _words(draw, listing)
        claim = ""
        if story.is_false:
            claim = pick(draw, phrases.GOOD_CLAIM if story.is_good else phrases.BAD_CLAIM)
            claim = claim.format(**words)
            text = pick(draw, phrases.RUMOUR).format(claim=claim)
            outlet = pick(draw, _LOOSE if draw() < 0.85 else _SOUND)
        else:
            text = pick(draw, _templates(story)).format(**words)
            outlet = pick(draw, _SOUND if draw() < 0.85 else _LOOSE)
        text = text[0].upper() + text[1:]
        kind = TruthKind.RUMOUR if story.is_false else TruthKind.ANNOUNCEMENT
        first = self._document(draw, outlet, story.ts, text, story.symbol)
        found = [self._with_truths(first, kind, story.effects, is_false=story.is_false)]
        found += self._echoes(draw, story, first, outlet)
        if story.denied:
            said = pick(draw, phrases.DENIAL).format(claim=claim, **words)
            denial = self._document(draw, pick(draw, _SOUND), story.denied, said, story.symbol)
            about = first.document_id
            found.append(
                self._with_truths(denial, TruthKind.DENIAL, story.denial_effects, about=about)
            )
        return found

    def _echoes(
        self, draw: Draw, story: Story, first: Document, outlet: Outlet
    ) -> Iterator[Published]:
        others = shuffled(draw, [each for each in OUTLETS if each is not outlet])
        ts = first.ts_recv
        for number in range(story.n_echoes):
            ts += int(between(draw, 0.4, 5.0) * NS_PER_S)
            text = _reworded(draw, first.text, first.source)
            echo = self._document(draw, others[number], ts, text, story.symbol)
            truth = Truth(
                kind=TruthKind.ECHO,
                instrument=self._key(max(0, story.symbol)),
                ts=echo.ts_published,
                is_false=story.is_false,
                document_id=echo.document_id,
                about=first.document_id,
            )
            yield Published(document=echo, truths=(truth,))

    def _noise(self, draw: Draw, start: int) -> Iterator[Published]:
        if not self._settings.noise_per_min:
            return
        mean_ns = NS_PER_MIN / self._settings.noise_per_min
        ts = start + int(waiting(draw, mean_ns))
        while ts < start + CYCLE_NS - 2 * NS_PER_S:
            is_off = draw() < 0.25
            symbol = int(draw() * len(self._listings))
            template = pick(draw, phrases.OFF_TOPIC if is_off else phrases.NOISE)
            text = template.format(**_words(draw, self._listings[symbol]))
            outlet = pick(draw, OUTLETS)
            written = self._document(draw, outlet, ts, text, -1 if is_off else symbol)
            truth = Truth(
                kind=TruthKind.NOISE,
                instrument="" if is_off else self._key(symbol),
                ts=written.ts_published,
                document_id=written.document_id,
            )
            yield Published(document=written, truths=(truth,))
            ts += int(waiting(draw, mean_ns))

    def _document(self, draw: Draw, outlet: Outlet, ts: int, text: str, symbol: int) -> Document:
        # The source's own clock is good to a millisecond, and seldom does a source attach a symbol.
        ts = ts // NS_PER_MS * NS_PER_MS
        delay = int(outlet.delay_ms * between(draw, 0.6, 3.0) * NS_PER_MS)
        attached = draw() < 0.6 and symbol >= 0
        return Document(
            document_id=content_id(outlet.name, ts, text),
            source=outlet.name,
            ts_published=ts,
            ts_recv=ts + delay,
            lang="en",
            text=text,
            symbols=(self._listings[symbol].symbol,) if attached else (),
            author=pick(draw, outlet.authors),
            followers=int(outlet.followers * between(draw, 0.98, 1.02)),
        )

    def _with_truths(
        self,
        document: Document,
        kind: TruthKind,
        effects: tuple[Effect, ...],
        *,
        is_false: bool = False,
        about: str = "",
    ) -> Published:
        truths = tuple(
            Truth(
                kind=kind,
                instrument=self._key(effect.symbol),
                ts=document.ts_published,
                lag_ns=effect.onset - document.ts_published,
                effect_bps=effect.effect_bps,
                half_life_ns=effect.half_life_ns,
                volatility_gain=effect.volatility_gain,
                volatility_half_life_ns=VOLATILITY_HALF_LIFE_NS,
                is_false=is_false,
                document_id=document.document_id,
                about=about,
            )
            for effect in effects
        )
        return Published(document=document, truths=truths)

    def _key(self, symbol: int) -> str:
        return f"{VENUE}:{self._listings[symbol].symbol}"


def _received(published: Published) -> tuple[int, str]:
    return published.document.ts_recv, published.document.document_id


def _templates(story: Story) -> tuple[str, ...]:
    if story.symbol < 0:
        return phrases.MARKET_GOOD if story.is_good else phrases.MARKET_BAD
    return phrases.GOOD if story.is_good else phrases.BAD


def _words(draw: Draw, listing: Listing) -> dict[str, str]:
    return {
        "name": pick(draw, listing.names),
        "place": pick(draw, listing.places),
        "n": str(5 * (1 + int(draw() * 19.0))),
    }


def _reworded(draw: Draw, text: str, source: str) -> str:
    """Return a near copy: a frame around the text, and some words replaced by others."""
    for word, other in phrases.SYNONYMS:
        if word in text and draw() < 0.5:
            text = text.replace(word, other)
    return pick(draw, phrases.ECHO).format(text=text, source=source)
