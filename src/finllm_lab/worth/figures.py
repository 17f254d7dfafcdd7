"""The figures of the two-speed table: volatility and direction apart, what was said against the edge alone.

Each forecast is scored by what stood at each moment of its use (`finllm.audit.inforce`). A predicted
deviation is read off the 0.1 and 0.9 quantiles; its level is set by what resolved before, the same for every
policy, so that none gains by the edge's being wide or narrow throughout.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.audit.inforce import Served, served
from finllm.audit.intervals import (
    Blocks,
    blocks_of,
    disjoint,
    draw_runs,
    effective_n,
    percentile_interval,
    resample,
    typical_step_ns,
)
from finllm.audit.refinement import harm_of
from finllm.audit.rules import log_score
from finllm.audit.sample import Sample
from finllm.audit.scorecard import Stage

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FELT: Final = 0.05
"""A row is fired on where what stood differed by so much from the base, in the log of its deviation."""
LEAST_RESOLVED: Final = 100
"""Rows that must have resolved before the level of a deviation is known."""
RESAMPLES: Final = 2_000
LEAST_CELLS: Final = 10
"""Cells of time that must hold a chosen row for an interval: with fewer the bootstrap would only pretend."""
SEED: Final = 11
_NORMAL_80: Final = 2.0 * 1.2815515655446004
INCONCLUSIVE: Final = "inconclusive"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure above zero where second looks helped, with its interval over blocks of time."""

    value: float | None
    interval: tuple[float, float] | None
    verdict: str
    """`better`, `worse`, or `inconclusive` where the interval holds nought or there is none."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: a policy on a set."""

    set: str
    part: str
    policy: str
    rows: int
    n_eff: int
    blocks: int
    tentative: bool
    """Fewer than twenty blocks."""
    notices: int
    calls: int
    call_share: float
    """Of the notices."""
    fired: int
    fired_share: float
    """Of the rows."""
    vol_fired: Figure
    """Share of the edge's volatility error (QLIKE) taken away, on the rows fired on."""
    vol_all: Figure
    """The same over all rows."""
    vol_error: float
    """QLIKE over all rows, mean."""
    log_error_fired: Figure
    """Share of the edge's absolute error in log deviation taken away, on the rows fired on."""
    share_of_always: float | None
    """Of the volatility error that always asking takes away; None where that takes nothing away."""
    direction: Figure
    """Nats a row on up against down, of rows that left the flat band."""
    classes: Figure
    """Nats a row on down, flat and up."""
    harm: float | None
    """Volatility error added in blocks that were worse off, over what was taken away in all; None where
    nothing was."""
    harm_classes: float
    """Nats a row lost in blocks that were worse off."""
    late: int
    range_r2: Figure | None = None
    """Of the log range of the bar after the post, out of sample; posts only."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is scored of one run: rows that resolved within the part, and what became of them."""

    sample: Sample
    rows: Ints
    """[n], rows of the sample that are scored."""
    variance: Floats
    """[n], realised, bps squared, of every row of the sample."""


class _Errors(msgspec.Struct, frozen=True, kw_only=True):
    """Losses of one stage by row of the sample."""

    qlike: Floats
    log_error: Floats
    direction: Floats
    classes: Floats
    log_scale: Floats
    """Mean log of the deviation over the base's while it stood."""
    felt: Floats
    """Most that the deviation differed from the base's, in logs."""


def usable(sample: Sample, variance: Floats, since: int, until: int) -> Ints:
    """Return the rows of a part whose level is known and whose outcome could be measured."""
    known = np.isfinite(_levels(sample, variance)[0]) & np.isfinite(variance)
    within = (sample.ts_recv >= since) & (sample.ts_recv < until)
    return np.flatnonzero(known & within)


