"""Forecasts from what other libraries receive: ccxt, cryptofeed and nautilus_trader records go in.

    python examples/other_libraries.py

The records here are stand-ins with the fields that those libraries give them, so that this runs without
any of the three; in your program they come from `watch_order_book`, a callback or `on_order_book_deltas`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from finllm.app.wiring import open_pipeline
from finllm.domain.market import Frame
from finllm.market.venues import normalised

T0 = 1_700_000_000_000_000_000
BIDS = [[100.0 - i / 10, 5.0] for i in range(10)]
ASKS = [[100.1 + i / 10, 5.0] for i in range(10)]


def ccxt() -> Iterator[bytes]:
    """Whole books, and trades by the taker's side."""
    book = {"symbol": "BTC/USDT", "bids": BIDS, "asks": ASKS, "timestamp": T0 // 1_000_000}
    yield normalised.from_ccxt_book(book)
    yield normalised.from_ccxt_trade(
        {"symbol": "BTC/USDT", "price": 100.1, "amount": 2.0, "side": "buy", "timestamp": None}
    )


def cryptofeed() -> Iterator[bytes]:
    """A whole book, then what changed."""
    whole = SimpleNamespace(to_dict=lambda: {"bid": dict(BIDS), "ask": dict(ASKS)})
    book = SimpleNamespace(symbol="BTC-USDT", book=whole, delta=None, timestamp=T0 / 1e9)
    yield normalised.from_cryptofeed_book(book)
    book.delta = {"bid": [(100.0, 0.0)], "ask": []}
    yield normalised.from_cryptofeed_book(book)


def nautilus_trader() -> Iterator[bytes]:
    """Deltas that begin with CLEAR, and a trade."""

    def delta(action: str, side: str, price: float, size: float) -> SimpleNamespace:
        order = SimpleNamespace(side=SimpleNamespace(name=side), price=price, size=size)
        return SimpleNamespace(action=SimpleNamespace(name=action), order=order)

    rows = [delta("CLEAR", "NO_ORDER_SIDE", 0.0, 0.0)]
    rows += [delta("ADD", "BUY", *row) for row in BIDS] + [
        delta("ADD", "SELL", *row) for row in ASKS
    ]
    yield normalised.from_nautilus_deltas(
        SimpleNamespace(instrument_id="BTCUSDT.BINANCE", deltas=rows, ts_event=T0)
    )
    seller = SimpleNamespace(name="SELLER")
    yield normalised.from_nautilus_trade(
        SimpleNamespace(
            instrument_id="BTCUSDT.BINANCE",
            price=100.0,
            size=1.0,
            aggressor_side=seller,
            ts_event=T0,
        )
    )


def main() -> None:
    """Push each library's records and print the state behind each row."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pipeline(Path(folder), venues=["normalised"]) as pipeline,
    ):
        now = T0
        for library in (ccxt, cryptofeed, nautilus_trader):
            for payload in library():
                now += 1_000_000
                row = pipeline.push(Frame(ts_recv=now, payload=payload))
                if row is not None:
                    p_up = row["p"][0][0, 2]
                    print(f"{library.__name__:16s} p(up) {p_up:.3f}  flags {row['flags'][0]}")


if __name__ == "__main__":
    main()
