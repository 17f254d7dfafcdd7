"""What an answer without an end costs: run with `pytest -m bench -s`."""

import sys
import time
from itertools import permutations

import pytest

from finllm.reasoning.llm.answer import AnswerError, read_answer

pytestmark = pytest.mark.bench
PIECES = ("```", "json", " ", "\n", "<think>", "</think>", "{", "[", '"', "x")
LENGTH = 60_000
MOST_S = 0.5


def test_no_text_takes_longer_than_its_length_is_worth() -> None:
    longest_s, worst = 0.0, ""
    for n in (1, 2, 3):
        for pieces in permutations(PIECES, n):
            part = "".join(pieces)
            began = time.thread_time()
            with pytest.raises(AnswerError):
                read_answer(part * (LENGTH // len(part)), ("a", "b"))
            longest_s, worst = max((longest_s, worst), (time.thread_time() - began, part))
    sys.stdout.write(f"{LENGTH:,} letters: {longest_s * 1e3:.1f} ms at most, for {worst!a}\n")
    assert longest_s < MOST_S
