"""A small market for the zoo's tests: direction stands in one column, movement in another."""

import numpy as np

from finllm.domain.instrument import Horizon
from finllm.domain.spec import Feature, FeatureSpec
from finllm_lab.training import Sample, columns_of
from finllm_lab.zoo.networks import Schedule
from finllm_lab.zoo.parts import Part

N = 1_000
N_ROUNDS = 12
SPEC = FeatureSpec(
    name="toy",
    version=1,
    features=tuple(
        Feature(name=name, unit="1", source="toy") for name in ("obi_1", "sigma", "log_spread")
    ),
)
HORIZONS = (Horizon(name="1s", ns=10**9, nominal_s=1.0, band="half_spread"),)
COLUMNS = columns_of(SPEC, is_mirrored=True, core=("obi_1",))
QUICK = Schedule(hidden=(8,), n_epochs=2)


def part_of(seed: int, name: str = "", n: int = N) -> Part:
    """A market whose direction is in the first column and whose movement is in the third."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3)).astype(np.float32).astype(np.float64)
    scaled = 0.7 * rows[:, :1] + np.exp(0.6 * rows[:, 2:]) * rng.normal(size=(n, 1))
    label = np.where(scaled > 0.6, 2, np.where(scaled < -0.6, 0, 1))
    label[rng.random(label.shape) < 0.02] = -1
    ts = 10**18 + np.arange(n) * 200_000_000
    return Part(
        name=name or f"day {seed}",
        instrument="x:Y",
        ts=ts,
        sample=Sample(rows=rows, label=label, scaled=scaled),
    )
