"""Several endpoints at once on loopback, each with a fault of its own: the pool comes, and comes in time."""

import asyncio
import threading
import time
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from finllm.domain.completion import Attempt, Completion, End
from finllm.domain.identity import canonical
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.ensemble.standing import FAILURES
from finllm.reasoning.llm.answerer import Journalled
from support.endpoint import Play, Request, forever, plays
from support.opinions import (
    at_endpoints,
    ensemble,
    member,
    opining,
    opinion,
    outcomes,
    pool_of,
    weights,
)

S = 1_000_000_000
SLACK_S = 10.0
"""What a loaded machine may take beyond a deadline; how exact deadlines are is for the soak test."""
EMBEDDED = EmbeddedReasoner().name
FAULTS = {
    "able": opining("able"),
    "cut": plays()["cut"],
    "garbage": plays()["free_text"],
    "hang": plays()["hang"],
    "hang-inside": plays()["hang_in_answer"],
    "limited": plays()["rate_limited_too_long"],
    "runaway": plays()["runaway"],
    "weak": plays()["schema_400"],
}
ENDS = {
    "able": "answer",
    "cut": "cut",
    "garbage": "invalid",
    "hang": "timeout",
    "hang-inside": "timeout",
    "limited": "rate_limited",
    "runaway": "runaway",
    "weak": "answer",
}


def test_whatever_the_others_do_the_pool_comes_by_the_deadline_and_is_replayed_from_the_journal(
    case: Any,
) -> None:
    ended: list[Completion] = []
    with ExitStack() as stack:
        members, _ = at_endpoints(FAULTS, stack, ended.append)
        reasoner = ensemble(*members, deadline_s=1.5)
        began = time.monotonic()
        judgement = case.judged_by(reasoner)
        took = time.monotonic() - began
    assert took < 1.5 + SLACK_S
    assert {c.question_id: str(c.end) for c in ended} == {f"q/{n}": e for n, e in ENDS.items()}
    for verdict in judgement.verdicts:
        assert outcomes(verdict) == ENDS | {EMBEDDED: "answer"}
        assert verdict.reasoner == reasoner.name
        assert verdict.fallback == judgement.fallback == ""
        shares = weights(verdict)
        assert {name for name, share in shares.items() if share} == {"able", "weak", EMBEDDED}
        assert shares["able"] == shares["weak"] == 1.0 / 9.0
    assert reasoner.counts["hang"] == {"timeout": 1}
    journal = Journalled({c.question_id: c for c in ended})
    again = ensemble(*(member(name, journal) for name in FAULTS), deadline_s=1.5)
    assert canonical(case.judged_by(again)) == canonical(judgement)


def test_all_are_asked_before_any_has_answered(case: Any) -> None:
    names = ("able", "baker", "charlie")
    all_asked = threading.Barrier(len(names))

    def waiting(name: str) -> Any:
        async def play(request: Request) -> None:
            await asyncio.to_thread(all_asked.wait, SLACK_S)
            request.say(opinion(request.ids, name))

        return play

    with ExitStack() as stack:
        members, _ = at_endpoints({name: waiting(name) for name in names}, stack)
        judgement = case.judged_by(ensemble(*members, deadline_s=30.0))
    assert set(outcomes(judgement.verdicts[0]).values()) == {"answer"}


def test_nothing_is_waited_for_and_a_question_is_concluded_once_all_have_ended(case: Any) -> None:
    told = {"able": opining("able"), "hang": plays()["hang"]}
    with ExitStack() as stack:
        members, endpoints = at_endpoints(told, stack)
        reasoner = ensemble(*members, deadline_s=2.0)
        reasoner.ask(case.question, case.forecasts, case.pack)
        began = time.monotonic()
        while not endpoints["hang"].requests and time.monotonic() < began + SLACK_S:
            assert list(reasoner.answers()) == []
            time.sleep(0.005)
        found: list[Any] = []
        while not found and time.monotonic() < began + SLACK_S:
            found = list(reasoner.answers())
            time.sleep(0.005)
    (ended,) = found
    assert (ended.question_id, ended.end) == ("q", End.ANSWER)
    assert {name: part.end for name, part in ended.parts.items()} == {
        "able": End.ANSWER,
        "hang": End.CANCELLED,
    }
    assert ended.parts["hang"].budget_ns < 2 * S


def slow(seconds: float) -> Play:
    """Return what plays an endpoint that thinks for so long."""

    async def play(request: Request) -> None:
        await asyncio.sleep(seconds)
        request.say(opinion(request.ids, "slow"))

    return play


