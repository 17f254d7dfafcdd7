"""Runs that climb from tier to tier: the embedded reasoner, a language model, an ensemble."""

import itertools
import json
import os
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from finllm.app.exchange import Exchange
from finllm.app.gate_state import BEGINNING
from finllm.app.recording import read_completions, read_start
from finllm.app.records import verify_traces
from finllm.app.replay import Inputs, replay
from finllm.app.routed import route_run
from finllm.app.run import Options, run_live
from finllm.app.settings import (
    ConnectionSettings,
    FeedSettings,
    ReasoningSettings,
    Settings,
    load_settings,
)
from finllm.app.status import Status
from finllm.app.tiers import TierSettings, fallen
from finllm.domain.errors import InputError, SettingsError
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Escalate, Hold, Outlook, Revision, Verdict
from finllm.domain.revise import tilted
from finllm.escalation.appraise import Appraiser, Prices
from finllm.escalation.gate import GateSettings
from finllm.escalation.latency import LatencyBelief
from finllm.escalation.learnt import State
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.reasoning.ensemble.settings import EnsembleSettings, MemberSettings
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Endpoint, plays
from support.opinions import opining
from support.replays import Asked, asked_into, records_of, tapes_of

pytestmark = pytest.mark.timeout(300)
STORIES = (
    "Bitcoin and Ethereum plunge 9% as exchange halts withdrawals after hack",
    "Regulator approves Bitcoin and Ethereum fund; record profit lifts miners",
    "BTC and ETH crash: large bank sues custodian over missing coins",
    "Bitcoin and Ethereum soar as pension scheme doubles its purchase",
)
SMALL, LARGE = "llm:tiny", "ensemble"


def asking(stack: ExitStack, **gate: Any) -> Settings:
    """Return settings with a language model and an ensemble above the embedded reasoner."""
    small = stack.enter_context(Endpoint(plays()["right"]))
    large = stack.enter_context(Endpoint(opining("able")))
    return Settings(
        reasoning=ReasoningSettings(
            llm=LlmSettings(base_url=small.url, model="tiny", deadline_s=20.0),
            member=(MemberSettings(name="able", base_url=large.url, model="large"),),
            ensemble=EnsembleSettings(deadline_s=5.0),
        ),
        escalation=GateSettings(**gate),
    )


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return asked_into(tmp_path_factory.mktemp("climbed"), 45.0, asking)


def test_each_tier_is_asked_after_the_one_below_has_answered(climbed: Asked) -> None:
    choices = records_of(climbed.run, Escalate) + records_of(climbed.run, Hold)
    by_notice: dict[str, list[Escalate | Hold]] = {}
    for choice in sorted(choices, key=lambda one: one.ts):
        by_notice.setdefault(choice.notice_id, []).append(choice)
    order = ["embedded", SMALL, LARGE]
    for climb in by_notice.values():
        assert [choice.tier for choice in climb] == order[: len(climb)]
        assert all(isinstance(choice, Escalate) for choice in climb[:-1])
        assert all(a.ts < b.ts for a, b in itertools.pairwise(climb))
        assert all(choice.reason for choice in climb)
    tiers = climbed.summary.tiers
    assert tiers["embedded"]["answered"] >= tiers[SMALL]["answered"] >= tiers[LARGE]["answered"] > 0


def test_a_higher_tiers_answer_replaces_the_lower_ones(climbed: Asked) -> None:
    verdicts = {verdict.verdict_id: verdict for verdict in records_of(climbed.run, Verdict)}
    versions = {(f.forecast_id, f.version): f for f in records_of(climbed.run, Forecast)}
    replaced = 0
    for revision in records_of(climbed.run, Revision):
        if revision.forecast is None:
            continue
        before = versions[revision.forecast_id, revision.base_version]
        versions[revision.forecast_id, revision.version] = revision.forecast
        verdict = verdicts[revision.verdict_id]
        if before.version > 1 and verdict.action == "refine":
            # The base is tilted by this verdict alone: the evidence counts once.
            assert revision.forecast.emitted == tilted(before, verdict.shift, verdict.vol_scale)[0]
            replaced += 1
    assert replaced > 0


