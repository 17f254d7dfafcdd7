"""Folds that keep copies together: over all sets at once, by date where a set is dated."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.narrative.reading.labelled import Text

ALIKE: Final = 0.7
"""Share of words that two texts have in common from which on they are copies."""
_NOT_WORD: Final = re.compile(r"[\W_]+")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_LAST_WITH_WORD: Final = 200
"""Earlier texts with a rare word that a new one is held against."""


def plain(text: str) -> str:
    """Return a text as copies are recognised by: lower case, no punctuation, every figure alike."""
    return _NOT_WORD.sub(" ", _NUMBER.sub("0", text.casefold())).strip()


def groups(rows: Sequence[Text]) -> NDArray[np.int64]:
    """Return each row's group, int64 [n]: rows of one document, and of near-copies, share one."""
    documents: dict[str, int] = {}
    texts: list[str] = []
    for row in rows:
        if row.document not in documents:
            documents[row.document] = len(texts)
            texts.append(plain(row.copied_from or row.text))
    links = _Links(len(texts))
    _link_equal(texts, links)
    _link_alike([frozenset(text.split()) for text in texts], links)
    return np.array([links.root(documents[row.document]) for row in rows], dtype=np.int64)


class _Links:
    """Sets that are joined two by two."""

    def __init__(self, n: int) -> None:
        self._to = list(range(n))

    def root(self, i: int) -> int:
        while self._to[i] != i:
            self._to[i] = self._to[self._to[i]]
            i = self._to[i]
        return i

    def join(self, i: int, j: int) -> None:
        self._to[self.root(i)] = self.root(j)


def _link_equal(texts: list[str], links: _Links) -> None:
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        links.join(i, first.setdefault(text, i))


def _link_alike(words: list[frozenset[str]], links: _Links) -> None:
    """Join texts that share most words; candidates share one of their rarest third."""
    n_with = defaultdict[str, int](int)
    for found in words:
        for word in found:
            n_with[word] += 1
    seen = defaultdict[str, list[int]](list)
    for i, mine in enumerate(words):
        rare = sorted(mine, key=lambda word: (n_with[word], word))[: max(2, len(mine) // 3 + 1)]
        near = {j for word in rare for j in seen[word][-_LAST_WITH_WORD:]}
        for j in near:
            if len(mine & words[j]) >= ALIKE * len(mine | words[j]):
                links.join(i, j)
        for word in rare:
            seen[word].append(i)


def folds(rows: Sequence[Text], n: int, seed: int = 5) -> NDArray[np.int64]:
    """Return each row's fold, int64 [n_rows]: groups stay whole, days too, tasks are spread evenly.

    Args:
        rows: Of any tasks.
        n: Folds.
        seed: Of the order in which units of equal size are dealt out.
    """
    group = groups(rows)
    unit_of_group: dict[int, str] = {}
    for row, g in zip(rows, group.tolist(), strict=True):
        # Rows of one date go together; a group that spans dates goes with its first.
        unit_of_group.setdefault(g, f"{row.task} {row.date}" if row.date else str(g))
    sizes = defaultdict[str, dict[str, int]](dict)
    for row, g in zip(rows, group.tolist(), strict=True):
        held = sizes[unit_of_group[g]]
        held[row.task] = held.get(row.task, 0) + 1
    names = sorted(sizes)
    order = np.random.default_rng(seed).permutation(len(names))
    units = sorted((names[i] for i in order), key=lambda name: -sum(sizes[name].values()))
    load = [defaultdict[str, int](int) for _ in range(n)]
    fold_of: dict[str, int] = {}
    for name in units:
        here = min(
            range(n), key=lambda k: sum(m * (2 * load[k][t] + m) for t, m in sizes[name].items())
        )
        fold_of[name] = here
        for task, m in sizes[name].items():
            load[here][task] += m
    return np.array([fold_of[unit_of_group[g]] for g in group.tolist()], dtype=np.int64)
