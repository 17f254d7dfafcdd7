"""Compile every kernel, by walking a few simulated seconds and bars in a folder that goes away."""

import tempfile
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from rich.console import Console

from finllm.app.pipeline import Pipeline
from finllm.app.settings import Settings
from finllm.app.wiring import new_tallies, wire
from finllm.domain.market import Bar
from finllm.domain.units import NS_PER_HOUR, NS_PER_S
from finllm.edge.artifact import SHIPPED
from finllm.edge.isolated import IsolatedEdge
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.kernels import cache_folder

_LONG_S: Final = 40.0
_SHORT_S: Final = 12.0


class Warmth(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took, and where the compiled kernels are."""

    seconds: float
    folder: str


def warm_up(console: Console) -> Warmth:
    """Compile all kernels into the cache; quick when they are there already."""
    started = stopwatch_ns()
    with (
        console.status("compiling the kernels (about a minute, once per machine and version)"),
        tempfile.TemporaryDirectory() as folder,
    ):
        _walk(Path(folder))
    seconds = (stopwatch_ns() - started) / NS_PER_S
    console.print(f"kernels ready in {seconds:.1f} s: {cache_folder()}", highlight=False)
    return Warmth(seconds=seconds, folder=str(cache_folder()))


def warm_books(console: Console) -> None:
    """Have every kernel of the books' way in this process, compiling what the cache lacks.

    For a live run, before it connects: what is compiled while frames come holds them all up.
    """
    with (
        console.status("loading the kernels (a minute or two where they have to be compiled)"),
        tempfile.TemporaryDirectory() as folder,
    ):
        wired = wire(Settings(), Path(folder), new_tallies(), keep_frames=False)
        try:
            _walk_books(wired.pipeline, _SHORT_S)
            wired.pipeline.finish()
        finally:
            wired.close()


def _walk(folder: Path) -> None:
    wired = wire(Settings(), folder, new_tallies(), keep_frames=False)
    try:
        _walk_books(wired.pipeline, _LONG_S)
        wired.pipeline.feed_bars([_bar(i) for i in range(64)])
        wired.pipeline.finish()
    finally:
        wired.close()
    edge = IsolatedEdge(SHIPPED["book"])
    try:
        edge.start()
        edge.put(0, np.zeros(edge.sizes.entry, dtype=np.int64))
        edge.reader().read(timeout_ms=1_000)
    finally:
        edge.close()


def _walk_books(pipeline: Pipeline, seconds: float) -> None:
    tape = generate(SyntheticMarket(duration_s=seconds))
    for document in tape.documents():
        pipeline.expect(document, document.ts_recv)
    frames = list(tape.frames())
    for frame in frames[:-64]:
        pipeline.push(frame)
    pipeline.feed(frames[-64:])  # several rows lie otherwise in memory than one


def _bar(i: int) -> Bar:
    price = 100.0 + (i * 7 % 11) / 10
    start = 4_000_000_000 * NS_PER_S + i * NS_PER_HOUR
    return Bar(
        instrument="us-equity:WARM", ts_start=start, ts_recv=start + NS_PER_HOUR,
        open=price, high=price + 1, low=price - 1, close=price, volume=1e6,
    )  # fmt: skip
