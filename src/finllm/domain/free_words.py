"""Free words: whether every figure, quote and address in them is one that the records bear out.

A number counts only where it is said what it is of: a field by its name, with two digits at least and no
unit but the field's own. So a figure that merely equals one of many on record proves nothing.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from finllm.domain.evidence import Evidence, EvidenceKind

_NUMERAL: Final = r"[-+\u2212]?[0-9]+(?:\.[0-9]+)?"
_LEADS: Final = r"(?:\s+(?:is|was|of|at)|\s*[:=])?\s*"
"""Between a field's name and its figure."""
_ENDS: Final = (
    r"(?=\s*(?:$|[.,;:!?)](?!\d)|(?:and|or|but|while|with|at|in|on|by|for|as|so|against|from|to|than"
    r"|which|is|are|was|were|leads?|lags?)\b))"
)
"""What may follow a figure: anything else could be a unit."""
_QUOTED: Final = re.compile(r'"([^"]*)"|\u201c([^\u201d]*)\u201d')
_QUOTES: Final = frozenset(
    '"\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f`\u00b4'
)
_SINGLE: Final = re.compile(r"(?<!\w)['\u2018\u2019\u201a\u201b]|['\u2018\u2019](?=\w{3,})")
"""A single quotation mark, where no apostrophe can be: before a word, or within one before many letters."""
_ADDRESS: Final = re.compile(r"https?:|www\.|@|\w\.[^\W\d_]{2,}", re.IGNORECASE)
_SPELT: Final = re.compile(
    r"\b(?:zero|nil|naught|nought|ones?|once|twice|thrice|single|couple|scores?|decades?|centur(?:y|ies)|pct"
    r"|per\s+(?:cent|mille)|half|halve[sd]?|halving|firsts?|seconds?|thirds?|quarters?|(?:four|fif|six|seven"
    r"|eigh|nin|ten|eleven|twelf)ths?|(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)(?:s|fold)?"
    r"|(?:thir|four|fif|six|seven|eigh|nine)teen\w*|(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ie)\w*"
    r"|(?:dozen|hundred|thousand|million|billion|trillion|percent|doubl|tripl|trebl|quadrupl)\w*)\b",
    re.IGNORECASE,
)
"""English, as a model is told to write."""
_ROMAN: Final = re.compile(r"\b(?=[MDCLXVI]{2})M*(?:CM|CD|D?C*)(?:XC|XL|L?X*)(?:IX|IV|V?I*)\b")


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that free words may show, by a name."""

    name: str
    value: float
    unit: str = ""
    """Its own; 1 is a ratio's."""


def stated_by(evidence: Evidence) -> Iterator[Stated]:
    """Yield the figures of one piece of evidence, under the names that a reasoner knows them by."""
    if evidence.kind is not EvidenceKind.CLAIM:
        for name in ("value", evidence.feature):
            yield Stated(name=name, value=evidence.value, unit=evidence.unit)
    if evidence.kind is EvidenceKind.OBSERVATION:
        for name in ("z_score", "z-score", "z"):
            yield Stated(name=name, value=evidence.z_score)
        return
    yield Stated(name="credibility", value=evidence.credibility)
    if evidence.kind is EvidenceKind.CLAIM:
        for name in ("stance", "novelty", "relevance"):
            yield Stated(name=name, value=getattr(evidence, name))


def unproven(
    text: str, stated: Sequence[Stated] = (), quotes: Sequence[str] = (), names: Sequence[str] = ()
) -> list[str]:
    """Return what free words show that nothing bears out, in words; empty means nothing. Pure.

    Args:
        text: The words.
        stated: What they may show as a figure.
        quotes: What they may quote from, between double quotation marks.
        names: What is no word: it may hold digits, or be spelt like a number or an address.
    """
    said = _QUOTED.sub(" ", text)
    bare = _plain(said)
    left = _without_names(_without_figures(bare, stated), names)
    marked = _marked(_without_names(bare, names))
    return [*_quoted(text, quotes), *marked, *_odd_digits(said), *_numbered(left)]


def _quoted(text: str, quotes: Sequence[str]) -> Iterator[str]:
    for pair in _QUOTED.findall(text):
        passage = "".join(pair)
        if not passage.strip() or not any(passage in quote for quote in quotes):
            yield f"{passage!r} is no span of a quote that is cited"


def _marked(bare: str) -> Iterator[str]:
    """Yield what stands outside quotes that no figure is: other quotation marks, addresses, other letters."""
    if _QUOTES & set(bare) or _SINGLE.search(bare):
        yield "a quotation mark stands where no quote can be checked"
    if address := _ADDRESS.search(bare):
        yield f"{address.group()!r} may be an address"
    letters = (c for c in bare if c.isalpha() and not c.isascii())
    if not all(unicodedata.name(c, "").startswith("LATIN") for c in letters):
        yield "letters are not Latin, so that nothing can be checked of them"


def _odd_digits(said: str) -> Iterator[str]:
    if any(c.isnumeric() and not c.isascii() for c in said):
        yield "a number stands in digits that cannot be checked"


def _numbered(left: str) -> Iterator[str]:
    """Yield the numbers in what is left without proven figures and names."""
    if number := re.search(r"[-+\u2212]?[0-9][\w.,]*", left):
        yield f"{number.group().rstrip('.,')} is no figure of what it is said of"
    if word := _SPELT.search(left) or _ROMAN.search(left):
        yield f"{word.group()!r} is a number in words"


def _plain(text: str) -> str:
    """Return a text in plain letters and digits, marks left out."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _without_names(text: str, names: Sequence[str]) -> str:
    for name in sorted(filter(None, map(_plain, names)), key=len, reverse=True):
        if name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    return text


def _without_figures(text: str, stated: Sequence[Stated]) -> str:
    """Return a text less each figure that is what it is said to be, with its name."""
    if not any(map(str.isdigit, text)):
        return text
    for name, unit in {(one.name, one.unit): None for one in stated if one.name}:
        values = [one.value for one in stated if (one.name, one.unit) == (name, unit)]
        own = "" if unit in {"", "1"} else rf"(?:\s*{re.escape(_plain(unit))})?"
        said = rf"(?<!\w){re.escape(name)}{_LEADS}({_NUMERAL}){own}{_ENDS}"

        def left(match: re.Match[str], values: Sequence[float] = values) -> str:
            return " " if any(_shows(match.group(1), value) for value in values) else match.group()

        text = re.sub(said, left, text, flags=re.IGNORECASE)
    return text


def _shows(numeral: str, value: float) -> bool:
    """Return whether a numeral of two digits at least is a value, rounded as it is shown."""
    written = numeral.replace("\u2212", "-")
    digits = written.lstrip("+-").lstrip("0").replace(".", "")
    places = len(written.partition(".")[2])
    half_step = 0.5 * 10.0**-places
    return len(digits) >= 2 and abs(float(written) - value) <= half_step * (1.0 + 1e-9)
