"""What a question costs beside the engine's time: gathering, prompt, request, stream, checks, verdicts."""

import json
import time
from statistics import median
from typing import Any

import msgspec
import numpy as np
import pytest

from finllm.domain.evidence import Document, Evidence
from finllm.domain.protocol import Escalate
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.reasoner import Judgement
from support.endpoint import Endpoint, Request, answer
from support.live import STORIES
from support.questions import SEEN, S, forecasts_of, question, seen

pytestmark = pytest.mark.bench
N, WARM = 300, 30
MOST_MS = 3.0
"""Beside the engine and the making of the verdicts."""
INSTRUMENT = "binance-usdm:BTCUSDT"
FURTHER = (
    "Bitcoin futures open lower in Chicago as traders weigh inflation figures",
    "Miner of Bitcoin reports quarterly loss after flood at its Texas site",
    "Survey finds fewer households hold Bitcoin than a year ago",
    "Bitcoin network completes scheduled change of difficulty without incident",
)


def told_room(ts: int) -> Narrative:
    """Return a room that has read twelve texts."""
    room = Narrative(settings=NarrativeSettings(), encoder=HashingEncoder())
    room.watch(INSTRUMENT)
    for i, text in enumerate((*STORIES, *FURTHER)):
        at = ts - (20 - i) * S
        document = Document(
            document_id=f"d{i}", source=f"wire-{i}", ts_published=at, ts_recv=at, text=text
        )
        room.admit(document, at)
    return room


def about(i: int, ts: int, rng: np.random.Generator) -> tuple[Escalate, tuple[Evidence, ...]]:
    """Return a question, and what its book shows."""
    asked, _ = question(0, rng)
    shown = (msgspec.structs.replace(one, instrument=INSTRUMENT) for one in seen(i, ts, rng))
    named = msgspec.structs.replace(asked, question_id=f"q{i}", instrument=INSTRUMENT)
    return named, tuple(shown)


def ours_s(client: Client) -> float:
    """Return the processor time of the caller's thread and the client's so far: no neighbour's load."""
    clock = time.pthread_getcpuclockid(client._thread.ident or 0)
    return time.thread_time() + time.clock_gettime(clock)


@pytest.fixture
def judging_ns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how long each making of verdicts takes, filled as they are made."""
    took_ns: list[int] = []
    judge_as = EmbeddedReasoner.judge_as

    def timed(*args: Any) -> Judgement:
        began = time.perf_counter_ns()
        judgement = judge_as(*args)
        took_ns.append(time.perf_counter_ns() - began)
        return judgement

    monkeypatch.setattr(EmbeddedReasoner, "judge_as", timed)
    return took_ns


def test_a_usual_question_costs_a_few_milliseconds_beside_the_engine(
    judging_ns: list[int],
) -> None:
    own_ns: list[int] = []

    async def play(request: Request) -> None:
        began = time.perf_counter_ns()
        request.say(answer(request.ids))
        own_ns.append(time.perf_counter_ns() - began)

    rng = np.random.default_rng(0)
    ts = question(0, rng)[0].ts
    room = told_room(ts)
    took_ns: list[int] = []
    cpu_s: list[float] = []
    with Endpoint(play) as endpoint:
        settings = LlmSettings(base_url=endpoint.url, model="m", deadline_s=60.0)
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client)
            for asked, shown in [about(i, ts, rng) for i in range(WARM + N)]:
                forecasts = forecasts_of(asked)
                began, before_s = time.perf_counter_ns(), ours_s(client)
                pack = room.gather(INSTRUMENT, ts, shown)
                judgement = reasoner.judge(asked, forecasts, pack, ts + S, 1)
                cpu_s.append(ours_s(client) - before_s)
                took_ns.append(time.perf_counter_ns() - began)
                assert {one.fallback for one in judgement.verdicts} == {""}
                assert len(pack.evidence) == len(STORIES) + len(FURTHER) + len(SEEN)
    whole = [(a - b) / 1e6 for a, b in zip(took_ns[WARM:], own_ns[WARM:], strict=True)]
    judging = [ns / 1e6 for ns in judging_ns[WARM:]]
    overhead = sorted(a - b for a, b in zip(whole, judging, strict=True))
    figures = {
        "p50_ms": median(overhead),
        "p99_ms": overhead[int(0.99 * N)],
        "verdicts_p50_ms": median(judging),
        "with_verdicts_p50_ms": median(whole),
        "with_verdicts_cpu_p50_ms": 1e3 * median(cpu_s[WARM:]),
        "n": N,
    }
    print(json.dumps(figures))  # noqa: T201 - the figures of the run
    assert figures["p50_ms"] <= MOST_MS
