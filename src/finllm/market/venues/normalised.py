"""Normalised updates, for whatever has no file of its own: one JSON object a line, in our own words.

    {"book": {"symbol": "BTC/USDT", "bids": [[1.5, 2]], "asks": [[1.6, 1]], "whole": true}}
    {"touch": {"symbol": "BTC/USDT", "bid": [1.5, 2], "ask": [1.6, 1]}}
    {"trade": {"symbol": "BTC/USDT", "price": 1.5, "size": 2, "side": "buy"}}
    {"instrument": {"symbol": "BTC/USDT", "tick_size": 0.1, "lot_size": 0.001}}

Numbers may be strings. `ts_event` is ns UTC. A book that is not `whole` holds changed levels, size 0 =
gone. With `sequence` and `previous` its updates are linked; without, they are UNVERIFIED. `side` is the
aggressor's. The functions below make these lines from the records of ccxt, cryptofeed and
nautilus_trader, without importing them; as bytes they can be journalled and replayed like any frame.

Source: ccxt manual, "Order book structure", "Public trades"; cryptofeed `types.pyx` (`OrderBook`,
`Trade`); nautilus_trader `model/data` (`OrderBookDelta`, `QuoteTick`, `TradeTick`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec

from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.venues.doorway import (
    NO_PREVIOUS,
    Diff,
    Event,
    Level,
    Listing,
    Number,
    Print,
    Snapshot,
    Symbol,
    Touch,
    Venue,
)

_SIDES: Final = {"buy": 1, "sell": -1}


class Book(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole book, or the levels of it that changed."""

    symbol: Symbol
    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()
    whole: bool = False
    sequence: Number = 0
    previous: Number | None = None
    ts_event: Number = 0


