"""Facts: the figures that a text states, typed, and what is known of them as of now.

By rule: a metric's name, a figure with its unit, and a period where one is named. Two statements of one
metric, unit and period about one instrument contradict each other when they differ by more than rounding.
A rule that finds nothing says nothing. A model may add facts of its own through the same record.
"""

import re
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that a text states."""

    metric: str
    """`eps`, `revenue`, `profit`, `dividend`, `rate`, `target`, `deal`, `guidance`, `layoffs` or `stolen`."""
    value: float
    unit: str
    """`usd` (whole units of whatever currency is written), `percent`, `bps` or `count`."""
    period: str = ""
    """`q1` to `q4`, `fy`, with the year where it is named; empty if none is."""
    rounding: float = 0.0
    """Half of the last place that is written."""


_SCALE: Final = {
    "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "mln": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9,
    "billion": 1e9, "t": 1e12, "tn": 1e12, "trillion": 1e12, "cr": 1e7, "crore": 1e7, "lakh": 1e5,
}  # fmt: skip
_FIGURE = (
    r"(?P<sign>[-(]?)(?P<cur>(?:us)?\$|\u20ac|\u00a3|\u20b9|rs\.? ?|usd ?|eur ?)?"
    r"(?P<value>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"[ -]?(?P<scale>k|thousand|mn|mln|million|m|bn|billion|b|tn|trillion|t|crore|cr|lakh)?\b"
    r"[ ]?(?P<unit>%|percent\b|per cent\b|pc\b|basis points?\b|bps?\b|cents?\b)?"
)
_GAP = r"(?:(?!\d)[^.;\n]){0,40}?"
_MONEY: Final = frozenset({"usd"})
_METRICS: Final[tuple[tuple[str, str, frozenset[str]], ...]] = (
    ("eps", r"eps|earnings per share|profit per share|earns|earned|adj(?:usted)?\.? eps", _MONEY),
    ("guidance", r"guidance|outlook|sees (?:q[1-4]|fy)\S*(?: (?:revenue|sales|eps))?|"
                 r"forecasts? (?:revenue|sales|q[1-4])|expects (?:revenue|sales)", _MONEY | {"percent"}),
    ("revenue", r"revenues?|sales|turnover|top line", _MONEY),
    ("profit", r"net (?:profit|income|loss)|profit|net up|operating (?:profit|income)|ebitda", _MONEY),
    ("dividend", r"dividends?", _MONEY),
    ("target", r"(?:price )?target(?: price)?|pt|tp", _MONEY),
    ("rate", r"(?:interest|key|policy|benchmark|federal funds|repo) rates?|rates? (?:hike|cut)|"
             r"(?:raises|cuts|hikes|lowers|lifts) rates?", frozenset({"percent", "bps"})),
    ("deal", r"to (?:buy|acquire)|acquires?|acquired|buys|takeover|buyout|merger|deal|bid|offer", _MONEY),
    ("layoffs", r"lay ?offs?|lays? off|job cuts?|cuts? jobs|to cut", frozenset({"count"})),
    ("stolen", r"hack(?:ed|ers?)?|stolen|drain(?:ed)?|exploit(?:ed)?|stole|taken", _MONEY),
)  # fmt: skip
_KEYS: Final = {
    "eps": ("eps", "earn", "per share"),
    "guidance": ("guidance", "outlook", "sees ", "forecast", "expects "),
    "revenue": ("revenue", "sales", "turnover", "top line"),
    "profit": ("profit", "net ", "operating ", "ebitda"),
    "dividend": ("dividend",),
    "target": ("target", "pt", "tp"),
    "rate": ("rate",),
    "deal": ("buy", "acquire", "takeover", "merger", "deal", "bid", "offer"),
    "layoffs": ("lay", "job", "to cut"),
    "stolen": ("hack", "stole", "drain", "exploit", "taken"),
}
"""What a metric's words hold in lower case, one of these: looking for them first is far quicker."""
_RULES = tuple(
    (name, re.compile(rf"\b(?:{words})\b{_GAP}{_FIGURE}", re.IGNORECASE), units)
    for name, words, units in _METRICS
)
_BEFORE = tuple(
    (name, re.compile(rf"{_FIGURE}(?:[ ]?[\w'-]+){{0,3}}? (?:{words})\b", re.IGNORECASE), units)
    for name, words, units in _METRICS
    if name in {"eps", "revenue", "profit", "dividend", "deal", "target", "rate"}
)
_PERIOD = re.compile(
    r"\b(?P<q>(?:q[1-4])|(?:first|second|third|fourth)[- ]quarter)(?:\W{0,2}(?:fy)?(?P<qy>(?:20)?\d\d)\b)?"
    r"|\b(?:fy|full[- ]year|fiscal(?: year)?)\W{0,2}(?P<fy>(?:20)?\d\d)?\b",
    re.IGNORECASE,
)
_QUARTERS: Final = {"first": "q1", "second": "q2", "third": "q3", "fourth": "q4"}
_ANY_FIGURE = re.compile(r"\d")
_READ: Final = 2_000
_MOST: Final = 8