def test_outlooks_of_one_notice_have_rising_versions_and_the_last_stands(climbed: Asked) -> None:
    of: dict[str, list[int]] = {}
    for outlook in records_of(climbed.run, Outlook):
        of.setdefault(outlook.instrument, []).append(outlook.version)
    assert of
    assert all(versions == sorted(set(versions)) for versions in of.values())


def test_a_climb_replays_with_all_endpoints_gone(climbed: Asked, tmp_path: Path) -> None:
    start = read_start(climbed.run)
    assert start is not None
    assert [tier.reasoner for tier in start.tiers] == ["embedded", "llm", "ensemble"]
    again = replay(
        msgspec.structs.replace(climbed.inputs, answers=climbed.run), Settings(), tmp_path / "again"
    )
    assert again.digest == climbed.summary.digest
    assert again.tiers == climbed.summary.tiers
    assert read_completions(tmp_path / "again") == read_completions(climbed.run)


def test_every_trace_of_a_climb_is_proven(climbed: Asked) -> None:
    proof = verify_traces(climbed.run)
    assert proof.ok, proof.failures
    assert proof.checked == climbed.summary.revisions.applied > 0


def test_a_dry_run_shows_the_whole_climb(climbed: Asked) -> None:
    found = route_run(climbed.run, climbed.settings, 1_000)
    assert found.tiers == ("embedded", SMALL, LARGE)
    notices = {notice.notice_id for notice in records_of(climbed.run, EvidenceNotice)}
    assert {one.notice_id for one in found.questions} == notices
    assert {one.tier for one in found.questions} == {"embedded", SMALL, LARGE}
    assert all(one.reason for one in found.questions)


def test_what_the_market_flags_is_asked_about_where_a_language_model_is(climbed: Asked) -> None:
    own = [one for one in records_of(climbed.run, EvidenceNotice) if not one.origin]
    assert len(own) == climbed.summary.flagged > 0
    assert {one.event_type for one in own} <= {"regime switch", "thin book", "sudden move"}
    last: dict[str, int] = {}
    for one in own:
        assert one.ts_recv - last.get(one.instrument, 0) >= 100_000_000
        last[one.instrument] = one.ts_recv


def test_a_live_climb_replays_to_its_own_digest(tmp_path: Path) -> None:
    generate(SyntheticMarket(seed=11, duration_s=120)).write(tmp_path / "tape")
    news = tmp_path / "news.jsonl"
    told_of = {"n": 0, "done": False}

    def told(status: Status) -> None:
        if status.forecasts > 5 * (told_of["n"] + 1) and not status.unusable:
            line = {
                "source": "wire",
                "ts_published_ns": status.ts,
                "text": STORIES[told_of["n"] % len(STORIES)],
                "symbols": ["BTCUSDT", "ETHUSDT"],
            }
            with news.open("a") as file:
                file.write(json.dumps(line) + "\n")
            told_of["n"] += 1
        told_of["done"] = told_of["done"] or status.applied > 12

    tapes = list(tapes_of(tmp_path / "tape"))
    with ExitStack() as stack:
        exchange = stack.enter_context(Exchange(tapes, seed=5, speed=4.0))
        url, rest = exchange.addresses("usdm")
        connection = ConnectionSettings(
            venue="binance-usdm", symbols=("BTCUSDT", "ETHUSDT"), url=url, rest=rest
        )
        settings = msgspec.structs.replace(
            asking(stack, learn=True, call_share=1.0, state=str(tmp_path / "gate.state")),
            feed=FeedSettings(connections=(connection,)),
        )
        options = Options(
            stop=lambda: bool(told_of["done"]) or exchange.done.is_set(),
            told=told,
            documents=news,
            name=f"tiers-{os.getpid()}",
        )
        summary = run_live(settings, tmp_path / "run", options)
    assert summary.tiers["embedded"]["answered"] > 0
    assert summary.tiers[SMALL]["answered"] > 0
    learning = Settings(escalation=settings.escalation)
    kept = (tmp_path / "gate.state").read_bytes()
    again = replay(Inputs(tapes=(tmp_path / "run",)), learning, tmp_path / "again")
    assert again.digest == summary.digest
    assert again.tiers == summary.tiers
    assert again.flagged == summary.flagged
    assert (tmp_path / "gate.state").read_bytes() == kept  # a replay teaches nothing anew