class Best(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A best bid and offer."""

    symbol: Symbol
    bid: Level
    ask: Level
    sequence: Number = 0
    """That of the book of which it is the top; 0 = not comparable."""
    ts_event: Number = 0


class Trade(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A trade."""

    symbol: Symbol
    price: float
    size: float
    side: Literal["buy", "sell"]
    number: Number = 0
    ts_event: Number = 0


class Steps(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an instrument's prices and sizes are multiples of."""

    symbol: Symbol
    tick_size: float
    lot_size: float
    contract_multiplier: float = 1.0
    quote: str = ""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message: one of its parts."""

    book: Book | None = None
    touch: Best | None = None
    trade: Trade | None = None
    instrument: Steps | None = None


_line: Final = msgspec.json.Decoder(Line, strict=False).decode


class Normalised(Venue):
    """Anybody's updates, in our words."""

    name: ClassVar = "normalised"
    hosts: ClassVar = ()
    signs: ClassVar[tuple[bytes, ...]] = (
        b'{"book":{"symbol":',
        b'{"touch":{"symbol":',
        b'{"trade":{"symbol":',
    )

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        line = _line(payload)
        if line.book is not None:
            return [_depth(line.book)]
        if line.touch is not None:
            return [_touch(line.touch)]
        if line.trade is not None:
            return [_print(line.trade)]
        return "unknown_stream" if line.instrument is None else [_listing(line.instrument)]


class UsEquity(Normalised):
    """US stocks from tick files (see `ticks`): cents and shares."""

    name: ClassVar = "us-equity"
    signs: ClassVar = ()

    def listing(self, symbol: str) -> Listing | None:
        """Return cents and shares; a price within a cent is rounded and noted."""
        source = "SEC Rule 612: quotes of a dollar and more are in whole cents"
        return Listing(symbol=symbol, tick_size=0.01, lot_size=1.0, quote="USD", source=source)


def _depth(book: Book) -> Event:
    is_linked = book.previous is not None
    if book.whole:
        return Snapshot(
            symbol=book.symbol, bids=book.bids, asks=book.asks, number=book.sequence,
            order=book.sequence, ts_event=book.ts_event, is_unverified=not book.sequence,
        )  # fmt: skip
    return Diff(
        symbol=book.symbol, bids=book.bids, asks=book.asks, number=book.sequence,
        order=book.sequence, ts_event=book.ts_event, is_unverified=not is_linked,
        previous=NO_PREVIOUS if book.previous is None else book.previous,
    )  # fmt: skip


def _touch(best: Best) -> Touch:
    return Touch(
        symbol=best.symbol, bid_px=best.bid[0], bid_sz=best.bid[1], ask_px=best.ask[0],
        ask_sz=best.ask[1], order=best.sequence, ts_event=best.ts_event,
    )  # fmt: skip


def _print(trade: Trade) -> Print:
    return Print(
        symbol=trade.symbol, price=trade.price, size=trade.size, side=_SIDES[trade.side],
        number=trade.number, ts_event=trade.ts_event,
    )  # fmt: skip


def _listing(steps: Steps) -> Listing:
    return Listing(
        symbol=steps.symbol, tick_size=steps.tick_size, lot_size=steps.lot_size,
        contract_multiplier=steps.contract_multiplier, quote=steps.quote, source="stated by the sender",
    )  # fmt: skip


# -- from other libraries' records ---------------------------------------------------------------


def _bytes(**part: Any) -> bytes:
    return msgspec.json.encode(Line(**part))


def _levels(rows: Any) -> list[Level]:
    return [(float(row[0]), float(row[1])) for row in rows]


def from_ccxt_book(book: Mapping[str, Any]) -> bytes:
    """Return the message for a ccxt order book, as `watch_order_book` gives it: always whole.

    Its `nonce` is left out: it is not one stream's numbering, and ccxt hides the updates between.
    """
    stamp = int(book.get("timestamp") or 0) * NS_PER_MS
    bids, asks = _levels(book["bids"]), _levels(book["asks"])
    return _bytes(
        book=Book(symbol=book["symbol"], bids=bids, asks=asks, whole=True, ts_event=stamp)
    )


def from_ccxt_trade(trade: Mapping[str, Any]) -> bytes:
    """Return the message for a ccxt public trade; its side is the taker's."""
    return _bytes(
        trade=Trade(
            symbol=trade["symbol"],
            price=float(trade["price"]),
            size=float(trade["amount"]),
            side=trade["side"],
            ts_event=int(trade.get("timestamp") or 0) * NS_PER_MS,
        )
    )


def from_cryptofeed_book(book: Any) -> bytes:
    """Return the message for a cryptofeed `OrderBook`: its `delta` if it has one, else the whole book."""
    delta = book.delta
    sides = delta if delta is not None else book.book.to_dict()
    bids, asks = ("bid", "ask") if "bid" in sides else ("bids", "asks")
    return _bytes(
        book=Book(
            symbol=book.symbol,
            bids=_rows(sides[bids]),
            asks=_rows(sides[asks]),
            whole=delta is None,
            ts_event=round((book.timestamp or 0.0) * NS_PER_S),
        )
    )


def _rows(side: Any) -> list[Level]:
    return _levels(side.items() if isinstance(side, Mapping) else side)


def from_cryptofeed_trade(trade: Any) -> bytes:
    """Return the message for a cryptofeed `Trade`."""
    stamp = round((trade.timestamp or 0.0) * NS_PER_S)
    return _bytes(
        trade=Trade(
            symbol=trade.symbol,
            price=float(trade.price),
            size=float(trade.amount),
            side=trade.side,
            ts_event=stamp,
        )
    )


def from_nautilus_deltas(deltas: Any) -> bytes:
    """Return the message for nautilus_trader `OrderBookDeltas` of price levels (L2).

    A batch that begins with CLEAR is a whole book. Actions are told by name: CLEAR, ADD, UPDATE, DELETE.
    """
    sides: dict[str, list[Level]] = {"BUY": [], "SELL": []}
    is_whole = False
    for delta in deltas.deltas:
        action = delta.action.name
        if action == "CLEAR":
            is_whole, sides = True, {"BUY": [], "SELL": []}
            continue
        size = 0.0 if action == "DELETE" else float(delta.order.size)
        sides[delta.order.side.name].append((float(delta.order.price), size))
    return _bytes(
        book=Book(
            symbol=str(deltas.instrument_id),
            bids=sides["BUY"],
            asks=sides["SELL"],
            whole=is_whole,
            ts_event=int(deltas.ts_event),
        )
    )


def from_nautilus_quote(tick: Any) -> bytes:
    """Return the message for a nautilus_trader `QuoteTick`."""
    return _bytes(
        touch=Best(
            symbol=str(tick.instrument_id),
            bid=(float(tick.bid_price), float(tick.bid_size)),
            ask=(float(tick.ask_price), float(tick.ask_size)),
            ts_event=int(tick.ts_event),
        )
    )


def from_nautilus_trade(tick: Any) -> bytes:
    """Return the message for a nautilus_trader `TradeTick`.

    Raises:
        KeyError: If it has no aggressor.
    """
    side: Literal["buy", "sell"] = {"BUYER": "buy", "SELLER": "sell"}[tick.aggressor_side.name]  # type: ignore[assignment] # both are of these
    return _bytes(
        trade=Trade(
            symbol=str(tick.instrument_id),
            price=float(tick.price),
            size=float(tick.size),
            side=side,
            ts_event=int(tick.ts_event),
        )
    )
