"""Score decay with latency: what a forecast is worth to somebody who can only use it later.

Whoever acts at a grid point with a delay of d holds the newest claim of the same instrument and horizon
that is at least d old, and it is scored on the outcome of the grid point at which he acts: the label of
the window that begins then, with the band stated then. The reference is the climatology known then, for
that costs no latency. All delays are scored on the same targets, those for which the oldest claim is
already there. Claims stand on the grid only, so the mean age is stated beside each delay.
"""

from typing import Final

import numpy as np

from finllm.audit import intervals, rules
from finllm.audit.rows import Extent
from finllm.audit.rules import Floats, Ints
from finllm.domain.units import seconds
from finllm_lab.evaluation.records import Decay, Step

SHARES: Final = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
"""Delays as shares of the horizon; those below the grid's step are left out."""


def late_rows(ts: Ints, stratum: Ints, delay_ns: int) -> Ints:
    """Return the row of the newest claim at least `delay_ns` old at each row, int64 [n]; -1 = none.

    Args:
        ts: int64 [n], never decreasing.
        stratum: int64 [n]; a claim serves its own stratum only.
        delay_ns: Not below zero.
    """
    found = np.full(len(ts), -1, np.int64)
    if delay_ns == 0:
        return np.arange(len(ts))
    for one in np.unique(stratum):
        rows = np.flatnonzero(stratum == one)
        at = np.searchsorted(ts[rows], ts[rows] - delay_ns, side="right") - 1
        found[rows] = np.where(at >= 0, rows[np.maximum(at, 0)], -1)
    return found


def decay_of(
    p: Floats, climatology: Floats, label: Ints, ts: Ints, stratum: Ints, extent: Extent,
    *, horizon: tuple[str, float], horizon_ns: int, step_ns: float,
) -> Decay | None:  # fmt: skip
    """Return the decay of skill with delay; None where no claim is old enough to be used late.

    Args:
        p: float64 [n, 3], claims by receive time.
        climatology: float64 [n, 3], known at the same time.
        label: int64 [n].
        ts: int64 [n], never decreasing.
        stratum: int64 [n].
        extent: Blocks over these rows, and draws of them.
        horizon: Name and seconds.
        horizon_ns: Its length.
        step_ns: Time between two claims.
    """
    delays = [
        round(share * horizon_ns) for share in SHARES if share == 0 or share * horizon_ns >= step_ns
    ]
    late = [late_rows(ts, stratum, delay) for delay in delays]
    targets = np.flatnonzero(late[-1] >= 0)
    if len(delays) < 2 or not len(targets):
        return None
    base = rules.log_score(climatology[targets], label[targets])
    blocks = intervals.Blocks(
        extent.blocks.cell[targets], extent.blocks.n_cells, extent.blocks.block_s
    )
    leads = [base - rules.log_score(p[used[targets]], label[targets]) for used in late]
    sums = blocks.sums(np.column_stack([base, *leads]))
    totals = intervals.resample(sums, extent.runs)
    fresh, whole = float(leads[0].sum()), float(base.sum())
    steps = []
    for i, (delay, used) in enumerate(zip(delays, late, strict=True)):
        lead = float(leads[i].sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = totals[:, 1 + i] / totals[:, 0]
        steps.append(
            Step(
                delay_s=seconds(delay),
                age_s=float((ts[targets] - ts[used[targets]]).mean()) / 1e9,
                skill=lead / whole if whole > 0.0 else 0.0,
                interval=intervals.percentile_interval(draws, blocks.n_blocks),
                kept=lead / fresh if fresh > 0.0 else None,
            )
        )
    return Decay(
        horizon=horizon[0],
        horizon_s=horizon[1],
        n=len(targets),
        n_eff=min(extent.n_disjoint, len(targets)),
        n_blocks=blocks.n_blocks,
        block_s=blocks.block_s,
        tentative=blocks.is_tentative,
        steps=tuple(steps),
    )
