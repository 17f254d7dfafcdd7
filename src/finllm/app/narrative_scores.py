"""Heads held against labelled texts, one by one, as they serve."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finllm.app.reader import load_heads
from finllm.domain.errors import InputError
from finllm.narrative.reading.heads import Answer, Card
from finllm.narrative.reading.labelled import KINDS, TASKS, Text, read_labelled, resolved
from finllm.narrative.reading.marks import Marks, marks_of

Told = Callable[[Sequence[Text]], Iterable[Text]]
"""Passes rows on, showing how far it is."""


def score_file(
    file: Path, task: str | None, heads: Path, encoder: str, split: str, told: Told
) -> tuple[Marks, str]:
    """Return the marks of a pack's answers to a labelled file, and what answered.

    Args:
        file: JSON lines of the task's form.
        task: What its labels mean: a set's name or one of `KINDS`; None = by the file's name.
        heads: The pack's folder.
        encoder: As `load_encoder` takes it.
        split: Only rows of this split; empty = all.
        told: Shows progress.

    Raises:
        InputError: If the task cannot be told, no head answers it, or nothing is left to score.
    """
    name = resolved(file, task)
    rows = [row for row in read_labelled(file, name) if not split or row.split == split]
    if not rows:
        raise InputError(
            f"holds no rows{f' of split {split}' if split else ''}",
            place=str(file),
            mend="Name a file of labelled rows, or another --split.",
        )
    served = load_heads(heads, encoder)
    head = head_for(name, served.card)
    classes = TASKS[name].classes
    p = np.array([_as_asked(served.judge(head, row.text, row.span), classes) for row in told(rows)])
    by = served.name_of(head)
    return marks_of(rows, p), by if head == name else f"{by}, head of {head}"


def head_for(task: str, card: Card) -> str:
    """Return the head that answers a set's questions: its own, else one of its kind and language.

    A pack without a head for sentiment answers by one for the sentiment towards a name, in English.

    Raises:
        InputError: If the pack has none.
    """
    if task in card.tasks:
        return task
    kind = next(kind for kind, names in KINDS.items() if task in names)
    kinds = (kind, "entity_sentiment") if kind == "sentiment" else (kind,)
    for other in (name for each in kinds for name in KINDS[each]):
        if other in card.tasks and card.tasks[other].language == TASKS[task].language:
            return other
    raise InputError(
        f"the pack has no head for {task} (it has {', '.join(sorted(card.tasks))})",
        place="--heads",
        mend="Build one with `finllm_lab narrative`, and name its folder with --heads.",
    )


def _as_asked(answer: Answer, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Return an answer's probabilities in a set's classes; a class that its head lacks gets none."""
    found = dict(zip(answer.classes, answer.p, strict=True))
    p = np.array([found.get(name, 0.0) for name in classes])
    total = p.sum()
    return p / total if total > 0.0 else np.full(len(classes), 1.0 / len(classes))
