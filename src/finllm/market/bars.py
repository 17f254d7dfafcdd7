"""Bar files: minute, hour and day bars from the CSV forms in use, each known only once it is over.

Recognises a file by its header. Wall times are New York's. Knows sessions and splits, not models.

Prices that are not split-adjusted are converted *forward*: multiplied by the split factor at their own
date over that of the first bar, so that only splits that had happened by then matter (the usual
backward adjustment puts tomorrow's split into today's price).
"""

import bisect
import csv
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from finllm.domain.errors import InputError
from finllm.domain.market import Bar
from finllm.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_MS, to_ns
from finllm.market.instruments import US_EQUITY
from finllm.market.tape import read_lines
from finllm.runtime.tally import Tally

NEW_YORK: Final = ZoneInfo("America/New_York")
OPEN: Final = timedelta(hours=9, minutes=30)
CLOSE: Final = timedelta(hours=16)
SPLIT_FOLDER: Final = "split_factors"

Row = dict[str, str]
Span = tuple[str, int, int]
"""Instrument key, start and end of a bar, ns UTC."""

_FORMS_TOLD: Final = (
    "Give a CSV with one of these headers: `symbol,bar_start_ny,open,...` (hours), `symbol,date,open,...` "
    "(days), `symbol,ts_start_ns,open,...` or `ts_start_ms` or `ts_ms` (minutes), "
    "`instrument,ts_start,ts_recv,open,high,low,close,volume` (ns)."
)


@lru_cache(maxsize=65_536)
def _midnight_ny(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), NEW_YORK)


def _ny(day: str, of_day: timedelta) -> int:
    """Return New York wall time on a day as ns UTC (wall-clock addition, so DST days are right)."""
    return to_ns((_midnight_ny(day) + of_day).astimezone(UTC))


@lru_cache(maxsize=4_096)
def _equity(symbol: str) -> str:
    if not symbol.replace(".", "").replace("-", "").isalnum():
        raise ValueError(f"{symbol!r} is no symbol")
    return f"{US_EQUITY}:{symbol.upper()}"


@lru_cache(maxsize=65_536)
def _hour_of(wall: str) -> tuple[int, int]:
    day, _, clock = wall.partition(" ")
    hour, minute = (int(part) for part in clock.split(":")[:2])
    start = timedelta(hours=hour, minutes=minute)
    end = timedelta(hours=hour + 1)
    if start < OPEN < end:
        start = OPEN  # the bar that the source files under 09:00
    return _ny(day, start), _ny(day, end)


@lru_cache(maxsize=65_536)
def _day_of(day: str) -> tuple[int, int]:
    return _ny(day, OPEN), _ny(day, CLOSE)


def _hour(row: Row) -> Span:
    return _equity(row["symbol"]), *_hour_of(row["bar_start_ny"])


def _day(row: Row) -> Span:
    return _equity(row["symbol"]), *_day_of(row["date"])


def _minute(row: Row) -> Span:
    start = int(row["ts_start_ns"]) if "ts_start_ns" in row else _millis(row) * NS_PER_MS
    start -= start % NS_PER_MIN
    return _equity(row["symbol"]), start, start + NS_PER_MIN


def _millis(row: Row) -> int:
    return int(row["ts_start_ms"] if "ts_start_ms" in row else row["ts_ms"])


def _own(row: Row) -> Span:
    return row["instrument"], int(row["ts_start"]), int(row["ts_recv"])


class _Form:
    """One CSV form: how to place a row in time, and what its price columns are called."""

    def __init__(self, place: Callable[[Row], Span], *, prefix: str = "", is_raw: bool = False):
        self.place = place
        self.prefix = prefix
        self.is_raw = is_raw
        """Prices as traded: splits are still in them."""

    @staticmethod
    def symbol(row: Row) -> str:
        """Return a row's symbol, upper case, without its venue."""
        return row.get("symbol", row.get("instrument", "SPY")).rpartition(":")[2].upper()


def _form(header: set[str]) -> _Form | None:
    columns = {"open", "high", "low", "close", "volume"}
    if header >= columns | {"instrument", "ts_start", "ts_recv"}:
        return _Form(_own)
    if header >= columns | {"symbol", "bar_start_ny"}:
        return _Form(_hour, is_raw=True)
    if header >= columns | {"symbol", "date"}:
        return _Form(_day)
    is_timed = bool(header & {"ts_start_ns", "ts_start_ms", "ts_ms"})
    if is_timed and header >= columns | {"symbol"}:
        return _Form(_minute)
    if is_timed and header >= {f"bar_{column}" for column in columns}:
        return _Form(_spy_minute, prefix="bar_")
    return None


