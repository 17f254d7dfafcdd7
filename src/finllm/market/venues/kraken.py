"""Kraken: v1 (arrays, as captured in 2021) and v2 (objects; from its documents, untested live).

Continuity: no numbers; each book update carries a CRC32 over the ten best levels a side after it. The
book covers the subscribed depth: what falls below is not deleted by a message, so it is cut off here.

Source: docs.kraken.com, "Websockets v1: book", "Websockets v2: book, instrument, ticker, trade", and
"Book checksum" of both versions.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Final, Literal
from zlib import crc32

import msgspec

from finllm.market.venues.doorway import (
    Diff,
    Event,
    Level,
    Listing,
    Print,
    Side,
    Snapshot,
    Symbol,
    Touch,
    Venue,
    is_whole,
    ns_of_iso,
    ns_of_seconds,
    places_of,
)

_SIDES: Final = {"b": 1, "s": -1, "buy": 1, "sell": -1}
_DEPTHS: Final = (10, 25, 100, 500, 1000)
"""Levels a side that can be subscribed to."""
_Crc = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """v1: price, size, time, and an `r` where it was sent before."""

    price: str
    size: str
    time: str


class _Book(msgspec.Struct, frozen=True, rename={"all_asks": "as", "all_bids": "bs"}):
    all_asks: list[_Row] | None = None
    all_bids: list[_Row] | None = None
    a: list[_Row] = []
    b: list[_Row] = []
    c: str | None = None


class _Trade(msgspec.Struct, frozen=True, array_like=True):
    price: float
    size: float
    time: str
    side: Literal["b", "s"]


class _Spread(msgspec.Struct, frozen=True, array_like=True):
    bid: float
    ask: float
    time: str
    bid_size: float
    ask_size: float


class _Ticker(msgspec.Struct, frozen=True):
    """v1: price, whole lots, lots."""

    a: tuple[float, float, float]
    b: tuple[float, float, float]


class _Quantity(msgspec.Struct, frozen=True):
    """v2; numbers kept as written, because the checksum needs their decimals."""

    price: msgspec.Raw
    qty: msgspec.Raw


class _BookData(msgspec.Struct, frozen=True):
    symbol: Symbol
    bids: list[_Quantity] = []
    asks: list[_Quantity] = []
    checksum: _Crc | None = None
    timestamp: str = ""


class _TradeData(msgspec.Struct, frozen=True):
    symbol: Symbol
    side: Literal["buy", "sell"]
    price: float
    qty: float
    trade_id: int
    timestamp: str


class _TickerData(msgspec.Struct, frozen=True):
    symbol: Symbol
    bid: float
    bid_qty: float
    ask: float
    ask_qty: float


class _Pair(msgspec.Struct, frozen=True):
    symbol: Symbol
    quote: str
    price_increment: float
    qty_increment: float


class _Instruments(msgspec.Struct, frozen=True):
    pairs: list[_Pair]


class _Message(msgspec.Struct, frozen=True):
    """Any object: a v1 event, a v2 method's answer or a v2 channel."""

    event: str = ""
    method: str = ""
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_message: Final = msgspec.json.Decoder(_Message).decode
_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode
_book: Final = msgspec.json.Decoder(_Book).decode
_trades: Final = msgspec.json.Decoder(list[_Trade], strict=False).decode
_spread: Final = msgspec.json.Decoder(_Spread, strict=False).decode
_ticker: Final = msgspec.json.Decoder(_Ticker, strict=False).decode
_books: Final = msgspec.json.Decoder(list[_BookData]).decode
_trade_rows: Final = msgspec.json.Decoder(list[_TradeData]).decode
_tickers: Final = msgspec.json.Decoder(list[_TickerData]).decode
_instruments: Final = msgspec.json.Decoder(_Instruments).decode


class Kraken(Venue):
    """Kraken's spot market."""

    name: ClassVar = "kraken"
    hosts: ClassVar = ("kraken.com",)
    signs: ClassVar = (
        b'"channelName"', b'"book-10', b'"book-25', b'"book-100', b'"book-500', b'"book-1000',
        b'"connectionID"', b'"api_version":"v2"', b'"price_increment"',
        b'"channel":"book","type":"', b'"channel":"ticker","type":"', b'"channel":"trade","type":"',
    )  # fmt: skip
    checksum_levels: ClassVar = 10

    def __init__(self) -> None:
        self._v2 = {
            "book": _v2_books,
            "trade": _v2_trades,
            "ticker": _v2_tickers,
            "instrument": _v2_listings,
        }

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        if payload.lstrip()[:1] == b"[":
            return _v1(_array(payload))
        message = _message(payload)
        if message.event == "heartbeat" or message.channel == "heartbeat":
            return "heartbeat"
        if message.event or message.method or message.channel == "status":
            return "acknowledgement"
        read = self._v2.get(message.channel)
        return "unknown_stream" if read is None else read(message)

    def checksum(self, bids: Side, asks: Side, places: tuple[int, int]) -> int:
        """Return the CRC32 of the digits of asks, then bids: prices and sizes without point or zeros."""
        del places
        return crc32("".join(f"{px}{sz}" for side in (asks, bids) for px, sz in side).encode())


