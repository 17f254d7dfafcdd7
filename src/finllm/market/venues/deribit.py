"""Deribit v2: `book`, `trades`, `quote`, `ticker`.

Continuity: each change of `book.<instrument>.<interval>` names the one before it (`prev_change_id`).
The grouped form (`book.<instrument>.<group>.<depth>.<interval>`) sends whole books: UNVERIFIED. Raw
touches carry the time of the change that made them.

Source: docs.deribit.com, "Subscriptions" and "public/get_instruments"; tick and amount steps of the
listed kinds from "Contract specifications". Captured in 2021: book raw, ticker; the rest untested live.
"""

import re
from collections.abc import Sequence
from typing import ClassVar, Final, Literal

import msgspec

from finllm.domain.units import NS_PER_MS
from finllm.market.venues.doorway import (
    Diff,
    Event,
    Level,
    Listing,
    Millis,
    Number,
    Print,
    Snapshot,
    Symbol,
    Touch,
    Venue,
)

_OPTION: Final = re.compile(r"(BTC|ETH)-\d{1,2}[A-Z]{3}\d\d-\d+-[CP]")
_FUTURE: Final = re.compile(r"(BTC|ETH)-(PERPETUAL|\d{1,2}[A-Z]{3}\d\d)")
_OPTION_LOT: Final = {"BTC": 0.1, "ETH": 1.0}
_FUTURE_STEPS: Final = {"BTC": (0.5, 10.0), "ETH": (0.05, 1.0)}
_DOCUMENTS: Final = "Deribit contract specifications: finest tick of its kind, least amount"


class _Book(msgspec.Struct, frozen=True, rename={"symbol": "instrument_name"}):
    symbol: Symbol
    timestamp: Millis
    change_id: Number
    bids: msgspec.Raw
    asks: msgspec.Raw
    type: Literal["snapshot", "change", ""] = ""
    prev_change_id: Number | None = None


class _Touch(
    msgspec.Struct,
    frozen=True,
    rename={
        "symbol": "instrument_name", "bid_px": "best_bid_price", "bid_sz": "best_bid_amount",
        "ask_px": "best_ask_price", "ask_sz": "best_ask_amount",
    },
):  # fmt: skip
    symbol: Symbol
    timestamp: Millis
    bid_px: float | None
    bid_sz: float | None
    ask_px: float | None
    ask_sz: float | None


class _Trade(msgspec.Struct, frozen=True, rename={"symbol": "instrument_name"}):
    symbol: Symbol
    trade_seq: Number
    timestamp: Millis
    price: float
    amount: float
    direction: Literal["buy", "sell"]


class _Instrument(msgspec.Struct, frozen=True, rename={"symbol": "instrument_name"}):
    symbol: Symbol
    tick_size: float
    min_trade_amount: float
    quote_currency: str = ""


class _Params(msgspec.Struct, frozen=True):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Message(msgspec.Struct, frozen=True):
    jsonrpc: str
    method: str = ""
    params: _Params | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


_Change = tuple[Literal["new", "change", "delete"], float, float]

_message: Final = msgspec.json.Decoder(_Message).decode
_book: Final = msgspec.json.Decoder(_Book).decode
_changes: Final = msgspec.json.Decoder(list[_Change]).decode
_levels: Final = msgspec.json.Decoder(list[Level]).decode
_touch: Final = msgspec.json.Decoder(_Touch).decode
_trades: Final = msgspec.json.Decoder(list[_Trade]).decode
_instruments: Final = msgspec.json.Decoder(list[_Instrument]).decode


class Deribit(Venue):
    """Deribit's futures, perpetuals and options."""

    name: ClassVar = "deribit"
    hosts: ClassVar = ("deribit.com",)
    signs: ClassVar = (b'"jsonrpc":"2.0"',)

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        message = _message(payload)
        if message.method == "heartbeat":
            return "heartbeat"
        if message.method != "subscription" or message.params is None:
            return _listings(bytes(message.result))
        channel, data = message.params.channel.partition(".")[0], message.params.data
        if channel == "book":
            return [_depth(_book(data))]
        if channel in {"ticker", "quote"}:
            return [_top(_touch(data))]
        if channel == "trades":
            return [
                Print(
                    symbol=row.symbol, price=row.price, size=row.amount, number=row.trade_seq,
                    side=1 if row.direction == "buy" else -1, ts_event=row.timestamp * NS_PER_MS,
                )
                for row in sorted(_trades(data), key=lambda row: row.trade_seq)
            ]  # fmt: skip
        return "unknown_stream"

    def listing(self, symbol: str) -> Listing | None:
        """Return the steps of BTC and ETH contracts, for few prices of an option show its tick."""
        if found := _OPTION.fullmatch(symbol):
            tick, lot = 0.0001, _OPTION_LOT[found[1]]
            return Listing(
                symbol=symbol, tick_size=tick, lot_size=lot, quote=found[1], source=_DOCUMENTS
            )
        if found := _FUTURE.fullmatch(symbol):
            tick, lot = _FUTURE_STEPS[found[1]]
            return Listing(
                symbol=symbol, tick_size=tick, lot_size=lot, quote="USD", source=_DOCUMENTS
            )
        return None


def _depth(book: _Book) -> Event:
    ts = book.timestamp * NS_PER_MS
    if not book.type:
        return Snapshot(
            symbol=book.symbol, bids=_levels(book.bids), asks=_levels(book.asks),
            number=book.change_id, order=ts, ts_event=ts, is_unverified=True,
        )  # fmt: skip
    bids, asks = _side(book.bids), _side(book.asks)
    if book.type == "snapshot":
        return Snapshot(
            symbol=book.symbol, bids=bids, asks=asks, number=book.change_id, order=ts, ts_event=ts
        )
    if book.prev_change_id is None:
        raise msgspec.ValidationError("a change without prev_change_id")
    return Diff(
        symbol=book.symbol, bids=bids, asks=asks, number=book.change_id, order=ts, ts_event=ts,
        previous=book.prev_change_id,
    )  # fmt: skip


def _side(raw: msgspec.Raw) -> list[Level]:
    return [(px, 0.0 if action == "delete" else size) for action, px, size in _changes(raw)]


def _top(touch: _Touch) -> Touch:
    ts = touch.timestamp * NS_PER_MS
    return Touch(
        symbol=touch.symbol, bid_px=touch.bid_px or 0.0, bid_sz=touch.bid_sz or 0.0,
        ask_px=touch.ask_px or 0.0, ask_sz=touch.ask_sz or 0.0, order=ts, ts_event=ts,
    )  # fmt: skip


def _listings(result: bytes) -> Sequence[Event] | str:
    if not result.startswith(b"[{"):
        return "acknowledgement"
    return [
        Listing(
            symbol=row.symbol,
            tick_size=row.tick_size,
            lot_size=row.min_trade_amount,
            quote=row.quote_currency,
            source="Deribit public/get_instruments: tick_size, min_trade_amount",
        )
        for row in _instruments(result)
    ]