def _spy_minute(row: Row) -> Span:
    return _minute(row | {"symbol": row.get("symbol", "SPY")})


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the split factors cannot be read ({error})",
            place=str(path),
            mend="Write them as UTF-8 text, or take the file away.",
        ) from error


class Splits:
    """Split factors of one symbol, by the last date for which each holds.

    Args:
        path: CSV without header: date YYYYMMDD, price factor, split factor, reference price. A factor
            is valid up to and including its date.
    """

    def __init__(self, path: Path) -> None:
        rows = []
        for number, line in enumerate(_text(path).splitlines(), start=1):
            try:
                day, _, factor = line.split(",")[:3]
                rows.append((int(day), float(factor)))
            except ValueError as error:
                raise InputError(
                    "not a split factor row",
                    place=f"{path}:{number}",
                    mend="Write `YYYYMMDD,price factor,split factor,reference price`.",
                ) from error
        rows.sort()
        self._days = [day for day, _ in rows]
        self._factors = [factor for _, factor in rows]

    def factor(self, day: int) -> float:
        """Return the split factor on a day written YYYYMMDD; 1 after the last row."""
        at = bisect.bisect_left(self._days, day)
        return self._factors[at] if at < len(self._factors) else 1.0


class _Forward:
    """Converts raw prices forward, symbol by symbol, where split factors lie beside the file."""

    def __init__(self, path: Path, tally: Tally) -> None:
        self._folder = path.parent / SPLIT_FOLDER
        self._tally = tally
        self._splits: dict[str, Splits | None] = {}
        self._first: dict[str, float] = {}

    def scale(self, instrument: str, ts_start: int) -> float:
        """Return what a price of this bar is multiplied by. Bars must come in time order."""
        splits = self._of(instrument)
        if splits is None:
            return 1.0
        factor = splits.factor(_day_number(ts_start // NS_PER_HOUR))
        return factor / self._first.setdefault(instrument, factor)

    def _of(self, instrument: str) -> Splits | None:
        if instrument not in self._splits:
            path = self._folder / f"{instrument.partition(':')[2].lower()}.csv"
            self._splits[instrument] = Splits(path) if path.is_file() else None
            if self._splits[instrument] is None:
                self._tally.note("no_split_factors", instrument)
        return self._splits[instrument]


@lru_cache(maxsize=65_536)
def _day_number(hours: int) -> int:
    moment = datetime.fromtimestamp(hours * 3_600, NEW_YORK)
    return moment.year * 10_000 + moment.month * 100 + moment.day


def _lines(path: Path, tally: Tally) -> Iterator[str]:
    for number, line, is_whole in read_lines(path, tally):
        if not is_whole:
            tally.note("no_line_end_at_end_of_file", f"{path}:{number}")
        yield line.decode("utf-8", "replace").rstrip("\r")


def _rows(path: Path, tally: Tally) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells), the header first.

    Only a file with a `text` column may quote: elsewhere a stray quote must not swallow what follows.
    """
    lines = _lines(path, tally)
    header = next(lines, "").split(",")
    yield 1, header
    if "text" not in header:
        for number, line in enumerate(lines, start=2):
            if line.strip():
                yield number, line.split(",")
        return
    reader = csv.reader(line + "\n" for line in lines)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            cells = []
        if cells != []:
            yield reader.line_num + 1, cells


def _numbers(row: Row, prefix: str) -> tuple[float, float, float, float, float]:
    return (
        float(row[prefix + "open"]),
        float(row[prefix + "high"]),
        float(row[prefix + "low"]),
        float(row[prefix + "close"]),
        float(row[prefix + "volume"]),
    )


def _fault(numbers: tuple[float, float, float, float, float]) -> str:
    o, h, low, c, v = numbers
    if not math.isfinite(o + h + low + c + v):
        return "non_finite"
    if low <= 0.0 or v < 0.0:
        return "negative"
    slack = 1e-6 * h  # sources round each of the four on its own
    if h < max(o, c, low) - slack or low > min(o, c) + slack:
        return "inconsistent"
    return ""


class _Reading:
    """Turns the lines of one file into bars, counting what is dropped."""

    def __init__(self, path: Path, tally: Tally, symbols: frozenset[str] | None) -> None:
        self._path = path
        self._tally = tally
        self._wanted = None if symbols is None else {symbol.upper() for symbol in symbols}
        self.seen: set[str] = set()
        """Symbols met, asked for or not."""
        self._header: list[str] = []
        self._form: _Form | None = None

    def bars(self) -> list[Bar]:
        """Return the file's bars, raw as they stand."""
        rows = _rows(self._path, self._tally)
        form = self._recognise(next(rows, (1, []))[1])
        return [bar for number, cells in rows if (bar := self._bar(form, number, cells))]

    @property
    def is_raw(self) -> bool:
        """Return whether splits are still in the prices."""
        return self._form is not None and self._form.is_raw

    def _recognise(self, header: list[str]) -> _Form:
        self._header = [name.strip().lstrip("\ufeff").lower() for name in header]
        form = self._form = _form(set(self._header))
        if form is None:
            raise InputError(
                f"no bar file has this header: {','.join(self._header)[:200]!r}",
                place=f"{self._path}:1",
                mend=_FORMS_TOLD,
            )
        return form

    def _bar(self, form: _Form, number: int, cells: list[str]) -> Bar | None:
        row = dict(zip(self._header, cells, strict=False))
        self._tally.read += 1
        place = f"{self._path}:{number}"
        try:
            symbol = form.symbol(row)
            self.seen.add(symbol)
            if self._wanted is not None and symbol not in self._wanted:
                self._tally.drop("not_asked_for", place)
                return None
            instrument, start, end = form.place(row)
            numbers = _numbers(row, form.prefix)
        except (ValueError, KeyError, OverflowError):
            self._tally.drop("malformed_line", place)
            return None
        if reason := _fault(numbers) or ("bad_times" if not 0 < start <= end else ""):
            self._tally.drop(reason, place)
            return None
        o, h, low, c, v = numbers
        return Bar(
            instrument=instrument, ts_start=start, ts_recv=end,
            open=o, high=h, low=low, close=c, volume=v,
        )  # fmt: skip


def _in_order(bars: list[Bar], tally: Tally, path: Path) -> Iterable[Bar]:
    """Yield bars by (ts_recv, instrument), each once; of two for one time the first in the file stands."""
    last: dict[str, int] = {}
    unsorted = 0
    for bar in bars:
        unsorted += bar.ts_recv < last.get(bar.instrument, 0)
        last[bar.instrument] = max(bar.ts_recv, last.get(bar.instrument, 0))
    if unsorted:
        tally.noted["out_of_order"] += unsorted
        tally.first_place.setdefault("out_of_order", str(path))
    seen: set[str] = set()
    at = 0
    for bar in sorted(bars, key=lambda bar: (bar.ts_recv, bar.instrument)):
        if bar.ts_recv != at:
            seen.clear()
            at = bar.ts_recv
        if bar.instrument in seen:
            tally.drop("duplicate", f"{path}: {bar.instrument} at {bar.ts_start}")
            continue
        seen.add(bar.instrument)
        yield bar


def _scaled(bar: Bar, scale: float) -> Bar:
    if scale == 1.0:
        return bar
    return Bar(
        instrument=bar.instrument, ts_start=bar.ts_start, ts_recv=bar.ts_recv,
        open=bar.open * scale, high=bar.high * scale, low=bar.low * scale,
        close=bar.close * scale, volume=bar.volume / scale,
    )  # fmt: skip


def read_bars(
    path: Path,
    *,
    tally: Tally,
    symbols: frozenset[str] | None = None,
    context: frozenset[str] = frozenset(),
) -> Iterator[Bar]:
    """Yield the bars of one file by (ts_recv, instrument).

    Forms, by header: hours in New York wall time (the bar filed under 09:00 starts at 09:30; each ends
    at the next full hour); days (09:30 to 16:00 New York; half days count as full ones, so a bar is
    never known too early); minutes from `ts_start_ns`, `ts_start_ms` or `ts_ms` (any time within the
    minute; with `bar_open,...` columns and no symbol: SPY); and our own, in ns. Daily files are taken
    as split-adjusted by their source, which scales levels with hindsight but leaves returns alone.

    Args:
        path: A CSV file, plain or gzip.
        tally: Counts every row as read; yielded rows as used, the rest as dropped with the place.
        symbols: Symbols to keep; None keeps all.
        context: Symbols to keep as well, where the file has them.

    Raises:
        InputError: If the file cannot be opened, its header is none of the known ones, or it has no
            row of a symbol that was asked for.
    """
    reading = _Reading(path, tally, None if symbols is None else symbols | context)
    bars = reading.bars()
    missing = {symbol.upper() for symbol in symbols or ()} - reading.seen
    if missing:
        raise InputError(
            f"has no bars of {', '.join(sorted(missing))}",
            place=str(path),
            mend=f"It has {', '.join(sorted(reading.seen)[:20]) or 'none at all'}.",
        )
    forward = _Forward(path, tally) if reading.is_raw else None
    for bar in _in_order(bars, tally, path):
        tally.used += 1
        yield _scaled(bar, forward.scale(bar.instrument, bar.ts_start)) if forward else bar
