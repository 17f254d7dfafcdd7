"""Wires of known truth: stories true and false, told by senders of every kind, repeated and denied.

Frozen: `FROZEN` is the hash of the law below, the words and all of one short wire, fixed before any
weight was fitted. A wire is a function of its seed and of how truthful its senders are. Senders differ from
wire to wire; so no weight can learn a name, only what a record, a crowd, a denial or a figure is worth.
How often a sender of each kind tells the truth, and what planted orders, disguises and old news are worth,
is assumed here; nobody has counted it. What follows from the assumptions (how much a record knows by
when, how far repeats are independent, who denies what) is not.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final, TypeVar

import msgspec
import numpy as np

from finllm.domain.evidence import Document
from finllm.domain.identity import canonical, content_id
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from finllm.market.synthetic import phrases
from finllm.market.synthetic.settings import START
from finllm.narrative.attacks import FRAMES, LOOK_ALIKES, ORDERS, disguised, edited
from finllm.narrative.trust.reputation import chance, log_odds
from finllm_lab.credibility import sayings

FROZEN: Final = "555e1538f128984ab2a470c1644c32e9c46dc20b2fe8850b659669ab16483def"
"""What `frozen_hash` must return: the same wires as when it was first set, before anything was fitted."""

KINDS: Final = (
    "news", "rumour", "liar", "official", "repeat", "denial", "campaign", "crowd", "figure", "stale",
    "orders", "disguised",
)  # fmt: skip
"""What a document is: `crowd` is what many small accounts say that is so, `figure` misstates what is so."""

T = TypeVar("T")
Range = tuple[float, float]


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """Every number that a wire depends on."""

    days: float = 20.0
    stories_per_day: float = 50.0
    again_days: float = 6.0
    """A firm is not told of in one kind of event twice within these, unless an old story is posted again."""
    chatter: float = 0.25
    """Documents that claim nothing, per story."""
    press: Range = (0.86, 0.98)
    loose: Range = (0.3, 0.7)
    honest: Range = (0.75, 0.96)
    middling: Range = (0.35, 0.7)
    liar: Range = (0.03, 0.2)
    """Chance that what a sender says of its own is so, drawn for each."""
    official: float = 0.985
    n_press: int = 4
    n_loose: int = 4
    n_accounts: int = 34
    n_parrots: int = 6
    kinds_of_account: Range = (0.45, 0.8)
    """Honest below the first, middling below the second, else a liar."""
    parrot: Range = (0.3, 0.6)
    by_parrot: float = 0.5
    """Chance that a copy is one of the few accounts' that write hardly anything else."""
    newcomer: float = 0.08
    """Chance that a story's first teller has never written before."""
    newcomer_true: float = 0.45
    by_press: float = 0.35
    by_loose: float = 0.15
    """Chance of a story's first teller; else an account."""
    followers: Range = (1.0, 5.0)
    """Of an account, in powers of ten; an honest one has `known` powers more."""
    known: float = 0.4
    as_rumour: float = 0.5
    """Chance that a loose outlet or an account words it as a rumour."""
    reports_true: float = 1.3
    reports_false: float = 0.18
    """Mean number of others that tell a story of their own knowledge, or believe they do."""
    report_min: Range = (1.0, 180.0)
    by_press_again: float = 0.5
    misstated: float = 0.1
    """Chance that such a report has the figure wrong; of the press, a quarter of it."""
    copies: float = 1.5
    """Mean number of copies of a first telling."""
    reposted: float = 0.4
    denied: float = 0.45
    denied_though_true: float = 0.03
    """Chance that the firm denies a story."""
    doubted: tuple[float, float] = (0.15, 0.1)
    """Chance that somebody of the press, or an account, says so if it takes a story for false; how often it
    is right about that is how often it tells the truth."""
    confirmed: float = 0.3
    """Chance that the firm confirms a true story."""
    reply_h: Range = (0.1, 12.0)
    planted: float = 0.04
    """Share of stories that many accounts of no record post within an hour."""
    planted_true: float = 0.12
    crowd: tuple[int, int] = (5, 30)
    crowd_edited: float = 0.12
    stale: float = 0.03
    stale_true: float = 0.2
    """Share of stories that are an old one posted again, and how often it is so once more."""
    orders: float = 0.02
    orders_true: float = 0.15
    disguised: float = 0.02
    disguised_true: float = 0.15


