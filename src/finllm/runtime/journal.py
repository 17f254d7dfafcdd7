"""Journals: what came in, in the order it came, as bytes with a number each.

Never heard of what it records. *Journalled* means handed to the operating system; `sync` puts it on
the disk. One record is its number, kind, length and CRC, then the payload; a segment opens with the
format's version and the fingerprint of the machine and libraries that wrote it.
"""

import platform
import struct
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, Self
from zlib import crc32

import msgspec

from finllm.domain.errors import InputError, TamperedError
from finllm.runtime.files import (
    Bounds,
    Opener,
    SegmentedFile,
    new_file,
    read_segment,
    segments,
)

FORMAT: Final = 1
"""Version of the layout below."""
END: Final = 0xFFFF
"""Kind of the record that a closed journal ends with; not for callers."""
SUFFIX: Final = ".jnl"
_MAGIC: Final = b"FINJRNL\n"
_PREFIX: Final = struct.Struct("<II")  # length and CRC of the header
_RECORD: Final = struct.Struct("<QHI")  # sequence number, kind, payload length
_CRC: Final = struct.Struct("<I")
_OVERHEAD: Final = _RECORD.size + _CRC.size
_LOOK_AHEAD: Final = 16
"""Records after a broken one that are looked for; a torn tail has none, other damage has."""