def learning(path: Path) -> Settings:
    gate = GateSettings(learn=True, call_share=0.6, explore=0.1, state=str(path))
    return Settings(escalation=gate)


def test_a_gate_goes_on_from_what_it_learnt_and_its_run_replays_from_there(
    climbed: Asked, tmp_path: Path
) -> None:
    path = tmp_path / "gate.state"
    first = replay(climbed.inputs, learning(path), tmp_path / "first")
    learnt = path.read_bytes()
    second = replay(climbed.inputs, learning(path), tmp_path / "second")
    assert second.digest != first.digest
    assert path.read_bytes() != learnt
    assert (tmp_path / "second" / BEGINNING).read_bytes() == learnt
    from_there = msgspec.structs.replace(climbed.inputs, answers=tmp_path / "second")
    again = replay(from_there, learning(path), tmp_path / "again")
    assert again.digest == second.digest
    from_nothing = msgspec.structs.replace(climbed.inputs, answers=tmp_path / "first")
    assert replay(from_nothing, learning(path), tmp_path / "nothing").digest == first.digest
    (tmp_path / "second" / BEGINNING).write_bytes(learnt[:-1])
    with pytest.raises(InputError, match="journal says"):
        replay(from_there, learning(path), tmp_path / "never")


def learnt_by_gates(path: Path) -> dict[str, State]:
    """Return what gates have learnt, by gate, as a file keeps it."""
    _, gates = msgspec.msgpack.decode(path.read_bytes(), type=tuple[int, dict[str, bytes]])
    return {name: msgspec.msgpack.decode(state, type=State) for name, state in gates.items()}


