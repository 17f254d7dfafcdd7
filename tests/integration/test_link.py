"""`finllm link`: a recording's moves and documents, joined."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from finllm.app.cli import app
from finllm.app.link_cli import lag_text
from finllm.app.linked import Sources, explained_by, find_document, find_move, link
from finllm.app.reader import load_encoder
from finllm.app.settings import Settings
from finllm.domain.errors import InputError
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.reading.minilm import graph_name
from finllm.narrative.room import NarrativeSettings

HOUR = 3_600_000_000_000
START = 1_420_000_000_000_000_000 // HOUR * HOUR
JUMP = 100


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred and forty hourly bars of AAPL with one jump, and what was written meanwhile."""
    folder = tmp_path_factory.mktemp("linked")
    rng = np.random.default_rng(3)
    lines = ["instrument,ts_start,ts_recv,open,high,low,close,volume"]
    price = 100.0
    for i in range(140):
        opened = price
        price *= 1.0 + float(rng.normal(0.0, 0.001)) + (0.05 if i == JUMP else 0.0)
        high, low = max(opened, price) * 1.0005, min(opened, price) * 0.9995
        volume = 1e6 * float(rng.uniform(0.8, 1.2)) * (9.0 if i == JUMP else 1.0)
        start = START + i * HOUR
        lines.append(
            f"us-equity:AAPL,{start},{start + HOUR},{opened},{high},{low},{price},{volume}"
        )
    (folder / "bars.csv").write_text("\n".join(lines) + "\n")
    told = [
        (JUMP - 40, "Five charts on Apple shares since spring"),
        (JUMP, "Apple beats estimates as quarterly profit rises 45%, shares jump"),
        (JUMP + 30, "Apple hires a new head of research, shares little changed"),
    ]
    rows = [
        {"source": "wire", "text": text, "ts_recv_ns": START + at * HOUR + HOUR // 4}
        | {"ts_published_ns": START + at * HOUR + HOUR // 4}
        for at, text in told
    ]
    (folder / "news.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def sources(recording: Path) -> Sources:
    return Sources(bars=recording / "bars.csv", documents=recording / "news.jsonl")


@pytest.mark.parametrize("which", ["hashing", "auto"])
def test_a_document_leads_to_its_move_and_the_move_back_to_it(recording: Path, which: str) -> None:
    linked = link(sources(recording), Settings(narrative=NarrativeSettings(encoder=which)))
    made = load_encoder(which)
    assert linked.encoder == (made.name if made is not None else HashingEncoder.name)
    move = find_move(linked, "", START + JUMP * HOUR)
    assert move.ts_start == START + JUMP * HOUR
    answer = linked.answer(move)
    assert linked.documents[answer.explanations[0].document_id].text.startswith("Apple beats")
    assert answer.explanations[0].lag_ns == HOUR * 3 // 4
    told = find_document(linked, answer.explanations[0].document_id[:10])
    assert explained_by(linked, told)[0][0].move.move_id == move.move_id
    assert find_move(linked, move.move_id[:12], None) == move


def test_until_hides_what_was_received_later(recording: Path) -> None:
    whole = link(sources(recording), Settings())
    part = link(
        Sources(
            bars=recording / "bars.csv",
            documents=recording / "news.jsonl",
            until=START + (JUMP - 1) * HOUR,
        ),
        Settings(),
    )
    assert part.moves() == [m for m in whole.moves() if m.ts_recv < START + (JUMP - 1) * HOUR]
    assert len(part.documents) == 1


def test_the_command_speaks_json_and_draws_a_page_that_needs_nothing_else(
    recording: Path, tmp_path: Path
) -> None:
    page = tmp_path / "timeline.html"
    ran = CliRunner().invoke(
        app,
        [
            "link",
            *("--bars", str(recording / "bars.csv")),
            *("--documents", str(recording / "news.jsonl")),
            *("--json", "--out", str(page)),
        ],
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["encoder"] in {HashingEncoder.name, graph_name()}
    assert any(one["document"] for one in told["found"])
    drawn = page.read_text()
    assert "<svg" in drawn
    assert "http" not in drawn.replace("http-equiv", "")


def test_what_cannot_be_found_is_met_with_an_error_that_teaches(recording: Path) -> None:
    linked = link(sources(recording), Settings())
    for ask in (lambda: find_document(linked, "zz"), lambda: find_move(linked, "zz", None)):
        with pytest.raises(InputError, match="finllm link"):
            ask()
    for given in (Sources(), Sources(bars=recording / "bars.csv")):
        with pytest.raises(InputError, match=r"there (is no market|are no documents)"):
            link(given, Settings())


def test_a_lag_is_told_with_its_sign() -> None:
    assert lag_text(3_200_000_000) == "+ 3.2 s"
    assert lag_text(-5_400_000_000_000) == "- 1.5 h (the market led)"
