"""Stance: bearish, neutral or bullish, by a hashed linear head that a plain sum can serve.

Words, word pairs and word stems are hashed into buckets of 8-bit weights; their sum is exact in
integers, so the same text gives the same bits on any machine. Names are masked: the head learns what
is said, not of whom.
"""

import math
import re
import zlib
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.errors import ArtifactError

SHIPPED: Final = Path(__file__).parent.parent / "weights"
CARD: Final = "stance.json"
WEIGHTS: Final = "stance.bin"
CLASSES: Final = ("bearish", "neutral", "bullish")
MOST_TOKENS: Final = 1_024
"""Tokens read of a text; the rest of a long one does not count."""

Span = tuple[int, int]

_TOKEN = re.compile(
    r"\$[A-Za-z][\w.]*|@\w+|[+-]?\d[\d.,]*|[^\W\d_]+(?:'[^\W\d_]+)*|[!?%]|[\u2600-\u27bf\U0001f300-\U0001faff]"
)
_MASK: Final = "<name>"


class Stance(msgspec.Struct, frozen=True, kw_only=True):
    """What a head makes of a text."""

    p_bearish: float
    p_neutral: float
    p_bullish: float

    @property
    def value(self) -> float:
        """Return p_bullish - p_bearish, -1 to +1."""
        return self.p_bullish - self.p_bearish


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a head is, what it was trained on and how good it is."""

    version: str
    """Hash of the weights."""
    n_bits: int
    """The head has 2 ** n_bits buckets."""
    scale: float
    """Logits per unit of the 8-bit weights."""
    bias: tuple[float, float, float]
    sha256: str
    data: tuple[str, ...]
    licence: str
    split: str
    n_train: int
    n_val: int
    macro_f1: float
    """On the validation rows, majority label per document."""
    baseline_macro_f1: float
    """TF-IDF words and pairs with logistic regression, same rows."""
    ece: float
    command: str


def tokens(text: str, names: tuple[Span, ...] = ()) -> list[str]:
    """Return a text's tokens, in lower case, with names and cashtags masked and figures as their sign.

    Args:
        text: Canonical text.
        names: Spans to mask, sorted.
    """
    found: list[str] = []
    waiting = 0
    for match in _TOKEN.finditer(text):
        while waiting < len(names) and names[waiting][1] <= match.start():
            waiting += 1
        is_name = waiting < len(names) and names[waiting][0] < match.end()
        word = _MASK if is_name else _plain(match.group())
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


def buckets(words: list[str], n_bits: int) -> list[int]:
    """Return the buckets of a text's features, each once: words, pairs, stems of five letters."""
    features = set(words)
    features.update(f"{a} {b}" for a, b in pairwise(words))
    features.update(f"{word[:5]}*" for word in words if len(word) > 5)
    mask = (1 << n_bits) - 1
    return sorted({zlib.crc32(feature.encode()) & mask for feature in features})


class StanceHead:
    """A hashed linear head.

    Args:
        weights: int8 [2 ** n_bits, 3], row by row, bearish first.
        card: What the head is.
    """

    def __init__(self, weights: bytes, card: Card) -> None:
        self.card = card
        self._weights = memoryview(weights).cast("b")

    @property
    def name(self) -> str:
        """Return the head's name with its version, for the evidence it made."""
        return f"hashed-linear/{self.card.version}"

    def judge(self, text: str, names: tuple[Span, ...] = ()) -> Stance:
        """Return the stance of a canonical text, with the given spans masked."""
        found = buckets(tokens(text, names), self.card.n_bits)
        down = flat = up = 0
        weights = self._weights
        for bucket in found:
            at = 3 * bucket
            down += weights[at]
            flat += weights[at + 1]
            up += weights[at + 2]
        step = self.card.scale / math.sqrt(max(1, len(found)))
        return softmax((down, flat, up), step, self.card.bias)


def softmax(sums: tuple[int, int, int], step: float, bias: tuple[float, float, float]) -> Stance:
    """Return the stance of three integer sums."""
    logits = [step * total + offset for total, offset in zip(sums, bias, strict=True)]
    top = max(logits)
    down, flat, up = (math.exp(logit - top) for logit in logits)
    total = down + flat + up
    return Stance(p_bearish=down / total, p_neutral=flat / total, p_bullish=up / total)


def load_stance_head(folder: Path = SHIPPED) -> StanceHead:
    """Return a head from its folder.

    Raises:
        ArtifactError: If a file is missing, or the weights are not the ones that the card names.
    """
    try:
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
        packed = (folder / WEIGHTS).read_bytes()
        weights = zlib.decompress(packed)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, zlib.error) as error:
        raise ArtifactError(f"{folder}: no usable stance head: {error}") from error
    if sha256(packed).hexdigest() != card.sha256:
        raise ArtifactError(
            f"{folder / WEIGHTS}: not the weights that {CARD} names; rebuild the head"
        )
    if len(weights) != 3 << card.n_bits:
        raise ArtifactError(
            f"{folder / WEIGHTS}: {len(weights)} weights where the card says {3 << card.n_bits}"
        )
    return StanceHead(weights, card)
