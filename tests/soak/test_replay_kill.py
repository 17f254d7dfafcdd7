"""kill -9 while a replay is running: the ledger opens, verifies, and holds what was acknowledged."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kill_rounds import kill_rounds, summary

CHILD = Path(__file__).parent / "replay_child.py"


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(3, id="short"),
        pytest.param(200, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(5400)]),
    ],
)
def test_a_killed_replay_loses_nothing_acknowledged(
    rounds: int, tmp_path: Path, synthetic: Path
) -> None:
    tapes = [str(tape) for tape in sorted(synthetic.glob("frames-*"))]
    documents = ["--documents", str(synthetic / "documents.jsonl")]
    command = [sys.executable, str(CHILD), "{folder}", *tapes, *documents]
    done = kill_rounds(command, rounds, seed=23, workplace=tmp_path, writing_s=1.2)
    found = summary(done)
    print(json.dumps(found))  # noqa: T201 - the figures of the run
    assert found["failures"] == []
    assert found["killed_after_first_ack"] >= rounds // 4, found
