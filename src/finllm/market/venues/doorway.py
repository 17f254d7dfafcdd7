"""The doorway of a venue: what its one file provides, and the records that it speaks in.

A venue's file subclasses `Venue`: it says which hosts and which bytes are its own, and turns one message
into the records below. It keeps no book and judges no continuity: it writes the venue's rule into the
records (`previous`, `checksum`, `Connection`), and `venue_feed` holds every venue to what they say.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final

import msgspec

from finllm.domain.units import NS_PER_S, to_ns

NO_PREVIOUS: Final = -1
"""A stream that does not say which update came before."""
MAX_PLACES: Final = 18
_LATEST_NS: Final = 2**62

Level = tuple[float, float]
"""Price and size."""
Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=4_000_000_000_000)]
Micros = Annotated[int, msgspec.Meta(ge=0, le=4_000_000_000_000_000)]
Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=48)]


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot and a diff have in common."""

    symbol: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    number: int = 0
    """The update's own number; 0 = the venue gives none."""
    order: int = 0
    """Place in the order that the venue's touches share; 0 = not comparable with them."""
    ts_event: int = 0
    """Exchange time, ns; 0 = not stated."""
    checksum: int | None = None
    """What `Venue.checksum` must give once this has been applied; None = not sent."""
    places: tuple[int, int] = (0, 0)
    """Decimals with which prices and sizes are written, where the checksum needs them."""
    depth: int = 0
    """Levels a side that the subscription covers, deeper ones being dead; 0 = the venue deletes them."""
    is_unverified: bool = False
    """Nothing in the stream would betray a lost message."""


class Snapshot(Depth, frozen=True, kw_only=True):
    """A whole book; it replaces the one before."""

    is_answer: bool = False
    """Asked for beside the stream: diffs that came before it may be newer."""


class Diff(Depth, frozen=True, kw_only=True):
    """Levels that changed, with their new absolute sizes; 0 = gone."""

    previous: int = NO_PREVIOUS
    """Number of the update that must have been applied last."""


class Touch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The venue's best bid and offer. A price of 0 says that the side is empty."""

    symbol: str
    bid_px: float
    ask_px: float
    bid_sz: float = 0.0
    """0 = not sent."""
    ask_sz: float = 0.0
    order: int = 0
    """Equal to the `order` of the depth that it is the top of; 0 = not comparable."""
    ts_event: int = 0


class Print(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trade."""

    symbol: str
    price: float
    size: float
    side: int
    """Aggressor: +1 buyer, -1 seller."""
    number: int = 0
    """Growing within the symbol; 0 = the venue gives none."""
    ts_event: int = 0


class Connection(msgspec.Struct, frozen=True, gc=False):
    """The number of a message among all messages of its connection, one by one from 0."""

    number: int


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue says of an instrument; it counts for symbols that have no book yet."""

    symbol: str
    tick_size: float
    lot_size: float
    contract_multiplier: float = 1.0
    quote: str = ""
    source: str


Event = Snapshot | Diff | Touch | Print | Connection | Listing

Side = Sequence[tuple[int, int]]
"""Prices in units of the last written decimal and sizes likewise, best first."""


class Venue:
    """One venue. Decoding is a pure function of the message."""

    name: ClassVar[str]
    """Lower case; the instruments' venue."""
    hosts: ClassVar[tuple[str, ...]]
    """Ends of the host names that speak this protocol."""
    signs: ClassVar[tuple[bytes, ...]]
    """Bytes found in this venue's messages and in no other's; spaces are taken out before the look."""
    holds_diffs: ClassVar[bool] = False
    """Whether snapshots have to be asked for, so that diffs wait for them."""
    checksum_levels: ClassVar[int] = 0
    """Levels a side that `checksum` covers."""

    def decode(self, payload: bytes) -> Sequence[Event] | str:
        """Return a message's events, or the reason why it has none.

        Args:
            payload: UTF-8; an answer to a request is wrapped as `Answer`.

        Raises:
            msgspec.DecodeError: If it is not JSON or lacks what its kind must have.
            ValueError: If a value cannot be what it stands for.
        """
        raise NotImplementedError

    def listing(self, symbol: str) -> Listing | None:
        """Return what the venue's documents fix for a symbol; None to infer it from the messages."""
        del symbol
        return None

    def checksum(self, bids: Side, asks: Side, places: tuple[int, int]) -> int:
        """Return the checksum of a book's best `checksum_levels`."""
        raise NotImplementedError


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request over HTTP, as recordings carry it: `{"url": ..., "data": ...}`."""

    url: str
    data: msgspec.Raw


ANSWER: Final = b'{"url":'
"""How an `Answer` begins."""
decode_answer: Final = msgspec.json.Decoder(Answer).decode


def ns_of_iso(text: str) -> int:
    """Return an ISO 8601 time in UTC (`2021-04-17T16:43:37.075687Z`) in ns; up to nine decimals count.

    Raises:
        ValueError: If it is none, states another zone, or lies before 1970.
    """
    whole, _, rest = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(whole)
    if moment.tzinfo is not None:
        raise ValueError(f"a time with an offset: {text[:48]!r}")
    return _within(to_ns(moment.replace(tzinfo=UTC)) + _fraction(rest))


def ns_of_seconds(text: str) -> int:
    """Return seconds since the epoch, written with decimals, in ns.

    Raises:
        ValueError: If it is no plain decimal.
    """
    whole, _, rest = text.partition(".")
    if not whole.isdecimal():
        raise ValueError(f"no time: {text[:32]!r}")
    return _within(int(whole[:20]) * NS_PER_S + _fraction(rest))


def _fraction(digits: str) -> int:
    if digits and not digits.isdecimal():
        raise ValueError(f"no decimals: {digits[:32]!r}")
    return int(digits[:9].ljust(9, "0"))


def _within(ts: int) -> int:
    if not 0 <= ts <= _LATEST_NS:
        raise ValueError("a time outside 1970 to 2116")
    return ts


def places_of(text: str) -> int:
    """Return how many decimals a number is written with, trailing zeros included; 18 at most."""
    return min(len(text.partition(".")[2]), MAX_PLACES)


def is_whole(kind: str, *, whole: str, change: str) -> bool:
    """Return whether a message is a whole book, by the word that says so.

    Raises:
        ValueError: If it is neither; a guess would make a book of a few changed levels.
    """
    if kind not in {whole, change}:
        raise ValueError(f"neither {whole} nor {change}: {kind[:32]!r}")
    return kind == whole
