"""Laws of what asking about everything would have gained."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from finllm.audit.propensity import Chances, asking_all, chances_of
from finllm.audit.scorecard import Stage
from finllm.domain.protocol import Escalate, Hold

S = 10**9
N = 400
GAINS = np.random.default_rng(3).normal(0.02, 0.1, (2, N))
CHANCES = np.where(np.random.default_rng(4).random(N) < 0.3, 1.0, 0.2)


def lived(asked: np.ndarray) -> Any:
    """Return a life with a forecast at each notice, which gains at issue and later where it was asked."""
    at_issue = np.where(asked, GAINS[0], 0.0)
    # What a question changes later is the forecast's that stood before it.
    later = np.append(np.where(asked, GAINS[1], 0.0)[1:], 0.0)
    edge = np.full(N, 1.0)
    sample = SimpleNamespace(
        instruments=["a"], instrument=np.zeros(N, dtype=int), ts_recv=np.arange(N) * S + 1
    )
    stages = {
        Stage.EDGE: SimpleNamespace(log=edge),
        Stage.IN_FORCE: SimpleNamespace(log=edge - at_issue - later),
    }
    return SimpleNamespace(sample=sample, stages=stages, emitted_log=edge - at_issue)


def chances(asked: np.ndarray) -> Chances:
    at = np.flatnonzero(asked)
    return Chances({"a": at * S}, {"a": CHANCES[at]}, int((CHANCES[at] < 1.0).sum()), 0)


def test_the_estimate_is_without_bias_and_as_far_off_as_it_says() -> None:
    true = GAINS[0].sum() + GAINS[1][1:].sum()
    rng = np.random.default_rng(5)
    found = []
    for _ in range(1_500):
        asked = rng.random(N) < CHANCES
        estimate = asking_all(lived(asked), chances(asked))
        assert estimate is not None
        found.append((estimate.total, estimate.deviation))
    totals, deviations = np.array(found).T
    assert totals.mean() == pytest.approx(true, abs=3.0 * totals.std() / len(found) ** 0.5)
    assert (deviations**2).mean() == pytest.approx(totals.var(), rel=0.15)


def test_where_everything_was_asked_the_estimate_is_what_happened() -> None:
    asked = np.ones(N, dtype=bool)
    at = Chances({"a": np.arange(N) * S}, {"a": np.ones(N)}, 10, 0)
    estimate = asking_all(lived(asked), at)
    assert estimate is not None
    assert estimate.total == pytest.approx(GAINS[0].sum() + GAINS[1][1:].sum())
    assert estimate.deviation == 0.0


def test_without_exploration_nothing_is_estimated() -> None:
    asked = np.ones(N, dtype=bool)
    assert asking_all(lived(asked), Chances({"a": np.arange(N)}, {"a": np.ones(N)}, 9, 0)) is None


def test_what_had_no_chance_is_counted_and_what_was_asked_by_chance_too() -> None:
    def yes(ts: int, propensity: float) -> Escalate:
        return Escalate(
            question_id=f"q{ts}", instrument="a", ts=ts, notice_id="n", standing=(), deadline=9,
            expected_gain=0.1, reason="", propensity=propensity,
        )  # fmt: skip

    def no(propensity: float) -> Hold:
        return Hold(
            instrument="a",
            ts=1,
            notice_id="n",
            expected_gain=0.0,
            reason="",
            propensity=propensity,
        )

    found = chances_of([yes(5, 1.0), yes(3, 0.02)], [no(0.0), no(0.02), no(0.0)])
    assert (found.explored, found.unreachable) == (1, 2)
    assert found.ts["a"].tolist() == [3, 5]
    assert found.propensity["a"].tolist() == [0.02, 1.0]
