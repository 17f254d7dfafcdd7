"""Tapes: recorded frames, one a line as `<ts_recv> <JSON>`, read back in the order they were received.

Knows the line format and how a file can be broken, nothing of what the frames mean. Reads plain and
gzip files (told apart by their first bytes) in bounded memory.
"""

import heapq
import zlib
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Final

from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_DAY, NS_PER_US
from finllm.runtime.tally import Tally

CHUNK: Final = 1 << 18
"""Bytes read at a time."""
MAX_LINE: Final = 1 << 24
"""A line longer than this is not a frame; without a bound a file without line ends would fill memory."""
JUMP_NS: Final = NS_PER_DAY
"""A receive time further ahead than this is believed only when `JUMP_LINES` lines agree on it."""
JUMP_LINES: Final = 3
_GZIP_MAGIC: Final = b"\x1f\x8b"
_US_RANGE: Final = (10**15, 10**16)
_NS_RANGE: Final = (10**17, 9 * 10**18)


def _inflate(file: BinaryIO, name: str, tally: Tally) -> Iterator[bytes]:
    """Yield the content of a gzip file, member by member; a broken end is noted, not raised."""
    inflater = zlib.decompressobj(wbits=31)
    fed = 0
    while packed := file.read(CHUNK):
        while packed:
            if inflater.eof:
                inflater = zlib.decompressobj(wbits=31)
            try:
                plain = inflater.decompress(packed)
            except zlib.error as error:
                tally.note("corrupt_gzip", f"{name}: near byte {fed} ({error})")
                return
            fed += len(packed) - len(inflater.unused_data)
            packed = inflater.unused_data.lstrip(b"\0")
            yield plain
    if not inflater.eof:
        tally.note("truncated_gzip", f"{name}: ends at byte {fed}")


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"the tape cannot be read ({error.strerror or error})",
            place=str(path),
            mend="Give the path of a file of `<ts_recv> <JSON>` lines, plain or gzip.",
        ) from error


def _chunks(path: Path, tally: Tally) -> Iterator[bytes]:
    with _open(path) as file:
        magic = file.read(2)
        file.seek(0)
        yield from _inflate(file, str(path), tally) if magic == _GZIP_MAGIC else _plain(file)


def read_lines(path: Path, tally: Tally) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (line number from 1, line without its end, whether its end was there).

    Args:
        path: A plain or gzip file.
        tally: Where a broken gzip and overlong lines are counted.

    Raises:
        InputError: If the file cannot be opened.
    """
    number = 0
    rest = b""
    skipping = False
    for chunk in _chunks(path, tally):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            number += 1
            if skipping:
                skipping = False
                continue
            yield number, line, True
        if len(rest) > MAX_LINE:
            if not skipping:
                tally.read += 1
                tally.drop("overlong_line", f"{path}:{number + 1}")
            rest, skipping = b"", True
    if rest and not skipping:
        yield number + 1, rest, False


def parse_ts(digits: bytes) -> tuple[int, bool]:
    """Return (nanoseconds, whether they were written as microseconds); (0, False) if it is no time.

    The unit shows in the magnitude: 16 digits are microseconds, 18 or 19 nanoseconds.
    """
    if not digits.isdigit() or len(digits) > 19:
        return 0, False
    value = int(digits)
    if _US_RANGE[0] <= value < _US_RANGE[1]:
        return value * NS_PER_US, True
    if _NS_RANGE[0] <= value < _NS_RANGE[1]:
        return value, False
    return 0, False


class Order:
    """Keeps one file's receive times from running backwards or leaping on one broken number."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._last = 0
        self._jump = 0
        self._agreed = 0

    def admit(self, ts: int, place: str) -> int:
        """Return the time to use, or 0 if the line is to be dropped."""
        last = self._last
        if ts >= last:
            if last and ts - last > JUMP_NS and not self._is_believed(ts):
                return 0
            self._last = ts
        else:
            self._tally.note("out_of_order", place)
            ts = last
        self._agreed = 0
        return ts

    def _is_believed(self, ts: int) -> bool:
        near = self._agreed and abs(ts - self._jump) <= JUMP_NS
        self._agreed = self._agreed + 1 if near else 1
        self._jump = ts
        return self._agreed >= JUMP_LINES


def read_frames(path: Path, *, source: int, tally: Tally) -> Iterator[Frame]:
    """Yield the frames of one tape, receive times never decreasing.

    Args:
        path: A file of `<ts_recv> <JSON>` lines, plain or gzip; times in micro- or nanoseconds.
        source: Index given to every frame.
        tally: Counts every line as read; what is dropped or mended is counted with its place.

    Yields:
        One frame for each whole line. A time lower than the one before it is raised to that one and
        noted as `out_of_order`.

    Raises:
        InputError: If the file cannot be opened.
    """
    order = Order(tally)
    name = str(path)
    for number, line, is_whole in read_lines(path, tally):
        if not line.strip():
            continue
        tally.read += 1
        digits, _, payload = line.partition(b" ")
        payload = payload.strip()
        ts, in_us = parse_ts(digits)
        if in_us:
            tally.note("microseconds", f"{name}:{number}")
        if not is_whole and not payload.endswith(b"}"):
            tally.drop("torn_line", f"{name}:{number}")
        elif not ts:
            tally.drop("broken_time", f"{name}:{number}")
        elif not payload.startswith(b"{"):
            tally.drop("malformed_line", f"{name}:{number}")
        elif admitted := order.admit(ts, f"{name}:{number}"):
            yield Frame(admitted, payload, source)
        else:
            tally.drop("time_jump", f"{name}:{number}")


def check_readable(paths: Sequence[Path]) -> None:
    """Open every file once, so that a missing one is told before the first frame, not hours in.

    Raises:
        InputError: If a file cannot be opened.
    """
    for path in paths:
        _open(path).close()


def read_chain(paths: Sequence[Path], tally: Tally) -> Iterator[Frame]:
    """Yield the frames of several tapes merged by receive time; ties go to the earlier path.

    Each tape keeps its own order, and its position in `paths` is its frames' source index.

    Raises:
        InputError: If a file cannot be opened.
    """
    check_readable(paths)
    tapes = [read_frames(path, source=i, tally=tally) for i, path in enumerate(paths)]
    if len(tapes) == 1:
        return tapes[0]
    return heapq.merge(*tapes, key=attrgetter("ts_recv"))
