"""Laws of the spill file."""

import os
import resource
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


def test_a_reader_always_a_little_behind_does_not_use_the_file_up(tmp_path: Path) -> None:
    source, path = Source(), tmp_path / "spill"
    spill = Spill(source.look, WIDTH, path, 8 * WIDTH * 2_000, memory_entries=10)
    source.give(1_500)
    _settle(source)
    seen = []
    for _ in range(20):  # a thousand more each time that a thousand are taken: never caught up
        words = spill.take()
        assert words is not None
        seen += words[:, 0].tolist()
        source.give(len(words))
        _settle(source)
        assert path.stat().st_size <= 8 * WIDTH * 2_000
    seen += _drain(spill)
    assert seen == list(range(source.n))
    assert source.n > 5 * 2_000
    assert spill.lost == 0
    spill.close()


def test_what_a_full_disk_takes_is_delivered_and_the_rest_is_counted(tmp_path: Path) -> None:
    source, path = Source(), tmp_path / "spill"
    path.symlink_to("/dev/full")
    spill = Spill(source.look, WIDTH, path, 1 << 20, memory_entries=50)
    for _ in range(3):
        for _ in range(3):
            source.give(30)
        _settle(source)
        assert len(_drain(spill)) == 30, "what was in memory; the next batches were for the file"
    assert (spill.lost, spill.spilled) == (6 * 30, 0)
    spill.close()
    assert not path.is_symlink()


def test_an_entry_that_the_disk_took_in_part_is_lost_whole_and_nothing_shifts(
    tmp_path: Path,
) -> None:
    """A bound on the size of files stands for a disk that fills up and has room again."""
    source, (_, hard) = Source(), resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = 8 * WIDTH * 5_000 + 7
    spill = Spill(source.look, WIDTH, tmp_path / "spill", 1 << 20, memory_entries=10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    try:
        source.give(4_000)
        source.give(4_000)
        _settle(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (spill.spilled, spill.lost) == (5_000, 3_000)
    source.give(100)
    _settle(source)
    assert _drain(spill) == [*range(5_000), *range(8_000, 8_100)]
    assert spill.lost == 3_000
    spill.close()


def test_entries_that_the_file_does_not_give_back_are_counted(tmp_path: Path) -> None:
    source, path = Source(), tmp_path / "spill"
    spill = Spill(source.look, WIDTH, path, 1 << 20, memory_entries=10)
    source.give(3_000)
    _settle(source)
    os.truncate(path, 8 * WIDTH * 1_500 + 5)
    assert _drain(spill) == list(range(1_500))
    assert spill.lost == 1_500
    spill.close()


def test_once_told_to_finish_it_follows_to_the_end_and_no_further(tmp_path: Path) -> None:
    source = Source()
    spill = Spill(source.look, WIDTH, tmp_path / "spill", 1 << 20, memory_entries=50)
    for _ in range(5):
        source.give(100)
    spill.finish(lambda: source.n - 100 * len(source.waiting) >= 500)
    seen: list[int] = []
    while not spill.is_finished:
        words = spill.take(10)
        seen += [] if words is None else words[:, 0].tolist()
    source.give(100)
    assert seen == list(range(500))
    assert spill.take(10) is None
    spill.close()
