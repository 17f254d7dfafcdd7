"""The ledger keeps what was said, in order, and applies a verdict only where it may."""

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from finllm.domain.errors import LedgerError, TamperedError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.forecast import Forecast, Outcome, Status
from finllm.domain.market import Bar, Gap
from finllm.domain.protocol import Action, Applied, Closing, Hold, Outlook, Revision, Verdict
from finllm.domain.trace import Trace
from finllm.ledger import rows
from finllm.ledger.reader import LedgerReader
from finllm.ledger.store import Ledger
from support.ledgers import MS, T0, forecast, revised, trace, verdict, work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def test_a_verdict_on_the_standing_version_applies(folder: Path) -> None:
    ledger = Ledger.create(folder)
    first = forecast(1)
    ledger.open_forecast(first)
    revision = ledger.revise(verdict(first), T0 + 5 * MS, revised)
    assert revision.applied is Applied.APPLIED
    assert (revision.version, revision.base_version) == (2, 1)
    standing = ledger.latest(first.forecast_id)
    assert standing == revision.forecast
    assert standing is not None
    assert (standing.version, standing.base_version) == (2, 1)
    assert standing.status is Status.REFINED
    assert standing.base == first.base
    assert standing.emitted != first.emitted
    ledger.close()


def test_a_stale_base_is_kept_and_never_applied(folder: Path) -> None:
    ledger = Ledger.create(folder)
    first = forecast(1)
    ledger.open_forecast(first)
    ledger.revise(verdict(first, tag=1), T0 + 5 * MS, revised)
    standing = ledger.latest(first.forecast_id)
    revision = ledger.revise(verdict(first, tag=2), T0 + 6 * MS, revised)
    assert revision.applied is Applied.SUPERSEDED
    assert revision.forecast is None
    assert ledger.latest(first.forecast_id) == standing
    assert [r.applied for r in ledger.records(Revision)] == ["applied", "superseded"]
    ledger.close()


@pytest.mark.parametrize("closed_first", [False, True])
def test_a_late_verdict_is_kept_and_never_applied(folder: Path, *, closed_first: bool) -> None:
    ledger = Ledger.create(folder)
    first = forecast(1)
    ledger.open_forecast(first)
    if closed_first:
        ledger.close_due(first.valid_until)
    revision = ledger.revise(verdict(first), first.valid_until, revised)
    assert revision.applied is Applied.LATE
    assert revision.version == 1
    assert list(ledger.records(Revision)) == [revision]
    ledger.close()


def test_a_verdict_on_a_closed_forecast_is_late_whatever_time_it_claims(folder: Path) -> None:
    ledger = Ledger.create(folder)
    first = forecast(1)
    ledger.open_forecast(first)
    ledger.close_due(first.valid_until)
    revision = ledger.revise(verdict(first), first.valid_until - 1, revised)
    assert revision.applied is Applied.LATE
    ledger.close()


def test_a_verdict_of_a_lower_epoch_never_applies(folder: Path) -> None:
    ledger = Ledger.create(folder)
    first = forecast(1, epoch=2)
    ledger.open_forecast(first)
    revision = ledger.revise(verdict(first, epoch=1), T0 + 5 * MS, revised)
    assert revision.applied is Applied.SUPERSEDED
    ledger.close()


def test_a_higher_epoch_takes_a_forecast_over_and_a_lower_one_is_counted(folder: Path) -> None:
    ledger = Ledger.create(folder)
    ledger.open_forecast(forecast(1, epoch=1))
    ledger.open_forecast(forecast(1, epoch=2))
    ledger.open_forecast(forecast(1, epoch=1))
    ledger.open_forecast(forecast(1, epoch=2))
    standing = ledger.latest(forecast(1).forecast_id)
    assert standing is not None
    assert standing.epoch == 2
    assert (ledger.tally.used, ledger.tally.dropped["already_open"]) == (2, 2)
    assert len(ledger.close_due(standing.valid_until)) == 1
    ledger.close()


