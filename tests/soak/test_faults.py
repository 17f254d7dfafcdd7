"""Faults over the real recordings: none passes unseen, none is seen where there is none."""

import json
from pathlib import Path

import pytest

from fault_walk import count, walk
from finllm.market.faults import LOSES, Fault

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
BREAKS = LOSES | {Fault.REORDER, Fault.ROLL_OVER}
TAPES = (
    "usdm_btcusdt_20240808", "usdm_ethusdt_20240808", "spot_btcusdt_20240808",
    "spot_ethusdt_20240808", "cm_btcusd_perp_20240808", "cm_ethusd_perp_20240808",
    "usdm_btcusdt_20230404", "usdm_btcusdt_20240718", "usdm_ethusdt_20240718",
)  # fmt: skip


@pytest.mark.parametrize("name", TAPES)
def test_no_fault_passes_unseen(name: str, shared: Path) -> None:
    tape = shared / "orderbook" / "binance_frames" / f"{name}.ndjson.gz"
    sound, harmed = walk([tape]), walk([tape], every_s=3.0)
    breaks = [one for one in harmed.faults if one.fault in BREAKS and one.ts < harmed.last_ts]
    missed = [
        one
        for one in breaks
        if not any(one.ts <= gap.ts_recv <= one.ts + 9_000_000_000 for gap in harmed.gaps)
    ]
    print(  # noqa: T201 - a long run says what it saw
        json.dumps(
            {
                "tape": name,
                "faults": dict(count(harmed)),
                "breaks": len(breaks),
                "missed": len(missed),
                "rows": harmed.rows,
                "valid": harmed.valid,
                "compared": harmed.compared,
                "wrong": len(harmed.wrong),
                "dropped": harmed.dropped,
                "noted": harmed.noted,
                "sound": {"gaps": len(sound.gaps), "false_flags": sound.false_flags,
                          "wrong": len(sound.wrong), "compared": sound.compared},
            }
        )
    )  # fmt: skip
    assert not missed
    assert harmed.noted["clock_leap"] >= count(harmed)["clock_jump"]
    assert "clock_leap" not in sound.noted
    assert harmed.wrong == []
    assert harmed.compared > 100
    assert sound.gaps == []
    assert sound.false_flags == 0
    assert sound.wrong == []