LAW: Final = Law()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A document with its truth."""

    document: Document
    kind: str
    """One of `KINDS`; empty for chatter."""
    story: int
    is_true: bool
    """All that it claims is so."""
    is_denial: bool = False


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever writes."""

    source: str
    author: str
    followers: int
    p_true: float
    group: str
    """`press`, `loose`, `honest`, `middling`, `liar`, `parrot`, `newcomer` or `official`."""


class _Story(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    ts: int
    firm: int
    words: dict[str, str]
    ways: tuple[str, ...]
    is_true: bool

    def way(self, i: int, n: str = "") -> str:
        """Return one way of telling it, with another figure if one is given."""
        words = self.words | ({"n": n} if n else {})
        text = self.ways[i % len(self.ways)].format(**words)
        return text[0].upper() + text[1:]


class Wire:
    """One wire, its documents in order of receipt.

    Args:
        seed: Any; the same seed gives the same wire.
        days: How long it is.
        shift: Log-odds by which every sender is more truthful than the law has it.
    """

    def __init__(self, seed: int, *, days: float = LAW.days, shift: float = 0.0) -> None:
        self.seed = seed
        self._rng = np.random.default_rng([seed, 20_13])
        self._days = days
        self._shift = shift
        self._senders = self._people()
        self._told: list[_Story] = []
        self._last: dict[tuple[int, int], int] = {}
        """By firm and event, when a story of it was told."""
        self._pool: list[str] = []
        times = np.sort(self._rng.uniform(0.0, self._days, self._n()))
        found = [t for number, at in enumerate(times.tolist()) for t in self._story(number, at)]
        found += self._chatter()
        self.told = sorted(found, key=lambda t: (t.document.ts_recv, t.document.document_id))

    @property
    def instruments(self) -> tuple[str, ...]:
        """Return the keys of the listed firms."""
        return tuple(f"us-equity:{ticker}" for ticker, _ in sayings.LISTED)

    def _n(self) -> int:
        return round(self._days * LAW.stories_per_day)

    # --- chance ---------------------------------------------------------------------------------

    def _is(self, p: float) -> bool:
        return bool(self._rng.random() < p)

    def _between(self, span: Range) -> float:
        return float(self._rng.uniform(*span))

    def _pick(self, choices: tuple[T, ...] | list[T]) -> T:
        return choices[int(self._rng.integers(len(choices)))]

    def _so(self, p_true: float) -> bool:
        return self._is(chance(log_odds(p_true) + self._shift))

    # --- senders --------------------------------------------------------------------------------

    def _people(self) -> dict[str, list[Sender]]:
        law = LAW
        groups = ("press", "loose", "account", "parrot")
        found: dict[str, list[Sender]] = {group: [] for group in groups}
        for i in range(law.n_press):
            found["press"].append(
                self._sender("press", f"press-{i}", "staff", law.press, (5.0, 6.5))
            )
        for i in range(law.n_loose):
            found["loose"].append(self._sender("loose", f"blog-{i}", "", law.loose, (3.0, 5.0)))
        for i in range(law.n_accounts):
            drawn = self._rng.random()
            honest, middling = law.kinds_of_account
            group = "honest" if drawn < honest else "middling" if drawn < middling else "liar"
            low, high = law.followers
            more = law.known if group == "honest" else 0.0
            reach = (low + more, high + more)
            truth = getattr(law, group)
            found["account"].append(self._sender(group, "social", f"acct{i}", truth, reach))
        for i in range(law.n_parrots):
            found["parrot"].append(
                self._sender("parrot", "social", f"parrot{i}", law.parrot, law.followers)
            )
        # Now and then a parrot has something of its own to say.
        found["account"] += found["parrot"]
        return found

    def _sender(self, group: str, source: str, author: str, truth: Range, reach: Range) -> Sender:
        return Sender(
            source=source,
            author=author,
            followers=int(10.0 ** self._between(reach)) if author else 0,
            p_true=self._between(truth),
            group=group,
        )

    def _newcomer(self) -> Sender:
        return Sender(
            source="social",
            author=f"new{int(self._rng.integers(10**9))}",
            followers=int(10.0 ** self._between((0.0, 2.7))),
            p_true=LAW.newcomer_true,
            group="newcomer",
        )

    def _first_teller(self) -> Sender:
        if self._is(LAW.newcomer):
            return self._newcomer()
        drawn = self._rng.random()
        if drawn < LAW.by_press:
            return self._pick(self._senders["press"])
        group = "loose" if drawn < LAW.by_press + LAW.by_loose else "account"
        return self._pick(self._senders[group])

    def _another(self, first: Sender, *, press: float) -> Sender:
        while True:
            found = self._pick(self._senders["press" if self._is(press) else "account"])
            if found != first:
                return found

    # --- stories --------------------------------------------------------------------------------

    def _story(self, number: int, day: float) -> Iterator[Told]:
        law, drawn, at = LAW, self._rng.random(), START + int(day * NS_PER_DAY)
        edges = np.cumsum([law.planted, law.stale, law.orders, law.disguised])
        if drawn < edges[0]:
            yield from self._planted(number, at)
        elif drawn < edges[1] and any(s.ts < at - 4 * NS_PER_DAY for s in self._told):
            yield from self._old(number, at)
        elif drawn < edges[3]:
            kind = "orders" if drawn < edges[2] else "disguised"
            yield from self._tricked(number, at, kind)
        else:
            yield from self._usual(number, at)

    def _made(self, number: int, at: int, *, is_true: bool) -> _Story:
        firm, event = self._event(at)
        other = "".join(self._pick(sayings.SYLLABLES) for _ in range(3)).capitalize()
        words = {
            "firm": sayings.LISTED[firm][1],
            "other": f"{other} {self._pick(sayings.ENDINGS)}",
            "n": str(int(self._rng.integers(100, 990))),
        }
        ways = list(sayings.EVENTS[event])
        self._rng.shuffle(ways)
        story = _Story(
            number=number, ts=at, firm=firm, words=words, ways=tuple(ways), is_true=is_true
        )
        self._told.append(story)
        self._pool += story.way(0).split()
        return story

    def _event(self, at: int) -> tuple[int, int]:
        while True:
            found = (
                int(self._rng.integers(len(sayings.LISTED))),
                int(self._rng.integers(len(sayings.EVENTS))),
            )
            if at - self._last.get(found, 0) > LAW.again_days * NS_PER_DAY:
                self._last[found] = at
                return found

    def _usual(self, number: int, at: int) -> Iterator[Told]:
        sender = self._first_teller()
        story = self._made(number, at, is_true=self._so(sender.p_true))
        is_rumour = sender.group != "press" and self._is(LAW.as_rumour)
        kind = "liar" if sender.group == "liar" else "rumour" if is_rumour else "news"
        text = story.way(0)
        if is_rumour:
            text = self._pick(phrases.RUMOUR).format(claim=text)
        first = self._write(story, at, text, sender, kind, is_true=story.is_true)
        yield first
        yield from self._copies(story, first)
        yield from self._reports(story, sender)
        yield from self._replies(story)

    def _copies(self, story: _Story, first: Told) -> Iterator[Told]:
        ts = first.document.ts_recv
        for _ in range(int(self._rng.poisson(LAW.copies))):
            ts += int(self._between((0.1, 40.0)) * NS_PER_MIN)
            framed = self._pick(FRAMES).format(
                text=first.document.text, source=first.document.source
            )
            group = "parrot" if self._is(LAW.by_parrot) else "account"
            sender = self._pick(self._senders[group])
            yield self._write(
                story,
                ts,
                framed,
                sender,
                "repeat",
                is_true=first.is_true,
                is_repost=self._is(LAW.reposted),
            )

    def _reports(self, story: _Story, first: Sender) -> Iterator[Told]:
        """Yield what others tell of their own knowledge, or of what they take for it."""
        n = int(self._rng.poisson(LAW.reports_true if story.is_true else LAW.reports_false))
        ts = story.ts
        for i in range(n):
            ts += int(self._between(LAW.report_min) * NS_PER_MIN)
            press = LAW.by_press_again if story.is_true else 0.1
            sender = self._another(first, press=press)
            wrong = self._is(LAW.misstated * (0.25 if sender.group == "press" else 1.0))
            n_wrong = str(int(int(story.words["n"]) * self._between((1.2, 2.5)))) if wrong else ""
            kind = "figure" if wrong and story.is_true else "repeat"
            text = story.way(i + 1, n_wrong)
            yield self._write(story, ts, text, sender, kind, is_true=story.is_true and not wrong)

    def _replies(self, story: _Story) -> Iterator[Told]:
        for sender in self._deniers(story):
            text = self._pick(phrases.DENIAL).format(claim=story.way(0), place=story.words["firm"])
            yield self._write(
                story, self._later(story), text, sender, "denial",
                is_true=not story.is_true, is_denial=True,
            )  # fmt: skip
        # Now and then a firm confirms what is not so.
        if self._is(LAW.confirmed if story.is_true else 1.0 - LAW.official):
            claim = story.way(int(self._rng.integers(1, 4)))
            text = self._pick(sayings.OFFICIAL).format(claim=claim)
            sender = self._official(story)
            yield self._write(
                story, self._later(story), text, sender, "official", is_true=story.is_true
            )

    def _deniers(self, story: _Story) -> Iterator[Sender]:
        if self._is(LAW.denied_though_true if story.is_true else LAW.denied):
            yield self._official(story)
        for p, group in zip(LAW.doubted, ("press", "account"), strict=True):
            sender = self._pick(self._senders[group])
            if self._is(p) and self._so(sender.p_true) != story.is_true:
                yield sender

    def _later(self, story: _Story) -> int:
        return story.ts + int(self._between(LAW.reply_h) * NS_PER_HOUR)

    def _official(self, story: _Story) -> Sender:
        firm = f"{sayings.LISTED[story.firm][0].lower()}-filings"
        return Sender(source=firm, author="", followers=0, p_true=LAW.official, group="official")

    def _planted(self, number: int, at: int) -> Iterator[Told]:
        """Yield what a crowd of accounts of no record says: nearly always planted, seldom the truth."""
        story = self._made(number, at, is_true=self._so(LAW.planted_true))
        kind = "crowd" if story.is_true else "campaign"
        for _ in range(int(self._rng.integers(*LAW.crowd))):
            ts = at + int(self._between((0.0, 60.0)) * NS_PER_MIN)
            text = edited(story.way(0), LAW.crowd_edited, self._rng, self._pool)
            yield self._write(story, ts, text, self._newcomer(), kind, is_true=story.is_true)
        yield from self._replies(story)

    def _old(self, number: int, at: int) -> Iterator[Told]:
        old = self._pick([s for s in self._told if s.ts < at - 4 * NS_PER_DAY])
        is_true = self._so(LAW.stale_true)
        story = msgspec.structs.replace(old, number=number, ts=at, is_true=is_true)
        sender = self._pick(self._senders["account"])
        yield self._write(story, at, story.way(0), sender, "stale", is_true=is_true)
        yield from self._replies(story)

    def _tricked(self, number: int, at: int, kind: str) -> Iterator[Told]:
        is_true = self._so(LAW.orders_true if kind == "orders" else LAW.disguised_true)
        story = self._made(number, at, is_true=is_true)
        sender = self._newcomer() if self._is(0.5) else self._pick(self._senders["account"])
        text = story.way(0)
        if kind == "orders":
            text = f"{text}. {self._pick(ORDERS)}"
        else:
            text = disguised(text, 0.33, self._rng, LOOK_ALIKES)
        yield self._write(story, at, text, sender, kind, is_true=is_true)
        yield from self._replies(story)

    def _chatter(self) -> Iterator[Told]:
        for _ in range(round(LAW.chatter * self._n())):
            at = START + int(self._rng.uniform(0.0, self._days) * NS_PER_DAY)
            story = _Story(
                number=-1, ts=at, firm=int(self._rng.integers(len(sayings.LISTED))), words={},
                ways=(), is_true=True,
            )  # fmt: skip
            name = sayings.LISTED[story.firm][1]
            n = str(5 * int(self._rng.integers(1, 20)))
            text = self._pick(phrases.NOISE).format(name=name, place=name, n=n)
            yield self._write(
                story, at, text, self._another(self._newcomer(), press=0.3), "", is_true=True
            )

    def _write(
        self, story: _Story, ts: int, text: str, sender: Sender, kind: str, *,
        is_true: bool, is_denial: bool = False, is_repost: bool = False,
    ) -> Told:  # fmt: skip
        ts = ts // NS_PER_S * NS_PER_S
        made = Document(
            document_id=content_id(sender.source, sender.author, ts, text),
            source=sender.source,
            ts_published=ts,
            ts_recv=ts + int(self._rng.integers(50, 2_000)) * 1_000_000,
            lang="en",
            text=text,
            symbols=(sayings.LISTED[story.firm][0],),
            author=sender.author,
            followers=sender.followers,
            is_repost=is_repost,
            is_verified=sender.group == "official",
        )
        return Told(
            document=made, kind=kind, story=story.number, is_true=is_true, is_denial=is_denial
        )


def frozen_hash() -> str:
    """Return the hash that must be `FROZEN`: the law, the words, and all of a wire of half a day."""
    wire = Wire(1, days=0.5)
    words = (sayings.EVENTS, sayings.OFFICIAL, sayings.LISTED, sayings.SYLLABLES, sayings.ENDINGS)
    seen = sha256(canonical((msgspec.to_builtins(LAW), words)))
    seen.update(canonical(wire.told))
    return seen.hexdigest()
