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
