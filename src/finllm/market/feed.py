"""Every book that a set of Binance feeds carries, rebuilt frame by frame.

Binance has this road of its own, for speed; every other venue goes by `venue_feed`, with the same methods.
Knows which message belongs to which book and in which order its parts may be used; leaves numbers to
`sequence`, levels to `book` and field names to `binance`. Frames are handed in: it opens no socket,
reads no clock, and a frame of any content at all is used, held or dropped with a reason.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import numpy as np

from finllm.domain.instrument import Instrument
from finllm.domain.market import VIEW_SIZE, Frame, Gap, RowKind
from finllm.domain.units import NS_PER_MS
from finllm.market import binance
from finllm.market.binance import Depth, Snapshot
from finllm.market.book import (
    BAD_PRICE,
    MAX_LEVELS,
    QUIET,
    REASONS,
    ROW,
    ROW_NOTED,
    Array,
    Cell,
    apply_diff,
    apply_snapshot,
    apply_touch,
    apply_trade,
    check_levels,
    fill_view,
    invalidate,
    new_book,
    restart,
)
from finllm.market.books import (
    MAX_HELD,
    MAX_INSTRUMENTS,
    MAX_STRANGE,
    NO_ROW,
    STALE_AFTER_NS,
    BookKeeper,
)
from finllm.market.checks import BookChecks, TouchCheck
from finllm.market.connection import SIGN, decode_said
from finllm.market.instruments import (
    COIN_M,
    ENOUGH_PRICES,
    SPOT,
    SPOTS,
    USDM,
    InstrumentTable,
    infer,
    per_unit,
)
from finllm.market.levels import FULL, read_levels
from finllm.market.offset import ClockOffset
from finllm.market.sequence import Continuity, Step, connects
from finllm.runtime.tally import Tally

OFF_MARKET: Final = 0.2
"""A snapshot whose best bid is this far from the touch belongs to another symbol."""


class _Book:
    """One instrument's book and everything that is kept beside it."""

    __slots__ = (
        "cells", "chain", "check", "checks", "depth_source", "held", "index", "instrument", "is_futures",
        "is_valid", "odd", "per_price", "per_size", "trade_ms", "trade_number", "view",
    )  # fmt: skip

    def __init__(self, instrument: Instrument, index: int, cells: Array, check_every: int) -> None:
        self.instrument = instrument
        self.index = index
        self.cells = cells
        self.view = cells[:VIEW_SIZE]
        self.checks = BookChecks()
        self.check = TouchCheck(cells, check_every, self.checks)
        self.is_futures = instrument.venue not in SPOTS
        self.is_valid = False
        self.depth_source = -1
        self.chain = Continuity(is_futures=self.is_futures)
        self.held: deque[tuple[Depth, Frame]] = deque()
        self.per_price = per_unit(instrument.tick_size)
        self.per_size = per_unit(instrument.lot_size)
        self.trade_number = -1
        self.trade_ms = 0
        self.odd = {"off_grid": 0, "deep_levels": 0}


