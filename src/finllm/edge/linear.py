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


def _live(table: Singles, n_features: int, width: int) -> tuple[Singles, Singles, Singles]:
    """Leave out the scores that no column moves: most quantiles, and every flat logit.

    No bit changes: what is left out added noughts, and so do the columns of nought that make F a multiple of
    four. It makes the product twice as fast (tests/benchmarks/test_edge_speed.py).

    Args:
        table: float32 [4 + 2 F, 8 H or F], as in the weights file.
        n_features: F.
        width: 8 H.

    Returns:
        What `_scores` reads, float32 [5 + 2 F', L or F'], F' being F rounded up to fours and L the number of
        scores left: centre, gain, bias, dead zone, which score it is, then each column's weights, plain and
        bent; room for a row and its sums, float32 [F' + L]; and all scores, float32 [8 H], filled in where
        nothing moves them.
    """
    weights, bias, dead_zone = table[4:, :width], table[2, :width], table[3, :width]
    at = np.flatnonzero((weights != 0.0).any(axis=0) | ~np.isfinite(bias))
    n_padded = -(-n_features // 4) * 4
    live = np.zeros((5 + 2 * n_padded, max(n_padded, len(at))), dtype=np.float32)
    live[:2, :n_features] = table[:2, :n_features]
    live[2:5, : len(at)] = bias[at], dead_zone[at], at
    live[5 : 5 + 2 * n_features : 2, : len(at)] = weights[:n_features, at]
    live[6 : 6 + 2 * n_features : 2, : len(at)] = weights[n_features:, at]
    room = np.zeros(n_padded + len(at), dtype=np.float32)
    return live, room, np.where(np.abs(bias) <= dead_zone, np.float32(0.0), bias)


@kernel
def _scores(row: Singles, live: Singles, sums: Singles, scores: Singles) -> None:
    """Fill one row's scores, float32 [8 H]; NaN in a column makes every one that is left NaN.

    Args:
        row: float32 [F'], noughts from F on; standardised in place.
        live: See `_live`.
        sums: float32 [L], room.
        scores: Filled but for what nothing moves.
    """
    n, n_live = len(row), len(sums)
    for j in range(n):
        z = (row[j] - live[0, j]) * live[1, j]
        if z > np.float32(5.0):
            z = np.float32(5.0)
        elif z < np.float32(-5.0):
            z = np.float32(-5.0)
        row[j] = z
    for k in range(n_live):
        sums[k] = np.float32(0.0)
    for j in range(0, n, 4):
        a, b, c, d = row[j], row[j + 1], row[j + 2], row[j + 3]
        x, y, z, w = abs(a), abs(b), abs(c), abs(d)
        weights = live[5 + 2 * j : 13 + 2 * j]
        for k in range(n_live):
            total = sums[k] + (a * weights[0, k] + x * weights[1, k])
            total = total + (b * weights[2, k] + y * weights[3, k])
            total = total + (c * weights[4, k] + z * weights[5, k])
            sums[k] = total + (d * weights[6, k] + w * weights[7, k])
    for k in range(n_live):
        score = sums[k] + live[2, k]
        scores[int(live[4, k])] = np.float32(0.0) if abs(score) <= live[3, k] else score


@kernel
def _infer(
    rows: NDArray[np.float64],
    live: Singles,
    room: Singles,
    scores: Singles,
    raw: NDArray[np.float64],
) -> None:
    """Fill raw claims float64 [n, H, 8] for rows float64 [n, F], one by one through the buffers.

    A column that is no number stays so when standardised: `finish` sees it there.
    """
    n_padded = (live.shape[0] - 5) // 2
    flat, row, sums = scores.reshape(-1), room[:n_padded].reshape(1, -1), room[n_padded:]
    for i in range(rows.shape[0]):
        narrow(rows[i : i + 1], row)
        _scores(row[0], live, sums, flat)
        finish(row, scores, raw[i : i + 1])


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
        self._live, self._room, scores = _live(table, n_features, width)
        self._scores = scores.reshape(1, len(horizons), RAW_WIDTH)
        self.infer(np.zeros((1, n_features)))

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw claims, float64 [n, H, 8], for rows float64 [n, F]. See `EdgeModel`."""
        if rows.ndim != 2 or rows.shape[1] != self._n_features:
            raise ArtifactError(
                f"rows have shape {rows.shape}, the model reads [n, {self._n_features}]"
            )
        raw = np.empty((len(rows), len(self.horizons), RAW_WIDTH))
        _infer(rows, self._live, self._room, self._scores, raw)
        return raw
