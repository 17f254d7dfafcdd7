"""Market records, the flags of a row, and the array layouts that cross from room to room.

The hot path passes arrays instead of records. `BookView` fields are offsets into one int64 array that
the market room fills and the features room reads; `ROW_HEAD` is the dtype of what is known of a
feature row beside its features.
"""

from enum import IntEnum, IntFlag
from typing import Final

import msgspec
import numpy as np


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message as bytes, with the time at which its last byte reached us."""

    ts_recv: int
    """Nanoseconds since the Unix epoch, our clock; never decreasing within a source."""
    payload: bytes
    """The message as it came."""
    source: int = 0
    """Index of the feed or tape that it came from."""
    line: int = 0
    """Line of that tape, from 1; 0 where it came from none."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of prices; nothing of it is known before `ts_recv`."""

    instrument: str
    """Instrument key."""
    ts_start: int
    """Start of the bar, ns UTC."""
    ts_recv: int
    """When the bar was complete and known to us, ns UTC."""
    open: float
    """First price, quote currency, adjusted for splits that had happened by then."""
    high: float
    low: float
    close: float
    volume: float
    """Units traded, adjusted like the price."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A break in a venue's numbering: the book is not to be trusted until it is rebuilt."""

    venue: str
    instrument: str
    ts_recv: int
    from_sequence: int
    """Last number that was applied."""
    to_sequence: int
    """First number seen after the break."""
    reason: str


class Flag(IntFlag):
    """What is known about the state behind a row."""

    VALID = 1
    """Book complete and continuous; the only flag on a good row."""
    WARMING = 2
    """Windows not yet full."""
    RESYNCING = 4
    """No trustworthy depth: before the first snapshot or after a gap."""
    STALE = 8
    """Nothing heard for longer than the stated time-out."""
    CROSSED = 16
    LOCKED = 32
    HALTED = 64
    UNVERIFIED = 128
    """The stream has no continuity rule."""
    ABSTAINED = 256
    """The model did not speak; climatology is served."""


class RowKind(IntEnum):
    """Which event made a row."""

    DEPTH = 1
    TOUCH = 2
    TRADE = 3
    BAR = 4


N_LEVELS: Final = 10
"""Levels a side in a book view."""


class BookView(IntEnum):
    """Offsets into the int64 view of one book after one event; levels best first.

    `BID_PX` and the other three start runs of `N_LEVELS` integers: prices in ticks, sizes in lots.
    Levels beyond `N_BIDS` or `N_ASKS` are zero.
    """

    KIND = 0
    FLAGS = 1
    TS_RECV = 2
    TS_EVENT = 3
    SEQ = 4
    TRADE_SIDE = 5
    TRADE_PX = 6
    TRADE_SZ = 7
    N_BIDS = 8
    N_ASKS = 9
    BID_PX = 10
    BID_SZ = 20
    ASK_PX = 30
    ASK_SZ = 40


VIEW_SIZE: Final = 50
"""Length of a book view, int64."""

ROW_HEAD: Final = np.dtype(
    [
        ("seq", np.int64),  # row sequence of this instrument, from 1
        ("ts_recv", np.int64),
        ("ts_event", np.int64),
        ("mid2", np.int64),  # twice the mid (bars: twice the close), in ticks; 0 = unknown
        ("spread", np.int64),  # ticks; 0 on bars
        ("flags", np.int32),
        ("kind", np.int32),
    ]
)
"""What is known of a feature row beside its features."""