def test_who_lets_the_others_wait_is_given_up_and_dropped_and_a_replay_follows(case: Any) -> None:
    ended: list[Completion] = []
    names = [f"q{i}" for i in range(FAILURES + 1)]
    with ExitStack() as stack:
        members, _ = at_endpoints(
            {"able": opining("able"), "slow": slow(60.0)}, stack, ended.append
        )
        reasoner = ensemble(*members, deadline_s=30.0)
        began = time.monotonic()
        judgements = [case.named(name).judged_by(reasoner) for name in names]
        took = time.monotonic() - began
    assert took < 30.0  # each would have waited for almost as long
    said = [outcomes(judgement.verdicts[0])["slow"] for judgement in judgements]
    assert said == ["late"] * FAILURES + ["late, not asked"]
    assert reasoner.notes == ("reasoner slow is dropped: late",)
    journal = Journalled({c.question_id: c for c in ended})
    again = ensemble(*(member(name, journal) for name in ("able", "slow")), deadline_s=30.0)
    replayed = [case.named(name).judged_by(again) for name in names]
    assert canonical(replayed) == canonical(judgements)
    assert again.counts == reasoner.counts


def test_who_is_a_little_slower_is_waited_for(case: Any) -> None:
    with ExitStack() as stack:
        members, _ = at_endpoints({"able": opining("able"), "slow": slow(0.5)}, stack)
        judgement = case.judged_by(ensemble(*members, deadline_s=60.0))
    assert outcomes(judgement.verdicts[0])["slow"] == "answer"


def test_while_half_have_not_answered_nobody_is_late(case: Any) -> None:
    told = {"able": opining("able"), "garbage": plays()["free_text"], "slow": slow(2.0)}
    with ExitStack() as stack:
        members, _ = at_endpoints(told, stack)
        judgement = case.judged_by(ensemble(*members, deadline_s=10.0))
    assert outcomes(judgement.verdicts[0])["slow"] == "answer"


@pytest.mark.parametrize(("attempts", "outcome"), [(1, "late"), (0, "cancelled")])
def test_only_who_had_its_turn_is_late(attempts: int, outcome: str, case: Any) -> None:
    question = msgspec.structs.replace(case.question, question_id="q/able")
    prompt = member("able", Journalled({})).reasoner.prompt(question, case.forecasts, case.pack)
    given_up = Completion(
        question_id="q/able",
        model="tiny",
        prompt_id=prompt.prompt_id,
        value=0.0,
        ts_asked=0,
        ts_ended=S,
        budget_ns=S,
        end=End.CANCELLED,
        attempts=(Attempt(ts=0, mode="none"),) * attempts,
    )
    reasoner = ensemble(member("able", Journalled({"q/able": given_up})))
    for _ in range(FAILURES):
        verdict = case.judged_by(reasoner).verdicts[0]
        assert outcomes(verdict)["able"] == outcome
    assert bool(reasoner.notes) is bool(attempts)


def test_a_question_that_is_given_up_is_given_up_with_every_member(case: Any) -> None:
    ended: list[Completion] = []

    async def play(_: Request) -> None:
        await forever()

    with ExitStack() as stack:
        members, endpoints = at_endpoints(
            dict.fromkeys(("able", "baker"), play), stack, ended.append
        )
        reasoner = ensemble(*members, deadline_s=60.0)
        reasoner.ask(case.question, case.forecasts, case.pack)
        reasoner.cancel("q")
        until = time.monotonic() + SLACK_S
        while len(ended) < len(endpoints) and time.monotonic() < until:
            assert list(reasoner.answers()) == []
            time.sleep(0.005)
        reasoner.close()
    assert {c.question_id: c.end for c in ended} == {
        "q/able": End.CANCELLED,
        "q/baker": End.CANCELLED,
    }


def test_what_it_cost_is_what_all_members_cost(case: Any) -> None:
    ended: list[Completion] = []
    told = {"able": opining("able"), "baker": opining("baker"), "garbage": plays()["free_text"]}
    with ExitStack() as stack:
        members, _ = at_endpoints(told, stack, ended.append, usd_per_m_output=10.0)
        verdicts = case.judged_by(ensemble(*members, deadline_s=30.0)).verdicts
    assert sum(v.cost.tokens for v in verdicts) == sum(
        c.prompt_tokens + c.output_tokens for c in ended
    )
    assert abs(sum(v.cost.usd for v in verdicts) - sum(c.usd for c in ended)) < 1e-12
    assert min(c.usd for c in ended) > 0.0


def test_where_none_has_a_say_the_embedded_reasoner_answers_and_says_for_whom(case: Any) -> None:
    told = {"cut": plays()["cut"], "garbage": plays()["free_text"]}
    with ExitStack() as stack:
        members, _ = at_endpoints(told, stack)
        judgement = case.judged_by(ensemble(*members, deadline_s=30.0))
    plain = case.judged_by(EmbeddedReasoner())
    assert judgement.outlook == plain.outlook
    assert judgement.fallback == "cut, invalid"
    for verdict, own in zip(judgement.verdicts, plain.verdicts, strict=True):
        assert (verdict.reasoner, verdict.fallback) == (EMBEDDED, "cut, invalid")
        assert verdict.citations == own.citations
        assert verdict.driver == own.driver
        assert weights(verdict) == {EMBEDDED: 1.0, "cut": 0.0, "garbage": 0.0}
        assert (pool_of(verdict).shift_sd, pool_of(verdict).log_scale_sd) == (0.0, 0.0)
