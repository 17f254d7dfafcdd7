"""The head survives a write that was cut short, and says when it cannot be trusted."""

from pathlib import Path

import pytest

from finllm.domain.errors import TamperedError
from finllm.ledger.head import EMPTY, SIZE, HeadFile, read_head


def write(path: Path, *counts: int) -> None:
    head = HeadFile(path)
    for count in counts:
        head.write(count, bytes([count]) * 32)
    head.close()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_last_head_written_is_read(tmp_path: Path, n: int) -> None:
    write(tmp_path / "head", *range(1, n + 1))
    head = read_head(tmp_path / "head")
    assert (head.count, head.hash, head.damaged_slots) == (n, f"{n:02x}" * 32, 0)


@pytest.mark.parametrize("byte", [0, 8, 20, 47, 48, 51])
def test_a_torn_slot_leaves_the_head_before_it(tmp_path: Path, byte: int) -> None:
    path = tmp_path / "head"
    write(path, 1, 2, 3)  # 3 stands in the first slot
    content = bytearray(path.read_bytes())
    content[byte] ^= 0x5A
    path.write_bytes(content)
    head = read_head(path)
    assert (head.count, head.damaged_slots) == (2, 1)


def test_a_head_without_a_whole_slot_is_no_head(tmp_path: Path) -> None:
    path = tmp_path / "head"
    with pytest.raises(TamperedError, match="missing"):
        read_head(path)
    for content in (b"", bytes(SIZE), b"x" * SIZE):
        path.write_bytes(content)
        with pytest.raises(TamperedError, match="no whole head"):
            read_head(path)


def test_a_file_cut_short_keeps_the_slot_that_is_left(tmp_path: Path) -> None:
    path = tmp_path / "head"
    write(path, 1)
    path.write_bytes(path.read_bytes()[:60])
    HeadFile(path).close()
    assert read_head(path).count == 1
    assert path.stat().st_size == SIZE


def test_a_reset_puts_the_head_into_both_slots(tmp_path: Path) -> None:
    head = HeadFile(tmp_path / "head")
    head.reset(EMPTY)
    head.close()
    content = (tmp_path / "head").read_bytes()
    assert content[:52] == content[4096 : 4096 + 52]
    assert read_head(tmp_path / "head") == EMPTY
