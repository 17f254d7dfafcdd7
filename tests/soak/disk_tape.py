"""Records every write and sync that a ledger makes, and rebuilds what a power cut could leave.

SQLite: a copy of its own VFS is registered as the default, with xOpen and xDelete, and of each file
xWrite, xTruncate, xSync and xClose, led through Python and on to the originals. So the product's code
runs unchanged, on the very library that `sqlite3` uses, and the tape holds SQLite's own writes and
sync points. The head: `FixedFile.write_at` and `sync` are led the same way. Acknowledgements are noted
between them.

Why this is sound: POSIX promises of a file only what its last returned fsync covered; of everything
written since, a disk may keep any part in any order. `after_cut` takes exactly that: per file the
content at the last sync that had returned, then of each later write every 512-byte sector apart: new,
old, zeros or garbage (in the modes that say so). What lies outside the bytes written stays, as SQLite
assumes (powersafe overwrite) and as the head needs only for its other block. The shared-memory index
(-shm) is no durable state and is left out, as SQLite rebuilds it. Not covered: a disk that says synced
and lies, and a file system that loses a file's name after the folder was synced.
"""

import ctypes
import os
import sqlite3  # noqa: F401 - loads the library that is shimmed
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np

from finllm.ledger import storage
from finllm.runtime.files import FixedFile, sync_folder

SECTOR = 512
_P = ctypes.c_void_p
_INT = ctypes.c_int
_I64 = ctypes.c_int64


class _Methods(ctypes.Structure):
    _fields_ = [("iVersion", _INT)] + [
        (name, _P)
        for name in [
            "xClose",
            "xRead",
            "xWrite",
            "xTruncate",
            "xSync",
            "xFileSize",
            "xLock",
            "xUnlock",
            "xCheckReservedLock",
            "xFileControl",
            "xSectorSize",
            "xDeviceCharacteristics",
            "xShmMap",
            "xShmLock",
            "xShmBarrier",
            "xShmUnmap",
            "xFetch",
            "xUnfetch",
        ]
    ]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", _INT),
        ("szOsFile", _INT),
        ("mxPathname", _INT),
        ("pNext", _P),
        ("zName", ctypes.c_char_p),
        ("pAppData", _P),
    ] + [
        (name, _P)
        for name in [
            "xOpen",
            "xDelete",
            "xAccess",
            "xFullPathname",
            "xDlOpen",
            "xDlError",
            "xDlSym",
            "xDlClose",
            "xRandomness",
            "xSleep",
            "xCurrentTime",
            "xGetLastError",
            "xCurrentTimeInt64",
            "xSetSystemCall",
            "xGetSystemCall",
            "xNextSystemCall",
        ]
    ]


_OPEN = ctypes.CFUNCTYPE(_INT, _P, _P, _P, _INT, _P)
_DELETE = ctypes.CFUNCTYPE(_INT, _P, ctypes.c_char_p, _INT)
_CLOSE = ctypes.CFUNCTYPE(_INT, _P)
_WRITE = ctypes.CFUNCTYPE(_INT, _P, _P, _INT, _I64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _P, _I64)
_SYNC = ctypes.CFUNCTYPE(_INT, _P, _INT)


class Event(msgspec.Struct, frozen=True):
    """One thing that happened, after it had returned."""

    what: str
    """write, truncate, sync, delete, sync folder, ack."""
    file: str = ""
    offset: int = 0
    content: bytes = b""
    ack: tuple[int, str] = (0, "")


def library() -> ctypes.CDLL | None:
    """Return the shared library that `sqlite3` uses, or None if it was built in."""
    import _sqlite3

    try:
        found = ctypes.CDLL(_sqlite3.__file__)
        found.sqlite3_vfs_find.restype = _P
        found.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        found.sqlite3_vfs_register.argtypes = [_P, _INT]
        found.sqlite3_vfs_unregister.argtypes = [_P]
        return found
    except (AttributeError, OSError):
        return None


