"""What a model says over the tapes of a set, and what a hunt for look-ahead finds on them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from finllm.domain.errors import InputError
from finllm.edge.artifact import Artifact, load_artifact
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.tape import read_chain
from finllm.runtime.tally import Tally
from finllm_lab.edge import stock_sessions
from finllm_lab.evaluation.leaks import hunt_features, hunt_walk
from finllm_lab.evaluation.records import Hunt
from finllm_lab.manifest import checked
from finllm_lab.plans import BOOK_PLAN, STOCK_PLAN
from finllm_lab.tapes import BOOK_TAPES, Session, between, book_sessions, frame_sessions, tape_paths
from finllm_lab.ticks import FOLDER, STOCK_TAPES
from finllm_lab.walk import Said, walk

BOOK: Final = "book"
STOCK: Final = "stock"
SETS: Final = (BOOK, STOCK)
"""Sets of tapes: Binance frames, and US stocks by their best bid and offer."""
TRAIN: Final = "train"
VALIDATE: Final = "validate"
HUNTED_FRAMES: Final = 20_000
"""Frames of each tape that a hunt rebuilds at every cut."""
CUTS: Final = 8


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What was said over a set of tapes."""

    said: list[Said]
    hunts: list[Hunt]


def ready(data: Path, name: str, model: Path, split: str) -> None:
    """See that everything that `hear` reads is there, without reading what was said or came.

    Raises:
        InputError: If a tape is missing or was changed, or the split is neither.
        ArtifactError: If the artifact does not fit.
    """
    if split not in {TRAIN, VALIDATE}:
        raise InputError(
            "no such part", place=f"--split {split}", mend=f"Say {TRAIN} or {VALIDATE}."
        )
    load_artifact(model, spec=BOOK_SPEC)
    for tape in BOOK_TAPES if name == BOOK else ():
        if tape.use == split:
            tape_paths(data, tape)
    for tape in STOCK_TAPES if name == STOCK else ():
        if tape.use == split:
            for file in tape.files:
                checked(data, f"{FOLDER}/{file}.csv.gz", use=split)


def hear(data: Path, name: str, model: Path, split: str, *, is_hunted: bool) -> Heard:
    """Walk a model over the tapes of a set.

    Args:
        data: The data folder.
        name: One of `SETS`.
        model: Folder of the artifact.
        split: `train` or `validate`.
        is_hunted: Whether look-ahead is hunted as well: in what is said of each instrument, and on the
            Binance frames in the rows.

    Raises:
        InputError: If a tape is missing or was changed, or the split is neither.
        ArtifactError: If the artifact does not fit.
    """
    artifact = load_artifact(model, spec=BOOK_SPEC)
    plan = BOOK_PLAN if name == BOOK else STOCK_PLAN
    said, hunts = [], []
    hunted = set[str]()
    for session in _sessions(data, name, split):
        said += walk(session, artifact, plan.grid_ns)
        if is_hunted and session.instrument not in hunted:
            hunted.add(session.instrument)
            hunts.append(_hunt_walk(session, artifact, plan.grid_ns))
    if is_hunted and name == BOOK:
        hunts += [
            _hunt_tape(tape.name, tape_paths(data, tape))
            for tape in BOOK_TAPES
            if tape.use == split
        ]
    return Heard(said=said, hunts=hunts)


def _sessions(data: Path, name: str, split: str) -> Iterator[Session]:
    if name == BOOK:
        for tape in BOOK_TAPES:
            if tape.use == split:
                yield from book_sessions(tape.name, tape_paths(data, tape))
        return
    yield from stock_sessions(data, split)


def _hunt_walk(session: Session, artifact: Artifact, grid_ns: int) -> Hunt:
    return hunt_walk(
        lambda part: walk(part, artifact, grid_ns),
        _beginning(session),
        dataset=f"{session.name} {session.instrument}",
        cuts=CUTS,
        rng=np.random.default_rng(0),
    )


def _hunt_tape(name: str, paths: list[Path]) -> Hunt:
    return hunt_features(
        lambda frames: frame_sessions(name, frames),
        list(islice(read_chain(paths, Tally()), HUNTED_FRAMES)),
        BOOK_SPEC,
        dataset=name,
        cuts=CUTS,
        rng=np.random.default_rng(0),
    )


def _beginning(session: Session) -> Session:
    """Return the first rows, as many as a hunt rebuilds at every cut."""
    ts = session.heads["ts_recv"]
    last = ts[min(HUNTED_FRAMES, len(ts)) - 1]
    return between(session, int(ts[0]), int(last) + 1)
