"""Bodies of messages: unpacked within bounds, and their bytes made text. Knows nothing of what they say."""

import codecs
import re
import zlib
from typing import Final

from finllm.narrative.sources.rows import Unusable

MOST_BYTES: Final = 8_000_000
"""Bytes of one message, unpacked; a longer one is refused."""
GZIP: Final = b"\x1f\x8b"
_ARCHIVES: Final = (
    (GZIP, "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
)
_TAR_AT: Final = 257
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"(?:encoding|charset)\s{0,3}=\s{0,3}[\"']?([A-Za-z0-9_.:-]{2,30})")
_TEXTS: Final = frozenset(
    [
        "utf-8",
        "iso8859-1",
        "iso8859-2",
        "iso8859-5",
        "iso8859-7",
        "iso8859-9",
        "iso8859-15",
        "cp1250",
        "cp1251",
        "cp1252",
        "cp1253",
        "cp1254",
        "ascii",
        "koi8-r",
        "koi8-u",
        "gb2312",
        "gbk",
        "gb18030",
        "big5",
        "shift_jis",
        "cp932",
        "euc_jp",
        "euc_kr",
        "cp949",
    ]
)
"""Python's names of the encodings that a message may declare; its codecs that are no text stay out."""


def unpacked(payload: bytes, most: int = MOST_BYTES) -> bytes:
    """Return a message without its gzip, of which it may have one layer.

    Raises:
        Unusable: `too_long`, `bomb` (unpacks to more than allowed), `broken_gzip`, or `archive`: any
            other archive, or one inside another.
    """
    if payload.startswith(GZIP):
        payload = inflated(payload, most)
    if len(payload) > most:
        raise Unusable("too_long", f"{len(payload):,} bytes, at most {most:,}")
    kind = archive_of(payload)
    if kind:
        raise Unusable("archive", f"a {kind} archive, where a message was expected")
    return payload


def inflated(packed: bytes, most: int, wbits: int = 47) -> bytes:
    """Return what gzip or zlib packed; never holds more than `most` bytes of it.

    Args:
        packed: The packed bytes.
        most: Bytes that may come out.
        wbits: As `zlib` has it; -15 for bare deflate.

    Raises:
        Unusable: `bomb` or `broken_gzip`.
    """
    parts: list[bytes] = []
    left = most
    while packed:
        member = zlib.decompressobj(wbits)
        try:
            part = member.decompress(packed, left + 1)
        except zlib.error as why:
            raise Unusable("broken_gzip", str(why)) from None
        left -= len(part)
        if left < 0:
            raise Unusable("bomb", f"unpacks to more than {most:,} bytes")
        if not member.eof:
            raise Unusable("broken_gzip", "it breaks off")
        parts.append(part)
        packed = member.unused_data.lstrip(b"\x00") if part or len(parts) < 2 else b""
    return b"".join(parts)


def archive_of(payload: bytes) -> str:
    """Return which archive a message is; empty if none."""
    if payload[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "tar"
    return next((name for sign, name in _ARCHIVES if payload.startswith(sign)), "")


def text_of(payload: bytes) -> tuple[str, bool]:
    """Return a message's text, and whether bytes of it had to be replaced.

    Its byte order mark decides, then UTF-8 if it is that, then what its first 1,024 bytes declare.
    """
    for sign, name in _BOMS:
        if payload.startswith(sign):
            return _decoded(payload, name)
    try:
        return payload.decode(), False
    except UnicodeDecodeError:
        declared = _DECLARED.search(payload[:1024])
        return _decoded(payload, _known(declared[1].decode()) if declared else "utf-8")


def _decoded(payload: bytes, name: str) -> tuple[str, bool]:
    try:
        return payload.decode(name), False
    except UnicodeDecodeError:
        return payload.decode(name, errors="replace"), True


def _known(name: str) -> str:
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return "utf-8"
    return found if found in _TEXTS else "utf-8"
