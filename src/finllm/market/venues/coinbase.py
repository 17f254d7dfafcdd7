"""Coinbase: Exchange `level2`, `level2_batch`, `ticker`, `matches`, and Advanced Trade.

Continuity: Advanced Trade numbers all messages of a connection (`sequence_num`), so a loss breaks every
book on it. Exchange's `l2update` has no number at all: UNVERIFIED. Its `ticker` carries the same time as
the `l2update` of the trade that it follows. The side of a match is the maker's; the aggressor's is the
other.

Source: docs.cdp.coinbase.com, "Exchange: WebSocket channels", "Exchange: Get all products" and
"Advanced Trade: WebSocket channels". Captured in 2021: level2, ticker, matches; the rest untested live.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, Literal

import msgspec

from finllm.market.venues.doorway import (
    ANSWER,
    Connection,
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
    decode_answer,
    is_whole,
    ns_of_iso,
)

_AGGRESSOR: Final = {"buy": -1, "sell": 1, "BUY": -1, "SELL": 1}
"""By the maker's side."""
_ASIDE: Final = {
    "subscriptions": "acknowledgement",
    "error": "acknowledgement",
    "heartbeat": "heartbeat",
    "last_match": "old_trade",  # printed before the subscription began
}


class _Kind(msgspec.Struct, frozen=True):
    type: str = ""
    channel: str = ""


class _Snapshot(msgspec.Struct, frozen=True):
    product_id: Symbol
    bids: list[Level]
    asks: list[Level]


class _Update(msgspec.Struct, frozen=True):
    product_id: Symbol
    changes: list[tuple[Literal["buy", "sell"], float, float]]
    time: str = ""


class _Ticker(msgspec.Struct, frozen=True):
    product_id: Symbol
    best_bid: float
    best_ask: float
    best_bid_size: float = 0.0
    best_ask_size: float = 0.0
    time: str = ""


class _Match(msgspec.Struct, frozen=True):
    product_id: Symbol
    trade_id: Number
    side: Literal["buy", "sell"]
    size: float
    price: float
    time: str


class _Product(msgspec.Struct, frozen=True):
    id: Symbol
    quote_increment: float
    base_increment: float
    quote_currency: str = ""


class _Status(msgspec.Struct, frozen=True):
    products: list[_Product]


class _Level(msgspec.Struct, frozen=True):
    side: Literal["bid", "offer", "ask"]
    price_level: float
    new_quantity: float


class _Trade(msgspec.Struct, frozen=True):
    product_id: Symbol
    trade_id: Number
    price: float
    size: float
    side: Literal["BUY", "SELL"]
    time: str


class _Best(msgspec.Struct, frozen=True):
    product_id: Symbol
    best_bid: float = 0.0
    best_ask: float = 0.0
    best_bid_quantity: float = 0.0
    best_ask_quantity: float = 0.0


class _Part(msgspec.Struct, frozen=True):
    """One event of an Advanced Trade message; which fields it has depends on the channel."""

    type: str = ""
    product_id: Symbol = "-"
    updates: list[_Level] = []
    trades: list[_Trade] = []
    tickers: list[_Best] = []


class _Advanced(msgspec.Struct, frozen=True):
    sequence_num: Number
    timestamp: str
    channel: str
    events: msgspec.Raw = msgspec.Raw(b"[]")


_kind: Final = msgspec.json.Decoder(_Kind).decode
_snapshot: Final = msgspec.json.Decoder(_Snapshot, strict=False).decode
_update: Final = msgspec.json.Decoder(_Update, strict=False).decode
_ticker: Final = msgspec.json.Decoder(_Ticker, strict=False).decode
_match: Final = msgspec.json.Decoder(_Match, strict=False).decode
_status: Final = msgspec.json.Decoder(_Status, strict=False).decode
_products: Final = msgspec.json.Decoder(list[_Product], strict=False).decode
_advanced: Final = msgspec.json.Decoder(_Advanced).decode
_parts: Final = msgspec.json.Decoder(list[_Part], strict=False).decode


