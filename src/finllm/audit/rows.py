"""Score rows: one group of forecasts, every stage, against every baseline, with how sure it is."""

import math
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.audit import calibration, intervals, rules
from finllm.audit.inforce import Scored
from finllm.audit.intervals import Blocks, finding_of
from finllm.audit.rules import Floats, Ints
from finllm.audit.sample import Sample
from finllm.audit.scorecard import (
    ALL,
    SWITCHED,
    Against,
    FindingAgainst,
    Interval,
    IntervalAgainst,
    Row,
    Stage,
)
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_MIN

SWITCH_NS: Final = 10 * NS_PER_MIN
"""How long after a change of regime rows count as switched."""
BASELINES: Final = ("climatology", "ewma", "obi")


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one instrument (or all), horizon and regime (or all), in order of time."""

    rows: Ints
    instrument: str
    horizon: tuple[str, float]
    regime: str
    """Or whatever else sets the part apart, such as an hour of the day."""


def score_rows(scored: Scored, resamples: int, seed: int) -> tuple[Row, ...]:
    """Return the rows of every instrument, horizon and regime, and of everything pooled."""
    rows: list[Row] = []
    is_switched = _switched(scored.sample)
    for where in places(scored.sample):
        rows += score_group(scored, where, resamples, seed)
        for part in _regimes(scored.sample, where, is_switched):
            if len(part.rows) == len(where.rows):
                same = [r for r in rows[-len(scored.stages) :] if r.regime == ALL]
                rows += [_renamed(row, part.regime) for row in same]
            else:
                rows += score_group(scored, part, resamples, seed)
    return tuple(rows)


def places(sample: Sample) -> list[Group]:
    """Return a group for each instrument and horizon that occurs, and one pooled by horizon."""
    found = []
    horizons = sorted(range(len(sample.horizons)), key=lambda h: sample.horizons[h][1])
    names = sorted(range(len(sample.instruments)), key=lambda i: sample.instruments[i])
    for horizon in horizons:
        at = sample.horizon == horizon
        pooled = np.flatnonzero(at)
        found.append(Group(pooled, ALL, sample.horizons[horizon], ALL))
        for instrument in names:
            rows = np.flatnonzero(at & (sample.instrument == instrument))
            name = sample.instruments[instrument]
            found.append(Group(rows, name, sample.horizons[horizon], ALL))
    return [place for place in found if len(place.rows)]


def _regimes(sample: Sample, where: Group, is_switched: NDArray[np.bool_]) -> list[Group]:
    parts = [
        (name, where.rows[sample.regime[where.rows] == code])
        for code, name in enumerate(sample.regimes)
    ]
    parts.append((SWITCHED, where.rows[is_switched[where.rows]]))
    return [Group(rows, where.instrument, where.horizon, name) for name, rows in parts if len(rows)]


def _switched(sample: Sample) -> NDArray[np.bool_]:
    """Return which rows came within ten minutes after a change of their instrument's regime.

    A change across a longer pause (and longer than five steps) is another recording, not a switch.
    """
    is_switched = np.zeros(len(sample), np.bool_)
    for instrument in np.unique(sample.instrument):
        rows = np.flatnonzero(sample.instrument == instrument)
        ts = sample.ts_recv[rows]
        step = intervals.typical_step_ns(ts, sample.instrument[rows])
        pause = max(float(SWITCH_NS), intervals.STEPS_PER_BLOCK * step)
        changed = np.flatnonzero((np.diff(sample.regime[rows]) != 0) & (np.diff(ts) <= pause)) + 1
        if not len(changed):
            continue
        switches = ts[changed]
        last = np.searchsorted(switches, ts, side="right") - 1
        is_switched[rows] = (last >= 0) & (ts - switches[last] < SWITCH_NS)
    return is_switched


def _renamed(row: Row, regime: str) -> Row:
    return msgspec.structs.replace(row, regime=regime)


def score_group(scored: Scored, group: Group, resamples: int, seed: int) -> list[Row]:
    """Return one row a stage of a group."""
    extent = extent_of(scored.sample, group, resamples, seed)
    scored_rows: list[Row] = []
    for stage in scored.stages:
        same = [
            row for row in scored_rows if not scored.differs[stage, row.stage][group.rows].any()
        ]
        scored_rows.append(
            msgspec.structs.replace(same[0], stage=stage)
            if same
            else _score_stage(scored, group, stage, extent)
        )
    return scored_rows


@dataclass(frozen=True, slots=True)
class Extent:
    """What the stages of a group have in common: its stretch of time, and the draws from it."""

    blocks: Blocks
    runs: Floats
    """float64 [resamples, n_cells], see `intervals.draw_runs`."""
    n_disjoint: int
    rng: np.random.Generator


def extent_of(sample: Sample, group: Group, resamples: int, seed: int) -> Extent:
    """Return a group's blocks of time and the draws from them, by a seed of its own."""
    rows = group.rows
    ts = sample.ts_recv[rows]
    step = intervals.typical_step_ns(ts, sample.instrument[rows])
    blocks = intervals.blocks_of(ts, int(sample.horizon_ns[rows].max()), step)
    name = content_id(seed, group.instrument, group.horizon, group.regime)
    rng = np.random.default_rng(int(name, 16))
    runs = intervals.draw_runs(blocks.n_cells, resamples, rng)
    return Extent(blocks, runs, _disjoint(sample, rows), rng)


