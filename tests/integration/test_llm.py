"""A run that asks a language model, and its replay with the endpoint gone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from finllm.app.cli import app
from finllm.app.recording import Recorder, read_completions, read_start
from finllm.app.records import verify_traces
from finllm.app.replay import Inputs, replay
from finllm.app.settings import (
    ReasoningSettings,
    Settings,
    load_settings,
    secret,
)
from finllm.app.tiers import TierSettings
from finllm.domain.completion import End
from finllm.domain.errors import SettingsError
from finllm.domain.protocol import Verdict
from finllm.ledger.store import Ledger
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.llm.wire import MODES
from support.endpoint import Endpoint, Play, Request, answer, delta, plays
from support.live import run_told
from support.replays import inputs_of, records_of

pytestmark = pytest.mark.timeout(300)
MIXED = ("right", "free_text", "cut", "unknown_id", "schema_400", "right", "wrong_once")


def mixed() -> Play:
    """Return what plays one behaviour after the other, by the question's turn."""
    known = plays()

    async def play(request: Request) -> None:
        name = MIXED[len(request.endpoint.requests) % len(MIXED)]
        await known[name](request)

    return play


def asking(url: str, **changes: object) -> Settings:
    llm = LlmSettings(base_url=url, model="tiny", deadline_s=20.0, retry_s=0.01)
    return Settings(
        reasoning=ReasoningSettings(llm=msgspec.structs.replace(llm, **changes)),
        tier=(TierSettings(reasoner="llm"),),
    )


def test_a_replay_needs_no_endpoint(tmp_path: Path) -> None:
    generate(SyntheticMarket(seed=3, duration_s=36.0)).write(tmp_path / "tape")
    inputs = inputs_of(tmp_path / "tape")
    with Endpoint(mixed()) as endpoint:
        settings = asking(endpoint.url)
        first = replay(inputs, settings, tmp_path / "first")
    completions = read_completions(tmp_path / "first")
    assert len(completions) == first.escalated > 0
    assert {End.ANSWER} < {one.end for one in completions.values()}
    verdicts = records_of(tmp_path / "first", Verdict)
    assert {v.reasoner.partition(":")[0] for v in verdicts} == {"llm", "embedded"}
    assert all(bool(v.fallback) == v.reasoner.startswith("embedded") for v in verdicts)
    proof = verify_traces(tmp_path / "first")
    assert proof.ok, proof.failures
    again = replay(
        msgspec.structs.replace(inputs, answers=tmp_path / "first"), Settings(), tmp_path / "again"
    )
    assert again.digest == first.digest
    assert read_completions(tmp_path / "again") == completions
    plain = replay(inputs, Settings(), tmp_path / "plain")
    assert plain.digest != first.digest
    other = msgspec.structs.replace(inputs, answers=tmp_path / "plain")
    assert replay(other, Settings(), tmp_path / "other").digest == plain.digest


def test_a_live_run_with_a_language_model_replays_to_its_own_digest(tmp_path: Path) -> None:
    with Endpoint(mixed()) as endpoint:
        settings = asking(endpoint.url)
        summary = run_told(tmp_path, settings, applied=3)
        assert endpoint.requests
    assert summary.escalated > 0
    start = read_start(tmp_path / "run")
    assert start is not None
    assert start.llm == settings.reasoning.llm
    ends = read_completions(tmp_path / "run")
    assert len(ends) == summary.escalated
    again = replay(Inputs(tapes=(tmp_path / "run",)), Settings(), tmp_path / "again")
    assert again.digest == summary.digest
    assert again.revisions == summary.revisions
    assert again.incidents.cancelled_questions == summary.incidents.cancelled_questions


def test_one_part_that_fails_to_close_keeps_no_other_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[type] = []

    def fails(_: LlmReasoner) -> None:
        raise OSError("it will not close")

    def noting(kind: Any) -> None:
        close = kind.close

        def noted(one: Any) -> None:
            closed.append(kind)
            close(one)

        monkeypatch.setattr(kind, "close", noted)

    monkeypatch.setattr(LlmReasoner, "close", fails)
    noting(Ledger)
    noting(Recorder)
    generate(SyntheticMarket(seed=3, duration_s=4.0)).write(tmp_path / "tape")
    with Endpoint(mixed()) as endpoint, pytest.raises(OSError, match="will not close"):
        replay(inputs_of(tmp_path / "tape"), asking(endpoint.url), tmp_path / "run")
    assert closed == [Ledger, Recorder]


def test_its_table_is_read_and_a_misspelt_key_in_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text('[reasoning.llm]\nbase_url = "http://h:1/v1"\nmodel = "m"\n')
    told = load_settings(path, {"FINLLM_REASONING__LLM__MAX_TOKENS": "99"}).reasoning.llm
    assert (told.base_url, told.model, told.max_tokens) == ("http://h:1/v1", "m", 99)
    path.write_text('[reasoning.llm]\nbase_uri = "http://h:1/v1"\n')
    with pytest.raises(SettingsError, match="base_url"):
        load_settings(path, {})
    path.write_text('[reasoning]\nllm = "http://h:1/v1"\n')
    with pytest.raises(SettingsError, match="table"):
        load_settings(path, {})


