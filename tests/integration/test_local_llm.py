"""One setting, and a real llama.cpp answers a run's questions; its model's weights are by chance."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from finllm.app.cli import app
from finllm.app.recording import read_completions
from finllm.app.replay import replay
from finllm.app.settings import Settings, load_settings
from finllm.domain.completion import End
from finllm.domain.protocol import Verdict
from finllm.market.synthetic import SyntheticMarket, generate
from support.replays import inputs_of, records_of
from support.tiny_model import make_model

pytestmark = pytest.mark.timeout(300)


def test_a_run_asks_a_models_file_and_its_replay_needs_no_file(tmp_path: Path) -> None:
    model = make_model(tmp_path / "tiny.gguf")
    config = tmp_path / "one.toml"
    config.write_text(f'[reasoning.llm]\ngguf = "{model}"\ndeadline_s = 120.0\n')
    generate(SyntheticMarket(seed=3, duration_s=24.0)).write(tmp_path / "tape")
    inputs = inputs_of(tmp_path / "tape")
    first = replay(inputs, load_settings(config, {}), tmp_path / "first")
    ends = [one.end for one in read_completions(tmp_path / "first").values()]
    assert len(ends) == first.tiers["llm:tiny"]["escalated"] > 0
    assert End.ANSWER in ends
    assert first.incidents.llm_restarts == 0
    verdicts = records_of(tmp_path / "first", Verdict)
    assert any(verdict.reasoner.startswith("llm:tiny+") for verdict in verdicts)
    model.unlink()
    again = replay(
        msgspec.structs.replace(inputs, answers=tmp_path / "first"), Settings(), tmp_path / "again"
    )
    assert again.digest == first.digest


def test_a_check_of_a_models_file_says_what_it_can_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "tiny.gguf")
    config = tmp_path / "one.toml"
    config.write_text("[reasoning.llm]\nmax_tokens = 160\n")
    command = ["llm", "check", str(model), "-n", "2", "--config", str(config), "--json"]
    ended = CliRunner().invoke(app, command)
    told = json.loads(ended.stdout)
    assert ended.exit_code == 0
    assert told["model"] == "tiny"
    assert told["url"] == str(model)
    assert told["schema_modes"]["json_schema"]
    assert told["logprobs"]
    assert capfd.readouterr().out == ""  # of the child as well
