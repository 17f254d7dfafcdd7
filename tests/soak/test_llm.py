"""A thousand calls to an endpoint that does everything wrong in turn, many at a time."""

import json
import time
from collections import Counter

import msgspec
import numpy as np
import pytest

from finllm.domain.completion import Completion, End
from finllm.domain.evidence import EvidencePack
from finllm.domain.protocol import Escalate
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Apart, plays
from support.questions import SEEN, Lag, S, forecasts_of, question

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]
N = 1_000
AT_ONCE = 64
MOST_OVER_MS = 50.0


def test_every_one_of_a_thousand_mixed_calls_ends_in_time() -> None:
    rng = np.random.default_rng(0)
    asked = [question(i, rng, 3.0, 12, SEEN) for i in range(N)]
    ended: list[Completion] = []
    with Apart(seed=1) as endpoint, Lag() as lag:
        settings = LlmSettings(
            base_url=endpoint.url, model="m", deadline_s=1.0, concurrency=16, queue=64, retry_s=0.05
        )
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client, on_completion=ended.append)
            ask_all(reasoner, asked)
            shed = client.shed
        until = time.monotonic() + 30.0
        while endpoint.told()[0] and time.monotonic() < until:
            time.sleep(0.05)
        at_once, played = endpoint.told()
    assert at_once == 0, "something ran on"
    assert set(played) == set(plays())
    check_conclusions(reasoner, asked, ended)
    ends = Counter(str(c.end) for c in ended)
    over_ms = [(c.ts_ended - c.ts_asked - c.budget_ns) / 1e6 for c in ended]
    figures = {"ends": ends, "most_over_ms": max(over_ms), "lag_ms": lag.most_ns / 1e6}
    print(json.dumps(figures))  # noqa: T201 - the figures of the run
    assert shed == ends["shed"]
    assert {"answer", "invalid", "timeout", "cut"} <= set(ends)
    assert max(over_ms) <= MOST_OVER_MS + lag.most_ns / 1e6


def ask_all(reasoner: LlmReasoner, asked: list[tuple[Escalate, EvidencePack]]) -> None:
    for first in range(0, N, AT_ONCE):
        batch = asked[first : first + AT_ONCE]
        for one, pack in batch:
            reasoner.ask(one, forecasts_of(one), pack)
        for one, _ in batch:
            reasoner.recorded(one.question_id)


def check_conclusions(
    reasoner: LlmReasoner,
    asked: list[tuple[Escalate, EvidencePack]],
    ended: list[Completion],
) -> None:
    """See that each question has one end, and that what was not answered is the embedded reasoner's."""
    by_id = {one.question_id: one for one in ended}
    assert len(by_id) == len(ended) == len(asked)
    plain = EmbeddedReasoner()
    for one, pack in asked:
        completion = by_id[one.question_id]
        about = forecasts_of(one)
        said = reasoner.conclude(one, about, pack, completion, one.ts + S, 1)
        own = plain.judge(one, about, pack, one.ts + S, 1)
        assert len(said.verdicts) == len(about)
        if completion.end is End.ANSWER:
            assert {(v.reasoner, v.fallback) for v in said.verdicts} == {(reasoner.name, "")}
            continue
        assert {v.fallback for v in said.verdicts} == {str(completion.end)}
        assert said.outlook == own.outlook
        for verdict, alone in zip(said.verdicts, own.verdicts, strict=True):
            own = {"fallback": "", "cost": alone.cost, "verdict_id": alone.verdict_id}
            assert msgspec.structs.replace(verdict, **own) == alone
