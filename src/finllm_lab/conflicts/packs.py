"""Packs of planted conflicts: what the rooms that serve would hand a reasoner when each is asked about.

The words go through a fresh narrative room for each episode, since the phrases are few and a room would
take one episode's story for a copy of another's; the frames go through the features and observers.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from finllm.app.lane import CITED_BOOK, CITED_LATELY, MOVES_S
from finllm.domain.evidence import Document, Evidence, EvidencePack
from finllm.domain.market import Flag
from finllm.domain.units import NS_PER_MS
from finllm.features.book_spec import BOOK_SPEC
from finllm.features.moves import Moves
from finllm.features.observations import Observer
from finllm.narrative.reading.reader import Reader
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm_lab.conflicts.oracle import beliefs
from finllm_lab.conflicts.planted import Conflicts, Episode
from finllm_lab.tapes import Session, frame_sessions

GRID_NS = 100 * NS_PER_MS
"""As a lane's records."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A conflict as it is served, with what drives it."""

    tape: int
    """Its seed: what is left out, is left out whole."""
    episode: Episode
    reader: str
    """Who read the words: `words` alone, or with the `encoder`."""
    pack: EvidencePack
    oracle: tuple[float, ...] = ()
    """The oracle's probabilities, in the order of `DRIVERS`; empty if it was not asked."""


def cases(seed: int, readers: dict[str, Reader], *, ask_oracle: bool = False) -> list[Case]:
    """Return the cases of a tape, each as every reader reads it."""
    tape = Conflicts(seed)
    (session,) = frame_sessions("conflicts", tape.frames())
    seen = _seen(session, [episode.question for episode in tape.episodes])
    oracle = beliefs(tape).tolist() if ask_oracle else [[]] * len(tape.episodes)
    return [
        Case(
            tape=seed,
            episode=episode,
            reader=name,
            pack=_pack(episode, tape.documents, shown, reader),
            oracle=tuple(belief),
        )
        for episode, shown, belief in zip(tape.episodes, seen, oracle, strict=True)
        for name, reader in readers.items()
    ]


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a file that `finllm_lab conflicts gather` wrote."""
    return [msgspec.json.decode(line, type=Case) for line in path.read_bytes().splitlines()]


def _pack(
    episode: Episode,
    documents: tuple[Document, ...],
    seen: tuple[Evidence, ...],
    reader: Reader,
) -> EvidencePack:
    room = Narrative(settings=NarrativeSettings(originals=256), reader=reader)
    room.watch(episode.instrument)
    for document in documents:
        if episode.start <= document.ts_published and document.ts_recv <= episode.question:
            room.admit(document, document.ts_recv)
    return room.gather(episode.instrument, episode.question, seen)


def _seen(session: Session, questions: list[int]) -> Iterator[tuple[Evidence, ...]]:
    """Yield what the book shows at each instant, from the last row before it, as a lane would."""
    observer = Observer(session.instrument, BOOK_SPEC, CITED_BOOK, CITED_LATELY)
    moves = Moves(session.instrument, MOVES_S)
    ts, mid2 = session.heads["ts_recv"].tolist(), session.heads["mid2"].tolist()
    is_valid = (session.heads["flags"] & int(Flag.VALID) != 0).tolist()
    ends = np.searchsorted(session.heads["ts_recv"], questions, side="right").tolist()
    next_grid, row = 0, 0
    for end in ends:
        for i in range(row, end):
            if is_valid[i] and mid2[i] > 0 and ts[i] >= next_grid:
                observer.push(session.rows[i])
                moves.push(ts[i], mid2[i])
                next_grid = ts[i] + GRID_NS
        row = end
        at = end - 1
        if at < 0 or not is_valid[at]:
            yield ()
            continue
        shown = observer.observations(session.rows[at], ts[at])
        yield (*shown, *moves.observations(ts[at], mid2[at]))
