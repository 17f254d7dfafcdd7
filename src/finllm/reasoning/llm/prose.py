"""A model's own words, less every sentence whose figures or quotes are not the cited evidence's."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from finllm.domain.evidence import Evidence

_NUMBER: Final = re.compile(r"[-+\u2212]?\d(?:[\d,]*\d)?(?:\.\d+)?(?:[eE][-+]?\d+)?")
"""As the audit reads numbers, so that what is left here passes there."""
_QUOTED: Final = re.compile(r'"[^"]*"|\u201c[^\u201d]*\u201d')
_QUOTES: Final = frozenset('"\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d')
_ADDRESS: Final = re.compile(r"(?:https?:|www\.|[\w.]+@[\w.]+)", re.IGNORECASE)
_SPELT: Final = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty"
    r"|sixty|seventy|eighty|ninety|hundred|thousand|million|billion|trillion|percent|half|double|triple"
    r"|twice)\w*",
    re.IGNORECASE,
)
_MOST_EXPONENT: Final = 30
_FIELDS: Final = ("value", "z_score", "stance", "novelty", "credibility", "relevance")


def checked(prose: str, cited: Sequence[Evidence]) -> tuple[str, tuple[str, ...]]:
    """Return a model's words on one line, and the sentences that were struck.

    A sentence is struck if it shows a number that is no field of the cited evidence as displayed, a
    number in words or in other digits, an address, or a quote that is no exact span of a cited one;
    so is one whose letters are mostly not Latin, which nothing here could check.

    Args:
        prose: As the model wrote it.
        cited: The evidence that it cites.
    """
    kept, struck = [], []
    for sentence in _sentences(prose):
        if _holds(sentence, cited):
            kept.append(sentence)
        else:
            struck.append(sentence)
    return " ".join(kept), tuple(struck)


def _sentences(prose: str) -> Iterator[str]:
    plain = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in prose)
    # Not within a number, and not where a sentence has no blank after it in Latin script.
    for part in re.split(r"(?<=[.!?;])\s+|(?<=[\u3002\uff01\uff1f])", " ".join(plain.split())):
        if part.strip():
            yield part.strip()


def _holds(sentence: str, cited: Sequence[Evidence]) -> bool:
    if _ADDRESS.search(sentence) or _SPELT.search(sentence):
        return False
    if any(c.isnumeric() and not c.isascii() for c in sentence) or not _is_latin(sentence):
        return False
    bare = _QUOTED.sub(" ", sentence)
    if _QUOTES & set(bare):
        return False
    quotes = [passage[1:-1] for passage in _QUOTED.findall(sentence)]
    if any(not quote.strip() or not _is_said(quote, cited) for quote in quotes):
        return False
    return all(_is_shown(numeral.group(), cited) for numeral in _NUMBER.finditer(sentence))


def _is_latin(sentence: str) -> bool:
    letters = [c for c in sentence if c.isalpha()]
    latin = sum(c.isascii() or unicodedata.name(c, "").startswith("LATIN") for c in letters)
    return 2 * latin >= len(letters)


def _is_said(quote: str, cited: Sequence[Evidence]) -> bool:
    return any(quote in evidence.quote for evidence in cited)


def _is_shown(numeral: str, cited: Sequence[Evidence]) -> bool:
    """Return whether a numeral is a field of the cited evidence, rounded as it is shown."""
    written = numeral.replace(",", "").replace("\u2212", "-").lower()
    mantissa, _, exponent = written.partition("e")
    if len(exponent) > 3 or abs(int(exponent or 0)) > _MOST_EXPONENT:
        return False
    half_step = 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    value = float(written)
    return any(
        abs(value - getattr(evidence, field)) <= half_step
        for evidence in cited
        for field in _FIELDS
    )
