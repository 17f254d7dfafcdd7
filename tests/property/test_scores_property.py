"""A proper score cannot be gamed: its expected value is least where the forecast is the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.audit import rules
from finllm.audit.calibration import pit_mass
from finllm.audit.intervals import disjoint
from finllm.domain.forecast import LEVELS

WEIGHT = st.floats(0.01, 1.0)
TRIPLE = st.tuples(WEIGHT, WEIGHT, WEIGHT)
LABELS = np.arange(3)


def normed(weights: tuple[float, float, float]) -> np.ndarray:
    return np.array(weights) / sum(weights)


@settings(max_examples=200, deadline=None)
@given(TRIPLE, TRIPLE)
@pytest.mark.parametrize("rule", [rules.log_score, rules.ranked_score, rules.brier_score])
def test_no_other_forecast_is_expected_to_score_better_than_the_truth(rule, truth, said) -> None:
    truth_p, said_p = normed(truth), normed(said)
    honest = truth_p @ rule(np.tile(truth_p, (3, 1)), LABELS)
    other = truth_p @ rule(np.tile(said_p, (3, 1)), LABELS)
    assert honest <= other + 1e-12
    if np.abs(truth_p - said_p).max() > 1e-3:
        assert honest < other


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=40),
    st.lists(st.floats(-50.0, 50.0), min_size=5, max_size=5),
)
def test_no_other_quantiles_are_expected_to_score_better_than_the_true_ones(values, said) -> None:
    happened = np.array(values)
    true = np.quantile(happened, LEVELS, method="inverted_cdf")
    honest = rules.quantile_crps(np.tile(true, (len(happened), 1)), happened).mean()
    other = rules.quantile_crps(np.tile(np.sort(said), (len(happened), 1)), happened).mean()
    assert honest <= other + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), min_size=5, max_size=5), TRIPLE)
def test_each_outcome_falls_into_the_pit_once(quantiles, values) -> None:
    q = np.tile(np.sort(quantiles), (3, 1))
    value = np.round(np.array(values) * 4 - 2)
    mass = pit_mass(q, value)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0)
    assert (mass >= 0.0).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50)), min_size=1, max_size=40))
def test_no_larger_set_of_disjoint_targets_exists_when_lengths_are_equal(pairs) -> None:
    length = pairs[0][1]
    ts = np.array(sorted(start for start, _ in pairs))
    picked = disjoint(ts, ts + length)
    assert 1 <= picked <= len(set(ts.tolist()))
    assert picked <= (ts[-1] - ts[0]) // length + 1
