"""Rows of a recorded file: JSON lines or CSV, plain or gzip, each with its place."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from finllm.domain.errors import InputError
from finllm.narrative.sources.lines import Line, read_lines
from finllm.runtime.tally import Tally

LONGEST_LINE: Final = 4_000_000
"""Bytes; a longer line is not even held."""

Row = dict[str, Any]


class Unusable(Exception):  # noqa: N818 - not an error of the caller: it becomes a refusal
    """A row that makes no document."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def read_rows(path: Path, tally: Tally) -> Iterator[tuple[str, Row | Unusable]]:
    """Yield a file's rows, each with its place, or why a row cannot be one.

    Raises:
        InputError: If the file cannot be read, or a CSV has no column `text`.
    """
    names = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    try:
        lines = read_lines(path, longest=LONGEST_LINE)
        if names[-1:] == [".csv"]:
            yield from _csv_rows(path, lines, tally)
        else:
            yield from _json_rows(path, lines, tally)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}",
            place=str(path),
            mend="Name a readable file of JSON lines or CSV.",
        ) from error


def _json_rows(
    path: Path, lines: Iterator[Line], tally: Tally
) -> Iterator[tuple[str, Row | Unusable]]:
    for line in lines:
        place = f"{path.name}:{line.number}"
        if line.is_torn:
            tally.note("truncated", place)
        if line.content or line.is_too_long:
            yield place, _json_row(line)


def _json_row(line: Line) -> Row | Unusable:
    if line.is_too_long:
        return Unusable("too_long", f"line over {LONGEST_LINE:,} bytes")
    row = row_of(line.content)
    if isinstance(row, Unusable) and line.is_torn and row.reason != "not_utf8":
        return Unusable("truncated", "the file breaks off in this line")
    return row


def row_of(content: bytes) -> Row | Unusable:
    """Return a line of JSON as a row, or why it cannot be one."""
    try:
        row = msgspec.json.decode(content)
    except UnicodeDecodeError:
        return Unusable("not_utf8")
    except (msgspec.DecodeError, RecursionError) as error:
        return Unusable(_why_broken(content), str(error))
    return row if isinstance(row, dict) else Unusable("broken_json", "not an object")


def _why_broken(content: bytes) -> str:
    try:
        content.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    return "broken_json"


class _CsvText:
    """A CSV's lines as text, remembering where it is and what it had to leave out."""

    def __init__(self, lines: Iterator[Line], path: Path, tally: Tally) -> None:
        self._lines = lines
        self._path = path
        self._tally = tally
        self._left_out: list[str] = []
        self.place = f"{path.name}:1"

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.place = f"{self._path.name}:{line.number}"
            if line.is_torn:
                self._tally.note("truncated", self.place)
            if line.is_too_long:
                self._left_out.append(self.place)
            else:
                yield line.content.decode(errors="surrogateescape") + "\n"

    def left_out(self) -> list[tuple[str, Unusable]]:
        """Return the lines left out since last asked."""
        places, self._left_out = self._left_out, []
        return [(place, Unusable("too_long", "line too long to be held")) for place in places]


def _csv_rows(
    path: Path, lines: Iterator[Line], tally: Tally
) -> Iterator[tuple[str, Row | Unusable]]:
    """Yield a CSV's rows. A field longer than the csv module's 131,072 characters is `too_long`."""
    text = _CsvText(lines, path, tally)
    reader = csv.reader(text)
    header = _header(reader, path)
    while True:
        row = _next_row(reader, header)
        yield from text.left_out()
        if row is None:
            return
        yield text.place, row


def _next_row(reader: Iterator[list[str]], header: list[str]) -> Row | Unusable | None:
    try:
        cells = next(reader, None)
    except csv.Error as error:
        reason = "too_long" if "field limit" in str(error) else "broken_csv"
        return Unusable(reason, str(error))
    if cells is None:
        return None
    if len(cells) != len(header):
        return Unusable("broken_csv", f"{len(cells)} fields where the header has {len(header)}")
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}


def _header(reader: Iterator[list[str]], path: Path) -> list[str]:
    try:
        header = [name.strip().lstrip("\ufeff").lower() for name in next(reader, [])]
    except csv.Error:
        header = []
    if header and "text" not in header:
        raise InputError(
            f"the header has no column `text` (it has {', '.join(header)[:200]})",
            place=f"{path}:1",
            mend="Name the columns: text, and ts_ms, ts_published or date.",
        )
    return header
