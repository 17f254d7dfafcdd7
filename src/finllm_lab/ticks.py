"""Sessions of US stocks from files of ticks: days of a million quotes in seconds.

The rows are those that the served road gives (`market.ticks`, `market.venue_feed`, `features`), for the
same kernels make them: only the reading of lines, the frames and the JSON between are left out. A file
with anything out of the ordinary (a malformed line, times that step back, a price that a book refuses)
is read by the served road itself; so are LOBSTER's, which are small. Of every row the head is kept, of
grid points also the features. Knows nothing of labels.
"""

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import ROW_HEAD, VIEW_SIZE, BookView, Flag, Frame, RowKind
from finllm.domain.units import NS_PER_MIN, NS_PER_MS, parse_instant
from finllm.features.book import BookRows, push_view
from finllm.features.book_spec import BOOK_SPEC
from finllm.features.book_state import N_FLOATS, new_state
from finllm.features.lead import BookLead
from finllm.market.best import aggressor, take_quote
from finllm.market.book import (
    QUIET,
    REASONS,
    Cell,
    apply_snapshot,
    apply_trade,
    fill_view,
    new_book,
)
from finllm.market.books import STALE_AFTER_NS
from finllm.market.capture import look, read_recordings
from finllm.market.instruments import US_EQUITY, per_unit
from finllm.market.markets import open_market, venue_of
from finllm.market.tape import JUMP_NS, Order
from finllm.market.ticks import UNIT, midnight_of
from finllm.runtime.kernels import kernel
from finllm.runtime.tally import Tally
from finllm_lab.manifest import checked, recordings
from finllm_lab.tapes import Session, Tape, between

OPENS_NS: Final = (9 * 60 + 30) * NS_PER_MIN
CLOSES_NS: Final = 16 * 60 * NS_PER_MIN
"""Regular hours, after midnight in New York."""
ALWAYS: Final = (-(1 << 62), 1 << 62)
GRID_NS: Final = 100 * NS_PER_MS
CACHE: Final = Path.home() / ".cache" / "finllm" / "sessions"
FOLDER: Final = "orderbook"

STOCK_TAPES: Final = tuple(
    Tape(
        name=f"2013-10-{day}",
        files=tuple(f"us_ticks/{symbol}_201310{day}_{kind}" for kind in ("quote", "trade")),
        use="train" if day != "10" else "validate",
    )
    for day in ("07", "08", "09", "10")
    for symbol in ("aig", "bac")
)
"""Days of QuantConnect/Lean (Apache-2.0)."""
LOBSTER_TAPE: Final = Tape(
    name="2012-06-21", files=("lobster/AMZN_20120621_message_L1",), use="train"
)
"""LOBSTER's sample: no licence stated, so never in a package."""
TICK_TAPES: Final = (*STOCK_TAPES, LOBSTER_TAPE)

_QUOTE_FIELDS, _TRADE_FIELDS = (5, 5, 7, 8), (3, 3, 5, 6)
"""How many fields are numbers, which is the exchange, which the flag, how many a line has at least."""
_N_BYTES: Final = 128
_MAX_DIGITS: Final = 14
_PER_PRICE: Final = per_unit(0.01)
_PER_SIZE: Final = per_unit(1.0)
_BOOK, _TRADE = 0, 1
_DEPTH_KIND: Final = int(RowKind.DEPTH)
_FLAGS: Final = int(BookView.FLAGS)
_UNVERIFIED, _VALID = int(Flag.UNVERIFIED), int(Flag.VALID)
_LOW: Final = 0xFFFF_FFFF

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


