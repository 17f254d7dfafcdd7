"""cryptofeed's order book, filled as its Binance feed handler fills it: yapic JSON, decimals, dictionaries.

Left out of what its handler does: the normalised symbol, the delta for callbacks, asyncio.
"""

from decimal import Decimal
from importlib import import_module
from typing import Any

from finllm.app.bench.columns import Doubles


class CryptofeedBook:
    """One instrument in a `cryptofeed.types.OrderBook`. See `peers.PeerBook`."""

    def __init__(self) -> None:
        self._loads: Any = import_module("yapic.json").loads
        self._make: Any = import_module("cryptofeed.types").OrderBook
        self._bids: Any = None
        self._asks: Any = None

    def snapshot(self, payload: bytes) -> int:
        """Replace the book; return the snapshot's number."""
        event = self._loads(payload, parse_float=Decimal)
        sides = ({Decimal(px): Decimal(sz) for px, sz in event[name]} for name in ("bids", "asks"))
        bids, asks = sides
        made = self._make("BINANCE", "X", bids=bids, asks=asks)
        self._bids, self._asks = made.book.bids, made.book.asks
        return int(event["lastUpdateId"])

    def decode_diff(self, payload: bytes) -> tuple[int, Any]:
        """Return a diff's final number and its message."""
        event = self._loads(payload, parse_float=Decimal)["data"]
        return event["u"], event

    def apply(self, diff: Any) -> None:
        """Apply a diff's message."""
        for side, levels in ((self._bids, diff["b"]), (self._asks, diff["a"])):
            for px, sz in levels:
                price, size = Decimal(px), Decimal(sz)
                if size == 0:
                    if price in side:
                        del side[price]
                else:
                    side[price] = size

    def decode_touch(self, payload: bytes) -> tuple[int, tuple[float, float, float, float]]:
        """Return a bookTicker."""
        event = self._loads(payload, parse_float=Decimal)["data"]
        bid, ask = (float(event["b"]), float(event["B"])), (float(event["a"]), float(event["A"]))
        return event["u"], (*bid, *ask)

    def decode_trade(self, payload: bytes) -> tuple[int, float]:
        """Return a trade's number, and its size, negative if the aggressor sold."""
        event = self._loads(payload, parse_float=Decimal)["data"]
        size = float(event["q"])
        return event["t"], -size if event["m"] else size

    def read(self, sides: Doubles) -> None:
        """Fill float64 [4, 10] with the ten best levels. See `peers.PeerBook`."""
        sides[:] = 0.0
        for at, side in ((0, self._bids), (2, self._asks)):
            for i in range(min(len(side), 10)):
                sides[at, i], sides[at + 1, i] = side.index(i)
