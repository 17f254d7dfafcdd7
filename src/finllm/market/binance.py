"""Binance's messages, decoded: combined-stream frames of spot, USD-M and COIN-M, and REST snapshots.

Knows field names and types, not books. Numbers written as strings become floats in the decoder, which
is where that is cheapest. Bounds keep every integer within 63 bits once times are in nanoseconds.

Source: Binance API documents, "WebSocket market streams" of the three markets (`<symbol>@depth`,
`@bookTicker`, `@trade`, `@aggTrade`, `@markPrice`) and "Order book" (`/depth`).
"""

from typing import Annotated, Final, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from finllm.market.sequence import NO_PREVIOUS
from finllm.market.venues.doorway import ANSWER, decode_answer

MAX_FRAME: Final = 1 << 20
"""Bytes; a snapshot of 5,000 levels a side takes about a quarter of it."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]
Symbol = Annotated[str, msgspec.Meta(min_length=2, max_length=32)]


class Depth(
    msgspec.Struct,
    frozen=True,
    rename={
        "kind": "e", "event_ms": "E", "transact_ms": "T", "symbol": "s", "pair": "ps",
        "first": "U", "final": "u", "previous": "pu", "bids": "b", "asks": "a",
    },
):  # fmt: skip
    """A diff: absolute sizes of the levels that changed, 0 = gone; levels unread (see `levels`)."""

    kind: Literal["depthUpdate"]
    event_ms: Millis
    symbol: Symbol
    first: Number
    final: Number
    bids: msgspec.Raw
    asks: msgspec.Raw
    previous: Annotated[int, msgspec.Meta(ge=NO_PREVIOUS, le=2**62)] = NO_PREVIOUS
    """Final number of the diff before; futures only."""
    transact_ms: Millis = 0
    pair: str = ""


class Touch(
    msgspec.Struct,
    frozen=True,
    gc=False,
    rename={
        "kind": "e", "event_ms": "E", "transact_ms": "T", "symbol": "s", "pair": "ps",
        "final": "u", "bid_px": "b", "bid_sz": "B", "ask_px": "a", "ask_sz": "A",
    },
):  # fmt: skip
    """Best bid and offer; on spot it carries neither its kind nor a time."""

    symbol: Symbol
    final: Number
    bid_px: float
    bid_sz: float
    ask_px: float
    ask_sz: float
    kind: Literal["bookTicker", ""] = ""
    event_ms: Millis = 0
    transact_ms: Millis = 0
    pair: str = ""


class Print(
    msgspec.Struct,
    frozen=True,
    gc=False,
    rename={
        "kind": "e", "event_ms": "E", "transact_ms": "T", "symbol": "s", "number": "t",
        "price": "p", "size": "q", "is_buyer_maker": "m", "spot_mark": "M",
    },
):  # fmt: skip
    """A trade."""

    kind: Literal["trade"]
    event_ms: Millis
    transact_ms: Millis
    symbol: Symbol
    number: Number
    price: float
    size: float
    is_buyer_maker: bool
    spot_mark: bool | None = None
    """A field without meaning that only spot sends."""


class Aggregate(
    msgspec.Struct,
    frozen=True,
    gc=False,
    rename={
        "kind": "e", "event_ms": "E", "transact_ms": "T", "symbol": "s", "number": "l",
        "price": "p", "size": "q", "is_buyer_maker": "m", "spot_mark": "M",
    },
):  # fmt: skip
    """One order's trades at one price, numbered by the last of them, so that no trade counts twice."""

    kind: Literal["aggTrade"]
    event_ms: Millis
    transact_ms: Millis
    symbol: Symbol
    number: Number
    price: float
    size: float
    is_buyer_maker: bool
    spot_mark: bool | None = None


class Mark(
    msgspec.Struct,
    frozen=True,
    gc=False,
    rename={"kind": "e", "event_ms": "E", "symbol": "s", "price": "p"},
):
    """A mark price; futures only."""

    kind: Literal["markPriceUpdate"]
    event_ms: Millis
    symbol: Symbol
    price: float


class Snapshot(
    msgspec.Struct,
    frozen=True,
    rename={"update": "lastUpdateId", "event_ms": "E", "transact_ms": "T"},
):
    """A REST depth snapshot, levels unread. Spot states no time; only COIN-M states the symbol."""

    update: Number
    bids: msgspec.Raw
    asks: msgspec.Raw
    event_ms: Millis = 0
    transact_ms: Millis = 0
    symbol: str = ""
    pair: str = ""


class DepthFrame(msgspec.Struct, frozen=True):
    """A diff in a combined stream."""

    data: Depth


class TouchFrame(msgspec.Struct, frozen=True, gc=False):
    """A best bid and offer in a combined stream."""

    data: Touch


class PrintFrame(msgspec.Struct, frozen=True, gc=False):
    """A trade in a combined stream."""

    data: Print


class AggregateFrame(msgspec.Struct, frozen=True, gc=False):
    """Aggregated trades in a combined stream."""

    data: Aggregate


class MarkFrame(msgspec.Struct, frozen=True, gc=False):
    """A mark price in a combined stream."""

    data: Mark


decode_depth: Final = msgspec.json.Decoder(DepthFrame, strict=False).decode
decode_touch: Final = msgspec.json.Decoder(TouchFrame, strict=False).decode
decode_print: Final = msgspec.json.Decoder(PrintFrame, strict=False).decode
decode_aggregate: Final = msgspec.json.Decoder(AggregateFrame, strict=False).decode
decode_mark: Final = msgspec.json.Decoder(MarkFrame, strict=False).decode
decode_snapshot: Final = msgspec.json.Decoder(Snapshot, strict=False).decode


def decode_any_snapshot(payload: bytes) -> Snapshot:
    """Return a snapshot, bare or as the answer to a request, whose address then names the symbol."""
    if not payload.startswith(ANSWER):
        return decode_snapshot(payload)
    answer = decode_answer(payload)
    event = decode_snapshot(answer.data)
    try:
        named = parse_qs(urlsplit(answer.url).query).get("symbol", [""])[0]
    except ValueError as error:  # brackets that hold no address, or too many fields
        raise msgspec.ValidationError(f"no address: {error}") from error
    return msgspec.structs.replace(event, symbol=event.symbol or named[:32])


def fault(error: Exception) -> str:
    """Return the reason for which a message that did not decode is dropped."""
    if isinstance(error, msgspec.ValidationError):
        return "unknown_event" if "`$.data.e`" in str(error) else "bad_fields"
    return "bad_utf8" if isinstance(error, UnicodeDecodeError) else "bad_json"


def written_numbers(payload: bytes) -> tuple[list[str], list[str]]:
    """Return (prices, sizes) of one message as they are written, for guessing tick and lot.

    The message has been decoded, but fields that its kind does not have may hold anything.

    Raises:
        msgspec.DecodeError: If such a field cannot be read at all.
    """
    frame = msgspec.json.decode(payload)
    body = frame.get("data")
    body = body if isinstance(body, dict) else frame
    single = [[body.get(px), body.get(sz)] for px, sz in (("p", "q"), ("b", "B"), ("a", "A"))]
    sides = [body.get(side) for side in ("b", "a", "bids", "asks")]
    rows = single + [row for side in sides if isinstance(side, list) for row in side]
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2]
    shown = [row for row in pairs if all(isinstance(x, str | int | float) for x in row)]
    return [str(px) for px, _ in shown], [str(sz) for _, sz in shown]
