"""Whatever an endpoint does wrong, a verdict that holds or an honest fallback comes before the deadline."""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from finllm.domain.completion import Completion, End, Message
from finllm.domain.identity import canonical
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.llm.answerer import Ask, Journalled
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Endpoint, Request, answer, forever, plays

ENDS = {
    "right": End.ANSWER,
    "whole": End.ANSWER,
    "fenced": End.ANSWER,
    "free_text": End.INVALID,
    "free_text_no_json": End.ERROR,
    "schema_500": End.ANSWER,
    "schema_400": End.ANSWER,
    "number_of_30_digits": End.INVALID,
    "hang": End.TIMEOUT,
    "hang_in_answer": End.TIMEOUT,
    "cut": End.CUT,
    "runaway": End.RUNAWAY,
    "rate_limited": End.ANSWER,
    "rate_limited_retry_after": End.ANSWER,
    "rate_limited_until": End.ANSWER,
    "rate_limited_too_long": End.RATE_LIMITED,
    "truncated": End.INVALID,
    "duplicate_key": End.INVALID,
    "unknown_id": End.INVALID,
    "other_language": End.INVALID,
    "other_language_inside": End.ANSWER,
    "empty": End.INVALID,
    "out_of_bounds": End.INVALID,
    "nan": End.INVALID,
    "deep": End.INVALID,
    "error_in_stream": End.ERROR,
    "hangs_up_at_once": End.UNREACHABLE,
    "broken_events": End.ERROR,
    "wrong_once": End.ANSWER,
    "fence_then_spaces": End.INVALID,
    "half_a_character": End.INVALID,
    "half_a_character_inside": End.ANSWER,
    "character_in_two_parts": End.ANSWER,
    "half_a_character_as_finish": End.ANSWER,
    "stays_open": End.ANSWER,
    "null_error": End.ANSWER,
    "carriage_returns": End.ANSWER,
    "goes_on_after_hang_up": End.TIMEOUT,
}
HANGS = {"hang", "hang_in_answer", "goes_on_after_hang_up"}
S = 1_000_000_000
LLM_NAME = f"llm:tiny+{EmbeddedReasoner().name}"
SLACK_S = 10.0
"""What a loaded machine may take beyond a deadline; how exact deadlines are is for the soak test."""


@pytest.mark.parametrize("name", plays())
def test_every_failure_ends_in_a_verdict_that_holds_or_an_honest_fallback(
    name: str, case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    ended: list[Completion] = []
    deadline_s = 0.3 if name in HANGS else 30.0
    with Endpoint(plays()[name]) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=deadline_s)
        with Client(settings, key="sk-secret") as client:
            reasoner = LlmReasoner(settings, client, on_completion=ended.append)
            began = time.monotonic()
            judgement = case.judged_by(reasoner)
            took = time.monotonic() - began
    (completion,) = ended
    assert completion.end is ENDS[name], completion
    assert took < deadline_s + SLACK_S
    assert b"sk-secret" not in canonical(completion)
    if completion.end is End.ANSWER:
        assert {v.reasoner for v in judgement.verdicts} == {LLM_NAME}
        assert {v.fallback for v in judgement.verdicts} == {judgement.fallback} == {""}
    else:
        plain = case.judged_by(EmbeddedReasoner())
        assert judgement.outlook == plain.outlook
        assert [v.shift for v in judgement.verdicts] == [v.shift for v in plain.verdicts]
        assert {v.reasoner for v in judgement.verdicts} == {EmbeddedReasoner().name}
        assert {v.fallback for v in judgement.verdicts} == {ENDS[name].value}
        assert judgement.fallback == ENDS[name].value
    replayed = LlmReasoner(settings, Journalled({"q": completion}))
    assert canonical(case.judged_by(replayed)) == canonical(judgement)


