"""What the canonical form of a hostile text costs: run with `pytest -m bench -s`."""

import sys
import time

import pytest

from finllm.narrative.text.canonical import MOST_READ, canonicalise
from support.bombs import BOMBS

pytestmark = pytest.mark.bench
PART = 4
"""The whole that is read is timed against this part of it: linear work takes as many times as long."""
MOST = 2.0 * PART


def least_s(text: str) -> float:
    """Return the least processor time of three readings."""
    took = []
    for _ in range(3):
        began = time.process_time()
        canonicalise(text)
        took.append(time.process_time() - began)
    return min(took)


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: ascii(bomb[:12]))
def test_the_canonical_form_of_anything_takes_time_in_proportion_to_its_length(bomb: str) -> None:
    part_s, whole_s = least_s(bomb[: MOST_READ // PART]), least_s(bomb[:MOST_READ])
    sys.stdout.write(f"{bomb[:12]!a}: {whole_s:.3f} s, {whole_s / part_s:.1f} times a {PART}th\n")
    assert whole_s <= MOST * part_s