def _disjoint(sample: Sample, rows: Ints) -> int:
    total = 0
    for instrument in np.unique(sample.instrument[rows]):
        own = rows[sample.instrument[rows] == instrument]
        total += intervals.disjoint(sample.ts_recv[own], sample.ts_end[own])
    return total


def _score_stage(scored: Scored, group: Group, stage: Stage, extent: Extent) -> Row:
    sample, rows, losses, blocks = scored.sample, group.rows, scored.stages[stage], extent.blocks
    label, value = sample.label[rows], sample.return_bps[rows]
    log, p, baseline = losses.log[rows], losses.p[rows], scored.baseline_log[rows]
    parts, pit = losses.means(rows)
    lead = baseline - log[:, None]  # by row, so that what equals its baseline leads by exactly zero
    crps = scored.baseline_crps[rows]
    crps_lead = crps - losses.parts[rows, 1:2]
    cells = blocks.sums(
        np.column_stack(
            [np.ones(len(rows)), log, baseline, lead, crps, crps_lead, rules.one_hot(label)]
        )
    )
    totals = intervals.resample(cells, extent.runs)
    mean_draws = totals[:, 1] / totals[:, 0]
    n_eff = intervals.effective_n(extent.n_disjoint, float(log.var()), mean_draws, blocks)
    bins = calibration.bins_of(p, n_eff)
    gaps = calibration.gap_columns(p, label, bins, blocks)
    ece = float(calibration.expected_error(gaps.sum(axis=0), float(len(rows))))
    ece_draws = calibration.expected_error(intervals.resample(gaps, extent.runs), totals[:, 0])
    perfect, perfect_95 = calibration.perfect_error(p, bins, n_eff, extent.rng)
    reliability, resolution = calibration.murphy_parts(p, label, bins)
    ic, ic_t = _information(p[:, 2] - p[:, 0], value, blocks)
    by_log = _against(cells, totals, blocks, slice(2, 5), BASELINES)
    by_crps = _against(cells, totals, blocks, slice(8, 10), BASELINES[:2])
    said = p.argmax(axis=1)
    low, high = calibration.share_by_luck(calibration.NOMINAL_COVERAGE, n_eff)
    return Row(
        instrument=group.instrument,
        horizon=group.horizon[0],
        horizon_s=group.horizon[1],
        regime=group.regime,
        stage=stage,
        n=len(rows),
        n_eff=n_eff,
        log_score=float(log.mean()),
        rps=parts["rps"],
        crps=parts["crps"],
        brier=parts["brier"],
        reliability=reliability,
        resolution=resolution,
        ece=ece,
        ece_bins=bins.n_bins,
        ece_perfect=perfect,
        ece_perfect_95=perfect_95,
        ece_interval=calibration.error_interval(ece, ece_draws, blocks.n_blocks),
        skill=Against(**_skills(lead, baseline, BASELINES)),
        interval=by_log.interval,
        p_value=by_log.p_value,
        finding=by_log.finding,
        skill_crps=Against(**_skills(crps_lead, crps, BASELINES[:2])),
        skill_hindsight=_hindsight(log, label),
        interval_hindsight=intervals.percentile_interval(_hindsights(totals), blocks.n_blocks),
        interval_crps=by_crps.interval,
        p_value_crps=by_crps.p_value,
        finding_crps=by_crps.finding,
        coverage_80=parts["covered"],
        coverage_80_spread=1.0 - pit[0] - pit[5],
        coverage_80_luck=(float(low), float(high)),
        width_80_bps=parts["width"],
        pit=(pit[0], pit[1], pit[2], pit[3], pit[4], pit[5]),
        mcc=rules.matthews(said, label),
        macro_f1=rules.macro_f1(said, label),
        ic=ic,
        ic_t=ic_t,
        n_blocks=blocks.n_blocks,
        block_s=blocks.block_s,
        tentative=blocks.is_tentative,
    )


