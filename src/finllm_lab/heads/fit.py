"""Fitting: networks and words on the training rows, their blend on rows that neither has seen."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.narrative.reading.heads import Blend, with_emoji_names
from finllm.narrative.reading.labelled import TASKS, Text
from finllm.narrative.reading.minilm import Adapter, Weights
from finllm.narrative.reading.transformer import tokenised
from finllm_lab.heads.augment import Augment
from finllm_lab.heads.network import Network, Question, Schedule, read_out, train
from finllm_lab.heads.words import Words, fit_words, hashed

LogP = NDArray[np.float64]
"""Log probabilities [n, C]."""
OnStep = Callable[[int, int, float], None]
LONGEST = 96
"""Tokens of a text that training reads; serving reads more."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the two heads of a task make of rows that they were not fitted on."""

    rows: list[Text]
    words: LogP
    encoder: LogP | None
    """None where the encoder does not know the language."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the right classes [n]."""
        return np.array([row.label for row in self.rows], dtype=np.int64)


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a pack is made of, before it is rounded and blended."""

    words: dict[str, Words]
    adapter: Adapter
    heads: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    """Weight [C, 3 * DIM] and bias [C] by task."""


def questions_of(rows: Sequence[Text], tokenizer: Any) -> list[Question]:
    """Return rows as tokens, as the encoder will read them when it serves."""
    out = []
    for row in rows:
        text, span = with_emoji_names(row.text, row.span)
        ids, types = tokenised(tokenizer, text, span, LONGEST)
        out.append(
            Question(task=row.task, ids=ids, types=types, label=row.label, weight=row.weight)
        )
    return out


def by_task(rows: Sequence[Text]) -> dict[str, list[Text]]:
    """Return rows by task, in order."""
    out = defaultdict[str, list[Text]](list)
    for row in rows:
        out[row.task].append(row)
    return dict(out)


def knows(task: str) -> bool:
    """Return whether the encoder reads a task's language."""
    return TASKS[task].language == "en"


def fit(
    rows: Sequence[Text],
    held_out: Sequence[Text],
    *,
    base: tuple[Weights, Any],
    schedule: Schedule,
    on_step: OnStep | None = None,
) -> tuple[Fitted, dict[str, Said]]:
    """Return heads fitted on some rows and what they say of others.

    Args:
        rows: To fit on.
        held_out: Of the same tasks.
        base: The encoder's pinned weights, and its tokenizer.
        schedule: How the network is trained.
        on_step: Told the network's progress.
    """
    weights, tokenizer = base
    english = [row for row in rows if knows(row.task)]
    n_classes = {task: len(TASKS[task].classes) for task in by_task(english)}
    network = Network(weights, n_classes, schedule)
    if english:
        questions = questions_of(english, tokenizer)
        augment = Augment(
            questions, tokenizer, swap=schedule.swap, join=schedule.join, seed=schedule.seed
        )
        train(network, questions, schedule, augment, on_step)
    words: dict[str, Words] = {}
    said: dict[str, Said] = {}
    later = by_task(held_out)
    for task, mine in by_task(rows).items():
        words[task] = fit_words(hashed(mine), mine, len(TASKS[task].classes))
        others = later.get(task, [])
        read = read_out(network, questions_of(others, tokenizer)) if knows(task) else None
        said[task] = Said(rows=others, words=words[task].read_out(hashed(others)), encoder=read)
    heads = {
        task: (head.weight.detach().numpy().copy(), head.bias.detach().numpy().copy())
        for task, head in network.heads.items()
    }
    return Fitted(words=words, adapter=network.adapter(), heads=heads), said


def blend(said: Said, *, with_encoder: bool) -> Blend:
    """Return the weights and biases that make the two heads' answers likeliest right.

    A logistic regression on the log probabilities with one weight per head and one bias per class:
    temperature, blending and class shares in one, a handful of numbers in all.
    """
    from scipy.optimize import minimize

    parts = [said.words]
    if with_encoder and said.encoder is not None:
        parts.append(said.encoder)
    labels = said.labels
    n, n_classes = said.words.shape

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, bias = x[: len(parts)], x[len(parts) :]
        z = sum(a * part for a, part in zip(w, parts, strict=True)) + bias
        z = z - z.max(axis=1, keepdims=True)
        logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        gap = np.exp(logp)
        gap[np.arange(n), labels] -= 1.0
        slope = [float((gap * part).sum()) / n for part in parts]
        penalty = 1e-3 * float(bias @ bias)
        value = -float(logp[np.arange(n), labels].mean()) + penalty
        return value, np.concatenate([slope, gap.mean(axis=0) + 2e-3 * bias])

    start = np.concatenate([np.full(len(parts), 1.0 / len(parts)), np.zeros(n_classes)])
    bounds = [(0.0, 5.0)] * len(parts) + [(-3.0, 3.0)] * n_classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    rounded = [round(float(v), 6) for v in found]
    return Blend(
        words=rounded[0],
        encoder=rounded[1] if len(parts) > 1 else 0.0,
        bias=tuple(rounded[len(parts) :]),
    )


def blended(said: Said, by: Blend) -> NDArray[np.float64]:
    """Return calibrated probabilities [n, C]."""
    z = by.words * said.words + np.array(by.bias)
    if by.encoder and said.encoder is not None:
        z = z + by.encoder * said.encoder
    z = np.exp(z - z.max(axis=1, keepdims=True))
    p: NDArray[np.float64] = z / z.sum(axis=1, keepdims=True)
    return p
