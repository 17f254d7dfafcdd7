"""Ten thousand seeds of ten minutes under fire, on two cores: nothing is violated, in at most 45 minutes."""

import msgspec
import pytest

from finllm.runtime.clock import stopwatch_ns
from finllm_lab.consistency.campaign import campaign


@pytest.mark.soak
def test_ten_thousand_seeds_break_no_invariant() -> None:
    started = stopwatch_ns()
    found = campaign(0, 10_000, 10.0, 2, told=lambda _: None)
    took_s = (stopwatch_ns() - started) / 1e9
    print(f"{took_s:.0f} s", msgspec.json.encode(found).decode())  # noqa: T201 - the figures
    assert not found.violations
    assert took_s < 45 * 60
