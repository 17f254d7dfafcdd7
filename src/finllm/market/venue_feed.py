"""Every book that one venue's feeds carry, kept by what the venue's file says of each message.

Knows what to do with a snapshot, a diff, a touch and a trade, and how to hold each to its rule: linked
numbers, numbered connections, checksums. Knows no venue: see `venues.doorway`. (Binance has a road of
its own, `feed`, for speed.) A message of any content is used, held or dropped with a reason.
"""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import nlargest, nsmallest
from typing import Any, Final

import msgspec
import numpy as np

from finllm.domain.instrument import Instrument
from finllm.domain.market import VIEW_SIZE, BookView, Flag, Frame, Gap, RowKind
from finllm.domain.units import NS_PER_S
from finllm.market.book import (
    CAPACITY,
    LEVELS,
    MAX_LEVELS,
    QUIET,
    REASONS,
    ROW,
    Array,
    Cell,
    apply_diff,
    apply_snapshot,
    apply_touch,
    apply_trade,
    check_levels,
    depth_touch,
    fill_view,
    invalidate,
    new_book,
)
from finllm.market.books import (
    MAX_HELD,
    MAX_INSTRUMENTS,
    MAX_STRANGE,
    NO_ROW,
    STALE_AFTER_NS,
    BookKeeper,
)
from finllm.market.checks import BookChecks
from finllm.market.connection import SIGN, Said, decode_said
from finllm.market.instruments import ENOUGH_PRICES, InstrumentTable, infer, per_unit
from finllm.market.offset import ClockOffset
from finllm.market.sequence import Step
from finllm.market.venues.doorway import (
    NO_PREVIOUS,
    Connection,
    Depth,
    Diff,
    Event,
    Level,
    Listing,
    Print,
    Side,
    Snapshot,
    Touch,
    Venue,
)
from finllm.runtime.tally import Tally

MAX_FRAME: Final = 1 << 23
"""Bytes; full books of Coinbase take some MiB."""
MAX_PENDING: Final = 64
"""Touches held until the depth has passed their place; beyond that the oldest is given up."""
EXACT: Final = 2.0**53
"""Whole numbers of lots are exact in a float up to here, and the book takes no more."""
MAX_EVENTS: Final = 4_096
"""Events that one frame may hold: with more it would hold up every other instrument."""
MAX_SHOWN: Final = 4_096
"""Levels of a side, evenly spread, from which an unlisted symbol's steps are read."""
ROOM: Final = 16.0
RESTART_NS: Final = 5 * NS_PER_S
"""Old numbers with exchange times this far ahead mean that the venue numbers anew."""
FINEST: Final = 1e-18
COARSEST: Final = 1e12
"""Bounds of a step that is believed; with an endless one every price would be the same."""
_DEPTH_KIND: Final = int(RowKind.DEPTH)
_FLAGS: Final = int(BookView.FLAGS)
_UNVERIFIED: Final = int(Flag.UNVERIFIED)


class _Ticket:
    """One frame while its events are worked off; it ends as used or as dropped, once."""

    __slots__ = ("frame", "is_used", "n_open", "reason")

    def __init__(self, frame: Frame, n_open: int) -> None:
        self.frame = frame
        self.n_open = n_open
        self.is_used = False
        self.reason = ""


