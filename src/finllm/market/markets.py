"""Whose messages a recording holds, and the books of several recordings under one roof.

A venue is known because it is stated, because the recording names its host, or because its first messages
carry a venue's signs; where none of these tells, that is an error. To add a venue: its file, and its name
in `VENUES`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
from numpy import int64
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.domain.instrument import Instrument
from finllm.domain.market import Frame, Gap
from finllm.market.books import NO_ROW
from finllm.market.capture import TICKS, Recording
from finllm.market.checks import BookChecks, total
from finllm.market.feed import Market
from finllm.market.instruments import US_SPOT
from finllm.market.offset import ClockOffset
from finllm.market.venue_feed import VenueFeed
from finllm.market.venues.bitstamp import Bitstamp
from finllm.market.venues.bybit import Bybit
from finllm.market.venues.coinbase import Coinbase
from finllm.market.venues.deribit import Deribit
from finllm.market.venues.doorway import Venue
from finllm.market.venues.hyperliquid import Hyperliquid
from finllm.market.venues.kraken import Kraken
from finllm.market.venues.normalised import Normalised, UsEquity
from finllm.market.venues.okx import Okx
from finllm.runtime.tally import Tally

VENUES: Final[tuple[type[Venue], ...]] = (
    Bitstamp, Bybit, Coinbase, Deribit, Hyperliquid, Kraken, Normalised, Okx, UsEquity,
)  # fmt: skip
BINANCE: Final = "binance"
_BINANCE_HOSTS: Final = {
    US_SPOT: ("binance.us",),
    BINANCE: ("binance.com", "binance.vision", "binancefuture.com"),
}
_BINANCE_SIGNS: Final = (b'"stream":"', b'{"lastUpdateId":', b'"e":"depthUpdate"')
NAMES: Final = tuple(sorted((BINANCE, US_SPOT, *(venue.name for venue in VENUES))))


class Books(Protocol):
    """What keeps books, whatever the venue: `Market`, `VenueFeed`, `Markets`."""

    is_single: bool
    gaps: list[Gap]

    @property
    def instruments(self) -> list[Instrument]: ...  # noqa: D102 - as in `Market`

    @property
    def checks(self) -> BookChecks: ...  # noqa: D102

    @property
    def offsets(self) -> dict[int, ClockOffset]: ...  # noqa: D102

    def push(self, frame: Frame) -> int: ...  # noqa: D102

    def more(self) -> int: ...  # noqa: D102

    def view(self, index: int) -> NDArray[int64]: ...  # noqa: D102

    def checks_of(self, index: int) -> BookChecks: ...  # noqa: D102

    def needs_snapshot(self, index: int) -> bool: ...  # noqa: D102

    def wants_snapshot(self, index: int) -> bool: ...  # noqa: D102

    def depth_source(self, index: int) -> int: ...  # noqa: D102

    def finish(self) -> None: ...  # noqa: D102


def venue_of(recording: Recording, stated: str = "") -> str:
    """Return the name of the venue whose messages a recording holds.

    Args:
        recording: What the file's first lines show.
        stated: The venue's name, if somebody says it.

    Raises:
        InputError: If the stated name is unknown, or nothing tells whose they are.
    """
    if stated:
        if stated not in NAMES:
            raise InputError(
                f"no venue is called {stated!r}", place="--venue", mend=f"Known: {_known()}."
            )
        return stated
    if recording.form == TICKS:
        return UsEquity.name
    if recording.host:
        return _by_host(recording)
    if not recording.first:
        return (
            BINANCE  # nothing to decode either way; the reader counts what is wrong with the file
        )
    found = Counter(name for message in recording.first for name in _signed(message))
    ranked = found.most_common(2)
    if not ranked and recording.form == "tape":
        return (
            BINANCE  # the form is ours, and nothing contradicts; what it cannot decode is counted
        )
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        raise InputError(
            "its messages show no venue that we know",
            place=str(recording.path),
            mend=f"Say whose they are with --venue NAME; known: {_known()}.",
        )
    return ranked[0][0]


def _known() -> str:
    return ", ".join(NAMES)


def _by_host(recording: Recording) -> str:
    hosts = [*_BINANCE_HOSTS.items(), *((venue.name, venue.hosts) for venue in VENUES)]
    for name, ends in hosts:
        if any(f".{recording.host}".endswith(f".{end}") for end in ends):
            return name
    raise InputError(
        f"no venue that we know is at {recording.host}",
        place=str(recording.path),
        mend=f"If it speaks the protocol of one, say which with --venue NAME; known: {_known()}.",
    )


def _signed(message: bytes) -> list[str]:
    """Return the venues whose signs a message carries."""
    text = message.replace(b" ", b"")
    signs = [(BINANCE, _BINANCE_SIGNS), *((venue.name, venue.signs) for venue in VENUES)]
    return [name for name, own in signs if any(sign in text for sign in own)]


Place = Callable[[Frame], str]
"""Says where a frame stands."""


def open_market(names: Sequence[str], tally: Tally, place_of: Place | None = None) -> Books:
    """Return books for recordings or feeds whose venues are named in the order of their source index.

    Args:
        names: A venue for each source; none stands for Binance.
        tally: Where frames are counted.
        place_of: Says where a frame stands; by its source and receive time when None.
    """
    kinds = list(dict.fromkeys(names)) or [BINANCE]
    if len(kinds) == 1:
        return _open(kinds[0], tally, None, place_of)
    return Markets(names, tally, place_of)


def _open(
    name: str, tally: Tally, on_gap: Callable[[Gap], None] | None, place_of: Place | None
) -> Books:
    if name == BINANCE:
        return Market(tally, on_gap=on_gap, place_of=place_of)
    if name == US_SPOT:
        return Market(tally, spot=US_SPOT, on_gap=on_gap, place_of=place_of)
    venue = next(venue for venue in VENUES if venue.name == name)
    return VenueFeed(venue(), tally, on_gap=on_gap, place_of=place_of)


class _Part(msgspec.Struct):
    """One venue's books and the index of each among all."""

    books: Books
    indices: list[int]


