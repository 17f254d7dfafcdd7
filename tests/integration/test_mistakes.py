"""What a person gets wrong: told by name before anything is written, and nothing is left in the way."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import finllm.app.replay as replaying
from finllm.app.cli import main
from finllm.app.replay import Inputs, replay
from finllm.app.settings import Settings
from finllm.domain.errors import InputError, LedgerError
from finllm.domain.units import iso
from support.replays import Replayed, tapes_of

HEADER = "instrument,ts_start,ts_recv,open,high,low,close,volume"
HOUR = 3_600_000_000_000
T0 = 400_000 * HOUR


def bar_file(path: Path, rows: list[tuple[str, int, float]]) -> Path:
    """Write bars: symbol, hours after T0, price."""
    lines = [
        f"us-equity:{symbol},{T0 + at * HOUR},{T0 + (at + 1) * HOUR},{p},{p},{p},{p},100"
        for symbol, at, p in rows
    ]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    rows = [(s, i, 100 + i % 7) for i in range(60) for s in ("AAPL", "BAC")]
    return bar_file(tmp_path / "bars.csv", rows)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command in this process; return its exit status and what it told."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["finllm", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out + told.err

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("nowhere.gz",),
        ("--bars", "nowhere.csv"),
        ("--bars", "bars.csv", "--documents", "nowhere.jsonl"),
        ("--bars", "bars.csv", "--symbol", "XYZ"),
        ("--bars", "bars.csv", "--until", "1999-01-01"),
        ("--bars", "bars.csv", "--from", "2100-01-01"),
        ("tape", "--symbol", "AAPL"),
    ],
)
def test_a_mistaken_replay_leaves_its_folder_free(
    command: Callable[..., tuple[int, str]], bars: Path, words: tuple[str, ...]
) -> None:
    (bars.parent / "tape").write_text(f"{T0} {{}}\n")
    assert command("replay", *words, "--out", "mine")[0] == 2
    status, _ = command("replay", "--bars", bars, "--out", "mine", "--json")
    assert status == 0
    assert command("replay", *words)[0] == 2
    assert not list(Path("runs").glob("*"))


def test_a_file_named_as_the_run_folder_is_told(
    command: Callable[..., tuple[int, str]], bars: Path
) -> None:
    status, told = command("replay", "--bars", bars, "--out", bars)
    assert status == 2
    assert "cannot hold a run" in told.replace("\n", " ")


def test_a_symbol_that_a_file_lacks_is_told_with_those_that_it_has(
    bars: Path, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(InputError, match=r"no bars of XYZ.*AAPL, BAC"):
        replay(Inputs(bars=bars, symbols=frozenset({"AAPL", "XYZ"})), settings, tmp_path / "run")


def test_times_that_leave_nothing_are_told_with_those_that_there_were(
    bars: Path, synthetic: Path, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(InputError, match=f"120 after_until.*{iso(T0 + HOUR)}"):
        replay(Inputs(bars=bars, until=T0), settings, tmp_path / "one")
    with pytest.raises(InputError, match=f"the last at {iso(T0 + 60 * HOUR)}"):
        replay(Inputs(bars=bars, since=T0 + 100 * HOUR), settings, tmp_path / "two")
    with pytest.raises(InputError, match="after_until"):
        replay(Inputs(tapes=(min(synthetic.glob("frames-*")),), until=1), settings, tmp_path / "x")


def test_a_tape_of_nothing_usable_says_what_became_of_it(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "tape").write_text("what\nis this\n")
    with pytest.raises(InputError, match=r"2 broken_time, the first: .*tape:1"):
        replay(Inputs(tapes=(tmp_path / "tape",)), settings, tmp_path / "run")


def test_bars_that_features_refuse_are_dropped_with_their_reason(
    tmp_path: Path, settings: Settings
) -> None:
    rows = [("AAPL", i, 100.0) for i in range(40)]
    rows[20] = ("AAPL", 20, 2e9)
    path = bar_file(tmp_path / "bars.csv", rows)
    with path.open("a") as file:  # received later, yet begun no later than the one before it
        file.write(f"us-equity:AAPL,{T0 + 39 * HOUR},{T0 + 41 * HOUR},1,1,1,1,1\n")
    summary = replay(Inputs(bars=path), settings, tmp_path / "run")
    assert summary.bars.dropped == {"price_out_of_bounds": 1, "not_later": 1}
    assert (summary.bars.read, summary.bars.used) == (41, 39)
    assert iso(T0 + 20 * HOUR) in summary.bars.places["price_out_of_bounds"]


def test_split_factors_that_are_no_text_name_their_file(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "b.csv").write_text(
        "symbol,bar_start_ny,open,high,low,close,volume\nAAPL,2014-01-02 10:00,1,1,1,1,1\n"
    )
    (tmp_path / "split_factors").mkdir()
    (tmp_path / "split_factors" / "aapl.csv").write_bytes(b"\xff\xfe2014")
    with pytest.raises(InputError, match=r"aapl\.csv"):
        replay(Inputs(bars=tmp_path / "b.csv"), settings, tmp_path / "run")


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_full_at_the_start_is_told(
    bars: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finllm.runtime.files.os.pwrite", full)
    with pytest.raises(LedgerError, match="No space left"):
        replay(Inputs(bars=bars), settings, tmp_path / "run")


def test_a_recording_that_fails_in_several_files_is_told_once(
    bars: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("finllm.runtime.files.write_all", full)
    small = msgspec.structs.replace(settings, ledger=type(settings.ledger)(max_mb=1, group=1))
    monkeypatch.setattr("finllm.ledger.storage.Storage.store", full)
    summary = replay(Inputs(bars=bars), small, tmp_path / "run", on_failure=told.append)
    assert len(told) == 1
    assert "No space left" in summary.recording
    assert summary.incidents.lost_records > summary.forecasts > 0


def test_a_failure_as_the_run_closes_is_in_its_summary(
    bars: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of the journal is handed over as it is closed."""
    real = replaying.Pipeline.finish

    def then_full(pipeline: replaying.Pipeline) -> None:
        real(pipeline)
        monkeypatch.setattr("finllm.runtime.files.write_all", full)

    monkeypatch.setattr(replaying.Pipeline, "finish", then_full)
    summary = replay(Inputs(bars=bars), settings, tmp_path / "run")
    assert "No space left" in summary.recording


def test_a_summary_that_cannot_be_written_does_not_lose_the_digest(
    bars: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replay(Inputs(bars=bars), settings, tmp_path / "one")
    monkeypatch.setattr(Path, "write_bytes", full)
    told: list[str] = []
    summary = replay(Inputs(bars=bars), settings, tmp_path / "two", on_failure=told.append)
    assert summary.digest == whole.digest
    assert "run.json" in summary.recording == told[0]


def test_a_dropped_frame_is_shown_by_file_and_line(
    replayed_bare: Replayed, synthetic: Path, tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "tape").write_bytes(b"1700000000000000000 {}\n" * 3)
    other = replay(Inputs(tapes=(tmp_path / "tape",)), settings, tmp_path / "other")
    assert other.frames.places == {"unknown_stream": f"{tmp_path / 'tape'}:1"}
    tapes = {str(tape) for tape in tapes_of(synthetic)}
    places = replayed_bare.summary.frames.places
    assert {place.rpartition(":")[0] for place in places.values()} <= tapes
