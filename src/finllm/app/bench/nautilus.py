"""nautilus_trader's order book, the Rust one, filled as fast as its Python side allows.

Frames are decoded by typed msgspec structs, as nautilus_trader's own adapter does; deltas are built with
the Rust bindings, four times as fast as the adapter's Cython objects, and ten levels are read instead of
all. Quotes and trades stay plain numbers: no `QuoteTick` or `TradeTick` is made of them.
"""

from importlib import import_module
from typing import Any, Final

import msgspec

from finllm.app.bench.columns import Doubles

Level = tuple[str, str]


class _Diff(msgspec.Struct, gc=False):
    u: int
    b: list[Level]
    a: list[Level]


class _DiffFrame(msgspec.Struct, gc=False):
    data: _Diff


class _Touch(msgspec.Struct, gc=False):
    u: int
    b: float
    B: float
    a: float
    A: float


class _TouchFrame(msgspec.Struct, gc=False):
    data: _Touch


class _Trade(msgspec.Struct, gc=False):
    t: int
    q: float
    m: bool


class _TradeFrame(msgspec.Struct, gc=False):
    data: _Trade


class _Snapshot(msgspec.Struct, gc=False):
    lastUpdateId: int  # noqa: N815 - Binance's name
    bids: list[Level]
    asks: list[Level]


_decode_diff: Final = msgspec.json.Decoder(_DiffFrame).decode
_decode_touch: Final = msgspec.json.Decoder(_TouchFrame, strict=False).decode
_decode_trade: Final = msgspec.json.Decoder(_TradeFrame, strict=False).decode
_decode_snapshot: Final = msgspec.json.Decoder(_Snapshot).decode


class NautilusBook:
    """One instrument in a `nautilus_pyo3.OrderBook` of market by price. See `peers.PeerBook`."""

    def __init__(self) -> None:
        n: Any = import_module("nautilus_trader.core.nautilus_pyo3")
        self._n = n
        self._id = n.InstrumentId.from_str("X.BINANCE")
        self._book = n.OrderBook(self._id, n.BookType.L2_MBP)
        self._buy, self._sell = n.OrderSide.BUY, n.OrderSide.SELL
        self._update, self._delete = n.BookAction.UPDATE, n.BookAction.DELETE

    def _deltas(self, number: int, bids: list[Level], asks: list[Level]) -> Any:
        n, made = self._n, []
        for side, levels in ((self._buy, bids), (self._sell, asks)):
            for px, sz in levels:
                size = n.Quantity.from_str(sz)
                action = self._update if size.raw else self._delete
                order = n.BookOrder(side, n.Price.from_str(px), size, 0)
                made.append(n.OrderBookDelta(self._id, action, order, 0, number, 0, 0))
        return n.OrderBookDeltas(self._id, made)

    def snapshot(self, payload: bytes) -> int:
        """Replace the book; return the snapshot's number."""
        event = _decode_snapshot(payload)
        self._book.clear(event.lastUpdateId, 0)
        self._book.apply_deltas(self._deltas(event.lastUpdateId, event.bids, event.asks))
        return event.lastUpdateId

    def decode_diff(self, payload: bytes) -> tuple[int, Any]:
        """Return a diff's final number and its deltas; None for a diff of nothing."""
        event = _decode_diff(payload).data
        has_levels = event.b or event.a  # OrderBookDeltas refuses to be empty
        return event.u, self._deltas(event.u, event.b, event.a) if has_levels else None

    def apply(self, diff: Any) -> None:
        """Apply a diff's deltas."""
        if diff is not None:
            self._book.apply_deltas(diff)

    def decode_touch(self, payload: bytes) -> tuple[int, tuple[float, float, float, float]]:
        """Return a bookTicker."""
        event = _decode_touch(payload).data
        return event.u, (event.b, event.B, event.a, event.A)

    def decode_trade(self, payload: bytes) -> tuple[int, float]:
        """Return a trade's number, and its size, negative if the aggressor sold."""
        event = _decode_trade(payload).data
        return event.t, -event.q if event.m else event.q

    def read(self, sides: Doubles) -> None:
        """Fill float64 [4, 10] with the ten best levels. See `peers.PeerBook`."""
        sides[:] = 0.0
        for at, levels in ((0, self._book.bids(10)), (2, self._book.asks(10))):
            n = len(levels)
            sides[at, :n] = [float(level.price) for level in levels]
            sides[at + 1, :n] = [level.size() for level in levels]
