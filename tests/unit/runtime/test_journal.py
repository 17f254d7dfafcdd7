"""A journal gives back what it was given, says where it is damaged, and never stops its caller."""

import gzip
import resource
import subprocess
import sys
import tempfile
import time
from io import FileIO
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from finllm.domain.errors import InputError, TamperedError
from finllm.runtime.files import Bounds, Opener, new_file, segments
from finllm.runtime.journal import Journal, LineJournal, fingerprint, read_journal

Record = tuple[int, int, bytes]


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    return memory_path


def written(folder: Path, n: int = 50, **bounds: int) -> list[Record]:
    journal = Journal.create(folder, name="input", **bounds)
    records = [
        (journal.append(i % 5, payload), i % 5, payload) for i, payload in enumerate(payloads(n))
    ]
    journal.close()
    return records


def payloads(n: int) -> list[bytes]:
    return [f"payload {i} ".encode() * (i % 7) for i in range(n)]


def test_records_come_back_in_order_with_their_numbers(tmp_path: Path) -> None:
    records = written(tmp_path)
    reader = read_journal(tmp_path, "input")
    assert list(reader) == records
    assert [seq for seq, _, _ in records] == list(range(1, 51))
    assert (reader.torn, reader.ended, reader.first_seq) == (None, True, 1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 65_534), st.binary(max_size=300)), max_size=40),
    st.integers(1, 600),
    st.integers(1, 2_000),
)
def test_any_records_come_back_however_they_are_cut_up(
    made: list[tuple[int, bytes]], batch_bytes: int, rotate_bytes: int
) -> None:
    shm = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        journal = Journal.create(
            Path(folder), name="j", batch_bytes=batch_bytes, rotate_bytes=rotate_bytes
        )
        for i, (kind, payload) in enumerate(made):
            assert journal.append(kind, payload) == i + 1
            if i % 3 == 0:
                journal.flush()
        journal.close()
        reader = read_journal(Path(folder), "j")
        assert [(kind, payload) for _, kind, payload in reader] == made
        assert reader.ended


def test_a_header_says_what_wrote_it(tmp_path: Path) -> None:
    written(tmp_path)
    reader = read_journal(tmp_path, "input")
    list(reader)
    (header,) = reader.headers
    assert (header.format, header.name, header.segment) == (1, "input", 1)
    assert header.fingerprint == fingerprint()
    assert set(header.fingerprint) == {
        *("python", "machine", "cpu", "msgspec", "numba", "numpy", "onnxruntime")
    }


def test_flushed_records_can_be_read_while_it_is_open(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, name="input")
    journal.append(1, b"one")
    assert list(read_journal(tmp_path, "input")) == []
    journal.flush()
    reader = read_journal(tmp_path, "input")
    assert list(reader) == [(1, 1, b"one")]
    assert (reader.ended, reader.torn) == (False, None)
    journal.close()


def test_batches_are_bounded(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, name="input", batch_bytes=1_000)
    for _ in range(100):
        journal.append(1, b"x" * 90)
    held = 100 - len(list(read_journal(tmp_path, "input")))
    assert 0 <= held < 10
    journal.close()


def test_closed_segments_are_compressed_and_read_on(tmp_path: Path) -> None:
    records = written(tmp_path, n=400, batch_bytes=500, rotate_bytes=4_000)
    paths = segments(tmp_path, "input", ".jnl")
    assert len(paths) > 4
    assert all(path.suffix == ".gz" for path in paths[:-1])
    assert list(read_journal(tmp_path, "input")) == records


def after_compression(path: Path) -> FileIO:
    """Open a segment once no earlier one is left to compress."""
    deadline = time.monotonic() + 5.0
    while list(path.parent.glob("*.jnl")) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.005)  # the oldest are deleted after that
    return new_file(path)


@pytest.mark.parametrize("opener", [new_file, after_compression])
def test_the_oldest_segments_go_beyond_the_bound_and_are_counted(
    tmp_path: Path, opener: Opener
) -> None:
    journal = Journal.create(
        tmp_path,
        name="input",
        batch_bytes=500,
        rotate_bytes=4_000,
        retain_bytes=2_000,
        opener=opener,
    )
    for i in range(2_000):
        journal.append(1, b"%d" % i * 10)
    journal.close()
    assert journal.deleted_segments > 0
    paths = segments(tmp_path, "input", ".jnl")
    assert sum(path.stat().st_size for path in paths[:-1]) <= 2_000
    reader = read_journal(tmp_path, "input")
    left = [seq for seq, _, _ in reader]
    assert left == list(range(reader.first_seq, 2_001))
    assert reader.first_seq > 1


@pytest.mark.parametrize("tail", ["cut", "zeros", "garbage"])
def test_a_torn_tail_is_borne_and_reported(tmp_path: Path, tail: str) -> None:
    records = written(tmp_path)
    (path,) = segments(tmp_path, "input", ".jnl")
    content = path.read_bytes()
    for cut in range(len(content) - 60, len(content)):
        rest = len(content) - cut
        more = {"cut": b"", "zeros": bytes(rest), "garbage": b"\xa5" * rest}[tail]
        path.write_bytes(content[:cut] + more)
        reader = read_journal(tmp_path, "input")
        back = list(reader)
        assert back == records[: len(back)]
        assert len(back) >= len(records) - 2
        assert not reader.ended
        assert reader.torn is None or (str(path) in reader.torn and "offset" in reader.torn)
        assert reader.torn is not None or tail == "cut"  # a cut between two records is no tear