class _Book:
    """One instrument's book and everything that is kept beside it."""

    __slots__ = (
        "cells", "checks", "depth", "depth_source", "held", "index", "instrument", "is_placed",
        "is_unverified", "is_valid", "last", "last_ts", "odd", "order", "per_price", "per_size",
        "places", "sources", "touches", "trade_number", "trade_ts", "view",
    )  # fmt: skip

    def __init__(self, instrument: Instrument, index: int, cells: Array) -> None:
        self.instrument = instrument
        self.index = index
        self.cells = cells
        self.view = cells[:VIEW_SIZE]
        self.checks = BookChecks()
        self.per_price = per_unit(instrument.tick_size)
        self.per_size = per_unit(instrument.lot_size)
        self.is_valid = False
        self.is_unverified = True
        self.is_placed = True
        """Whether the touch that is laid says its own place; else our clock numbers it."""
        self.depth_source = -1
        self.last = 0
        """Number of the last snapshot or diff applied."""
        self.last_ts = 0
        self.order = 0
        self.depth = 0
        self.places = (0, 0)
        self.sources: set[int] = set()
        """Where the depth has come from since its last whole book."""
        self.held: deque[tuple[Diff, _Ticket]] = deque()
        self.touches: deque[Touch] = deque()
        self.trade_number = 0
        self.trade_ts = 0
        self.odd = 0


class _Stranger:
    """A symbol that nothing lists, until a whole book shows its steps or enough else has come."""

    def __init__(self) -> None:
        self.events: list[tuple[Event, _Ticket]] = []
        self.prices: dict[float, None] = {}
        self.sizes: dict[float, None] = {}

    def hear(self, event: Event, ticket: _Ticket) -> bool:
        """Hold an event; return whether enough is known now."""
        self.events.append((event, ticket))
        for price, size in _shown(event):
            self.prices[price] = None
            self.sizes[size] = None
        is_book = isinstance(event, Snapshot) and len(self.prices) >= ENOUGH_PRICES
        return is_book or len(self.events) >= MAX_STRANGE

    def forget_depth(self, source: int) -> list[_Ticket]:
        """Let go of the depth that a source has sent, because its numbering broke; return its tickets."""
        is_gone = [isinstance(e, Depth) and t.frame.source == source for e, t in self.events]
        gone = [ticket for (_, ticket), is_out in zip(self.events, is_gone, strict=True) if is_out]
        self.events = [row for row, is_out in zip(self.events, is_gone, strict=True) if not is_out]
        return gone


class _Source:
    """One feed or tape: its clock and its connection's last number."""

    __slots__ = ("last", "offset")

    def __init__(self) -> None:
        self.offset = ClockOffset()
        self.last = -1


