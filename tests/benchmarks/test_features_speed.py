"""What a book's feature row costs, on one thread: run with `pytest -m bench -s`."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from finllm.domain.market import ROW_HEAD, VIEW_SIZE
from finllm.features.book import BookFeatures
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.feed import Market
from finllm.market.tape import read_frames
from finllm.runtime.tally import Tally

pytestmark = pytest.mark.bench
TAPE = "orderbook/binance_frames/usdm_btcusdt_20240719.ndjson.gz"


def _views(path: Path, n: int) -> list[np.ndarray]:
    market, views = Market(Tally()), []
    for frame in read_frames(path, source=0, tally=Tally()):
        if market.push(frame) == 0:
            views.append(market.view(0).copy())
            if len(views) == n:
                break
    return views


def test_a_feature_row_costs_two_microseconds(shared: Path) -> None:
    views = _views(shared / TAPE, 20_000)
    took = np.empty(len(views), np.int64)
    row, head, view = np.zeros(len(BOOK_SPEC)), np.zeros(1, ROW_HEAD), np.zeros(VIEW_SIZE, np.int64)
    p50s = []
    for _ in range(5):
        features = BookFeatures()
        for i, source in enumerate(views):
            view[:] = source
            start = time.perf_counter_ns()
            features.push(view, row, head)
            took[i] = time.perf_counter_ns() - start
        p50, p99 = np.percentile(took, (50, 99)) / 1e3
        sys.stdout.write(f"push, {len(BOOK_SPEC)} columns: p50 {p50:.2f} us, p99 {p99:.2f} us\n")
        p50s.append(p50)
    assert min(p50s) <= 2.0