def _skills(lead: Floats, baseline: Floats, names: tuple[str, ...]) -> dict[str, float | None]:
    """Return mean lead / mean baseline loss by baseline; None where the baseline never errs."""
    pairs = zip(lead.mean(axis=0).tolist(), baseline.mean(axis=0).tolist(), strict=True)
    skills = [ahead / mean if mean > 0.0 else None for ahead, mean in pairs]
    return dict(zip(names, skills, strict=True))


@dataclass(frozen=True, slots=True)
class _Comparison:
    """How sure a score's skill is against some baselines."""

    interval: IntervalAgainst
    p_value: Against
    finding: FindingAgainst


def _against(
    cells: Floats, totals: Floats, blocks: Blocks, columns: slice, names: tuple[str, ...]
) -> _Comparison:
    """Return, for each baseline, the interval of the skill, the p-value of no difference, the finding.

    Args:
        cells: float64 [n_cells, k]: count first, then sums of losses and of leads.
        totals: The same, resampled, [resamples, k].
        blocks: Where the cells lie.
        columns: The baselines' losses; the leads over them follow at once.
        names: The baselines.
    """
    spans: dict[str, Interval | None] = {}
    p_values: dict[str, float | None] = {}
    for name, column in zip(names, range(columns.start, columns.stop), strict=True):
        ahead = column + len(names)
        with np.errstate(divide="ignore", invalid="ignore"):
            skill = totals[:, ahead] / totals[:, column]
        spans[name] = intervals.percentile_interval(skill, blocks.n_blocks)
        p_values[name] = intervals.diebold_mariano(cells[:, ahead], cells[:, 0])
    findings = {name: finding_of(spans[name], p_values[name]) for name in names}
    return _Comparison(IntervalAgainst(**spans), Against(**p_values), FindingAgainst(**findings))


def _hindsights(totals: Floats) -> Floats:
    """Return the skill in hindsight of each resample; nan where all its labels are one.

    Args:
        totals: float64 [resamples, k]: count, own log score, ..., the three counts of labels.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = totals[:, -3:] / totals[:, :1]
        entropy = -np.where(share > 0.0, share * np.log(share), 0.0).sum(axis=1)
        skill: Floats = 1.0 - totals[:, 1] / (totals[:, 0] * entropy)
    return skill


def _hindsight(log: Floats, label: Ints) -> float | None:
    """Return the skill against the entropy of the sample's own label frequencies."""
    rate = np.bincount(label, minlength=3) / len(label)
    entropy = float(-(rate[rate > 0] * np.log(rate[rate > 0])).sum())
    return 1.0 - float(log.mean()) / entropy if entropy > 0.0 else None


def _information(
    signal: Floats, value: Floats, blocks: Blocks
) -> tuple[float | None, float | None]:
    """Return the correlation of signal and return, and its slope's t by Newey & West on cells."""
    own, moved = signal - signal.mean(), value - value.mean()
    power, spread = float(own @ own), float(moved @ moved)
    if power <= 1e-18 * len(own) or spread <= 0.0:
        return None, None
    product = float(own @ moved)
    residual = own * (moved - product / power * own)
    sums = blocks.sums(residual[:, None])[:, 0]
    variance = intervals.hac_variance(sums, intervals.lags_of(blocks.n_cells))
    t = product / math.sqrt(variance) if variance > 0.0 and blocks.n_blocks >= 2 else None
    return product / math.sqrt(power * spread), t
