"""The clock offset estimate."""

import numpy as np
import pytest

from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.offset import ClockOffset

T = 1_700_000_000_000_000_000


def follow(estimate, offsets_ns, start=T, step=10 * NS_PER_MS):
    for i, offset in enumerate(offsets_ns):
        ts = start + i * step
        estimate.observe(ts, ts - int(offset))


@pytest.mark.parametrize("offset_ms", [-1_521.0, -1_269.0, 0.9, 40_000.0])
def test_the_median_is_found_whatever_its_size(offset_ms):
    delays = np.random.default_rng(1).exponential(3 * NS_PER_MS, 3_000)
    estimate = ClockOffset()
    follow(estimate, offset_ms * NS_PER_MS + delays)
    median = offset_ms * NS_PER_MS + float(np.median(delays))
    assert abs(estimate.median_ns - median) < 0.5 * NS_PER_MS
    assert abs(estimate.floor_ns - offset_ms * NS_PER_MS) < 0.1 * NS_PER_MS


def test_a_drifting_clock_is_followed():
    estimate = ClockOffset()
    follow(estimate, np.linspace(0, 10 * NS_PER_MS, 5_000))
    assert abs(estimate.median_ns - 10 * NS_PER_MS) < 0.1 * NS_PER_MS


def test_the_floor_forgets_what_left_the_window():
    estimate = ClockOffset(window_ns=NS_PER_S)
    follow(estimate, [-5 * NS_PER_MS])
    follow(estimate, [NS_PER_MS] * 400, start=T + NS_PER_S)
    assert estimate.floor_ns == NS_PER_MS


def test_a_leap_of_the_sources_clock_is_not_believed_until_it_stays():
    estimate = ClockOffset()
    follow(estimate, [NS_PER_MS] * 500)
    before = estimate.median_ns
    start = T + 10 * NS_PER_S
    ahead = 3_600 * NS_PER_S
    assert not estimate.observe(start, start + ahead)
    assert not estimate.observe(start + NS_PER_S, start + NS_PER_S + ahead)
    assert estimate.median_ns == before
    later = start + 2 * NS_PER_S
    assert estimate.observe(later, later - NS_PER_MS)  # it was a leap
    assert not estimate.observe(later + 1, later + 1 + ahead)
    stays = later + 11 * NS_PER_S
    assert estimate.observe(stays, stays + ahead)
    assert estimate.median_ns == -ahead


def test_a_late_message_is_only_late():
    estimate = ClockOffset()
    follow(estimate, [NS_PER_MS] * 500)
    assert estimate.observe(T + 60 * NS_PER_S, T)
