"""Embeddings as whole numbers, so that how alike two texts are is the same on every machine.

A component is kept as a sixteenth-bit fraction of one. The inner product of two such vectors is a sum of
integers: exact, whatever the order of summing, the size of the block or the CPU. A float product is not:
a row's last bits hang on how many rows stand beside it, so a later document could turn round a tie.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from finllm.domain.errors import InputError
from finllm.narrative.reading.encoder import Embedding
from finllm.runtime.kernels import kernel

Vector = npt.NDArray[np.int16]
"""[dim], components in units of 1 / `ONE`."""
ONE: Final = 1 << 15
_LONGEST: Final = 1.01
"""By Cauchy and Schwarz every partial sum of two vectors this long is below 2^31."""


def whole(embedding: Embedding, encoder: str) -> Vector:
    """Return an embedding in whole numbers.

    Args:
        embedding: float [dim], of unit length or zeros.
        encoder: Who made it, for the error.

    Raises:
        InputError: If it is longer than one, or no number.
    """
    exact = embedding.astype(np.float64)
    if not np.square(exact).sum() <= _LONGEST * _LONGEST:  # not "greater": it may be no number
        raise InputError(
            "its vector is not of unit length", place=f"encoder {encoder}", mend="Mend the encoder."
        )
    return np.clip(np.rint(exact * ONE), 1 - ONE, ONE - 1).astype(np.int16)


@kernel
def products(query: Vector, rows: npt.NDArray[np.int16], out: npt.NDArray[np.int32]) -> None:
    """Write the inner product of a query with each row, in units of 1 / `ONE` squared.

    Args:
        query: int16 [dim].
        rows: int16 [n, dim].
        out: int32 [n].
    """
    for i in range(len(rows)):
        total = np.int32(0)
        for k in range(len(query)):
            total = np.int32(total + np.int32(query[k]) * np.int32(rows[i, k]))
        out[i] = total


def cosine(product: int) -> float:
    """Return an inner product in units of 1 / `ONE` squared as a cosine."""
    return product / (ONE * ONE)
