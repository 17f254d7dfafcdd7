"""Bybit: v5 `orderbook.N` (captured 2024), `publicTrade` (documents, untested live), and the streams of 2021.

Continuity: on v5 the update number `u` grows by one a message, and a snapshot starts anew. In 2021
`cross_seq` only grew, so a loss does not show: UNVERIFIED. `seq` and `cross_seq` order all depths.

Source: bybit-exchange.github.io/docs/v5/websocket/public, "orderbook", "trade", and
docs/v5/market/instrument; for 2021 the "Inverse" and "Linear" WebSocket documents of that time.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from finllm.domain.units import NS_PER_MS, NS_PER_US
from finllm.market.venues.doorway import (
    ANSWER,
    Diff,
    Event,
    Level,
    Listing,
    Micros,
    Millis,
    Number,
    Print,
    Snapshot,
    Symbol,
    Touch,
    Venue,
    decode_answer,
    is_whole,
)

_SIDES: Final = {"Buy": 1, "Sell": -1}
_Side = Literal["Buy", "Sell"]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
"""Update numbers begin with 1."""


class _Book(msgspec.Struct, frozen=True):
    s: Symbol
    b: list[Level]
    a: list[Level]
    u: _Count
    seq: Number = 0


class _Trade(
    msgspec.Struct, frozen=True, rename={"ms": "T", "side": "S", "size": "v", "price": "p"}
):
    s: Symbol
    ms: Millis
    side: _Side
    size: float
    price: float


class _OldRow(msgspec.Struct, frozen=True):
    price: float
    side: _Side
    size: float = 0.0


class _OldBook(msgspec.Struct, frozen=True):
    order_book: list[_OldRow]


class _OldDelta(msgspec.Struct, frozen=True):
    delete: list[_OldRow]
    update: list[_OldRow]
    insert: list[_OldRow]


class _OldTrade(msgspec.Struct, frozen=True):
    symbol: Symbol
    price: float
    size: float
    side: _Side
    trade_time_ms: Millis


class _Message(msgspec.Struct, frozen=True):
    topic: str = ""
    type: str = ""
    op: str = ""
    success: bool | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    ts: Millis = 0
    cts: Millis = 0
    cross_seq: Number = 0
    timestamp_e6: Micros = 0


class _PriceFilter(msgspec.Struct, frozen=True, rename="camel"):
    tick_size: float


class _LotFilter(msgspec.Struct, frozen=True, rename="camel"):
    qty_step: float = 0.0
    base_precision: float = 0.0


class _Instrument(msgspec.Struct, frozen=True, rename="camel"):
    symbol: Symbol
    price_filter: _PriceFilter
    lot_size_filter: _LotFilter
    quote_coin: str = ""


class _Instruments(msgspec.Struct, frozen=True):
    list: list[_Instrument]


class _Reply(msgspec.Struct, frozen=True):
    result: _Instruments


_message: Final = msgspec.json.Decoder(_Message, strict=False).decode
_book: Final = msgspec.json.Decoder(_Book, strict=False).decode
_trades: Final = msgspec.json.Decoder(list[_Trade], strict=False).decode
_old_book: Final = msgspec.json.Decoder(_OldBook | list[_OldRow], strict=False).decode
_old_delta: Final = msgspec.json.Decoder(_OldDelta, strict=False).decode
_old_trades: Final = msgspec.json.Decoder(list[_OldTrade], strict=False).decode
_reply: Final = msgspec.json.Decoder(_Reply, strict=False).decode


class Bybit(Venue):
    """Bybit's spot, linear and inverse markets; one recording carries one of them."""

    name: ClassVar = "bybit"
    hosts: ClassVar = ("bybit.com", "bytick.com")
    signs: ClassVar = (
        b'"topic":"orderbook.', b'"topic":"publicTrade.', b'"topic":"orderBook', b'"topic":"trade.',
        b'"topic":"tickers.', b'"ret_msg":',
    )  # fmt: skip

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        if payload.startswith(ANSWER):
            return [_listing(row) for row in _reply(decode_answer(payload).data).result.list]
        message = _message(payload)
        stream, _, symbol = message.topic.partition(".")
        if not stream:
            if message.op in {"ping", "pong"}:
                return "heartbeat"
            return "unknown_stream" if message.success is None else "acknowledgement"
        return _stream(stream, symbol, message)