class Coinbase(Venue):
    """Coinbase's spot market, by either of its two feeds."""

    name: ClassVar = "coinbase"
    hosts: ClassVar = ("coinbase.com",)
    signs: ClassVar = (b'"product_id":"', b'"product_ids":[', b'"sequence_num":')

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        if payload.startswith(ANSWER):
            return [_listing(row) for row in _products(decode_answer(payload).data)]
        kind = _kind(payload)
        if kind.channel:
            return _of_advanced(_advanced(payload))
        return _ASIDE.get(kind.type) or _of_exchange(kind.type, payload)


def _of_exchange(kind: str, payload: bytes) -> Sequence[Event] | str:
    if kind == "l2update":
        return [_diff(_update(payload))]
    if kind == "snapshot":
        whole = _snapshot(payload)
        return [
            Snapshot(symbol=whole.product_id, bids=whole.bids, asks=whole.asks, is_unverified=True)
        ]
    if kind == "ticker":
        top = _ticker(payload)
        ts = ns_of_iso(top.time) if top.time else 0
        return [
            Touch(
                symbol=top.product_id, bid_px=top.best_bid, bid_sz=top.best_bid_size,
                ask_px=top.best_ask, ask_sz=top.best_ask_size, order=ts, ts_event=ts,
            )
        ]  # fmt: skip
    if kind == "match":
        row = _match(payload)
        return [
            Print(
                symbol=row.product_id, price=row.price, size=row.size, number=row.trade_id,
                side=_AGGRESSOR[row.side], ts_event=ns_of_iso(row.time),
            )
        ]  # fmt: skip
    if kind == "status":
        return [_listing(row) for row in _status(payload).products]
    return "unknown_stream"


def _diff(update: _Update) -> Diff:
    ts = ns_of_iso(update.time) if update.time else 0
    return Diff(
        symbol=update.product_id,
        bids=[(px, sz) for side, px, sz in update.changes if side == "buy"],
        asks=[(px, sz) for side, px, sz in update.changes if side == "sell"],
        order=ts,
        ts_event=ts,
        is_unverified=True,
    )


def _of_advanced(message: _Advanced) -> Sequence[Event]:
    """Return the message's number, then what it carries; a number alone keeps the count."""
    ts = ns_of_iso(message.timestamp)
    events: list[Event] = [Connection(message.sequence_num)]
    if message.channel not in {"l2_data", "market_trades", "ticker", "ticker_batch"}:
        return events
    for part in _parts(message.events):
        if message.channel == "l2_data":
            events.append(_depth(part, ts))
        events += [
            Print(
                symbol=row.product_id, price=row.price, size=row.size, number=row.trade_id,
                side=_AGGRESSOR[row.side], ts_event=ns_of_iso(row.time),
            )
            for row in sorted(part.trades, key=lambda row: row.trade_id)
        ]  # fmt: skip
        events += [
            Touch(
                symbol=top.product_id, bid_px=top.best_bid, bid_sz=top.best_bid_quantity,
                ask_px=top.best_ask, ask_sz=top.best_ask_quantity, ts_event=ts,
            )
            for top in part.tickers
        ]  # fmt: skip
    return events


def _depth(part: _Part, ts: int) -> Event:
    return (Snapshot if is_whole(part.type, whole="snapshot", change="update") else Diff)(
        symbol=part.product_id,
        bids=[(row.price_level, row.new_quantity) for row in part.updates if row.side == "bid"],
        asks=[(row.price_level, row.new_quantity) for row in part.updates if row.side != "bid"],
        ts_event=ts,
    )


def _listing(row: _Product) -> Listing:
    return Listing(
        symbol=row.id,
        tick_size=row.quote_increment,
        lot_size=row.base_increment,
        quote=row.quote_currency,
        source="Coinbase Exchange GET /products: quote_increment, base_increment",
    )
