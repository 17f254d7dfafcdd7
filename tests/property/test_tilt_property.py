"""Laws of the tilt."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.tilt import tilt
from finllm.runtime.kernels import kernel

compiled_tilt = kernel(tilt)

WEIGHTS = st.tuples(*[st.floats(0.001, 1.0)] * 3)
STEPS = st.tuples(*[st.floats(0.0, 200.0)] * 4)
SHIFTS = st.floats(-3.0, 3.0)
SCALES = st.floats(0.2, 5.0)
CS = st.floats(0.0, 3.0)
MEDIANS = st.floats(-100.0, 100.0)
MANY = settings(max_examples=150, deadline=None)


def probabilities(weights: tuple[float, ...]) -> list[float]:
    total = sum(weights)
    return [w / total for w in weights]


def quantiles(median: float, steps: tuple[float, ...]) -> list[float]:
    a, b, c, d = steps
    return [median - b - a, median - b, median, median + c, median + c + d]


@MANY
@given(WEIGHTS, MEDIANS, STEPS, CS)
def test_the_tilt_is_the_identity_at_no_shift_and_scale_one(
    weights: tuple[float, ...], median: float, steps: tuple[float, ...], c: float
) -> None:
    p, q = probabilities(weights), quantiles(median, steps)
    p_after, q_after = list(p), list(q)
    tilt(p_after, q_after, 0.0, 1.0, c)
    assert (p_after, q_after) == (p, q)


@MANY
@given(WEIGHTS, MEDIANS, STEPS, st.floats(-30.0, 30.0), st.floats(0.01, 100.0), CS)
def test_probabilities_sum_to_one_and_quantiles_stay_ordered(
    weights: tuple[float, ...],
    median: float,
    steps: tuple[float, ...],
    s: float,
    k: float,
    c: float,
) -> None:
    p, q = probabilities(weights), quantiles(median, steps)
    tilt(p, q, s, k, c)
    assert abs(sum(p) - 1.0) < 1e-12
    assert min(p) > -1e-15
    assert q == sorted(q)


@MANY
@given(WEIGHTS, SHIFTS, SHIFTS, CS)
def test_shifts_add_up_in_log_odds_and_leave_flat_alone(
    weights: tuple[float, ...], s: float, t: float, c: float
) -> None:
    p = probabilities(weights)
    lean, flat = math.log(p[2] / p[0]), p[1]
    q = [-2.0, -1.0, 0.0, 1.0, 2.0]
    tilt(p, q, s, 1.0, c)
    tilt(p, q, t, 1.0, c)
    assert math.log(p[2] / p[0]) == pytest.approx(lean + s + t, abs=1e-9)
    assert p[1] == pytest.approx(flat, abs=1e-12)


@MANY
@given(WEIGHTS, SCALES, CS)
def test_the_scale_moves_the_log_odds_of_a_move_by_c_ln_k(
    weights: tuple[float, ...], k: float, c: float
) -> None:
    p = probabilities(weights)
    before = math.log((p[0] + p[2]) / p[1])
    ratio = p[2] / p[0]
    tilt(p, [-2.0, -1.0, 0.0, 1.0, 2.0], 0.0, k, c)
    assert math.log((p[0] + p[2]) / p[1]) == pytest.approx(before + c * math.log(k), abs=1e-8)
    assert p[2] / p[0] == pytest.approx(ratio, rel=1e-9)


@MANY
@given(WEIGHTS, MEDIANS, STEPS, SHIFTS, SCALES, CS)
def test_the_inverse_undoes_the_tilt(
    weights: tuple[float, ...],
    median: float,
    steps: tuple[float, ...],
    s: float,
    k: float,
    c: float,
) -> None:
    """A tilt shifts, then scales; so the inverse scales back first and then shifts back."""
    p, q = probabilities(weights), quantiles(median, steps)
    p_after, q_after = list(p), list(q)
    tilt(p_after, q_after, s, k, c)
    tilt(p_after, q_after, 0.0, 1.0 / k, c)
    tilt(p_after, q_after, -s, 1.0, c)
    assert p_after == pytest.approx(p, abs=1e-9)
    assert q_after == pytest.approx(q, abs=1e-9 * (1.0 + max(map(abs, q))))


@MANY
@given(WEIGHTS, MEDIANS, STEPS, SHIFTS, SCALES, CS)
def test_probabilities_are_undone_in_one_step_too(
    weights: tuple[float, ...],
    median: float,
    steps: tuple[float, ...],
    s: float,
    k: float,
    c: float,
) -> None:
    p, q = probabilities(weights), quantiles(median, steps)
    p_after = list(p)
    tilt(p_after, q, s, k, c)
    tilt(p_after, q, -s, 1.0 / k, c)
    assert p_after == pytest.approx(p, abs=1e-9)


@settings(max_examples=400, deadline=None)
@given(WEIGHTS, MEDIANS, STEPS, st.floats(-30.0, 30.0), st.floats(0.01, 100.0), CS)
def test_the_compiled_tilt_gives_the_same_bits(
    weights: tuple[float, ...],
    median: float,
    steps: tuple[float, ...],
    s: float,
    k: float,
    c: float,
) -> None:
    p, q = probabilities(weights), quantiles(median, steps)
    p_compiled, q_compiled = np.array(p), np.array(q)
    compiled_tilt(p_compiled, q_compiled, s, k, c)
    tilt(p, q, s, k, c)
    assert p_compiled.tobytes() == np.array(p).tobytes()
    assert q_compiled.tobytes() == np.array(q).tobytes()
