"""An hour of market, looped with shifted times and numbers: memory stays flat, and nothing is left behind."""

import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from finllm.app.fastpath import FastPath
from finllm.app.settings import Settings
from finllm.app.wiring import new_tallies, wire
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.edge.artifact import SHIPPED
from finllm.edge.bank import load_bank
from finllm.edge.isolated import IsolatedEdge
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.tape import read_frames
from finllm.runtime.tally import Tally

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
TAPE = "usdm_btcusdt_20240808"
HOUR_NS = 3_600 * NS_PER_S
WARM = 3
"""Rounds after which memory is taken as the level to compare with."""
GROWTH = 0.01
NUMBERS = ("u", "U", "pu", "t", "a", "lastUpdateId")


def rounds(tape: Path) -> Iterator[Iterator[Frame]]:
    """Yield the tape again and again, each round later and with higher numbers, for an hour.

    Frames are made as they are asked for: what is measured is the product's memory, not ours.
    """
    sound = list(read_frames(tape, source=0, tally=Tally()))
    span = sound[-1].ts_recv - sound[0].ts_recv + NS_PER_S
    for i in range(HOUR_NS // span + 1):
        yield (moved(frame, i * span, i * 10**12) for frame in sound)


def moved(frame: Frame, by_ns: int, by: int) -> Frame:
    whole = msgspec.json.decode(frame.payload)
    body = whole.get("data", whole)
    for key in NUMBERS:
        if isinstance(body.get(key), int):
            body[key] += by
    for key in ("E", "T"):
        if isinstance(body.get(key), int):
            body[key] += by_ns // NS_PER_MS
    return Frame(frame.ts_recv + by_ns, msgspec.json.encode(whole))


def memory() -> int:
    """Return this process's resident bytes, what it has freed given back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> set[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(link.readlink()))
        except OSError:
            continue  # the listing's own
    return {name for name in found if name.startswith("/") and "/proc/" not in name}


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def levels(tape: Path, take: Callable[[Iterator[Frame]], None]) -> list[int]:
    """Return the memory after each round."""
    found = []
    for frames in rounds(tape):
        take(frames)
        found.append(memory())
    return found


def judge(found: list[int], what: str) -> None:
    growth = max(found[WARM:]) / found[WARM - 1] - 1.0
    mb = [round(level / 1e6, 1) for level in found]
    blocks = sys.getallocatedblocks()
    told = {"what": what, "rounds": len(mb), "mb": mb, "growth": growth, "python_blocks": blocks}
    print(json.dumps(told))  # noqa: T201
    assert growth < GROWTH


def test_the_pipeline_stays_flat_for_an_hour(shared: Path, tmp_path: Path) -> None:
    before = open_files()
    wired = wire(Settings(), tmp_path, new_tallies(), keep_frames=False)
    chunk = wired.parts.chunk

    def take(frames: Iterator[Frame]) -> None:
        while some := list(islice(frames, chunk)):
            wired.pipeline.feed(some)

    try:
        found = levels(shared / "orderbook" / "binance_frames" / f"{TAPE}.ndjson.gz", take)
        wired.pipeline.finish()
    finally:
        wired.close()
    judge(found, "pipeline")
    assert open_files() <= before


def serve_an_hour(tape: Path) -> list[int]:
    """Return the memory after each round of an hour served by a worker; everything is let go of."""
    edge = IsolatedEdge(SHIPPED["book"])
    edge.start()
    reader = edge.reader()
    path = FastPath(load_bank(SHIPPED["book"], spec=BOOK_SPEC), edge=edge)
    served = 0

    def take(frames: Iterator[Frame]) -> None:
        nonlocal served
        for frame in frames:
            path.hand_over(frame)
            batch = reader.read()
            served += 0 if batch is None else len(batch.rows)
        path.market.gaps.clear()

    try:
        found = levels(tape, take)
        assert served > 100_000
    finally:
        edge.close()
    return found


def test_the_isolated_edge_stays_flat_for_an_hour_and_leaves_nothing(shared: Path) -> None:
    before, had = open_files(), children()
    found = serve_an_hour(shared / "orderbook" / "binance_frames" / f"{TAPE}.ndjson.gz")
    judge(found, "isolated edge")
    gc.collect()  # segments live as long as the arrays that look into them
    assert open_files() <= before
    assert children() == had
