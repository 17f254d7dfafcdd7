"""Laws of the scoring rules: they are the reference formulas."""

import sys
from types import ModuleType

import numpy as np
import pytest

from finllm.audit import rules
from finllm.domain.forecast import LEVELS


@pytest.fixture(scope="module")
def scoringrules() -> ModuleType:
    """The reference on numpy alone: beside numba it would compile all its rules as it is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)
        import scoringrules
    return scoringrules


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    p = rng.dirichlet((1.0, 2.0, 1.0), size=300)
    q = np.sort(rng.normal(size=(300, 5)) * 5.0, axis=1)
    value = np.where(rng.random(300) < 0.2, q[:, 2], rng.normal(size=300) * 5.0)
    return p, rng.integers(3, size=300), q, value


def test_rps_is_the_reference_formula(drawn, scoringrules) -> None:
    p, label, _, _ = drawn
    wanted = scoringrules.rps_score(rules.one_hot(label), p, onehot=True)
    np.testing.assert_allclose(rules.ranked_score(p, label), wanted, rtol=1e-12)


def test_crps_is_the_reference_formula_with_its_factor_of_two(drawn, scoringrules) -> None:
    _, _, q, value = drawn
    wanted = scoringrules.crps_quantile(value, q, np.array(LEVELS), backend="numpy")
    np.testing.assert_allclose(rules.quantile_crps(q, value), wanted, rtol=1e-12)


def test_log_and_brier_scores_are_the_reference_formulas(drawn, scoringrules) -> None:
    p, label, _, _ = drawn
    seen = rules.one_hot(label)
    hit = np.take_along_axis(p, label[:, None], axis=1)[:, 0]
    wanted = scoringrules.log_score(np.ones(len(hit)), hit)
    np.testing.assert_allclose(rules.log_score(p, label), wanted, rtol=1e-12)
    by_class = sum(scoringrules.brier_score(seen[:, i], p[:, i]) for i in range(3))
    np.testing.assert_allclose(rules.brier_score(p, label), by_class, rtol=1e-12)


def test_closed_forms() -> None:
    third, up = np.full((1, 3), 1 / 3), np.array([2])
    assert rules.log_score(third, up)[0] == pytest.approx(np.log(3.0))
    assert rules.ranked_score(third, up)[0] == pytest.approx(1 / 9 + 4 / 9)
    assert rules.brier_score(third, up)[0] == pytest.approx(2 / 3)
    sure = np.array([[0.0, 0.0, 1.0]])
    assert rules.log_score(sure, up)[0] == rules.ranked_score(sure, up)[0] == 0.0
    flat = np.zeros((1, 5))  # all quantiles at zero: 2 |y| times the mean of the levels' weights
    assert rules.quantile_crps(flat, np.array([4.0]))[0] == pytest.approx(2 * 4.0 * 0.5)


def test_an_impossible_thing_that_happens_costs_a_bounded_sum() -> None:
    loss = rules.log_score(np.array([[1.0, 0.0, 0.0]]), np.array([2]))[0]
    assert loss == pytest.approx(-np.log(rules.P_LEAST))


def test_matthews_and_f1_are_the_reference_formulas() -> None:
    from sklearn.metrics import f1_score, matthews_corrcoef

    rng = np.random.default_rng(2)
    label = rng.integers(3, size=500)
    said = np.where(rng.random(500) < 0.4, label, rng.integers(3, size=500))
    assert rules.matthews(said, label) == pytest.approx(matthews_corrcoef(label, said))
    assert rules.macro_f1(said, label) == pytest.approx(f1_score(label, said, average="macro"))
    assert rules.matthews(np.ones(5, np.int64), label[:5]) is None
