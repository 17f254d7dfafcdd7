"""The two sides of the space, learnt: what a text tells of, and what a window looks like the trace of.

Kind, direction and size of a text are learnt apart, each from what bears on it: a few ways of telling an
event then teach three questions rather than every combination of their answers.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.narrative.alignment.anomalies import AFTER, BEFORE, Window
from finllm.narrative.alignment.space import (
    BOOK_ONLY,
    DIRECTIONS,
    KINDS,
    N_FIGURES,
    N_OF_A_KIND,
    N_TEXT_EXTRAS,
    SIZES,
    MarketReadout,
    TextReadout,
    market_features,
)
from finllm.narrative.reading.claims import EVENT_TYPES
from finllm_lab.alignment.cases import Array, CaseReader, masked, watch
from finllm_lab.alignment.planted import Case, tell_each

Labels = npt.NDArray[np.int64]

N_HIDDEN: Final = 64
KIND_FREEDOM: Final = 3.0
DIRECTION_FREEDOM: Final = 0.3
SIZE_FREEDOM: Final = 3.0
"""Inverse strength of the penalty on squared weights, in scikit-learn's measure; by phrases kept back."""
N_UNSTATED: Final = 100
"""Texts without a figure that the read-out of sizes is given, of each size."""


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Texts and what they tell of."""

    x: Array
    """[n, F]."""
    kind: Labels
    """[n], index into `KINDS`; their number = nothing."""
    direction: Labels
    """[n]; of no meaning where nothing is told."""
    size: Labels
    """[n]; likewise."""


def lines(seeds: Iterable[int], reader: CaseReader, among: tuple[int, ...]) -> Lines:
    """Return texts of the half to train on, of some ways of telling an event."""
    found = [
        (reader.features(claim), news)
        for seed in seeds
        for document, news in tell_each(seed, among)
        for claim in reader.claims(document, news.instrument)
    ]
    told = [news for _, news in found]
    return Lines(
        x=np.array([x for x, _ in found]),
        kind=np.array([KINDS.index(n.kind) if n.kind else len(KINDS) for n in told]),
        direction=np.array([int(n.is_good) for n in told]),
        size=np.array([n.size for n in told]),
    )


def together(parts: list[Lines]) -> Lines:
    """Return texts of several parts as one."""
    return Lines(
        x=np.concatenate([one.x for one in parts]),
        kind=np.concatenate([one.kind for one in parts]),
        direction=np.concatenate([one.direction for one in parts]),
        size=np.concatenate([one.size for one in parts]),
    )


def learn_text(given: Lines) -> TextReadout:
    """Return the read-out of texts: three penalised logistic regressions."""
    width = given.x.shape[1]
    n_words = width - N_TEXT_EXTRAS
    stance = n_words + N_FIGURES
    words = np.arange(n_words)
    key_words = stance + 1 + np.arange(len(EVENT_TYPES))
    tells = given.kind < len(KINDS)
    kind = _logistic(given.x, given.kind, np.append(words, key_words), KIND_FREEDOM)
    said = np.append(words, np.arange(stance, width))
    direction = _logistic(given.x[tells], given.direction[tells], said, DIRECTION_FREEDOM)
    figures = n_words + np.arange(N_FIGURES)
    size = _logistic(
        # What states no figure may be of any size.
        np.concatenate([given.x[tells], np.zeros((len(SIZES) * N_UNSTATED, width))]),
        np.concatenate([given.size[tells], np.repeat(np.arange(len(SIZES)), N_UNSTATED)]),
        figures,
        SIZE_FREEDOM,
    )
    parts = (kind, direction, size)
    return TextReadout(
        _rounded(np.hstack([weight for weight, _ in parts])),
        _rounded(np.concatenate([bias for _, bias in parts])),
    )


def _logistic(x: Array, labels: Labels, columns: Labels, freedom: float) -> tuple[Array, Array]:
    """Return weights [F, n_classes], 0 beside some columns, and biases [n_classes]."""
    from sklearn.linear_model import LogisticRegression

    read = x[:, columns]
    mean = read.mean(axis=0)
    found = LogisticRegression(C=freedom, max_iter=1_000).fit(read - mean, labels)
    w, b = found.coef_.T, found.intercept_
    if len(b) == 1:  # of two classes only the second is told
        w, b = np.hstack([np.zeros_like(w), w]), np.append(0.0, b)
    weight = np.zeros((x.shape[1], len(b)))
    weight[columns] = w
    return weight, b - mean @ w


def learn_market(cases: Iterable[Case], *, seed: int = 7) -> MarketReadout:
    """Return the read-out of windows, learnt whole, as bars show them, and as known early.

    Args:
        cases: Markets that news moved.
        seed: Of what is masked and of the first weights.
    """
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(seed)
    rows, axes = [], []
    for case in cases:
        detector, move = watch(case)
        if move is None:
            continue
        axis = KINDS.index(case.kind) * N_OF_A_KIND + case.is_good * len(SIZES) + case.size
        window = detector.window(move.ts_start)
        for seen in _variants(window, rng):
            rows.append(market_features(seen, move.ts_start))
            axes.append(axis)
    x = np.array(rows)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 1e-6, 1.0 / np.maximum(spread, 1e-6), 0.0)
    found = MLPClassifier(
        (N_HIDDEN,), alpha=1e-2, early_stopping=True, max_iter=200, random_state=seed
    ).fit((x - mean) * scale, axes)
    if len(found.classes_) != len(KINDS) * len(DIRECTIONS) * len(SIZES):
        raise ValueError("too few markets: some kind, direction and size was never seen")
    hidden, out = found.coefs_
    hidden = scale[:, None] * hidden
    hidden_bias = found.intercepts_[0] - mean @ hidden
    return MarketReadout(*(_rounded(a) for a in (hidden, hidden_bias, out, found.intercepts_[1])))


def _variants(window: Window, rng: np.random.Generator) -> tuple[Window, Window, Window]:
    """Return a window whole, as bars show it, and as known early, by book or by bars."""
    early = BEFORE + int(rng.integers(1, AFTER))
    channels = BOOK_ONLY if rng.random() < 0.5 else ()
    return (
        window,
        masked(window, channels=BOOK_ONLY),
        masked(window, channels=channels, after=early),
    )


def _rounded(array: Array) -> Array:
    """Return an array as it is when written and read again."""
    return array.astype("<f4").astype(np.float64)
