"""Verification finds what is not as it was written, and changes nothing."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from finllm.domain.errors import LedgerError, TamperedError
from finllm.domain.forecast import Forecast
from finllm.domain.identity import canonical
from finllm.ledger import rows
from finllm.ledger.chain import GENESIS, link
from finllm.ledger.head import HeadFile
from finllm.ledger.reader import LedgerReader
from finllm.ledger.store import Ledger
from finllm.ledger.verify import verify
from support.ledgers import forecast, work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ledger = Ledger.create(tmp_path / "ledger", group=10)
    work(ledger, 2, 30)
    ledger.close()
    return tmp_path / "ledger"


def forge(folder: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    """Change the database as somebody would who takes the triggers off and puts them back."""
    connection = sqlite3.connect(folder / rows.DB, isolation_level=None)
    for trigger in ("entries_stay", "entries_hold", "entries_follow"):
        connection.execute(f"DROP TRIGGER {trigger}")
    change(connection)
    for statement in rows.SCHEMA[1:]:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def refused(folder: Path) -> bool:
    try:
        Ledger.open(folder).close()
    except TamperedError:
        return True
    return False


def rechained(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Give every entry a hash that fits, as somebody would who knows the chain."""
    last = GENESIS
    entries = connection.execute("SELECT * FROM entries ORDER BY seq").fetchall()
    for seq, kind, entry_id, ts, body, _ in entries:
        last = link(last, seq, kind, entry_id, ts, body)
        connection.execute("UPDATE entries SET hash = ? WHERE seq = ?", (last, seq))
    return len(entries), last


def change_a_body(connection: sqlite3.Connection) -> None:
    body = canonical(forecast(777))
    connection.execute("UPDATE entries SET body = ? WHERE seq = 1", (body,))


