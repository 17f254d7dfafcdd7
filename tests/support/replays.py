"""A replay, and all that it said."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from finllm.app.replay import Inputs, Summary, replay
from finllm.app.settings import Settings
from finllm.domain.identity import canonical
from finllm.ledger.reader import LedgerReader
from finllm.market.synthetic import SyntheticMarket, generate

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


class Asked(NamedTuple):
    """A finished replay that asked endpoints, which are gone: what they said is in its journal."""

    inputs: Inputs
    settings: Settings
    run: Path
    summary: Summary


def bytes_of(record: object) -> bytes:
    return record if isinstance(record, bytes) else canonical(record)


def replayed_into(run: Path, inputs: Inputs, settings: Settings) -> Replayed:
    """Replay inputs into a folder."""
    records: list[tuple[int, object]] = []
    summary = replay(inputs, settings, run, watch=lambda ts, record: records.append((ts, record)))
    return Replayed(run, summary, records)


def asked_into(folder: Path, duration_s: float, asking: Callable[[ExitStack], Settings]) -> Asked:
    """Replay a synthetic market into a folder, with endpoints that are up for as long as it takes."""
    generate(SyntheticMarket(seed=3, duration_s=duration_s)).write(folder / "tape")
    inputs, run = inputs_of(folder / "tape"), folder / "run"
    with ExitStack() as stack:
        settings = asking(stack)
        return Asked(inputs, settings, run, replay(inputs, settings, run))


def records_of(run: Path, kind: type) -> list[Any]:
    """Return the records of a kind that a run's ledger holds, in order."""
    with LedgerReader(run / "ledger") as ledger:
        return list(ledger.records(kind))


def inputs_of(folder: Path) -> Inputs:
    """Return the tapes of a synthetic market's folder, with its documents."""
    return Inputs(tapes=tapes_of(folder), documents=folder / "documents.jsonl")


def tapes_of(folder: Path) -> tuple[Path, ...]:
    """Return the tapes of a synthetic market's folder."""
    return tuple(sorted(folder.glob("frames-*")))