def _stream(stream: str, symbol: str, message: _Message) -> Sequence[Event] | str:
    if stream == "orderbook":
        return _v5_book(message, symbol.partition(".")[0])
    if stream == "publicTrade":
        return [
            Print(
                symbol=row.s, price=row.price, size=row.size, side=_SIDES[row.side],
                ts_event=row.ms * NS_PER_MS,
            )
            for row in _trades(message.data)
        ]  # fmt: skip
    if stream.startswith("orderBook"):
        return [_old(message, symbol.rpartition(".")[2])]
    if stream == "trade":
        return [
            Print(
                symbol=row.symbol, price=row.price, size=row.size, side=_SIDES[row.side],
                ts_event=row.trade_time_ms * NS_PER_MS,
            )
            for row in _old_trades(message.data)
        ]  # fmt: skip
    return "unknown_stream"


def _v5_book(message: _Message, depth: str) -> Sequence[Event]:
    book = _book(message.data)
    ts_event = (message.cts or message.ts) * NS_PER_MS
    if depth == "1":
        (bid, bid_sz), (ask, ask_sz) = ((*book.b, (0.0, 0.0))[0], (*book.a, (0.0, 0.0))[0])
        return [
            Touch(
                symbol=book.s, bid_px=bid, bid_sz=bid_sz, ask_px=ask, ask_sz=ask_sz,
                order=book.seq, ts_event=ts_event,
            )
        ]  # fmt: skip
    if is_whole(message.type, whole="snapshot", change="delta") or book.u == 1:
        return [
            Snapshot(
                symbol=book.s, bids=book.b, asks=book.a, number=book.u, order=book.seq,
                ts_event=ts_event,
            )
        ]  # fmt: skip
    return [
        Diff(
            symbol=book.s,
            bids=book.b,
            asks=book.a,
            number=book.u,
            previous=book.u - 1,
            order=book.seq,
            ts_event=ts_event,
        )
    ]


def _old(message: _Message, symbol: str) -> Event:
    if not 1 <= len(symbol) <= 48:
        raise ValueError("a topic without a symbol")
    if is_whole(message.type, whole="snapshot", change="delta"):
        book = _old_book(message.data)
        rows = book.order_book if isinstance(book, _OldBook) else book
        kind: type[Snapshot | Diff] = Snapshot
        gone: list[_OldRow] = []
    else:
        delta = _old_delta(message.data)
        rows, gone, kind = [*delta.update, *delta.insert], delta.delete, Diff
    return kind(
        symbol=symbol,
        bids=_old_side(gone, rows, "Buy"),
        asks=_old_side(gone, rows, "Sell"),
        number=message.cross_seq,
        order=message.cross_seq,
        ts_event=message.timestamp_e6 * NS_PER_US,
        is_unverified=True,
    )


def _old_side(gone: list[_OldRow], rows: list[_OldRow], side: str) -> list[Level]:
    deleted = [(row.price, 0.0) for row in gone if row.side == side]
    return deleted + [(row.price, row.size) for row in rows if row.side == side]


def _listing(row: _Instrument) -> Listing:
    return Listing(
        symbol=row.symbol,
        tick_size=row.price_filter.tick_size,
        lot_size=row.lot_size_filter.qty_step or row.lot_size_filter.base_precision,
        quote=row.quote_coin,
        source="Bybit GET /v5/market/instruments-info: tickSize, qtyStep or basePrecision",
    )
