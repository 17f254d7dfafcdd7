"""Counting what a recording holds, for the manifest: rows, balance of regimes and classes, near copies.

Outcomes are counted on training recordings only. Knows nothing of models.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.instrument import Horizon
from finllm.domain.units import iso
from finllm.edge.artifact import RegimeRule
from finllm.edge.regime import NAMES, STATE, watch, watch_words
from finllm_lab.labels import GRID_NS, grid, targets
from finllm_lab.manifest import Counts, Recording
from finllm_lab.plans import BOOK_PLAN
from finllm_lab.tapes import BINANCE, BOOK_TAPES, Session, book_sessions, tape_paths

NEAR: Final = 0.01
"""Two rows are near copies if no column differs by more than this share of its deviation."""


def counts_of(
    session: Session,
    horizons: Sequence[Horizon],
    sigma_column: int,
    rule: RegimeRule,
    *,
    with_outcomes: bool,
    grid_ns: int = GRID_NS,
) -> Counts:
    """Return what a session holds.

    Args:
        session: One instrument's rows.
        horizons: Whose classes are counted.
        sigma_column: The feature that scales returns.
        rule: What counts as which regime.
        with_outcomes: Whether the classes may be looked at.
        grid_ns: Time between two grid points; 0 takes every good row.
    """
    kept = session.kept
    at = kept[grid(session.heads[kept], grid_ns)]
    classes: dict[str, tuple[float, float, float]] = {}
    if with_outcomes:
        found = targets(session, horizons, sigma_column, grid_ns)
        for h, horizon in enumerate(horizons):
            known = found.label[:, h][found.label[:, h] >= 0]
            down, flat, up = (float(np.mean(known == k)) if len(known) else 0.0 for k in range(3))
            classes[horizon.name] = round(down, 4), round(flat, 4), round(up, 4)
    return Counts(
        rows=len(session.heads),
        grid=len(at),
        repeated=round(repeated(session.rows_at(at)), 4),
        regimes=regimes(session, at, rule),
        classes=classes,
    )


def count_tapes(
    data: Path, known: Mapping[str, Recording], say: Callable[[str], None]
) -> dict[str, Recording]:
    """Return a manifest with what the Binance tapes hold counted anew.

    A tape's instruments are entered under the file that each began in.
    """
    sigma = BOOK_PLAN.spec.columns["sigma"]
    found = dict(known)
    for tape in BOOK_TAPES:
        say(f"{tape.name} {', '.join(tape.files)}")
        paths = tape_paths(data, tape)
        for session in book_sessions(tape.name, paths):
            symbol = session.instrument.partition(":")[2].lower()
            name = next(file for file in tape.files if symbol in file and _is_of(file, session))
            path = f"{BINANCE}/{name}.ndjson.gz"
            counted = counts_of(
                session, BOOK_PLAN.horizons, sigma, BOOK_PLAN.regime,
                with_outcomes=tape.use == "train",
            )  # fmt: skip
            first, last = (int(session.heads["ts_recv"][i]) for i in (0, -1))
            found[path] = msgspec.structs.replace(
                found[path],
                starts=iso(first),
                ends=iso(last),
                instruments={session.instrument: counted},
            )
    return found


def _is_of(file: str, session: Session) -> bool:
    return file.partition("_")[0] in session.instrument.partition(":")[0]


def repeated(rows: NDArray[np.float64]) -> float:
    """Return the share of rows that nearly repeat the one before; 0 of fewer than two."""
    if len(rows) < 2:
        return 0.0
    room = NEAR * rows.std(axis=0) + 1e-12
    return float(np.mean((np.abs(np.diff(rows, axis=0)) <= room).all(axis=1)))


def regimes(session: Session, at: NDArray[np.int64], rule: RegimeRule) -> dict[str, float]:
    """Return the share of grid points in each regime, in the order of the edge's own watch."""
    words = watch_words(rule)
    words_f = words.view(np.float64)
    states = np.zeros(len(session.heads), dtype=np.int64)
    heads = session.heads
    rows = zip(
        heads["ts_recv"].tolist(), heads["mid2"].tolist(), heads["flags"].tolist(), strict=True
    )
    for i, (ts, mid2, flags) in enumerate(rows):
        watch(ts, mid2, bool(flags & 1), words, words_f)
        states[i] = words[STATE]
    picked = states[at]
    return {
        name: round(float(np.mean(picked == k)), 4) if len(picked) else 0.0
        for k, name in enumerate(NAMES)
    }
