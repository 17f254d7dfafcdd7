"""Laws of reply latencies."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.errors import SettingsError
from finllm.escalation.latency import LatencyBelief, LatencyModel, LatencySettings, inverse_normal

MS = 1_000_000


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-12, 1.0 - 1e-12))
def test_the_inverse_normal_agrees_with_the_reference(level: float) -> None:
    reference = NormalDist().inv_cdf(level)
    assert inverse_normal(level) == pytest.approx(reference, rel=2e-9, abs=1e-9)


def test_the_same_question_takes_the_same_time() -> None:
    settings_ = LatencySettings(p50_ms=800.0, p95_ms=2500.0)
    first = [LatencyModel(settings_).draw(f"q{i}") for i in range(50)]
    again = [LatencyModel(settings_).draw(f"q{i}") for i in range(50)]
    assert first == again
    assert len(set(first)) == 50


def test_draws_have_the_stated_median_and_95th_percentile() -> None:
    model = LatencyModel(LatencySettings(p50_ms=800.0, p95_ms=2500.0))
    drawn = sorted(model.draw(f"q{i}") for i in range(20_000))
    assert drawn[10_000] == pytest.approx(800 * MS, rel=0.03)
    assert drawn[19_000] == pytest.approx(2500 * MS, rel=0.05)


def test_a_model_without_spread_always_takes_its_median() -> None:
    model = LatencyModel(LatencySettings(p50_ms=7.0, p95_ms=7.0))
    assert {model.draw(f"q{i}") for i in range(20)} == {7 * MS}


def test_the_belief_starts_at_the_assumption() -> None:
    belief = LatencyBelief(LatencySettings(p50_ms=10.0, p95_ms=40.0))
    assert belief.p50_ns == pytest.approx(10 * MS, rel=0.1)
    assert belief.p95_ns == pytest.approx(40 * MS, rel=0.25)


def test_the_belief_follows_what_is_measured() -> None:
    belief = LatencyBelief(LatencySettings(p50_ms=10.0, p95_ms=40.0, window=100))
    for _ in range(100):
        belief.observe(3 * MS)
    assert (belief.p50_ns, belief.p95_ns) == (3 * MS, 3 * MS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 10**9), max_size=80))
def test_the_belief_is_the_nearest_rank_of_its_window(durations: list[int]) -> None:
    belief = LatencyBelief(LatencySettings(window=30, n_prior=30))
    model = LatencyModel(LatencySettings())
    window = [model.quantile((i + 0.5) / 30) for i in range(30)]
    for duration in durations:
        belief.observe(duration)
        window = [*window, max(0, duration)][-30:]
    ranked = sorted(window)
    assert belief.p50_ns == ranked[math.ceil(0.5 * 30) - 1]
    assert belief.p95_ns == ranked[math.ceil(0.95 * 30) - 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"p50_ms": 0.0},
        {"p50_ms": 50.0, "p95_ms": 10.0},
        {"p50_ms": float("nan")},
        {"p95_ms": float("inf")},
        {"p50_ms": 1e-300},
        {"p95_ms": 1e300},
        {"n_prior": 0},
        {"n_prior": 300},
    ],
)
def test_an_impossible_latency_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="latency"):
        LatencySettings(**wrong)
