"""The small fits against independent references."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from finllm.domain.forecast import LEVELS
from finllm.edge.fitting import (
    P_LEAST,
    fit_deviation,
    fit_line,
    fit_three_way,
    fit_width,
    normal_tail,
    pinball,
    solve,
)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 5))
def test_elimination_solves_positive_definite_systems(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(n, n))
    matrix, vector = half @ half.T + np.eye(n), rng.normal(size=n)
    found = vector.copy()
    solve(matrix.copy(), found)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, vector), rtol=1e-8, atol=1e-10)


def test_the_three_way_fit_finds_the_penalised_maximum() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 2_000).astype(np.float32)
    up, down = np.exp(-1.0 + 2.0 * x), np.exp(-1.5 - 2.0 * x)
    p = np.stack([down, np.ones_like(x), up], axis=1) / (1 + up + down)[:, None]
    y = np.array([rng.choice(3, p=row / row.sum()) for row in p.astype(float)]).astype(np.float32)
    prior, strength, weight = np.array([0.0, 1.0, 0.0, -1.0]), 50.0, 0.5

    def loss(t: np.ndarray) -> float:
        a, b = t[0] + t[1] * x, t[2] + t[3] * x
        chosen = np.where(y == 0, a, np.where(y == 2, b, 0.0))
        scale = 0.2 * strength * np.array([1.0, np.mean(x**2)] * 2)
        return float(
            weight * np.sum(np.log(1 + np.exp(a) + np.exp(b)) - chosen)
            + 0.5 * np.sum(scale * (t - prior) ** 2)
        )

    theta = np.zeros(4)
    fit_three_way(x, y, weight, prior, strength, theta)
    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(theta, best.x, atol=1e-3)
    assert loss(theta) <= best.fun + 1e-6


def test_the_line_fit_recovers_the_law_and_stays_at_its_prior_without_data() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=20_000)
    hit = (rng.uniform(size=len(x)) < 1 / (1 + np.exp(-(0.5 + 0.8 * x)))).astype(float)
    theta = np.array([0.0, 1.0])
    fit_line(x, hit, np.ones_like(x), np.array([0.0, 1.0]), 20.0, theta)
    np.testing.assert_allclose(theta, [0.5, 0.8], atol=0.06)
    theta = np.array([0.3, 0.7])
    fit_line(x, hit, np.full_like(x, 1e-12), np.array([0.0, 1.0]), 20.0, theta)
    np.testing.assert_allclose(theta, [0.0, 1.0], atol=1e-6)


def test_separable_outcomes_stay_finite() -> None:
    x = np.linspace(-1, 1, 200)
    theta = np.array([1.0])
    fit_line(x, (x > 0).astype(float), np.ones(200), np.array([1.0]), 5.0, theta)
    assert 1.0 < theta[0] < 100.0
    four = np.zeros(4)
    y = np.where(x > 0, 2.0, 0.0).astype(np.float32)
    fit_three_way(x.astype(np.float32), y, 1.0, np.zeros(4), 5.0, four)
    assert np.isfinite(four).all()


def test_the_pinball_loss_is_the_textbooks() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(size=50).astype(np.float32)
    q = np.sort(rng.normal(size=(50, 5)), axis=1).astype(np.float32)
    miss = returns[:, None].astype(float) - q
    levels = np.array(LEVELS)
    expected = np.sum(np.maximum(levels * miss, (levels - 1) * miss))
    assert pinball(returns, q, np.ones(50), 1.0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.0])
def test_the_width_fit_finds_the_scale(truth: float) -> None:
    rng = np.random.default_rng(3)
    returns = (truth * rng.normal(size=8_000)).astype(np.float32)
    q = np.tile(norm.ppf(LEVELS), (8_000, 1)).astype(np.float32)
    assert fit_width(returns, q, np.ones(8_000), 1.0, 20.0) == pytest.approx(truth, rel=0.05)


def test_a_width_that_cannot_be_told_stays_at_its_prior() -> None:
    nought = np.zeros((10, 5), dtype=np.float32)
    assert fit_width(np.zeros(10, dtype=np.float32), nought, np.ones(10), 1.3, 5.0) == 1.3


@pytest.mark.parametrize("truth", [0.6, 1.7])
def test_the_deviation_fit_finds_the_scale_of_a_normal_law(truth: float) -> None:
    rng = np.random.default_rng(4)
    returns = truth * rng.normal(size=20_000)
    band = np.full(20_000, 0.7, dtype=np.float32)
    label = np.where(returns >= 0.7, 2, np.where(returns <= -0.7, 0, 1)).astype(np.float32)
    unit = np.ones(20_000, dtype=np.float32)
    assert fit_deviation(label, band, unit, 1.0, 1.0, 10.0) == pytest.approx(truth, rel=0.05)


@settings(deadline=None, max_examples=50)
@given(band=st.floats(0, 100), deviation=st.floats(0, 100))
def test_the_normal_tail_is_a_probability_that_leaves_room_for_each_class(
    band: float, deviation: float
) -> None:
    tail = normal_tail(band, deviation)
    assert P_LEAST <= tail <= 0.5 * (1.0 - P_LEAST)
    if deviation > 0 and 1.1 * P_LEAST < norm.sf(band / deviation) < 0.48:
        assert tail == pytest.approx(norm.sf(band / deviation), rel=1e-9)
    assert math.isfinite(tail)
