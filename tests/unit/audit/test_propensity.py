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


def scored(ts: np.ndarray, at_issue: np.ndarray, later: np.ndarray) -> Any:
    """Return forecasts of one instrument that gained so much over the edge."""
    edge = np.full(len(ts), 1.0)
    sample = SimpleNamespace(instruments=["a"], instrument=np.zeros(len(ts), dtype=int), ts_recv=ts)
    stages = {
        Stage.EDGE: SimpleNamespace(log=edge),
        Stage.IN_FORCE: SimpleNamespace(log=edge - at_issue - later),
    }
    return SimpleNamespace(sample=sample, stages=stages, emitted_log=edge - at_issue)


def lived(asked: np.ndarray) -> Any:
    """Return a life with a forecast at each notice, which gains at issue and later where it was asked."""
    at_issue = np.where(asked, GAINS[0], 0.0)
    # What a question changes later is the forecast's that stood before it.
    later = np.append(np.where(asked, GAINS[1], 0.0)[1:], 0.0)
    return scored(np.arange(N) * S + 1, at_issue, later)


def chances(asked: np.ndarray) -> Chances:
    explored = int((CHANCES[asked] < 1.0).sum())
    return Chances({"a": np.arange(N) * S}, {"a": np.where(asked, CHANCES, 0.0)}, explored, 0)


def yes(notice: int, propensity: float, tier: str = "", later_ns: int = 0) -> Escalate:
    return Escalate(
        question_id=f"q{notice}{tier}", instrument="a", ts=notice * S + later_ns, notice_id=f"n{notice}",
        standing=(), deadline=9, expected_gain=0.1, reason="", tier=tier, propensity=propensity,
    )  # fmt: skip


def no(notice: int, propensity: float, tier: str = "", later_ns: int = 0) -> Hold:
    return Hold(
        instrument="a", ts=notice * S + later_ns, notice_id=f"n{notice}", expected_gain=0.0, reason="",
        tier=tier, propensity=propensity,
    )  # fmt: skip


def standing_on(asked: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Return what each notice's forecast gains from the last answer, which fades by half each notice."""
    at = np.arange(len(asked))
    last = np.maximum.accumulate(np.where(asked, at, -1))
    return np.where(last >= 0, worth[np.maximum(last, 0)] * 0.5 ** (at - last), 0.0)


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


def test_an_outlook_that_stands_on_over_held_notices_does_not_answer_for_them() -> None:
    worth = GAINS[0] + 0.3
    true = float(standing_on(np.ones(N, dtype=bool), worth).sum())
    rng = np.random.default_rng(6)
    totals = []
    for _ in range(1_500):
        asked = rng.random(N) < CHANCES
        life = scored(np.arange(N) * S + 1, standing_on(asked, worth), np.zeros(N))
        estimate = asking_all(life, chances(asked))
        assert estimate is not None
        totals.append(estimate.total)
    assert np.mean(totals) == pytest.approx(true, abs=3.0 * np.std(totals) / len(totals) ** 0.5)


def test_of_a_cascade_the_last_tiers_answer_counts_and_the_first_ones_not_beside_it() -> None:
    worth = GAINS[0] + 0.3
    rng = np.random.default_rng(7)
    totals = []
    for _ in range(300):
        asked = rng.random(N) < CHANCES
        questions = [yes(k, 1.0, "small") for k in range(N)]
        questions += [yes(k, float(CHANCES[k]), "large", 5) for k in np.flatnonzero(asked)]
        holds = [no(k, float(CHANCES[k]), "large", 5) for k in np.flatnonzero(~asked)]
        life = scored(np.arange(N) * S + 9, np.where(asked, worth, 0.5 * worth), np.zeros(N))
        estimate = asking_all(life, chances_of(questions, holds))
        assert estimate is not None
        totals.append(estimate.total)
    spread = 3.0 * np.std(totals) / len(totals) ** 0.5
    assert np.mean(totals) == pytest.approx(worth.sum(), abs=spread)


def test_a_notice_that_two_tiers_were_asked_about_by_chance_had_one_draw() -> None:
    found = chances_of([yes(1, 0.1, "small"), yes(1, 0.02, "large", 5)], [])
    assert found.propensity["a"].tolist() == [0.02]
    assert found.ts["a"].tolist() == [S + 5]


def test_a_forecast_of_the_row_that_was_flagged_is_what_the_question_is_about() -> None:
    chances = Chances({"a": np.array([S, 3 * S])}, {"a": np.array([0.5, 1.0])}, 10, 0)
    of_the_row = scored(np.array([S]), np.array([4.0]), np.array([1.0]))
    estimate = asking_all(of_the_row, chances)
    assert estimate is not None
    assert estimate.total == pytest.approx(
        1.0 / 0.5
    )  # its verdict; what stood at its issue is older


def test_what_had_no_chance_is_counted_and_what_was_asked_by_chance_too() -> None:
    found = chances_of([yes(5, 1.0), yes(3, 0.02)], [no(1, 0.0), no(4, 0.02), no(2, 0.0)])
    assert (found.explored, found.unreachable) == (1, 2)
    assert found.ts["a"].tolist() == [3 * S, 4 * S, 5 * S]
    assert found.propensity["a"].tolist() == [0.02, 0.0, 1.0]