def test_a_verdict_about_nothing_is_refused_and_kept(folder: Path) -> None:
    ledger = Ledger.create(folder)
    revision = ledger.revise(verdict(forecast(1)), T0, revised)
    assert (revision.applied, revision.version) == (Applied.REFUSED, 0)
    assert ledger.find(Revision, forecast(1).forecast_id) == revision
    ledger.close()


def test_a_retracted_forecast_stays_retracted_and_ends_expired(folder: Path) -> None:
    ledger = Ledger.create(folder)
    first = forecast(1)
    ledger.open_forecast(first)
    ledger.revise(verdict(first, action=Action.RETRACT), T0 + 5 * MS, revised)
    standing = ledger.latest(first.forecast_id)
    assert standing is not None
    again = ledger.revise(verdict(standing), T0 + 6 * MS, revised)
    assert again.applied is Applied.REFUSED
    (closing,) = ledger.close_due(first.valid_until)
    assert (closing.status, closing.version) == (Status.EXPIRED, 2)
    assert ledger.latest(first.forecast_id) is None
    ledger.close()


def test_forecasts_close_once_in_order_of_deadline_then_id(folder: Path) -> None:
    ledger = Ledger.create(folder)
    made = [forecast(i, lifetime_ns=(10 - i // 2 * 2) * MS) for i in range(6)]
    for one in made:
        ledger.open_forecast(one)
    last = max(one.valid_until for one in made)
    early = ledger.close_due(min(one.valid_until for one in made))
    closings = early + ledger.close_due(last) + ledger.close_due(last)
    order = sorted(made, key=lambda one: (one.valid_until, one.forecast_id))
    assert [c.forecast_id for c in closings] == [one.forecast_id for one in order]
    assert list(ledger.records(Closing)) == closings
    ledger.close()


def test_only_a_speculative_version_1_opens(folder: Path) -> None:
    ledger = Ledger.create(folder)
    for wrong in (
        msgspec.structs.replace(forecast(1), version=2),
        msgspec.structs.replace(forecast(1), status=Status.REFINED),
    ):
        with pytest.raises(LedgerError, match="only a speculative version 1"):
            ledger.open_forecast(wrong)
    assert list(ledger.records(Forecast)) == []
    ledger.close()


def test_a_revision_may_not_touch_what_the_edge_said(folder: Path) -> None:
    ledger = Ledger.create(folder)
    first = forecast(1)
    ledger.open_forecast(first)
    for changes in ({"base": (0.2, 0.2, 0.6)}, {"valid_until": first.valid_until + 1}):
        with pytest.raises(LedgerError, match="would change its"):
            ledger.revise(
                verdict(first),
                T0 + 5 * MS,
                lambda f, _v, _n, c=changes: msgspec.structs.replace(f, **c),
            )
    assert ledger.latest(first.forecast_id) == first
    assert list(ledger.records(Revision)) == []
    ledger.close()


def test_what_the_view_hangs_on_is_written_by_its_own_verb_alone(folder: Path) -> None:
    ledger = Ledger.create(folder)
    with pytest.raises(LedgerError, match="open_forecast"):
        ledger.append(forecast(1))
    bar = Bar(
        instrument="a", ts_start=0, ts_recv=1, open=1.0, high=1.0, low=1.0, close=1.0, volume=0.0
    )
    with pytest.raises(LedgerError, match="keeps no Bar"):
        ledger.append(bar)
    ledger.close()


SOME = (
    verdict(forecast(1)),
    trace(verdict(forecast(1)), 2, T0),
    Outlook(instrument="AAPL", version=3, ts=T0, bands=(), half_life_ns=1, expires=T0 + 1),
    Hold(instrument="AAPL", ts=T0, notice_id="n1", expected_gain=0.0, reason="too late"),
    Refusal(place="news.jsonl:7", ts_recv=T0, reason="undated"),
    Gap(venue="v", instrument="i", ts_recv=T0, from_sequence=1, to_sequence=9, reason="jump"),
    Document(document_id="d1", source="s", ts_published=T0, ts_recv=T0, text="Grüße \U0001f600"),
)


@pytest.mark.parametrize("group", [1, 500])
def test_records_read_back_the_same_committed_or_not(folder: Path, group: int) -> None:
    ledger = Ledger.create(folder, group=group)
    for record in SOME:
        ledger.append(record)
    for record in SOME:
        assert list(ledger.records(type(record))) == [record]
    assert ledger.find(Verdict, SOME[0].verdict_id) == SOME[0]
    assert ledger.find(Outlook, "AAPL/3") == SOME[2]
    assert ledger.find(Trace, "unheard of") is None
    ledger.close()
    with LedgerReader(folder) as reader:
        assert reader.head.count == len(SOME)
        for record in SOME:
            assert list(reader.records(type(record))) == [record]
        assert reader.find(Document, "d1") == SOME[-1]


def test_every_record_is_found_by_its_id_in_a_ledger_that_grows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_MERGE", 100)
    ledger = Ledger.create(folder, group=40)
    for start in range(0, 1_200, 300):
        for i in range(start, start + 300):
            ledger.open_forecast(forecast(i))
        for i in (0, start, start + 1, start + 299):
            assert ledger.find(Forecast, forecast(i).forecast_id) == forecast(i)
    ledger.open_forecast(forecast(7, epoch=2))
    again = ledger.find_all(Forecast, forecast(7).forecast_id)
    assert [one.epoch for one in again] == [1, 2]
    ledger.close()


def test_the_view_and_the_records_are_the_same_after_opening_again(folder: Path) -> None:
    ledger = Ledger.create(folder, group=50)
    work(ledger, 3, 200)
    standing, outcomes = list(ledger.standing), list(ledger.records(Outcome))
    assert standing
    assert outcomes
    ledger.close()
    ledger = Ledger.open(folder)
    assert list(ledger.standing) == standing
    assert list(ledger.records(Outcome)) == outcomes
    ledger.close()


def test_a_group_is_acknowledged_with_count_and_hash_after_it_is_stored(folder: Path) -> None:
    acknowledged: list[tuple[int, str]] = []

    def on_commit(count: int, last_hash: str) -> None:
        with LedgerReader(folder) as reader:
            assert (reader.head.count, reader.head.hash) == (count, last_hash)
            assert len(list(reader.records(Forecast))) == count
        acknowledged.append((count, last_hash))

    ledger = Ledger.create(folder, group=4, on_commit=on_commit)
    for i in range(10):
        ledger.open_forecast(forecast(i))
    assert [count for count, _ in acknowledged] == [4, 8]
    assert ledger.head.count == 8
    ledger.commit()
    ledger.commit()
    assert [count for count, _ in acknowledged] == [4, 8, 10]
    assert ledger.head.hash == acknowledged[-1][1]
    ledger.close()


def test_the_same_records_make_the_same_hash(tmp_path: Path) -> None:
    heads = set()
    for name, group in (("a", 1), ("b", 7), ("c", 500)):
        ledger = Ledger.create(tmp_path / name, group=group)
        work(ledger, 8, 80)
        ledger.commit()
        heads.add(ledger.head.hash)
        ledger.close()
    assert len(heads) == 1


def test_a_second_writer_is_refused(folder: Path) -> None:
    ledger = Ledger.create(folder)
    script = f"""
from pathlib import Path
from finllm.domain.errors import LedgerError
from finllm.ledger.store import Ledger
try:
    Ledger.open(Path({str(folder)!r}))
except LedgerError as why:
    print("refused:", why)
"""
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert child.stdout.startswith("refused:")
    ledger.open_forecast(forecast(1))
    ledger.close()
    Ledger.open(folder).close()


def test_a_ledger_is_made_once_and_opened_only_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    Ledger.create(tmp_path).close()
    with pytest.raises(LedgerError, match="already"):
        Ledger.create(tmp_path)


def test_a_crash_while_the_ledger_is_made_leaves_one_that_opens(folder: Path) -> None:
    Ledger.create(folder).close()
    (folder / rows.DB).unlink()
    Ledger.open(folder).close()
    (folder / rows.DB).write_bytes(b"")
    Ledger.open(folder).close()
    (folder / rows.DB).unlink()
    Ledger.create(folder).close()


def test_entries_beyond_the_head_are_kept(folder: Path) -> None:
    ledger = Ledger.create(folder, group=1)
    ledger.open_forecast(forecast(1))
    head = (folder / rows.HEAD).read_bytes()
    ledger.open_forecast(forecast(2))
    ledger.close()
    (folder / rows.HEAD).write_bytes(head)
    ledger = Ledger.open(folder)
    assert ledger.head.count == 2
    assert len(list(ledger.records(Forecast))) == 2
    ledger.close()


def test_fewer_entries_than_the_head_is_named_and_never_mended(folder: Path) -> None:
    ledger = Ledger.create(folder, group=1)
    for i in range(5):
        ledger.open_forecast(forecast(i))
    ledger.close()
    connection = sqlite3.connect(folder / rows.DB)
    connection.execute("DROP TRIGGER entries_stay")
    connection.execute("DELETE FROM entries WHERE seq > 3")
    connection.execute(rows.SCHEMA[1])
    connection.commit()
    connection.close()
    for _ in range(2):
        with pytest.raises(TamperedError):
            Ledger.open(folder)


def test_no_entry_can_be_changed_deleted_or_slipped_in_by_sql(folder: Path) -> None:
    ledger = Ledger.create(folder, group=1)
    for i in range(5):
        ledger.open_forecast(forecast(i))
    ledger.close()
    connection = sqlite3.connect(folder / rows.DB)
    for statement in (
        "UPDATE entries SET ts = 0 WHERE seq = 2",
        "DELETE FROM entries WHERE seq = 5",
        "INSERT INTO entries VALUES (9, 'Hold', 'x', 0, x'00', x'00')",
        "INSERT OR REPLACE INTO entries VALUES (2, 'Hold', 'x', 0, x'00', x'00')",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="entries are"):
            connection.execute(statement)
    connection.close()


def test_a_full_disk_stops_recording_loudly_and_the_answers_stay_right(folder: Path) -> None:
    told: list[str] = []
    acknowledged: list[int] = []
    ledger = Ledger.create(
        folder,
        group=20,
        max_bytes=100_000,
        on_failure=told.append,
        on_commit=lambda count, _: acknowledged.append(count),
    )
    for i in range(300):
        ledger.open_forecast(forecast(i))
    assert len(told) == 1
    assert "full" in told[0]
    assert ledger.failed == told[0]
    assert ledger.lost == 300 - acknowledged[-1]
    first = ledger.latest(forecast(250).forecast_id)
    assert first is not None
    revision = ledger.revise(verdict(first), T0 + 251 * MS, revised)
    assert revision.applied is Applied.APPLIED
    assert ledger.latest(first.forecast_id) == revision.forecast
    assert len(ledger.close_due(first.valid_until)) == 251
    ledger.close()
    ledger = Ledger.open(folder)
    assert ledger.head.count == acknowledged[-1]
    ledger.close()


def test_a_file_size_limit_stops_recording_and_keeps_what_was_acknowledged(folder: Path) -> None:
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from finllm.ledger.store import Ledger
from support.ledgers import forecast
ledger = Ledger.create(Path({str(folder)!r}), group=20)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, {resource.RLIM_INFINITY}))
for i in range(500):
    ledger.open_forecast(forecast(i))
assert ledger.latest(forecast(499).forecast_id)
print(ledger.head.count, ledger.lost, ledger.failed is not None)
ledger.close()
"""
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    count, lost, failed = child.stdout.split()
    assert failed == "True"
    assert 0 < int(count) < 500
    assert int(count) + int(lost) == 500
    ledger = Ledger.open(folder)
    assert ledger.head.count >= int(count)
    ledger.close()


def test_what_a_group_rests_on_is_put_first(tmp_path: Path) -> None:
    """`before_commit` is called before each group can be read from the disk, and only then."""
    seen: list[int] = []

    def count() -> None:
        with LedgerReader(tmp_path / "ledger") as reader:
            seen.append(sum(1 for _ in reader.records(Forecast)))

    ledger = Ledger.create(tmp_path / "ledger", group=2, before_commit=count)
    for i in range(4):
        ledger.open_forecast(forecast(i))
    assert seen == [0, 2]
    ledger.close()
    assert seen == [0, 2]
