"""A small market for the zoo's tests: direction stands in one column, movement in another."""

import msgspec
import numpy as np

from finllm.domain.instrument import Horizon
from finllm.domain.market import ROW_HEAD
from finllm.domain.spec import Feature, FeatureSpec
from finllm_lab.plans import BOOK_PLAN
from finllm_lab.tapes import Session
from finllm_lab.training import columns_of
from finllm_lab.zoo.networks import Schedule
from finllm_lab.zoo.parts import Part, parts_of

N = 1_000
N_ROUNDS = 12
S = 10**9
MID2 = 2_000_000
"""So that a basis point is 200 of its units."""
BAND_BPS = 0.6
SPEC = FeatureSpec(
    name="toy",
    version=1,
    features=tuple(
        Feature(name=name, unit="1", source="toy") for name in ("obi_1", "sigma", "log_spread")
    ),
)
HORIZONS = (Horizon(name="1s", ns=S, nominal_s=1.0, band="half_spread"),)
PLAN = msgspec.structs.replace(
    BOOK_PLAN,
    name="toy",
    spec=SPEC,
    horizons=HORIZONS,
    core=("obi_1",),
    unread=(),
    grid_ns=S,
    learning=msgspec.structs.replace(BOOK_PLAN.learning, grid_s=1.0),
)
COLUMNS = columns_of(SPEC, is_mirrored=True, core=PLAN.core)
QUICK = Schedule(hidden=(8,), n_epochs=2)


def session_of(seed: int, name: str = "", n: int = N) -> Session:
    """A row a second; where the mid is at the next is in the first column and in the third."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3))
    rows[:, 1] = np.exp(0.3 * rows[:, 1])
    moved_bps = 0.7 * rows[:, 0] + np.exp(0.6 * rows[:, 2]) * rng.normal(size=n)
    heads = np.zeros(n, dtype=ROW_HEAD)
    heads["seq"] = np.arange(1, n + 1)
    heads["ts_recv"] = 10**18 + np.arange(n) * S
    steps = np.concatenate([[0.0], np.cumsum(moved_bps[:-1])])
    heads["mid2"] = np.round(MID2 * (1.0 + 1e-4 * steps))
    heads["spread"] = round(MID2 * 1e-4 * BAND_BPS)
    heads["flags"] = np.where(rng.random(n) < 0.02, 4, 1)
    return Session(name=name or f"day {seed}", instrument="x:Y", heads=heads, rows=rows)


def part_of(seed: int, name: str = "", n: int = N) -> Part:
    """The same as grid points."""
    [part] = parts_of([session_of(seed, name, n)], PLAN)
    return part