def fingerprint() -> dict[str, str]:
    """Return what decides whether another machine gives the same bits."""
    found = {"python": sys.version.split()[0], "machine": platform.machine(), "cpu": _cpu()}
    for package in ("msgspec", "numba", "numpy", "onnxruntime"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def _cpu() -> str:
    """Return the CPU's model and the vector extensions that change rounding."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return platform.processor()
    pairs = (line.partition(":") for line in listing.read_text().split("\n\n", 1)[0].splitlines())
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    vectors = [flag for flag in ("fma", "avx2", "avx512f") if flag in flags]
    return " ".join([facts.get("model name", platform.processor()), *vectors]).strip()


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment opens with."""

    format: int
    name: str
    segment: int
    first_seq: int
    """Number of its first record."""
    fingerprint: dict[str, str]


class _Recording:
    """What is recorded into segments: how it stands, and how it ends."""

    _file: SegmentedFile

    @property
    def failed(self) -> str | None:
        """Return why recording stopped, or None while it goes on."""
        return self._file.failed

    @property
    def lost(self) -> int:
        """Return how many entries were taken and not recorded."""
        return self._file.lost

    @property
    def deleted_segments(self) -> int:
        """Return how many old segments the retention bound has deleted."""
        return self._file.deleted_segments

    @property
    def compress_failures(self) -> int:
        """Return how many closed segments stayed uncompressed."""
        return self._file.compress_failures

    def flush(self) -> None:
        """Hand everything taken so far to the operating system."""
        self._file.flush()

    def sync(self) -> None:
        """Return once everything taken so far is on the disk, or recording has stopped."""
        self._file.sync()

    def close(self) -> None:
        """Sync and close; waits for segments that are still being compressed."""
        self._file.close()


class Journal(_Recording):
    """An append-only recording of numbered records. Make one with `create`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seq = 0
        self._fingerprint = fingerprint()

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        name: str,
        rotate_bytes: int = Bounds().rotate_bytes,
        retain_bytes: int = Bounds().retain_bytes,
        batch_bytes: int = Bounds().batch_bytes,
        opener: Opener = new_file,
        on_failure: Callable[[str], None] | None = None,
    ) -> Self:
        """Begin a journal.

        Args:
            folder: Made if it is missing.
            name: First part of its file names.
            rotate_bytes: A segment at least this long is closed and compressed in the background.
            retain_bytes: Closed segments beyond this are deleted, oldest first, and counted.
            batch_bytes: Handed to the operating system at least this often.
            opener: Makes a segment's file; tests hand in one that breaks.
            on_failure: Told once, with the reason, when recording stops.

        Raises:
            InputError: If the folder already holds a journal of this name.
        """
        journal = cls(name)
        bounds = Bounds(
            rotate_bytes=rotate_bytes, retain_bytes=retain_bytes, batch_bytes=batch_bytes
        )
        journal._file = SegmentedFile(
            folder,
            name,
            SUFFIX,
            header=journal._header,
            bounds=bounds,
            opener=opener,
            on_failure=on_failure,
        )
        return journal

    @property
    def seq(self) -> int:
        """Return the number of the last record; 0 before the first."""
        return self._seq

    def append(self, kind: int, payload: bytes) -> int:
        """Take one record; it reaches the operating system with its batch, or with `flush`.

        Args:
            kind: 0 to 65534, the caller's meaning.
            payload: Up to 4 GiB.

        Returns:
            Its sequence number, from 1 without holes, also when recording has stopped.
        """
        seq = self._seq = self._seq + 1
        head = _RECORD.pack(seq, kind, len(payload))
        self._file.add(head + _CRC.pack(crc32(payload, crc32(head))) + payload)
        return seq

    def close(self) -> None:
        """Mark the end, sync and close; waits for segments that are still being compressed."""
        if self._file.failed is None:
            self.append(END, b"")
            self._seq -= 1
        self._file.close()

    def _header(self, segment: int) -> bytes:
        header = Header(
            format=FORMAT,
            name=self._name,
            segment=segment,
            first_seq=self._seq + 1,
            fingerprint=self._fingerprint,
        )
        packed = msgspec.msgpack.encode(header)
        return _MAGIC + _PREFIX.pack(len(packed), crc32(packed)) + packed


class JournalReader(Iterator[tuple[int, int, bytes]]):
    """Reads a journal back as (sequence number, kind, payload), in order.

    A torn tail ends it, and `torn` says where and why; `ended` tells whether the journal was
    closed. Damage anywhere else raises TamperedError with segment and offset.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = segments(folder, name, SUFFIX)
        if not self._paths:
            raise InputError(
                f"no journal named {name}", place=str(folder), mend="Name the folder of a run."
            )
        self.torn: str | None = None
        self.ended = False
        self.first_seq = 0
        self.headers: list[Header] = []
        self._expected = 0
        self._records = self._read()

    def __next__(self) -> tuple[int, int, bytes]:
        return next(self._records)

    def _read(self) -> Iterator[tuple[int, int, bytes]]:
        for path in self._paths:
            if not self.ended:
                yield from self._read_segment(
                    path, read_segment(path), last=path == self._paths[-1]
                )

    def _read_segment(
        self, path: Path, data: bytes, *, last: bool
    ) -> Iterator[tuple[int, int, bytes]]:
        offset = self._open_segment(path, data, last=last)
        while offset < len(data):
            record = _record_at(data, offset, self._expected)
            if record is None:
                self._broken(path, data, offset, last=last)
                return
            kind, payload = record
            offset += _OVERHEAD + len(payload)
            if kind == END:
                self.ended = True
                return
            self._expected += 1
            yield self._expected - 1, kind, payload

    def _open_segment(self, path: Path, data: bytes, *, last: bool) -> int:
        header = _header_of(data)
        if header is None:
            if not last:
                raise TamperedError(f"{path} at offset 0: the segment's header is damaged")
            self.torn = f"{path} at offset 0: header cut short"
            return len(data)
        if header.format != FORMAT:
            raise InputError(
                f"journal format {header.format}, this version reads {FORMAT}",
                place=str(path),
                mend="Use the version that wrote it.",
            )
        if not self.headers:
            self._expected = self.first_seq = header.first_seq
        elif header.first_seq != self._expected:
            raise TamperedError(
                f"{path} at offset 0: starts with record {header.first_seq}, "
                f"{self._expected} expected; a segment or its end is missing"
            )
        self.headers.append(header)
        return len(_MAGIC) + _PREFIX.size + _PREFIX.unpack_from(data, len(_MAGIC))[0]  # type: ignore[no-any-return]  # struct is untyped

    def _broken(self, path: Path, data: bytes, offset: int, *, last: bool) -> None:
        place = f"{path} at offset {offset}: record {self._expected}"
        if not last:
            raise TamperedError(f"{place} is damaged, and later segments follow")
        if _any_record_after(data, offset, self._expected):
            raise TamperedError(f"{place} is damaged, and whole records follow")
        self.torn = f"{place} cut short, {len(data) - offset} bytes left over"


def read_journal(folder: Path, name: str) -> JournalReader:
    """Return a reader of a journal, open or closed.

    Raises:
        InputError: If there is none, or it has another format.
        TamperedError: While reading, on damage anywhere but at the very end.
    """
    return JournalReader(folder, name)


def _header_of(data: bytes) -> Header | None:
    start = len(_MAGIC) + _PREFIX.size
    if len(data) < start or data[: len(_MAGIC)] != _MAGIC:
        return None
    length, crc = _PREFIX.unpack_from(data, len(_MAGIC))
    packed = data[start : start + length]
    if len(packed) != length or crc32(packed) != crc:
        return None
    return msgspec.msgpack.decode(packed, type=Header)


def _record_at(data: bytes, offset: int, seq: int) -> tuple[int, bytes] | None:
    """Return (kind, payload) of the whole, undamaged record of this number at an offset, if any."""
    start = offset + _OVERHEAD
    if start > len(data):
        return None
    found, kind, length = _RECORD.unpack_from(data, offset)
    if found != seq or start + length > len(data):
        return None
    payload = data[start : start + length]
    (crc,) = _CRC.unpack_from(data, offset + _RECORD.size)
    if crc32(payload, crc32(data[offset : offset + _RECORD.size])) != crc:
        return None
    return kind, payload


def _any_record_after(data: bytes, offset: int, seq: int) -> bool:
    for later in range(seq + 1, seq + 1 + _LOOK_AHEAD):
        mark = struct.pack("<Q", later)
        at = data.find(mark, offset)
        while at >= 0:
            if _record_at(data, at, later) is not None:
                return True
            at = data.find(mark, at + 1)
    return False


class LineJournal(_Recording):
    """Frames of one source in the open line format `<ts_recv_ns> <json>`."""

    def __init__(self, file: SegmentedFile) -> None:
        self._file = file

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        source: str,
        bounds: Bounds | None = None,
        opener: Opener = new_file,
        on_failure: Callable[[str], None] | None = None,
    ) -> Self:
        """Begin the recording of one source; arguments as for `Journal.create`."""
        file = SegmentedFile(
            folder, source, ".txt", bounds=bounds, opener=opener, on_failure=on_failure
        )
        return cls(file)

    def append(self, ts_recv: int, payload: bytes) -> None:
        """Take one frame. Line breaks in it, which JSON has only between tokens, become spaces."""
        if b"\n" in payload or b"\r" in payload:
            payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
        self._file.add(b"%d %b\n" % (ts_recv, payload))
