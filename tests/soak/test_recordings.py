"""Every recorded tape: frames accounted for, books checked, speed, and one digest however it is run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
MAIN = "from finllm.app.cli import main; main()"
CHAINS = (
    ("usdm_btcusdt_20230404", "usdm_btcusdt_20230405"),
    ("usdm_btcusdt_20240718", "usdm_btcusdt_20240719"),
    ("usdm_ethusdt_20240718", "usdm_ethusdt_20240719"),
    ("usdm_btcusdt_20240808",),
    ("usdm_ethusdt_20240808",),
    ("spot_btcusdt_20240808",),
    ("spot_ethusdt_20240808",),
    ("cm_btcusd_perp_20240808",),
    ("cm_ethusd_perp_20240808",),
    tuple(
        f"{market}_{symbol}_20240808"
        for market, symbols in (
            ("usdm", ("btcusdt", "ethusdt")),
            ("spot", ("btcusdt", "ethusdt")),
            ("cm", ("btcusd_perp", "ethusd_perp")),
        )
        for symbol in symbols
    ),
)


def replayed(tapes: list[str], out: Path, *options: str, seed: str = "0") -> dict:
    ran = subprocess.run(
        [sys.executable, "-c", MAIN, "replay", *tapes, "--out", str(out), "--json", *options],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
    )
    return json.loads(ran.stdout)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain[0] if len(chain) < 3 else "all")
def test_a_recorded_tape(chain: tuple[str, ...], shared: Path, tmp_path: Path) -> None:
    folder = shared / "orderbook" / "binance_frames"
    tapes = [str(folder / f"{name}.ndjson.gz") for name in chain]
    one = replayed(tapes, tmp_path / "one")
    others = [
        replayed(tapes, tmp_path / "again", "--chunk", "64", seed="777"),
        replayed(tapes, tmp_path / "more", "--chunk", "1000", "--workers", "2", seed="3"),
    ]
    frames, checks = one["frames"], one["book_checks"]
    figures = {
        "tape": "+".join(chain) if len(chain) < 3 else "all six of 20240808",
        "read": frames["read"],
        "used": frames["used"],
        "dropped": frames["dropped"],
        "checks": f"{checks['equal']}/{checks['done']}",
        "rows": one["rows"],
        "forecasts": one["forecasts"],
        "speed_x": [round(x["speed_x"], 1) for x in (one, *others)],
        "digest": one["digest"][:16],
    }
    print(json.dumps(figures))  # noqa: T201 - the figures of the run
    assert frames["read"] == frames["used"] + sum(frames["dropped"].values())
    assert checks["done"] > 0
    assert checks["done"] == checks["equal"]
    assert {x["digest"] for x in others} == {one["digest"]}
    assert one["forecasts"] > 0
