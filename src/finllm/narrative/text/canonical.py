"""Canonical form: what a text says once its disguises are taken off. Knows nothing of meaning.

Everything downstream (copies, links, stance, quotes) reads the canonical form; what was changed is
counted, because honest text needs few changes. Every pass is linear in the text's length.
"""

import html
import re
import unicodedata
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.narrative.text.boilerplate import without_boilerplate
from finllm.narrative.text.confusables import unmask

Features = npt.NDArray[np.float32]
MAX_PASSES: Final = 6
"""Nesting of disguises (an escape inside a wide letter inside an escape) that is followed."""
MOST_READ: Final = 200_000
"""Characters of a raw text that are read."""
MOST_GROWTH: Final = 2
"""A text that compatibility forms make longer than this many times itself is cut there."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """How many characters or pieces each step changed."""

    nfkc: int = 0
    """Characters with another compatibility form, such as wide or mathematical letters."""
    invisible: int = 0
    """Zero-width and other format characters, lone surrogates."""
    bidi: int = 0
    """Characters that turn the direction of writing."""
    control: int = 0
    confusable: int = 0
    """Letters of another script that pass for Latin ones."""
    marks: int = 0
    """Combining marks stacked on Latin letters."""
    html: int = 0
    """Tags, comments, hidden blocks and entities."""
    urls: int = 0
    unread: int = 0
    """Characters beyond what is read of a long text."""
    boilerplate: int = 0
    """Sentences and paragraphs that say nothing of their own: disclaimers, signatures, calls to click."""

    @property
    def disguises(self) -> int:
        """Return the changes that honest text has no use for."""
        return self.invisible + self.bidi + self.control + self.confusable + self.marks

    def features(self, n_chars: int) -> Features:
        """Return the counts as numbers between 0 and 1, in the order of the fields.

        Args:
            n_chars: Length of the canonical text.

        Returns:
            float32 [10]: r / (1 + r), where r is the count for each hundred characters of the text.
        """
        each = 100.0 / max(1, n_chars)
        rates = np.array(msgspec.structs.astuple(self), dtype=np.float64) * each
        return (rates / (1.0 + rates)).astype(np.float32)


class Canonical(msgspec.Struct, frozen=True, kw_only=True):
    """A text in canonical form."""

    text: str
    changes: Changes


_PUNCTUATION: Final = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-",
     "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2044": "/"}
)  # fmt: skip

_TAGS = (
    "a|abbr|article|b|blockquote|body|br|button|center|code|div|em|figure|font|footer|form|h[1-6]|"
    "head|header|hr|html|i|iframe|img|input|li|link|meta|nav|noscript|object|ol|p|pre|s|script|"
    "section|small|span|strong|style|sub|sup|svg|table|tbody|td|template|th|thead|title|tr|u|ul|video"
)
_TAG = re.compile(rf"</?(?:{_TAGS})\b[^<>]*>", re.IGNORECASE)
_RESIDUE = re.compile(
    r"\b(?:span|div|p|a)\s+(?:class|href|style|rel|target)=\"[^\"<>]{0,300}\"+\s*>", re.IGNORECASE
)
_BLOCK = re.compile(r"<!--|<([a-z][a-z0-9]{0,20})\b([^<>]{0,4000})>", re.IGNORECASE)
_SILENT: Final = frozenset({"script", "style", "template", "noscript", "head"})
_HIDING = re.compile(
    r"display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden|font-size\s{0,9}:\s{0,9}0",
    re.IGNORECASE,
)
_AMPS = re.compile(r"&(?:amp;|#38;|#x26;){2,}", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_URL = re.compile(
    r"(?:https?|ftp)://(?:www\.[ ]?)?[^\s<>\"]*|\bwww\.[^\s<>\"]+|\bpic\.twitter\.com/\w+",
    re.IGNORECASE,
)
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd]")
_JOINED = re.compile("[\ufe00-\ufe0f]|(?<=[\u2600-\u27bf\U0001f000-\U0001faff])\u200d")
"""Variation selectors and joiners inside emoji: honest, so dropped without being counted."""
_MARKS = re.compile("(?<=[A-Za-z])[\u0300-\u036f\u0488\u0489\u1ab0-\u1aff\u20d0-\u20f0]+")
_PARAGRAPH = re.compile(r" ?\n ?(?:\n ?)+")
_SPACES = re.compile(r"[^\S\n]+")


class _Count:
    """Changes while they are being counted."""

    def __init__(self) -> None:
        self.of = dict.fromkeys(Changes.__struct_fields__, 0)

    def sub(self, pattern: re.Pattern[str], to: str, text: str, name: str) -> str:
        text, n = pattern.subn(to, text)
        self.of[name] += n
        return text


def canonicalise(raw: str) -> Canonical:
    """Return a text's canonical form and what was changed.

    Steps, until nothing changes: NFKC; invisible, direction and control characters; entities; tags
    and hidden blocks; look-alike letters. Then URLs and white space: a blank line stays
    one, all other white space becomes one blank. Then boiler-plate. Emoji stay.
    """
    count = _Count()
    count.of["unread"] = max(0, len(raw) - MOST_READ)
    text = raw[:MOST_READ]
    for _ in range(MAX_PASSES):
        before = text
        text = _unmask(text, count)
        text = _unhtml(text, count)
        if text == before:
            break
    else:
        text = text.replace("&", " ").replace("<", " ")
    text, count.of["boilerplate"] = without_boilerplate(_tidy(count.sub(_URL, " ", text, "urls")))
    return Canonical(text=text, changes=Changes(**count.of))


def _unmask(text: str, count: _Count) -> str:
    text = count.sub(_CONTROL, " ", text, "control")
    if text.isascii():
        return text
    text = _compatible(text, count)
    text = count.sub(_BIDI, "", text, "bidi")
    text = _visible(text, count)
    text = count.sub(_MARKS, "", text, "marks")
    text, n = unmask(text.translate(_PUNCTUATION))
    count.of["confusable"] += n
    return text


def _compatible(text: str, count: _Count) -> str:
    if unicodedata.is_normalized("NFKC", text):
        return text
    odd = [c for c in set(text) if not c.isascii() and not unicodedata.is_normalized("NFKC", c)]
    count.of["nfkc"] += sum(map(text.count, odd))
    return unicodedata.normalize("NFKC", text)[: MOST_GROWTH * len(text) + 100]


def _visible(text: str, count: _Count) -> str:
    """Drop format characters and lone surrogates, wherever Unicode has them."""
    text = _JOINED.sub("", text)
    odd = {c for c in set(text) if unicodedata.category(c) in ("Cf", "Cs", "Co")}
    odd |= {c for c in "\u034f\u115f\u1160\u3164" if c in text}
    if not odd:
        return text
    count.of["invisible"] += sum(map(text.count, odd))
    return text.translate(dict.fromkeys(map(ord, odd)))


def _unhtml(text: str, count: _Count) -> str:
    if "&" in text:
        text = _AMPS.sub("&amp;", text)
        n = len(_ENTITY.findall(text))
        if n:
            count.of["html"] += n
            text = html.unescape(text)
    if "<" in text:
        text = _drop_blocks(text, count)
        text = count.sub(_TAG, " ", text, "html")
    if '">' in text:
        text = count.sub(_RESIDUE, " ", text, "html")
    return text


def _drop_blocks(text: str, count: _Count) -> str:
    """Drop comments, scripts and hidden elements with their content, in one pass."""
    kept, at, look = [], 0, 0
    unclosed: set[str] = set()
    while match := _BLOCK.search(text, look):
        look = match.end()
        name = (match.group(1) or "--").lower()
        if name in unclosed or not _is_hidden(name, match.group(2) or ""):
            continue
        end = _closing(name).search(text, look)
        if end is None:
            unclosed.add(name)  # do not look for it again: that would be quadratic
            continue
        kept.append(text[at : match.start()])
        at = look = end.end()
        count.of["html"] += 1
    kept.append(text[at:])
    return " ".join(kept)


def _is_hidden(name: str, attributes: str) -> bool:
    return name in _SILENT or name == "--" or _HIDING.search(attributes) is not None


def _closing(name: str) -> re.Pattern[str]:
    return re.compile("-->" if name == "--" else rf"</{re.escape(name)}\s*>", re.IGNORECASE)


def _tidy(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2029", "\n\n")
    # Blanks first: a pattern that could start at each blank of a run would be quadratic.
    text = _PARAGRAPH.sub("\x00", _SPACES.sub(" ", text).strip()).replace("\n", " ")
    return _SPACES.sub(" ", text).replace("\x00", "\n\n")


def canonical_text(raw: str) -> str:
    """Return a text's canonical form alone."""
    return canonicalise(raw).text