def _v1(parts: list[msgspec.Raw]) -> Sequence[Event] | str:
    if len(parts) < 4:
        raise msgspec.ValidationError("an array of fewer than four parts")
    symbol, channel = _text(parts[-1]), _text(parts[-2])
    if not 1 <= len(symbol) <= 48:
        raise msgspec.ValidationError("no pair")
    if channel.startswith("book-"):
        return [_v1_book(symbol, channel, [_book(part) for part in parts[1:-2]])]
    if channel == "trade":
        return [
            Print(
                symbol=symbol,
                price=row.price,
                size=row.size,
                side=_SIDES[row.side],
                ts_event=ns_of_seconds(row.time),
            )
            for row in _trades(parts[1])
        ]
    if channel == "spread":
        row = _spread(parts[1])
        return [
            Touch(
                symbol=symbol, bid_px=row.bid, bid_sz=row.bid_size, ask_px=row.ask,
                ask_sz=row.ask_size, ts_event=ns_of_seconds(row.time),
            )
        ]  # fmt: skip
    if channel == "ticker":
        top = _ticker(parts[1])
        return [
            Touch(symbol=symbol, bid_px=top.b[0], bid_sz=top.b[2], ask_px=top.a[0], ask_sz=top.a[2])
        ]
    return "unknown_stream"


def _v1_book(symbol: str, channel: str, parts: list[_Book]) -> Event:
    depth = int(channel.removeprefix("book-")[:6])
    first = parts[0]
    if first.all_asks is not None or first.all_bids is not None:
        asks, bids = first.all_asks or [], first.all_bids or []
        kind: type[Snapshot | Diff] = Snapshot
    else:
        asks = [row for part in parts for row in part.a]
        bids = [row for part in parts for row in part.b]
        kind = Diff
    rows = asks or bids
    checksum = next((_crc(part.c) for part in parts if part.c), None)
    return kind(
        symbol=symbol,
        bids=_levels((row.price, row.size) for row in bids),
        asks=_levels((row.price, row.size) for row in asks),
        ts_event=max((ns_of_seconds(row.time) for row in (*asks, *bids)), default=0),
        checksum=checksum,
        places=(places_of(rows[0].price), places_of(rows[0].size)) if rows else (0, 0),
        depth=max(depth, _DEPTHS[0]),
        is_unverified=kind is Diff and checksum is None,
    )


def _crc(text: str) -> int:
    if len(text) > 10 or not text.isdecimal():
        raise ValueError(f"no checksum: {text[:32]!r}")
    return int(text)


def _levels(rows: Iterable[tuple[str, str]]) -> list[Level]:
    return [(float(price), float(size)) for price, size in rows]


def _v2_books(message: _Message) -> Sequence[Event]:
    return [_v2_book(book, message.type) for book in _books(message.data)]


def _v2_book(book: _BookData, kind: str) -> Event:
    asks = [(bytes(row.price).decode(), bytes(row.qty).decode()) for row in book.asks]
    bids = [(bytes(row.price).decode(), bytes(row.qty).decode()) for row in book.bids]
    rows = (*asks, *bids)
    longest = max(len(asks), len(bids))
    is_snapshot = is_whole(kind, whole="snapshot", change="update")
    return (Snapshot if is_snapshot else Diff)(
        symbol=book.symbol,
        bids=_levels(bids),
        asks=_levels(asks),
        ts_event=ns_of_iso(book.timestamp) if book.timestamp else 0,
        checksum=book.checksum,
        places=(
            max((places_of(price) for price, _ in rows), default=0),
            max((places_of(size) for _, size in rows), default=0),
        ),
        # A snapshot that fills a depth shows which one was subscribed to; its diffs inherit it.
        depth=0 if not is_snapshot else longest if longest in _DEPTHS else _DEPTHS[-1],
        is_unverified=book.checksum is None,
    )


def _v2_trades(message: _Message) -> Sequence[Event]:
    return [
        Print(
            symbol=row.symbol,
            price=row.price,
            size=row.qty,
            side=_SIDES[row.side],
            number=row.trade_id,
            ts_event=ns_of_iso(row.timestamp),
        )
        for row in _trade_rows(message.data)
    ]


def _v2_tickers(message: _Message) -> Sequence[Event]:
    return [
        Touch(symbol=t.symbol, bid_px=t.bid, bid_sz=t.bid_qty, ask_px=t.ask, ask_sz=t.ask_qty)
        for t in _tickers(message.data)
    ]


def _v2_listings(message: _Message) -> Sequence[Event]:
    return [
        Listing(
            symbol=pair.symbol,
            tick_size=pair.price_increment,
            lot_size=pair.qty_increment,
            quote=pair.quote,
            source="Kraken v2 channel `instrument`: price_increment, qty_increment",
        )
        for pair in _instruments(message.data).pairs
    ]