def line(
    seen: Seen,
    stage: Stage,
    *,
    name: tuple[str, str, str],
    notices: int,
    calls: int,
    late: int,
    always: float | None,
    ranges: tuple[Floats, Floats] | None = None,
) -> Line:
    """Return one line of the table.

    Args:
        seen: The run's rows.
        stage: What is held against the edge alone.
        name: Set, part and policy.
        notices: Put to the gate within the part.
        calls: Of these, asked.
        late: Answers that came late.
        always: Share of the edge's error that always asking takes away over all rows, if known.
        ranges: Log ranges foreseen for this line and realised, by row of the sample; posts only.
    """
    sample, rows = seen.sample, seen.rows
    edge, force = _errors(seen, Stage.EDGE), _errors(seen, stage)
    blocks = _blocks(sample, rows)
    draws = _Draws(blocks)
    fired = force.felt[rows] >= FELT
    moved = sample.label[rows] != 1
    everything = np.ones(len(rows), dtype=bool)
    gain = (edge.qlike - force.qlike)[rows]
    taken = draws.share(gain, edge.qlike[rows], everything)
    total = float(gain.sum())
    return Line(
        set=name[0],
        part=name[1],
        policy=name[2],
        rows=len(rows),
        n_eff=_independent(sample, rows, edge.qlike[rows], draws),
        blocks=blocks.n_blocks,
        tentative=blocks.is_tentative,
        notices=notices,
        calls=calls,
        call_share=calls / max(1, notices),
        fired=int(fired.sum()),
        fired_share=float(fired.mean()),
        vol_fired=draws.share(gain, edge.qlike[rows], fired),
        vol_all=taken,
        vol_error=float(force.qlike[rows].mean()),
        log_error_fired=draws.share(
            (edge.log_error - force.log_error)[rows], edge.log_error[rows], fired
        ),
        share_of_always=_over(taken.value, always),
        direction=draws.mean((edge.direction - force.direction)[rows], moved),
        classes=draws.mean((edge.classes - force.classes)[rows], everything),
        harm=_over(harm_of(gain, blocks) * len(gain), total),
        harm_classes=harm_of((edge.classes - force.classes)[rows], blocks),
        late=late,
        range_r2=None if ranges is None else _r_squared(ranges, force.log_scale, rows, draws),
    )


def _errors(seen: Seen, stage: Stage) -> _Errors:
    sample, variance = seen.sample, seen.variance
    mean_level, log_level = _levels(sample, variance)
    pieces = served(sample, stage)
    at = pieces.row
    base = np.log(_deviation(sample.base_q))[at]
    said = np.log(_deviation(pieces.q))
    with np.errstate(invalid="ignore"):
        ratio = np.log(variance[at]) - 2.0 * said
        qlike = np.exp(ratio - mean_level[at]) - (ratio - mean_level[at]) - 1.0
        log_error = np.abs(ratio - log_level[at]) / 2.0
    up, down = np.maximum(pieces.p[:, 2], 1e-9), np.maximum(pieces.p[:, 0], 1e-9)
    right = np.where(sample.label[at] == 2, up, down) / (up + down)
    felt = np.zeros(len(sample))
    np.maximum.at(felt, at, np.where(pieces.weight > 0.0, np.abs(said - base), 0.0))
    return _Errors(
        qlike=_meant(qlike, pieces, len(sample)),
        log_error=_meant(log_error, pieces, len(sample)),
        direction=_meant(-np.log(right), pieces, len(sample)),
        classes=_meant(log_score(pieces.p, sample.label[at]), pieces, len(sample)),
        log_scale=_meant(said - base, pieces, len(sample)),
        felt=felt,
    )


def _meant(loss: Floats, pieces: Served, n: int) -> Floats:
    """Return the mean over what stood, weighted by how long it did, [n]."""
    return np.asarray(
        np.bincount(pieces.row, weights=loss * pieces.weight, minlength=n), np.float64
    )


def _deviation(q: Floats) -> Floats:
    """Return the deviation of quantiles [n, 5] in bps, as of a normal law."""
    return np.maximum(q[:, 4] - q[:, 0], 1e-6) / _NORMAL_80


