"""US stocks from files of ticks, as frames: LOBSTER's pairs, and quotes and trades by exchange.

    AMZN_20120621_message_L1.csv.gz   with AMZN_20120621_orderbook_L1.csv.gz beside it
    aig_20131010_quote.csv.gz, aig_20131010_trade.csv.gz

The files' names give symbol and day; times in them count from midnight in New York. Frames are normalised
messages (`venues.normalised`), whole books each: LOBSTER's levels, or the best bid and offer over all
exchanges. The files hold no withdrawals, so a quote that a newer one of the other side has met or passed
is taken as gone. Trades by exchange do not say who was the aggressor, so the tick rule does.

Source: LOBSTER, "Output structure"; QuantConnect Lean `Data/equity/readme.md`; Lee & Ready (1991),
"Inferring trade direction from intraday data", for the tick rule.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS, NS_PER_S, to_ns
from finllm.market.best import aggressor, new_quotes, take_quote
from finllm.market.tape import Order, Places, read_lines
from finllm.market.venues.doorway import Level
from finllm.market.venues.normalised import Book, Line, Trade
from finllm.runtime.tally import Tally

_LOBSTER: Final = re.compile(r"([A-Za-z.]+)_(\d{8})_message(.*)\.csv(\.gz)?")
_EXCHANGES: Final = re.compile(r"([A-Za-z.]+)_(\d{8})_(quote|trade)\.csv(\.gz)?")
_NEW_YORK: Final = ZoneInfo("America/New_York")
UNIT: Final = 1e4
"""Prices are in hundredths of a cent."""
_NO_LEVEL: Final = 9_999_999_999
_BEYOND: Final = 10**15
"""Prices and sizes are smaller than this, so that sums of sizes are exact."""
_VISIBLE, _HIDDEN = 4, 5
"""LOBSTER's types of executions."""

_Side = Literal["buy", "sell"]


def is_ticks(path: Path) -> bool:
    """Return whether a file's name is that of a file of ticks."""
    return bool(_LOBSTER.fullmatch(path.name) or _EXCHANGES.fullmatch(path.name))


def read_ticks(
    path: Path, *, source: int, tally: Tally, places: Places | None = None
) -> Iterator[Frame]:
    """Yield a file's frames, receive times (the exchange's own) never decreasing.

    Args:
        path: LOBSTER's message file, or a file of quotes or trades, plain or gzip.
        source: Index given to every frame.
        tally: Counts each frame as read, and each row that makes none as read and dropped.
        places: Told where the file begins, so that a frame's place can be asked for later.

    Raises:
        InputError: If a file, or the order book file beside LOBSTER's messages, cannot be read.
    """
    if found := _LOBSTER.fullmatch(path.name):
        rows = _lobster(path, found[1].upper(), tally)
    else:
        match = _EXCHANGES.fullmatch(path.name)
        if match is None:
            raise InputError(
                "the name says neither symbol nor day",
                place=str(path),
                mend="Name it SYMBOL_YYYYMMDD_message.csv, _quote.csv or _trade.csv.",
            )
        found = match
        read = _quotes if found[3] == "quote" else _trades
        rows = read(path, found[1].upper(), tally)
    midnight = _midnight(found[2], path)
    order = Order(tally)
    if places is not None:
        places.begin(source, 0, path)
    for offset_ns, place, part in rows:
        tally.read += 1
        ts = midnight + offset_ns
        stamped = msgspec.structs.replace(part, ts_event=ts)
        line = Line(book=stamped) if isinstance(stamped, Book) else Line(trade=stamped)
        frame = Frame(ts, msgspec.json.encode(line), source, int(place.rpartition(":")[2]))
        if order.is_plain(ts):
            yield frame
        else:
            yield from order.weigh(frame, place)
    yield from order.end()


def midnight_of(path: Path) -> int:
    """Return the midnight in New York from which a file of ticks counts, ns UTC.

    Raises:
        InputError: If the name says no day.
    """
    found = _LOBSTER.fullmatch(path.name) or _EXCHANGES.fullmatch(path.name)
    return _midnight(found[2] if found else path.name, path)


def _midnight(day: str, path: Path) -> int:
    try:
        return to_ns(datetime.strptime(day, "%Y%m%d").replace(tzinfo=_NEW_YORK))
    except ValueError as error:
        raise InputError(
            f"{day} is no day", place=str(path), mend="Name the file SYMBOL_YYYYMMDD_..."
        ) from error


Row = tuple[int, str, Book | Trade]
"""Nanoseconds after midnight, place, message."""


def _skip(reason: str, place: str, tally: Tally) -> None:
    tally.read += 1
    tally.drop(reason, place)


