"""A gate that learns is replayed to the same bytes: what it learnt comes from the records alone."""

from pathlib import Path

import msgspec
import pytest

from finllm.app.replay import Inputs
from finllm.app.routed import route_run
from finllm.app.settings import Settings, load_settings
from support.replays import Replayed, inputs_of, replayed_into


def learning(chunk: int = 512, workers: int = 0) -> Settings:
    settings = load_settings(None, {"FINLLM_ESCALATION__LEARN": "true"})
    return msgspec.structs.replace(
        settings,
        escalation=msgspec.structs.replace(settings.escalation, call_share=0.6, explore=0.1),
        edge=msgspec.structs.replace(settings.edge, chunk=chunk, workers=workers),
    )


@pytest.fixture(scope="module")
def learnt(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    return replayed_into(
        tmp_path_factory.mktemp("learnt") / "run", inputs_of(synthetic), learning()
    )


@pytest.mark.parametrize(("chunk", "workers"), [(1, 0), (64, 2)])
def test_a_gate_that_learns_gives_the_same_digest_however_it_is_run(
    synthetic: Path, tmp_path: Path, learnt: Replayed, chunk: int, workers: int
) -> None:
    again = replayed_into(tmp_path / "run", inputs_of(synthetic), learning(chunk, workers))
    assert again.summary.digest == learnt.summary.digest


def test_learning_changes_what_is_asked(learnt: Replayed, replayed: Replayed) -> None:
    assert learnt.summary.escalated > 0
    assert learnt.summary.held > 0
    assert learnt.summary.digest != replayed.summary.digest


def test_a_dry_run_says_what_the_gate_would_do_and_why(learnt: Replayed) -> None:
    found = route_run(Path(learnt.summary.run), learning(), 1_000)
    assert found.learns
    assert found.escalated + found.held == learnt.summary.escalated + learnt.summary.held
    asked = [one for one in found.questions if one.escalates]
    assert asked
    assert all(one.tier == "embedded" and one.deadline > one.ts for one in asked)
    assert all(one.reason for one in found.questions)


def test_a_dry_run_by_hand_says_what_the_run_itself_decided(replayed: Replayed) -> None:
    found = route_run(Path(replayed.summary.run), load_settings(None, {}), 1_000)
    assert (found.escalated, found.held) == (replayed.summary.escalated, replayed.summary.held)


def test_a_dry_run_over_bars_asks_the_gates_of_bars(tmp_path: Path) -> None:
    hour, start = 3_600 * 10**9, 1_420_000_000_000_000_000
    bars = ["instrument,ts_start,ts_recv,open,high,low,close,volume"]
    for i in range(120):
        at, price = start + i * hour, 100.0 + (i * 37 % 11) / 10.0
        bars.append(
            f"us-equity:AAPL,{at},{at + hour},{price},{price + 1.0},{price - 1.0},{price},9e5"
        )
    told = (
        "beats estimates as profit rises",
        "sued over patents",
        "opens a plant in Texas",
        "to cut jobs",
    )
    news = [
        {"source": f"wire-{n}", "text": f"Apple {text}", "ts_published_ns": at, "ts_recv_ns": at}
        for i in (40, 70, 100)
        for n, text in enumerate(told)
        if (at := start + i * hour + n * 10**9)
    ]
    (tmp_path / "bars.csv").write_text("\n".join(bars) + "\n")
    (tmp_path / "news.jsonl").write_bytes(
        b"".join(msgspec.json.encode(one) + b"\n" for one in news)
    )
    inputs = Inputs(bars=tmp_path / "bars.csv", documents=tmp_path / "news.jsonl")
    summary = replayed_into(tmp_path / "run", inputs, load_settings(None, {})).summary
    assert summary.escalated > 0
    found = route_run(tmp_path / "run", load_settings(None, {}), 1_000)
    assert (found.escalated, found.held) == (summary.escalated, summary.held)
