"""Quantiles that class probabilities imply."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finllm.domain.forecast import LEVELS
from finllm.domain.instrument import Horizon
from finllm.edge.artifact import HorizonPrior, Learning
from finllm.edge.baselines import SIZES, Baselines
from finllm.edge.resolved import LABEL, RETURN, Resolved
from finllm.edge.resolved import WIDTH as OUTCOME
from finllm.edge.sizes import FIRST, KNOTS, SEEN, WIDTH, implied

SECOND = 10**9
SHARES = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3)
GROWING = st.lists(st.floats(0.0, 9.0), min_size=len(KNOTS), max_size=len(KNOTS)).map(sorted)
PRIOR = HorizonPrior(
    horizon=Horizon(name="1s", ns=SECOND, nominal_s=1.0, band="half_spread"),
    tilt_c=1.0,
    climatology=(0.25, 0.5, 0.25),
    climatology_q=(-1.3, -0.7, 0.0, 0.7, 1.3),
    baseline_logit=(0.0, 0.0, 0.0, 0.0),
    ewma_scale=1.0,
)
LEARNING = Learning(
    refit_ns=SECOND, grid_s=1.0, prior_n=10.0, baseline_prior_n=10.0, half_life_n=0.0
)


def _quantiles(p: np.ndarray, band: float, sizes: np.ndarray) -> list[float]:
    return [implied(level, p[0], p[1], band, sizes) for level in LEVELS]


@given(
    SHARES, st.floats(0.1, 5.0), st.lists(GROWING, min_size=4, max_size=4), SHARES,
)  # fmt: skip
def test_quantiles_never_cross_and_lie_where_their_classes_do(
    shares: list[float], band: float, laws: list[list[float]], weights: list[float]
) -> None:
    p = np.array(shares) / sum(shares)
    assume(all(abs(level - edge) > 1e-6 for level in LEVELS for edge in (p[0], p[0] + p[1])))
    sizes = np.array([*weights[:2], *(one for law in laws for one in law)])
    assert len(sizes) == WIDTH
    sizes[[SEEN + len(KNOTS), FIRST + len(KNOTS)]] = 0.0  # flat returns start there
    q = _quantiles(p, band, sizes)
    assert q == sorted(q)
    for level, one in zip(LEVELS, q, strict=True):
        if level < p[0]:
            assert one <= -band
        elif level <= p[0] + p[1]:
            assert -band <= one <= band
        else:
            assert one >= band
    turned = _quantiles(p[::-1], band, sizes)
    assert [-one for one in turned[::-1]] == pytest.approx(q, abs=1e-6)


def _learnt(returns: np.ndarray, band: float) -> Baselines:
    baselines, resolved = Baselines([PRIOR], LEARNING), Resolved([SECOND])
    for i, one in enumerate(returns):
        outcome = np.zeros(OUTCOME)
        outcome[LABEL], outcome[RETURN] = (1, one) if abs(one) <= band else (1 + np.sign(one), one)
        baselines.count(0, np.bincount([int(outcome[LABEL])], minlength=3))
        resolved.add(0, (i + 1) * SECOND, outcome)
    baselines.refit(resolved)
    return baselines


def test_climatologys_classes_imply_climatologys_quantiles() -> None:
    rng = np.random.default_rng(0)
    returns, band = 3.0 * rng.standard_t(4, 2_000), 1.0
    table = _learnt(returns, band).tables[0]
    both = np.concatenate([returns, -returns])
    wanted = np.quantile(both, LEVELS)
    p = np.array([(both < -band).mean(), (abs(both) <= band).mean(), (both > band).mean()])
    np.testing.assert_allclose(_quantiles(p, band, table[SIZES:]), wanted, atol=0.1)


def test_before_any_outcome_the_sizes_are_the_priors_in_bands() -> None:
    table = Baselines([PRIOR], LEARNING).tables[0]
    p = np.array([0.2, 0.6, 0.2])
    one, two = (np.array(_quantiles(p, band, table[SIZES:])) for band in (1.0, 2.0))
    np.testing.assert_allclose(2.0 * one, two)
    assert one[4] == pytest.approx(PRIOR.move_sizes[3])  # the upper half of the moves lies beyond
