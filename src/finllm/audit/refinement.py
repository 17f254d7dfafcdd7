"""The refinement ledger: what second thoughts earned over the edge alone, cost and harmed."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from finllm.audit import rules
from finllm.audit.inforce import Scored, before_retraction, touched
from finllm.audit.intervals import (
    CELLS_PER_BLOCK,
    Blocks,
    blocks_of,
    diebold_mariano,
    draw_runs,
    finding_of,
    percentile_interval,
    resample,
    typical_step_ns,
)
from finllm.audit.propensity import Chances, asking_all, chances_of
from finllm.audit.rules import Floats, Ints
from finllm.audit.sample import RevisionCount, Sample
from finllm.audit.scorecard import Finding, Interval, Refinement, Share, Stage
from finllm.domain.protocol import Applied, Escalate, Hold, Verdict


@dataclass(frozen=True, slots=True)
class Asking:
    """What was asked and what the answers cost."""

    calls: int
    holds: int
    tokens: int
    energy_j: float
    energy_method: str
    chances: Chances


@dataclass(frozen=True, slots=True)
class _Gain:
    mean: float
    interval: Interval | None
    finding: Finding
    harm: float
    blocks: Blocks


def count_asking(
    questions: Iterable[Escalate], holds: Iterable[Hold], verdicts: Iterable[Verdict]
) -> Asking:
    """Return the number of questions and holds, and the cost of all verdicts, each counted once."""
    by_id = {question.question_id: question for question in questions}
    held = list(holds)
    answers = {verdict.verdict_id: verdict.cost for verdict in verdicts}
    methods = sorted({cost.method for cost in answers.values()} - {"none"})
    return Asking(
        calls=len(by_id),
        holds=len(held),
        tokens=sum(cost.tokens for cost in answers.values()),
        energy_j=float(sum(cost.energy_j for cost in answers.values())),
        energy_method=", ".join(methods) or "none",
        chances=chances_of(by_id.values(), held),
    )


def harm_of(gain: Floats, blocks: Blocks) -> float:
    """Return the negative block means of a gain, weighted by each block's share, above zero.

    Single losses are no measure: a perfectly right shift has many that are negative by chance.
    """
    block = blocks.cell // CELLS_PER_BLOCK
    lost = np.minimum(np.bincount(block, weights=gain), 0.0).sum()
    return abs(float(lost)) / len(gain)


def refinement_of(
    scored: Scored,
    revised: RevisionCount,
    asking: Asking,
    *,
    always_gain: float | None,
    resamples: int,
    rng: np.random.Generator,
) -> Refinement:
    """Return the refinement ledger.

    Args:
        scored: All forecasts with their losses.
        revised: What became of all verdicts.
        asking: Questions and their cost.
        always_gain: Mean gain of a run on the same input that always asked, if there is one.
        resamples: Bootstrap draws.
        rng: Seeded generator.
    """
    sample, stages = scored.sample, scored.stages
    edge, in_force = stages[Stage.EDGE], stages[Stage.IN_FORCE]
    difference = edge.log - in_force.log
    everything = np.arange(len(sample))
    whole = _gain(sample, everything, difference, resamples, rng)
    changed = touched(sample)
    total = float(difference.sum())
    outlook = float((edge.log - scored.emitted_log).mean()) if len(sample) else 0.0
    precision = _retraction_precision(sample)
    asked_all = asking_all(scored, asking.chances)
    n_revisions = sum(revised.counts.values())
    return Refinement(
        n=len(sample),
        gain=whole.mean,
        gain_sum=total,
        interval=whole.interval,
        finding=whole.finding,
        gain_outlook=outlook,
        gain_verdicts=whole.mean - outlook,
        share_of_always=_over(whole.mean, always_gain),
        gain_if_all_asked=_per(asked_all.total, len(sample)) if asked_all else None,
        gain_if_all_asked_sd=_per(asked_all.deviation, len(sample)) if asked_all else None,
        explored=asking.chances.explored,
        unreachable=asking.chances.unreachable,
        calls=asking.calls,
        holds=asking.holds,
        call_share=asking.calls / max(1, asking.calls + asking.holds),
        harm=whole.harm,
        harm_share=_over(whole.harm, whole.mean),
        late=revised.counts[Applied.LATE],
        late_share=revised.counts[Applied.LATE] / max(1, n_revisions),
        late_applied=_late_applied(sample),
        applied=revised.counts[Applied.APPLIED],
        superseded=revised.counts[Applied.SUPERSEDED],
        refused=revised.counts[Applied.REFUSED],
        touched=len(changed),
        gain_touched=float(difference[changed].mean()) if len(changed) else None,
        retracted=precision[0],
        retraction_precision=precision[1],
        tokens=asking.tokens,
        energy_j=asking.energy_j,
        energy_method=asking.energy_method,
        gain_per_1000_tokens=_per(total * 1000.0, asking.tokens),
        gain_per_joule=_per(total, asking.energy_j),
        n_blocks=whole.blocks.n_blocks,
        block_s=whole.blocks.block_s,
        tentative=whole.blocks.is_tentative,
        by_horizon=_by_horizon(sample, difference, resamples, rng),
    )


def _gain(
    sample: Sample, rows: Ints, difference: Floats, resamples: int, rng: np.random.Generator
) -> _Gain:
    if not len(rows):
        return _Gain(0.0, None, Finding.INCONCLUSIVE, 0.0, Blocks(rows, 0, 0.0))
    ts, gain = sample.ts_recv[rows], difference[rows]
    series = sample.instrument[rows] * len(sample.horizons) + sample.horizon[rows]
    step = typical_step_ns(ts, series)
    blocks = blocks_of(ts, int(sample.horizon_ns[rows].max()), step)
    sums = blocks.sums(np.stack([gain, np.ones(len(rows))], axis=1))
    totals = resample(sums, draw_runs(blocks.n_cells, resamples, rng))
    interval = percentile_interval(totals[:, 0] / totals[:, 1], blocks.n_blocks)
    p_value = diebold_mariano(sums[:, 0], sums[:, 1])
    finding = finding_of(interval, p_value)
    return _Gain(float(gain.mean()), interval, finding, harm_of(gain, blocks), blocks)


def _by_horizon(
    sample: Sample, difference: Floats, resamples: int, rng: np.random.Generator
) -> tuple[Share, ...]:
    shares = []
    for code, (name, horizon_s) in enumerate(sample.horizons):
        rows = np.flatnonzero(sample.horizon == code)
        if not len(rows):
            continue
        gain = _gain(sample, rows, difference, resamples, rng)
        shares.append(
            Share(
                horizon=name,
                horizon_s=horizon_s,
                n=len(rows),
                gain=gain.mean,
                interval=gain.interval,
                harm=gain.harm,
                tentative=gain.blocks.is_tentative,
            )
        )
    return tuple(sorted(shares, key=lambda share: share.horizon_s))


def _retraction_precision(sample: Sample) -> tuple[int, float | None]:
    """Return the number of forecasts retracted in time and the share that were better withdrawn."""
    right = []
    for row in sample.changes:
        withdrawn = before_retraction(sample, row)
        if withdrawn is None:
            continue
        label = sample.label[row : row + 1]
        loss = rules.log_score(np.array([withdrawn]), label)[0]
        right.append(bool(loss > rules.log_score(sample.climatology[row : row + 1], label)[0]))
    return len(right), (sum(right) / len(right) if right else None)


def _late_applied(sample: Sample) -> int:
    return sum(
        change.ts >= int(sample.valid_until[row])
        for row, changes in sample.changes.items()
        for change in changes
    )


def _over(part: float, whole: float | None) -> float | None:
    """Return a share of a gain; None where there is no gain to share."""
    return part / whole if whole is not None and whole > 0.0 else None


def _per(gain: float, cost: float) -> float | None:
    """Return gain per unit of cost; None where nothing was spent."""
    return gain / cost if cost > 0.0 else None
