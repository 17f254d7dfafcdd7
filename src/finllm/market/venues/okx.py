"""OKX v5: `books` and its faster kin, `books5`, `bbo-tbt`, `trades`, `tickers`.

Continuity: each update names the one before it (`prevSeqId`), and carries a CRC32 over the 25 best
levels a side; the capture of 2022 has the checksum alone. `books5` sends whole books: UNVERIFIED.

Source: www.okx.com/docs-v5, "Order book channel", "Trades channel", "Tickers channel", "Get
instruments". Sequence numbers, `books5`, `bbo-tbt` and instruments are from these, untested live.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated, ClassVar, Final, Literal
from zlib import crc32

import msgspec

from finllm.domain.units import NS_PER_MS
from finllm.market.venues.doorway import (
    ANSWER,
    NO_PREVIOUS,
    Diff,
    Event,
    Level,
    Listing,
    Millis,
    Number,
    Print,
    Side,
    Snapshot,
    Symbol,
    Touch,
    Venue,
    decode_answer,
    is_whole,
)

_DEPTH: Final = ("books", "books-l2-tbt", "books50-l2-tbt", "books-elp", "books5", "bbo-tbt")
_PLACES: Final = (12, 12)
"""More decimals than OKX writes; zeros at the end are stripped again."""


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    price: float
    size: float


class _Book(msgspec.Struct, frozen=True, rename={"number": "seqId", "previous": "prevSeqId"}):
    asks: list[_Row]
    bids: list[_Row]
    ts: Millis
    checksum: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] = 0
    number: Number = 0
    previous: Annotated[int, msgspec.Meta(ge=-1, le=2**62)] = NO_PREVIOUS


class _Trade(msgspec.Struct, frozen=True, rename={"symbol": "instId", "number": "tradeId"}):
    symbol: Symbol
    number: Number
    px: float
    sz: float
    side: Literal["buy", "sell"]
    ts: Millis


class _Ticker(
    msgspec.Struct,
    frozen=True,
    rename={"symbol": "instId", "ask_px": "askPx", "ask_sz": "askSz", "bid_px": "bidPx", "bid_sz": "bidSz"},
):  # fmt: skip
    symbol: Symbol
    ask_px: str
    ask_sz: str
    bid_px: str
    bid_sz: str
    ts: Millis


class _Instrument(
    msgspec.Struct,
    frozen=True,
    rename={
        "symbol": "instId", "tick": "tickSz", "lot": "lotSz", "value": "ctVal",
        "unit": "ctValCcy", "quote": "quoteCcy",
    },
):  # fmt: skip
    symbol: Symbol
    tick: float
    lot: float
    value: str = ""
    unit: str = ""
    quote: str = ""


class _Arg(msgspec.Struct, frozen=True, rename={"symbol": "instId"}):
    channel: str
    symbol: str = ""


class _Message(msgspec.Struct, frozen=True):
    event: str = ""
    action: str = ""
    arg: _Arg | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


_message: Final = msgspec.json.Decoder(_Message).decode
_books: Final = msgspec.json.Decoder(list[_Book], strict=False).decode
_trades: Final = msgspec.json.Decoder(list[_Trade], strict=False).decode
_tickers: Final = msgspec.json.Decoder(list[_Ticker], strict=False).decode
_instruments: Final = msgspec.json.Decoder(list[_Instrument], strict=False).decode


class Okx(Venue):
    """OKX's spot, swap, futures and options."""

    name: ClassVar = "okx"
    hosts: ClassVar = ("okx.com", "okex.com")
    signs: ClassVar = (b'"instId":"', b'"instType":"')
    checksum_levels: ClassVar = 25

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        if payload == b"pong":
            return "heartbeat"
        if payload.startswith(ANSWER):
            message = _message(decode_answer(payload).data)
            return [_listing(row) for row in _instruments(message.data)]
        message = _message(payload)
        if message.event or message.arg is None:
            return "acknowledgement" if message.event else "unknown_stream"
        return _channel(message, message.arg)

    def checksum(self, bids: Side, asks: Side, places: tuple[int, int]) -> int:
        """Return the signed CRC32 of `bid:size:ask:size:...`, numbers as short as they can be written."""
        px_places, sz_places = places
        rows = zip_longest(bids, asks)
        text = ":".join(
            f"{_short(level[0], px_places)}:{_short(level[1], sz_places)}"
            for pair in rows
            for level in pair
            if level is not None
        )
        value = crc32(text.encode())
        return value - 2**32 if value >= 2**31 else value


