"""Bitstamp v2: `diff_order_book`, `order_book`, `live_trades`, and the REST order book.

Continuity: none; messages carry a time in microseconds, which orders them, but a loss does not show:
UNVERIFIED. Diffs need the REST order book to start from, and those newer than it are applied after it.
`order_book` sends the whole best hundred levels.

Source: www.bitstamp.net/websocket/v2 and www.bitstamp.net/api, "Order book", "Trading pairs info".
Captured in 2022: diff_order_book, live_trades, REST order book; the rest untested live.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec

from finllm.domain.units import NS_PER_US
from finllm.market.venues.doorway import (
    ANSWER,
    Answer,
    Diff,
    Event,
    Level,
    Listing,
    Micros,
    Number,
    Print,
    Snapshot,
    Symbol,
    Venue,
    decode_answer,
)


class _Book(msgspec.Struct, frozen=True):
    microtimestamp: Micros
    bids: list[Level]
    asks: list[Level]


class _Trade(msgspec.Struct, frozen=True):
    id: Number
    amount: float
    price: float
    type: Literal[0, 1]
    microtimestamp: Micros


class _Pair(msgspec.Struct, frozen=True):
    url_symbol: Symbol
    name: str
    base_decimals: int
    counter_decimals: int


class _Message(msgspec.Struct, frozen=True):
    event: str
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_message: Final = msgspec.json.Decoder(_Message).decode
_book: Final = msgspec.json.Decoder(_Book, strict=False).decode
_trade: Final = msgspec.json.Decoder(_Trade, strict=False).decode
_pairs: Final = msgspec.json.Decoder(list[_Pair]).decode


class Bitstamp(Venue):
    """Bitstamp's spot market."""

    name: ClassVar = "bitstamp"
    hosts: ClassVar = ("bitstamp.net",)
    signs: ClassVar = (
        b'"event":"bts:', b'"channel":"diff_order_book_', b'"channel":"order_book_',
        b'"channel":"live_trades_', b'"microtimestamp":"',
    )  # fmt: skip
    holds_diffs: ClassVar = True

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        if payload.startswith(ANSWER):
            return _answered(decode_answer(payload))
        message = _message(payload)
        if message.event.startswith("bts:"):
            return "heartbeat" if message.event == "bts:heartbeat" else "acknowledgement"
        stream, _, symbol = message.channel.rpartition("_")
        if stream == "diff_order_book":
            return [_diff(symbol, _book(message.data))]
        if stream == "order_book":
            return [_snapshot(symbol, _book(message.data), is_answer=False)]
        if stream == "live_trades":
            row = _trade(message.data)
            return [
                Print(
                    symbol=_checked(symbol), price=row.price, size=row.amount, number=row.id,
                    side=1 if row.type == 0 else -1, ts_event=row.microtimestamp * NS_PER_US,
                )
            ]  # fmt: skip
        return "unknown_stream"


def _snapshot(symbol: str, book: _Book, *, is_answer: bool) -> Snapshot:
    return Snapshot(
        symbol=_checked(symbol), bids=book.bids, asks=book.asks, number=book.microtimestamp,
        order=book.microtimestamp, ts_event=book.microtimestamp * NS_PER_US,
        is_answer=is_answer, is_unverified=True,
    )  # fmt: skip


def _diff(symbol: str, book: _Book) -> Diff:
    return Diff(
        symbol=_checked(symbol), bids=book.bids, asks=book.asks, number=book.microtimestamp,
        order=book.microtimestamp, ts_event=book.microtimestamp * NS_PER_US, is_unverified=True,
    )  # fmt: skip


def _checked(symbol: str) -> str:
    if not 1 <= len(symbol) <= 48:
        raise ValueError("a channel without a pair")
    return symbol


def _answered(answer: Answer) -> Sequence[Event] | str:
    parts = urlsplit(answer.url).path.strip("/").split("/")
    if len(parts) >= 2 and parts[-2] == "order_book":
        return [_snapshot(parts[-1], _book(answer.data), is_answer=True)]
    if parts[-1] == "trading-pairs-info":
        return [_listing(pair) for pair in _pairs(answer.data)]
    return "unknown_stream"


def _listing(pair: _Pair) -> Listing:
    return Listing(
        symbol=pair.url_symbol,
        tick_size=round(10.0 ** -min(max(pair.counter_decimals, 0), 12), 12),
        lot_size=round(10.0 ** -min(max(pair.base_decimals, 0), 12), 12),
        quote=pair.name.partition("/")[2],
        source="Bitstamp GET /api/v2/trading-pairs-info: counter_decimals, base_decimals",
    )
