"""kill -9 while a ledger is being written: nothing acknowledged is lost."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kill_rounds import kill_rounds, summary


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(8, id="short"),
        pytest.param(200, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_a_killed_writer_loses_nothing_acknowledged(
    rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "support.ledgers", "{folder}", "5", "20000", "25"]
    done = kill_rounds(command, rounds, seed=11, workplace=tmp_path, writing_s=0.8)
    found = summary(done)
    print(json.dumps(found))  # noqa: T201 - the figures of the run
    assert found["failures"] == []
    assert found["killed_after_first_ack"] >= rounds // 4, found
