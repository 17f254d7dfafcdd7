"""Laws of the intervals: they cover what they claim to, and n_eff counts what is independent."""

import numpy as np
import pytest

from finllm.audit import intervals

S = 1_000_000_000


def drawn(blocks, columns, seed=0, resamples=500):
    runs = intervals.draw_runs(blocks.n_cells, resamples, np.random.default_rng(seed))
    return intervals.resample(blocks.sums(columns), runs)


def test_overlapping_forecasts_count_as_the_few_that_do_not_overlap() -> None:
    ts = np.arange(1237) * S // 10  # the case of the scoring rules: 1,237 points, 5 s horizon
    assert intervals.disjoint(ts, ts + 5 * S) in (24, 25)
    assert intervals.disjoint(ts, ts + S // 10) == 1237


def test_a_block_spans_five_seconds_three_horizons_and_five_steps() -> None:
    books = np.arange(10_000) * S // 10
    assert intervals.blocks_of(books, S, S / 10).block_s == pytest.approx(10.0)  # 1 % of 1,000 s
    assert intervals.blocks_of(books[:600], S, S / 10).block_s == pytest.approx(5.0)
    assert intervals.blocks_of(books, 30 * S, S / 10).block_s == pytest.approx(90.0)
    bars = np.arange(100) * 3600 * S
    assert intervals.blocks_of(bars, 3600 * S, 3600.0 * S).block_s == pytest.approx(5 * 3600)


def test_nights_fill_no_block() -> None:
    hour = 3600 * S
    ts = np.array([day * 24 * hour + bar * hour for day in range(60) for bar in range(7)])
    blocks = intervals.blocks_of(ts, hour, float(hour))
    assert blocks.n_blocks == 420 // 5
    block = blocks.cell // intervals.CELLS_PER_BLOCK
    assert np.bincount(block)[:-1].min() >= 5


def test_two_lonely_forecasts_do_not_set_the_length_of_everybodys_blocks() -> None:
    ts = np.concatenate([np.arange(300) * S // 10, [0, 29 * S]])
    instrument = np.array([0] * 300 + [1] * 2)
    assert intervals.typical_step_ns(ts, instrument) == S / 10
    assert intervals.typical_step_ns(ts[300:], instrument[300:]) == 29 * S
    slower = np.concatenate([ts[:300], np.arange(10) * S])
    both = np.array([0] * 300 + [1] * 10)
    assert intervals.typical_step_ns(slower, both) == S


def test_fewer_than_twenty_blocks_is_tentative() -> None:
    ts = np.arange(0, 200 * S, S)
    assert not intervals.blocks_of(ts[:105], S, float(S)).is_tentative
    assert intervals.blocks_of(ts[:95], S, float(S)).is_tentative


def test_resampled_totals_are_centred_on_the_total() -> None:
    ts = np.arange(2000) * S
    values = np.random.default_rng(0).normal(3.0, 1.0, size=(2000, 1))
    totals = drawn(intervals.blocks_of(ts, S, float(S)), values)
    assert totals.mean() == pytest.approx(values.sum(), rel=0.01)


def test_the_interval_covers_the_mean_of_dependent_series() -> None:
    from scipy.signal import lfilter

    rng = np.random.default_rng(5)
    n, trials, hits = 600, 200, 0
    ts = np.arange(n) * S
    blocks = intervals.blocks_of(ts, 3 * S, float(S))
    for trial in range(trials):
        series = lfilter([1.0], [1.0, -0.6], rng.standard_normal(n + 50))[50:]
        columns = np.column_stack([series, np.ones(n)])
        totals = drawn(blocks, columns, trial)
        low, high = intervals.percentile_interval(totals[:, 0] / totals[:, 1], blocks.n_blocks)
        hits += low <= 0.0 <= high
    assert 0.88 <= hits / trials <= 0.99  # as if independent it would be 0.66


def test_diebold_mariano_rejects_as_often_as_it_says() -> None:
    from scipy.signal import lfilter

    rng = np.random.default_rng(6)
    n, trials = 800, 300
    blocks = intervals.blocks_of(np.arange(n) * S, 3 * S, float(S))
    count = blocks.sums(np.ones((n, 1)))[:, 0]
    rejected = found = 0
    for _ in range(trials):
        series = lfilter([1.0, 0.8, 0.6], [1.0], rng.standard_normal(n + 2))[2:]
        null = intervals.diebold_mariano(blocks.sums(series[:, None])[:, 0], count)
        real = intervals.diebold_mariano(blocks.sums(series[:, None] + 0.5)[:, 0], count)
        rejected += null < 0.05
        found += real < 0.05
    assert rejected / trials <= 0.10
    assert found / trials >= 0.95


def test_the_harvey_factor_and_newey_west_are_the_textbook_ones() -> None:
    rng = np.random.default_rng(7)
    d = rng.standard_normal(60) + 0.2
    ahead, lags = intervals.CELLS_PER_BLOCK, intervals.lags_of(60)
    centred = d - d.mean()
    gamma = [centred[k:] @ centred[: 60 - k] / 60 for k in range(lags + 1)]
    spread = gamma[0] + 2 * sum((1 - k / (lags + 1)) * gamma[k] for k in range(1, lags + 1))
    factor = np.sqrt((60 + 1 - 2 * ahead + ahead * (ahead - 1) / 60) / 60)
    from scipy.stats import t

    wanted = 2 * t.sf(abs(d.mean() / np.sqrt(spread / 60) * factor), 59)
    assert intervals.diebold_mariano(d, np.ones(60)) == pytest.approx(wanted)


def test_identical_series_on_several_instruments_count_once() -> None:
    n, instruments = 2000, 5
    ts = np.repeat(np.arange(n) * S, instruments)
    rng = np.random.default_rng(8)
    same = np.repeat(rng.standard_normal(n), instruments)
    apart = rng.standard_normal(n * instruments)
    blocks = intervals.blocks_of(ts, S, float(S))
    sizes = []
    for series in (same, apart):
        totals = drawn(blocks, np.column_stack([series, np.ones(len(ts))]))
        means = totals[:, 0] / totals[:, 1]
        sizes.append(intervals.effective_n(n * instruments, series.var(), means, blocks))
    assert sizes[0] <= 1.4 * n
    assert sizes[1] >= 3 * n


def test_too_little_time_gives_no_interval() -> None:
    blocks = intervals.blocks_of(np.arange(12) * S, S, float(S))
    assert intervals.percentile_interval(np.zeros(10), blocks.n_blocks) is None
    assert intervals.diebold_mariano(np.ones(4), np.ones(4)) is None
    assert intervals.finding_of(None, None) == "inconclusive"
