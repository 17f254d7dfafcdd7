"""A file of documents that others write to while it is read: appended to, replaced, cut, without an end."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from finllm.app import run
from finllm.app.run import Follower
from finllm.domain.evidence import Document
from finllm.runtime.tally import Tally

Reading = Callable[..., "Read"]
NOW = 1_700_000_000_000_000_000


def line(n: int) -> bytes:
    told = {"source": "wire", "ts_published_ns": NOW, "text": f"number {n}", "symbols": ["BTCUSDT"]}
    return json.dumps(told).encode() + b"\n"


class Read:
    """A followed file."""

    def __init__(self, folder: Path, before: bytes = b"") -> None:
        self.path, self.tally = folder / "news.jsonl", Tally()
        if before:
            self.path.write_bytes(before)
        self.follower = Follower(self.path, self.tally)

    def append(self, *parts: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(parts))

    def texts(self) -> list[str]:
        found = list(self.follower.read(NOW))
        assert all(isinstance(one, Document) for one in found)
        return [one.text for one in found if isinstance(one, Document)]


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Make a followed file; it is let go of in the end."""
    with ExitStack() as undo:

        def made(before: bytes = b"") -> Read:
            read = Read(tmp_path, before)
            undo.callback(read.follower.close)
            return read

        yield made


def test_what_is_appended_is_read_once_and_whole(reading: Reading) -> None:
    read = reading(line(0))
    assert read.texts() == []
    read.append(line(1), line(2)[:20])
    assert read.texts() == ["number 1"]
    read.append(line(2)[20:])
    assert read.texts() == ["number 2"]
    assert read.texts() == []


def test_a_file_that_comes_later_is_read_from_its_start(reading: Reading) -> None:
    read = reading()
    assert read.texts() == []
    read.append(line(1))
    assert read.texts() == ["number 1"]


def test_a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_start(reading: Reading) -> None:
    read = reading(line(0))
    read.append(line(1))
    assert read.texts() == ["number 1"]
    read.append(line(2))
    read.path.rename(read.path.with_suffix(".1"))
    read.path.write_bytes(line(3))
    assert read.texts() == ["number 2", "number 3"]
    read.append(line(4))
    assert read.texts() == ["number 4"]
    assert read.tally.noted["documents_file_replaced"] == 1
    assert read.tally.dropped == {}


def test_a_file_that_became_shorter_is_read_anew(reading: Reading) -> None:
    read = reading(line(0))
    read.append(line(1), line(2)[:9])
    assert read.texts() == ["number 1"]
    read.path.write_bytes(line(3))
    assert read.texts() == ["number 3"]
    assert read.tally.noted["documents_file_truncated"] == 1
    assert read.tally.dropped == {"cut_line": 1}


def test_a_line_without_an_end_is_given_up_and_counted(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_LINE", 1_000)
    read = reading()
    read.append(line(1), b"x" * 2_000)
    assert read.texts() == ["number 1"]
    assert read.tally.dropped == {"endless_line": 1}