@pytest.mark.parametrize(
    "line",
    [
        'base_url = "ftp://h/v1"\nmodel = "m"',
        'base_url = "http://u:p@h/v1"\nmodel = "m"',
        'base_url = "http://h/v1"',
        'api_key_env = "sk-this-is-a-key"',
    ],
)
def test_what_cannot_be_asked_stops_the_start(line: str, tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(f"[reasoning.llm]\n{line}\n")
    with pytest.raises(SettingsError) as told:
        load_settings(path, {})
    assert "sk-this" not in str(told.value)


def test_a_key_comes_from_the_environment_alone() -> None:
    assert secret("", {}) == ""
    assert secret("KEY", {"KEY": "sk"}) == "sk"
    with pytest.raises(SettingsError, match="KEY"):
        secret("KEY", {})


@pytest.mark.parametrize("key", ["sk-schl\u00fcssel", "sk-\ud83d", "sk-\n", "sk\r\nX-Other: 1"])
def test_a_key_that_no_header_can_hold_stops_the_start_and_is_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="environment KEY") as told:
        secret("KEY", {"KEY": key})
    assert "sk" not in str(told.value)


def test_a_check_says_what_an_endpoint_can_do() -> None:
    with Endpoint(plays()["schema_500"]) as endpoint:
        command = ["llm", "check", endpoint.url, "--model", "tiny", "-n", "3", "--json"]
        ended = CliRunner().invoke(app, command)
    told = json.loads(ended.stdout)
    assert ended.exit_code == 0
    assert told["ok"]
    assert told["schema_modes"] == {"json_schema": False, "json_object": True, "none": True}
    assert told["same_twice"]
    assert told["cached_prompt_tokens"] == 800
    assert not told["logprobs"]
    assert told["p50_ms"] <= told["p95_ms"]
    assert told["least_horizon_s"] == pytest.approx(told["p95_ms"] / 100.0)
    assert "1d" in told["horizons"]


def checked_with(play: Play, *more: str) -> dict[str, Any]:
    """Return what a check in JSON says of an endpoint, and its exit status."""
    with Endpoint(play) as endpoint:
        command = ["llm", "check", endpoint.url, "--model", "tiny", "--json", *more]
        ended = CliRunner().invoke(app, command, env={"FINLLM_REASONING__LLM__DEADLINE_S": "1"})
    told: dict[str, Any] = json.loads(ended.stdout)
    figures = {check["name"]: check["figure"] for check in told["checks"]}
    return told | {"exit": ended.exit_code, "figures": figures}


def test_what_does_not_come_takes_for_ever_and_is_no_other_answer() -> None:
    async def play(request: Request) -> None:
        n = len(request.endpoint.requests)
        await plays()["right" if n <= len(MODES) or n % 5 else "hangs_up_at_once"](request)

    told = checked_with(play, "-n", "10")
    assert (told["exit"], told["ok"]) == (1, False)
    assert (told["n"], told["n_failed"]) == (10, 2)
    assert 0.0 < told["p50_ms"] < 1_000.0
    assert told["p95_ms"] is told["least_horizon_s"] is None
    assert told["horizons"] == []
    assert told["same_twice"]
    assert (
        "p95 never of 10; no answer to 2: RemoteProtocolError" in told["figures"]["answers in time"]
    )


def test_what_nobody_answered_was_not_measured() -> None:
    told = checked_with(plays()["hangs_up_at_once"])
    assert (told["exit"], told["stops_on_disconnect"], told["same_twice"]) == (1, None, None)
    assert "not measured" in told["figures"]["stops when hung up on"]
    assert told["figures"]["same answer twice"] == "not measured"
    assert told["figures"]["answers in time"] == "not measured"


@pytest.mark.parametrize("stops", [True, False])
def test_a_check_tells_whether_an_endpoint_stops_when_hung_up_on(stops: bool) -> None:
    slots: list[asyncio.Lock] = []

    async def generate_for(request: Request, seconds: float) -> None:
        async with slots[0]:
            request.head()
            request.write(delta("one "))
            await asyncio.sleep(seconds)

    async def play(request: Request) -> None:
        if not slots:
            slots.append(asyncio.Lock())
        if request.body["max_tokens"] < 2_000:
            async with slots[0]:
                await asyncio.sleep(0.02)
                request.say(answer(request.ids))
        elif stops:
            await generate_for(request, 0.2)
        else:
            await request.endpoint.run_on(generate_for(request, 0.2))

    told = checked_with(play, "-n", "5")
    assert told["stops_on_disconnect"] is stops, told["figures"]


def test_a_check_of_what_does_not_answer_fails() -> None:
    with Endpoint(plays()["hangs_up_at_once"]) as endpoint:
        command = ["llm", "check", endpoint.url, "--model", "tiny", "-n", "2"]
        ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 1
    assert "fails" in ended.stdout
