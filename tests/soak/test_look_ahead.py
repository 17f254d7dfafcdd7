"""Look-ahead, at length: 200 random cut points on each kind of input, three variants in turn."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.app.replay import Inputs
from finllm.domain.units import NS_PER_S, iso
from support.poison import (
    VARIANTS,
    assert_unchanged,
    bars_after,
    documents_of_tweets,
    frames_after,
    lines_of,
    lines_of_text,
    poisoned,
    ts_of_frame,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]
CUTS = 200
KINDS = (*VARIANTS, "misdated_receipt")


def test_on_slices_of_a_recorded_tape(
    run_inputs: Callable[..., tuple], shared: Path, tmp_path: Path
) -> None:
    """Slices that end 5 s after a cut; each begins with its tape, because the snapshot is there."""
    rng = np.random.default_rng(1)
    folder = shared / "orderbook" / "binance_frames"
    names = ("usdm_btcusdt_20240808", "spot_ethusdt_20240808", "cm_btcusd_perp_20240808")
    for name in names:
        lines = lines_of(folder / f"{name}.ndjson.gz")
        start = ts_of_frame(lines[0])
        for i in range(CUTS // len(names) + 1):
            cut = start + int(rng.integers(12 * NS_PER_S, 22 * NS_PER_S))
            end = cut + 5 * NS_PER_S
            tape, other = tmp_path / "tape", tmp_path / "other"
            tape.write_bytes(b"".join(line for line in lines if ts_of_frame(line) < end))
            frames_after(tape, other, cut, KINDS[i % len(KINDS)], rng)
            _, whole = run_inputs(Inputs(tapes=(tape,)))
            _, partial = run_inputs(Inputs(tapes=(other,)))
            assert_unchanged(whole, partial, cut)


def test_on_the_synthetic_tape_with_documents(
    run_inputs: Callable[..., tuple], synthetic: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    tapes = tuple(sorted(synthetic.glob("frames-*")))
    _, whole = run_inputs(Inputs(tapes=tapes, documents=synthetic / "documents.jsonl"))
    first, last = whole[0][0], whole[-1][0]
    for i in range(CUTS):
        cut = int(rng.integers(first + 15 * NS_PER_S, last))
        variant, end = VARIANTS[i % len(VARIANTS)], cut + 5 * NS_PER_S
        inputs = poisoned(synthetic, tmp_path / f"cut-{i}", cut, variant, rng)
        inputs = msgspec.structs.replace(inputs, until=end)
        _, partial = run_inputs(inputs)
        assert_unchanged(whole, partial, cut)


def test_on_bars_with_posts(run_inputs: Callable[..., tuple], shared: Path, tmp_path: Path) -> None:
    """A month of AAPL and BAC by the hour, with their posts, and the index that leads them."""
    rng = np.random.default_rng(4)
    text = shared / "text_price"
    bars, posts = tmp_path / "bars.csv", tmp_path / "posts.jsonl"
    kept = [
        line
        for i, line in enumerate(lines_of_text(text / "us_bars_hourly_to_201509.csv.gz"))
        if i == 0
        or (
            line.startswith(("AAPL,2015-0", "BAC,2015-0", "SPY,2015-0"))
            and line[-1]
            and line.split(",")[1] < "2015-02"
        )
    ]
    bars.write_text("".join(kept))
    first, last = 1_420_070_400_000, 1_422_748_800_000
    chosen = []
    for line in lines_of(text / "stock_tweets_2014_201509.jsonl.gz"):
        post = json.loads(line)
        if first <= post["ts_ms"] < last and post["symbol"] in {"AAPL", "BAC"}:
            chosen.append(line.decode())
    posts.write_text("".join(chosen))
    _, whole = run_inputs(Inputs(bars=bars, documents=posts))
    for i in range(CUTS):
        variant = VARIANTS[i % len(VARIANTS)]
        cut = (first + int(rng.integers(10 * 86_400, 31 * 86_400)) * 1000) * 1_000_000
        documents_of_tweets(posts, tmp_path / "p.jsonl", cut, variant, rng)
        # A bar that starts at or after the cut is received after it; UTC is ahead of New York.
        bars_after(bars, tmp_path / "b.csv", iso(cut)[:16].replace("T", " "), variant, rng)
        _, partial = run_inputs(Inputs(bars=tmp_path / "b.csv", documents=tmp_path / "p.jsonl"))
        assert_unchanged(whole, partial, cut)
