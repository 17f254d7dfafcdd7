"""The recordings: every frame accounted for, every book equal to the venue's own touch."""

from pathlib import Path

import pytest

from finllm.domain.market import BookView, Flag
from finllm.market.feed import Market
from finllm.market.tape import read_chain
from finllm.runtime.tally import Tally

SHARED = Path(__file__).parents[2] / ".." / "shared"
TAPES = SHARED / "data" / "orderbook" / "binance_frames"
pytestmark = pytest.mark.skipif(not TAPES.is_dir(), reason=f"recordings not found at {TAPES}")

V = BookView

# Tapes; frames; book checks; gist of the clock offset (local less exchange) in ms and its tolerance.
CHAINS = {
    "cm-btc": (["cm_btcusd_perp_20240808"], 30_354, 361, -1_269, 5),
    "cm-eth": (["cm_ethusd_perp_20240808"], 26_270, 306, -1_269, 5),
    "spot-btc": (["spot_btcusdt_20240808"], 24_552, 45, -1_269, 8),
    "spot-eth": (["spot_ethusdt_20240808"], 21_313, 44, -1_269, 8),
    "usdm-btc": (["usdm_btcusdt_20240808"], 54_691, 85, -1_269, 5),
    "usdm-eth": (["usdm_ethusdt_20240808"], 46_596, 86, -1_269, 5),
    "usdm-btc-2023": (["usdm_btcusdt_20230404", "usdm_btcusdt_20230405"], 73_765, 322, 0.9, 30),
    "usdm-btc-july": (["usdm_btcusdt_20240718", "usdm_btcusdt_20240719"], 71_984, 180, -1_521, 5),
    "usdm-eth-july": (["usdm_ethusdt_20240718", "usdm_ethusdt_20240719"], 69_913, 178, -1_521, 5),
}


def walk(names):
    tally = Tally()
    market = Market(tally)
    n_rows = 0
    bad_flags = 0
    for frame in read_chain([TAPES / f"{name}.ndjson.gz" for name in names], tally):
        index = market.push(frame)
        if index >= 0:
            n_rows += 1
            flags = int(market.view(index)[V.FLAGS])
            bad_flags += bool(flags & (Flag.CROSSED | Flag.LOCKED | Flag.STALE))
    market.finish()
    return market, tally, n_rows, bad_flags


@pytest.mark.parametrize("name", CHAINS)
def test_every_frame_is_accounted_for_and_every_book_check_is_equal(name):
    tapes, n_frames, n_checks, offset_ms, tolerance_ms = CHAINS[name]
    market, tally, n_rows, bad_flags = walk(tapes)
    assert tally.read == n_frames
    assert tally.used + sum(tally.dropped.values()) == n_frames
    assert set(tally.dropped) <= {"before_snapshot"}
    assert tally.dropped["before_snapshot"] < 30
    checks = market.checks
    assert (checks.done, checks.equal, checks.sizes_equal) == (n_checks, n_checks, n_checks)
    assert checks.undecidable == 0
    assert market.gaps == []
    assert len(market.instruments) == 1
    assert market.view(0)[V.FLAGS] & Flag.VALID
    assert market.view(0)[V.SEQ] == n_rows
    assert bad_flags == 0
    assert tally.noted["off_grid"] <= 1  # one size in each spot tape is not a whole lot
    for offset in market.offsets.values():
        assert abs(offset.median_ns / 1e6 - offset_ms) < tolerance_ms


def test_a_tape_without_snapshot_gives_touch_and_trade_rows_flagged_resyncing():
    market, tally, n_rows, _ = walk(["spot_btcusdt_20230405"])
    assert n_rows == 8_015 + 3_144
    assert tally.dropped == {"no_snapshot": 3_929}
    assert market.view(0)[V.FLAGS] == Flag.RESYNCING
    assert market.checks.done == 0


def test_three_tapes_at_once_give_the_same_books_as_each_alone():
    names = ["spot_btcusdt_20240808", "spot_ethusdt_20240808", "cm_ethusd_perp_20240808"]
    together, _, _, _ = walk(names)
    assert len(together.instruments) == 3
    assert together.checks.equal == together.checks.done == 45 + 44 + 306
    alone, _, _, _ = walk(names[:1])
    at = [instrument.key for instrument in together.instruments].index("binance-spot:BTCUSDT")
    assert (together.view(at) == alone.view(0)).all()
