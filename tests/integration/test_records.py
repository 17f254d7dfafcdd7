"""A finished run checked from its files: what is missing, damaged or swapped is found and told."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from finllm.app.recording import newest_run
from finllm.app.records import open_ledger, score_run, story, verify_ledger, verify_traces
from finllm.app.replay import replay
from finllm.app.settings import Settings
from finllm.domain.errors import InputError, TamperedError
from finllm.domain.evidence import Document, EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Revision, Verdict
from finllm.domain.trace import Trace, named
from finllm.ledger import rows
from finllm.ledger.reader import LedgerReader
from support.replays import Replayed, inputs_of


@pytest.fixture
def run(replayed: Replayed, tmp_path: Path) -> Path:
    return Path(shutil.copytree(replayed.run, tmp_path / "run"))


def forge(run: Path, statement: str, *values: str | bytes) -> None:
    """Change the database as somebody would who takes the triggers off and puts them back."""
    connection = sqlite3.connect(run / "ledger" / rows.DB, isolation_level=None)
    for trigger in ("entries_stay", "entries_hold", "entries_follow"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute(statement, values)
    for guard in rows.SCHEMA[1:]:
        connection.execute(guard)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def whys(run: Path) -> str:
    proof = verify_ledger(run)
    assert not proof.ok
    return "\n".join(failure.why for failure in proof.failures)


def cut_journal(run: Path) -> None:
    path = next((run / "journal").glob("run-*.jnl"))
    path.write_bytes(path.read_bytes()[:-40])


def test_a_whole_run_verifies_without_a_note(run: Path) -> None:
    proof = verify_ledger(run)
    assert (proof.ok, proof.failures, proof.notes) == (True, (), ())


def test_an_older_ledger_does_not_pass_with_the_journal_gone(
    run: Path, replayed_bare: Replayed
) -> None:
    shutil.rmtree(run / "ledger")
    shutil.copytree(replayed_bare.run / "ledger", run / "ledger")
    shutil.rmtree(run / "journal")
    assert "noted elsewhere" in whys(run) or "not the entry" in whys(run)


def test_a_run_that_ended_must_have_its_whole_journal(run: Path) -> None:
    cut_journal(run)
    assert "cut short" in whys(run) or "not closed" in whys(run)
    shutil.rmtree(run / "journal")
    assert "no journal" in whys(run)


def test_a_journal_overwritten_within_is_told(run: Path) -> None:
    path = next((run / "journal").glob("run-*.jnl"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "damaged" in whys(run)


def test_a_killed_run_verifies_with_a_note(run: Path) -> None:
    (run / "run.json").unlink()
    cut_journal(run)
    proof = verify_ledger(run)
    assert proof.ok
    assert "cut off" in proof.notes[0]


def test_a_damaged_summary_is_a_failure(run: Path) -> None:
    (run / "run.json").write_text("{")
    assert "run.json" in whys(run)


def test_a_removed_verdict_is_a_failure_that_says_so_and_no_crash(run: Path) -> None:
    checked = verify_traces(run).checked
    forge(run, "DELETE FROM entries WHERE kind = 'Verdict'")
    proof = verify_traces(run)
    assert not proof.ok
    assert proof.checked == checked == len(proof.failures)
    assert all("verdict" in failure.why for failure in proof.failures)
    score_run(run)


@pytest.mark.parametrize("kind", ["Forecast", "Escalate", "EvidencePack", "Document", "Trace"])
def test_a_removed_record_behind_a_revision_is_a_failure(run: Path, kind: str) -> None:
    forge(run, "DELETE FROM entries WHERE kind = ?", kind)
    assert not verify_traces(run).ok


@pytest.mark.parametrize("read", [score_run, verify_traces, lambda run: story(run, "0")])
def test_a_damaged_database_is_told_as_tampered(run: Path, read: Callable[[Path], object]) -> None:
    forge(run, "UPDATE entries SET body = x'c1' WHERE kind = 'Forecast'")
    with pytest.raises(TamperedError, match="body is no Forecast"):
        read(run)
    (run / "ledger" / rows.DB).write_bytes(b"not a database at all" * 500)
    with pytest.raises(TamperedError, match="database"):
        read(run)


def test_a_killed_runs_last_traces_are_missed_in_a_note(run: Path) -> None:
    (run / "run.json").unlink()
    last = "SELECT max(seq) FROM entries WHERE kind = 'Trace'"
    forge(run, f"DELETE FROM entries WHERE seq = ({last})")  # noqa: S608 - a constant
    proof = verify_traces(run)
    assert proof.ok, proof.failures
    assert any(note.startswith("1 traces were not kept") for note in proof.notes)


def test_a_trace_that_is_taken_away_added_or_changed_in_the_ledger_is_found(run: Path) -> None:
    with open_ledger(run) as ledger:
        first = next(iter(ledger.records(Trace)))
    better = msgspec.structs.replace(first.fidelity, agreement=1.0)
    body = msgspec.msgpack.encode(named(msgspec.structs.replace(first, fidelity=better)))
    forge(run, "UPDATE entries SET body = ? WHERE kind = 'Trace' AND id = ?", body, first.trace_id)
    assert any("fidelity" in failure.why for failure in verify_traces(run).failures)
    forge(run, "DELETE FROM entries WHERE kind = 'Trace' AND id = ?", first.trace_id)
    whys = [failure.why for failure in verify_traces(run).failures]
    assert "the revision has no trace" in whys
    assert any("where the summary says" in why for why in whys)


def test_an_unknown_forecast_is_an_error_not_a_proof(run: Path) -> None:
    with pytest.raises(InputError, match="0 forecasts"):
        verify_traces(run, "no such id")


def test_a_forecast_is_proved_by_the_start_of_its_id(run: Path) -> None:
    with open_ledger(run) as ledger:
        applied = [r.forecast_id for r in ledger.records(Revision) if r.forecast is not None]
    proof = verify_traces(run, applied[0][:20])
    assert proof.ok
    assert proof.checked == applied.count(applied[0]) < len(applied)


@pytest.mark.parametrize("whole", [True, False])
def test_a_proof_holds_no_more_than_what_it_proves(
    run: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forecasts, verdicts and documents are looked up, never read one and all."""
    with open_ledger(run) as ledger:
        revised = next(r.forecast_id for r in ledger.records(Revision) if r.forecast is not None)
    records = LedgerReader.records

    def seldom(reader: LedgerReader, kind: type) -> Iterator[object]:
        assert kind not in {Forecast, Verdict, Document, EvidencePack}
        return records(reader, kind)

    monkeypatch.setattr(LedgerReader, "records", seldom)
    proof = verify_traces(run, "" if whole else revised)
    assert proof.ok, proof.failures
    assert story(run, revised).proof.ok


def test_a_revision_filed_under_another_forecast_is_a_failure(run: Path) -> None:
    last = "SELECT max(seq) FROM entries WHERE kind = 'Revision'"
    forge(run, f"UPDATE entries SET id = 'x' WHERE seq = ({last})")  # noqa: S608 - a constant
    assert "filed under their forecast" in verify_traces(run).failures[-1].why


def test_nothing_to_prove_holds_and_says_so(replayed_bare: Replayed) -> None:
    proof = verify_traces(replayed_bare.run)
    assert (proof.ok, proof.checked) == (True, 0)
    assert "no revision" in proof.notes[0]


def test_a_run_that_was_to_write_no_traces_misses_none(synthetic: Path, tmp_path: Path) -> None:
    quiet = msgspec.convert({"reasoning": {"explain": False}}, Settings)
    replay(inputs_of(synthetic), quiet, tmp_path / "run")
    proof = verify_traces(tmp_path / "run")
    assert proof.ok
    assert proof.checked > 0
    assert "no traces" in proof.notes[0]


def test_a_run_that_was_cut_off_is_not_the_newest(run: Path) -> None:
    (run.parent / "later" / "ledger").mkdir(parents=True)
    assert newest_run(run.parent) == run
