"""How fast the narrative room takes documents in: one at a time, on one thread, from the line to its notices.

Everything is measured on the whole way: a line of JSON becomes a document, its language is told, the room
admits it. Headlines are distinct, so that nothing is saved on copies; the stream is what it is. A machine
that other work shares loses time to it: the processor's time stands beside the wall's.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import process_time_ns
from typing import Final

import msgspec
import numpy as np

from finllm.app.attack.field import read_field
from finllm.app.bench import edge, interference
from finllm.app.bench.interference import Beside, Headlines, beside_the_edge
from finllm.app.bench.measure import Nanoseconds, Quiet, Say, Spread
from finllm.app.bench.room import FedRoom, stages_of
from finllm.app.bench.texts import (
    TOKENS,
    Sent,
    flood_of,
    headlines_of,
    stream_of,
    token_counter,
)
from finllm.app.fastpath import quiet_collector
from finllm.app.reader import AUTO, load_encoder, load_reader
from finllm.domain.errors import InputError
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.room import NarrativeSettings, Table
from finllm.runtime.clock import stopwatch_ns

ROUNDS: Final = 5
"""Parts of a pass whose rates are compared."""
LOOKS: Final = 10
"""How often memory is looked at during a flood."""
SEED: Final = 7
WARM_UP: Final = 50
"""Headlines before what is measured, so that every kernel is loaded."""
TARGETS: Final = {
    "headlines_per_s": 150.0,
    "stream_per_s": 300.0,
    "p99_ms": 25.0,
    **interference.TARGETS,
}


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """One pass of documents through a room."""

    documents: int
    copies: int
    """Those that said what another had said."""
    refused: int
    per_s: float
    """Documents per second of wall time: the median over `ROUNDS` parts of the pass,"""
    per_s_low: float
    """its least,"""
    per_s_high: float
    """and its most."""
    cpu_per_s: float
    """Documents per second of processor time, over all of it."""
    latency_us: Spread
    """Of a document, microseconds of wall time."""
    stages: dict[str, float]
    """Share of the time by module of the room, greatest first, in a pass of its own under a profiler."""


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """What a flood of documents does to this process's memory.

    It is bounded by the room's tables: once each that fills has let go of its oldest, nothing may grow.
    """

    documents: int
    copies: int
    refused: int
    seconds: float
    rss_mb: list[float]
    """Resident memory before, then after each tenth."""
    full_after: int
    """Documents at the first look at which every table that has filled by the end was full."""
    grown_since_full: float
    """Resident memory at the end over that at this look, less 1."""
    tables: dict[str, Table]
    """What bounds memory, by name, at the end."""


class NarrativeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `finllm bench narrative` reports."""

    encoder: str
    tokens: int
    """Of a headline."""
    headlines: Pass
    stream: Pass
    edge: Beside | None
    flood: Flood | None
    quiet: dict[str, Quiet]
    """How quiet the machine was, before and after."""
    targets: dict[str, float]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    documents: Path | None = None
    """The stream, and whose words headlines are made of; None = the synthetic newswire."""
    settings: NarrativeSettings = NarrativeSettings()
    encoder: str = AUTO
    headlines: int = 1_000
    most: int = 5_000
    """Documents of the stream."""
    edge_pairs: int = 10
    edge_seconds: float = 5.0
    """Seconds of tape of each edge run."""
    flood: int = 0


def bench_narrative(
    plan: Plan, say: Say, told: Callable[[Iterable[Sent]], Iterable[Sent]]
) -> NarrativeFigures:
    """Measure, and return the figures.

    Args:
        plan: What to measure.
        say: Told what is being measured.
        told: Passes a flood's documents on, showing how far it is.

    Raises:
        InputError: If the documents cannot be read or are too few.
    """
    say("reading documents")
    field = read_field(plan.documents, settings=plan.settings, seed=SEED, size=0, most=plan.most)
    if len(field.texts) < ROUNDS:
        raise InputError(
            f"{len(field.texts)} distinct texts of five words and more",
            place="the documents",
            mend=f"Name at least {ROUNDS}.",
        )
    settings = msgspec.structs.replace(plan.settings, encoder=plan.encoder)
    reader = load_reader(settings.encoder, settings.heads)

    def fed() -> FedRoom:
        return FedRoom(settings, field.instruments)

    say("making headlines")
    lines = headlines_of(
        field, plan.headlines, token_counter(load_encoder(plan.encoder) or HashingEncoder())
    )
    _through(fed(), lines[:WARM_UP])
    quiet_collector()
    quiet = {"before": Quiet.look()}
    say(f"{len(lines):,} distinct headlines")
    headlines = _pass(fed, lines)
    say(f"{len(field.documents):,} documents of the stream")
    stream = _pass(fed, stream_of(field))
    beside = flood = None
    if plan.edge_pairs:
        load = Headlines(settings=settings, instruments=field.instruments, lines=tuple(lines))
        beside = beside_the_edge(plan.edge_pairs, edge.Plan(seconds=plan.edge_seconds), load, say)
    if plan.flood:
        say(f"a flood of {plan.flood:,} documents")
        flood = _flood(fed(), told(flood_of(field, plan.flood)), plan.flood)
    return NarrativeFigures(
        encoder=reader.name,
        tokens=TOKENS,
        headlines=headlines,
        stream=stream,
        edge=beside,
        flood=flood,
        quiet=quiet | {"after": Quiet.look()},
        targets=TARGETS,
    )


def _pass(fed: Callable[[], FedRoom], lines: Sequence[Sent]) -> Pass:
    one = fed()
    cpu = process_time_ns()
    took = _through(one, lines)
    cpu = process_time_ns() - cpu
    rates = [len(part) / part.sum() * 1e9 for part in np.array_split(took, ROUNDS) if len(part)]
    return Pass(
        documents=len(lines),
        copies=one.n_copies,
        refused=one.n_refused,
        per_s=round(float(np.median(rates)), 1),
        per_s_low=round(float(min(rates)), 1),
        per_s_high=round(float(max(rates)), 1),
        cpu_per_s=round(len(lines) / cpu * 1e9, 1),
        latency_us=Spread.of(took),
        stages=stages_of(fed(), lines),
    )


def _through(fed: FedRoom, lines: Sequence[Sent]) -> Nanoseconds:
    """Return how long each line took, int64 [n], ns."""
    took = np.zeros(len(lines), dtype=np.int64)
    for i, sent in enumerate(lines):
        before = stopwatch_ns()
        fed.push(sent)
        took[i] = stopwatch_ns() - before
    return took


def _flood(fed: FedRoom, lines: Iterable[Sent], n: int) -> Flood:
    looks, full = [_rss_mb()], [_full(fed)]
    started, due = stopwatch_ns(), 1
    for i, sent in enumerate(lines, start=1):
        fed.push(sent)
        if i * LOOKS >= due * n:
            looks.append(_rss_mb())
            full.append(_full(fed))
            due += 1
    at = full.index(full[-1])
    return Flood(
        documents=n,
        copies=fed.n_copies,
        refused=fed.n_refused,
        seconds=round((stopwatch_ns() - started) / 1e9, 1),
        rss_mb=looks,
        full_after=at * n // LOOKS,
        grown_since_full=round(looks[-1] / looks[at] - 1.0, 3),
        tables=fed.room.tables,
    )


def _full(fed: FedRoom) -> set[str]:
    """Return the names of the tables that have let go of something."""
    return {name for name, table in fed.room.tables.items() if table.let_go}


def _rss_mb() -> float:
    """Return this process's resident megabytes, what it has freed given back first. Linux."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
