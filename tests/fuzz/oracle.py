"""Pushes one input through the product's books and the slow ones, and holds the first to the second.

The laws: no frame raises; each ends as used or as dropped, once; none takes 100 ms; whenever a row says
VALID, its levels are the slow book's, and what is crossed, locked or without a continuity rule says so.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from finllm.domain.market import BookView, Flag, Frame
from finllm.market.feed import Market
from finllm.market.markets import BINANCE, VENUES, open_market
from finllm.runtime.tally import Tally
from fuzz.inputs import Told
from fuzz.reference import BinanceBooks, Books, Shown, Steps, steps_of

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
LIMIT_NS = 100 * MS
"""A push's own CPU time, so that a busy machine makes no finding."""
QUICK_NS = 5 * MS
N_TIMED = 3
"""Times that an input with a slower push is tried: some systems charge a thread for its waiting."""
NAMES = (BINANCE, *(venue.name for venue in VENUES))
REFUSED = {
    "oversize", "bad_utf8", "bad_json", "bad_fields", "no_events", "unknown_stream", "unknown_event",
    "heartbeat", "acknowledgement", "bad_symbol", "too_many_symbols", "unnamed_snapshot",
}  # fmt: skip
V = BookView


class BrokenLawError(AssertionError):
    """A broken law.

    Args:
        law: Its name; faults of one law and venue are one finding.
        detail: What was seen.
    """

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(f"{law}: {detail}")
        self.law = law


class SlowError(BrokenLawError):
    """A push took too long; true only if it does so every time."""


class Outcome(NamedTuple):
    """What one input came to."""

    n_frames: int
    n_used: int
    n_rows: int
    n_valid: int
    """Rows that said VALID; each was compared."""
    slowest_ns: int


