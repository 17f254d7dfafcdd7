"""What sizes returns have within each class, and the quantiles that class probabilities imply by them.

Kept at a few shares of a class's returns and straight between them. Knows nothing of how they are learnt.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS
from finllm.runtime.kernels import kernel

KNOTS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0)
"""Shares of a class's returns at which their sizes are known."""
LAST: Final = len(KNOTS) - 2
"""The knot before the last."""
N_KNOTS: Final = len(KNOTS)

# Offsets into what is known of them, each for returns that left the band and then for those that did not: the
# weight of what was seen; its sizes at `KNOTS`, bps; the prior's, in bands.
SEEN: Final = 2
FIRST: Final = SEEN + 2 * N_KNOTS
WIDTH: Final = FIRST + 2 * N_KNOTS


@kernel
def _size(share: float, inside: int, band_bps: float, sizes: NDArray[np.float64], at: int) -> float:
    """Return the size below which a share of the returns lies that left the band, or did not, bps."""
    k = 0
    while k < LAST and share >= KNOTS[k + 1]:
        k += 1
    along = (share - KNOTS[k]) / (KNOTS[k + 1] - KNOTS[k])
    seen, first = at + SEEN + N_KNOTS * inside + k, at + FIRST + N_KNOTS * inside + k
    saw = sizes[seen] + along * (sizes[seen + 1] - sizes[seen])
    thought = (sizes[first] + along * (sizes[first + 1] - sizes[first])) * band_bps
    size: float = sizes[at + inside] * saw + (1.0 - sizes[at + inside]) * thought
    return min(size, band_bps) if inside else max(size, band_bps)


@kernel
def implied(
    level: float,
    down: float,
    flat: float,
    band_bps: float,
    sizes: NDArray[np.float64],
    at: int = 0,
) -> float:
    """Return the quantile that class probabilities imply, bps: climatology's law within each class.

    Where the classes are climatology's, so is the quantile, up and down taken alike; between two levels it
    cannot cross, because what left the band is larger than it and what did not is smaller.

    Args:
        level: Of the quantile, 0 to 1.
        down: Probability of a fall below the band.
        flat: Probability of staying within it.
        band_bps: Half-width of the band.
        sizes: float64 [at + 34 or more], what is known of returns' sizes.
        at: Where in it that begins.
    """
    side, inside = 2.0 * (level - down) / flat - 1.0, 1
    share = abs(side)
    if level < down:
        share, inside = 1.0 - level / down, 0
    elif level > down + flat:
        share, inside = 1.0 - (1.0 - level) / (1.0 - down - flat), 0
    size: float = _size(share, inside, band_bps, sizes, at)
    return size if side > 0.0 else -size


@kernel
def implied_all(
    p: NDArray[np.float64],
    band_bps: NDArray[np.float64],
    sizes: NDArray[np.float64],
    q: NDArray[np.float64],
) -> None:
    """Fill q float64 [n, 5] with what p [n, 3] and bands [n] imply at `LEVELS`; see `implied`."""
    for i in range(p.shape[0]):
        for j in range(5):
            q[i, j] = implied(LEVELS[j], p[i, 0], p[i, 1], band_bps[i], sizes)