class Markets:
    """The books of several venues; each source's frames go to its own venue.

    Args:
        names: The venue of each source, in the order of the source index.
        tally: Where frames are counted.
        place_of: Says where a frame stands; by its source and receive time when None.
    """

    is_single = False

    def __init__(self, names: Sequence[str], tally: Tally, place_of: Place | None = None) -> None:
        self.gaps: list[Gap] = []
        self.instruments: list[Instrument] = []
        parts = {
            name: _Part(_open(name, tally, self.gaps.append, place_of), [])
            for name in dict.fromkeys(names)
        }
        self._parts = list(parts.values())
        self._by_source = [parts[name] for name in names]
        self._homes: list[tuple[Books, int]] = []
        self._busy = self._parts[0]

    @property
    def checks(self) -> BookChecks:
        """Return the counts of comparisons over all books."""
        return total(part.books.checks for part in self._parts)

    @property
    def offsets(self) -> dict[int, ClockOffset]:
        """Return the clock estimate of each source that has sent exchange times, by source index."""
        return dict(sorted(kv for part in self._parts for kv in part.books.offsets.items()))

    def push(self, frame: Frame) -> int:
        """Take in one frame; return the index of the instrument with a new row, else -1."""
        self._busy = self._by_source[frame.source]
        return self._index(self._busy.books.push(frame))

    def more(self) -> int:
        """Return the index of the instrument that has the frame's next row, else -1."""
        return self._index(self._busy.books.more())

    def view(self, index: int) -> NDArray[int64]:
        """Return an instrument's view, int64 [VIEW_SIZE], laid out as `BookView`; reused in place."""
        books, own = self._homes[index]
        return books.view(own)

    def checks_of(self, index: int) -> BookChecks:
        """Return one instrument's counts of comparisons."""
        books, own = self._homes[index]
        return books.checks_of(own)

    def needs_snapshot(self, index: int) -> bool:
        """Return whether an instrument's depth is unusable until a new snapshot comes."""
        books, own = self._homes[index]
        return books.needs_snapshot(own)

    def wants_snapshot(self, index: int) -> bool:
        """Return whether an instrument's depth comes, but is unusable until a new snapshot does."""
        books, own = self._homes[index]
        return books.wants_snapshot(own)

    def depth_source(self, index: int) -> int:
        """Return the source that an instrument's depth last came from; -1 before any came."""
        books, own = self._homes[index]
        return books.depth_source(own)

    def finish(self) -> None:
        """Settle what was left open, once the input has ended."""
        for part in self._parts:
            part.books.finish()
            self._enrol(part)

    def _index(self, own: int) -> int:
        if own == NO_ROW:
            return NO_ROW
        self._enrol(self._busy)
        return self._busy.indices[own]

    def _enrol(self, part: _Part) -> None:
        """Number the instruments that a venue has met since the last look."""
        for own in range(len(part.indices), len(part.books.instruments)):
            part.indices.append(len(self.instruments))
            self.instruments.append(part.books.instruments[own])
            self._homes.append((part.books, own))