def _fields(path: Path, tally: Tally, least: int) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, fields) of each row that is whole; drop the others."""
    for number, line, _ in read_lines(path, tally):
        place = f"{path}:{number}"
        if not line.strip():
            continue
        fields = line.decode("ascii", "replace").strip().split(",")
        if len(fields) < least:
            _skip("malformed_line", place, tally)
        else:
            yield place, fields


# -- LOBSTER -------------------------------------------------------------------------------------


def _lobster(path: Path, symbol: str, tally: Tally) -> Iterator[Row]:
    """Yield an execution's trade, then the book after it where it changed."""
    beside = path.with_name(path.name.replace("_message", "_orderbook"))
    if not beside.is_file():
        raise InputError(
            f"the order book file {beside.name} is not beside it",
            place=str(path),
            mend="Put LOBSTER's message and orderbook files into one folder; rows belong together.",
        )
    before: list[str] = []
    rows = zip(_fields(path, tally, 6), _fields(beside, Tally(), 4), strict=False)
    for (place, message), (_, levels) in rows:
        try:
            offset_ns, trade = _message(message, symbol)
            book = None if levels == before else _book(levels, symbol)
        except ValueError:
            _skip("malformed_line", place, tally)
            continue
        before = levels
        if trade is not None:
            yield offset_ns, place, trade
        if book is not None:
            yield offset_ns, place, book
        elif trade is None:
            _skip("no_change", place, tally)


def _message(fields: list[str], symbol: str) -> tuple[int, Trade | None]:
    whole, _, rest = fields[0].partition(".")
    offset_ns = int(whole) * NS_PER_S + int(rest[:9].ljust(9, "0"))
    if int(fields[1]) not in {_VISIBLE, _HIDDEN}:
        return offset_ns, None
    # The side is that of the resting order; who came to it stood on the other.
    side: _Side = "sell" if int(fields[5]) > 0 else "buy"
    size = float(fields[3])
    return offset_ns, Trade(symbol=symbol, price=int(fields[4]) / UNIT, size=size, side=side)


def _book(fields: list[str], symbol: str) -> Book:
    numbers = [int(field) for field in fields]
    asks = _levels(numbers[0::4], numbers[1::4])
    return Book(symbol=symbol, asks=asks, bids=_levels(numbers[2::4], numbers[3::4]), whole=True)


def _levels(prices: list[int], sizes: list[int]) -> list[Level]:
    return [
        (price / UNIT, float(size))
        for price, size in zip(prices, sizes, strict=False)
        if abs(price) < _NO_LEVEL and size > 0
    ]


# -- quotes and trades by exchange -------------------------------------------------------------------


def _whole(text: str) -> int:
    """Return a number of a row; one beyond any price or size is no number."""
    value = int(text)
    if abs(value) >= _BEYOND:
        raise ValueError(text)
    return value


def _quotes(path: Path, symbol: str, tally: Tally) -> Iterator[Row]:
    quotes, exchanges = new_quotes(16), dict[str, int]()
    quote = np.zeros(4, dtype=np.int64)
    for place, fields in _fields(path, tally, 8):
        try:
            offset_ns = int(fields[0]) * NS_PER_MS
            quote[:] = [_whole(field) for field in fields[1:5]]
        except ValueError:
            _skip("malformed_line", place, tally)
            continue
        if fields[7] != "0":
            _skip("suspicious", place, tally)
            continue
        exchange = exchanges.setdefault(fields[5], len(exchanges) + 1)
        if exchange == len(quotes):
            quotes = np.concatenate([quotes, np.zeros_like(quotes)])
        if not take_quote(quotes, len(exchanges), exchange, quote):
            _skip("no_change", place, tally)
            continue
        bids, asks = _best(quotes, 0), _best(quotes, 2)
        yield offset_ns, place, Book(symbol=symbol, bids=bids, asks=asks, whole=True)


def _best(quotes: NDArray[np.int64], column: int) -> tuple[Level, ...]:
    price, size = quotes[0, column : column + 2].tolist()
    return ((price / UNIT, float(size)),) if size > 0 else ()


def _trades(path: Path, symbol: str, tally: Tally) -> Iterator[Row]:
    last, side = 0, 0
    for place, fields in _fields(path, tally, 6):
        try:
            offset_ns = int(fields[0]) * NS_PER_MS
            price, size = (_whole(field) for field in fields[1:3])
        except ValueError:
            _skip("malformed_line", place, tally)
            continue
        if fields[5] != "0":
            _skip("suspicious", place, tally)
            continue
        side = aggressor(last, price, side)
        last = price
        if not side:
            _skip("no_aggressor", place, tally)  # no price has moved yet
            continue
        chosen: _Side = "buy" if side > 0 else "sell"
        yield (
            offset_ns,
            place,
            Trade(symbol=symbol, price=price / UNIT, size=float(size), side=chosen),
        )
