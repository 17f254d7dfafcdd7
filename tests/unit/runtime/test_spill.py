"""Laws of the spill file."""

import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from finllm.runtime.spill import Spill

WIDTH = 3


class Source:
    """Entries numbered from 0, handed over in batches when told to."""

    def __init__(self) -> None:
        self.waiting: deque[np.ndarray] = deque()
        self.n = 0

    def give(self, n: int) -> None:
        self.waiting.append(np.repeat(np.arange(self.n, self.n + n), WIDTH).reshape(n, WIDTH))
        self.n += n

    def look(self, timeout_ms: int) -> np.ndarray | None:
        if self.waiting:
            return self.waiting.popleft()
        time.sleep(min(timeout_ms, 1) / 1e3)
        return None


def _settle(source: Source) -> None:
    while source.waiting:
        time.sleep(0.001)
    time.sleep(0.02)


def _drain(spill: Spill) -> list[int]:
    seen: list[int] = []
    while (words := spill.take()) is not None:
        assert (words == words[:, :1]).all()
        seen += words[:, 0].tolist()
    return seen


@pytest.mark.parametrize("rounds", [1, 5])
def test_everything_comes_out_once_and_in_order(tmp_path: Path, rounds: int) -> None:
    source, path = Source(), tmp_path / "spill"
    spill = Spill(source.look, WIDTH, path, 1 << 20, memory_entries=50)
    seen = []
    for _ in range(rounds):
        for n in (10, 45, 30, 1_500, 3):
            source.give(n)
        _settle(source)
        seen += _drain(spill)
    assert seen == list(range(source.n))
    assert spill.spilled > 1_000
    assert (spill.lost, path.stat().st_size) == (0, 0)
    spill.close()
    assert not path.exists()


def test_beyond_its_bound_what_is_lost_is_the_newest_and_is_counted(tmp_path: Path) -> None:
    source = Source()
    spill = Spill(source.look, WIDTH, tmp_path / "spill", 8 * WIDTH * 100, memory_entries=50)
    for _ in range(30):
        source.give(10)
    _settle(source)
    assert _drain(spill) == list(range(150))
    assert spill.lost == 150
    source.give(10)
    _settle(source)
    assert _drain(spill) == list(range(300, 310)), "it goes on once there is room"
    spill.close()


def test_a_reader_that_waits_is_woken_by_what_comes(tmp_path: Path) -> None:
    source = Source()
    spill = Spill(source.look, WIDTH, tmp_path / "spill", 1 << 20)
    assert spill.take(5) is None
    source.give(4)
    words = spill.take(10_000)
    assert words is not None
    assert len(words) == 4
    spill.close()
