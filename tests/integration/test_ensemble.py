"""Runs that ask an ensemble: endpoints with faults of their own, then replays with all of them gone."""

import json
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from finllm.app.cli import app
from finllm.app.recording import read_completions, read_start
from finllm.app.records import track_record, verify_traces
from finllm.app.replay import Inputs, replay
from finllm.app.settings import (
    ReasoningSettings,
    Settings,
    load_settings,
)
from finllm.app.tiers import TierSettings
from finllm.domain.completion import End
from finllm.domain.errors import InputError, SettingsError
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.protocol import Escalate, Pool, Revision, Verdict
from finllm.domain.units import NS_PER_S
from finllm.ledger.reader import LedgerReader
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.ensemble.settings import EnsembleSettings, MemberSettings
from finllm.reasoning.ensemble.standing import PROBE
from finllm.reasoning.ensemble.track import TrackRecord
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Endpoint, Play, plays
from support.live import run_told
from support.opinions import opining, pool_of
from support.replays import Asked, asked_into, inputs_of, records_of

pytestmark = pytest.mark.timeout(300)
PLAYS: dict[str, Play] = {
    "able": opining("able"),
    "baker": opining("baker"),
    "broken": plays()["free_text"],
    "hung": plays()["hang"],
    "stuck": plays()["right"],
}