def facts_of(text: str) -> tuple[Fact, ...]:
    """Return the facts that a canonical text states near its beginning, one per metric at most."""
    head = text[:_READ]
    if _ANY_FIGURE.search(head) is None:
        return ()
    named = _named(head)
    if not named:
        return ()
    period = _period(head)
    found: dict[str, Fact] = {}
    for rules in (_RULES, _BEFORE):
        for name, rule, units in rules:
            if name in found or name not in named:
                continue
            fact = next(_stated(name, rule, units, head, period), None)
            if fact is not None:
                found[name] = fact
    return tuple(found[name] for name in sorted(found))[:_MOST]


def _named(head: str) -> set[str]:
    """Return the metrics that a text may name; all of them where letters have other cases than ASCII's."""
    if not head.isascii():
        return set(_KEYS)
    lower = head.lower()
    return {name for name, keys in _KEYS.items() if any(key in lower for key in keys)}


def _stated(
    name: str, rule: re.Pattern[str], units: frozenset[str], text: str, period: str
) -> Iterator[Fact]:
    for match in rule.finditer(text):
        fact = _fact(name, match, period)
        if fact is not None and fact.unit in units:
            yield fact


def _fact(name: str, match: re.Match[str], period: str) -> Fact | None:
    digits = match["value"].replace(",", "")
    scale = _SCALE.get((match["scale"] or "").lower(), 1.0)
    unit = _unit(match, name)
    if not unit:
        return None
    if (match["unit"] or "").lower().startswith("cent"):
        scale = 0.01
    places = len(digits.partition(".")[2])
    sign = -1.0 if match["sign"] else 1.0
    return Fact(
        metric=name,
        value=sign * float(digits) * scale,
        unit=unit,
        period=period,
        rounding=0.5 * scale / 10**places,
    )


def _unit(match: re.Match[str], name: str) -> str:
    unit = (match["unit"] or "").lower()
    if unit.startswith(("%", "per", "pc")):
        return "percent"
    if unit.startswith(("b", "basis")):
        return "bps"
    if match["cur"] or unit.startswith("cent") or (match["scale"] and name != "layoffs"):
        return "usd"
    return "count" if name == "layoffs" else ""


def _period(text: str) -> str:
    found = _PERIOD.search(text)
    if found is None:
        return ""
    if found["q"]:
        q = found["q"].lower()
        quarter = q if q.startswith("q") else _QUARTERS[re.split(r"[- ]", q)[0]]
        return f"{quarter}{(found['qy'] or '')[-2:]}"
    return f"fy{(found['fy'] or '')[-2:]}"


_LASTS_NS: Final = {"rate": 2 * NS_PER_DAY, "target": NS_PER_HOUR, "stolen": 2 * NS_PER_DAY}
_USUALLY_NS: Final = 5 * NS_PER_DAY
"""How long a fact stands; the same metric is stated anew every quarter."""
ROUNDING: Final = 0.02
"""Share by which two statements of one figure may differ besides their written rounding."""


def agree(a: Fact, b: Fact) -> bool:
    """Return whether two values of one metric, unit and period are the same but for rounding."""
    apart = abs(a.value - b.value)
    return apart <= a.rounding + b.rounding + ROUNDING * max(abs(a.value), abs(b.value))


def are_contrary(some: tuple[Fact, ...], others: tuple[Fact, ...]) -> bool:
    """Return whether two texts state another figure for one metric, unit and period."""
    return any(_comparable(a, b) and not agree(a, b) for a in some for b in others)


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """A fact with who stated it when."""

    fact: Fact
    ts: int
    sender: str
    """A text that differs from another in its figure alone has that one's origin, so senders count here."""
    evidence_id: str
    trust: float
    """Of the claim, when it was made."""


class Facts:
    """What has been stated about one instrument, the newest last; asked only as of now.

    Args:
        size: Statements kept.
    """

    def __init__(self, size: int = 64) -> None:
        self._stated: deque[Stated] = deque(maxlen=size)

    def add(self, stated: Stated) -> None:
        """Keep one more statement; the oldest goes."""
        self._stated.append(stated)

    def about(self, fact: Fact, now: int, sender: str) -> tuple[list[Stated], list[Stated]]:
        """Return what other senders stated of the same metric: what agrees and what contradicts."""
        lasts = _LASTS_NS.get(fact.metric, _USUALLY_NS)
        same = [
            s
            for s in self._stated
            if s.sender != sender and now - s.ts <= lasts and _comparable(s.fact, fact)
        ]
        return [s for s in same if agree(s.fact, fact)], [
            s for s in same if not agree(s.fact, fact)
        ]


def _comparable(a: Fact, b: Fact) -> bool:
    return (a.metric, a.unit) == (b.metric, b.unit) and (
        a.period == b.period
        or not a.period
        or not b.period
        or a.period[:2] == b.period
        or b.period[:2] == a.period
    )