def test_nobody_there_is_an_honest_fallback(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    settings = llm_settings("http://127.0.0.1:9/v1", tries=2)
    with Client(settings) as client:
        judgement = case.judged_by(LlmReasoner(settings, client))
    assert {v.fallback for v in judgement.verdicts} == {"unreachable"}


def test_a_fallback_is_told_of_also_where_the_outlook_alone_is_asked_for(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    settings = llm_settings("http://127.0.0.1:9/v1")
    with Client(settings) as client:
        reasoner = LlmReasoner(settings, client)
        judgement = reasoner.judge(case.question, (), case.pack, case.pack.as_of + S, 3)
    assert (judgement.verdicts, judgement.fallback) == ((), "unreachable")


def test_a_retry_comes_only_before_the_first_byte(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    for name, requests in (("cut", 1), ("runaway", 1), ("hangs_up_at_once", 4), ("free_text", 2)):
        with Endpoint(plays()[name]) as endpoint:
            settings = llm_settings(endpoint.url, deadline_s=30.0)
            with Client(settings) as client:
                case.judged_by(LlmReasoner(settings, client))
            assert len(endpoint.requests) == requests, name


@pytest.mark.parametrize(("ahead_s", "end"), [(2.0, End.ANSWER), (120.0, End.RATE_LIMITED)])
def test_a_date_to_come_back_at_is_waited_for_if_the_deadline_allows(
    ahead_s: float, end: End, case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    came: list[float] = []
    until = math.floor(time.time() + ahead_s)

    async def play(request: Request) -> None:
        came.append(time.time())
        if len(came) == 1:
            request.refuse(503, Retry_After=formatdate(until, usegmt=True))
        else:
            request.say(answer(request.ids))

    ended: list[Completion] = []
    with Endpoint(play) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=30.0)
        with Client(settings) as client:
            case.judged_by(LlmReasoner(settings, client, on_completion=ended.append))
    assert ended[0].end is end
    assert all(moment >= until for moment in came[1:])
    assert ended[0].ts_ended - ended[0].ts_asked < SLACK_S * 1e9


def test_a_repair_tells_the_model_what_was_wrong(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    with Endpoint(plays()["wrong_once"]) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=30.0)
        with Client(settings) as client:
            case.judged_by(LlmReasoner(settings, client))
        first, second = (request.body["messages"] for request in endpoint.requests)
    assert second[: len(first)] == first
    assert second[-2] == {"role": "assistant", "content": "I would say up."}
    assert "it is not one JSON object" in second[-1]["content"]


def test_a_schema_that_was_refused_is_not_asked_for_again(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    with Endpoint(plays()["schema_400"]) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=30.0)
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client)
            case.judged_by(reasoner)
            case.named("q2").judged_by(reasoner)
        assert [r.mode for r in endpoint.requests] == ["json_schema", "json_object", "none", "none"]


def test_nothing_runs_on_after_cancellation(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    began = threading.Event()

    async def play(request: Request) -> None:
        request.head()
        await request.drain()
        began.set()
        await forever()

    with Endpoint(play) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=60.0)
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client)
            case_ = case.named("q", deadline=case.question.ts + 60 * 1_000_000_000)
            reasoner.ask(case_.question, case_.forecasts, case_.pack)
            assert began.wait(SLACK_S)
            reasoner.cancel("q")
            assert reasoner.recorded("q").end is End.CANCELLED
            until = time.monotonic() + SLACK_S
            while endpoint.hung_up == 0 and time.monotonic() < until:
                time.sleep(0.01)
        assert endpoint.hung_up == 1


def test_what_is_open_when_the_client_closes_is_journalled_as_cancelled(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    ended: list[Completion] = []
    with Endpoint(plays()["hang"]) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=60.0)
        client = Client(settings)
        client.start()
        reasoner = LlmReasoner(settings, client, on_completion=ended.append)
        for i in range(8):
            one = case.named(f"q{i}")
            reasoner.ask(one.question, one.forecasts, one.pack)
        reasoner.close()
    assert {c.question_id for c in ended} == {f"q{i}" for i in range(8)}
    assert {c.end for c in ended} == {End.CANCELLED}


def test_the_most_valuable_of_64_go_first_and_the_rest_are_shed_and_counted(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    gate = threading.Event()
    order: list[int] = []

    async def play(request: Request) -> None:
        await asyncio.to_thread(gate.wait, SLACK_S)
        order.append(-request.body["priority"])
        request.say(answer(request.ids))

    with Endpoint(play) as endpoint:
        settings = llm_settings(
            endpoint.url, deadline_s=30.0, concurrency=1, queue=40, priority=True
        )
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client)
            for i in range(64):
                one = case.named(f"q{i}", expected_gain=1e-6 * ((i * 37) % 64 + 1))
                reasoner.ask(one.question, one.forecasts, one.pack)
            until = time.monotonic() + SLACK_S
            while client.shed < 23 and time.monotonic() < until:
                time.sleep(0.01)
            gate.set()
            ends = {f"q{i}": reasoner.recorded(f"q{i}").end for i in range(64)}
            assert client.shed == 23
            assert client.waiting == 0
        assert endpoint.most_at_once == 1
    assert sum(end is End.ANSWER for end in ends.values()) == 41
    assert sum(end is End.SHED for end in ends.values()) == 23
    assert order == [1, *range(64, 24, -1)]  # the first came before there was a queue


def test_tokens_price_and_joules_stand_on_every_verdict(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    ended: list[Completion] = []
    with Endpoint(plays()["right"]) as endpoint:
        settings = llm_settings(
            endpoint.url,
            deadline_s=30.0,
            usd_per_m_prompt=2.0,
            usd_per_m_cached=1.0,
            usd_per_m_output=10.0,
            j_per_prompt_token=0.5,
            j_per_output_token=2.0,
        )
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client, on_completion=ended.append)
            verdicts = case.judged_by(reasoner).verdicts
    (completion,) = ended
    n = completion.output_tokens
    assert (completion.prompt_tokens, completion.cached_tokens) == (900, 800)
    assert completion.usd == pytest.approx((100 * 2.0 + 800 * 1.0 + n * 10.0) / 1e6)
    assert completion.energy_j == pytest.approx(100 * 0.5 + n * 2.0)
    assert sum(v.cost.tokens for v in verdicts) == 900 + n
    assert sum(v.cost.usd for v in verdicts) == pytest.approx(completion.usd)
    assert sum(v.cost.energy_j for v in verdicts) == pytest.approx(completion.energy_j)
    assert {v.cost.method for v in verdicts} == {"modelled: tokens x J/token"}


def test_a_character_in_two_parts_is_joined_and_half_of_one_replaced(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    ended: dict[str, Completion] = {}
    for name in ("character_in_two_parts", "half_a_character", "half_a_character_as_finish"):
        with Endpoint(plays()[name]) as endpoint:
            settings = llm_settings(endpoint.url, deadline_s=30.0)
            with Client(settings) as client:
                journal: list[Completion] = []
                case.judged_by(LlmReasoner(settings, client, on_completion=journal.append))
                (ended[name],) = journal
    assert "The text \U0001f600 the market." in ended["character_in_two_parts"].text
    assert ended["half_a_character"].attempts[0].text == "up \ufffd"
    assert ended["half_a_character_as_finish"].attempts[0].finish == "stop\ufffd"


@pytest.mark.parametrize(("deadline_s", "linger_s"), [(30.0, 0.2), (2.0, 60.0)])
def test_an_answer_that_has_ended_is_not_lost_to_a_connection_that_stays_open(
    deadline_s: float,
    linger_s: float,
    case: Any,
    llm_settings: Callable[..., LlmSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("finllm.reasoning.llm.client._LINGER_S", linger_s)
    ended: list[Completion] = []
    with Endpoint(plays()["stays_open"]) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=deadline_s)
        with Client(settings) as client:
            case.judged_by(LlmReasoner(settings, client, on_completion=ended.append))
    assert ended[0].end is End.ANSWER
    assert ended[0].ts_ended - ended[0].ts_asked < SLACK_S * S


def asking(name: str, budget_s: float = 30.0, value: float = 1.0) -> Ask:
    """Return a prompt to which any object is an answer."""
    return Ask(
        question_id=name,
        prompt_id="p",
        messages=(Message("system", "x"), Message("user", '{"id": "e1"}')),
        schema={},
        value=value,
        budget_ns=int(budget_s * S),
        fault=lambda text: "" if text.startswith("{") else "it is no object",
    )


def test_while_one_waits_to_try_again_another_has_its_turn(
    llm_settings: Callable[..., LlmSettings],
) -> None:
    async def play(request: Request) -> None:
        if len(request.endpoint.requests) == 1:
            request.refuse(429, Retry_After="3")
        else:
            request.say(answer(request.ids))

    with Endpoint(play) as endpoint, Client(llm_settings(endpoint.url, concurrency=1)) as client:
        client.submit(asking("q1"))
        until = time.monotonic() + SLACK_S
        while not endpoint.requests and time.monotonic() < until:
            time.sleep(0.01)
        client.submit(asking("q2"))
        second, first = client.wait("q2"), client.wait("q1")
    assert (first.end, second.end) == (End.ANSWER, End.ANSWER)
    assert second.ts_ended < first.ts_ended
    assert second.ts_ended - second.ts_asked < 2 * S


def test_what_a_dead_client_was_asked_ends_as_an_error_and_nothing_is_thrown(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    ended: list[Completion] = []
    with Endpoint(plays()["hang"]) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=60.0)
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client, on_completion=ended.append)
            before = case.named("before")
            reasoner.ask(before.question, before.forecasts, before.pack)
            client._loop.call_soon_threadsafe(client._loop.stop)
            client._thread.join(SLACK_S)
            judgement = case.judged_by(reasoner)
            reasoner.ask(case.named("after").question, case.forecasts, case.pack)
            reasoner.cancel("after")
            reasoner.close()
    ends = {one.question_id: one.end for one in ended}
    assert ends["q"] is ends["after"] is End.ERROR
    assert ends["before"] in {End.ERROR, End.CANCELLED}
    assert {v.fallback for v in judgement.verdicts} == {"error"}


def test_the_key_goes_into_the_header_and_nowhere_else(
    case: Any, llm_settings: Callable[..., LlmSettings]
) -> None:
    ended: list[Completion] = []
    with Endpoint(plays()["schema_400"]) as endpoint:
        settings = llm_settings(endpoint.url, deadline_s=30.0)
        with Client(settings, key="sk-secret") as client:
            case.judged_by(LlmReasoner(settings, client, on_completion=ended.append))
        assert {r.headers["authorization"] for r in endpoint.requests} == {"Bearer sk-secret"}
    assert "sk-secret" not in repr(ended)
