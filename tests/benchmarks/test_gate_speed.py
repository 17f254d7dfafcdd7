"""What a decision of the gate that learns costs: run with `pytest -m bench -s`."""

import sys
import time

import msgspec
import numpy as np
import pytest

from asking import NOW, belief, forecast, notice
from finllm.escalation.gate import Gate, GateSettings
from support.forecasts import S

pytestmark = pytest.mark.bench
N = 2_000


def test_a_decision_takes_well_under_a_millisecond() -> None:
    gate, told = Gate(GateSettings(learn=True)), belief()
    took = np.empty(N, np.int64)
    for number in range(N):
        now = NOW + number * 600 * S
        about = notice(notice_id=f"n{number}", ts_recv=now, origin=f"house/writer{number % 7}")
        standing = tuple(
            msgspec.structs.replace(forecast(h), ts_recv=now, valid_until=now + int(0.8 * h * S))
            for h in (30.0, 120.0, 600.0)
        )
        began = time.perf_counter_ns()
        gate.decide(about, standing, now, told)
        took[number] = time.perf_counter_ns() - began
    p50, p99 = np.percentile(took, (50, 99)) / 1e3
    sys.stdout.write(f"{N} decisions on three forecasts: p50 {p50:.0f} us, p99 {p99:.0f} us\n")
    assert p50 < 500.0
