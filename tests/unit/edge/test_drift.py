"""The monitor says when no model fits, and is quiet while one does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.instrument import Horizon
from finllm.edge.drift import ALARM, LEAST_ROWS, Fit, Monitor

SECOND = 10**9
HORIZONS = tuple(
    Horizon(name=f"{s}s", ns=s * SECOND, nominal_s=float(s), band="sigma") for s in (1, 5)
)
INPUTS = [(1.0, 2.0)] * 10


def fed(monitor: Monitor, n: int, shift: float, columns: int, seed: int = 0) -> Monitor:
    rng = np.random.default_rng(seed)
    for _ in range(n):
        row = rng.normal(1.0, 2.0, 10)
        row[:columns] += shift * 2.0
        monitor.see(row)
    return monitor


def test_inputs_like_those_of_training_fit() -> None:
    assert fed(Monitor(INPUTS, HORIZONS), 5_000, 0.0, 10).fit == Fit.FITS


@pytest.mark.parametrize(("shift", "columns", "fit"), [(4.0, 3, Fit.DRIFTED), (4.0, 2, Fit.FITS)])
def test_inputs_have_drifted_when_more_than_a_fifth_of_the_columns_has(
    shift: float, columns: int, fit: Fit
) -> None:
    assert fed(Monitor(INPUTS, HORIZONS), 3_000, shift, columns).fit == fit


def test_nothing_is_said_of_inputs_on_a_few_rows() -> None:
    assert fed(Monitor(INPUTS, HORIZONS), LEAST_ROWS - 1, 9.0, 10).fit == Fit.FITS


def test_inputs_that_come_back_fit_again() -> None:
    monitor = fed(Monitor(INPUTS, HORIZONS), 3_000, 4.0, 10)
    assert monitor.fit == Fit.DRIFTED
    assert fed(monitor, 3_000, 0.0, 10).fit == Fit.FITS


def test_a_column_that_is_not_finite_is_passed_over() -> None:
    monitor = fed(Monitor(INPUTS, HORIZONS), 1_000, 0.0, 10)
    row = np.ones(10)
    row[3] = np.nan
    for _ in range(1_000):
        monitor.see(row)
    assert monitor.fit == Fit.FITS
    assert np.isfinite(monitor.stakes).all()


def test_outcomes_that_overlap_count_once() -> None:
    monitor = Monitor((), HORIZONS)
    for i in range(1_000):
        monitor.score(0, i * SECOND // 1_000, 0.1, 0.9)
    assert monitor.stakes[0] == pytest.approx(1.5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), p=st.floats(0.1, 0.9))
def test_a_model_that_is_as_good_as_climatology_is_seldom_accused(seed: int, p: float) -> None:
    """It says the truth, climatology a half."""
    rng = np.random.default_rng(seed)
    monitor, worst = Monitor((), HORIZONS), 0.0
    for i in range(400):
        came = rng.random() < p
        said, climatology = (p, 0.5) if came else (1.0 - p, 0.5)
        monitor.score(0, i * SECOND, said, climatology)
        worst = max(worst, float(monitor.stakes[0]))
    assert worst < ALARM


def test_a_model_that_is_worse_than_climatology_is_named_and_can_recover() -> None:
    rng = np.random.default_rng(0)
    monitor = Monitor(INPUTS, HORIZONS)
    n = 0
    while monitor.fit != Fit.WORSE and n < 500:
        monitor.score(0, n * SECOND, 0.1 if rng.random() < 0.7 else 0.9, 0.5)
        n += 1
    assert monitor.fit == Fit.WORSE
    for i in range(2_000):
        right = rng.random() < 0.9
        monitor.score(0, (1_000 + i) * SECOND, 0.9 if right else 0.1, 0.5)
    assert monitor.fit == Fit.FITS