class _Account(Tally):
    """A tally that also keeps which frame was dropped why; a frame's place is its number."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped_frames: dict[int, str] = {}
        self.noted_frames: defaultdict[int, set[str]] = defaultdict(set)

    def drop(self, reason: str, place: str = "") -> None:
        super().drop(reason, place)
        number = int(place)
        if number in self.dropped_frames:
            raise BrokenLawError("a frame is dropped once", f"frame {number}: {reason}")
        self.dropped_frames[number] = reason

    def note(self, what: str, place: str = "") -> None:
        super().note(what, place)
        if place.isdecimal():
            self.noted_frames[int(place)].add(what)


class _Trial:
    """One input on its way."""

    def __init__(self, venue: str, limit_ns: float) -> None:
        self.account = _Account()
        self._limit_ns = limit_ns
        self.feed = open_market([venue], self.account, lambda frame: str(frame.line))
        self.slow: Any = BinanceBooks(venue) if venue == BINANCE else Books(venue)
        self.n_rows = self.n_valid = self.slowest_ns = 0

    def push(self, frame: Frame) -> None:
        """Push one frame and compare every row that it makes."""
        started = time.thread_time_ns()
        rows = self._rows(frame)
        took = time.thread_time_ns() - started
        self.slowest_ns = max(self.slowest_ns, took)
        if took > self._limit_ns:
            raise SlowError("no push takes 100 ms", f"frame {frame.line}: {took / MS:.0f} ms")
        self.n_rows += len(rows)
        if self.account.dropped_frames.get(frame.line) in REFUSED:
            if rows:
                raise BrokenLawError("a refused frame makes no row", f"frame {frame.line}")
            return
        states = self._states(frame)
        for name, view in rows:
            states = self._compare(name, view, states, frame)

    def _rows(self, frame: Frame) -> list[tuple[Any, list[int]]]:
        rows = []
        index = self.feed.push(frame)
        while index >= 0:
            rows.append((self._name(index), self.feed.view(index).tolist()))
            index = self.feed.more()
        return rows

    def _states(self, frame: Frame) -> list[tuple[Any, Shown | None]]:
        try:
            states = self.slow.take(frame.payload, frame.ts_recv, frame.source, self._steps)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            IndexError,
            ArithmeticError,
        ) as error:
            detail = f"frame {frame.line}: {type(error).__name__}: {error}"
            raise BrokenLawError("what is taken in can be read", detail) from error
        told = {self.account.dropped_frames.get(frame.line, "")}
        if any(
            what.startswith("old_touch") for what in told | self.account.noted_frames[frame.line]
        ):
            self.slow.old_touch({name for name, _ in states})
        return states

    def _compare(
        self,
        name: Any,
        view: list[int],
        states: list[tuple[Any, Shown | None]],
        frame: Frame,
    ) -> list[tuple[Any, Shown | None]]:
        """Hold a row to the first state that it can be of; return the states after that."""
        flags = Flag(view[V.FLAGS])
        bids, asks = _shown(view)
        _check_flags(flags, bids, asks, frame)
        if Flag.VALID not in flags or self.slow.doubt(name):
            return states
        self.n_valid += 1
        for at, (of, shown) in enumerate(states):
            if of == name and shown is not None and (bids, asks) in shown.views:
                if shown.is_unverified and Flag.UNVERIFIED not in flags:
                    raise BrokenLawError(
                        "a stream without a rule says UNVERIFIED", f"frame {frame.line}"
                    )
                return states[at:]
        expected = [shown for of, shown in states if of == name]
        detail = f"frame {frame.line}, {name}: has {(bids, asks)}, should be {expected}"
        raise BrokenLawError("a valid book is right", detail)

    def _name(self, index: int) -> Any:
        return next(name for name, book in self._books() if book.index == index)

    def _steps(self, name: Any) -> Steps | None:
        book = dict(self._books()).get(name)
        instrument = book and book.instrument
        return instrument and steps_of(instrument.tick_size, instrument.lot_size)

    def _books(self) -> Any:
        feed: Any = self.feed
        return (feed._by_name if isinstance(feed, Market) else feed._by_symbol).items()


def _shown(view: Sequence[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    bids, asks = (
        list(zip(view[px : px + n], view[sz : sz + n], strict=True))
        for px, sz, n in (
            (V.BID_PX, V.BID_SZ, view[V.N_BIDS]),
            (V.ASK_PX, V.ASK_SZ, view[V.N_ASKS]),
        )
    )
    return bids, asks


def _check_flags(flags: Flag, bids: Sequence[Any], asks: Sequence[Any], frame: Frame) -> None:
    if (Flag.VALID in flags) == (Flag.RESYNCING in flags):
        raise BrokenLawError("a row is either valid or resyncing", f"frame {frame.line}: {flags!r}")
    spread = asks[0][0] - bids[0][0] if bids and asks else 1
    if (Flag.CROSSED in flags, Flag.LOCKED in flags) != (spread < 0, spread == 0):
        raise BrokenLawError(
            "a crossed or locked book says so", f"frame {frame.line}: {flags!r}, {spread}"
        )


def run(venue: str, frames: Sequence[Told], limit_ns: float = LIMIT_NS) -> Outcome:
    """Push an input's frames through a venue's books.

    Args:
        venue: Its name.
        frames: What to push.
        limit_ns: What a push may take; without limit for a first one, which compiles kernels.

    Raises:
        BrokenLawError: If a law is broken; any other exception is a crash of the product.
    """
    best: Outcome | None = None
    slow: SlowError | None = None
    for _ in range(N_TIMED):
        try:
            outcome = _run(venue, frames, limit_ns)
        except SlowError as error:
            slow = error
            continue
        best = outcome if best is None or outcome.slowest_ns < best.slowest_ns else best
        if best.slowest_ns <= QUICK_NS:
            break
    if best is None:
        raise slow or SlowError("no push takes 100 ms", "never")
    return best


def _run(venue: str, frames: Sequence[Told], limit_ns: float) -> Outcome:
    trial = _Trial(venue, limit_ns)
    now = T0
    for number, told in enumerate(frames, start=1):
        now += told.after_ms * MS
        trial.push(Frame(now, told.payload, told.source, number))
    trial.feed.finish()
    account = trial.account
    n_dropped = sum(account.dropped.values())
    if account.used + n_dropped != len(frames):
        detail = f"{len(frames)} frames, {account.used} used, {n_dropped} dropped"
        raise BrokenLawError("every frame is used or dropped", detail)
    return Outcome(len(frames), account.used, trial.n_rows, trial.n_valid, trial.slowest_ns)
