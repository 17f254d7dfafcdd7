"""Live runs against a simulated exchange, which are told stories on the way."""

import json
import os
from pathlib import Path

import msgspec

from finllm.app.exchange import Exchange
from finllm.app.replay import Summary
from finllm.app.run import Options, run_live
from finllm.app.settings import ConnectionSettings, FeedSettings, Settings
from finllm.app.status import Status
from finllm.market.synthetic import SyntheticMarket, generate
from support.replays import tapes_of

STORIES = (
    "Bitcoin and Ethereum plunge 9% as exchange halts withdrawals after hack",
    "Regulator approves Bitcoin and Ethereum fund; record profit lifts miners",
    "BTC and ETH crash: large bank sues custodian over missing coins",
    "Bitcoin and Ethereum soar as pension scheme doubles its purchase",
    "Investors flee Bitcoin and Ethereum on ban of mining in the north",
    "Upgrade of Bitcoin and Ethereum wins support, rally extends to third day",
    "Fraud charges against Bitcoin and Ethereum lender, customers lose savings",
    "Treasury buys BTC and ETH for reserve in surprise approval",
)
"""Each says something new: copies are never asked about."""


def on(exchange: Exchange, settings: Settings | None = None) -> Settings:
    """Return settings, the default ones or others, of which the feed is an exchange's."""
    url, rest = exchange.addresses("usdm")
    connection = ConnectionSettings(
        venue="binance-usdm", symbols=("BTCUSDT", "ETHUSDT"), url=url, rest=rest
    )
    feed = FeedSettings(connections=(connection,))
    return msgspec.structs.replace(settings or Settings(), feed=feed)


def write_story(news: Path, n: int, ts: int) -> None:
    """Append the n-th story to a newswire, as another process would."""
    line = {
        "source": "wire",
        "ts_published_ns": ts,
        "text": STORIES[n % len(STORIES)],
        "symbols": ["BTCUSDT", "ETHUSDT"],
    }
    with news.open("a") as file:
        file.write(json.dumps(line) + "\n")


def run_told(folder: Path, settings: Settings, *, applied: int) -> Summary:
    """Run live into `folder / "run"`, told a story every few forecasts.

    Args:
        folder: Empty.
        settings: Of all but the feed.
        applied: Once more verdicts than these have been applied the run ends, or with the exchange's tapes.
    """
    generate(SyntheticMarket(seed=11, duration_s=120)).write(folder / "tape")
    news = folder / "news.jsonl"
    n_told, is_done = 0, False

    def told(status: Status) -> None:
        nonlocal n_told, is_done
        if status.forecasts > 5 * (n_told + 1) and not status.unusable:
            write_story(news, n_told, status.ts)
            n_told += 1
        is_done = is_done or status.applied > applied

    with Exchange(list(tapes_of(folder / "tape")), seed=5, speed=4.0) as exchange:
        options = Options(
            stop=lambda: is_done or exchange.done.is_set(),
            told=told,
            documents=news,
            name=f"told-{os.getpid()}",
        )
        return run_live(on(exchange, settings), folder / "run", options)
