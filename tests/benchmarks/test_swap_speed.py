"""A swap of the whole bank under full load: run with `pytest -m bench -s`.

Frames go as fast as they can, in process; meanwhile a thread loads the other bank, and the feed swaps to it
between two frames as soon as it is warm, again and again. Runs with and without swaps take turns.
"""

import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.app.fastpath import FastPath, quiet_collector
from finllm.domain.market import Frame
from finllm.edge.artifact import MODEL_FILE, SHIPPED, read_manifest
from finllm.edge.bank import Bank, BankManifest, load_bank, write_bank
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.synthetic import SyntheticMarket, generate
from finllm_lab.export import write_artifact

pytestmark = pytest.mark.bench
PAIRS = 10


def _bank(root: Path, shift: float) -> Path:
    """Write a bank of two members, of the shipped model and of one that believes something else."""
    manifest = read_manifest(SHIPPED["book"])
    graph = (SHIPPED["book"] / MODEL_FILE).read_bytes()
    write_artifact(root / "shipped", manifest, graph)
    moved = tuple(msgspec.structs.replace(p, move_offset=shift) for p in manifest.priors)
    write_artifact(root / "moved", msgspec.structs.replace(manifest, priors=moved), graph)
    members = {"calm": "shipped", "stressed": "moved"}
    write_bank(root, BankManifest(name="bench", members=members, fallback="shipped"))
    return root


def _run(frames: list[Frame], bank: Bank, others: list[Path]) -> tuple[np.ndarray, int, int]:
    """Return the time of each frame in ns, rows served and swaps made."""
    path, ready, stop = FastPath(bank), [], threading.Event()

    def load() -> None:
        turn = 0
        while others and not stop.is_set():
            if not ready:
                ready.append(load_bank(others[turn % len(others)], spec=BOOK_SPEC))
                turn += 1
            stop.wait(0.02)

    loader = threading.Thread(target=load)
    loader.start()
    took, rows, swaps = np.zeros(len(frames), dtype=np.int64), 0, 0
    for i, frame in enumerate(frames):
        start = time.perf_counter_ns()
        if ready:
            path.swap(ready.pop())
            swaps += 1
        rows += path.push(frame) is not None
        took[i] = time.perf_counter_ns() - start
    stop.set()
    loader.join()
    return took, rows, swaps


@pytest.mark.timeout(600)
def test_a_swap_under_full_load_drops_nothing_and_keeps_the_tail(tmp_path: Path) -> None:
    frames = list(generate(SyntheticMarket(duration_s=60.0)).frames())
    others = [_bank(tmp_path / "a", 0.1), _bank(tmp_path / "b", -0.1)]
    bank = load_bank(others[1], spec=BOOK_SPEC)
    quiet_collector()
    _run(frames, bank, others)
    ratios, dropped, total = [], 0, 0
    for _ in range(PAIRS):
        plain, wanted, _ = _run(frames, bank, [])
        swapped, rows, swaps = _run(frames, bank, others)
        ratios.append(float(np.quantile(swapped, 0.99) / np.quantile(plain, 0.99)))
        dropped += wanted - rows
        total += swaps
    median = float(np.median(ratios))
    sys.stdout.write(
        f"{len(frames)} frames a run, {total} swaps, {dropped} rows dropped;"
        f" p99 with swaps / without: median {median:.2f}, {np.round(ratios, 2).tolist()}\n"
    )
    assert dropped == 0
    assert total >= PAIRS
    assert median <= 1.5
