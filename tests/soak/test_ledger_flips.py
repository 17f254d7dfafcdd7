"""Tampering: one byte changed anywhere in database or WAL is found, or changes no record."""

import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from finllm.domain.errors import FinllmError
from finllm.ledger import rows
from finllm.ledger.store import Ledger
from finllm.ledger.verify import verify
from finllm.runtime.database import connect_for_reading
from support import ledgers

WAL = rows.DB + "-wal"


def stored(folder: Path) -> list[rows.Entry]:
    connection = connect_for_reading(folder / rows.DB)
    try:
        return list(rows.entries(connection))
    finally:
        connection.close()


def half_checkpointed(folder: Path) -> dict[str, bytes]:
    """Return the files of a ledger whose entries stand partly in the database, partly in the WAL."""
    ledger = Ledger.create(folder, group=20)
    ledgers.work(ledger, 4, 60)
    ledger._storage.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    ledgers.work(ledger, 5, 60, start=60)
    ledger.commit()
    files = {name: (folder / name).read_bytes() for name in (rows.DB, WAL, rows.HEAD)}
    ledger.close()
    return files


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def fate(folder: Path, entries: list[rows.Entry]) -> str:
    """Return what became of a change: found, or identical; anything else is a failure."""
    seen = verify(folder)
    if not seen.ok:
        return "found"
    if stored(folder) != entries:
        return "MISSED"
    try:
        ledger = Ledger.open(folder)
    except FinllmError:
        return "identical, yet refused"
    same = ledger.head.count == len(entries)
    ledger.close()
    return "identical" if same else "LOST ON OPENING"


@pytest.mark.parametrize(
    "flips",
    [
        pytest.param(100, id="short"),
        pytest.param(1000, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_a_flipped_byte_is_found_or_changes_no_record(flips: int, memory_path: Path) -> None:
    files = half_checkpointed(memory_path / "ledger")
    lay_out(files, memory_path / "flipped")
    entries = stored(memory_path / "flipped")
    assert fate(memory_path / "flipped", entries) == "identical"
    rng = np.random.default_rng(6)
    counts: Counter[str] = Counter()
    for i in range(flips):
        name = (rows.DB, WAL)[i % 2]
        content = bytearray(files[name])
        content[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
        lay_out(files | {name: bytes(content)}, memory_path / "flipped")
        counts[f"{name}: {fate(memory_path / 'flipped', entries)}"] += 1
    print(json.dumps(counts))  # noqa: T201 - the figures of the run
    assert {key.split(": ")[1] for key in counts} <= {"found", "identical"}, counts
    assert counts[f"{rows.DB}: found"] > flips // 4
    assert counts[f"{WAL}: found"] > flips // 4


def test_without_the_head_kept_apart_a_cut_wal_would_pass(memory_path: Path) -> None:
    files = half_checkpointed(memory_path / "ledger")
    wal = bytearray(files[WAL])
    wal[40] ^= 1  # in the first frame: SQLite quietly drops it and everything after
    lay_out(files | {WAL: bytes(wal)}, memory_path / "cut")
    connection = sqlite3.connect(memory_path / "cut" / rows.DB)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    lay_out(files | {WAL: bytes(wal)}, memory_path / "cut")
    assert not verify(memory_path / "cut").ok
