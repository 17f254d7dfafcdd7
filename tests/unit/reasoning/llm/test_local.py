"""A real llama.cpp, served by ourselves: what it keeps of a schema and a prefix, and that it ends.

Its model's weights are by chance: nothing here says anything about a judgement.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from finllm.domain.completion import Completion, End
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.llama import NICENESS
from finllm.reasoning.llm.local import Local
from finllm.reasoning.llm.probe import probe
from finllm.reasoning.llm.prompt import SYSTEM
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from finllm.runtime.cores import others
from support.tiny_model import BEYOND_IT, make_model

SLACK_S = 30.0
"""What a loaded machine may take; how exact deadlines are is for the soak test."""
FOR_EVER = 20_000
"""Tokens of an answer that nobody waits for: a minute at least."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


def settings_of(model: Path, **changes: Any) -> LlmSettings:
    usual = {"concurrency": 2, "max_tokens": 200, "deadline_s": SLACK_S, "retry_s": 0.01}
    return LlmSettings(gguf=str(model), **(usual | changes))


@pytest.fixture(scope="module")
def local(model: Path) -> Iterator[Local]:
    with Local(settings_of(model, max_tokens=FOR_EVER)) as started:
        yield started


def asked(case: Any, local: Local, settings: LlmSettings) -> tuple[Completion, Any]:
    """Return how a question ended, and what was made of it."""
    ended: list[Completion] = []
    with Client(settings, socket=local.socket) as client:
        judgement = case.judged_by(LlmReasoner(settings, client, on_completion=ended.append))
    (completion,) = ended
    return completion, judgement


def slots(local: Local) -> list[dict[str, Any]]:
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=local.socket)) as http:
        found: list[dict[str, Any]] = http.get("http://localhost/slots", timeout=SLACK_S).json()
        return found


def until(reached: Callable[[], bool]) -> bool:
    """Return whether something comes about within a loaded machine's time."""
    last = time.monotonic() + SLACK_S
    while not reached():
        if time.monotonic() > last:
            return False
        time.sleep(0.02)
    return True


def is_busy(local: Local) -> bool:
    return any(slot["is_processing"] for slot in slots(local))


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_keeps_the_schema_and_its_answer_makes_a_verdict(
    case: Any, local: Local, model: Path
) -> None:
    completion, judgement = asked(case, local, settings_of(model))
    assert completion.end is End.ANSWER
    assert [a.mode for a in completion.attempts] == ["json_schema"]
    assert completion.is_counted
    assert {v.fallback for v in judgement.verdicts} == {""}
    assert {v.reasoner for v in judgement.verdicts} == {f"llm:tiny+{EmbeddedReasoner().name}"}


@pytest.mark.parametrize("mode", ["json_object", "none"])
def test_where_no_schema_holds_it_the_embedded_reasoner_answers(
    mode: str, case: Any, local: Local, model: Path
) -> None:
    settings = settings_of(model, schema_mode=mode, max_tokens=30)
    completion, judgement = asked(case, local, settings)
    assert completion.end is End.INVALID
    assert [a.mode for a in completion.attempts] == [mode] * 2
    plain = case.judged_by(EmbeddedReasoner())
    assert [v.shift for v in judgement.verdicts] == [v.shift for v in plain.verdicts]
    assert {v.fallback for v in judgement.verdicts} == {"invalid"}


def test_its_schema_holds_no_bounds_of_numbers_and_ours_does(case: Any, tmp_path: Path) -> None:
    settings = settings_of(make_model(tmp_path / "nine.gguf", BEYOND_IT))
    with Local(settings) as started:
        completion, judgement = asked(case, started, settings)
    assert completion.end is End.INVALID
    assert json.loads(completion.attempts[0].text)["shift"] > 1.0
    assert {v.fallback for v in judgement.verdicts} == {"invalid"}


def test_it_keeps_the_prefix_of_one_question_for_the_next(
    case: Any, make: Callable[..., Any], case_of: Any, local: Local, model: Path
) -> None:
    settings = settings_of(model)
    asked(case, local, settings)
    other = case_of(make("pack", make("claim", "another", stance=0.9))).named("q2")
    completion, _ = asked(other, local, settings)
    assert completion.end is End.ANSWER
    # A byte is a token here; only what comes after the instrument differs.
    assert len(SYSTEM) < completion.cached_tokens < completion.prompt_tokens
    again, _ = asked(other.named("q3"), local, settings)
    assert again.cached_tokens >= again.prompt_tokens - 1