class DiskTape:
    """Events in the order in which they returned. Use `recording`."""

    def __init__(self, sqlite: ctypes.CDLL) -> None:
        self.events: list[Event] = []
        self._sqlite = sqlite
        self._names: dict[int, str] = {}
        self._original: dict[int, _Methods] = {}
        self._alive: list[object] = []
        address = sqlite.sqlite3_vfs_find(None)
        self._base_address = address
        self._base = _Vfs.from_address(address)
        self._vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self._vfs), address, ctypes.sizeof(_Vfs))
        self._vfs.zName = b"disk-tape"
        self._vfs.pNext = None
        self._vfs.xOpen = self._keep(_OPEN(self._open))
        self._vfs.xDelete = self._keep(_DELETE(self._delete))
        self._hooks = {
            "xClose": self._keep(_CLOSE(self._close)),
            "xWrite": self._keep(_WRITE(self._write)),
            "xTruncate": self._keep(_TRUNCATE(self._truncate)),
            "xSync": self._keep(_SYNC(self._sync)),
        }

    def note(self, what: str, file: str = "", **more: Any) -> None:
        self.events.append(Event(what, file, **more))

    def acknowledge(self, count: int, last_hash: str) -> None:
        """Hand this to the ledger as on_commit."""
        self.note("ack", ack=(count, last_hash))

    def register(self) -> None:
        assert self._sqlite.sqlite3_vfs_register(ctypes.addressof(self._vfs), 1) == 0

    def unregister(self) -> None:
        self._sqlite.sqlite3_vfs_unregister(ctypes.addressof(self._vfs))
        self._sqlite.sqlite3_vfs_register(self._base_address, 1)

    def _keep(self, callback: Any) -> int:
        self._alive.append(callback)
        return ctypes.cast(callback, _P).value  # type: ignore[return-value]

    def _open(self, vfs: int, name: int, file: int, flags: int, out: int) -> int:
        code = _OPEN(self._base.xOpen)(vfs, name, file, flags, out)
        slot = _P.from_address(file)
        if code == 0 and slot.value and name:
            original = _Methods.from_address(slot.value)
            methods = _Methods()
            ctypes.memmove(ctypes.byref(methods), slot.value, ctypes.sizeof(_Methods))
            for hook, address in self._hooks.items():
                setattr(methods, hook, address)
            self._alive.append(methods)
            self._original[file] = original
            self._names[file] = Path(os.fsdecode(ctypes.string_at(name))).name
            slot.value = ctypes.addressof(methods)
        return code

    def _delete(self, vfs: int, name: bytes, sync_folder: int) -> int:
        code = _DELETE(self._base.xDelete)(vfs, name, sync_folder)
        if code == 0:
            self.note("delete", Path(os.fsdecode(name)).name)
        return code

    def _close(self, file: int) -> int:
        self._names.pop(file)
        return _CLOSE(self._original.pop(file).xClose)(file)

    def _write(self, file: int, content: int, amount: int, offset: int) -> int:
        code = _WRITE(self._original[file].xWrite)(file, content, amount, offset)
        self.note(
            "write", self._names[file], offset=offset, content=ctypes.string_at(content, amount)
        )
        return code

    def _truncate(self, file: int, size: int) -> int:
        code = _TRUNCATE(self._original[file].xTruncate)(file, size)
        self.note("truncate", self._names[file], offset=size)
        return code

    def _sync(self, file: int, flags: int) -> int:
        code = _SYNC(self._original[file].xSync)(file, flags)
        self.note("sync", self._names[file])
        return code


@contextmanager
def recording(sqlite: ctypes.CDLL) -> Iterator[DiskTape]:
    """Record everything that SQLite and FixedFile do while this lasts."""
    tape = DiskTape(sqlite)
    write_at, sync = FixedFile.write_at, FixedFile.sync

    def noted_write(self: FixedFile, offset: int, content: bytes) -> None:
        write_at(self, offset, content)
        tape.note("write", self.path.name, offset=offset, content=content)

    def noted_sync(self: FixedFile) -> None:
        sync(self)
        tape.note("sync", self.path.name)

    def noted_folder_sync(folder: Path) -> None:
        sync_folder(folder)
        tape.note("sync folder")

    with (
        mock.patch.object(storage, "sync_folder", noted_folder_sync),
        mock.patch.object(FixedFile, "write_at", noted_write),
        mock.patch.object(FixedFile, "sync", noted_sync),
    ):
        tape.register()
        try:
            yield tape
        finally:
            tape.unregister()


