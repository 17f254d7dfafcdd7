"""What linear heads read of a text: hashed words, words near a name, or pieces of any script."""

import re
import unicodedata
import zlib
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Span = tuple[int, int]
Buckets = npt.NDArray[np.int64]
"""Sorted, each once."""

MOST_TOKENS: Final = 1_024
"""Tokens read of a text; the rest of a long one does not count."""
WORD_BITS: Final = 16
PIECE_BITS: Final = 18
"""Binary logarithms of the numbers of buckets."""
NEAR: Final = 6
"""Words on either side of a name that are read with their side."""
_RUNS: Final = (1, 6)
_JAMO: Final = (2, 9)
_HANGUL: Final = re.compile(r"[\uac00-\ud7a3]")
MOST_CHARACTERS: Final = 6_000
"""Of a text read in pieces; the rest of a long one does not count."""
_TOKEN = re.compile(
    r"\$[A-Za-z][\w.]*|@\w+|[+-]?\d[\d.,]*|[^\W\d_]+(?:'[^\W\d_]+)*|[!?%]|[\u2600-\u27bf\U0001f300-\U0001faff]"
)
_MASK: Final = "<name>"
_SPACE: Final = re.compile(r"[\W_]+")
_DIGITS: Final = re.compile(r"\d+(?:[.,]\d+)*")


def word_buckets(text: str, span: Span | None = None) -> Buckets:
    """Return the buckets of a text's words, pairs and stems, and of what stands near a name.

    Args:
        text: Canonical text.
        span: Where the name stands, in characters; it is masked. None = the text as a whole.
    """
    if span is None:
        return _hashed(_general(tokens(text)), WORD_BITS)
    before, after = tokens(text[: span[0]]), tokens(text[span[1] :])
    found = _general([*before, _MASK, *after])
    left, right = before[-NEAR:], after[:NEAR]
    found.update(f"<{word}" for word in left)
    found.update(f">{word}" for word in right)
    found.update(f"<{a} {b}" for a, b in pairwise(left))
    found.update(f">{a} {b}" for a, b in pairwise(right))
    return _hashed(found, WORD_BITS)


def _general(words: list[str]) -> set[str]:
    found = set(words)
    found.update(f"{a} {b}" for a, b in pairwise(words))
    found.update(f"{word[:5]}*" for word in words if len(word) > 5)
    return found


def piece_buckets(text: str) -> Buckets:
    """Return the buckets of a text's runs of characters, whatever its script, and of its word pairs.

    Runs stay within words and have one to five characters, of Korean two to eight letters (jamo), because
    a syllable block hides what its letters share with others; figures count as one sign.
    """
    plain = _DIGITS.sub("0", text[:MOST_CHARACTERS].casefold())
    words = [word for word in _SPACE.split(plain) if word]
    found = {f"{a} {b}" for a, b in pairwise(words)}
    for word in set(words):
        is_korean = _HANGUL.search(word) is not None
        framed = f" {unicodedata.normalize('NFD', word) if is_korean else word} "
        for n in range(*(_JAMO if is_korean else _RUNS)):
            found.update(framed[i : i + n] for i in range(len(framed) - n + 1))
    return _hashed(found, PIECE_BITS)


def _hashed(found: set[str], n_bits: int) -> Buckets:
    mask = (1 << n_bits) - 1
    hashed = {zlib.crc32(feature.encode()) & mask for feature in found}
    return np.array(sorted(hashed), dtype=np.int64)


def tokens(text: str) -> list[str]:
    """Return a canonical text's tokens, in lower case, with cashtags masked and figures as their sign."""
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        word = _plain(match.group())
        if word and not (word == _MASK and found and found[-1] == _MASK):
            found.append(word)
        if len(found) >= MOST_TOKENS:
            break
    return found


def _plain(word: str) -> str:
    first = word[0]
    if first == "$":
        return _MASK
    if first == "@":
        return ""
    if first.isdigit() or (len(word) > 1 and first in "+-"):
        return f"{first}0" if first in "+-" else "0"
    return word.lower()