class VenueFeed(BookKeeper[_Book, _Source]):
    """Every book carried by one venue's feeds, behind the same methods as `feed.Market`.

    A row is made by each applied snapshot and diff, by each trade, and by each touch that is newer than
    the depth. Rows of a stream without any continuity rule carry UNVERIFIED. A break (a number that does
    not link, a checksum that fails) records a Gap and makes the depth unusable until the next snapshot.

    Args:
        venue: The venue.
        tally: Where frames are counted.
        table: Listed instruments; what the venue lists itself comes first, the rest is inferred.
        stale_after_ns: A silence longer than this puts STALE on the row that ends it.
        on_gap: Called with each Gap; without it they gather in `gaps`, for the caller to drain.
        place_of: Says where a frame stands; without it, by its source and receive time.
    """

    is_single = False
    """Whether a frame makes at most one row, so that `more` need not be asked."""

    def __init__(
        self,
        venue: Venue,
        tally: Tally,
        *,
        table: InstrumentTable | None = None,
        stale_after_ns: int = STALE_AFTER_NS,
        on_gap: Callable[[Gap], None] | None = None,
        place_of: Callable[[Frame], str] | None = None,
    ) -> None:
        super().__init__(
            tally, table=table, stale_after_ns=stale_after_ns, on_gap=on_gap, place_of=place_of
        )
        self._venue = venue
        self._by_symbol: dict[str, _Book] = {}
        self._strangers: dict[str, _Stranger] = {}
        self._listings: dict[str, Listing] = {}
        self._levels = np.zeros((MAX_LEVELS, 2), dtype=np.float64)
        self._waiting: deque[tuple[Event, _Ticket]] = deque()
        self._silent: deque[tuple[_Book, _Ticket]] = deque()
        self._verbs: dict[type, Callable[[Any, _Ticket, _Book], int]] = {
            Snapshot: self._snapshot,
            Diff: self._diff,
            Touch: self._touch,
            Print: self._print,
        }

    def push(self, frame: Frame) -> int:
        """Take in one frame; never raises for its content.

        Returns:
            The index of the instrument whose view has a new row, else -1. A frame may make several
            rows: call `more` until it returns -1.
        """
        if frame.payload.startswith(SIGN):
            return self._hear(frame)
        events = self._decode(frame)
        if isinstance(events, str):
            self._tally.drop(events, self._place_of(frame))
            return NO_ROW
        ticket = _Ticket(frame, len(events))
        self._waiting.extend((event, ticket) for event in events)
        return self.more()

    def _hear(self, frame: Frame) -> int:
        """Hear what the feed says of the connection: a row for a silence, a gap a book for its end."""
        ticket = _Ticket(frame, 1)
        try:
            said = decode_said(frame.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._drop("bad_json", ticket)
        if said.connection == "down":
            source = self._source(frame)
            self._break_source(frame, source.last, 0, said.connection)
            source.last = -1
        else:
            silent = [book for book in self._books if self._is_about(said, book, frame)]
            ticket.n_open += len(silent)
            self._silent.extend((book, ticket) for book in silent)
        self._use(ticket)
        return self.more()

    @staticmethod
    def _is_about(said: Said, book: _Book, frame: Frame) -> bool:
        if said.symbol:
            return book.instrument.symbol == said.symbol.upper()
        return book.depth_source == frame.source

    def more(self) -> int:
        """Return the index of the instrument whose view has the frame's next row, else -1."""
        while self._silent:
            book, ticket = self._silent.popleft()
            fill_view(book.cells, _DEPTH_KIND, ticket.frame.ts_recv, self._when(ticket.frame, 0))
            return self._made(book, ticket)
        while self._waiting:
            index = self._take(*self._waiting.popleft())
            if index != NO_ROW:
                return index
        return NO_ROW

    def finish(self) -> None:
        """Settle what was left open, once the input has ended; may be called again."""
        for symbol in list(self._strangers):
            self._settle(symbol)
            while self.more() != NO_ROW:
                pass
        for book in self._books:
            self._drop_held(book, "no_snapshot")
            self._decide(book, at_end=True)

    # -- frames and their events -----------------------------------------------------------------

    def _decode(self, frame: Frame) -> Sequence[Event] | str:
        if len(frame.payload) > MAX_FRAME:
            return "oversize"
        try:
            frame.payload.decode()
            events = self._venue.decode(frame.payload) or "no_events"
        except UnicodeDecodeError:
            return "bad_utf8"
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            is_json = not isinstance(error, msgspec.DecodeError)
            return (
                "bad_fields"
                if is_json or isinstance(error, msgspec.ValidationError)
                else "bad_json"
            )
        except RecursionError:
            return "bad_json"
        return events if isinstance(events, str) or len(events) <= MAX_EVENTS else "too_many_events"

    def _take(self, event: Event, ticket: _Ticket) -> int:
        """Take in one event; return the index of the instrument with a new row, or NO_ROW."""
        if isinstance(event, Connection):
            return self._connection(event, ticket)
        if isinstance(event, Listing):
            return self._listing(event, ticket)
        book = self._by_symbol.get(event.symbol) or self._meet(event, ticket)
        if book is None:
            return NO_ROW
        if isinstance(event, Depth):
            book.depth_source = ticket.frame.source
        return self._verbs[type(event)](event, ticket, book)

    def _use(self, ticket: _Ticket) -> None:
        ticket.is_used = True
        self._close(ticket)

    def _drop(self, reason: str, ticket: _Ticket) -> int:
        ticket.reason = ticket.reason or reason
        if ticket.n_open > 1 or ticket.is_used:
            self._tally.note(f"{reason} (part of a frame)", self._place_of(ticket.frame))
        self._close(ticket)
        return NO_ROW

    def _close(self, ticket: _Ticket) -> None:
        ticket.n_open -= 1
        if ticket.n_open:
            return
        if ticket.is_used:
            self._tally.used += 1
        else:
            self._tally.drop(ticket.reason, self._place_of(ticket.frame))

    def _connection(self, event: Connection, ticket: _Ticket) -> int:
        """Check that no message of this connection is missing; drop one that was seen before."""
        source = self._source(ticket.frame)
        last, source.last = source.last, max(event.number, source.last)
        if last >= 0 and event.number == 0:
            source.last = 0
            self._break_source(ticket.frame, last, 0, "restart")
        elif last >= 0 and event.number <= last:
            while self._waiting and self._waiting[0][1] is ticket:
                self._waiting.popleft()
                self._drop("old_message", ticket)
            return self._drop("old_message", ticket)
        elif last >= 0 and event.number > last + 1:
            self._break_source(ticket.frame, last, event.number, "gap")
        self._use(ticket)
        return NO_ROW

    def _break_source(self, frame: Frame, last: int, number: int, reason: str) -> None:
        for book in self._books:
            if book.is_valid and frame.source in book.sources:
                self._break(book, frame, last, number, reason)
            elif any(ticket.frame.source == frame.source for _, ticket in book.held):
                self._drop_held(book, "gap")
            if reason != "gap" and book.depth_source == frame.source:
                book.cells[Cell.TOUCH_U] = 0  # touches may be numbered anew as well
        for stranger in self._strangers.values():
            for ticket in stranger.forget_depth(frame.source):
                self._drop("gap", ticket)

    def _listing(self, event: Listing, ticket: _Ticket) -> int:
        if not all(FINEST <= step <= COARSEST for step in (event.tick_size, event.lot_size)):
            return self._drop("bad_listing", ticket)
        self._listings[event.symbol] = event
        self._use(ticket)
        return NO_ROW

    # -- depth -----------------------------------------------------------------------------------

    def _snapshot(self, event: Snapshot, ticket: _Ticket, book: _Book) -> int:
        if event.is_answer and book.is_valid and event.number <= book.last:
            return self._drop("stale_snapshot", ticket)
        if self._is_old(book, event):
            return self._drop("old_snapshot", ticket)
        if self._is_short(book, event):
            return self._drop("unusable_diff", ticket)
        self._decide(book, event.order)
        n_bids, n, reason = self._load(event, book)
        if reason:
            if book.is_valid and not event.is_answer:  # the venue says that the book is another one
                self._break(book, ticket.frame, book.last, event.number, "unusable")
            return self._drop(reason, ticket)
        apply_snapshot(
            book.cells, self._levels, n_bids, n, event.order, book.per_price, book.per_size
        )
        book.is_valid = True
        book.depth = event.depth or book.depth
        self._advance(book, event, ticket.frame)
        self._catch_up(book, event)
        return self._row(book, event, ticket)

    @staticmethod
    def _is_old(book: _Book, event: Snapshot) -> bool:
        """Return whether a whole book was overtaken by a newer one of its stream."""
        if not book.is_valid or not event.is_unverified or event.is_answer:
            return False
        key, last = (event.number, book.last) if event.number else (event.ts_event, book.last_ts)
        return 0 < key < last and event.ts_event - book.last_ts <= RESTART_NS

    def _is_short(self, book: _Book, event: Snapshot) -> bool:
        """Return whether an answer needs a held diff that cannot be applied; a later one contains it."""
        return event.is_answer and any(
            diff.number > event.number and self._load(diff, book)[2] for diff, _ in book.held
        )

    def _catch_up(self, book: _Book, snapshot: Snapshot) -> None:
        """Apply the held diffs that an answer does not contain yet; they make no rows."""
        while book.held:
            diff, ticket = book.held.popleft()
            if not snapshot.is_answer or diff.number <= snapshot.number:
                self._drop("before_snapshot", ticket)
                continue
            if _step(book, diff) is not Step.APPLY:
                self._drop("old_diff", ticket)
                continue
            n_bids, n, _ = self._load(diff, book)
            self._decide(book, diff.order)
            self._apply(book, diff, n_bids, n)
            self._advance(book, diff, ticket.frame)
            self._use(ticket)

    def _diff(self, event: Diff, ticket: _Ticket, book: _Book) -> int:
        if not book.is_valid:
            return self._hold(book, event, ticket)
        n_bids, n, reason = self._load(event, book)
        if reason:
            if event.previous == NO_PREVIOUS:  # nothing later would show that it is missing
                self._break(book, ticket.frame, book.last, event.number, "unusable")
                if self._venue.holds_diffs:
                    return self._hold(book, event, ticket)
            return self._drop(reason, ticket)
        step = _step(book, event)
        if step is Step.OLD:
            return self._drop("old_diff", ticket)
        if step is not Step.APPLY:
            self._break(book, ticket.frame, book.last, event.number, step.value)
            return self._hold(book, event, ticket)
        self._decide(book, event.order)
        self._apply(book, event, n_bids, n)
        self._advance(book, event, ticket.frame)
        return self._row(book, event, ticket)

    def _hold(self, book: _Book, event: Diff, ticket: _Ticket) -> int:
        if not self._venue.holds_diffs:
            return self._drop("no_snapshot", ticket)
        if len(book.held) == MAX_HELD:
            self._drop("no_snapshot", book.held.popleft()[1])
        book.held.append((event, ticket))
        return NO_ROW

    def _load(self, event: Depth, book: _Book) -> tuple[int, int, str]:
        """Put levels into the kernels' array, bids first; return (bids, all, why not)."""
        bids, asks = event.bids, event.asks
        if isinstance(event, Snapshot) and max(len(bids), len(asks)) > CAPACITY:
            n_deep = max(0, len(bids) - CAPACITY) + max(0, len(asks) - CAPACITY)
            self._tally.note("deep_levels", book.instrument.key)
            self._tally.noted["deep_levels"] += n_deep - 1
            bids, asks = nlargest(CAPACITY, bids), nsmallest(CAPACITY, asks)
        n_bids = len(bids)
        n = n_bids + len(asks)
        if n > MAX_LEVELS:
            return 0, 0, "too_many_levels"
        if n_bids:
            self._levels[:n_bids] = bids
        if n > n_bids:
            self._levels[n_bids:n] = asks
        code = check_levels(self._levels, n, book.per_price, book.per_size)
        return n_bids, n, "" if code == QUIET else REASONS[code]

    def _apply(self, book: _Book, event: Diff, n_bids: int, n: int) -> None:
        apply_diff(
            book.cells, self._levels, n_bids, n, event.order, 0, 0, book.per_price, book.per_size
        )
        if event.depth:
            book.depth = event.depth
        if book.depth:
            _cut(book.cells, book.depth)

    def _advance(self, book: _Book, event: Depth, frame: Frame) -> None:
        self._forget_unplaced(book)
        book.last = event.number
        book.last_ts = event.ts_event or book.last_ts
        if event.order < book.order or not event.order:
            # Touches share no order with this depth, or the order starts anew: none can be newer.
            book.cells[Cell.TOUCH_U] = 0
            book.checks.undecidable += len(book.touches)
            book.touches.clear()
        book.order = event.order
        book.is_unverified = event.is_unverified
        if isinstance(event, Snapshot):
            book.sources.clear()
        book.sources.add(frame.source)

    def _row(self, book: _Book, event: Depth, ticket: _Ticket) -> int:
        """Verify the depth and fill the view; a failed checksum breaks the book instead."""
        if event.checksum is not None and not self._is_confirmed(book, event):
            self._break(book, ticket.frame, book.last, event.number, "checksum")
            return self._drop("failed_checksum", ticket)
        ts_event = self._when(ticket.frame, event.ts_event)
        fill_view(book.cells, _DEPTH_KIND, ticket.frame.ts_recv, ts_event)
        return self._made(book, ticket)

    def _is_confirmed(self, book: _Book, event: Depth) -> bool:
        levels = self._venue.checksum_levels
        tick, lot = book.instrument.tick_size, book.instrument.lot_size
        # A message without levels, or with short numbers only, does not show the decimals written.
        book.places = max(book.places[0], event.places[0]), max(book.places[1], event.places[1])
        sides = [_best(book.cells, side, levels, tick, lot, book.places) for side in (0, 1)]
        is_equal = self._venue.checksum(sides[0], sides[1], book.places) == event.checksum
        book.checks.checksums += 1
        book.checks.checksums_equal += is_equal
        return is_equal

    def _break(self, book: _Book, frame: Frame, last: int, number: int, reason: str) -> None:
        invalidate(book.cells)
        book.is_valid = False
        book.checks.undecidable += len(book.touches)
        book.touches.clear()
        self._drop_held(book, "gap")
        self._tell_gap(book, frame, last, number, reason)

    def _drop_held(self, book: _Book, reason: str) -> None:
        while book.held:
            self._drop(reason, book.held.popleft()[1])

    # -- touches and trades ------------------------------------------------------------------------

    def _touch(self, event: Touch, ticket: _Ticket, book: _Book) -> int:
        if event.order and book.is_valid:
            if len(book.touches) == MAX_PENDING:
                book.touches.popleft()
                book.checks.undecidable += 1
            book.touches.append(event)
        is_whole = min(event.bid_px, event.ask_px, event.bid_sz, event.ask_sz) > 0.0
        if not is_whole or (book.is_valid and event.order <= book.order):
            # It says nothing new, or too little to be laid over the depth: a check only.
            self._when(ticket.frame, event.ts_event)
            book.cells[Cell.LAST_RECV] = ticket.frame.ts_recv
            self._use(ticket)
            return NO_ROW
        if event.order:
            self._forget_unplaced(book)
        code = apply_touch(
            book.cells,
            event.order or ticket.frame.ts_recv,
            ticket.frame.ts_recv,
            self._when(ticket.frame, event.ts_event),
            event.bid_px,
            event.bid_sz,
            event.ask_px,
            event.ask_sz,
            book.per_price,
            book.per_size,
        )
        if code < ROW:
            return self._drop(REASONS[code], ticket)
        book.is_placed = event.order > 0
        return self._made(book, ticket)

    @staticmethod
    def _forget_unplaced(book: _Book) -> None:
        """Take away a touch that our clock numbers: it is newer than nothing that has a place."""
        if not book.is_placed:
            book.cells[Cell.TOUCH_U] = 0
            book.is_placed = True

    def _print(self, event: Print, ticket: _Ticket, book: _Book) -> int:
        if 0 < event.number <= book.trade_number and event.ts_event <= book.trade_ts:
            return self._drop("old_trade", ticket)
        source = self._source(ticket.frame)
        # A first batch may be of trades long past, so prints do not move the clock estimate.
        ts_event = event.ts_event or ticket.frame.ts_recv - source.offset.median_ns
        code = apply_trade(
            book.cells,
            ticket.frame.ts_recv,
            ts_event,
            event.price,
            event.size,
            event.side,
            book.per_price,
            book.per_size,
        )
        if code < ROW:
            return self._drop(REASONS[code], ticket)
        book.trade_number, book.trade_ts = event.number, event.ts_event
        return self._made(book, ticket)

    def _made(self, book: _Book, ticket: _Ticket) -> int:
        """Finish a row: its flag of trust, what was rounded on the way, and its frame's account."""
        if book.is_unverified:
            book.view[_FLAGS] |= _UNVERIFIED
        odd = int(book.cells[Cell.OFF_GRID] + book.cells[Cell.DEEP_DROPPED])
        if odd > book.odd:
            place = f"{book.instrument.key}, {self._place_of(ticket.frame)}"
            self._tally.note("off_grid_or_deep_levels", place)
            self._tally.noted["off_grid_or_deep_levels"] += odd - book.odd - 1
            book.odd = odd
        self._use(ticket)
        return book.index

    def _decide(self, book: _Book, order: int = 0, *, at_end: bool = False) -> None:
        """Compare the touches that the depth has just passed with the depth of their own place.

        Only the last touch of a place counts: several trades in one instant each print one.
        """
        if book.order == order and not at_end:
            return
        chosen: Touch | None = None
        while book.touches and (at_end or book.touches[0].order <= book.order):
            touch = book.touches.popleft()
            if touch.order == book.order:
                chosen = touch
            else:
                book.checks.undecidable += 1
        if chosen is None or not book.is_valid:
            return
        bid, bid_lots, ask, ask_lots = depth_touch(book.cells)
        is_equal = bid == round(chosen.bid_px * book.per_price) and ask == round(
            chosen.ask_px * book.per_price
        )
        book.checks.done += 1
        book.checks.equal += is_equal
        sizes = (round(chosen.bid_sz * book.per_size), round(chosen.ask_sz * book.per_size))
        book.checks.sizes_equal += is_equal and sizes == (bid_lots, ask_lots)

    # -- symbols -----------------------------------------------------------------------------------

    def _meet(self, event: Snapshot | Diff | Touch | Print, ticket: _Ticket) -> _Book | None:
        """Return the book of a new symbol, or None if its event was held or dropped."""
        symbol = event.symbol
        if symbol not in self._strangers:
            if reason := self._refusal(symbol):
                self._drop(reason, ticket)
                return None
            instrument = self._listed(symbol)
            if instrument is not None:
                return self._open(symbol, instrument)
            self._strangers[symbol] = _Stranger()
        if self._strangers[symbol].hear(event, ticket):
            self._settle(symbol)
        return None

    def _refusal(self, symbol: str) -> str:
        """Return why no book may be opened for a symbol, or an empty string."""
        if not symbol.isascii() or not symbol.translate(_PUNCTUATION).isalnum():
            return "bad_symbol"
        is_full = len(self._books) + len(self._strangers) >= MAX_INSTRUMENTS
        return "too_many_symbols" if is_full else ""

    def _listed(self, symbol: str) -> Instrument | None:
        listing = self._listings.get(symbol) or self._venue.listing(symbol)
        if listing is None:
            return self._table.find(self._venue.name, symbol.upper())
        return Instrument(
            venue=self._venue.name,
            symbol=symbol.upper(),
            tick_size=listing.tick_size,
            lot_size=listing.lot_size,
            contract_multiplier=listing.contract_multiplier,
            quote=listing.quote,
            source=listing.source,
        )

    def _settle(self, symbol: str) -> None:
        """Open the book of an unlisted symbol from what it showed.

        Its held events are taken in without rows, for those would come late; only the newest, whose
        frame is the one at hand, is put back to be taken in the usual way.
        """
        stranger = self._strangers.pop(symbol)
        if not stranger.events:
            return
        instrument = infer(self._venue.name, symbol.upper(), stranger.prices, stranger.sizes)
        # A checksum needs every digit, so there the room above is given up first.
        room = 1.0 if self._venue.checksum_levels else ROOM
        instrument = _with_room(instrument, room * max(stranger.sizes, default=0.0))
        book = self._open(symbol, instrument)
        self._tally.note("inferred_instrument", f"{instrument.key}: {instrument.source}")
        for event, ticket in stranger.events[:-1]:
            self._verbs[type(event)](event, ticket, book)
        book.cells[Cell.SEQ] = 0
        self._waiting.appendleft(stranger.events[-1])

    def _open(self, symbol: str, instrument: Instrument) -> _Book:
        book = _Book(instrument, len(self._books), new_book(self._stale_after_ns))
        self._books.append(book)
        self.instruments.append(instrument)
        self._by_symbol[symbol] = book
        return book

    # -- small steps -------------------------------------------------------------------------------

    def _source(self, frame: Frame) -> _Source:
        source = self._sources.get(frame.source)
        if source is None:
            source = self._sources[frame.source] = _Source()
        return source

    def _when(self, frame: Frame, ts_event: int) -> int:
        """Return the event's exchange time, ns; where none is believed, our time less the offset."""
        offset = self._source(frame).offset
        if ts_event:
            if offset.observe(frame.ts_recv, ts_event):
                return ts_event
            self._tally.note("clock_leap", self._place_of(frame))
        return frame.ts_recv - offset.median_ns


_PUNCTUATION: Final = str.maketrans("", "", "/-_.:@+")


def _shown(event: Event) -> list[tuple[float, float]]:
    """Return the prices and sizes of an event."""
    if isinstance(event, Depth):
        return [*_spread(event.bids), *_spread(event.asks)]
    if isinstance(event, Touch):
        return [(event.bid_px, event.bid_sz), (event.ask_px, event.ask_sz)]
    return [(event.price, event.size)] if isinstance(event, Print) else []


def _spread(levels: Sequence[Level]) -> Sequence[Level]:
    return levels[:: len(levels) // MAX_SHOWN + 1]


def _step(book: _Book, event: Diff) -> Step:
    """Return what the venue's rule says to do with a diff.

    Without links only the order is left. Numbers that are times may be shared by several diffs, and
    sizes are absolute, so that one taken in twice does no harm; one left out would.
    """
    if event.previous != NO_PREVIOUS and event.previous == book.last:
        return Step.APPLY
    is_old = event.number < book.last or (event.number == book.last and not event.is_unverified)
    if event.number and is_old:
        return Step.RESTART if event.ts_event - book.last_ts > RESTART_NS else Step.OLD
    return Step.APPLY if event.previous == NO_PREVIOUS else Step.GAP


def _with_room(instrument: Instrument, largest: float) -> Instrument:
    """Return an instrument whose lot is coarse enough for a size."""
    lot = instrument.lot_size
    while EXACT > largest >= EXACT * lot:
        lot = round(lot * 10.0, 8)
    if lot == instrument.lot_size:
        return instrument
    source = f"{instrument.source}; lot made coarser to hold a size of {largest:g}"
    return msgspec.structs.replace(instrument, lot_size=lot, source=source)


def _best(
    cells: Array, side: int, levels: int, tick: float, lot: float, places: tuple[int, int]
) -> Side:
    """Return a side's best levels in units of the last written decimal."""
    n = int(cells[Cell.N_BIDS + side])
    start = LEVELS + 2 * side * CAPACITY + max(0, n - levels)
    end = LEVELS + 2 * side * CAPACITY + n
    prices = cells[start:end].tolist()
    sizes = cells[start + CAPACITY : end + CAPACITY].tolist()
    px_places, sz_places = places
    return [
        (_rescaled(abs(px), tick, px_places), _rescaled(sz, lot, sz_places))
        for px, sz in zip(reversed(prices), reversed(sizes), strict=True)
    ]


def _rescaled(count: int, step: float, places: int) -> int:
    """Return `count` steps in units of the `places`-th decimal."""
    units = step * 10.0**places
    return count * round(units) if units > 0.999 else count // round(1.0 / units)


def _cut(cells: Array, depth: int) -> None:
    """Forget the levels of each side beyond its best `depth`."""
    for side in (0, 1):
        n = int(cells[Cell.N_BIDS + side])
        if n <= depth:
            continue
        for run in (LEVELS + 2 * side * CAPACITY, LEVELS + (2 * side + 1) * CAPACITY):
            cells[run : run + depth] = cells[run + n - depth : run + n].copy()
        cells[Cell.N_BIDS + side] = depth
