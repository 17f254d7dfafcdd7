"""Laws of asking a second endpoint: where it pays, the first answer that holds wins, and all is told."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from finllm.domain.completion import Completion, End, Message
from finllm.domain.errors import SettingsError
from finllm.reasoning.llm.answerer import Ask
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.hedge import LEAST_KNOWN, Durations, Hedged
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Endpoint, Play, Request, plays

MS = 1_000_000


def ask(number: int, budget_ms: int, value: float = 1.0) -> Ask:
    return Ask(
        question_id=f"q{number}",
        prompt_id="p",
        messages=(Message("system", "x"), Message("user", '{"id": "e1"}')),
        schema={},
        value=value,
        budget_ns=budget_ms * MS,
        fault=lambda text: "" if text.startswith("{") else "it is no object",
    )


@contextmanager
def hedged(*names: Play, price: float = 0.0) -> Iterator[tuple[Hedged, list[Endpoint]]]:
    """Yield endpoints of one model that play these, as one answerer."""
    with ExitStack() as stack:
        endpoints = [stack.enter_context(Endpoint(play)) for play in names]
        settings = LlmSettings(
            base_url=endpoints[0].url, model="tiny", retry_s=0.01, usd_per_m_output=1.0
        )
        clients = [
            stack.enter_context(Client(settings, url=endpoint.url)) for endpoint in endpoints
        ]
        yield Hedged(clients, price), endpoints


def until_hung_up(endpoint: Endpoint) -> None:
    end = time.monotonic() + 20.0
    while not endpoint.hung_up and time.monotonic() < end:
        time.sleep(0.01)
    assert endpoint.hung_up == 1


def asked(answerer: Hedged, question: Ask) -> Completion:
    answerer.submit(question)
    return answerer.wait(question.question_id)


def test_a_slow_question_is_put_to_a_second_endpoint_whose_answer_wins() -> None:
    with hedged(plays()["hang"], plays()["right"]) as (answerer, endpoints):
        ended = asked(answerer, ask(1, 4_000))
        assert ended.end is End.ANSWER
        assert (ended.endpoint, [one.endpoint for one in ended.attempts]) == (1, [0, 1])
        assert 2_000 * MS <= ended.hedged_ns < 4_000 * MS
        assert ended.budget_ns == 4_000 * MS
        until_hung_up(endpoints[0])


def test_the_first_endpoints_answer_wins_where_it_comes_first_and_the_other_is_cancelled() -> None:
    async def late(request: Request) -> None:
        await asyncio.sleep(1.0)
        await plays()["right"](request)

    with hedged(late, plays()["hang"]) as (answerer, endpoints):
        ended = asked(answerer, ask(1, 1_600))
        assert (ended.end, ended.endpoint) == (End.ANSWER, 0)
        assert ended.hedged_ns >= 800 * MS
        until_hung_up(endpoints[1])


def test_what_answers_soon_is_asked_once() -> None:
    with hedged(plays()["right"], plays()["right"]) as (answerer, endpoints):
        for number in range(LEAST_KNOWN):
            ended = asked(answerer, ask(number, 60_000))
            assert (ended.end, ended.endpoint, ended.hedged_ns) == (End.ANSWER, 0, 0)
        assert len(endpoints[0].requests) == LEAST_KNOWN
        assert endpoints[1].requests == []


def test_nobody_else_is_asked_where_it_does_not_pay() -> None:
    with hedged(plays()["hang"], plays()["right"], price=0.5) as (answerer, endpoints):
        ended = asked(answerer, ask(1, 400, value=0.4))
        assert (ended.end, ended.hedged_ns) == (End.TIMEOUT, 0)
        assert endpoints[1].requests == []


def test_an_endpoint_that_fails_is_followed_by_the_other_at_once() -> None:
    with hedged(plays()["free_text"], plays()["right"]) as (answerer, _):
        began = time.monotonic()
        ended = asked(answerer, ask(1, 60_000))
        assert (ended.end, ended.endpoint) == (End.ANSWER, 1)
        assert time.monotonic() - began < 20.0
        assert ended.output_tokens > 0
        assert ended.usd == pytest.approx(ended.output_tokens / 1e6)  # both requests are paid


def test_where_both_fail_the_first_ones_end_is_told() -> None:
    with hedged(plays()["free_text"], plays()["hangs_up_at_once"]) as (answerer, _):
        ended = asked(answerer, ask(1, 30_000))
        assert (ended.end, ended.endpoint) == (End.INVALID, 0)
        assert ended.hedged_ns > 0


def test_a_question_given_up_is_cancelled_everywhere_and_ends_once() -> None:
    with hedged(plays()["hang"], plays()["hang"]) as (answerer, endpoints):
        answerer.submit(ask(1, 60_000))
        while not endpoints[0].requests:
            time.sleep(0.01)
        answerer.cancel("q1")
        assert answerer.wait("q1").end is End.CANCELLED
        assert answerer.take() is None
        assert endpoints[1].requests == []


def test_closing_ends_every_question() -> None:
    with hedged(plays()["hang"], plays()["right"]) as (answerer, _):
        answerer.submit(ask(1, 60_000))
        answerer.submit(ask(2, 60_000))
        answerer.close()
        ends = [completion for completion in (answerer.take(), answerer.take()) if completion]
        assert [one.end for one in ends] == [End.CANCELLED] * 2


def test_a_second_endpoint_is_asked_when_nineteen_of_twenty_would_have_answered() -> None:
    durations = Durations()
    assert durations.patience_ns(1_000) == 500
    for took in range(1, 65):
        durations.observe(took)
    assert durations.patience_ns(1_000) == 60
    assert durations.chance(0, 1_000) > 0.98
    assert durations.chance(64, 1_000) == 0.5  # nothing is known of what takes longer
    assert durations.chance(0, 0) < 0.02


@pytest.mark.parametrize("also", ["ftp://h/v1", "http://u:p@h/v1"])
def test_an_address_that_cannot_be_asked_is_named(also: str) -> None:
    with pytest.raises(SettingsError, match=r"reasoning\.llm\.also"):
        LlmSettings(base_url="http://h/v1", model="m", also=(also,))
    with pytest.raises(SettingsError, match="first address"):
        LlmSettings(gguf="m.gguf", also=("http://h/v1",))
