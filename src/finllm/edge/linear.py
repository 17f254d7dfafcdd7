"""A pooled linear network as one compiled call: the same numbers as its ONNX graph, ten times sooner.

A graph of one matrix product spends its time on being called. This is that graph (standardise, clip,
bend, one product, a dead zone for the quantiles) written out: float32, and the sum over columns in the
order of the columns, so that the bits depend neither on the batch nor on the vector width of the
machine. ONNX Runtime sums in another order: the two agree to about 1e-6 (`edge_model` laws).
"""

import io
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError
from finllm.domain.instrument import Horizon
from finllm.edge.model import RAW_WIDTH, finish, narrow
from finllm.runtime.kernels import kernel

Singles = NDArray[np.float32]

CLIP: Final = 5.0
"""Standardised features are clipped here: a wild input must not buy a wild claim."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted numbers of one pooled linear network over H horizons.

    Scores are `features @ weights + bias`, where the features are the standardised, clipped columns
    followed by their absolute values.
    """

    centre: NDArray[np.float64]
    """float64 [F], subtracted."""
    spread: NDArray[np.float64]
    """float64 [F], divided by; above zero."""
    weights: NDArray[np.float64]
    """float64 [2 F, 8 H]: for each horizon three logits, then five quantiles."""
    bias: NDArray[np.float64]
    """float64 [8 H]."""
    dead_zone: NDArray[np.float64]
    """float64 [8 H]: a score no larger than this is nought; 0 leaves it as it is."""


def packed(network: Network) -> bytes:
    """Return a network's numbers as the bytes of a weights file; the same numbers, the same bytes."""
    held = io.BytesIO()
    np.save(held, _table(network), allow_pickle=False)
    return held.getvalue()


def _table(network: Network) -> Singles:
    """Return float32 [2 F + 4, 8 H or F]: centre, gain, bias, dead zone, then the weights."""
    n_features, width = len(network.centre), len(network.bias)
    table = np.zeros((4 + 2 * n_features, max(n_features, width)), dtype=np.float32)
    table[0, :n_features] = network.centre
    table[1, :n_features] = 1.0 / network.spread
    table[2, :width] = network.bias
    table[3, :width] = network.dead_zone
    table[4:, :width] = network.weights
    return table


@kernel
def _scores(row: Singles, table: Singles, n_features: int, scores: Singles) -> None:
    """Fill one row's scores, float32 [8 H]; NaN in a column makes every score NaN."""
    width = len(scores)
    for k in range(width):
        scores[k] = np.float32(0.0)
    for j in range(n_features):
        z = (row[j] - table[0, j]) * table[1, j]
        if z > np.float32(5.0):
            z = np.float32(5.0)
        elif z < np.float32(-5.0):
            z = np.float32(-5.0)
        plain, bent = table[4 + j], table[4 + n_features + j]
        size = abs(z)
        for k in range(width):
            scores[k] += z * plain[k] + size * bent[k]
    for k in range(width):
        score = scores[k] + table[2, k]
        scores[k] = np.float32(0.0) if abs(score) <= table[3, k] else score


@kernel
def _infer(
    rows: NDArray[np.float64],
    table: Singles,
    single: Singles,
    scores: Singles,
    raw: NDArray[np.float64],
) -> None:
    """Fill raw claims float64 [n, H, 8] for rows float64 [n, F], one by one through the buffers."""
    flat = scores.reshape(-1)
    for i in range(rows.shape[0]):
        narrow(rows[i : i + 1], single)
        _scores(single[0], table, rows.shape[1], flat)
        finish(single, scores, raw[i : i + 1])


class LinearModel:
    """A linear network served by a compiled kernel. For one caller at a time.

    Args:
        weights: The weights file's bytes.
        n_features: Columns of a row.
        spec_hash: Hash of the feature spec that it reads.
        horizons: Horizons served, in the order of the scores.
        version: Name and content hash.

    Raises:
        ArtifactError: If the file is no weights file, or of other sizes.
    """

    def __init__(
        self,
        weights: bytes,
        *,
        n_features: int,
        spec_hash: str,
        horizons: tuple[Horizon, ...],
        version: str,
    ) -> None:
        self.spec_hash = spec_hash
        self.horizons = horizons
        self.version = version
        self._n_features = n_features
        width = RAW_WIDTH * len(horizons)
        try:
            table = np.load(io.BytesIO(weights), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ArtifactError(f"the weights cannot be read: {error}") from error
        wanted = (4 + 2 * n_features, max(n_features, width))
        if table.shape != wanted or table.dtype != np.float32:
            raise ArtifactError(
                f"the weights are {table.dtype} {table.shape}, not float32 {wanted}:"
                " rebuild the artifact"
            )
        self._table = np.ascontiguousarray(table)
        self._row = np.zeros((1, n_features), dtype=np.float32)
        self._scores = np.zeros((1, len(horizons), RAW_WIDTH), dtype=np.float32)
        self.infer(np.zeros((1, n_features)))

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw claims, float64 [n, H, 8], for rows float64 [n, F]. See `EdgeModel`."""
        if rows.ndim != 2 or rows.shape[1] != self._n_features:
            raise ArtifactError(
                f"rows have shape {rows.shape}, the model reads [n, {self._n_features}]"
            )
        raw = np.empty((len(rows), len(self.horizons), RAW_WIDTH))
        _infer(rows, self._table, self._row, self._scores, raw)
        return raw
