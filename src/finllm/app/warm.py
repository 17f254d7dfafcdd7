"""Compile every kernel, by walking a few simulated seconds and bars in a folder that goes away."""

import tempfile
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from finllm.app.settings import Settings
from finllm.app.wiring import new_tallies, wire
from finllm.domain.market import Bar
from finllm.domain.units import NS_PER_HOUR, NS_PER_S
from finllm.edge.artifact import SHIPPED
from finllm.edge.isolated import IsolatedEdge
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.kernels import cache_folder


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


def _walk(folder: Path) -> None:
    wired = wire(Settings(), folder, new_tallies(), keep_frames=False)
    try:
        tape = generate(SyntheticMarket(duration_s=40))
        for document in tape.documents():
            wired.pipeline.expect(document, document.ts_recv)
        frames = list(tape.frames())
        for frame in frames[:-64]:
            wired.pipeline.push(frame)
        wired.pipeline.feed(frames[-64:])  # several rows lie otherwise in memory than one
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


def _bar(i: int) -> Bar:
    price = 100.0 + (i * 7 % 11) / 10
    start = 4_000_000_000 * NS_PER_S + i * NS_PER_HOUR
    return Bar(
        instrument="us-equity:WARM", ts_start=start, ts_recv=start + NS_PER_HOUR,
        open=price, high=price + 1, low=price - 1, close=price, volume=1e6,
    )  # fmt: skip
