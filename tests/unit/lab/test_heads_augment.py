"""Laws of questions made of questions: the label stays, and so does what is asked about."""

import numpy as np
import pytest

from finllm_lab.heads.augment import LINKS, LONGEST, Augment
from finllm_lab.heads.network import Question

FIRST, LAST = 101, 102


class Tokens:
    """Knows the links, as numbers that stand for nothing else."""

    def token_to_id(self, token: str) -> int:
        return 1_000 + LINKS.index(token)


def question(number: int, *, length: int = 12, name: tuple[int, int] = (3, 5)) -> Question:
    body = np.arange(10_000 * number, 10_000 * number + length)
    types = np.zeros(length + 2, dtype=np.int64)
    types[name[0] : name[1]] = 1
    ids = np.concatenate([[FIRST], body, [LAST]])
    return Question(task="sentfin", ids=ids, types=types, label=number % 3)


QUESTIONS = [question(n, name=(2 + n % 3, 5 + n % 4)) for n in range(2, 40)]


def augment(swap: float, join: float) -> Augment:
    return Augment(QUESTIONS, Tokens(), swap=swap, join=join, seed=3)


def test_nothing_changes_where_nothing_is_asked_for() -> None:
    for before, after in zip(QUESTIONS, augment(0.0, 0.0)(QUESTIONS), strict=True):
        assert after is before


def test_an_exchanged_name_is_one_of_the_others_and_all_else_stays() -> None:
    names = {tuple(q.ids[q.types == 1]) for q in QUESTIONS}
    for before, after in zip(QUESTIONS, augment(1.0, 0.0)(QUESTIONS), strict=True):
        assert after.label == before.label
        assert tuple(after.ids[after.types == 1]) in names
        assert np.array_equal(after.ids[after.types == 0], before.ids[before.types == 0])


def test_a_joined_text_stands_beside_the_whole_of_the_one_asked_about() -> None:
    for before, after in zip(QUESTIONS, augment(0.0, 1.0)(QUESTIONS), strict=True):
        own, whole = before.ids[1:-1].tolist(), after.ids.tolist()
        at = whole.index(own[0])
        assert whole[at : at + len(own)] == own
        assert np.array_equal(after.ids[after.types == 1], before.ids[before.types == 1])
        assert (whole[0], whole[-1]) == (FIRST, LAST)
        assert sum(1_000 <= token < 1_000 + len(LINKS) for token in whole) == 1
        assert len(after.types) == len(whole) > len(before.ids)
        assert after.label == before.label


def test_the_same_seed_makes_the_same_questions() -> None:
    one, other = (augment(0.5, 0.5)(QUESTIONS) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.ids, b.ids)
        assert np.array_equal(a.types, b.types)


@pytest.mark.parametrize("what", ["unmarked", "long"])
def test_a_question_that_asks_of_no_name_or_is_long_is_not_joined(what: str) -> None:
    plain = question(50, length=LONGEST) if what == "long" else question(50, name=(0, 0))
    assert augment(0.0, 1.0)([plain])[0] is plain
