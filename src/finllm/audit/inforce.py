"""Score in force: each forecast is scored by what stood at each moment in which it could be used.

The moments run from issue (`ts_emit` of version 1) to `valid_until`. Version 1 as emitted stands
from issue, each applied revision from its own time; one that comes at or after `valid_until` has no
moment and weighs nothing. After a retraction the climatology known at issue stands, and an
abstaining forecast counts as that climatology throughout; neither leaves the denominator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.audit import rules
from finllm.audit.calibration import pit_mass
from finllm.audit.rules import Floats, Ints
from finllm.audit.sample import Change, Sample
from finllm.audit.scorecard import Stage


@dataclass(frozen=True, slots=True)
class Served:
    """Pieces of service: the row, the share of its time, what stood; [m], [m, 3], [m, 5]."""

    row: Ints
    weight: Floats
    p: Floats
    q: Floats


PARTS: Final = ("rps", "crps", "brier", "covered", "width")


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Scores of one stage by row of the sample, and its mean probabilities."""

    log: Floats
    """[n], nats."""
    parts: Floats
    """[n, 5] in the order of `PARTS`, then the six cells of the PIT: [n, 11]."""
    p: Floats
    """[n, 3]."""

    def means(self, rows: Ints) -> tuple[dict[str, float], list[float]]:
        """Return the mean of each part over some rows, and the shares of the six PIT cells."""
        means = self.parts[rows].mean(axis=0).tolist()
        return dict(zip(PARTS, means, strict=False)), means[len(PARTS) :]

    def differs(self, other: "Losses") -> NDArray[np.bool_]:
        """Return where another stage was worth anything else, bool [n]."""
        by_p = (self.p != other.p).any(axis=1)
        differs: NDArray[np.bool_] = by_p | (self.parts != other.parts).any(axis=1)
        return differs


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A sample with every loss on it. Baselines in the order climatology, EWMA, OBI."""

    sample: Sample
    stages: dict[Stage, Losses]
    emitted_log: Floats
    """Log score of version 1 as emitted, [n]."""
    baseline_log: Floats
    """[n, 3]."""
    baseline_crps: Floats
    """[n, 2]: OBI has no quantiles."""
    differs: dict[tuple[Stage, Stage], NDArray[np.bool_]]
    """Where a stage was worth anything else than an earlier one, bool [n]."""


def score_all(sample: Sample, wanted: Sequence[Stage] = tuple(Stage)) -> Scored:
    """Return the wanted stages and every baseline scored."""
    baseline_log, baseline_crps = _baseline_losses(sample)
    first = _whole(sample, sample.emitted, sample.emitted_q)
    stages = {stage: score(sample, served(sample, stage)) for stage in wanted}
    return Scored(
        sample=sample,
        stages=stages,
        emitted_log=rules.log_score(first.p, sample.label),
        baseline_log=baseline_log,
        baseline_crps=baseline_crps,
        differs={
            (later, earlier): stages[later].differs(stages[earlier])
            for earlier, later in combinations(wanted, 2)
        },
    )


def served(sample: Sample, stage: Stage) -> Served:
    """Return what a stage served, piece by piece; the weights of each row sum to one."""
    if stage is Stage.EDGE:
        return _whole(sample, sample.base, sample.base_q)
    first = _whole(sample, sample.emitted, sample.emitted_q)
    if stage is Stage.FINAL:
        return _last(sample, first)
    return _in_force(sample, first)


def score(sample: Sample, pieces: Served) -> Losses:
    """Return the scores of a stage by row: time-weighted means over its pieces."""
    label, value = sample.label[pieces.row], sample.return_bps[pieces.row]

    parts = np.column_stack(
        [
            rules.ranked_score(pieces.p, label),
            rules.quantile_crps(pieces.q, value),
            rules.brier_score(pieces.p, label),
            rules.is_covered(pieces.q, value),
            rules.width(pieces.q),
            pit_mass(pieces.q, value),
        ]
    )
    log = rules.log_score(pieces.p, label)
    if len(pieces.row) == len(sample):
        return Losses(log=log, parts=parts, p=pieces.p)

    def mean(columns: Floats) -> Floats:
        weighted = (columns * pieces.weight[:, None]).T
        sums = [np.bincount(pieces.row, weights=one, minlength=len(sample)) for one in weighted]
        return np.stack(sums, axis=1)

    return Losses(log=mean(log[:, None])[:, 0], parts=mean(parts), p=mean(pieces.p))


def before_retraction(sample: Sample, row: int) -> tuple[float, float, float] | None:
    """Return what an applied retraction of a row withdrew; None if it was not retracted in time."""
    standing = tuple(sample.emitted[row].tolist())
    for change in _in_time(sample, row):
        if change.is_retraction:
            return standing
        standing = change.p
    return None


def _whole(sample: Sample, p: Floats, q: Floats) -> Served:
    silent = sample.is_abstained[:, None]
    return Served(
        np.arange(len(sample)),
        np.ones(len(sample)),
        np.where(silent, sample.climatology, p),
        np.where(silent, sample.climatology_q, q),
    )


def _in_time(sample: Sample, row: int) -> list[Change]:
    expiry = int(sample.valid_until[row])
    return [change for change in sample.changes.get(row, ()) if change.ts < expiry]


def _stands(sample: Sample, row: int, change: Change) -> tuple[Floats, Floats]:
    if change.is_retraction:
        return sample.climatology[row], sample.climatology_q[row]
    return np.array(change.p), np.array(change.q)


def _last(sample: Sample, first: Served) -> Served:
    p, q = first.p.copy(), first.q.copy()
    for row in sample.changes:
        for change in _in_time(sample, row):
            p[row], q[row] = _stands(sample, row, change)
    return Served(first.row, first.weight, p, q)


def _in_force(sample: Sample, first: Served) -> Served:
    weight = first.weight.copy()
    rows: list[int] = []
    shares: list[float] = []
    later: list[tuple[Floats, Floats]] = []
    for row in sample.changes:
        changes = _in_time(sample, row)
        parts = _shares(int(sample.ts_emit[row]), int(sample.valid_until[row]), changes)
        weight[row] = parts[0]
        rows += [row] * len(changes)
        shares += parts[1:]
        later += [_stands(sample, row, change) for change in changes]
    if not rows:
        return Served(first.row, weight, first.p, first.q)
    return Served(
        np.concatenate([first.row, np.array(rows, np.int64)]),
        np.concatenate([weight, np.array(shares)]),
        np.concatenate([first.p, np.stack([p for p, _ in later])]),
        np.concatenate([first.q, np.stack([q for _, q in later])]),
    )


def _shares(issue: int, expiry: int, changes: list[Change]) -> list[float]:
    """Return the share of [issue, expiry) of version 1 and of each change; they sum to one.

    Without any change in time version 1 has all of it, also where `valid_until` is not after issue.
    """
    if not changes:
        return [1.0]
    starts = [issue]
    for change in changes:
        starts.append(max(change.ts, starts[-1]))
    span = expiry - issue
    ends = [*starts[1:], expiry]
    return [(end - start) / span for start, end in zip(starts, ends, strict=True)]


def _baseline_losses(sample: Sample) -> tuple[Floats, Floats]:
    """Return the baselines' log scores [n, 3] and the first two's CRPS [n, 2]."""
    log = [rules.log_score(p, sample.label) for p in (sample.climatology, sample.ewma, sample.obi)]
    crps = [
        rules.quantile_crps(q, sample.return_bps) for q in (sample.climatology_q, sample.ewma_q)
    ]
    return np.stack(log, axis=1), np.stack(crps, axis=1)


def touched(sample: Sample) -> NDArray[np.int64]:
    """Return the rows with a revision that was applied in time."""
    return np.array([row for row in sample.changes if _in_time(sample, row)], np.int64)
