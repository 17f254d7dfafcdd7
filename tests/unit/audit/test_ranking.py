"""Laws of ranking and of the bounds that luck sets: what telling up from down is worth, and how sure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from finllm.audit import calibration, intervals, rules
from finllm.audit.ranking import rank

S = 1_000_000_000


def ranked(signals, label, stratum=None, seed=0):
    ts = np.arange(len(label)) * S
    blocks = intervals.blocks_of(ts, S, float(S))
    runs = intervals.draw_runs(blocks.n_cells, 400, np.random.default_rng(seed))
    stratum = np.zeros(len(label), np.int64) if stratum is None else stratum
    return rank(np.asarray(signals, np.float64), np.asarray(label), stratum, blocks, runs)


def brute(signal, label):
    ups, downs = signal[label == 2], signal[label == 0]
    wins = (ups[:, None] > downs[None, :]) + 0.5 * (ups[:, None] == downs[None, :])
    return wins.mean()


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), min_size=2, max_size=40))
def test_the_auc_is_the_share_of_pairs_ranked_rightly_with_half_for_ties(rows) -> None:
    signal = np.array([s for s, _ in rows], np.float64)
    label = np.array([w for _, w in rows], np.int64)
    found = ranked(np.column_stack([signal, signal]), label)
    if not (label == 0).any() or not (label == 2).any():
        assert found is None
        return
    wanted = brute(signal, label)
    assert found.auc == pytest.approx(wanted)
    assert found.reference == pytest.approx(max(wanted, 1.0 - wanted))
    is_up = label[label != 1] == 2
    share = rules.ranked_rightly(signal[label != 1], is_up)
    assert share[is_up].mean() == pytest.approx(wanted) == pytest.approx(share[~is_up].mean())


def test_pairs_are_taken_within_a_stratum_only() -> None:
    rng = np.random.default_rng(1)
    label, stratum = rng.choice([0, 2], 4000), rng.integers(0, 2, 4000)
    label = np.where(rng.random(4000) < 0.4, 2 * stratum, label)  # one instrument rises more often
    level = stratum + 0.01 * rng.standard_normal(4000)  # knows nothing but the instrument
    found = ranked(np.column_stack([level, np.zeros(4000)]), label, stratum)
    assert found.auc == pytest.approx(0.5, abs=0.03)
    assert brute(level, label) > 0.6


def test_the_interval_of_the_lead_covers_nought_between_equals_and_finds_a_better_one() -> None:
    hits = found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        label = rng.choice([0, 1, 2], 600)
        noise = rng.standard_normal((600, 2))
        equal = ranked((label - 1)[:, None] * 0.5 + noise, label, seed=seed)
        better = ranked((label - 1)[:, None] * [1.5, 0.2] + noise, label, seed=seed)
        hits += equal.interval[0] <= 0.0 <= equal.interval[1]
        found += better.interval[0] > 0.0
    assert hits >= 54
    assert found == 60


@given(st.integers(1, 3000), st.floats(0.0, 1.0))
def test_the_bounds_of_luck_are_the_binomial_ones(n, share) -> None:
    low, high = calibration.share_by_luck(share, n)
    assert float(low) == pytest.approx(max(0.0, binom.ppf(0.025, n, share) / n))
    assert float(high) == pytest.approx(binom.ppf(0.975, n, share) / n)


def test_a_perfect_forecaster_stays_in_the_band_and_an_overconfident_one_leaves_it() -> None:
    rng = np.random.default_rng(3)
    odds = np.exp(0.8 * rng.standard_normal((6000, 3)))
    p = odds / odds.sum(axis=1, keepdims=True)
    label = (rng.random(6000)[:, None] > np.cumsum(p, axis=1)[:, :2]).sum(axis=1)
    loud = p**3 / (p**3).sum(axis=1, keepdims=True)
    inside = []
    for said in (p, loud):
        bins = calibration.bins_of(said, 6000)
        curves = calibration.reliability_curves(said, label, bins, 6000)
        assert all(curve.count.sum() == 6000 for curve in curves)
        inside.append(
            np.mean([(c.low <= c.seen) & (c.seen <= c.high) for c in curves])  # 30 bins
        )
    assert inside[0] >= 0.85
    assert inside[1] <= 0.3
