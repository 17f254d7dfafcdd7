"""Records into columns: one row for each forecast whose target resolved, read in one pass.

Membership is settled by version 1 and the outcome alone, so that nothing which the slow path does
later (least of all a retraction) can take a forecast out of the denominator.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.audit.rules import Floats, Ints
from finllm.domain.forecast import Forecast, Outcome, Reference, Status
from finllm.domain.label import label as label_of
from finllm.domain.market import Flag
from finllm.domain.protocol import Applied, Closing, Revision
from finllm.runtime.tally import Tally

_WIDTHS: Final = (3, 3, 5, 5, 3, 3, 3, 5, 5)
"""Columns of base, emitted, their quantiles, three baselines, two baselines' quantiles."""
_N_REALS: Final = sum(_WIDTHS) + 1
_N_INTS: Final = 8
_ROW: Final = struct.Struct(f"={_N_REALS}d{_N_INTS}q")
_SUM_SLACK: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Change:
    """One applied revision of one forecast."""

    ts: int
    version: int
    is_retraction: bool
    p: tuple[float, float, float]
    q: tuple[float, float, float, float, float]


@dataclass(slots=True)
class RevisionCount:
    """What became of all verdicts, and the applied ones by forecast."""

    changes: dict[str, list[Change]] = field(default_factory=dict)
    counts: dict[Applied, int] = field(default_factory=lambda: dict.fromkeys(Applied, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Columns over scored forecasts by receive time: probabilities [n, 3], quantiles [n, 5]."""

    ids: list[str]
    instrument: Ints
    horizon: Ints
    regime: Ints
    instruments: list[str]
    horizons: list[tuple[str, float]]
    regimes: list[str]
    ts_recv: Ints
    ts_emit: Ints
    valid_until: Ints
    horizon_ns: Ints
    ts_end: Ints
    """When the target was over, never before its outcome was known."""
    base: Floats
    emitted: Floats
    base_q: Floats
    emitted_q: Floats
    climatology: Floats
    ewma: Floats
    obi: Floats
    climatology_q: Floats
    ewma_q: Floats
    label: Ints
    return_bps: Floats
    is_abstained: NDArray[np.bool_]
    changes: dict[int, list[Change]]
    """Applied revisions by row, lowest version first."""

    def __len__(self) -> int:
        """Return the number of scored forecasts."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Columns of version 1 forecasts and what became of them, before anything is left out.

    Attributes:
        ids: One name a forecast.
        reals: float64 [n, 36]: base and emitted probabilities [3], their quantiles [5], climatology,
            EWMA and OBI [3], quantiles [5] of the first two, the flat band in bps.
        ints: int64 [n, 8]: ts_recv, ts_emit, valid_until, horizon_ns, flags, and the codes of
            instrument, horizon and regime.
        label: int64 [n], -1 void, -2 unresolved.
        return_bps: float64 [n].
        ts_resolved: int64 [n].
    """

    ids: list[str]
    reals: Floats
    ints: Ints
    label: Ints
    return_bps: Floats
    ts_resolved: Ints
    instruments: list[str]
    horizons: list[tuple[str, float]]
    regimes: list[str]


class _Names:
    """Numbers for names, in order of appearance."""

    def __init__(self) -> None:
        self.codes: dict[object, int] = {}

    def code(self, name: object) -> int:
        return self.codes.setdefault(name, len(self.codes))


class _Columns:
    """Growing columns of version 1 forecasts that carry a reference."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.packed = bytearray()
        self.instruments, self.horizons, self.regimes = _Names(), _Names(), _Names()

    def add(self, forecast: Forecast, tally: Tally) -> None:
        if forecast.version != 1:
            tally.note("later_version_among_forecasts", forecast.forecast_id)
            return
        tally.read += 1
        if forecast.forecast_id in self.ids:
            tally.drop("duplicate", forecast.forecast_id)
        elif forecast.reference is None:
            tally.drop("no_reference", forecast.forecast_id)
        else:
            self.ids[forecast.forecast_id] = len(self.ids)
            self.packed += self._pack(forecast, forecast.reference)

    def _pack(self, forecast: Forecast, reference: Reference) -> bytes:
        # one call of one compiled packer: a third of the time of growing a column for each field
        return _ROW.pack(
            *forecast.base,
            *forecast.emitted,
            *forecast.base_q,
            *forecast.emitted_q,
            *reference.climatology,
            *reference.ewma,
            *reference.obi,
            *reference.climatology_q,
            *reference.ewma_q,
            forecast.band_bps,
            forecast.ts_recv,
            forecast.ts_emit,
            forecast.valid_until,
            forecast.horizon_ns,
            forecast.flags,
            self.instruments.code(forecast.instrument),
            self.horizons.code((forecast.horizon, forecast.horizon_s)),
            self.regimes.code(forecast.regime),
        )

    def arrays(self) -> tuple[Floats, Ints]:
        """Return float64 [n, 36] and int64 [n, 8], views of what was packed."""
        cells = np.frombuffer(self.packed, np.int64).reshape(len(self.ids), _N_REALS + _N_INTS)
        return cells[:, :_N_REALS].view(np.float64), cells[:, _N_REALS:]


def gather_forecasts(forecasts: Iterable[Forecast], tally: Tally) -> _Columns:
    """Return the columns of version 1 forecasts; what cannot be scored is dropped and counted."""
    columns = _Columns()
    for forecast in forecasts:
        columns.add(forecast, tally)
    return columns


def gather_revisions(revisions: Iterable[Revision], tally: Tally) -> RevisionCount:
    """Return the applied revisions by forecast, lowest version first, and a count of each kind."""
    gathered = RevisionCount()
    found: defaultdict[str, list[Change]] = defaultdict(list)
    for revision in revisions:
        gathered.counts[revision.applied] += 1
        if revision.applied is not Applied.APPLIED:
            continue
        after = revision.forecast
        if after is None:
            tally.note("applied_revision_without_forecast", revision.forecast_id)
            continue
        found[revision.forecast_id].append(
            Change(
                ts=revision.ts,
                version=revision.version,
                is_retraction=after.status is Status.RETRACTED,
                p=after.emitted,
                q=after.emitted_q,
            )
        )
    for one in found.values():
        one.sort(key=lambda change: change.version)
    gathered.changes = dict(found)
    return gathered


def assemble(
    columns: _Columns, outcomes: Iterable[Outcome], revised: RevisionCount, tally: Tally
) -> Sample:
    """Return the sample: forecasts that resolved, in order of receive time."""
    reals, ints = columns.arrays()
    label, value, end = _resolved(columns.ids, outcomes, tally)
    packed = Packed(
        ids=list(columns.ids),
        reals=reals,
        ints=ints,
        label=label,
        return_bps=value,
        ts_resolved=end,
        instruments=[str(name) for name in columns.instruments.codes],
        horizons=list(columns.horizons.codes),  # type: ignore[arg-type]  # coded as (name, seconds)
        regimes=[str(name) for name in columns.regimes.codes],
    )
    return sample_of(packed, revised.changes, tally)


def sample_of(packed: Packed, changes: dict[str, list[Change]], tally: Tally) -> Sample:
    """Return what can be scored of packed columns, in order of receive time; the rest is counted."""
    reals, ints, label, value = packed.reals, packed.ints, packed.label, packed.return_bps
    kept = (label >= 0) & _is_usable(reals, value)
    _count_exclusions(label, kept, tally)
    order = np.flatnonzero(kept)
    order = order[np.argsort(ints[order, 0], kind="stable")]
    _note_labels(label[order], value[order], reals[order, -1], tally)
    parts = [np.ascontiguousarray(p) for p in np.split(reals[order], np.cumsum(_WIDTHS), axis=1)]
    ids = [packed.ids[i] for i in order.tolist()]
    whole = np.ascontiguousarray(ints[order].T)
    tally.used = len(ids)
    return Sample(
        ids=ids,
        instrument=whole[5],
        horizon=whole[6],
        regime=whole[7],
        instruments=packed.instruments,
        horizons=packed.horizons,
        regimes=packed.regimes,
        ts_recv=whole[0],
        ts_emit=whole[1],
        valid_until=whole[2],
        horizon_ns=whole[3],
        ts_end=np.maximum(packed.ts_resolved[order], whole[0] + whole[3]),
        base=parts[0],
        emitted=parts[1],
        base_q=parts[2],
        emitted_q=parts[3],
        climatology=parts[4],
        ewma=parts[5],
        obi=parts[6],
        climatology_q=parts[7],
        ewma_q=parts[8],
        label=label[order],
        return_bps=value[order],
        is_abstained=(whole[4] & int(Flag.ABSTAINED)) != 0,
        changes={i: changes[name] for i, name in enumerate(ids) if name in changes},
    )


def _resolved(
    ids: dict[str, int], outcomes: Iterable[Outcome], tally: Tally
) -> tuple[Ints, Floats, Ints]:
    """Return label (-2 unresolved, -1 void), return and time known; the first outcome wins."""
    label = np.full(len(ids), -2, np.int64).tolist()
    value, end = [0.0] * len(ids), [0] * len(ids)
    for outcome in outcomes:
        row = ids.get(outcome.forecast_id)
        if row is None:
            tally.note("outcome_without_scorable_forecast", outcome.forecast_id)
        elif label[row] != -2:
            tally.note("second_outcome", outcome.forecast_id)
        else:
            label[row] = outcome.label if outcome.label in {0, 1, 2} else -1
            value[row], end[row] = outcome.return_bps, outcome.ts_resolved
    return np.array(label, np.int64), np.array(value, np.float64), np.array(end, np.int64)


def _is_usable(reals: Floats, value: Floats) -> NDArray[np.bool_]:
    """Return where every number is finite and every distribution sums to one."""
    usable: NDArray[np.bool_] = np.isfinite(reals).all(axis=1) & np.isfinite(value)
    for start in (0, 3, 16, 19, 22):
        p = reals[:, start : start + 3]
        with np.errstate(invalid="ignore"):
            usable &= (np.abs(p.sum(axis=1) - 1.0) < _SUM_SLACK) & (p >= -_SUM_SLACK).all(axis=1)
    return usable


def _count_exclusions(label: Ints, kept: NDArray[np.bool_], tally: Tally) -> None:
    counts = {
        "unresolved": int((label == -2).sum()),
        "void": int((label == -1).sum()),
        "not_a_distribution": int(((label >= 0) & ~kept).sum()),
    }
    for reason, count in counts.items():
        if count:
            tally.dropped[reason] += count


def _note_labels(label: Ints, value: Floats, band: Floats, tally: Tally) -> None:
    """Count labels that the label rule would not give for the return and band on record."""
    rows = zip(label.tolist(), value.tolist(), band.tolist(), strict=True)
    differs = sum(label_of(moved, wide) != said for said, moved, wide in rows)
    if differs:
        tally.noted["label_differs_from_rule"] += differs


def check_closings(sample: Sample, closings: Iterable[Closing], tally: Tally) -> None:
    """Count closings whose version is not the one that stood at `valid_until` by the revisions."""
    rows = {name: i for i, name in enumerate(sample.ids)}
    for closing in closings:
        row = rows.get(closing.forecast_id)
        if row is None:
            continue
        expiry = int(sample.valid_until[row])
        stood = [c.version for c in sample.changes.get(row, ()) if c.ts < expiry]
        if closing.version != max(stood, default=1):
            tally.note("closing_differs_from_revisions", closing.forecast_id)
