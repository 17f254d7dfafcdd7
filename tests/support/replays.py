"""A replay, and all that it said."""

from pathlib import Path
from typing import NamedTuple

from finllm.app.replay import Inputs, Summary, replay
from finllm.app.settings import Settings
from finllm.domain.identity import canonical

Emitted = list[tuple[int, bytes]]


class Replayed(NamedTuple):
    """A finished replay: read it, and copy its folder before you change it."""

    run: Path
    summary: Summary
    records: list[tuple[int, object]]
    """(time, record or a row's bytes) of everything emitted, in order."""

    @property
    def emitted(self) -> Emitted:
        """Return the bytes of everything emitted."""
        return [(ts, bytes_of(record)) for ts, record in self.records]


def bytes_of(record: object) -> bytes:
    return record if isinstance(record, bytes) else canonical(record)


def replayed_into(run: Path, inputs: Inputs, settings: Settings) -> Replayed:
    """Replay inputs into a folder."""
    records: list[tuple[int, object]] = []
    summary = replay(inputs, settings, run, watch=lambda ts, record: records.append((ts, record)))
    return Replayed(run, summary, records)


def inputs_of(folder: Path) -> Inputs:
    """Return the tapes of a synthetic market's folder, with its documents."""
    return Inputs(tapes=tapes_of(folder), documents=folder / "documents.jsonl")


def tapes_of(folder: Path) -> tuple[Path, ...]:
    """Return the tapes of a synthetic market's folder."""
    return tuple(sorted(folder.glob("frames-*")))