class _Stranger:
    """A symbol that no table lists, while its first frames are collected."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.prices: dict[str, None] = {}
        self.sizes: dict[str, None] = {}

    def hear(self, frame: Frame) -> bool:
        """Hold a frame; return whether enough is known now."""
        prices, sizes = binance.written_numbers(frame.payload)
        self.frames.append(frame)
        self.prices.update(dict.fromkeys(prices))
        self.sizes.update(dict.fromkeys(sizes))
        return len(self.prices) >= ENOUGH_PRICES or len(self.frames) >= MAX_STRANGE


class _Source:
    """One feed or tape: the books it carries by symbol, and its clock."""

    __slots__ = ("futures", "offset", "snapshot", "spot", "symbols")

    def __init__(self) -> None:
        self.spot: dict[str, _Book] = {}
        self.futures: dict[str, _Book] = {}
        self.symbols: dict[bool, list[str]] = {False: [], True: []}
        self.offset = ClockOffset()
        self.snapshot: Frame | None = None
        """An unnamed snapshot that came before any other frame."""

    def books(self, *, is_futures: bool) -> dict[str, _Book]:
        """Return the books of one kind by symbol."""
        return self.futures if is_futures else self.spot


class Market(BookKeeper[_Book, _Source]):
    """Every book carried by a set of Binance feeds (spot, USD-M, COIN-M), rebuilt frame by frame.

    A row is made by each applied diff while the book is valid, each new bookTicker and each trade.
    Snapshots and mark prices are used but make no row. Every frame ends as used or dropped in the
    tally, some only later (a diff that waits for a snapshot, a symbol that is not yet known): call
    `finish` when the input ends.

    Args:
        tally: Where frames are counted.
        table: Listed instruments; others are inferred from their first frames.
        spot: Venue of the spot streams: Binance, or Binance US, which speaks the same.
        stale_after_ns: A silence longer than this puts STALE on the row that ends it.
        check_every: Compare depth with bookTicker at every n-th diff of a book.
        on_gap: Called with each Gap; without it they gather in `gaps`, for the caller to drain.
        place_of: Says where a frame stands; without it, by its source and receive time.
    """

    is_single = True
    """Whether a frame makes at most one row, so that `more` need not be asked."""

    def __init__(
        self,
        tally: Tally,
        *,
        table: InstrumentTable | None = None,
        spot: str = SPOT,
        stale_after_ns: int = STALE_AFTER_NS,
        check_every: int = 50,
        on_gap: Callable[[Gap], None] | None = None,
        place_of: Callable[[Frame], str] | None = None,
    ) -> None:
        super().__init__(
            tally, table=table, stale_after_ns=stale_after_ns, on_gap=on_gap, place_of=place_of
        )
        self._spot = spot
        self._check_every = check_every
        self._by_name: dict[tuple[bool, str], _Book] = {}
        self._strangers: dict[tuple[bool, str], _Stranger] = {}
        self._levels = np.zeros((MAX_LEVELS, 2), dtype=np.float64)
        self._routes: dict[bytes, Callable[[Frame, _Source], int]] = {
            b"@book": self._touch,
            b"@dept": self._depth,
            b"@trad": self._trade,
            b"@aggT": partial(self._trade, decode=binance.decode_aggregate),
            b"@mark": self._mark,
        }

    def push(self, frame: Frame) -> int:
        """Take in one frame; never raises for its content.

        Returns:
            The index of the instrument whose view has a new row, else -1.
        """
        payload = frame.payload
        source = self._sources.get(frame.source)
        if source is None:
            source = self._sources[frame.source] = _Source()
        at = payload.find(b"@", 0, 64)
        route = self._routes.get(payload[at : at + 5], self._other)
        try:
            if not payload.isascii():
                payload.decode()
            if len(payload) > binance.MAX_FRAME:
                return self._drop("oversize", frame)
            return route(frame, source)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._drop(binance.fault(error), frame)

    def more(self) -> int:
        """Return NO_ROW: a frame makes one row at most."""
        return NO_ROW

    def finish(self) -> None:
        """Settle what was left open, once the input has ended; may be called again."""
        for key in list(self._strangers):
            self._settle(key)
        for source in self._sources.values():
            if source.snapshot is not None:
                self._drop("unnamed_snapshot", source.snapshot)
                source.snapshot = None
        for book in self._books:
            self._drop_held(book, "no_snapshot")
            book.check.decide(at_end=True)

    # -- one kind of message each ----------------------------------------------------------------

    def _touch(self, frame: Frame, source: _Source) -> int:
        event = binance.decode_touch(frame.payload).data
        is_futures = event.kind != "" or event.pair != ""
        books = source.futures if is_futures else source.spot
        book = books.get(event.symbol) or self._meet(
            frame, source, event.symbol, is_futures=is_futures
        )
        if book is None:
            return NO_ROW
        code = apply_touch(
            book.cells,
            event.final,
            frame.ts_recv,
            self._when(frame, source, event.transact_ms, event.event_ms),
            event.bid_px,
            event.bid_sz,
            event.ask_px,
            event.ask_sz,
            book.per_price,
            book.per_size,
        )
        if book.check.pending:
            book.check.decide()
        return self._answer(code, book, frame)

    def _trade(
        self,
        frame: Frame,
        source: _Source,
        decode: Callable[
            [bytes], binance.PrintFrame | binance.AggregateFrame
        ] = binance.decode_print,
    ) -> int:
        event = decode(frame.payload).data
        is_futures = event.spot_mark is None
        books = source.futures if is_futures else source.spot
        book = books.get(event.symbol) or self._meet(
            frame, source, event.symbol, is_futures=is_futures
        )
        if book is None:
            return NO_ROW
        if event.number <= book.trade_number and event.transact_ms <= book.trade_ms:
            return self._drop("old_trade", frame)
        code = apply_trade(
            book.cells,
            frame.ts_recv,
            self._when(frame, source, event.transact_ms, event.event_ms),
            event.price,
            event.size,
            -1 if event.is_buyer_maker else 1,
            book.per_price,
            book.per_size,
        )
        if code >= ROW:
            book.trade_number = event.number
            book.trade_ms = event.transact_ms
        return self._answer(code, book, frame)

    def _depth(self, frame: Frame, source: _Source) -> int:
        event = binance.decode_depth(frame.payload).data
        if event.final < event.first:
            return self._drop("bad_fields", frame)
        is_futures = event.previous >= 0
        book = (source.futures if is_futures else source.spot).get(event.symbol)
        if book is None:
            self._load(event)  # refuse malformed levels before a tick is guessed from them
            book = self._meet(frame, source, event.symbol, is_futures=is_futures)
            if book is None:
                return NO_ROW
        book.depth_source = frame.source
        n_bids, n = self._load(event)
        if fault := self._diff_fault(book, n):
            return self._drop(fault, frame)
        last = book.chain.last
        step = book.chain.judge(event.first, event.final, event.previous, event.event_ms)
        if step is Step.OLD:
            return self._drop("old_diff", frame)
        if step is not Step.APPLY:
            self._break(book, step.value, last, event.first, frame)
        if not book.is_valid:
            self._hold(book, event, frame)
            return NO_ROW
        code = apply_diff(
            book.cells,
            self._levels,
            n_bids,
            n,
            event.final,
            frame.ts_recv,
            self._when(frame, source, event.transact_ms, event.event_ms),
            book.per_price,
            book.per_size,
        )
        book.check.on_diff()
        return self._answer(code, book, frame)

    def _diff_fault(self, book: _Book, n: int) -> str:
        """Return why a loaded diff cannot be used; told before its number is taken as seen."""
        if n == FULL:
            return "too_many_levels"
        return REASONS.get(check_levels(self._levels, n, book.per_price, book.per_size), "")

    def _mark(self, frame: Frame, source: _Source) -> int:
        event = binance.decode_mark(frame.payload).data
        book = source.futures.get(event.symbol)
        book = book or self._meet(frame, source, event.symbol, is_futures=True)
        if book is None:
            return NO_ROW
        if not 0.0 < event.price < float("inf"):
            return self._drop(REASONS[BAD_PRICE], frame)
        self._when(frame, source, 0, event.event_ms)
        book.cells[Cell.LAST_RECV] = frame.ts_recv
        self._tally.used += 1
        return NO_ROW

    def _other(self, frame: Frame, source: _Source) -> int:
        if frame.payload.startswith(SIGN):
            return self._connection(frame, source)
        if b'"lastUpdateId"' not in frame.payload:
            msgspec.json.decode(frame.payload)
            return self._drop("unknown_stream", frame)
        event = binance.decode_any_snapshot(frame.payload)
        self._load(event)  # the same for a snapshot that has to wait for its symbol
        is_futures = event.event_ms > 0
        symbols = [event.symbol] if event.symbol else source.symbols[is_futures]
        if not event.symbol and not any(source.symbols.values()):
            binance.written_numbers(frame.payload)  # a stranger's frames must all be readable
            if source.snapshot is not None:
                self._drop("unnamed_snapshot", source.snapshot)
            source.snapshot = frame
            return NO_ROW
        if len(symbols) != 1:
            return self._drop("unnamed_snapshot", frame)
        books = source.futures if is_futures else source.spot
        book = books.get(symbols[0]) or self._meet(frame, source, symbols[0], is_futures=is_futures)
        return NO_ROW if book is None else self._snapshot(frame, event, book)

    def _connection(self, frame: Frame, source: _Source) -> int:
        """Hear what the feed says of the connection: a row for a silence, a gap a book for its end."""
        said = decode_said(frame.payload)
        self._tally.used += 1
        if said.connection == "silent":
            book = source.spot.get(said.symbol) or source.futures.get(said.symbol)
            if book is None:
                return NO_ROW
            ts_event = frame.ts_recv - source.offset.median_ns
            fill_view(book.cells, int(RowKind.DEPTH), frame.ts_recv, ts_event)
            return book.index
        for book in (*source.spot.values(), *source.futures.values()):
            if book.is_valid:
                self._break(book, said.connection, book.chain.last, 0, frame)
            # What was held ends where the connection did, and whatever comes next may be numbered anew.
            self._drop_held(book, "gap")
            restart(book.cells)
            book.chain = Continuity(is_futures=book.is_futures)
        return NO_ROW

    # -- snapshots, gaps and what is held between them ---------------------------------------------

    def _snapshot(self, frame: Frame, event: Snapshot, book: _Book) -> int:
        if book.is_valid and event.update <= book.chain.last:
            return self._drop("stale_snapshot", frame)
        rest = [
            (diff, held)
            for diff, held in book.held
            if diff.final > event.update or (book.is_futures and diff.final == event.update)
        ]
        if rest:
            first = rest[0][0]
            is_joined = connects(first.first, first.final, first.previous, event.update)
        else:
            is_joined = book.chain.last <= event.update
        if not is_joined:
            return self._drop("stale_snapshot", frame)
        if reason := self._replace(book, event):
            return self._drop(reason, frame)
        self._tally.used += 1
        while len(book.held) > len(rest):
            self._drop("before_snapshot", book.held.popleft()[1])
        if not rest:
            book.chain.restart_from(event.update)
        self._catch_up(book)
        self._note_odd(book, frame)
        return NO_ROW

    def _replace(self, book: _Book, event: Snapshot) -> str:
        """Put a snapshot in place of the depth; return why not, or an empty string."""
        n_bids, n = self._load(event)
        if n == FULL:
            return "too_many_levels"
        touch = book.cells[Cell.TOUCH_BID_PX] / book.per_price
        if touch and n_bids and not abs(self._levels[0, 0] / touch - 1.0) < OFF_MARKET:
            return "snapshot_off_market"
        code = apply_snapshot(
            book.cells, self._levels, n_bids, n, event.update, book.per_price, book.per_size
        )
        book.is_valid = book.is_valid or code == QUIET
        return REASONS.get(code, "")

    def _catch_up(self, book: _Book) -> None:
        """Apply the diffs that were held back; they make no rows."""
        while book.held:
            diff, _ = book.held.popleft()
            n_bids, n = self._load(diff)
            apply_diff(
                book.cells, self._levels, n_bids, n, diff.final, 0, 0,
                book.per_price, book.per_size,
            )  # fmt: skip
            book.check.on_diff()
            self._tally.used += 1

    def _hold(self, book: _Book, event: Depth, frame: Frame) -> None:
        if len(book.held) == MAX_HELD:
            self._drop("no_snapshot", book.held.popleft()[1])
        book.held.append((event, frame))

    def _drop_held(self, book: _Book, reason: str) -> None:
        while book.held:
            self._drop(reason, book.held.popleft()[1])

    def _break(self, book: _Book, reason: str, last: int, first: int, frame: Frame) -> None:
        if reason == Step.RESTART.value:
            restart(book.cells)
        else:
            invalidate(book.cells)
        book.is_valid = False
        book.check.forget()
        self._drop_held(book, "gap")
        self._tell_gap(book, frame, last, first, reason)

    # -- symbols -------------------------------------------------------------------------------------

    def _meet(
        self, frame: Frame, source: _Source, symbol: str, *, is_futures: bool
    ) -> _Book | None:
        """Return the book of a symbol that is new to this source, or None if its frame was held."""
        key = (is_futures, symbol)
        book = self._by_name.get(key)
        if book is None and key not in self._strangers:
            if reason := self._refusal(symbol):
                self._drop(reason, frame)
                return None
            book = self._introduce(key)
        if symbol not in source.symbols[is_futures]:
            source.symbols[is_futures].append(symbol)
        early, source.snapshot = source.snapshot, None
        if book is None:
            self._hear(key, [frame] if early is None else [early, frame])
            return None
        source.books(is_futures=is_futures)[symbol] = book
        if early is not None:
            self._other(early, source)
        return book

    def _refusal(self, symbol: str) -> str:
        """Return why no book may be opened for a symbol, or an empty string."""
        if not symbol.replace("_", "").isalnum() or symbol != symbol.upper():
            return "bad_symbol"
        is_full = len(self._books) + len(self._strangers) >= MAX_INSTRUMENTS
        return "too_many_symbols" if is_full else ""

    def _introduce(self, key: tuple[bool, str]) -> _Book | None:
        """Open the book of a listed symbol; begin to listen to an unlisted one."""
        listed = self._table.find(self._venue(*key), key[1])
        if listed is not None:
            return self._open(listed)
        self._strangers[key] = _Stranger()
        return None

    def _hear(self, key: tuple[bool, str], frames: list[Frame]) -> None:
        """Hold the frames of a stranger, and open its book once they show enough."""
        heard = [self._strangers[key].hear(frame) for frame in frames]
        if any(heard):
            self._settle(key)

    def _settle(self, key: tuple[bool, str]) -> None:
        """Open the book of an unlisted symbol from what its frames showed, and take those frames in."""
        stranger = self._strangers.pop(key)
        instrument = infer(self._venue(*key), key[1], stranger.prices, stranger.sizes)
        book = self._open(instrument)
        self._tally.note("inferred_instrument", f"{instrument.key}: {instrument.source}")
        for frame in stranger.frames:
            self.push(frame)
        book.cells[Cell.SEQ] = 0  # those rows were never handed out

    def _venue(self, is_futures: bool, symbol: str) -> str:  # noqa: FBT001 - part of a key
        if not is_futures:
            return self._spot
        return COIN_M if "USD_" in symbol else USDM

    def _open(self, instrument: Instrument) -> _Book:
        cells = new_book(self._stale_after_ns)
        book = _Book(instrument, len(self._books), cells, self._check_every)
        self._books.append(book)
        self.instruments.append(instrument)
        self._by_name[(book.is_futures, instrument.symbol)] = book
        return book

    # -- small steps of every message ------------------------------------------------------------------

    def _load(self, event: Depth | Snapshot) -> tuple[int, int]:
        """Read levels into the kernels' array, bids first; return (bids, all), or all = FULL."""
        n_bids = read_levels(event.bids, self._levels, 0)
        if n_bids == FULL:
            return 0, FULL
        return n_bids, read_levels(event.asks, self._levels, n_bids)

    def _when(self, frame: Frame, source: _Source, transact_ms: int, event_ms: int) -> int:
        """Return the event's exchange time, ns; where none is believed, our time less the offset."""
        if event_ms:
            if source.offset.observe(frame.ts_recv, event_ms * NS_PER_MS):
                return (transact_ms or event_ms) * NS_PER_MS
            self._tally.note("clock_leap", self._place_of(frame))
        return frame.ts_recv - source.offset.median_ns

    def _answer(self, code: int, book: _Book, frame: Frame) -> int:
        if code != ROW:
            if code != ROW_NOTED:
                return self._drop(REASONS[code], frame)
            self._note_odd(book, frame)
        self._tally.used += 1
        return book.index

    def _note_odd(self, book: _Book, frame: Frame) -> None:
        """Show what the kernels rounded or left out since the last look."""
        place = f"{book.instrument.key}, {self._place_of(frame)}"
        for what, cell in (("off_grid", Cell.OFF_GRID), ("deep_levels", Cell.DEEP_DROPPED)):
            count = int(book.cells[cell])
            if count > book.odd[what]:
                self._tally.note(what, place)
                self._tally.noted[what] += count - book.odd[what] - 1
                book.odd[what] = count

    def _drop(self, reason: str, frame: Frame) -> int:
        self._tally.drop(reason, self._place_of(frame))
        return NO_ROW
