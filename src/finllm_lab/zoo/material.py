"""Which training sessions the zoo works on. Validation recordings are not reached from here."""

from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.errors import InputError
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm_lab.manifest import recordings
from finllm_lab.plans import BOOK_PLAN, STOCK_PLAN, Plan
from finllm_lab.tapes import BINANCE, BOOK_TAPES, Session, Tape, book_sessions, tape_paths
from finllm_lab.ticks import CACHE, FOLDER, STOCK_TAPES, tick_sessions
from finllm_lab.training import Columns, columns_of
from finllm_lab.zoo.parts import Part, parts_of

BOOK: Final = "book"
TICKS: Final = "ticks"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which recordings, and how densely."""

    on: str = BOOK
    """`book` or `ticks`."""
    grid_ns: int = 200 * NS_PER_MS
    is_cached: bool = True


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """Training sessions as grid points, and what is known of them."""

    plan: Plan
    """The edge's, on the grid that was asked for."""
    parts: list[Part]
    columns: Columns
    data: dict[str, str]
    """SHA-256 by recording."""


def material(data: Path, asked: Asked) -> Material:
    """Return the training sessions that are asked for.

    Raises:
        InputError: If nothing is called so, or a recording is missing or was changed.
    """
    if asked.on == BOOK:
        plan, tapes, folder, end = BOOK_PLAN, BOOK_TAPES, BINANCE, ".ndjson.gz"
        sessions = [session for tape in tapes for session in _book(data, tape)]
    elif asked.on == TICKS:
        # LOBSTER's sample states no licence: nothing chosen on it may be shipped.
        plan, tapes, folder, end = STOCK_PLAN, STOCK_TAPES, FOLDER, ".csv.gz"
        cache = CACHE if asked.is_cached else None
        sessions = tick_sessions(data, tapes, grid_ns=asked.grid_ns, cache=cache)
    else:
        raise InputError(
            f"no recordings are called {asked.on!r}", place="--on", mend=f"Say {BOOK} or {TICKS}."
        )
    paths = [
        f"{folder}/{file}{end}" for tape in tapes if tape.use == "train" for file in tape.files
    ]
    known = recordings()
    plan = _on_grid(plan, asked.grid_ns)
    return Material(
        plan=plan,
        parts=parts_of(sessions, plan),
        columns=columns_of(
            plan.spec, is_mirrored=plan.is_mirrored, core=plan.core, unread=plan.unread
        ),
        data={path: known[path].sha256 for path in paths},
    )


def _on_grid(plan: Plan, grid_ns: int) -> Plan:
    """Return a plan whose forecasts are so far apart: the nearer, the less each outcome is worth."""
    learning = msgspec.structs.replace(plan.learning, grid_s=grid_ns / NS_PER_S)
    return msgspec.structs.replace(plan, grid_ns=grid_ns, learning=learning)


def _book(data: Path, tape: Tape) -> list[Session]:
    return book_sessions(tape.name, tape_paths(data, tape)) if tape.use == "train" else []
