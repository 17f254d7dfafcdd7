"""Marks of calibrated answers against labels: macro F1, calibration error, names that disagree."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.narrative.reading.labelled import Text

Said = NDArray[np.float64]
"""Calibrated probabilities [n, C]."""
Labels = NDArray[np.int64]
Interval = tuple[float, float]
N_BINS: Final = 10
_RESAMPLES: Final = 400


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One figure with its 95 % interval, documents resampled."""

    value: float
    interval: Interval


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """How good a head's answers are on one labelled file."""

    n_rows: int
    n_documents: int
    macro_f1: Mark
    accuracy: Mark
    calibration_error: Mark
    """Mean gap between the claim for the likeliest class and how often it was right, bins of equal mass."""
    perfect_error: float
    """What a perfectly calibrated head with these claims would show on as many rows, on average."""
    n_divided: int = 0
    """Documents whose names have different labels."""
    divided_f1: Mark | None = None
    """Macro F1 over the rows of those."""
    divided_all_right: Mark | None = None
    """Share of those with every name right."""


def macro_f1(labels: Labels, said: Labels, n_classes: int) -> float:
    """Return the mean over classes of F1; a class that neither holds does not count."""
    both = np.bincount(labels * n_classes + said, minlength=n_classes**2)
    table = both.reshape(n_classes, n_classes).astype(np.float64)
    right, held = table.diagonal(), table.sum(axis=0) + table.sum(axis=1)
    there = held > 0
    return float((2.0 * right[there] / held[there]).mean()) if there.any() else 0.0


def calibration_error(labels: Labels, p: Said) -> float:
    """Return the expected calibration error of the likeliest class, bins of equal mass."""
    top = p.max(axis=1)
    order = np.argsort(top, kind="stable")
    gap = (p.argmax(axis=1) == labels)[order] - top[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gap, N_BINS)) / len(top))


def marks_of(rows: Sequence[Text], p: Said, *, seed: int = 0) -> Marks:
    """Return the marks of answers to labelled rows.

    Args:
        rows: Not empty, of one task.
        p: The answers, [len(rows), C].
        seed: Of the resampling.
    """
    labels = np.array([row.label for row in rows], dtype=np.int64)
    said, n_classes = p.argmax(axis=1).astype(np.int64), p.shape[1]
    places = defaultdict[str, list[int]](list)
    for i, row in enumerate(rows):
        places[row.document].append(i)
    documents = [np.array(held, dtype=np.int64) for held in places.values()]
    rng = np.random.default_rng(seed)

    def mark(held: Sequence[NDArray[np.int64]], of: Callable[[NDArray[np.int64]], float]) -> Mark:
        draws = [
            of(np.concatenate([held[i] for i in rng.integers(len(held), size=len(held))]))
            for _ in range(_RESAMPLES)
        ]
        low, high = np.percentile(draws, [2.5, 97.5])
        return Mark(value=of(np.concatenate(held)), interval=(float(low), float(high)))

    def f1(i: NDArray[np.int64]) -> float:
        return macro_f1(labels[i], said[i], n_classes)

    divided = [held for held in documents if len(set(labels[held].tolist())) > 1]
    draws = [calibration_error(_drawn(p, rng), p) for _ in range(50)]
    out = Marks(
        n_rows=len(rows),
        n_documents=len(documents),
        macro_f1=mark(documents, f1),
        accuracy=mark(documents, lambda i: float((labels[i] == said[i]).mean())),
        calibration_error=mark(documents, lambda i: calibration_error(labels[i], p[i])),
        perfect_error=float(np.mean(draws)),
    )
    if not divided:
        return out
    is_right = np.array([bool((labels[held] == said[held]).all()) for held in divided])
    ones = [np.array([k]) for k in range(len(divided))]
    return msgspec.structs.replace(
        out,
        n_divided=len(divided),
        divided_f1=mark(divided, f1),
        divided_all_right=mark(ones, lambda i: float(is_right[i].mean())),
    )


def _drawn(p: Said, rng: np.random.Generator) -> Labels:
    """Return labels drawn from the claims."""
    edges = p.cumsum(axis=1)
    edges /= edges[:, -1:]
    drawn: Labels = (rng.random(len(p))[:, None] > edges).sum(axis=1).astype(np.int64)
    return drawn
