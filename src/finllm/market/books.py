"""What the two keepers of books, `feed.Market` and `venue_feed.VenueFeed`, have in common.

Knows instruments, their views and counts, and how a gap is told; nothing of messages.
"""

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from numpy import int64
from numpy.typing import NDArray

from finllm.domain.instrument import Instrument
from finllm.domain.market import Frame, Gap
from finllm.market.checks import BookChecks, total
from finllm.market.instruments import InstrumentTable
from finllm.market.offset import ClockOffset
from finllm.runtime.tally import Tally

NO_ROW: Final = -1
MAX_HELD: Final = 4_096
"""Diffs held for one book while it waits for a snapshot; beyond that the oldest are dropped."""
MAX_STRANGE: Final = 64
"""Messages of an unlisted symbol held before its tick is guessed from whatever they showed."""
MAX_INSTRUMENTS: Final = 4_096
STALE_AFTER_NS: Final = 5_000_000_000


class KeptBook(Protocol):
    """One instrument's book, as far as both keepers agree."""

    instrument: Instrument
    view: NDArray[int64]
    checks: BookChecks
    is_valid: bool
    depth_source: int
    """The source that depth last came from, used or not; -1 before any came."""


class KeptSource(Protocol):
    """One feed or tape."""

    offset: ClockOffset


B = TypeVar("B", bound=KeptBook)
S = TypeVar("S", bound=KeptSource)


class BookKeeper(Generic[B, S]):
    """Books by the number of their instrument, and sources by the number in their frames.

    Args:
        tally: Where frames are counted.
        table: Listed instruments; others are inferred from their first messages.
        stale_after_ns: A silence longer than this puts STALE on the row that ends it.
        on_gap: Called with each Gap; without it they gather in `gaps`, for the caller to drain.
        place_of: Says where a frame stands; without it, by its source and receive time.
    """

    def __init__(
        self,
        tally: Tally,
        *,
        table: InstrumentTable | None = None,
        stale_after_ns: int = STALE_AFTER_NS,
        on_gap: Callable[[Gap], None] | None = None,
        place_of: Callable[[Frame], str] | None = None,
    ) -> None:
        self.instruments: list[Instrument] = []
        self.gaps: list[Gap] = []
        self._tally = tally
        self._table = table or InstrumentTable()
        self._stale_after_ns = stale_after_ns
        self._on_gap = on_gap or self.gaps.append
        self._place_of = place_of or _place
        self._books: list[B] = []
        self._sources: dict[int, S] = {}

    def view(self, index: int) -> NDArray[int64]:
        """Return an instrument's view, int64 [VIEW_SIZE], laid out as `BookView`; reused in place."""
        return self._books[index].view

    @property
    def checks(self) -> BookChecks:
        """Return the counts of comparisons over all books."""
        return total(book.checks for book in self._books)

    def checks_of(self, index: int) -> BookChecks:
        """Return one instrument's counts of comparisons."""
        return self._books[index].checks

    @property
    def offsets(self) -> dict[int, ClockOffset]:
        """Return the clock estimate of each source that has sent exchange times, by source index."""
        return {i: s.offset for i, s in sorted(self._sources.items()) if s.offset.n}

    def needs_snapshot(self, index: int) -> bool:
        """Return whether an instrument's depth is unusable until a new snapshot comes."""
        return not self._books[index].is_valid

    def wants_snapshot(self, index: int) -> bool:
        """Return whether an instrument's depth comes, but is unusable until a new snapshot does."""
        book = self._books[index]
        return not book.is_valid and book.depth_source >= 0

    def depth_source(self, index: int) -> int:
        """Return the source that an instrument's depth last came from; -1 before any came."""
        return self._books[index].depth_source

    def _tell_gap(self, book: B, frame: Frame, last: int, number: int, reason: str) -> None:
        self._on_gap(
            Gap(
                venue=book.instrument.venue,
                instrument=book.instrument.key,
                ts_recv=frame.ts_recv,
                from_sequence=last,
                to_sequence=number,
                reason=reason,
            )
        )


def _place(frame: Frame) -> str:
    return f"source {frame.source}, ts_recv {frame.ts_recv}"
