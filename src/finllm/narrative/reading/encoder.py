"""Encoders: a text as a vector of unit length, whose inner products say how alike two texts are.

Two serve: a small transformer where its weights can be had, and a hashing encoder that needs none.
Whatever an encoder makes carries its name, so that evidence says what read it.
"""

import zlib
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from finllm.narrative.reading.features import tokens

Embedding = npt.NDArray[np.float32]
"""[dim], of unit length; zeros for a text without a word."""

HASHING_DIM: Final = 256
GRAM: Final = 4
"""Characters of a piece of a word."""
_PIECE_WEIGHT: Final = 0.5


class Encoder(Protocol):
    """What turns a text into a vector."""

    @property
    def name(self) -> str:
        """Name with version, for the evidence."""
        ...

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def knows_until(self) -> str:
        """Last month whose texts it may have been trained on, `2021-08`; empty = it knows nothing."""
        ...

    def embed(self, text: str) -> Embedding:
        """Return a canonical text's vector; the same bits for the same text, whatever came before."""
        ...


class HashingEncoder:
    """Words and pieces of words, hashed with signs: knows spelling, not meaning.

    Source:
        Weinberger et al. (2009), "Feature hashing for large scale multitask learning".
    """

    name: Final = "hashing/1"
    dim: Final = HASHING_DIM
    knows_until: Final = ""

    def embed(self, text: str) -> Embedding:
        """Return a canonical text's vector."""
        vector = np.zeros(HASHING_DIM, dtype=np.float32)
        for word in set(tokens(text)):
            _add(vector, word, 1.0)
            framed = f"^{word}$"
            for start in range(max(0, len(framed) - GRAM + 1)):
                _add(vector, framed[start : start + GRAM], _PIECE_WEIGHT)
        length = float(np.sqrt(np.square(vector, dtype=np.float64).sum()))
        return vector / np.float32(length) if length > 0.0 else vector


def _add(vector: Embedding, feature: str, weight: float) -> None:
    bits = zlib.crc32(feature.encode())
    vector[bits % HASHING_DIM] += weight if bits & 0x8000_0000 else -weight
