"""Recordings in any of the forms that we read, told apart by their first line.

Beside tapes (`tape`) and files of US stocks (`ticks`) these are captures, as cryptofeed writes them
(`wss://host <- time: sent`, `time: received`, `url -> time: answer`), and bare lines of JSON, whose receive
time has to be the venue's own sending time. Knows lines and hosts, nothing of what the messages mean.

Source: github.com/bmoscon/cryptofeed, `sample_data/` and `cryptofeed/util/async_file.py`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.tape import (
    Order,
    Places,
    Tape,
    check_tapes,
    files_of,
    merged,
    parse_ts,
    read_frames,
    read_lines,
)
from finllm.market.ticks import is_ticks, read_ticks
from finllm.runtime.tally import Tally

TICKS: Final = "ticks"
LOOK: Final = 40
"""Lines looked at to tell what a recording is and whose."""
_SENT: Final = re.compile(rb"(wss?://\S+) <[->]>? ")
_ANSWER: Final = re.compile(rb"(https?://\S+) -> (\d{9,10}(?:\.\d+)?): ")
_RECEIVED: Final = re.compile(rb"(\d{9,10}(?:\.\d+)?): ")
_STATED: Final = re.compile(rb'"(?:ts|time|E|timestamp)": ?"?(\d{13})\b')


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What the first lines of a file show."""

    path: Path
    form: str
    """`tape`, `capture`, `bare` or `ticks`."""
    host: str
    """Host that it was recorded from; empty where it does not say."""
    first: tuple[bytes, ...]
    """The first messages."""


def look(tape: Tape) -> Recording:
    """Return what a recording is, from the first lines of its first file.

    Raises:
        InputError: If the file cannot be opened.
    """
    path = files_of(tape)[0]
    if is_ticks(path):
        return Recording(path=path, form=TICKS, host="", first=())
    lines = [line for _, line, _ in islice(read_lines(path, Tally()), LOOK) if line.strip()]
    start = lines[0].lstrip() if lines else b""
    if start.startswith((b"{", b"[")):
        return Recording(path=path, form="bare", host="", first=tuple(lines))
    if not (_SENT.match(start) or _ANSWER.match(start) or _RECEIVED.match(start)):
        first = tuple(line.partition(b" ")[2] for line in lines)
        return Recording(path=path, form="tape", host="", first=first)
    addresses = [found[1] for line in lines if (found := _SENT.match(line) or _ANSWER.match(line))]
    host = urlsplit(addresses[0].decode(errors="replace")).hostname if addresses else None
    first = tuple(line.partition(b": ")[2] for line in lines if _RECEIVED.match(line))
    return Recording(path=path, form="capture", host=host or "", first=first)


def _ns(seconds: bytes) -> int:
    whole, _, rest = seconds.partition(b".")
    return int(whole) * NS_PER_S + int(rest[:9].ljust(9, b"0"))


def read_capture(
    path: Path, *, source: int, tally: Tally, places: Places | None = None
) -> Iterator[Frame]:
    """Yield the frames of a capture or of bare lines, receive times never decreasing.

    Args:
        path: A capture, or a file of JSON messages, plain or gzip.
        source: Index given to every frame.
        tally: Counts every message as read; what was sent by the client is counted as noted.
        places: Told where the file begins, so that a frame's place can be asked for later.

    Yields:
        One frame for each message received. An answer over HTTP is wrapped as
        `{"url": ..., "data": ...}`, because only its request says what it is about.

    Raises:
        InputError: If the file cannot be opened.
    """
    order = Order(tally)
    if places is not None:
        places.begin(source, 0, path)
    for number, line, is_whole in read_lines(path, tally):
        place = f"{path}:{number}"
        if not line.strip():
            continue
        if _SENT.match(line):
            tally.note("sent_by_client", place)
            continue
        tally.read += 1
        ts, payload = _message(line.strip())
        if not is_whole and not payload.endswith((b"}", b"]")):
            tally.drop("torn_line", place)
        elif not ts:
            tally.drop("broken_time", place)
        elif order.is_plain(ts):
            yield Frame(ts, payload, source, number)
        else:
            yield from order.weigh(Frame(ts, payload, source, number), place)
    yield from order.end()


def _message(line: bytes) -> tuple[int, bytes]:
    """Return (receive time, message) of a line; time 0 if it has none."""
    if found := _RECEIVED.match(line):
        return _ns(found[1]), line[found.end() :]
    if found := _ANSWER.match(line):
        url = msgspec.json.encode(found[1].decode(errors="replace"))
        return _ns(found[2]), b'{"url":' + url + b',"data":' + line[found.end() :] + b"}"
    if line.startswith(b"{") and (found := _STATED.search(line)):
        return int(found[1]) * NS_PER_MS, line
    return 0, line


def line_at(path: Path, ts_recv: int) -> int:
    """Return the number of the first line received at or after an instant, from 1; 0 if there is none.

    Raises:
        InputError: If the file cannot be opened.
    """
    form = look(path).form
    if form == TICKS:
        return 0  # a frame of theirs is made of two files, or of many lines
    is_tape = form == "tape"
    for number, line, _ in read_lines(path, Tally()):
        ts = parse_ts(line.partition(b" ")[0])[0] if is_tape else _message(line.strip())[0]
        if ts >= ts_recv:
            return number
    return 0


def read_recordings(
    tapes: Sequence[Tape], tally: Tally, places: Places | None = None
) -> Iterator[Frame]:
    """Yield the frames of several recordings merged by receive time; ties go to the earlier one.

    Each keeps its own order, and its position in `tapes` is its frames' source index.

    Raises:
        InputError: If a file cannot be opened.
    """
    check_tapes(tapes)
    return merged([_read(tape, i, tally, places) for i, tape in enumerate(tapes)])


def _read(tape: Tape, source: int, tally: Tally, places: Places | None) -> Iterator[Frame]:
    form = look(tape).form
    if form == "tape":
        return read_frames(tape, source=source, tally=tally, places=places)
    read = read_ticks if form == TICKS else read_capture
    return read(files_of(tape)[0], source=source, tally=tally, places=places)
