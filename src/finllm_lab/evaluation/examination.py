"""From what was said over sessions to the figures of each data set, scored by the audit's own code."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from finllm.audit import calibration, intervals, rules
from finllm.audit.inforce import Scored, score_all
from finllm.audit.ranking import rank
from finllm.audit.rows import Extent, Group, extent_of, places, score_group, score_rows
from finllm.audit.scorecard import ALL, Intake, Row, Stage
from finllm.domain.units import NS_PER_HOUR, NS_PER_S, iso
from finllm.runtime.tally import Tally
from finllm_lab.evaluation.columns import Spoken, spoken_of
from finllm_lab.evaluation.latency import decay_of
from finllm_lab.evaluation.records import ClassCurve, DataSet, Decay, Diagram, Direction, Learnt
from finllm_lab.walk import Said

CLASSES = ("down", "flat", "up")
LATE_NS: Final = 120 * NS_PER_S
"""After the first outcome: from here on the edge is taken to know the session."""


def market_of(said: Said) -> str:
    """Return the data set that a record belongs to: the first word of its venue, such as `binance`."""
    return said.instrument.partition(":")[0].partition("-")[0]


def data_sets(
    said: Iterable[Said],
    *,
    resamples: int,
    seed: int,
    name_of: Callable[[Said], str] = market_of,
) -> tuple[DataSet, ...]:
    """Return the figures of each data set, by name.

    Args:
        said: One record for each session, instrument and horizon.
        resamples: Bootstrap draws.
        seed: Of the bootstrap and of the simulated perfect forecaster.
        name_of: Which data set a record belongs to.
    """
    by_name: defaultdict[str, list[Said]] = defaultdict(list)
    for one in said:
        by_name[name_of(one)].append(one)
    return tuple(
        data_set(name, by_name[name], resamples=resamples, seed=seed) for name in sorted(by_name)
    )


def data_set(name: str, said: Sequence[Said], *, resamples: int, seed: int) -> DataSet:
    """Return the figures of one data set.

    Raises:
        InputError: If a record's arrays do not fit each other, or one comes twice.
    """
    tally = Tally()
    # sums of floats depend on their order, which that of the input must not show in
    said = sorted(said, key=lambda one: (one.session, one.instrument, one.horizon.nominal_s))
    spoken = spoken_of(said, tally)
    sample = spoken.sample
    scored = score_all(sample, (Stage.EDGE,))
    look = _Look(spoken, scored, resamples, seed)
    pooled = [group for group in places(sample) if group.instrument == ALL]
    rows = score_rows(scored, resamples, seed)
    sizes = {row.horizon: row.n_eff for row in rows if (row.instrument, row.regime) == (ALL, ALL)}
    return DataSet(
        name=name,
        sessions=tuple(sorted({one.session for one in said})),
        instruments=tuple(sample.instruments),
        models=tuple(sorted({one.model_version for one in said})),
        starts=iso(int(sample.ts_recv[0])) if len(sample) else "",
        ends=iso(int(sample.ts_recv[-1])) if len(sample) else "",
        is_book=all(one.horizon.events == 0 for one in said),
        intake=Intake.of(tally),
        rows=rows,
        hours=tuple(row for group in pooled for row in look.hours(group)),
        diagrams=tuple(look.diagram(group, sizes[group.horizon[0]]) for group in pooled),
        directions=tuple(one for group in pooled if (one := look.direction(group)) is not None),
        decays=tuple(found for group in pooled if (found := look.decay(group)) is not None),
        learnt=_learnt(said),
    )


def _learnt(said: Sequence[Said]) -> tuple[Learnt, ...]:
    by_horizon: defaultdict[tuple[float, str], list[Said]] = defaultdict(list)
    for one in said:
        if len(one.ts):
            by_horizon[one.horizon.nominal_s, one.horizon.name].append(one)
    return tuple(_learnt_at(by_horizon[key]) for key in sorted(by_horizon))


def _learnt_at(said: Sequence[Said]) -> Learnt:
    p = np.concatenate([np.stack([one.first_p, one.p[:, 0], one.p[:, 1]]) for one in said], axis=1)
    label = np.concatenate([one.label for one in said])
    is_late = np.concatenate([one.ts >= one.ts_end[0] + LATE_NS for one in said])
    losses = np.stack([rules.log_score(part, label) for part in p])

    def skill(which: int, rows: np.ndarray) -> float:
        return 1.0 - float(losses[which, rows].mean() / losses[2, rows].mean())

    every = np.ones(len(label), dtype=bool)
    return Learnt(
        horizon=said[0].horizon.name,
        horizon_s=said[0].horizon.nominal_s,
        without=skill(0, every),
        with_all=skill(1, every),
        late=skill(1, is_late) if is_late.any() else None,
        n=len(label),
        n_late=int(is_late.sum()),
    )


class _Look(msgspec.Struct, frozen=True):
    """A data set under the glass: what is asked of all instruments at one horizon."""

    spoken: Spoken
    scored: Scored
    resamples: int
    seed: int

    def hours(self, group: Group) -> list[Row]:
        """Return a row for each hour of the day, UTC."""
        hour = self.spoken.sample.ts_recv[group.rows] // NS_PER_HOUR % 24
        found: list[Row] = []
        for one in np.unique(hour).tolist():
            part = Group(
                group.rows[hour == one], group.instrument, group.horizon, f"{one:02d}:00 UTC"
            )
            found += score_group(self.scored, part, self.resamples, self.seed)
        return found

    def diagram(self, group: Group, n_eff: int) -> Diagram:
        """Return the reliability of the three classes."""
        p = self.scored.stages[Stage.EDGE].p[group.rows]
        label = self.spoken.sample.label[group.rows]
        bins = calibration.bins_of(p, n_eff)
        curves = calibration.reliability_curves(p, label, bins, n_eff)
        return Diagram(
            horizon=group.horizon[0],
            horizon_s=group.horizon[1],
            n=len(group.rows),
            n_eff=n_eff,
            curves=tuple(
                ClassCurve(
                    name=name,
                    said=tuple(curve.said.tolist()),
                    seen=tuple(curve.seen.tolist()),
                    count=tuple(curve.count.astype(np.int64).tolist()),
                    low=tuple(curve.low.tolist()),
                    high=tuple(curve.high.tolist()),
                )
                for name, curve in zip(CLASSES, curves, strict=True)
            ),
        )

    def direction(self, group: Group) -> Direction | None:
        """Return how well up is told from down; None without both."""
        spoken, rows, extent = self.spoken, group.rows, self._extent(group)
        label = spoken.sample.label[rows]
        signals = np.column_stack([spoken.tendency[rows], spoken.column[rows]])
        found = rank(signals, label, spoken.stratum[rows], extent.blocks, extent.runs)
        if found is None:
            return None
        return Direction(
            horizon=group.horizon[0],
            horizon_s=group.horizon[1],
            auc=found.auc,
            reference=found.reference,
            lead=found.lead,
            interval=found.interval,
            n=found.n_up + found.n_down,
            n_eff=self._disjoint(rows[label != 1]),
            n_blocks=extent.blocks.n_blocks,
            block_s=extent.blocks.block_s,
            tentative=extent.blocks.is_tentative,
        )

    def decay(self, group: Group) -> Decay | None:
        """Return what is left of the skill with delay; None where no claim can be used late."""
        sample, rows = self.spoken.sample, group.rows
        ts = sample.ts_recv[rows]
        return decay_of(
            self.scored.stages[Stage.EDGE].p[rows],
            sample.climatology[rows],
            sample.label[rows],
            ts,
            self.spoken.stratum[rows],
            self._extent(group),
            horizon=group.horizon,
            horizon_ns=int(sample.horizon_ns[rows].max()),
            step_ns=intervals.typical_step_ns(ts, sample.instrument[rows]),
        )

    def _extent(self, group: Group) -> Extent:
        return extent_of(self.spoken.sample, group, self.resamples, self.seed)

    def _disjoint(self, rows: np.ndarray) -> int:
        sample = self.spoken.sample
        parts = [
            rows[self.spoken.stratum[rows] == one] for one in np.unique(self.spoken.stratum[rows])
        ]
        return sum(intervals.disjoint(sample.ts_recv[own], sample.ts_end[own]) for own in parts)
