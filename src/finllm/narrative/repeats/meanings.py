"""Meanings: kept texts by their embeddings, for copies so reworded that few of their words are left.

A text is embedded at most once, and only if something asks. Candidates are the kept texts whose vectors
agree with it in the most signs, over all of them; the best are then compared by the cosine.

Source:
    Charikar (2002), "Similarity estimation techniques from rounding algorithms".
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from finllm.narrative.reading.encoder import Embedding, Encoder
from finllm.runtime.kernels import kernel

MOST_FOUND: Final = 4
"""Candidates whose cosine is taken."""
Bits = npt.NDArray[np.uint64]


class Meaning:
    """A text's embedding, made when it is first asked for.

    Args:
        encoder: What embeds it.
        text: Canonical text.
    """

    def __init__(self, encoder: Encoder, text: str) -> None:
        self._encoder = encoder
        self._text = text
        self._vector: Embedding | None = None

    def vector(self) -> Embedding:
        """Return it, float32 [dim]."""
        if self._vector is None:
            self._vector = self._encoder.embed(self._text)
        return self._vector


@kernel
def _signs(vector: Embedding, out: Bits) -> None:
    out[:] = np.uint64(0)
    for i in range(len(vector)):
        if vector[i] > 0.0:
            out[i >> 6] |= np.uint64(1) << np.uint64(i & 63)


@kernel
def _ones(x: np.uint64) -> int:
    """Return the number of bits set. Source: Warren, "Hacker's Delight", section 5-1."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _fewest_apart(signs: Bits, kept_signs: Bits, n: int, slots: npt.NDArray[np.int64]) -> None:
    """Write the slots, of the first n, that differ from some signs in the fewest places, best first."""
    slots[:] = -1
    apart = np.full(len(slots), 64 * len(signs) + 1, dtype=np.int64)
    for slot in range(n):
        d = 0
        for k in range(len(signs)):
            d += _ones(signs[k] ^ kept_signs[slot, k])
        at = len(slots)
        while at > 0 and d < apart[at - 1]:
            if at < len(slots):
                apart[at], slots[at] = apart[at - 1], slots[at - 1]
            at -= 1
        if at < len(slots):
            apart[at], slots[at] = d, slot


@kernel
def _best_cosine(
    vector: Embedding, kept: npt.NDArray[np.float32], slots: npt.NDArray[np.int64]
) -> tuple[int, float]:
    """Return the slot with the greatest cosine, and that; (-1, -1) if there is none."""
    best, best_slot = -1.0, -1
    for i in range(len(slots)):
        if slots[i] >= 0:
            dot = 0.0
            for k in range(len(vector)):
                dot += float(vector[k]) * float(kept[slots[i], k])
            if dot > best:
                best, best_slot = dot, int(slots[i])
    return best_slot, best


class Meanings:
    """The embeddings of kept texts, by slot.

    Args:
        capacity: Texts kept.
        dim: Length of a vector.
    """

    def __init__(self, capacity: int, dim: int) -> None:
        self._kept = np.zeros((capacity, dim), dtype=np.float32)
        self._signs = np.zeros((capacity, (dim + 63) // 64), dtype=np.uint64)
        self._one = np.zeros((dim + 63) // 64, dtype=np.uint64)
        self._n = 0

    def closest(self, vector: Embedding) -> tuple[int, float]:
        """Return the slot of the most like vector and their cosine; (-1, -1) where none is kept."""
        _signs(vector, self._one)
        slots = np.empty(MOST_FOUND, dtype=np.int64)
        _fewest_apart(self._one, self._signs, self._n, slots)
        slot, cosine = _best_cosine(vector, self._kept, slots)
        return int(slot), float(cosine)

    def add(self, slot: int, vector: Embedding) -> None:
        """Keep a vector in a slot."""
        self._kept[slot] = vector
        _signs(vector, self._signs[slot])
        self._n = max(self._n, slot + 1)
