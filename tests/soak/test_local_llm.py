"""64 questions at once to a real llama.cpp with two slots: in time, in order, and nothing runs on."""

import json
import time
from collections import Counter
from pathlib import Path

import httpx2
import numpy as np
import pytest

from finllm.domain.completion import Completion, End
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.local import Local
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from support.questions import Lag, S, question
from support.tiny_model import make_model

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]
ROUNDS, AT_ONCE, SLOTS = 5, 64, 2
MOST_OVER_MS = 50.0


def idle_after_s(local: Local) -> float:
    """Return how long it takes until no slot computes, s."""
    began = time.monotonic()
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=local.socket), timeout=60.0) as http:
        while any(slot["is_processing"] for slot in http.get("http://localhost/slots").json()):
            time.sleep(0.005)
    return time.monotonic() - began


def test_64_at_once_end_in_time_and_nothing_runs_on(tmp_path: Path) -> None:
    settings = LlmSettings(
        gguf=str(make_model(tmp_path / "tiny.gguf")),
        deadline_s=5.0,
        concurrency=SLOTS,
        queue=AT_ONCE,
        max_tokens=200,
    )
    rng, ended = np.random.default_rng(0), list[Completion]()
    idle_s: list[float] = []
    with Local(settings) as local, Lag() as lag:
        for first in range(0, ROUNDS * AT_ONCE, AT_ONCE):
            with Client(settings, socket=local.socket) as client:
                reasoner = LlmReasoner(settings, client, on_completion=ended.append)
                asked = [question(i, rng) for i in range(first, first + AT_ONCE)]
                for one, pack in asked:
                    reasoner.ask(one, (), pack)
                for one, _ in asked:
                    reasoner.recorded(one.question_id)
                idle_s.append(idle_after_s(local))
                check_order(ended[first:])
        assert local.n_restarts == 0
    over_ms = [(c.ts_ended - c.ts_asked - c.budget_ns) / 1e6 for c in ended]
    answered = [c for c in ended if c.end is End.ANSWER]
    figures = {
        "ends": Counter(str(c.end) for c in ended),
        "most_over_ms": max(over_ms),
        "lag_ms": lag.most_ns / 1e6,
        "most_idle_after_s": max(idle_s),
        "answer_p50_s": float(
            np.median([(c.attempts[-1].ts_last_byte - c.attempts[0].ts) / S for c in answered])
        ),
        "prompt_tokens_p50": float(np.median([c.prompt_tokens for c in answered])),
        "cached_tokens_p50": float(np.median([c.cached_tokens for c in answered])),
    }
    print(json.dumps(figures))  # noqa: T201 - the figures of the run
    assert len(ended) == ROUNDS * AT_ONCE
    assert {c.end for c in ended} <= {End.ANSWER, End.TIMEOUT, End.SHED}
    assert max(over_ms) <= MOST_OVER_MS + lag.most_ns / 1e6


def check_order(ended: list[Completion]) -> None:
    """See that the most valuable were sent first, once those that found a free slot had gone."""
    sent = sorted((c for c in ended if c.attempts), key=lambda c: c.attempts[0].ts)
    values = [c.value for c in sent[SLOTS:]]
    assert values == sorted(values, reverse=True)
