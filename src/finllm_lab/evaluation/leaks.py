"""The hunt for look-ahead: whatever was known by an instant must be the same if nothing came after it.

The record is cut at several places and everything is built anew from what is left. Rows known by the last
receive time kept must be there, all of them and no others, bit for bit. That finds a feature that holds
the return to come, one that is a row early, a scale fitted on the whole day, and an outcome that teaches
before it is known; a score alarm finds only what also scores well. A cut can only show what differs at
that cut: the hunt says at how many it looked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from finllm.audit.rules import Ints
from finllm.domain.market import ROW_HEAD, Frame
from finllm.domain.spec import FeatureSpec
from finllm.domain.units import iso
from finllm_lab.evaluation.records import Fault, Hunt
from finllm_lab.tapes import Session, between
from finllm_lab.walk import Said

MOST_FAULTS: Final = 16


@dataclass(frozen=True, slots=True)
class Told:
    """Rows of one kind: when each was known, and its columns by name, each [n] or [n, ...]."""

    known_at: Ints
    columns: Mapping[str, NDArray[Any]]


Build = Callable[[int], Mapping[str, Told]]
"""From the first so many records to what is built of them, by instrument."""


def told_of_sessions(sessions: Sequence[Session], spec: FeatureSpec) -> dict[str, Told]:
    """Return feature rows and their heads by instrument; a row is known when its event was received."""
    return {
        one.instrument: Told(
            one.heads["ts_recv"],
            {name: one.heads[name] for name in ROW_HEAD.names or ()}
            | {name: one.rows[:, i] for name, i in spec.columns.items()},
        )
        for one in sessions
    }


def told_of_said(said: Sequence[Said]) -> dict[str, Told]:
    """Return claims and outcomes by instrument and horizon; both are known when the outcome was."""
    names = ("ts", "label", "return_bps", "band_bps", "regime", "is_abstained", "column", "p", "q")
    return {
        f"{one.instrument} {one.horizon.name}": Told(
            one.ts_end, {name: getattr(one, name) for name in names}
        )
        for one in said
    }


def cuts_of(ts: Ints, n: int, rng: np.random.Generator) -> list[int]:
    """Return up to `n` lengths at which a record may be cut, shortest first, spread over all of it.

    A cut never parts records received at the same instant, for what was known then is not settled.
    """
    allowed = np.flatnonzero(np.diff(ts) > 0) + 1
    spans = np.array_split(allowed, min(n, len(allowed))) if len(allowed) else []
    return [int(rng.choice(span)) for span in spans]


def hunt(build: Build, ts: Ints, cuts: Sequence[int], *, dataset: str, what: str) -> Hunt:
    """Return where what was known before a cut depends on what came after it.

    Args:
        build: Builds everything from the first so many records; called once whole and once a cut.
        ts: int64 [n], receive times of the records, never decreasing.
        cuts: Lengths to cut at, see `cuts_of`.
        dataset: Whose records they are.
        what: What is built, in words.
    """
    whole = build(len(ts))
    compared, faults = 0, []
    for cut in cuts:
        now, part = int(ts[cut - 1]), build(cut)
        for where in sorted(whole.keys() | part.keys()):
            n, row, columns = _compare(whole.get(where), part.get(where), now)
            compared += n
            if row >= 0:
                faults.append(Fault(where=where, cut=iso(now), row=row, columns=columns))
    return Hunt(
        dataset=dataset,
        what=what,
        records=len(ts),
        cuts=len(cuts),
        compared=compared,
        n_faults=len(faults),
        faults=_one_of_each(faults),
    )


def _compare(whole: Told | None, part: Told | None, now: int) -> tuple[int, int, tuple[str, ...]]:
    """Return rows compared, the first row at fault (-1 = none), and the columns that differ in it."""
    kept = [
        np.flatnonzero(one.known_at <= now) if one else np.zeros(0, int) for one in (whole, part)
    ]
    n = min(len(rows) for rows in kept)
    differs = {}
    if whole and part and n:
        for name, column in whole.columns.items():
            unlike = _unlike(column[kept[0][:n]], part.columns[name][kept[1][:n]])
            if unlike.any():
                differs[name] = int(unlike.argmax())
    if differs:
        row = min(differs.values())
        return n, row, tuple(name for name, at in differs.items() if at == row)
    return n, (-1 if len(kept[0]) == len(kept[1]) else n), ()


def _unlike(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows differ in any bit, bool [n]."""
    bits = [np.ascontiguousarray(a).reshape(len(a), -1).view(np.uint8) for a in (one, other)]
    unlike: NDArray[np.bool_] = (bits[0] != bits[1]).any(axis=1)
    return unlike


def _one_of_each(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    kinds: dict[tuple[str, tuple[str, ...]], Fault] = {}
    for fault in faults:
        kinds.setdefault((fault.where, fault.columns), fault)
    return tuple(kinds.values())[:MOST_FAULTS]


def hunt_features(
    rows_of: Callable[[Sequence[Frame]], Sequence[Session]], frames: Sequence[Frame], spec: FeatureSpec,
    *, dataset: str, cuts: int, rng: np.random.Generator,
) -> Hunt:  # fmt: skip
    """Hunt in whatever makes feature rows from frames.

    Args:
        rows_of: The builder.
        frames: By receive time.
        spec: Names of the columns.
        dataset: Whose frames they are.
        cuts: At how many places to cut.
        rng: Chooses them.
    """
    ts = np.array([frame.ts_recv for frame in frames], np.int64)
    return hunt(
        lambda n: told_of_sessions(rows_of(frames[:n]), spec),
        ts,
        cuts_of(ts, cuts, rng),
        dataset=dataset,
        what="feature rows",
    )


def hunt_walk(
    walk: Callable[[Session], Sequence[Said]], session: Session,
    *, dataset: str, cuts: int, rng: np.random.Generator,
) -> Hunt:  # fmt: skip
    """Hunt in whatever walks a session: claims, references, regimes, labels and what was learnt."""
    ts = session.heads["ts_recv"]

    return hunt(
        lambda n: told_of_said(walk(between(session, int(ts[0]), int(ts[n - 1]) + 1))),
        ts,
        cuts_of(ts, cuts, rng),
        dataset=dataset,
        what="claims and outcomes",
    )
