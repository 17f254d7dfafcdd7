"""Hundreds of questions to six endpoints at once, each of which does everything wrong in turn."""

import json
import time
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pytest

from finllm.domain.completion import Completion
from support.endpoint import Play, Request, plays
from support.opinions import at_endpoints, ensemble, opining
from support.questions import Lag, S, question

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]
N = 200
AT_ONCE = 4
DEADLINE_S = 1.0
MOST_OVER_MS = 50.0


def mixed(seed: int) -> Play:
    """Return what plays one behaviour after the other, an opinion as often as any fault."""
    known = [*plays().values(), *[opining(str(seed))] * len(plays())]
    choice = np.random.default_rng(seed)

    async def play(request: Request) -> None:
        await known[int(choice.integers(len(known)))](request)

    return play


def test_every_pool_of_hundreds_comes_in_time_and_every_exchange_is_journalled() -> None:
    rng = np.random.default_rng(0)
    asked = [question(i, rng, 30.0) for i in range(N)]
    ended: list[Completion] = []
    over_ms: list[float] = []
    with ExitStack() as stack:
        lag = stack.enter_context(Lag())
        told = {f"member-{chr(ord('a') + i)}": mixed(i) for i in range(6)}
        members, endpoints = at_endpoints(told, stack, ended.append, concurrency=AT_ONCE)
        reasoner = ensemble(*members, deadline_s=DEADLINE_S)
        for first in range(0, N, AT_ONCE):
            batch = {one.question_id: (one, pack) for one, pack in asked[first : first + AT_ONCE]}
            began = time.monotonic()
            for one, pack in batch.values():
                reasoner.ask(one, (), pack)
            while batch:
                for ended_round in reasoner.answers():
                    one, pack = batch.pop(ended_round.question_id)
                    over_ms.append((time.monotonic() - began - DEADLINE_S) * 1e3)
                    reasoner.conclude(one, (), pack, ended_round, one.ts + S, 1)
                time.sleep(0.002)
        until = time.monotonic() + 30.0
        while any(one.at_once for one in endpoints.values()) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(one.at_once for one in endpoints.values()), "something ran on"
    ends = Counter(str(one.end) for one in ended)
    spared = sum(n for c in reasoner.counts.values() for end, n in c.items() if "not" in end)
    figures = {
        "pools": len(over_ms),
        "exchanges": len(ended),
        "spared": spared,
        "ends": ends,
        "over_deadline_ms": {"p50": np.median(over_ms), "max": max(over_ms)},
        "lag_ms": lag.most_ns / 1e6,
    }
    print(json.dumps(figures))  # noqa: T201 - the figures of the run
    assert len(over_ms) == N
    assert len({one.question_id for one in ended}) == len(ended) == 6 * N - spared
    assert {"answer", "invalid", "cancelled", "cut"} <= set(ends)
    assert max(over_ms) <= MOST_OVER_MS + lag.most_ns / 1e6