def _short(units: int, places: int) -> str:
    whole, rest = divmod(units, 10**places)
    decimals = f"{rest:0{places}d}".rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)


def _channel(message: _Message, arg: _Arg) -> Sequence[Event] | str:
    if arg.channel in _DEPTH:
        return [_depth(book, arg, message.action) for book in _books(message.data)]
    if arg.channel in {"trades", "trades-all"}:
        return [
            Print(
                symbol=row.symbol, price=row.px, size=row.sz, number=row.number,
                side=1 if row.side == "buy" else -1, ts_event=row.ts * NS_PER_MS,
            )
            for row in sorted(_trades(message.data), key=lambda row: row.number)
        ]  # fmt: skip
    if arg.channel == "tickers":
        # Conflated on its own beat, so it is the top of no particular update: no order.
        return [
            Touch(
                symbol=row.symbol, bid_px=float(row.bid_px or 0), bid_sz=float(row.bid_sz or 0),
                ask_px=float(row.ask_px or 0), ask_sz=float(row.ask_sz or 0),
                ts_event=row.ts * NS_PER_MS,
            )
            for row in _tickers(message.data)
        ]  # fmt: skip
    if arg.channel == "instruments":
        return [_listing(row) for row in _instruments(message.data)]
    return "unknown_stream"


def _depth(book: _Book, arg: _Arg, action: str) -> Event:
    if arg.channel == "bbo-tbt":
        return _best(book, arg)
    bids = [(row.price, row.size) for row in book.bids]
    asks = [(row.price, row.size) for row in book.asks]
    ts, checksum = book.ts * NS_PER_MS, book.checksum or None
    is_five = arg.channel == "books5"
    if not is_five and not is_whole(action, whole="snapshot", change="update"):
        return Diff(
            symbol=_symbol(arg), bids=bids, asks=asks, number=book.number, order=book.number,
            ts_event=ts, checksum=checksum, places=_PLACES, previous=book.previous,
            is_unverified=book.previous == NO_PREVIOUS and checksum is None,
        )  # fmt: skip
    return Snapshot(
        symbol=_symbol(arg), bids=bids, asks=asks, number=book.number, order=book.number,
        ts_event=ts, checksum=checksum, places=_PLACES, is_unverified=is_five,
    )  # fmt: skip


def _best(book: _Book, arg: _Arg) -> Touch:
    (bid, bid_sz) = _first(book.bids)
    (ask, ask_sz) = _first(book.asks)
    return Touch(
        symbol=_symbol(arg), bid_px=bid, bid_sz=bid_sz, ask_px=ask, ask_sz=ask_sz,
        order=book.number, ts_event=book.ts * NS_PER_MS,
    )  # fmt: skip


def _first(rows: list[_Row]) -> Level:
    return (rows[0].price, rows[0].size) if rows else (0.0, 0.0)


def _symbol(arg: _Arg) -> str:
    if not 1 <= len(arg.symbol) <= 48:
        raise ValueError("a channel without an instId")
    return arg.symbol


def _listing(row: _Instrument) -> Listing:
    return Listing(
        symbol=row.symbol,
        tick_size=row.tick,
        lot_size=row.lot,
        contract_multiplier=float(row.value or 1) if row.unit == "USD" else 1.0,
        quote=row.quote or row.symbol.split("-")[1],
        source="OKX GET /api/v5/public/instruments: tickSz, lotSz, ctVal",
    )