def asking(stack: ExitStack) -> Settings:
    """Return settings that ask an endpoint of each kind."""
    members = tuple(
        MemberSettings(
            name=name, base_url=stack.enter_context(Endpoint(play)).url, model="tiny", retry_s=0.01
        )
        for name, play in PLAYS.items()
    )
    regional = MemberSettings(
        name="seoul", base_url=members[0].base_url, model="tiny", languages=("ko",)
    )
    return Settings(
        reasoning=ReasoningSettings(
            member=(*members, regional), ensemble=EnsembleSettings(deadline_s=1.0)
        ),
        tier=(TierSettings(reasoner="ensemble"),),
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return asked_into(tmp_path_factory.mktemp("ensemble"), 80.0, asking)


def test_a_replay_needs_none_of_the_endpoints(asked: Asked, tmp_path: Path) -> None:
    completions = read_completions(asked.run)
    assert {End.ANSWER, End.INVALID, End.CANCELLED} <= {one.end for one in completions.values()}
    questions = {name.rpartition("/")[0] for name in completions}
    assert questions == {one.question_id for one in records_of(asked.run, Escalate)}
    again = replay(
        msgspec.structs.replace(asked.inputs, answers=asked.run), Settings(), tmp_path / "again"
    )
    assert again.digest == asked.summary.digest
    assert again.members == asked.summary.members
    assert read_completions(tmp_path / "again") == completions
    plain = replay(asked.inputs, Settings(), tmp_path / "plain")
    assert plain.digest != asked.summary.digest
    assert plain.members == {}


def test_the_late_the_broken_and_the_repeating_are_dropped_and_counted(asked: Asked) -> None:
    members = asked.summary.members
    n = asked.summary.escalated
    assert n > 5
    assert members["able"] == members["baker"] == {"answer": n}
    spared = (n - 3) - (n - 3) // PROBE
    assert members["broken"] == {"broken, not asked": spared, "invalid": n - spared}
    assert members["hung"] == {"late, not asked": spared, "late": n - spared}
    assert members["stuck"]["repeating, not asked"] > 0
    assert members["seoul"] == {}
    dropped = {"reasoner broken is dropped: broken", "reasoner hung is dropped: late"}
    assert dropped < set(asked.summary.notes)


def test_every_trace_of_it_is_proven(asked: Asked) -> None:
    proof = verify_traces(asked.run)
    assert proof.ok, proof.failures
    assert proof.checked == asked.summary.revisions.applied > 10


def test_every_weight_follows_from_the_ledger_alone(asked: Asked) -> None:
    verdicts = records_of(asked.run, Verdict)
    track = TrackRecord.of(
        records_of(asked.run, Forecast),
        verdicts,
        records_of(asked.run, Revision),
        records_of(asked.run, Outcome),
    )
    instants = {one.question_id: one.ts for one in records_of(asked.run, Escalate)}
    own = EmbeddedReasoner().name
    seen = set()
    for verdict in verdicts:
        said = pool_of(verdict).members
        heard = [one.name for one in said if one.name != own and one.outcome == "answer"]
        in_vain = [one.name for one in said if one.name != own and one.outcome != "answer"]
        factors = track.factors([*heard, *in_vain], instants[verdict.question_id])
        total = 1.0 + sum(factors.values())
        weights = {one.name: one.weight for one in said}
        for name in heard:
            assert weights[name] == pytest.approx(factors[name] / total)
        seen.add(factors["able"])
    assert len(seen) > 1  # the record has moved weights


def test_a_track_record_goes_on_from_an_earlier_run_and_is_replayed_without_it(
    asked: Asked, tmp_path: Path
) -> None:
    held = track_record(asked.run).scored
    assert len(held) > 10
    later = SyntheticMarket(seed=4, duration_s=36.0)
    later = msgspec.structs.replace(later, start=later.start + 3_600 * NS_PER_S)
    generate(later).write(tmp_path / "tape")
    inputs = inputs_of(tmp_path / "tape")
    with ExitStack() as stack:
        settings = asking(stack)
        goes_on = msgspec.structs.replace(settings.reasoning.ensemble, after=str(asked.run))
        reasoning = msgspec.structs.replace(settings.reasoning, ensemble=goes_on)
        settings = msgspec.structs.replace(settings, reasoning=reasoning)
        first = replay(inputs, settings, tmp_path / "first")
    start = read_start(tmp_path / "first")
    assert start is not None
    assert start.scored == held
    with LedgerReader(tmp_path / "first" / "ledger") as ledger:
        verdict = next(iter(ledger.records(Verdict)))
        question = ledger.find(Escalate, verdict.question_id)
    factors = TrackRecord(held).factors(["able", "baker"], question.ts)
    weights = {one.name: one.weight for one in pool_of(verdict).members}
    assert factors["able"] != factors["baker"]
    assert weights["able"] / weights["baker"] == pytest.approx(factors["able"] / factors["baker"])
    again = replay(
        msgspec.structs.replace(inputs, answers=tmp_path / "first"),
        Settings(),
        tmp_path / "again",
    )
    assert again.digest == first.digest
    gone = msgspec.structs.replace(goes_on, after=str(tmp_path / "nowhere"))
    reasoning = msgspec.structs.replace(reasoning, ensemble=gone)
    with pytest.raises(InputError, match="holds no run"):
        replay(inputs, Settings(reasoning=reasoning), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_live_run_replays_to_its_own_digest(tmp_path: Path) -> None:
    with ExitStack() as stack:
        settings = asking(stack)
        summary = run_told(tmp_path, settings, applied=6)
    assert summary.escalated > 0
    start = read_start(tmp_path / "run")
    assert start is not None
    assert start.members == settings.reasoning.member
    again = replay(Inputs(tapes=(tmp_path / "run",)), Settings(), tmp_path / "again")
    assert again.digest == summary.digest
    assert again.revisions == summary.revisions
    assert again.members == summary.members
    proof = verify_traces(tmp_path / "run")
    assert proof.ok, proof.failures


def test_a_verdict_of_a_single_language_model_has_no_pool_down_to_its_bytes(tmp_path: Path) -> None:
    generate(SyntheticMarket(seed=3, duration_s=36.0)).write(tmp_path / "tape")
    with Endpoint(plays()["right"]) as endpoint:
        llm = LlmSettings(base_url=endpoint.url, model="tiny")
        settings = Settings(reasoning=ReasoningSettings(llm=llm))
        replay(inputs_of(tmp_path / "tape"), settings, tmp_path / "run")
    verdicts = records_of(tmp_path / "run", Verdict)
    assert verdicts
    for verdict in verdicts:
        assert not isinstance(verdict.pool, Pool)
        assert b"pool" not in msgspec.msgpack.encode(verdict)


MEMBERS = """
[reasoning.ensemble]
deadline_s = 4.0

[[reasoning.member]]
name = "qwen"
base_url = "http://h:1/v1"
model = "m"
family = "qwen"

[[reasoning.member]]
name = "seoul"
gguf = "models/seoul.gguf"
languages = ["ko"]
markets = ["upbit"]
weight = 2.0
"""


def test_members_are_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(MEMBERS)
    reasoning = load_settings(path, {"FINLLM_REASONING__ENSEMBLE__DEADLINE_S": "5"}).reasoning
    assert [one.name for one in reasoning.member] == ["qwen", "seoul"]
    assert reasoning.ensemble.deadline_s == 5.0
    assert reasoning.member[1].model_name == "seoul"
    assert not reasoning.llm.is_on


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("family =", "famly =", "number 1.*unknown key 'famly'.*family"),
        ('name = "seoul"', 'name = "qwen"', "two members"),
        ('name = "qwen"', "", "name"),
        ('name = "qwen"', 'name = "a.b"', "matching"),
        ('base_url = "http://h:1/v1"', "", r"reasoning\.member qwen.*base_url.*empty"),
        ('base_url = "http', 'base_url = "ftp', r"reasoning\.member qwen\.base_url.*no http"),
        ('languages = ["ko"]', 'languages = ["Korean"]', "matching"),
        ("weight = 2.0", "weight = 0.0", "weight"),
        ("deadline_s = 4.0", "deadlin_s = 4.0", "deadline_s"),
    ],
)
def test_what_cannot_be_asked_stops_the_start_and_teaches(
    before: str, after: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "one.toml"
    path.write_text(MEMBERS.replace(before, after, 1))
    with pytest.raises(SettingsError, match=f"(?s){told}"):
        load_settings(path, {})


def test_a_check_tries_each_member(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    with ExitStack() as stack:
        good = stack.enter_context(Endpoint(plays()["right"]))
        bad = stack.enter_context(Endpoint(plays()["hangs_up_at_once"]))
        path.write_text(
            "".join(
                f'[[reasoning.member]]\nname = "{name}"\nbase_url = "{one.url}"\nmodel = "tiny"\n'
                f'provider = "{name} inc"\n'
                for name, one in (("good", good), ("bad", bad))
            )
        )
        command = ["llm", "check", "--config", str(path), "-n", "2"]
        ended = CliRunner().invoke(app, [*command, "--json"])
        shown = CliRunner().invoke(app, command)
    told = json.loads(ended.stdout)
    assert (ended.exit_code, told["ok"]) == (1, False)
    assert {name: one["ok"] for name, one in told["members"].items()} == {
        "good": True,
        "bad": False,
    }
    assert shown.exit_code == 1
    assert "good: good inc" in shown.stdout
    assert "bad: bad inc" in shown.stdout
