"""What a question costs beside the engine's own time: prompt, request, stream, parsing, checks, verdict."""

import json
import time
from statistics import median

import numpy as np
import pytest

from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Endpoint, Request, answer
from support.questions import S, question

pytestmark = pytest.mark.bench
N = 300
MOST_MS = 3.0


def ours_s(client: Client) -> float:
    """Return the processor time of the caller's thread and the client's so far: no neighbour's load."""
    clock = time.pthread_getcpuclockid(client._thread.ident or 0)
    return time.thread_time() + time.clock_gettime(clock)


def test_a_question_costs_three_milliseconds_beside_the_engine() -> None:
    own_ns: list[int] = []

    async def play(request: Request) -> None:
        began = time.perf_counter_ns()
        request.say(answer(request.ids))
        own_ns.append(time.perf_counter_ns() - began)

    rng = np.random.default_rng(0)
    took_ns: list[int] = []
    cpu_s = 0.0
    with Endpoint(play) as endpoint:
        settings = LlmSettings(base_url=endpoint.url, model="m", deadline_s=60.0)
        with Client(settings) as client:
            reasoner = LlmReasoner(settings, client)
            before_s = ours_s(client)
            for asked, pack in [question(i, rng) for i in range(N)]:
                began = time.perf_counter_ns()
                reasoner.judge(asked, (), pack, asked.ts + S, 1)
                took_ns.append(time.perf_counter_ns() - began)
            cpu_s = ours_s(client) - before_s
    overhead = sorted((a - b) / 1e6 for a, b in zip(took_ns, own_ns, strict=True))
    figures = {
        "p50_ms": median(overhead),
        "p99_ms": overhead[int(0.99 * N)],
        "cpu_ms": 1e3 * cpu_s / N,
        "n": N,
    }
    print(json.dumps(figures))  # noqa: T201 - the figures of the run
    assert median(overhead) <= MOST_MS