def swap_two(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE entries SET seq = -4 WHERE seq = 4")
    connection.execute("UPDATE entries SET seq = 4 WHERE seq = 9")
    connection.execute("UPDATE entries SET seq = 9 WHERE seq = -4")


FORGERIES: dict[str, Callable[[sqlite3.Connection], object]] = {
    "a body changed": change_a_body,
    "a time changed": lambda c: c.execute("UPDATE entries SET ts = ts + 1 WHERE seq = 3"),
    "an id changed": lambda c: c.execute("UPDATE entries SET id = 'x' WHERE seq = 3"),
    "a kind changed": lambda c: c.execute("UPDATE entries SET kind = 'Hold' WHERE seq = 3"),
    "a column of another type": lambda c: c.execute("UPDATE entries SET ts = 1.5 WHERE seq = 3"),
    "two rows swapped": swap_two,
    "the tail deleted": lambda c: c.execute("DELETE FROM entries WHERE seq > 12"),
    "one row of the tail deleted": lambda c: c.execute(
        "DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)"
    ),
    "a row in the middle deleted": lambda c: c.execute("DELETE FROM entries WHERE seq = 5"),
    "all deleted": lambda c: c.execute("DELETE FROM entries"),
    "changed and chained anew": lambda c: (change_a_body(c), rechained(c)),
    "an index slipped in": lambda c: c.execute("CREATE INDEX by_id ON entries (id)"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_found_and_refused(folder: Path, name: str) -> None:
    assert verify(folder).ok
    forge(folder, FORGERIES[name])
    found = verify(folder)
    assert not found.ok
    assert found.failures
    assert refused(folder)


def test_a_failure_names_the_entry(folder: Path) -> None:
    forge(folder, change_a_body)
    first = verify(folder).failures[0]
    assert first.id == f"1 Forecast {forecast(0).forecast_id}"
    assert "chain" in first.why
    entry_id, why = first
    assert (entry_id, why) == (first.id, first.why)


def test_a_dropped_trigger_is_found(folder: Path) -> None:
    connection = sqlite3.connect(folder / rows.DB)
    connection.execute("DROP TRIGGER entries_stay")
    connection.commit()
    connection.close()
    assert not verify(folder).ok


def test_an_older_copy_of_the_database_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / rows.DB, tmp_path / "old.db")
    ledger = Ledger.open(folder)
    work(ledger, 2, 10, start=30)
    ledger.close()
    assert verify(folder).ok
    shutil.copy(tmp_path / "old.db", folder / rows.DB)
    found = verify(folder)
    assert not found.ok
    assert "missing" in found.failures[0].why
    assert refused(folder)


def test_an_older_copy_of_everything_is_found_by_a_head_noted_elsewhere(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "old")
    ledger = Ledger.open(folder)
    early = (ledger.head.count, ledger.head.hash)
    work(ledger, 2, 10, start=30)
    ledger.commit()
    late = (ledger.head.count, ledger.head.hash)
    ledger.close()
    assert verify(folder, anchors=(early, late)).ok
    assert verify(tmp_path / "old", anchors=(early,)).ok
    assert not verify(tmp_path / "old", anchors=(late,)).ok


def test_a_history_rewritten_with_its_head_is_found_by_a_head_noted_elsewhere(folder: Path) -> None:
    ledger = Ledger.open(folder)
    noted = (ledger.head.count, ledger.head.hash)
    ledger.close()
    written: list[tuple[int, bytes]] = []
    forge(folder, lambda c: (change_a_body(c), written.append(rechained(c))))
    head = HeadFile(folder / rows.HEAD)
    head.write(*written[0])
    head.write(*written[0])
    head.close()
    found = verify(folder, anchors=(noted,))
    assert not found.ok


def test_a_head_that_is_missing_or_damaged_is_found(folder: Path) -> None:
    head = (folder / rows.HEAD).read_bytes()
    (folder / rows.HEAD).write_bytes(b"x" * len(head))
    assert not verify(folder).ok
    assert refused(folder)
    (folder / rows.HEAD).unlink()
    assert not verify(folder).ok
    assert refused(folder)


def test_a_missing_or_broken_database_is_found(folder: Path) -> None:
    content = (folder / rows.DB).read_bytes()
    for broken in (b"", content[:5000], b"not a database at all" * 300):
        (folder / rows.DB).write_bytes(broken)
        assert not verify(folder).ok
        assert refused(folder)
    (folder / rows.DB).unlink()
    assert not verify(folder).ok


def test_a_folder_without_a_ledger_is_no_finding_but_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="holds no ledger"):
        verify(tmp_path)


def test_verifying_changes_no_byte_and_works_beside_a_writer(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    ledger = Ledger.create(folder, group=10)
    work(ledger, 2, 30)
    files = [folder / name for name in (rows.DB, rows.DB + "-wal", rows.HEAD)]
    before = [file.read_bytes() for file in files]
    found = verify(folder)
    assert found.ok
    assert found.checked == ledger.head.count > 0
    assert [file.read_bytes() for file in files] == before
    work(ledger, 2, 30, start=30)
    ledger.commit()
    assert verify(folder).checked == ledger.head.count
    ledger.close()


def test_a_ledger_left_by_a_crash_verifies_and_says_what_is_beyond_the_head(
    folder: Path, tmp_path: Path
) -> None:
    ledger = Ledger.open(folder, group=1)
    head = (folder / rows.HEAD).read_bytes()
    count = ledger.head.count
    ledger.open_forecast(forecast(500))
    left = tmp_path / "left"
    left.mkdir()
    for name in (rows.DB, rows.DB + "-wal"):
        shutil.copy(folder / name, left / name)
    (left / rows.HEAD).write_bytes(head)
    ledger.close()
    found = verify(left)
    assert (found.ok, found.checked) == (True, count + 1)
    assert "1 entries beyond" in found.notes[0]


def test_a_read_only_folder_is_read_from_a_copy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(folder)
    work(ledger, 2, 10, start=30)
    ledger.commit()
    names = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr("finllm.runtime.database.os.access", lambda *_: False)
    assert verify(folder).checked == ledger.head.count
    with LedgerReader(folder) as reader:
        assert list(reader.records(Forecast)) == list(ledger.records(Forecast))
    assert sorted(path.name for path in folder.iterdir()) == names
    ledger.close()
