"""Power cuts: files as they were at their last sync, with torn tails. Nothing acknowledged is lost."""

import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from disk_tape import MODES, DiskTape, Event, after_cut, library, recording

from finllm.domain.errors import FinllmError
from finllm.ledger import rows
from finllm.ledger.storage import Storage
from finllm.ledger.store import Ledger
from finllm.ledger.verify import verify
from finllm.runtime.database import connect_for_reading
from support import ledgers

SQLITE = library()
needs_shim = pytest.mark.skipif(
    SQLITE is None, reason="sqlite3 is built into this Python: its writes cannot be recorded"
)
EVERY = rows.connect_for_writing


def eager(path: Path, max_bytes: int | None) -> sqlite3.Connection:
    """Connect as the product does, but checkpoint often, so that cuts fall into checkpoints."""
    connection = EVERY(path, max_bytes)
    connection.execute("PRAGMA wal_autocheckpoint = 24")
    return connection


def record(folder: Path, seed: int, patch: pytest.MonkeyPatch) -> tuple[DiskTape, list[rows.Entry]]:
    """Write, close, reopen and write again, with frequent checkpoints; return tape and entries."""
    patch.setattr(rows, "connect_for_writing", eager)
    assert SQLITE is not None
    with recording(SQLITE) as tape:
        ledger = Ledger.create(folder, group=7, on_commit=tape.acknowledge)
        tape.note("made")
        ledgers.work(ledger, seed, 60)
        ledger.close()
        ledger = Ledger.open(folder, group=11, on_commit=tape.acknowledge)
        ledgers.work(ledger, seed, 60, start=60)
        ledger.close()
    connection = connect_for_reading(folder / rows.DB)
    entries = list(rows.entries(connection))
    connection.close()
    return tape, entries


def cut(
    tape: DiskTape, entries: list[rows.Entry], folder: Path, rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Cut the power once; return what the moment was like, and what is wrong afterwards."""
    made = next(i for i, event in enumerate(tape.events) if event.what == "made")
    at = int(rng.integers(made + 1, len(tape.events) + 1))
    mode = MODES[int(rng.integers(0, len(MODES)))]
    folder.mkdir()
    for name, content in after_cut(tape.events, at, mode, rng).items():
        (folder / name).write_bytes(content)
    acks = [event.ack for event in tape.events[:at] if event.what == "ack"]
    return mode, examine(folder, acks, entries)


def examine(folder: Path, acks: list[tuple[int, str]], entries: list[rows.Entry]) -> list[str]:
    """Return what is wrong with what a cut left: opening, chain, every acknowledged entry."""
    try:
        ledger = Ledger.open(folder, group=5)
        ledgers.work(ledger, 99, 3, start=10_000)
        ledger.close()
        found = verify(folder, anchors=tuple(acks))
    except FinllmError as why:
        return [str(why)]
    connection = connect_for_reading(folder / rows.DB)
    stored = list(rows.entries(connection))
    connection.close()
    wrong = [f"{failure.id}: {failure.why}" for failure in found.failures]
    count = acks[-1][0] if acks else 0
    if stored[:count] != entries[:count]:
        wrong.append(f"the {count} acknowledged entries do not read back the same")
    return wrong


def series(
    rounds: int, seed: int, tmp_path: Path, patch: pytest.MonkeyPatch, tapes: int = 1
) -> tuple[Counter[str], list[str]]:
    """Run cuts over several tapes; return how many in each mode, and everything wrong."""
    rng = np.random.default_rng(seed)
    modes: Counter[str] = Counter()
    wrong: list[str] = []
    for part in range(tapes):
        tape, entries = record(tmp_path / f"tape-{part}", seed + part, patch)
        for i in range(rounds // tapes):
            mode, failures = cut(tape, entries, tmp_path / f"cut-{part}-{i}", rng)
            modes[mode] += 1
            wrong += failures
    return modes, wrong


@needs_shim
@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(20, id="short"),
        pytest.param(200, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_a_power_cut_loses_nothing_acknowledged(
    rounds: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes, wrong = series(rounds, 3, memory_path, monkeypatch, tapes=rounds // 10)
    print(json.dumps({"cuts": modes.total(), "modes": modes, "failures": wrong}))  # noqa: T201 - the figures of the run
    assert wrong == []


@needs_shim
def test_the_tape_holds_checkpoints_and_rebuilds_the_files_as_they_are(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape, _ = record(memory_path / "ledger", 1, monkeypatch)
    files = after_cut(tape.events, len(tape.events), "everything", np.random.default_rng(0))
    for name in (rows.DB, rows.HEAD):
        content = (memory_path / "ledger" / name).read_bytes()
        assert files[name] == content[: len(files[name])], name
        assert not content[len(files[name]) :].strip(b"\0")
    kinds = Counter((event.what, event.file) for event in tape.events)
    assert kinds["sync", rows.DB] > 5, "checkpoints, so that cuts fall into them"
    assert kinds["sync", rows.DB + "-wal"] > 20
    assert kinds["sync", rows.HEAD] > 20


@needs_shim
def test_the_cuts_find_a_ledger_that_does_not_sync(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(path: Path, max_bytes: int | None) -> sqlite3.Connection:
        connection = EVERY(path, max_bytes)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    monkeypatch.setattr(sys.modules[__name__], "eager", careless)
    _, wrong = series(20, 3, memory_path, monkeypatch)
    assert wrong


@needs_shim
def test_the_cuts_find_a_head_that_is_written_too_early(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Storage.store

    def hasty(self: Storage, group: list[rows.Entry], count: int, last_hash: bytes) -> None:
        self._head.write(count, last_hash)
        store(self, group, count, last_hash)

    monkeypatch.setattr(Storage, "store", hasty)
    _, wrong = series(40, 3, memory_path, monkeypatch)
    assert wrong


def test_a_cut_keeps_what_was_synced_and_may_tear_the_rest() -> None:
    events = [
        Event("write", "f", 0, b"a" * 1024),
        Event("sync", "f"),
        Event("write", "f", 0, b"b" * 1024),
    ]
    rng = np.random.default_rng(1)
    assert after_cut(events, 3, "nothing", rng)["f"] == b"a" * 1024
    assert after_cut(events, 3, "everything", rng)["f"] == b"b" * 1024
    seen = {after_cut(events, 3, "any sectors", rng)["f"] for _ in range(50)}
    assert seen == {x * 512 + y * 512 for x in (b"a", b"b") for y in (b"a", b"b")}
