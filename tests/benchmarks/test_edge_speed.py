"""What the edge costs per row, on one thread, in processor time: run with `pytest -m bench -s`."""

import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from finllm.domain.forecast import Rung
from finllm.domain.market import ROW_HEAD
from finllm.domain.protocol import Outlook, OutlookBand
from finllm.edge.artifact import SHIPPED, load_artifact
from finllm.edge.bank import alone
from finllm.edge.serving import entries_of
from finllm.edge.session import EdgeSession
from finllm.features.book_spec import BOOK_SPEC

pytestmark = pytest.mark.bench
T0 = 1_700_000_000 * 10**9


def _us(call: Callable[[], object], n: int) -> float:
    """Return the best of five means, microseconds of processor time."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time_ns()
        for _ in range(n):
            call()
        best = min(best, (time.process_time_ns() - start) / n / 1e3)
    return best


def test_the_edge_costs_single_digit_microseconds_a_row() -> None:
    artifact = load_artifact(SHIPPED["book"], spec=BOOK_SPEC)
    rows = np.random.default_rng(0).normal(size=(512, len(BOOK_SPEC)))
    raw = artifact.model.infer(rows)
    session = EdgeSession(alone(artifact), BOOK_SPEC, "x:Y")
    heads = np.array([(1, T0, T0, 200_001, 1, 1, 1)], dtype=ROW_HEAD)
    entry = entries_of(heads, rows[:1])[0]
    entry_f = entry.view(np.float64)
    bands = (OutlookBand(up_to_ns=10**12, shift=0.2, vol_scale=1.2),)
    session.adopt(
        Outlook(
            instrument="x:Y",
            version=1,
            ts=T0,
            bands=bands,
            half_life_ns=10**10,
            expires=T0 + 10**12,
        )
    )
    one = rows[:1]
    cost = {
        "observe": _us(lambda: session.observe(entry), 4_000),
        "speak, tilted": _us(lambda: session.speak(entry, raw[0], T0), 4_000),
        "infer, 1 row": _us(lambda: artifact.model.infer(one), 2_000),
        "infer, 64 rows, per row": _us(lambda: artifact.model.infer(rows[:64]), 300) / 64,
        "infer, 512 rows, per row": _us(lambda: artifact.model.infer(rows), 50) / 512,
        "record": _us(
            lambda: session.record(session.out[0], entry_f, 2, epoch=1, rung=Rung.FULL), 1_000
        ),
    }
    session.adopt(None)
    plain = _us(lambda: session.speak(entry, raw[0], T0), 4_000)
    for name, figure in {**cost, "speak, no outlook": plain}.items():
        sys.stdout.write(f"{name:28s} {figure:8.2f} us\n")
    assert plain < 20.0
