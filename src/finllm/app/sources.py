"""The text sources of a live run: polled ones and newswires' sockets, journalled raw, then read.

Sockets are the market feed's own kind, in a feed apart. What came is journalled before it is taken apart;
a message of many items is handed on a few at a time, so that frames never wait long for it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from finllm.app.feed import Feed
from finllm.app.plugins import source_maker
from finllm.app.polling import PollCounts, Polls
from finllm.app.settings import SourceSettings
from finllm.domain.errors import SettingsError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.units import NS_PER_S
from finllm.market.connection import SIGN
from finllm.market.streams import Stream
from finllm.narrative.sources.reading import Message, SourceReader
from finllm.runtime.clock import Clock
from finllm.runtime.tally import Tally

AT_ONCE: Final = 32
"""Documents handed on in one turn."""
_PLACE: Final = "[[source]]"
_SOCKETS: Final = ("ws", "wss")
_POLLED: Final = ("http", "https")
_WAITING: Final = 10_000
"""Messages of sockets that may wait."""


def check_sources(sources: tuple[SourceSettings, ...]) -> None:
    """See that the settings' sources can be opened.

    Raises:
        SettingsError: If a name is taken twice, an address cannot be asked, or a kind is not known.
    """
    names: set[str] = set()
    for number, one in enumerate(sources, start=1):
        place = f"{_PLACE} number {number} ({one.name})"
        if one.name in names:
            raise SettingsError("the name is taken twice", place=place, mend="Give it its own.")
        names.add(one.name)
        parts = urlsplit(one.url)
        if parts.scheme not in (*_SOCKETS, *_POLLED) or not parts.netloc:
            raise SettingsError(
                "url is neither http(s):// nor ws(s)://",
                place=place,
                mend="Write its whole address.",
            )
        if (parts.hostname or "").endswith("sec.gov") and "@" not in one.user_agent:
            raise SettingsError(
                "the SEC refuses requests that do not say who asks",
                place=place,
                mend='Write user_agent = "Your Name your@address".',
            )
        source_maker(one.kind, place)


def reader_of(settings: SourceSettings, tally: Tally) -> SourceReader:
    """Return the reader of a source's messages.

    Raises:
        SettingsError: If its kind is not known.
    """
    make = source_maker(settings.kind, f"{_PLACE} {settings.name}")
    return SourceReader(
        settings.name,
        make(),
        tally,
        zone=settings.zone,
        most_bytes=int(settings.max_mb * 1e6),
    )


class Sources:
    """All text sources of a run. Use it as a context manager.

    Args:
        sources: From the settings.
        tally: Counts documents read and refused.
        clock: Source of receive times.
        journal: Takes each message before it is read.

    Raises:
        SettingsError: If a source cannot be opened.
    """

    def __init__(
        self,
        sources: tuple[SourceSettings, ...],
        *,
        tally: Tally,
        clock: Clock,
        journal: Callable[[Message], None],
    ) -> None:
        check_sources(sources)
        self._journal = journal
        self._readers = {one.name: reader_of(one, tally) for one in sources}
        polled = [one for one in sources if urlsplit(one.url).scheme in _POLLED]
        self._on_sockets = [one for one in sources if urlsplit(one.url).scheme in _SOCKETS]
        self._polls = Polls(polled, clock=clock)
        self._feed = _socket_feed(self._on_sockets, clock) if self._on_sockets else None
        self._left: Iterator[Document | Refusal] | None = None
        self._sent: deque[Message] = deque()

    def __enter__(self) -> Self:
        self._polls.__enter__()
        if self._feed is not None:
            self._feed.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; what has come can still be read."""
        self._polls.close()
        if self._feed is not None:
            self._feed.close()

    def read(self, most: int = AT_ONCE) -> Iterator[Document | Refusal]:
        """Yield what has come, at most so many; the rest of a message comes with the next call."""
        for _ in range(most):
            made = self._next()
            if made is None:
                return
            yield made

    def _next(self) -> Document | Refusal | None:
        while True:
            if self._left is None:
                message = self._take()
                if message is None:
                    return None
                self._journal(message)
                self._left = self._readers[message.source].read(message)
            made = next(self._left, None)
            if made is not None:
                return made
            self._left = None

    def _take(self) -> Message | None:
        if not self._sent and self._feed is not None:
            for frame in self._feed.take(AT_ONCE):
                if not frame.payload.startswith(SIGN):  # the feed's own word on its connection
                    name = self._on_sockets[frame.source].name
                    self._sent.append(
                        Message(source=name, ts_recv=frame.ts_recv, payload=frame.payload)
                    )
        return self._sent.popleft() if self._sent else self._polls.take()

    @property
    def counts(self) -> dict[str, PollCounts]:
        """Return what happened to each polled source; sockets are counted together, as `sockets`."""
        found = self._polls.counts
        if self._feed is not None:
            told = self._feed.counts
            found["sockets"] = PollCounts(
                polls=told.connects,
                failures=told.downs + told.failed_connects,
                last_failure=self._feed.last_failure,
            )
        return found

    @property
    def offsets_s(self) -> dict[str, float]:
        """Return, by source, the least recent delay from stamp to receipt, in seconds."""
        return {name: one.clock.offset_ns / NS_PER_S for name, one in self._readers.items()}

    @property
    def last_failure(self) -> str:
        """Return why some source failed the last time."""
        return next((c.last_failure for c in self.counts.values() if c.last_failure), "")


def _socket_feed(sources: list[SourceSettings], clock: Clock) -> Feed:
    streams = [
        Stream(venue="text", prefix="", url=one.url, hello=one.hello, symbols=(), snapshots={})
        for one in sources
    ]
    patience = max(one.reconnect_after_s for one in sources)
    return Feed(
        streams,
        reconnect_after_s=patience,
        silent_ns=int(patience * NS_PER_S),  # a newswire may have nothing to say for long
        max_waiting=_WAITING,
        clock=clock,
    )


def clamped(made: Document | Refusal, latest: int, tally: Tally) -> Document | Refusal:
    """Return a document as received no earlier than the last one that was handed on."""
    if made.ts_recv >= latest:
        return made
    tally.note("clamped", made.place if isinstance(made, Refusal) else made.document_id)
    return msgspec.structs.replace(made, ts_recv=latest)
