"""Synthetic rows in regimes, drawn from the frozen law: times, mids, regimes, and what came of each row.

A stream has a mean wait and a slow deviation of its own, which a detector has to find out. Each row also
carries a touch imbalance and an outcome (down, flat, up), whose law depends on the imbalance and on the
regime. One seed, one stream.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.units import NS_PER_S
from finllm.edge.regime import N_REGIMES
from finllm.runtime.kernels import kernel
from finllm_lab.regimes.law import Law

T0: Final = 1_700_000_000 * NS_PER_S
MID2: Final = 2_000_000_000
"""Fine enough that rounding to ticks loses nothing."""
SCALE_BPS: Final = (0.005, 0.05)
"""Slow deviations per row lie between these."""

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Rows with their truth, n of them."""

    ts: Ints
    mid2: Ints
    regime: Ints
    seen: Ints
    """Which row of the law's table each row was drawn as."""
    imbalance: Doubles
    """Touch imbalance, -1 to 1."""
    label: Ints
    """0 down, 1 flat, 2 up."""
    switches: Ints
    """Rows at which a new regime begins."""


@kernel
def _drawn(  # noqa: C901, PLR0915, PLR0917 - a kernel
    chance: Doubles,
    laws: tuple[Doubles, Doubles, Doubles, Doubles],
    scales: tuple[float, float, float, float, float],
    regime: Ints,
    seen: Ints,
    wait: Doubles,
    move: Doubles,
) -> None:
    """Fill a stream row by row from uniform numbers float64 [n, 6]."""
    cumulative, leave, stages, after = laws
    mean_s, scale, small, large, largest = scales
    state, stage, context = 1, 0, 0
    for i in range(len(chance)):
        u = chance[i]
        if u[0] < leave[state]:
            stage += 1
            if stage >= stages[state]:
                stage = 0
                k, total = 0, after[3 * state]
                while k < 2 and u[1] >= total:
                    k += 1
                    total += after[3 * state + k]
                state = k
        symbol = 0
        base = 40 * context
        while symbol < 39 and u[2] >= cumulative[3 * (base + symbol) + state]:
            symbol += 1
        regime[i] = state
        seen[i] = base + symbol
        kind, size = symbol >> 2, symbol & 3
        # Octaves below the mean; the first class has seven of them, the last two.
        low, high = (kind - 8.0, kind - 7.0)
        if kind == 0:
            low, high = -14.0, -7.0
        elif kind == 9:
            low, high = 1.0, 3.0
        wait[i] = mean_s * 2.0 ** (low + (high - low) * u[3])
        context = 1 if kind >= 4 else 0
        move[i] = 0.0
        if size:
            bottom = small / 8.0 if size == 1 else (small if size == 2 else large)
            top = small if size == 1 else (large if size == 2 else largest)
            length = scale * bottom * (top / bottom) ** u[4]
            move[i] = length if u[5] < 0.5 else -length


def draw(law: Law, seed: int, n: int, *, wait_s: float = 0.0) -> Stream:
    """Return a stream of n rows; its mean wait is drawn too unless it is given."""
    rng = np.random.default_rng(seed)
    low, high = law.wait_s
    mean_s = float(np.exp(rng.uniform(np.log(low / 2.0), np.log(2.0 * high))))
    mean_s = wait_s or mean_s
    scale = float(np.exp(rng.uniform(*np.log(SCALE_BPS))))
    table = np.array(law.table).reshape(2, 40, N_REGIMES)
    laws = (
        np.ascontiguousarray(np.cumsum(table, axis=1).reshape(-1)),
        np.array(law.stages) / np.array(law.dwell),
        np.array(law.stages, dtype=np.float64),
        np.array(law.after).reshape(-1),
    )
    regime, seen = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    wait, move = np.zeros(n), np.zeros(n)
    scales = (mean_s, scale, law.small, law.large, law.largest)
    _drawn(rng.random((n, 6)), laws, scales, regime, seen, wait, move)
    imbalance = rng.uniform(-1.0, 1.0, n)
    theta = np.array(law.touch)[regime]
    down = np.exp(theta[:, 0] + theta[:, 1] * imbalance)
    up = np.exp(theta[:, 2] + theta[:, 3] * imbalance)
    u = rng.random(n) * (1.0 + down + up)
    return Stream(
        ts=T0 + np.cumsum(np.round(wait * NS_PER_S).astype(np.int64)),
        mid2=np.round(MID2 * np.exp(np.cumsum(move) * 1e-4)).astype(np.int64),
        regime=regime,
        seen=seen,
        imbalance=imbalance,
        label=np.where(u < down, 0, np.where(u < down + 1.0, 1, 2)).astype(np.int64),
        switches=np.flatnonzero(np.diff(regime)) + 1,
    )
