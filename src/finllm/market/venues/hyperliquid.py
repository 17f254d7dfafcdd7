"""Hyperliquid: `l2Book` (whole books), `bbo`, `trades`.

Continuity: none is needed and none is given. Each `l2Book` is the whole book, so a loss heals with the
next, but does not show: UNVERIFIED. `bbo` and book of one block carry the same time.

Source: hyperliquid.gitbook.io, "Websocket: subscriptions", "Info endpoint: meta", "Tick and lot size".
`bbo` and `meta` are from these, untested live.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, Literal

import msgspec

from finllm.domain.units import NS_PER_MS
from finllm.market.venues.doorway import (
    ANSWER,
    Event,
    Level,
    Listing,
    Millis,
    Print,
    Snapshot,
    Symbol,
    Touch,
    Venue,
    decode_answer,
)

_PERPETUAL_DECIMALS: Final = 6
"""Decimals of a perpetual's price and size together, at most."""


class _Row(msgspec.Struct, frozen=True, gc=False):
    px: float
    sz: float


class _Book(msgspec.Struct, frozen=True):
    coin: Symbol
    levels: tuple[list[_Row], list[_Row]]
    time: Millis


class _Best(msgspec.Struct, frozen=True):
    coin: Symbol
    time: Millis
    bbo: tuple[_Row | None, _Row | None]


class _Trade(msgspec.Struct, frozen=True):
    coin: Symbol
    side: Literal["A", "B"]
    px: float
    sz: float
    time: Millis


class _Asset(msgspec.Struct, frozen=True, rename="camel"):
    name: Symbol
    sz_decimals: int


class _Meta(msgspec.Struct, frozen=True):
    universe: list[_Asset]


class _Message(msgspec.Struct, frozen=True):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_message: Final = msgspec.json.Decoder(_Message).decode
_book: Final = msgspec.json.Decoder(_Book, strict=False).decode
_best: Final = msgspec.json.Decoder(_Best, strict=False).decode
_trades: Final = msgspec.json.Decoder(list[_Trade], strict=False).decode
_meta: Final = msgspec.json.Decoder(_Meta).decode


class Hyperliquid(Venue):
    """Hyperliquid's perpetuals and spot."""

    name: ClassVar = "hyperliquid"
    hosts: ClassVar = ("hyperliquid.xyz", "hyperliquid-testnet.xyz")
    signs: ClassVar = (
        b'"channel":"l2Book"', b'"channel":"bbo"', b'"channel":"trades","data":[{"coin"',
        b'"channel":"subscriptionResponse"',
    )  # fmt: skip

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none (see `Venue.decode`)."""
        if payload.startswith(ANSWER):
            return [_listing(row) for row in _meta(decode_answer(payload).data).universe]
        message = _message(payload)
        if message.channel == "l2Book":
            return [_snapshot(_book(message.data))]
        if message.channel == "bbo":
            return [_touch(_best(message.data))]
        if message.channel == "trades":
            return [
                Print(
                    symbol=row.coin, price=row.px, size=row.sz, side=1 if row.side == "B" else -1,
                    ts_event=row.time * NS_PER_MS,
                )
                for row in _trades(message.data)
            ]  # fmt: skip
        if message.channel == "pong":
            return "heartbeat"
        return "acknowledgement" if message.channel == "subscriptionResponse" else "unknown_stream"


def _snapshot(book: _Book) -> Snapshot:
    bids, asks = ([(row.px, row.sz) for row in side] for side in book.levels)
    ts = book.time * NS_PER_MS
    return Snapshot(
        symbol=book.coin, bids=bids, asks=asks, order=ts, ts_event=ts, is_unverified=True
    )


def _touch(best: _Best) -> Touch:
    (bid, bid_sz), (ask, ask_sz) = (_level(row) for row in best.bbo)
    ts = best.time * NS_PER_MS
    return Touch(
        symbol=best.coin,
        bid_px=bid,
        bid_sz=bid_sz,
        ask_px=ask,
        ask_sz=ask_sz,
        order=ts,
        ts_event=ts,
    )


def _level(row: _Row | None) -> Level:
    return (0.0, 0.0) if row is None else (row.px, row.sz)


def _listing(asset: _Asset) -> Listing:
    lot_decimals = min(max(asset.sz_decimals, 0), _PERPETUAL_DECIMALS)
    return Listing(
        symbol=asset.name,
        tick_size=round(10.0 ** -(_PERPETUAL_DECIMALS - lot_decimals), 8),
        lot_size=round(10.0**-lot_decimals, 8),
        quote="USD",
        source="Hyperliquid POST /info meta: szDecimals; tick = 10^-(6 - szDecimals)",
    )
