"""The command line, as a person or a script meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import Command

MAIN = "from finllm.app.cli import main; main()"


def process(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command as a script does, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", MAIN, *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stderr
    return ran


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("demo")
    ran = process("demo", "--minutes", "0.75", "--speed", "0", "--json", cwd=folder)
    return folder, json.loads(ran.stdout)


def test_the_demo_refines_scores_and_says_what_it_planted(demo: tuple[Path, dict]) -> None:
    _, result = demo
    assert result["summary"]["revisions"]["applied"] > 0
    assert result["summary"]["recording"] == "ok"
    assert result["refined"]
    assert result["truths"]
    horizons = {row["horizon_s"] for row in result["scores"]["rows"] if row["regime"] == "all"}
    assert len(horizons) >= 4


def test_every_trace_of_the_demo_is_proved(demo: tuple[Path, dict], finllm: Command) -> None:
    folder, result = demo
    out, _ = finllm("verify-trace", "--all", result["summary"]["run"], "--json", cwd=folder)
    proof = json.loads(out)
    assert proof["ok"]
    assert proof["failures"] == []
    assert proof["checked"] == result["summary"]["revisions"]["applied"]


def test_the_demo_ledger_verifies(demo: tuple[Path, dict], finllm: Command) -> None:
    folder, result = demo
    out, _ = finllm("ledger", "verify", result["summary"]["run"], "--json", cwd=folder)
    proof = json.loads(out)
    assert proof["ok"]
    assert proof["checked"] == result["summary"]["ledger"]["count"]


def test_a_live_journal_replays_to_the_same_digest(
    demo: tuple[Path, dict], finllm: Command
) -> None:
    folder, result = demo
    journal = folder / result["summary"]["run"] / "journal"
    tapes = [str(path) for path in sorted(journal.glob("frames-*"))]
    documents = next(iter(sorted(journal.glob("documents-*"))))
    out, _ = finllm("replay", *tapes, "--documents", str(documents), "--json", cwd=folder)
    assert json.loads(out)["digest"] == result["summary"]["digest"]


def test_explain_tells_a_refined_forecast_from_first_word_to_outcome(
    demo: tuple[Path, dict], finllm: Command
) -> None:
    folder, result = demo
    out, _ = finllm("explain", result["refined"], "--run", result["summary"]["run"], cwd=folder)
    assert "version 1, the edge's" in out
    assert "version 2" in out
    assert "Shift of the log-odds" in out


def test_explain_tells_the_same_as_text_as_json_and_as_a_page(
    demo: tuple[Path, dict], finllm: Command
) -> None:
    folder, result = demo
    told = {}
    for shape in ("text", "json", "html"):
        words = ("explain", result["refined"], "--run", result["summary"]["run"])
        told[shape], _ = finllm(*words, "--format", shape, cwd=folder)
    story = json.loads(told["json"])
    assert story["first"]["forecast_id"] == result["refined"]
    assert story["proof"]["ok"]
    assert told["html"].startswith("<!doctype html>")
    figures = [s for s in story["traces"][0]["statements"] if s["field"] == "share.shift"]
    for shape in ("text", "html"):
        assert f"{figures[0]['number']:+.4f}" in told[shape]
        assert story["traces"][0]["headline"] in told[shape].replace("\n", " ")


def test_a_missing_tape_is_an_error_that_names_it(tmp_path: Path) -> None:
    ran = process("replay", "nowhere.ndjson", cwd=tmp_path, code=2)
    assert "nowhere.ndjson" in ran.stderr


def test_nothing_to_replay_is_an_error_with_a_mend(finllm: Command, tmp_path: Path) -> None:
    _, err = finllm("replay", cwd=tmp_path, code=2)
    assert "--bars" in err


def test_a_misspelt_setting_names_the_nearest_right_one(finllm: Command, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[record]\ngrid_mss = 50\n")
    _, err = finllm("replay", "x", "--config", "my.toml", cwd=tmp_path, code=2)
    assert "grid_ms" in err
    assert "my.toml" in err


def test_an_unreadable_instant_is_an_error_with_an_example(finllm: Command, tmp_path: Path) -> None:
    _, err = finllm("replay", "x", "--from", "yesterday", cwd=tmp_path, code=2)
    assert "2024-08-08" in err


def test_a_folder_without_a_run_is_an_error(finllm: Command, tmp_path: Path) -> None:
    _, err = finllm("score", str(tmp_path), cwd=tmp_path, code=2)
    assert "holds no run" in err


@pytest.mark.parametrize("command", ["demo", "replay", "score", "explain", "verify-trace", "warm"])
def test_every_command_has_help(command: str, finllm: Command, tmp_path: Path) -> None:
    out, _ = finllm(command, "--help", cwd=tmp_path)
    assert "Usage" in out
    assert len(out) > 300


def okx_lines(*numbers: int) -> str:
    rows = [[str(100 - i), "5"] for i in range(8)]
    lines = []
    for number in numbers:
        data = {"bids": rows, "asks": [["101", "5"]], "ts": "1700000000000"}
        data |= {"seqId": number, "prevSeqId": number - 1}
        message = {"arg": {"channel": "books", "instId": "BTC-USDT"}, "data": [data]}
        message["action"] = "update" if number > 1 else "snapshot"
        lines.append(f"{1_700_000_000 + number}.5: {json.dumps(message)}")
    return "\n".join(lines) + "\n"


def test_a_feed_check_passes_or_names_the_line_to_mend(finllm: Command, tmp_path: Path) -> None:
    (tmp_path / "sound").write_text(okx_lines(1, 2, 3))
    report = json.loads(finllm("feed", "check", "sound", "--json", cwd=tmp_path)[0])
    assert report["ok"]
    assert report["streams"][0]["rows"] == {"depth": 3}
    assert "pass" in finllm("feed", "check", "sound", cwd=tmp_path)[0]
    (tmp_path / "torn").write_text(okx_lines(1, 3))
    assert "torn:2" in finllm("feed", "check", "torn", cwd=tmp_path, code=1)[0]
    _, told = finllm("feed", "check", "torn", "--venue", "krakn", cwd=tmp_path, code=2)
    assert "Known: binance" in told


def test_a_capture_of_another_venue_replays(finllm: Command, tmp_path: Path) -> None:
    (tmp_path / "okx").write_text(okx_lines(1, 2, 3))
    summary = json.loads(finllm("replay", "okx", "--json", "--out", "run", cwd=tmp_path)[0])
    assert summary["frames"]["used"] == 3
    assert summary["rows"] == 3
