"""Words: what a text is made of, in order, each with a weight for how rare it is so far.

Common words say little about whether two texts are the same one. How common a word is, is counted over
the first appearances received so far, so a text's weights never depend on a later one, and a thousand
copies of a text do not make its words common. All arithmetic is in integers.
"""

import re
import unicodedata
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from finllm.narrative.text.confusables import skeleton
from finllm.runtime.kernels import kernel

Codes = npt.NDArray[np.uint32]
"""[n], one code per word, in order."""

UNKNOWN: Final = "\ufffd"
"""Stands for a letter that is foreign to its text's script: it may be meant for any letter."""
MOST_WORDS: Final = 64
"""Distinct words kept of a text; of a longer one those with the least codes, so that two long texts are
compared on the same sample. Source: Broder (1997), bottom-k sketches."""
MOST_READ: Final = 2_000
"""Words read of a text."""
MOST_WEIGHT: Final = 10
UNSEEN_WEIGHT: Final = 7
"""Of a word that no first appearance has held: made-up words must not outweigh what a copy has kept."""
N_COUNTS: Final = 1 << 17
USUAL: Final = 1_024
"""Texts that every count starts from, as if they had been read: early weights are not wild."""
_HALVE_AT: Final = 1 << 20

_LETTERS_OF_OTHERS = re.compile(r"[^\x00-\x7f]")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Kana, Han and Hangul: read by pairs of characters, since words are not set apart or are inflected."""

# The most common words of English: they start as if half of the usual texts had held them.
_COMMON: Final = [
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been",
    "before", "but", "by", "can", "could", "did", "do", "does", "for", "from", "get", "go", "had",
    "has", "have", "he", "her", "here", "his", "how", "i", "if", "in", "into", "is", "it", "its",
    "just", "me", "more", "most", "my", "new", "no", "not", "now", "of", "off", "on", "one", "or",
    "our", "out", "over", "s", "say", "says", "she", "so", "some", "t", "than", "that", "the", "their",
    "them", "then", "there", "they", "this", "to", "up", "us", "via", "was", "we", "were", "what",
    "when", "which", "who", "will", "with", "you", "your",
]  # fmt: skip


def foreign_letters_hidden(key: str) -> str:
    """Return a text with accents taken off and letters and digits of other scripts made `UNKNOWN`.

    Only in a text that is mostly in ASCII letters: elsewhere those letters are its own.
    """
    if key.isascii():
        return key
    n_letters = sum(map(str.isalpha, key))
    n_plain = sum(c.isascii() and c.isalpha() for c in key)
    if 5 * n_plain < 2 * n_letters:
        return key
    bare = "".join(c for c in unicodedata.normalize("NFKD", key) if not unicodedata.combining(c))
    return _LETTERS_OF_OTHERS.sub(lambda m: UNKNOWN if m.group().isalnum() else m.group(), bare)


def split_words(key: str) -> list[str]:
    """Return the words of a normalised text in order; pairs of characters where words are not set apart."""
    words = key.split()[:MOST_READ]
    if key.isascii() or _WIDE.search(key) is None:
        return words
    found: list[str] = []
    for word in words:
        if len(word) > 2 and _WIDE.search(word) is not None:
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found[:MOST_READ]


def codes_of(words: list[str]) -> Codes:
    """Return each word's code, uint32 [n]."""
    return np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint32)


def sample_of(codes: Codes) -> tuple[Codes, Codes]:
    """Return the distinct codes, at most `MOST_WORDS`, in rising order and in order of the text."""
    sample, first = np.unique(codes, return_index=True)
    return sample[:MOST_WORDS], codes[np.sort(first[:MOST_WORDS])]


@kernel
def weight_of(counts: npt.NDArray[np.int32], n_texts: int, code: np.uint32) -> int:
    """Return twice the binary log of a word's rarity, 1 to `MOST_WEIGHT`; `UNSEEN_WEIGHT` if never seen."""
    n = np.int64(n_texts)
    seen = np.int64(counts[code & np.uint32(N_COUNTS - 1)]) + 1
    if seen == 1:
        return UNSEEN_WEIGHT
    ratio = (n * n) // (seen * seen)
    weight = 0
    while ratio > 0:
        weight += 1
        ratio >>= 1
    return min(MOST_WEIGHT, max(1, weight))


@kernel
def _count(counts: npt.NDArray[np.int32], sample: Codes) -> None:
    for code in sample:
        counts[code & np.uint32(N_COUNTS - 1)] += 1


class Frequencies:
    """In how many first appearances each word has stood so far; hashed, so of fixed size."""

    def __init__(self) -> None:
        self.counts = np.zeros(N_COUNTS, dtype=np.int32)
        self.n_texts = USUAL
        for code in codes_of([skeleton(word) for word in _COMMON]):
            self.counts[int(code) & (N_COUNTS - 1)] = USUAL // 2

    def add(self, sample: Codes) -> None:
        """Count one more text's distinct words; all counts are halved now and then, so the old fades."""
        _count(self.counts, sample)
        self.n_texts += 1
        if self.n_texts >= _HALVE_AT:
            self.counts >>= 1
            self.n_texts >>= 1