def test_damage_in_the_middle_names_segment_and_offset(tmp_path: Path) -> None:
    written(tmp_path)
    (path,) = segments(tmp_path, "input", ".jnl")
    content = path.read_bytes()
    start = content.index(b"payload 1 ")
    for at in range(start, content.index(b"payload 40 "), 7):
        changed = bytearray(content)
        changed[at] ^= 0x10
        path.write_bytes(bytes(changed))
        with pytest.raises(TamperedError, match=rf"{path.name} at offset \d+: record \d+"):
            list(read_journal(tmp_path, "input"))


def test_a_missing_segment_or_a_damaged_closed_one_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, n=400, batch_bytes=500, rotate_bytes=4_000)
    paths = segments(tmp_path, "input", ".jnl")
    packed = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(TamperedError, match="is missing"):
        list(read_journal(tmp_path, "input"))
    with gzip.open(paths[1], "wb") as file:
        file.write(gzip.decompress(packed)[:-5])
    with pytest.raises(TamperedError, match="later segments follow"):
        list(read_journal(tmp_path, "input"))
    paths[1].write_bytes(packed[:-30])
    with pytest.raises(InputError, match="damaged"):
        list(read_journal(tmp_path, "input"))


def test_another_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finllm.runtime.journal.FORMAT", 2)
    written(tmp_path)
    monkeypatch.undo()
    with pytest.raises(InputError, match="journal format 2, this version reads 1"):
        list(read_journal(tmp_path, "input"))


def test_a_journal_is_made_once_and_read_only_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no journal named input"):
        read_journal(tmp_path, "input")
    written(tmp_path)
    with pytest.raises(InputError, match="already there"):
        Journal.create(tmp_path, name="input")
    Journal.create(tmp_path, name="input-2").close()
    assert len(segments(tmp_path, "input", ".jnl")) == 1


def test_a_full_device_stops_recording_loudly_once_and_the_caller_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    opened: list[Path] = []

    def opener(path: Path) -> FileIO:
        opened.append(path)
        return FileIO("/dev/full", "w")

    journal = Journal.create(tmp_path, name="input", opener=opener, on_failure=told.append)
    assert [journal.append(1, b"x") for _ in range(100)] == list(range(1, 101))
    journal.flush()
    journal.sync()
    journal.close()
    assert journal.failed == told[0]
    assert "No space left" in told[0]
    assert (len(told), len(opened), journal.lost) == (1, 1, 100)


def test_a_limit_on_file_size_leaves_whole_records_and_counts_the_rest(tmp_path: Path) -> None:
    script = f"""
import resource
from pathlib import Path
from finllm.runtime.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY}))
told = []
journal = Journal.create(
    Path({str(tmp_path)!r}), name="input", batch_bytes=3_000, on_failure=told.append
)
for i in range(1000):
    journal.append(1, b"%06d" % i * 10)
journal.close()
print(journal.lost, len(told), "too large" in told[0])
"""
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lost, told, named = child.stdout.split()
    assert (told, named) == ("1", "True")
    reader = read_journal(tmp_path, "input")
    assert [seq for seq, _, _ in reader] == list(range(1, 1_001 - int(lost)))
    assert reader.torn is None
    assert 0 < int(lost) < 1_000


def test_a_killed_writer_leaves_every_flushed_record(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from finllm.runtime.journal import Journal
journal = Journal.create(Path({str(tmp_path)!r}), name="input", batch_bytes=1_000)
for i in range(500):
    journal.append(1, b"%06d" % i * 10)
journal.flush()
journal.append(1, b"in the batch")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    reader = read_journal(tmp_path, "input")
    assert len(list(reader)) == 500
    assert not reader.ended


def test_frames_are_lines_of_time_and_json(tmp_path: Path) -> None:
    lines = LineJournal.create(tmp_path, source="binance.usdm")
    lines.append(1_700_000_000_000_000_001, b'{"a": 1}')
    lines.append(1_700_000_000_000_000_002, b'{"a":\r\n 2}')
    lines.close()
    (path,) = segments(tmp_path, "binance.usdm", ".txt")
    assert path.read_bytes() == (b'1700000000000000001 {"a": 1}\n1700000000000000002 {"a":   2}\n')


def test_lines_rotate_and_fail_like_journals(tmp_path: Path) -> None:
    lines = LineJournal.create(
        tmp_path, source="a", bounds=Bounds(rotate_bytes=1_000, batch_bytes=100)
    )
    for i in range(200):
        lines.append(i, b"{}")
    lines.close()
    paths = segments(tmp_path, "a", ".txt")
    assert len(paths) > 1
    text = b"".join(
        gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in paths
    )
    assert text == b"".join(b"%d {}\n" % i for i in range(200))
    full = LineJournal.create(tmp_path, source="b", opener=lambda _: FileIO("/dev/full", "w"))
    full.append(1, b"{}")
    full.close()
    assert full.failed is not None
    assert full.lost == 1
