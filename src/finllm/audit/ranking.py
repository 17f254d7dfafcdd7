"""Is up told from down? The AUC of a signal among moves, beside that of a reference, with an interval.

Rows are only compared within their own stratum (an instrument in a recording), so that pooling neither
helps nor hurts. Knows signals and labels; time enters only as each row's cell.
"""

from dataclasses import dataclass

import numpy as np

from finllm.audit import intervals, rules
from finllm.audit.intervals import Blocks
from finllm.audit.rules import Floats, Ints
from finllm.audit.scorecard import Interval
from finllm.domain.label import FLAT, UP


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The AUC of up against down among moves."""

    auc: float
    reference: float
    """AUC of the reference signal, either way round: a signal that is always wrong tells as much."""
    lead: float
    """The first less the second."""
    interval: Interval | None
    """Of the lead, 95 %."""
    n_up: int
    """Moves up in strata that have both."""
    n_down: int


def rank(
    signals: Floats, label: Ints, stratum: Ints, blocks: Blocks, runs: Floats
) -> Ranking | None:
    """Return how well two signals tell up from down; None where no stratum has both.

    Args:
        signals: float64 [n, 2], the signal and the reference, higher for up.
        label: int64 [n], 0 down, 1 flat, 2 up.
        stratum: int64 [n]; pairs are taken within one.
        blocks: The cells of the n rows.
        runs: float64 [resamples, n_cells], see `intervals.draw_runs`.

    Source:
        DeLong, DeLong & Clarke-Pearson (1988): the AUC is a mean of structural components, and the
        block bootstrap is taken of their sums.
    """
    auc, influence = np.zeros(2), np.zeros((len(label), 2))
    n_pairs, counts = 0, np.zeros(2, np.int64)
    for one in np.unique(stratum):
        rows = np.flatnonzero((stratum == one) & (label != FLAT))
        is_up = label[rows] == UP
        n_up, n_down = int(is_up.sum()), int((~is_up).sum())
        if not n_up * n_down:
            continue
        n_pairs += n_up * n_down
        counts += n_up, n_down
        others = np.where(is_up, n_down, n_up).astype(np.float64)
        for i in range(2):
            share = rules.ranked_rightly(signals[rows, i], is_up)
            auc[i] += n_up * n_down * share[is_up].mean()
            influence[rows, i] = others * (share - share[is_up].mean())
    if not n_pairs:
        return None
    auc /= n_pairs
    turned = -1.0 if auc[1] < 0.5 else 1.0
    reference = 0.5 + turned * (auc[1] - 0.5)
    moves = (influence[:, :1] - turned * influence[:, 1:]) / n_pairs
    lead = float(auc[0] - reference)
    draws = lead + intervals.resample(blocks.sums(moves), runs)[:, 0]
    return Ranking(
        auc=float(auc[0]),
        reference=float(reference),
        lead=lead,
        interval=intervals.percentile_interval(draws, blocks.n_blocks),
        n_up=int(counts[0]),
        n_down=int(counts[1]),
    )