def tick_sessions(
    data: Path,
    tapes: Sequence[Tape],
    *,
    use: str = "train",
    grid_ns: int = GRID_NS,
    cache: Path | None = CACHE,
) -> list[Session]:
    """Return one session of regular hours for each tape, or part of one, that may be used so.

    Args:
        data: The data folder.
        tapes: Of `TICK_TAPES`.
        use: `train` or `validate`; what a tape is not entered for is left out.
        grid_ns: Time between two rows whose features are kept; 0 keeps every good row.
        cache: Where sessions once built are kept; None builds them anew.

    Raises:
        InputError: If a file is missing or was changed since it was entered.
    """
    known, found = recordings(), []
    for tape in tapes:
        first = f"{FOLDER}/{tape.files[0]}.csv.gz"
        split = known[first].train_until if first in known else ""
        if tape.use != use and not split:
            continue
        paths = [checked(data, f"{FOLDER}/{name}.csv.gz", use=use) for name in tape.files]
        if "_message" in first:
            checked(data, first.replace("_message", "_orderbook"), use=use)
        session = tick_session(tape.name, paths, grid_ns=grid_ns, cache=cache)
        if split:
            ends = parse_instant(split)
            session = between(session, *((0, ends) if use == "train" else (ends, ALWAYS[1])))
        found.append(session)
    return found


def tick_session(
    name: str, paths: Sequence[Path], *, grid_ns: int = GRID_NS, cache: Path | None = None
) -> Session:
    """Return the regular hours of one stock's day.

    The book and the windows are carried in from the first line, before the opening.

    Args:
        name: The session's.
        paths: A file of quotes and one of trades, or LOBSTER's message file.
        grid_ns: Time between two rows whose features are kept; 0 keeps every good row.
        cache: Where sessions once built are kept; None builds it anew.

    Raises:
        InputError: If a file cannot be read.
    """
    midnight = midnight_of(paths[0])
    hours = midnight + OPENS_NS, midnight + CLOSES_NS
    if cache is None:
        return read_session(name, paths, grid_ns, hours)[0]
    held = cache / f"{_key(paths, grid_ns, hours)}.npz"
    return _load(name, paths, held) or _keep(read_session(name, paths, grid_ns, hours)[0], held)


def read_session(
    name: str, paths: Sequence[Path], grid_ns: int, hours: tuple[int, int] = ALWAYS
) -> tuple[Session, Tally]:
    """Return the rows received in some hours, ns UTC from and before, and what was counted."""
    return quick_session(name, paths, grid_ns, hours) or served_session(name, paths, grid_ns, hours)


def instrument_of(path: Path) -> str:
    """Return the key of the stock that a file of ticks is of."""
    return f"{US_EQUITY}:{path.name.partition('_')[0].upper()}"


# -- the served road ---------------------------------------------------------------------------------


def served_session(
    name: str, paths: Sequence[Path], grid_ns: int, hours: tuple[int, int] = ALWAYS
) -> tuple[Session, Tally]:
    """Return what the served road gives, frame by frame: about 30 us a row."""
    tally = Tally()
    books = open_market([venue_of(look(path)) for path in paths], tally)
    features = BookRows().features(instrument_of(paths[0]))
    head, row = np.zeros(1, dtype=ROW_HEAD), np.zeros(len(BOOK_SPEC))
    heads, rows, at, due = list[bytes](), list[bytes](), list[int](), hours[0]
    for frame in read_recordings(paths, tally):
        index = books.push(frame)
        while index >= 0:
            features.push(books.view(index), row, head)
            index = books.more()
            if not hours[0] <= head["ts_recv"][0] < hours[1]:
                continue
            if head["flags"][0] & ~_UNVERIFIED == _VALID and head["ts_recv"][0] >= due:
                due = head["ts_recv"][0] + grid_ns
                at.append(len(heads))
                rows.append(row.tobytes())
            heads.append(head.tobytes())
    books.finish()
    session = Session(
        name=name,
        instrument=instrument_of(paths[0]),
        heads=np.frombuffer(b"".join(heads), dtype=ROW_HEAD),
        rows=np.frombuffer(b"".join(rows)).reshape(-1, len(BOOK_SPEC)),
        at=np.array(at, dtype=np.int64),
    )
    return session, tally


# -- the quick road ----------------------------------------------------------------------------------


def quick_session(
    name: str, paths: Sequence[Path], grid_ns: int, hours: tuple[int, int] = ALWAYS
) -> tuple[Session, Tally] | None:
    """Return what `served_session` would, or None where only that one can tell."""
    if [path.name.rpartition("_")[2].partition(".")[0] for path in paths] != ["quote", "trade"]:
        return None
    if midnight_of(paths[0]) != midnight_of(paths[1]):
        return None
    tally = Tally()
    quotes, trades = _events(paths[0], _BOOK, tally), _events(paths[1], _TRADE, tally)
    if quotes is None or trades is None:
        return None
    events = np.concatenate([quotes, trades])
    events = events[np.argsort(events[:, 1], kind="stable")]  # ties to the quotes, as when merged
    return _walked(name, instrument_of(paths[0]), events, (grid_ns, *hours), tally)


