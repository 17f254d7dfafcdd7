"""What an edge model is: a pure function from feature rows to raw claims. And its scripted double.

A raw claim is eight numbers a horizon: p_down, p_flat, p_up, then five return quantiles (at
`finllm.domain.forecast.LEVELS`) in units of sigma times the root of the horizon, so that one model
serves quiet and wild instruments alike. Knows nothing of calibration, outlooks or instruments.
"""

import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import Quantiles, Triple
from finllm.domain.instrument import Horizon
from finllm.runtime.kernels import kernel

N_CLASSES: Final = 3
N_QUANTILES: Final = 5
RAW_WIDTH: Final = N_CLASSES + N_QUANTILES
"""Numbers a horizon in a raw claim."""
P_LEAST: Final = 1e-6
"""No raw probability is smaller: a claim of impossibility cannot be calibrated."""


class EdgeModel(Protocol):
    """A model that the edge can serve. Pure per row: no state, no chance, any batch."""

    spec_hash: str
    """Hash of the feature spec that it reads."""
    horizons: tuple[Horizon, ...]
    """Shortest first."""
    version: str
    """Name and content hash; stands on every forecast."""

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw claims.

        Args:
            rows: float64 [n, F], features in the order of the spec.

        Returns:
            float64 [n, H, 8]: probabilities that sum to one, then ordered quantiles in units of
            sigma * sqrt(horizon). A row with a non-finite feature gives NaN, never a guess.
        """
        ...


class ConstantModel:
    """A double that makes the same claim of every row.

    Args:
        spec_hash: Hash of the spec that it pretends to read.
        horizons: Horizons served.
        p: Probabilities claimed at every horizon.
        q: Quantiles claimed at every horizon, scale-free.
    """

    def __init__(
        self,
        spec_hash: str,
        horizons: tuple[Horizon, ...],
        *,
        p: Triple = (0.25, 0.5, 0.25),
        q: Quantiles = (-1.28, -0.67, 0.0, 0.67, 1.28),
    ) -> None:
        self.spec_hash = spec_hash
        self.horizons = horizons
        self.version = "constant"
        self._claim = np.array([*p, *q])

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the claim for every row; NaN where a feature is not finite."""
        raw = np.empty((len(rows), len(self.horizons), RAW_WIDTH))
        raw[:] = self._claim
        raw[~np.isfinite(rows).all(axis=1)] = np.nan
        return raw


@kernel
def narrow(rows: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Copy float64 rows into float32, row by row; NaN marks a row with a non-finite feature."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            value = np.float32(rows[i, j])
            out[i, j] = value if math.isfinite(value) else np.float32(math.nan)


@kernel
def _share(scores: Any, raw: Any) -> None:
    top = np.float64(max(scores[0], scores[1], scores[2]))
    total = 0.0
    for j in range(3):
        raw[j] = max(math.exp(np.float64(scores[j]) - top), P_LEAST)
        total += raw[j]
    for j in range(3):
        raw[j] /= total


@kernel
def _order(scores: Any, raw: Any) -> None:
    for j in range(3, 8):
        value = np.float64(scores[j])
        at = j
        while at > 3 and raw[at - 1] > value:
            raw[at] = raw[at - 1]
            at -= 1
        raw[at] = value


@kernel
def _is_finite(values: Any) -> bool:
    # Counted, not summed: a sum of floats waits for each addition (60 ns a row; test_edge_speed.py).
    n_wild = 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            n_wild += not math.isfinite(values[i, j])
    return n_wild == 0


@kernel
def finish(
    rows: NDArray[np.float32], scores: NDArray[np.float32], raw: NDArray[np.float64]
) -> None:
    """Turn a network's scores into raw claims: soft-max in float64, quantiles put in order.

    Done here, scalar by scalar, and not in the graph, so that a batch cannot change a bit.

    A row that held NaN gets NaN here, because a network may clip it into a number.

    Args:
        rows: float32 [n, F], what the network read.
        scores: float32 [n, H, 8]; three logits, then five quantiles.
        raw: float64 [n, H, 8], filled.
    """
    for i in range(scores.shape[0]):
        for h in range(scores.shape[1]):
            _share(scores[i, h], raw[i, h])
            _order(scores[i, h], raw[i, h])
        if not (_is_finite(rows[i : i + 1]) and _is_finite(scores[i])):
            raw[i] = math.nan