def _levels(sample: Sample, variance: Floats) -> tuple[Floats, Floats]:
    """Return by row the log of the mean, and the mean of the log, of realised over predicted variance.

    Of the edge's forecasts that had resolved by the row's issue; not a number before `LEAST_RESOLVED` had.
    """
    ratio = variance / _deviation(sample.base_q) ** 2
    order = np.argsort(sample.ts_end, kind="stable")
    order = order[np.isfinite(ratio[order])]
    n = np.searchsorted(sample.ts_end[order], sample.ts_recv, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ratio[order])])
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratio[order]))])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, log = np.log(sums[n] / n), logs[n] / n
    is_known = n >= LEAST_RESOLVED
    return np.where(is_known, mean, np.nan), np.where(is_known, log, np.nan)


def _blocks(sample: Sample, rows: Ints) -> Blocks:
    ts, series = sample.ts_recv[rows], sample.instrument[rows]
    return blocks_of(ts, int(sample.horizon_ns[rows].max()), typical_step_ns(ts, series))


def _independent(sample: Sample, rows: Ints, loss: Floats, draws: "_Draws") -> int:
    picked = 0
    for one in np.unique(sample.instrument[rows]):
        at = rows[sample.instrument[rows] == one]
        picked += disjoint(sample.ts_recv[at], sample.ts_end[at])
    means = draws.totals(np.stack([loss, np.ones(len(loss))], axis=1))
    return effective_n(picked, float(loss.var()), means[:, 0] / means[:, 1], draws.blocks)


class _Draws:
    """Blocks of time, drawn anew many times."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self._runs = draw_runs(blocks.n_cells, RESAMPLES, np.random.default_rng(SEED))

    def totals(self, columns: Floats) -> Floats:
        """Return the sums of columns [n, k] in each draw, [draws, k]."""
        return resample(self.blocks.sums(columns), self._runs)

    def share(self, part: Floats, whole: Floats, chosen: NDArray[np.bool_]) -> Figure:
        """Return the sum of a part over that of the whole, of the rows chosen."""
        both = np.stack([part, whole], axis=1) * chosen[:, None]
        if not chosen.any():
            return _figure(None, np.zeros(0), self.blocks)
        totals = self.totals(both)
        drawn = totals[totals[:, 1] > 0.0]
        part_sum, whole_sum = both.sum(axis=0)
        if len(np.unique(self.blocks.cell[chosen])) < LEAST_CELLS:
            return _figure(float(part_sum / whole_sum), np.zeros(0), self.blocks)
        return _figure(float(part_sum / whole_sum), drawn[:, 0] / drawn[:, 1], self.blocks)

    def mean(self, value: Floats, chosen: NDArray[np.bool_]) -> Figure:
        """Return the mean of the rows chosen."""
        return self.share(value, np.ones(len(value)), chosen)


def _over(part: float | None, whole: float | None) -> float | None:
    """Return a share of a gain; None where there is no gain to share."""
    return part / whole if part is not None and whole is not None and whole > 0.0 else None


def _figure(value: float | None, draws: Floats, blocks: Blocks) -> Figure:
    interval = percentile_interval(draws, blocks.n_blocks) if len(draws) else None
    if interval is None or interval[0] <= 0.0 <= interval[1]:
        verdict = INCONCLUSIVE
    else:
        verdict = "better" if interval[0] > 0.0 else "worse"
    return Figure(value=value, interval=interval, verdict=verdict)


def _r_squared(
    ranges: tuple[Floats, Floats], log_scale: Floats, rows: Ints, draws: _Draws
) -> Figure:
    """Return how much of the variance of log ranges is foreseen, edge and what was said together."""
    foreseen, realised = (one[rows] for one in ranges)
    kept = np.isfinite(foreseen) & np.isfinite(realised)
    if not kept.any():
        return _figure(None, np.zeros(0), draws.blocks)
    about_mean = (realised - realised[kept].mean()) ** 2
    missed = (realised - foreseen - log_scale[rows]) ** 2
    missed, about_mean = (np.where(kept, one, 0.0) for one in (missed, about_mean))
    return draws.share(about_mean - missed, about_mean, kept)