def _events(path: Path, kind: int, tally: Tally) -> Integers | None:
    """Return a file's events int64 [n, 6], or None where a line or a time is out of the ordinary.

    Columns are kind, time, then bid price, bid size, ask price, ask size; or price, size, side.
    """
    lines = _lines(path, _QUOTE_FIELDS if kind == _BOOK else _TRADE_FIELDS)
    if lines is None:
        return None
    events = np.zeros((len(lines), 6), dtype=np.int64)
    places = np.zeros(len(lines), dtype=np.int64)
    n = (_best_changes if kind == _BOOK else _signed_trades)(lines, events, places)
    if n < 0:
        return None
    events = events[:n]
    events[:, 1] = midnight_of(path) + events[:, 1] * NS_PER_MS
    taken = _in_order(path, events[:, 1], places[:n], tally)
    if taken is None:
        return None
    tally.read += len(lines)
    suspicious = int((lines[:, -1] != 0).sum())
    silent = "no_change" if kind == _BOOK else "no_aggressor"
    for reason, count in (("suspicious", suspicious), (silent, len(lines) - n - suspicious)):
        if count:
            tally.dropped[reason] += count
    return events[taken]


def _lines(path: Path, form: tuple[int, int, int, int]) -> Integers | None:
    """Return the lines of a file as numbers, the exchange's byte and whether suspicious is said."""
    try:
        text = path.read_bytes()
        if text[:2] == b"\x1f\x8b":
            text = gzip.decompress(text)
    except (OSError, EOFError, zlib.error):
        return None
    lines = np.zeros((text.count(b"\n") + 1, form[0] + 2), dtype=np.int64)
    n = _parse(np.frombuffer(text, dtype=np.uint8), lines, *form)
    return lines[:n] if n >= 0 else None


def _in_order(path: Path, ts: Integers, places: Integers, tally: Tally) -> Integers | None:
    """Return the events that the tape's own rule of order takes; None where it would change a time."""
    order, taken, i = Order(tally), list[Integers](), 0
    ahead = np.diff(ts)
    breaks = np.flatnonzero((ahead < 0) | (ahead > JUMP_NS)) + 1
    while i < len(ts):
        if order.is_plain(int(ts[i])):
            at = int(np.searchsorted(breaks, i, side="right"))
            end = int(breaks[at]) if at < len(breaks) else len(ts)
            taken.append(np.arange(i, end))
            order.last = int(ts[end - 1])
            i = end
            continue
        frames = order.weigh(Frame(int(ts[i]), b"", 0, i), f"{path}:{places[i] + 1}")
        if any(frame.ts_recv != ts[frame.line] for frame in frames):
            return None
        taken.append(np.array([frame.line for frame in frames], dtype=np.int64))
        i += 1
    rest = order.end()
    if any(frame.ts_recv != ts[frame.line] for frame in rest):
        return None
    taken.append(np.array([frame.line for frame in rest], dtype=np.int64))
    return np.concatenate(taken)


