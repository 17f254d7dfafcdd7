"""What a live feed says of its own connection, in frames among the venue's.

They are journalled and replayed like any other frame, so that a replay breaks and doubts its books where
the live run did. The feed writes them; every kind of book listens.
"""

from typing import Final, Literal

import msgspec

SIGN: Final = b'{"connection":'
"""How such a frame begins."""


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """`down`: nothing more comes, and what was sent meanwhile is lost. `silent`: nothing came for long."""

    connection: Literal["down", "silent"]
    symbol: str = ""
    """Of a silence: the venue's symbol; empty where it is not known what the connection carries: then it is
    of every book whose depth came by it."""


decode_said: Final = msgspec.json.Decoder(Said).decode


def down() -> bytes:
    """Return the frame that says that a connection has ended."""
    return msgspec.json.encode(Said(connection="down"))


def silent(symbol: str = "") -> bytes:
    """Return the frame that says that nothing came, of a symbol or at all, for longer than the time-out."""
    return msgspec.json.encode(Said(connection="silent", symbol=symbol))


class FeedCounts(msgspec.Struct, kw_only=True):
    """What happened to the connections."""

    connects: int = 0
    downs: int = 0
    """Connections lost, or given up after a silence."""
    failed_connects: int = 0
    renewals: int = 0
    """Connections ended by us because a book was unusable and its snapshot comes by the stream alone."""
    silences: int = 0
    snapshots: int = 0
    failed_snapshots: int = 0
    refused_snapshots: int = 0
    """Requests answered with 429 or 418: that host is asked for nothing for as long as it says."""
    pauses: int = 0
    """Times that reading stopped because too many frames waited; none was lost by it."""
