"""Lines of a recorded file, plain or gzip, bounded in memory whatever the file holds."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

CHUNK: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line, without its end."""

    number: int
    """From 1."""
    content: bytes
    """Empty if the line was too long."""
    is_too_long: bool = False
    is_torn: bool = False
    """The file broke off in this line."""


def read_lines(path: Path, *, longest: int) -> Iterator[Line]:
    """Yield a file's lines that are not blank. A longer line is skipped without being held.

    A gzip file that breaks off, or is damaged, gives what could be read; the line it broke off in is
    marked torn, and is yielded even if nothing of it could be read.

    Raises:
        OSError: If the file cannot be read.
    """
    number, held, is_too_long = 1, b"", False
    torn = False
    with path.open("rb") as file:
        for chunk in _chunks(file):
            if chunk is None:
                torn = True
                break
            head, *rest = chunk.split(b"\n")
            held, is_too_long = _extend(held, head, is_too_long, longest)
            for following in rest:
                if held.strip() or is_too_long:
                    yield Line(number=number, content=held.strip(), is_too_long=is_too_long)
                number += 1
                held, is_too_long = _extend(b"", following, False, longest)  # noqa: FBT003 - a new line
    if held.strip() or is_too_long or torn:
        yield Line(number=number, content=held.strip(), is_too_long=is_too_long, is_torn=torn)


def _extend(held: bytes, more: bytes, is_too_long: bool, longest: int) -> tuple[bytes, bool]:  # noqa: FBT001 - private
    if is_too_long or len(held) + len(more) > longest:
        return b"", True
    return held + more, False


def _chunks(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield a file's content in pieces, inflated if it is gzip; None where it breaks off."""
    head = file.read(CHUNK)
    if not head.startswith(_GZIP):
        while head:
            yield head
            head = file.read(CHUNK)
        return
    yield from _inflated(file, head)


def _inflated(file: BinaryIO, raw: bytes) -> Iterator[bytes | None]:
    """Yield the content of one or more gzip members; a bomb comes out in bounded pieces too."""
    member = zlib.decompressobj(wbits=31)
    while True:
        try:
            piece = member.decompress(raw, CHUNK)
        except zlib.error:
            yield None
            return
        if piece:
            yield piece
        raw = member.unconsumed_tail
        if member.eof:
            raw = member.unused_data or file.read(CHUNK)
            if not raw.strip(b"\x00"):
                return
            member = zlib.decompressobj(wbits=31)
        elif not raw and len(piece) < CHUNK:
            raw = file.read(CHUNK)
            if not raw:
                yield None
                return