def _walked(
    name: str, instrument: str, events: Integers, asked: tuple[int, int, int], tally: Tally
) -> tuple[Session, Tally] | None:
    grid_ns, opens, closes = asked
    width = len(BOOK_SPEC)
    inside = int(((events[:, 1] >= opens) & (events[:, 1] < closes)).sum())
    span = int(events[-1, 1] - events[0, 1]) if len(events) else 0
    room = inside if grid_ns <= 0 else min(inside, span // grid_ns + 2)
    heads = np.zeros((inside, ROW_HEAD.itemsize // 8), dtype=np.int64)
    rows, at = np.zeros((room, width)), np.zeros(room, dtype=np.int64)
    marks = np.array([grid_ns, opens, closes, 0, 0, 0], dtype=np.int64)
    book = new_book(STALE_AFTER_NS)
    refused = _walk(
        events, book, np.zeros((2, 2)), heads, rows, at, marks,
        new_state(), np.zeros(N_FLOATS), BookLead().said,
    )  # fmt: skip
    if refused < 0:
        return None
    n_heads, n_rows, tally.used = (int(mark) for mark in marks[3:])
    for code, reason in REASONS.items():
        if count := int((events[:, 0] == code).sum()):
            tally.dropped[reason] += count
    if odd := int(book[Cell.OFF_GRID] + book[Cell.DEEP_DROPPED]):
        tally.noted["off_grid_or_deep_levels"] += odd
    session = Session(
        name=name,
        instrument=instrument,
        heads=heads[:n_heads].reshape(-1).view(ROW_HEAD),
        rows=rows[:n_rows],
        at=at[:n_rows],
    )
    return session, tally


@kernel
def _parse(  # noqa: PLR0912, C901 - one pass over bytes, because a call a field costs more than the field
    text: Bytes, lines: Integers, n_numbers: int, exchange: int, flag: int, least: int
) -> int:
    """Write each line's leading numbers, its exchange and whether its flag is other than 0.

    Returns:
        How many lines, or -1 at the first that is not plainly written.
    """
    n, i, size = 0, 0, len(text)
    while i < size:
        field, start, value = 0, i, 0
        lines[n, n_numbers + 1] = 1
        while True:
            byte = text[i] if i < size else 10
            if byte not in (44, 10):  # a comma, the line's end; a set would be built anew each time
                if byte <= 32 or byte > 126:
                    return -1
                if field < n_numbers:
                    if byte < 48 or byte > 57:
                        return -1
                    value = value * 10 + (byte - 48)
                i += 1
                continue
            length = i - start
            if field < n_numbers:
                if length == 0 or length > _MAX_DIGITS:
                    return -1
                lines[n, field] = value
            elif field == exchange:
                if length != 1:
                    return -1
                lines[n, n_numbers] = text[start]
            if field == flag and length == 1 and text[start] == 48:
                lines[n, n_numbers + 1] = 0
            field, start, value = field + 1, i + 1, 0
            i += 1
            if byte == 10:
                break
        if field < least:
            return -1
        n += 1
    return n


@kernel
def _best_changes(lines: Integers, events: Integers, places: Integers) -> int:
    """Write an event for each line that changes the best bid or offer; return how many."""
    quotes = np.zeros((1 + _N_BYTES, 4), dtype=np.int64)
    index = np.zeros(_N_BYTES, dtype=np.int64)
    n_exchanges, n = 0, 0
    for i in range(len(lines)):
        if lines[i, 6] != 0:
            continue
        byte = lines[i, 5]
        if index[byte] == 0:
            n_exchanges += 1
            index[byte] = n_exchanges
        if take_quote(quotes, n_exchanges, index[byte], lines[i, 1:5]):
            events[n, 0] = _BOOK
            events[n, 1] = lines[i, 0]
            for column in range(4):
                events[n, 2 + column] = quotes[0, column]
            places[n] = i
            n += 1
    return n


@kernel
def _signed_trades(lines: Integers, events: Integers, places: Integers) -> int:
    """Write an event for each trade whose aggressor the tick rule tells; return how many."""
    last, side, n = 0, 0, 0
    for i in range(len(lines)):
        if lines[i, 4] != 0:
            continue
        side = aggressor(last, lines[i, 1], side)
        last = lines[i, 1]
        if side != 0:
            events[n, 0] = _TRADE
            events[n, 1] = lines[i, 0]
            events[n, 2] = lines[i, 1]
            events[n, 3] = lines[i, 2]
            events[n, 4] = side
            places[n] = i
            n += 1
    return n


@kernel
def _walk(  # noqa: PLR0917 - numba takes positional arguments
    events: Integers,
    book: Integers,
    levels: Floats,
    heads: Integers,
    rows: Floats,
    at: Integers,
    marks: Integers,
    state: Integers,
    floats: Floats,
    lead: Integers,
) -> int:
    """Take every event into the book and its features, and keep what was received in the hours asked.

    Args:
        events: As `_events` made them; a trade that is refused gets the reason as its kind.
        book: A new book.
        levels: float64 [2, 2], for the kernels.
        heads: int64 [n, 6], overwritten.
        rows: float64 [m, F], overwritten by the features of grid points.
        at: int64 [m], overwritten by their heads' indices.
        marks: Grid step, first and end of the hours; then heads kept, rows kept, rows made.
        state: Of new features; `floats` and `lead` likewise.
        floats: See `state`.
        lead: See `state`.

    Returns:
        QUIET, or why the book refused a quote: what follows such a one only the served road knows.
    """
    view = book[:VIEW_SIZE]
    head = np.zeros(heads.shape[1], dtype=np.int64)
    row = np.zeros(rows.shape[1])
    due, n_heads, n_rows, n_made = marks[1], 0, 0, 0
    for i in range(len(events)):
        code = _take(events[i], book, levels)
        if code < QUIET and events[i, 0] == _BOOK:
            return code
        if code < QUIET:
            events[i, 0] = code
            continue
        book[_FLAGS] |= _UNVERIFIED
        push_view(view, row, head, state, floats, lead)
        n_made += 1
        if not marks[1] <= head[1] < marks[2]:
            continue
        heads[n_heads] = head
        if head[5] & _LOW & ~_UNVERIFIED == _VALID and head[1] >= due:
            due = head[1] + marks[0]
            rows[n_rows] = row
            at[n_rows] = n_heads
            n_rows += 1
        n_heads += 1
    marks[3], marks[4], marks[5] = n_heads, n_rows, n_made
    return QUIET


@kernel
def _take(event: Integers, book: Integers, levels: Floats) -> int:
    """Take one event into the book as `market.venue_feed` does; return a negative reason if refused."""
    ts = event[1]
    if event[0] == _TRADE:
        price, size = event[2] / UNIT, float(event[3])
        return apply_trade(book, ts, ts, price, size, event[4], _PER_PRICE, _PER_SIZE)
    n_bids = 1 if event[3] > 0 else 0
    n = n_bids + (1 if event[5] > 0 else 0)
    if n_bids:
        levels[0, 0], levels[0, 1] = event[2] / UNIT, float(event[3])
    if n > n_bids:
        levels[n_bids, 0], levels[n_bids, 1] = event[4] / UNIT, float(event[5])
    code = apply_snapshot(book, levels, n_bids, n, 0, _PER_PRICE, _PER_SIZE)
    if code == QUIET:
        fill_view(book, _DEPTH_KIND, ts, ts)
    return code


# -- sessions once built -----------------------------------------------------------------------------


def _key(paths: Sequence[Path], grid_ns: int, hours: tuple[int, int]) -> str:
    """Return a name that no session has which was built from other files, code or settings."""
    digest = sha256()
    for path in paths:
        digest.update(path.read_bytes())
        beside = path.with_name(path.name.replace("_message", "_orderbook"))
        digest.update(beside.read_bytes() if beside != path else b"")
    for part in (grid_ns, hours, BOOK_SPEC.hash, numba.__version__, np.__version__):
        digest.update(repr(part).encode())
    lab = Path(__file__).parent
    house = lab.parent / "finllm"
    rooms = [house / room for room in ("domain", "runtime", "market", "features")]
    sources = [path for room in rooms for path in room.rglob("*.py")]
    for path in sorted([*sources, lab / "ticks.py", lab / "tapes.py"]):
        digest.update(path.relative_to(lab.parent).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _keep(session: Session, held: Path) -> Session:
    """Write a session beside its place and move it there whole."""
    held.parent.mkdir(parents=True, exist_ok=True)
    part = held.with_suffix(f".{session.instrument.partition(':')[2]}.part")
    with part.open("wb") as out:
        heads = session.heads.view(np.int64)
        np.savez(out, heads=heads, rows=session.rows, at=session.kept)
    part.replace(held)
    return session


def _load(name: str, paths: Sequence[Path], held: Path) -> Session | None:
    """Return a session that was kept; None if there is none, or it cannot be read whole."""
    if not held.is_file():
        return None
    try:
        with held.open("rb") as file, np.load(file) as parts:
            heads, rows, at = parts["heads"], parts["rows"], parts["at"]
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
        return None
    return Session(
        name=name,
        instrument=instrument_of(paths[0]),
        heads=heads.view(ROW_HEAD),
        rows=rows,
        at=at,
    )
