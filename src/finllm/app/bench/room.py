"""A narrative room under measurement: made as the product makes it, fed lines, and looked at by stage."""

import cProfile
import pstats
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from finllm import narrative
from finllm.app.bench.texts import Sent
from finllm.app.reader import open_room
from finllm.domain.evidence import Document
from finllm.narrative.room import Admission, NarrativeSettings
from finllm.narrative.sources.documents import document_of
from finllm.runtime.tally import Tally

_ROOM: Final = str(Path(narrative.__file__).parent)
_LEAST_SHARE: Final = 0.01
_ELSEWHERE: Final = "elsewhere"

Function = tuple[str, int, str]
"""File, line and name, as the profiler has it."""


class FedRoom:
    """A room that takes in lines.

    Args:
        settings: The room's own.
        instruments: What it watches.
    """

    def __init__(self, settings: NarrativeSettings, instruments: Sequence[str]) -> None:
        self.room = open_room(settings)
        self.tally = Tally()
        self.n_copies = 0
        self.n_refused = 0
        for key in instruments:
            self.room.watch(key)

    def push(self, sent: Sent) -> None:
        """Take in one line: parse it, and admit the document."""
        made = document_of(sent.line, place="bench", ts_recv=sent.ts_recv, tally=self.tally)
        admission = (
            self.room.admit(made, made.ts_recv)
            if isinstance(made, Document)
            else Admission(refusal=made)
        )
        self.n_copies += bool(admission.copy_of)
        self.n_refused += admission.refusal is not None


def stages_of(fed: FedRoom, lines: Sequence[Sent]) -> dict[str, float]:
    """Return each module's share of the time of taking in lines, greatest first; small ones left out.

    What other libraries do counts for the module that called them. A profiler slows calls down, so shares
    of modules with many small functions come out somewhat too high.
    """
    profile = cProfile.Profile()
    profile.enable()
    for sent in lines:
        fed.push(sent)
    profile.disable()
    stats: dict[Function, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    spent: dict[str, float] = {}
    owners = _Owners(stats)
    for function, (_, _, own, _, _) in stats.items():
        for name, part in owners.of(function).items():
            spent[name] = spent.get(name, 0.0) + own * part
    total = sum(spent.values())
    ordered = sorted(spent.items(), key=lambda one: -one[1])
    return {name: round(s / total, 3) for name, s in ordered if s >= _LEAST_SHARE * total}


class _Owners:
    """For which modules of the room each function works."""

    def __init__(self, stats: dict[Function, Any]) -> None:
        self._stats = stats
        self._known: dict[Function, dict[str, float]] = {}

    def of(self, function: Function) -> dict[str, float]:
        """Return the modules that a function works for, with their parts of it, which sum to 1."""
        if function in self._known:
            return self._known[function]
        if function[0].startswith(_ROOM):
            return {_module(function[0]): 1.0}
        self._known[function] = {
            _ELSEWHERE: 1.0
        }  # until it is known: functions may call each other
        callers = self._stats[function][4] if function in self._stats else {}
        weights = {caller: counts[2] for caller, counts in callers.items() if caller != function}
        total = sum(weights.values())
        if total:
            found: dict[str, float] = {}
            for caller, weight in weights.items():
                for name, part in self.of(caller).items():
                    found[name] = found.get(name, 0.0) + part * weight / total
            self._known[function] = found
        return self._known[function]


def _module(path: str) -> str:
    return path.removeprefix(_ROOM).strip("/").removesuffix(".py").replace("/", ".")