@pytest.mark.parametrize("play", ["hangs_up_at_once", "free_text"])
def test_where_endpoints_fail_the_run_says_so_and_no_gate_learns_an_answers_worth(
    play: str, climbed: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[LatencyBelief, list[bool]] = defaultdict(list)
    observe = LatencyBelief.observe

    def counted(belief: LatencyBelief, duration_ns: int) -> None:
        told[belief].append(duration_ns > belief.p50_ns)
        observe(belief, duration_ns)

    monkeypatch.setattr(LatencyBelief, "observe", counted)
    path = tmp_path / "gate.state"
    with ExitStack() as stack:
        url = stack.enter_context(Endpoint(plays()[play])).url
        settings = Settings(
            reasoning=ReasoningSettings(
                llm=LlmSettings(base_url=url, model="tiny", retry_s=0.01),
                member=(MemberSettings(name="able", base_url=url, model="large", retry_s=0.01),),
            ),
            escalation=GateSettings(learn=True, call_share=1.0, state=str(path)),
        )
        run = replay(climbed.inputs, settings, tmp_path / "run")
    own = run.tiers["embedded"]
    assert "fell_back" not in own
    embedded, *others = told.values()
    assert len(embedded) == own["answered"] + own.get("late", 0)
    assert all(map(all, others)), "that nothing came makes nobody quicker"
    for name in (SMALL, LARGE):
        ends = run.tiers[name]
        assert ends["fell_back"] == ends["escalated"] - ends.get("cancelled", 0) > 0
        assert "answered" not in ends
        assert sum(f"tier {name} fell back" in note for note in run.notes) == 1
    fresh = Appraiser(1.0, 0.0, 1, Prices()).state
    unlearnt = msgspec.msgpack.decode(fresh, type=State)
    for state in learnt_by_gates(path).values():
        assert (state.weights, state.spread) == (unlearnt.weights, unlearnt.spread)
        assert state.reliability == []
    from_there = msgspec.structs.replace(climbed.inputs, answers=tmp_path / "run")
    again = replay(from_there, settings, tmp_path / "again")
    assert (again.digest, again.tiers, again.notes) == (run.digest, run.tiers, run.notes)


def test_where_endpoints_answer_no_fallback_is_told_of_and_gates_learn(
    climbed: Asked, tmp_path: Path
) -> None:
    path = tmp_path / "gate.state"
    with ExitStack() as stack:
        settings = asking(stack, learn=True, call_share=1.0, state=str(path))
        run = replay(climbed.inputs, settings, tmp_path / "run")
    assert not any("fell_back" in ends for ends in run.tiers.values())
    assert not any("fell back" in note for note in run.notes)
    unlearnt = msgspec.msgpack.decode(Appraiser(1.0, 0.0, 1, Prices()).state, type=State)
    gates = learnt_by_gates(path)
    assert any(state.weights != unlearnt.weights for state in gates.values())


def test_a_note_tells_of_a_tier_once_most_of_its_questions_fell_back() -> None:
    ends = {"escalated": 6, "fell_back": 2, "answered": 1, "late": 1, "cancelled": 2}
    assert fallen({"m": ends}) == ()
    assert fallen({"m": ends | {"fell_back": 3}, "embedded": {"answered": 9}}) == (
        "tier m fell back on the embedded reasoner: 3 of 5 answers",
    )
    assert fallen({"m": {"held": 3}}) == ()


@pytest.mark.parametrize("held", [b"nonsense", b"\x92\x09\x80"])
def test_a_state_of_another_format_stops_the_start_before_anything_is_written(
    held: bytes, climbed: Asked, tmp_path: Path
) -> None:
    path = tmp_path / "gate.state"
    path.write_bytes(held)
    with pytest.raises(InputError, match=r"gate\.state.*learn afresh"):
        replay(climbed.inputs, learning(path), tmp_path / "run")
    assert not (tmp_path / "run" / "ledger").exists()
    assert path.read_bytes() == held


TIERS = """
[reasoning.llm]
base_url = "http://h:1/v1"
model = "m"

[[tier]]
reasoner = "embedded"

[[tier]]
reasoner = "llm"
p50_ms = 300.0
p95_ms = 900.0
"""


def test_tiers_are_read_from_the_file_and_default_to_all_that_is_configured(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(TIERS)
    assert load_settings(path, {}).tiers == (
        TierSettings(reasoner="embedded"),
        TierSettings(reasoner="llm", p50_ms=300.0, p95_ms=900.0),
    )
    gate = load_settings(path, {}).tiers[1].gate(GateSettings(learn=True), is_free=False)
    assert (gate.learn, gate.call_share) == (True, 0.2)
    own = TierSettings(reasoner="llm", share=0.01)
    assert own.gate(gate, is_free=False).call_share == 0.01
    assert not own.gate(gate, is_free=True).learn
    path.write_text(TIERS.partition("[[tier]]")[0])
    assert [tier.reasoner for tier in load_settings(path, {}).tiers] == ["embedded", "llm"]
    assert [tier.reasoner for tier in Settings().tiers] == ["embedded"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"embedded"', '"llm"', "two tiers ask it"),
        ('"embedded"', '"ensemble"', "not configured"),
        ('"embedded"', '"oracle"', "oracle"),
        ("p50_ms", "p_50", "p50_ms"),
        ("p50_ms = 300.0", "p50_ms = 1000.0", "no latency"),
        (
            TIERS.partition("[[tier]]")[2],
            '\nreasoner = "llm"\n[[tier]]\nreasoner = "embedded"\n',
            "Name it first",
        ),
    ],
)
def test_a_cascade_that_makes_no_sense_stops_the_start(
    before: str, after: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "one.toml"
    path.write_text(TIERS.replace(before, after, 1))
    with pytest.raises(SettingsError, match=f"(?s){told}"):
        load_settings(path, {})


def test_a_run_that_asked_a_second_endpoint_replays_without_either(
    climbed: Asked, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(Endpoint(plays()["free_text"]))
        other = stack.enter_context(Endpoint(plays()["right"]))
        llm = LlmSettings(base_url=first.url, also=(other.url,), model="tiny", deadline_s=20.0)
        settings = Settings(
            reasoning=ReasoningSettings(llm=llm), tier=(TierSettings(reasoner="llm"),)
        )
        summary = replay(climbed.inputs, settings, tmp_path / "run")
    n = summary.tiers[SMALL]["answered"]
    assert summary.hedges == {"sent": n, "won": n}
    assert {one.endpoint for one in read_completions(tmp_path / "run").values()} == {1}
    again = replay(
        msgspec.structs.replace(climbed.inputs, answers=tmp_path / "run"),
        Settings(),
        tmp_path / "2",
    )
    assert again.digest == summary.digest
    assert again.hedges == summary.hedges
