"""Tapes: recorded frames, one a line as `<ts_recv> <JSON>`, read back in the order they were received.

Knows the line format and how a file can be broken, nothing of what the frames mean. Reads plain and
gzip files (told apart by their first bytes) in bounded memory.
"""

import heapq
import zlib
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import BinaryIO, Final

from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_US
from finllm.runtime.tally import Tally

CHUNK: Final = 1 << 18
"""Bytes read at a time."""
MAX_LINE: Final = 1 << 24
"""A line longer than this is not a frame; without a bound a file without line ends would fill memory."""
JUMP_NS: Final = 2 * NS_PER_MIN
"""A receive time further ahead than this is believed only when `JUMP_LINES` lines agree on it."""
JUMP_LINES: Final = 3
MAX_HELD: Final = 64
"""Lines held back at most; then those that are in order within a day are taken, for the tape is sparse."""
Tape = Path | Sequence[Path]
"""One source's file, or its files in order, each going on where the one before it ends."""
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


def files_of(tape: Tape) -> Sequence[Path]:
    """Return the files of one source, in order."""
    return [tape] if isinstance(tape, Path) else tape


class Places:
    """Where each frame of a set of tapes stands, by its source and line."""

    def __init__(self) -> None:
        self._files: dict[int, list[tuple[int, Path]]] = {}

    def begin(self, source: int, lines_before: int, path: Path) -> None:
        """Note that a source goes on in a file, after so many lines in the ones before it."""
        self._files.setdefault(source, []).append((lines_before, path))

    def of(self, frame: Frame) -> str:
        """Return `file:line` of a frame that was read from a tape."""
        files = self._files[frame.source]
        before, path = files[bisect_left(files, frame.line, key=itemgetter(0)) - 1]
        return f"{path}:{frame.line - before}"


class Order:
    """Keeps one tape's receive times from running backwards or leaping on one broken number.

    A time within `JUMP_NS` of the last one is taken at once. Others are held back, as the first ones
    are, until `JUMP_LINES` lines lie that close together.
    """

    def __init__(self, tally: Tally) -> None:
        self.last = 0
        """The receive time last taken; 0 before the first."""
        self._tally = tally
        self._held: list[tuple[Frame, str]] = []

    def is_plain(self, ts: int) -> bool:
        """Take a time that follows the last one closely, or tell that it must be weighed."""
        if not self._held and 0 <= ts - self.last <= JUMP_NS:
            self.last = ts
            return True
        return False

    def weigh(self, frame: Frame, place: str) -> list[Frame]:
        """Return the frames that may be used now that this one has come."""
        if self.last and frame.ts_recv - self.last <= JUMP_NS:
            self._drop_held()
            return [self._taken(frame, place)]
        self._held.append((frame, place))
        ahead = [frame.ts_recv - one.ts_recv for one, _ in self._held]
        if sum(abs(by) <= JUMP_NS for by in ahead) < JUMP_LINES and len(ahead) < MAX_HELD:
            return []
        # A tape this sparse never agrees closely: in order within a day has to do.
        held = zip(self._held, ahead, strict=True)
        return self._release([one for one, by in held if -JUMP_NS <= by <= NS_PER_DAY])

    def end(self) -> list[Frame]:
        """Return what was held back and may be used: no later line is left that it could push aside."""
        if not self._held:
            return []
        since = self.last or self._held[0][0].ts_recv
        return self._release([one for one in self._held if one[0].ts_recv - since <= NS_PER_DAY])

    def _release(self, agreed: list[tuple[Frame, str]]) -> list[Frame]:
        self._held = [one for one in self._held if one not in agreed]
        self._drop_held()
        return [self._taken(frame, place) for frame, place in agreed]

    def _taken(self, frame: Frame, place: str) -> Frame:
        if frame.ts_recv < self.last:
            self._tally.note("out_of_order", place)
            return Frame(self.last, frame.payload, frame.source, frame.line)
        self.last = frame.ts_recv
        return frame

    def _drop_held(self) -> None:
        for _, place in self._held:
            self._drop(place)
        self._held.clear()

    def _drop(self, place: str) -> None:
        self._tally.drop("time_jump", place)


def read_frames(
    tape: Tape, *, source: int, tally: Tally, places: Places | None = None
) -> Iterator[Frame]:
    """Yield the frames of one tape, receive times never decreasing.

    Args:
        tape: Lines of `<ts_recv> <JSON>`, plain or gzip; times in micro- or nanoseconds.
        source: Index given to every frame.
        tally: Counts every line as read; what is dropped or mended is counted with its place.
        places: Told where each file begins, so that a frame's place can be asked for later.

    Yields:
        One frame for each whole line. A time lower than the one before it is raised to that one and
        noted as `out_of_order`; one that leaps ahead on its own is dropped as `time_jump`.

    Raises:
        InputError: If a file cannot be opened.
    """
    order = Order(tally)
    n_before = 0
    for path in files_of(tape):
        if places is not None:
            places.begin(source, n_before, path)
        n_before += yield from _read_file(path, order, tally, (source, n_before))
    yield from order.end()


def _read_file(
    path: Path, order: Order, tally: Tally, start: tuple[int, int]
) -> Generator[Frame, None, int]:
    """Yield the frames of one file of a tape; return how many lines it has.

    Args:
        path: The file.
        order: Keeps the tape's times in order.
        tally: As for `read_frames`.
        start: The tape's source index, and its lines in the files before this one.
    """
    source, n_before = start
    name, number = str(path), 0
    for number, line, is_whole in read_lines(path, tally):
        if not line.strip():
            continue
        tally.read += 1
        digits, _, payload = line.partition(b" ")
        payload = payload.strip()
        ts, in_us = parse_ts(digits)
        if in_us:
            tally.note("microseconds", f"{name}:{number}")
        if not is_whole and not payload.endswith((b"}", b"]")):
            tally.drop("torn_line", f"{name}:{number}")
        elif not ts:
            tally.drop("broken_time", f"{name}:{number}")
        elif not payload.startswith((b"{", b"[")):
            tally.drop("malformed_line", f"{name}:{number}")
        elif order.is_plain(ts):
            yield Frame(ts, payload, source, n_before + number)
        else:
            frame = Frame(ts, payload, source, n_before + number)
            yield from order.weigh(frame, f"{name}:{number}")
    return number


def check_tapes(tapes: Sequence[Tape]) -> None:
    """See that every file is there, so that a missing one is told before the first frame.

    Raises:
        InputError: If a file cannot be opened.
    """
    for tape in tapes:
        for path in files_of(tape):
            _open(path).close()


def merged(read: Sequence[Iterator[Frame]]) -> Iterator[Frame]:
    """Yield the frames of several sources by receive time; ties go to the earlier source."""
    return read[0] if len(read) == 1 else heapq.merge(*read, key=attrgetter("ts_recv"))


def read_chain(
    tapes: Sequence[Tape], tally: Tally, places: Places | None = None
) -> Iterator[Frame]:
    """Yield the frames of several tapes merged by receive time; ties go to the earlier tape.

    Each tape keeps its own order, and its position in `tapes` is its frames' source index.

    Raises:
        InputError: If a file cannot be opened.
    """
    check_tapes(tapes)
    return merged(
        [read_frames(tape, source=i, tally=tally, places=places) for i, tape in enumerate(tapes)]
    )
