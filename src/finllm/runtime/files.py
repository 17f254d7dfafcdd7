"""Files that only grow, and files of fixed size: written whole, synced when told, failing loudly.

Knows nothing of what is written. A full disk never raises into the caller's stream: writing stops,
the reason is kept and told once, and what could not be written is counted.
"""

import gzip
import os
import re
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.errors import InputError

Opener = Callable[[Path], FileIO]
"""Makes a new file for writing, unbuffered; raises if it exists."""
BATCH_BYTES: Final = 1 << 16
"""Bytes gathered before they are handed to the operating system."""
_NUMBERED = re.compile(r"-(\d{6,})$")


def new_file(path: Path) -> FileIO:
    """Make a file for unbuffered writing; raises FileExistsError if there is one."""
    return FileIO(path, "x")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(file: FileIO, data: bytes | bytearray) -> None:
    """Write everything, however many calls that takes."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place of another, whole and synced: who reads it finds the old or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with new_file(new) as file:
        write_all(file, data)
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


class FixedFile:
    """A small file of fixed size, written in place.

    Args:
        path: Where it stands; made and filled with zeros if it is missing.
        size: Its size in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        missing = size - os.fstat(self._descriptor).st_size
        if missing > 0:
            # Filled at once, so that a later write changes no metadata and fdatasync is enough.
            os.pwrite(self._descriptor, bytes(missing), size - missing)
            os.fsync(self._descriptor)
            sync_folder(path.parent)

    def write_at(self, offset: int, content: bytes) -> None:
        """Write at an offset; raises OSError if not all of it could be written."""
        if os.pwrite(self._descriptor, content, offset) != len(content):
            raise OSError(f"{self.path}: short write")

    def sync(self) -> None:
        """Return once everything written is on the disk."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How large a recording may grow, and how it is cut up."""

    rotate_bytes: int = 64 << 20
    """A segment at least this long is closed and compressed."""
    retain_bytes: int = 64 << 30
    """Closed segments beyond this, oldest first, are deleted, and counted."""
    batch_bytes: int = BATCH_BYTES
    """Handed to the operating system at least this often."""


def segments(folder: Path, name: str, suffix: str) -> list[Path]:
    """Return a recording's segments in order, closed ones compressed or not, each once."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob(f"{name}-*{suffix}")) + sorted(
        folder.glob(f"{name}-*{suffix}.gz")
    ):
        stem = path.name.removesuffix(".gz").removesuffix(suffix)
        numbered = _NUMBERED.search(stem)
        if numbered and stem[: numbered.start()] == name:
            found.setdefault(int(numbered.group(1)), path)
    return [found[number] for number in sorted(found)]


def read_segment(path: Path) -> bytes:
    """Return a segment's bytes, decompressed if need be.

    Raises:
        InputError: If a compressed segment is damaged.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as why:
        raise InputError(
            f"compressed segment is damaged ({why})", place=str(path), mend="Restore it."
        ) from why


class SegmentedFile:
    """A recording in numbered segments: batched, rotated, compressed, bounded.

    Args:
        folder: Made if it is missing.
        name: First part of every segment's file name.
        suffix: Last part of it, such as `.jnl`.
        header: What a new segment opens with.
        bounds: Sizes at which it is cut, and what is kept.
        opener: Makes a segment's file.
        on_failure: Told once, with the reason, when writing stops for good.

    Raises:
        InputError: If the folder already holds a recording of this name.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        suffix: str,
        *,
        header: Callable[[int], bytes] = lambda _: b"",
        bounds: Bounds | None = None,
        opener: Opener = new_file,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if segments(folder, name, suffix):
            raise InputError(
                f"a recording named {name} is already there",
                place=str(folder),
                mend="Record into a new folder.",
            )
        self.failed: str | None = None
        self.lost = 0
        self.deleted_segments = 0
        self.compress_failures = 0
        """Closed segments that stayed uncompressed."""
        self._folder, self._name, self._suffix = folder, name, suffix
        self._header, self._opener, self._on_failure = header, opener, on_failure
        self._bounds = bounds or Bounds()
        self._batch_bytes = self._bounds.batch_bytes
        self._buffer = bytearray()
        self._n = 0
        self._number = 0
        self._size = 0
        self._file: FileIO | None = None
        self._background: ThreadPoolExecutor | None = None
        self._begin()

    @property
    def path(self) -> Path:
        """Return the path of the segment being written."""
        return self._folder / f"{self._name}-{self._number:06d}{self._suffix}"

    def add(self, record: bytes) -> None:
        """Take one record; it reaches the operating system with its batch."""
        if self.failed is not None:
            self.lost += 1
            return
        self._buffer += record
        self._n += 1
        if len(self._buffer) >= self._batch_bytes:
            self.flush()

    def flush(self) -> None:
        """Hand everything taken so far to the operating system."""
        if not self._n or self._file is None:
            return
        try:
            write_all(self._file, self._buffer)
            self._size += len(self._buffer)
            self._buffer.clear()
            self._n = 0
            if self._size >= self._bounds.rotate_bytes:
                self._rotate()
        except OSError as why:
            self._fail(why)

    def sync(self) -> None:
        """Return once everything taken so far is on the disk."""
        self.flush()
        if self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as why:
            self._fail(why)

    def close(self) -> None:
        """Sync, close, and wait for segments that are still being compressed."""
        self.sync()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._background is not None:
            self._background.shutdown()
            self._background = None

    def _begin(self) -> None:
        self._number += 1
        self._size = 0
        try:
            self._file = self._opener(self.path)
            header = self._header(self._number)
            write_all(self._file, header)
            self._size = len(header)
            sync_folder(self._folder)
        except OSError as why:
            self._fail(why)

    def _rotate(self) -> None:
        assert self._file is not None  # noqa: S101 - flush() has just written to it
        closed = self.path
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        if self._background is None:
            self._background = ThreadPoolExecutor(1, thread_name_prefix="compress")
        self._background.submit(self._tidy, closed)
        self._begin()

    def _tidy(self, closed: Path) -> None:
        """Compress a closed segment and delete the oldest beyond the bound. In the background."""
        try:
            _compress(closed)
        except OSError:
            self.compress_failures += 1  # it stays as it is, readable
        # By name, for the next segment may not be there yet, or others after it already.
        found = segments(self._folder, self._name, self._suffix)
        names = [path.name.removesuffix(".gz") for path in found]
        kept = found[: names.index(closed.name) + 1]
        sizes = [path.stat().st_size for path in kept]
        total = sum(sizes)
        for path, size in zip(kept, sizes, strict=True):
            if total <= self._bounds.retain_bytes:
                break
            path.unlink()
            self.deleted_segments += 1
            total -= size

    def _fail(self, why: OSError) -> None:
        self.failed = f"{self.path}: {why.strerror or why}"
        self.lost += self._n
        self._buffer = bytearray()  # a new one: a failed write may still hold the old
        self._n = 0
        if self._file is not None:
            try:
                self._file.truncate(self._size)  # so that no half record stands at the end
            except OSError:
                pass  # readers bear a torn tail
            finally:
                self._file.close()
                self._file = None
        if self._on_failure is not None:
            self._on_failure(self.failed)


def _compress(path: Path) -> None:
    packed = path.with_name(path.name + ".gz")
    partial = path.with_name(path.name + ".part")
    try:
        with path.open("rb") as source, gzip.open(partial, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.rename(packed)
        sync_folder(path.parent)
        path.unlink()
    except OSError:
        partial.unlink(missing_ok=True)
        raise
