"""Heads held against labelled texts, one by one, as they serve."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from finllm.app.reader import load_heads
from finllm.domain.errors import InputError
from finllm.narrative.reading.labelled import Text, read_labelled, task_of
from finllm.narrative.reading.marks import Marks, marks_of

Told = Callable[[Sequence[Text]], Iterable[Text]]
"""Passes rows on, showing how far it is."""


def score_file(
    file: Path, task: str | None, heads: Path, encoder: str, split: str, told: Told
) -> tuple[Marks, str]:
    """Return the marks of a pack's answers to a labelled file, and what answered.

    Args:
        file: JSON lines of the task's form.
        task: What its labels mean; None = by the file's name.
        heads: The pack's folder.
        encoder: As `load_encoder` takes it.
        split: Only rows of this split; empty = all.
        told: Shows progress.

    Raises:
        InputError: If the task cannot be told, or nothing is left to score.
    """
    name = task or task_of(file)
    if name is None:
        raise InputError(
            "the task cannot be told from this name", place=str(file), mend="Say it with --task."
        )
    rows = [row for row in read_labelled(file, name) if not split or row.split == split]
    if not rows:
        raise InputError(
            f"holds no rows{f' of split {split}' if split else ''}",
            place=str(file),
            mend="Name a file of labelled rows, or another --split.",
        )
    served = load_heads(heads, encoder)
    p = np.array([served.judge(name, row.text, row.span).p for row in told(rows)])
    return marks_of(rows, p), served.name_of(name)