MODES = ("nothing", "everything", "torn tail", "any sectors", "any sectors, some garbage")


class _Disk:
    """What is durable, what waits for a sync, and what was deleted without its folder being synced."""

    def __init__(self) -> None:
        self.durable: dict[str, bytearray] = {}
        self.waiting: dict[str, list[Event]] = {}
        self.deleted: dict[str, bytes] = {}

    def take(self, event: Event) -> None:
        match event.what:
            case "write" | "truncate":
                self.waiting.setdefault(event.file, []).append(event)
            case "sync":
                self._sync(event.file)
            case "sync folder":
                self.deleted.clear()
            case "delete":
                self.deleted[event.file] = bytes(self.durable.pop(event.file, b""))
                self.waiting.pop(event.file, None)

    def _sync(self, file: str) -> None:
        if file not in self.durable and file.endswith(("-wal", "-journal")):
            self.deleted.clear()  # SQLite syncs the folder with the first sync of such a new file
        content = self.durable.setdefault(file, bytearray())
        for event in self.waiting.pop(file, []):
            _apply(content, event)


def after_cut(
    events: list[Event], cut: int, mode: str, rng: np.random.Generator
) -> dict[str, bytes]:
    """Return each file's content after a power cut between two events.

    Args:
        events: The tape.
        cut: How many of them had returned.
        mode: What becomes of unsynced writes; one of MODES.
        rng: Chooses.
    """
    disk = _Disk()
    for event in events[:cut]:
        disk.take(event)
    for file, left in disk.waiting.items():
        content = disk.durable.setdefault(file, bytearray())
        for event in _survivors(left, mode, rng):
            _apply(content, event)
    # A name that was deleted without its folder being synced may still stand, with the old content.
    back = {file: content for file, content in disk.deleted.items() if rng.random() < 0.5}
    return {file: bytes(content) for file, content in disk.durable.items()} | back


def _apply(content: bytearray, event: Event) -> None:
    if event.what == "truncate":
        del content[event.offset :]
        content.extend(bytes(max(0, event.offset - len(content))))
        return
    content.extend(bytes(max(0, event.offset - len(content))))
    content[event.offset : event.offset + len(event.content)] = event.content


def _survivors(left: list[Event], mode: str, rng: np.random.Generator) -> Iterator[Event]:
    """Yield what reached the disk of writes that no sync covers."""
    match mode:
        case "nothing":
            return
        case "everything":
            yield from left
        case "torn tail":
            yield from _torn(left, rng)
        case _:
            for event in left:
                yield from _scattered(event, rng, garbage="garbage" in mode)


def _torn(left: list[Event], rng: np.random.Generator) -> Iterator[Event]:
    whole = int(rng.integers(0, len(left) + 1))
    yield from left[:whole]
    if whole < len(left) and left[whole].what == "write":
        torn = left[whole]
        kept = int(rng.integers(0, len(torn.content) + 1))
        rest = len(torn.content) - kept
        tail = bytes(rest) if rng.random() < 0.5 else rng.bytes(rest)
        yield Event("write", torn.file, torn.offset, torn.content[:kept] + tail)


def _scattered(event: Event, rng: np.random.Generator, *, garbage: bool) -> Iterator[Event]:
    for sector in _sectors(event):
        fate = rng.random()
        if fate < 0.5:
            yield sector
        elif fate < 0.7 and garbage and sector.what == "write":
            junk = rng.bytes(len(sector.content))
            yield Event("write", sector.file, sector.offset, junk)


def _sectors(event: Event) -> Iterator[Event]:
    if event.what != "write":
        yield event
        return
    at, end = event.offset, event.offset + len(event.content)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        part = event.content[at - event.offset : until - event.offset]
        yield Event("write", event.file, at, part)
        at = until
