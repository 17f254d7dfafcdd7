"""Ten minutes live on a simulated exchange, a fault every five seconds: the journal gives the digest."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from finllm.app.exchange import Exchange
from finllm.app.replay import Inputs, replay
from finllm.app.run import Options, run_live
from finllm.app.settings import ConnectionSettings, FeedSettings, Settings
from finllm.domain.units import NS_PER_S
from finllm.runtime.clock import WallClock

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]
MINUTES = 10
CHAINS = tuple(
    (f"usdm_{symbol}_20240718", f"usdm_{symbol}_20240719") for symbol in ("btcusdt", "ethusdt")
)
SPEED = 0.75
"""The recordings last 480 s; so they last 640."""


def test_ten_minutes_of_faults_replay_to_the_live_digest(shared: Path, tmp_path: Path) -> None:
    folder = shared / "orderbook" / "binance_frames"
    tapes = [[folder / f"{name}.ndjson.gz" for name in chain] for chain in CHAINS]
    clock, news = WallClock(), tmp_path / "news.jsonl"
    ends: list[int] = []
    told: list[int] = []

    def stop() -> bool:
        now = clock.now()
        if not ends:
            ends.append(now + MINUTES * 60 * NS_PER_S)
        if not told or now - told[-1] > 10 * NS_PER_S:
            told.append(now)
            text = f"Bitcoin falls sharply: exchange {len(told)} halts BTCUSDT withdrawals"
            line = {"source": "wire", "ts_published_ns": now, "text": text, "symbols": ["BTCUSDT"]}
            with news.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return now >= ends[0]

    with Exchange(tapes, speed=SPEED, fault_every_s=5.0) as exchange:
        url, rest = exchange.addresses("usdm")
        connection = ConnectionSettings(
            venue="binance-usdm", symbols=("BTCUSDT", "ETHUSDT"), url=url, rest=rest
        )
        settings = Settings(feed=FeedSettings(connections=(connection,)))
        options = Options(stop=stop, documents=news, name=f"soak-{os.getpid()}")
        live = run_live(settings, tmp_path / "run", options)
        faults = len(exchange.faults)
    again = replay(Inputs(tapes=(tmp_path / "run",)), settings, tmp_path / "again")
    print(json.dumps({"faults": faults, "digest": again.digest[:16], "speed_x": again.speed_x}))  # noqa: T201
    print(json.dumps(msgspec.to_builtins(live)))  # noqa: T201
    assert faults >= 60
    assert live.revisions.applied > 0
    assert again.digest == live.digest