def test_a_probe_finds_all_of_it(local: Local, model: Path) -> None:
    report = probe(
        settings_of(model, max_tokens=150), key="", horizons=(), n=3, socket=local.socket
    )
    assert report.ok
    assert report.schema_modes == {"json_schema": True, "json_object": False, "none": False}
    assert report.logprobs
    assert report.cached_prompt_tokens > 0
    assert report.same_twice


def test_its_log_probabilities_are_logs_of_probabilities(local: Local) -> None:
    body = {
        "messages": [{"role": "user", "content": "up or down?"}],
        "max_tokens": 8,
        "logprobs": True,
        "top_logprobs": 5,
    }
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=local.socket)) as http:
        reply = http.post("http://localhost/v1/chat/completions", json=body, timeout=SLACK_S)
    told = reply.json()["choices"][0]["logprobs"]["content"]
    assert len(told) == 8
    for token in told:
        likely = [one["logprob"] for one in token["top_logprobs"]]
        assert likely == sorted(likely, reverse=True)
        assert sum(math.exp(one) for one in likely) <= 1.0 + 1e-4
        assert token["logprob"] <= 0.0


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_it_stops_when_the_client_hangs_up(how: str, case: Any, local: Local, model: Path) -> None:
    settings = settings_of(
        model,
        schema_mode="none",
        max_tokens=FOR_EVER,
        deadline_s=SLACK_S if how == "cancelled" else 1.0,
    )
    late = case.named("q", deadline=case.question.ts + 60 * 10**9)
    with Client(settings, socket=local.socket) as client:
        reasoner = LlmReasoner(settings, client)
        reasoner.ask(late.question, late.forecasts, late.pack)
        if how == "cancelled":
            assert until(lambda: is_busy(local))
            reasoner.cancel("q")
        ended = reasoner.recorded("q").end
        assert ended is (End.CANCELLED if how == "cancelled" else End.TIMEOUT)
        assert until(lambda: not is_busy(local))


def test_all_its_threads_are_niced_and_off_the_edges_core(local: Local) -> None:
    allowed = os.sched_getaffinity(0)
    threads = [int(path.name) for path in Path(f"/proc/{local.pid}/task").iterdir()]
    assert len(threads) > 2
    for thread in threads:
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        assert niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        assert os.sched_getaffinity(thread) == others(allowed)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_dies_or_hangs_is_replaced_and_counted(
    fault: signal.Signals, case: Any, model: Path
) -> None:
    settings = settings_of(model, tries=1)
    with Local(settings, patience_s=1.0) as started:
        first = started.pid
        assert asked(case, started, settings)[0].end is End.ANSWER
        os.kill(first, fault)
        assert until(lambda: is_gone(first))
        until(lambda: asked(case, started, settings)[0].end is End.ANSWER)
        assert asked(case, started, settings)[0].end is End.ANSWER
        assert started.n_restarts == 1
        second, folder = started.pid, Path(started.socket).parent
    assert is_gone(second)
    assert not folder.exists()


def test_while_nobody_serves_the_verdict_is_an_honest_fallback(case: Any, model: Path) -> None:
    settings = settings_of(model, tries=2)
    with Local(settings) as started:
        Path(started.socket).unlink()
        completion, judgement = asked(case, started, settings)
    assert completion.end is End.UNREACHABLE
    assert {v.fallback for v in judgement.verdicts} == {"unreachable"}


def test_it_cannot_outlive_whoever_started_it(model: Path) -> None:
    script = (
        "import sys, time\n"
        "from finllm.reasoning.llm.local import Local\n"
        "from finllm.reasoning.llm.settings import LlmSettings\n"
        f"local = Local(LlmSettings(gguf={str(model)!r}))\n"
        "local.start()\n"
        "print(local.pid, local.socket, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid, socket = parent.stdout.readline().decode().split()
        parent.kill()
        parent.wait()
    assert until(lambda: is_gone(int(pid)))
    assert not Path(socket).parent.exists()
