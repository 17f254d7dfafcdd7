"""Questions made of questions: another name in a name's place, and two texts joined into one.

What is said of a name does not hang on which name it is, nor on what a second clause says of others.

Source:
    Dai & Adel (2020), "An analysis of simple data augmentation for named entity recognition", for
    exchanged names.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm_lab.heads.network import Question

LINKS: Final = (",", ";", ".", "-", "while", "as", "and", "but")
"""Between two texts that are joined."""
LONGEST: Final = 60
"""Tokens of a text that is joined to another."""

Ids = NDArray[np.int64]


class Augment:
    """Makes questions of questions, of those that ask about a marked name.

    Args:
        questions: To draw names and second texts from.
        tokenizer: Knows the tokens of `LINKS`.
        swap: Chance that a name is exchanged.
        join: Chance that another text of the task is put before or behind.
        seed: Of the draws.
    """

    def __init__(
        self, questions: Sequence[Question], tokenizer: Any, *, swap: float, join: float, seed: int
    ) -> None:
        self._swap, self._join = swap, join
        self._rng = np.random.default_rng(seed)
        self._names = [q.ids[q.types == 1] for q in questions if q.types.any()]
        self._links = [np.array([tokenizer.token_to_id(link)]) for link in LINKS]
        self._by_task: dict[str, list[Question]] = defaultdict(list)
        for question in questions:
            if question.types.any() and len(question.ids) <= LONGEST:
                self._by_task[question.task].append(question)

    def __call__(self, batch: Sequence[Question]) -> list[Question]:
        """Return a batch with some of its questions changed; labels stay as they are."""
        return [self._changed(question) for question in batch]

    def _changed(self, question: Question) -> Question:
        if not question.types.any():
            return question
        if self._rng.random() < self._swap:
            question = self._swapped(question)
        if self._rng.random() < self._join and len(question.ids) <= LONGEST:
            question = self._joined(question)
        return question

    def _swapped(self, question: Question) -> Question:
        """Return a question with another name where its own stands, if that is in one place."""
        marked = np.flatnonzero(question.types)
        start, end = int(marked[0]), int(marked[-1]) + 1
        if end - start != len(marked):
            return question
        name = self._names[int(self._rng.integers(len(self._names)))]
        parts = (question.ids[:start], name, question.ids[end:])
        return _made(question, parts, asked=1)

    def _joined(self, question: Question) -> Question:
        """Return a question with another text of its task on one side."""
        others = self._by_task[question.task]
        other = others[int(self._rng.integers(len(others)))].ids[1:-1]
        link = self._links[int(self._rng.integers(len(self._links)))]
        first, own, last = question.ids[:1], question.ids[1:-1], question.ids[-1:]
        is_before = self._rng.random() < 0.5
        parts = (first, other, link, own, last) if is_before else (first, own, link, other, last)
        types = question.types[1:-1]
        return _made(question, parts, asked=3 if is_before else 1, types=types)


def _made(
    question: Question, parts: Sequence[Ids], *, asked: int, types: Ids | None = None
) -> Question:
    """Return a question of some parts, one of which holds the name: all of it, or what `types` says."""
    marks = [np.zeros(len(part), dtype=np.int64) for part in parts]
    marks[asked] = np.ones(len(parts[asked]), dtype=np.int64) if types is None else types
    ids = np.concatenate(parts)
    return msgspec.structs.replace(question, ids=ids, types=np.concatenate(marks))
