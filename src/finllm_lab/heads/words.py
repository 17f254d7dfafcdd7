"""Linear heads on hashed words: logistic regression, document frequencies folded in, 8-bit weights."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.narrative.reading.features import Buckets
from finllm.narrative.reading.heads import N_BUCKETS, buckets_of
from finllm.narrative.reading.labelled import TASKS, Text

RIDGE = 2.0
"""Inverse strength of the ridge; chosen by cross-validation on the training rows."""


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted head."""

    weights: NDArray[np.int8]
    """[B, C], a row per bucket."""
    scale: float
    bias: tuple[float, ...]

    def read_out(self, found: Sequence[Buckets]) -> NDArray[np.float64]:
        """Return log probabilities [n, C] as served, before calibration."""
        sums = [self.weights[b].sum(axis=0, dtype=np.int64) for b in found]
        n = np.array([max(1.0, float(len(b))) for b in found])
        z = np.array(sums, dtype=np.float64) * (self.scale / n[:, None] ** 0.5) + self.bias
        z -= z.max(axis=1, keepdims=True)
        out: NDArray[np.float64] = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return out


def hashed(rows: Sequence[Text]) -> list[Buckets]:
    """Return the buckets of each row, as its task reads them."""
    return [buckets_of(TASKS[row.task].reads, row.text, row.span) for row in rows]


def fit_words(found: Sequence[Buckets], rows: Sequence[Text], n_classes: int) -> Words:
    """Return a head fitted on rows of one task.

    Args:
        found: Their buckets.
        rows: The rows.
        n_classes: Of the task.
    """
    from sklearn.linear_model import LogisticRegression

    n_buckets = N_BUCKETS[TASKS[rows[0].task].reads]
    x = _matrix(found, n_buckets)
    n_with = np.asarray((x > 0).sum(axis=0)).ravel()
    seen = np.flatnonzero(n_with)
    idf = np.log((1.0 + len(rows)) / (1.0 + n_with[seen])) + 1.0
    model = LogisticRegression(C=RIDGE, class_weight="balanced", max_iter=1_000, tol=1e-5)
    model.fit(
        x[:, seen].multiply(idf).tocsr(),
        [row.label for row in rows],
        sample_weight=[row.weight for row in rows],
    )
    coef, bias = model.coef_, model.intercept_
    if n_classes == 2:  # one column stands for the second class against the first
        coef, bias = np.vstack([0 * coef, coef]), np.concatenate([0 * bias, bias])
    weights = np.zeros((n_buckets, n_classes))
    weights[seen] = (coef * idf).T
    scale = round(float(np.abs(weights).max()) / 127.0, 9)
    return Words(
        weights=np.rint(weights / scale).clip(-127, 127).astype(np.int8),
        scale=scale,
        bias=tuple(round(float(b), 6) for b in bias),
    )


def _matrix(found: Sequence[Buckets], n_buckets: int) -> Any:
    from scipy.sparse import csr_matrix

    ends = np.concatenate([[0], np.cumsum([len(b) for b in found])])
    index = np.concatenate([*found, np.zeros(0, dtype=np.int64)])
    values = np.concatenate([np.full(len(b), len(b) ** -0.5) for b in found if len(b)])
    return csr_matrix((values, index, ends), shape=(len(found), n_buckets))
