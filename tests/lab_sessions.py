"""Small random sessions for the lab's tests."""

import numpy as np

from finllm.domain.market import ROW_HEAD
from finllm_lab.tapes import Session

T0 = 1_700_000_000 * 10**9


def session_of(n: int, seed: int, *, bars: bool = False) -> Session:
    rng = np.random.default_rng(seed)
    heads = np.zeros(n, dtype=ROW_HEAD)
    heads["seq"] = np.arange(1, n + 1)
    step = 3_600 * 10**9 if bars else 10**6
    gaps = np.full(n, step) if bars else rng.choice([0, 1, 30, 250, 7_000], n) * step
    heads["ts_recv"] = T0 + np.cumsum(gaps)
    heads["mid2"] = 200_001 + np.cumsum(rng.integers(-2, 3, n) * (400 if bars else 1))
    heads["spread"] = 0 if bars else rng.integers(1, 4, n)
    heads["flags"] = rng.choice([1, 1, 1, 1, 4], n)
    return Session(
        name="toy",
        instrument="x:Y",
        heads=heads,
        rows=np.stack([rng.normal(size=n), rng.uniform(0.5, 2.0, n)], axis=1),
    )
