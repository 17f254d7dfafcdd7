"""The doorway of a source: a message as it came, taken apart into items. Knows no socket and no clock."""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from finllm.narrative.sources.rows import Unusable


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One text in a message, as the source states it. Nothing here is checked yet."""

    text: str
    title: str = ""
    """Stands above the text, unless the text begins with it."""
    published: str = ""
    """As the source writes it: ISO 8601 or RFC 2822, or a date alone; empty = `published_ns` says it."""
    published_ns: int = 0
    """Nanoseconds since the epoch; 0 = `published` says it."""
    key: str = ""
    """The source's own name for it: the same key with another text is an edit."""
    outlet: str = ""
    """Who said it, where the source passes on what others say."""
    lang: str = ""
    """ISO 639-1; empty where the source states none."""
    symbols: tuple[str, ...] = ()
    author: str = ""
    followers: int = 0
    is_repost: bool = False
    flags: tuple[str, ...] = ()
    """What the source noticed about it, such as `assumed_time`."""


class Source(Protocol):
    """Reads one kind of message. An implementation takes no arguments and keeps no state."""

    @property
    def zone(self) -> str:
        """IANA zone of times that state none; empty = UTC, and the document is flagged."""
        ...

    def samples(self) -> tuple[bytes, ...]:
        """Return messages that it reads: each gives at least one dated document and no refusal."""
        ...

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield what is in a message, in the order in which it stands there.

        Args:
            payload: One message, already unpacked and no longer than the reader allows.

        Raises:
            Unusable: If the rest of the message cannot be read; what came before it counts.
        """
        ...
