"""The edge has the first core, everything else the others."""

import os
import subprocess
import sys

import pytest

from finllm.runtime.cores import first, on_first_core, others

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system binds nothing to cores"
)


@pytest.mark.parametrize(
    ("allowed", "edge", "rest"),
    [({0, 1}, {0}, {1}), ({3, 5, 8}, {3}, {5, 8}), ({7}, {7}, {7})],
)
def test_the_first_core_is_the_edges_and_nobody_is_left_without_one(
    allowed: set[int], edge: set[int], rest: set[int]
) -> None:
    assert first(allowed) == edge
    assert others(allowed) == rest


def test_the_edge_gives_its_core_back() -> None:
    before = os.sched_getaffinity(0)
    with on_first_core():
        assert os.sched_getaffinity(0) == first(before)
    assert os.sched_getaffinity(0) == before


def test_a_process_that_leaves_it_stays_off() -> None:
    code = (
        "import os; from finllm.runtime.cores import leave_first_core; leave_first_core();"
        "print(sorted(os.sched_getaffinity(0)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sorted(others(os.sched_getaffinity(0))))
