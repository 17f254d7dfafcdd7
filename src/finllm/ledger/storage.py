"""Where a ledger stands on disk: the lock, the database and the head, synced together."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

from finllm.domain.errors import LedgerError, TamperedError
from finllm.ledger import rows
from finllm.ledger.head import EMPTY, Head, HeadFile, read_head
from finllm.runtime.database import is_blank, lock, make
from finllm.runtime.files import sync_folder

_DISK: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
}


class Store(Protocol):
    """What a ledger stands on."""

    folder: Path
    connection: sqlite3.Connection
    head_found: Head

    def store(self, group: Sequence[rows.Entry], count: int, last_hash: bytes) -> None:
        """Return once a group, and after it the head, is kept for good."""
        ...

    def settle(self, head: Head) -> None:
        """Keep for good what a crash left half kept, and the head over it."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Storage:
    """One writer's hold on a ledger's files.

    Args:
        folder: Where they are.
        max_bytes: Size of the database at which the disk counts as full; None = the disk's own.

    Raises:
        LedgerError: If the folder holds no ledger, cannot be written, or another process writes it.
        TamperedError: If database or head cannot be read, or the schema is not the ledger's.
    """

    def __init__(self, folder: Path, max_bytes: int | None) -> None:
        database, head = folder / rows.DB, folder / rows.HEAD
        if not database.exists() and not head.exists():
            raise LedgerError(f"{folder} holds no ledger")
        self.folder = folder
        with ExitStack() as undo, _writing(folder):
            self._lock = _lock(folder)
            undo.callback(os.close, self._lock)
            self.head_found = read_head(head)
            self._head = HeadFile(head)
            undo.callback(self._head.close)
            try:
                self.connection = rows.connect_for_writing(database, max_bytes)
                undo.callback(self.connection.close)
                self._check_schema()
            except sqlite3.Error as why:
                if getattr(why, "sqlite_errorcode", 0) & 0xFF in _DISK:
                    raise LedgerError(f"{database} cannot be written: {why}") from why
                raise TamperedError(f"{database}: {why}") from why
            self._close = undo.pop_all().close

    @classmethod
    def make(cls, folder: Path) -> None:
        """Make an empty ledger's head; opening it makes the rest.

        The head comes first: a crash between leaves a ledger of no entries, never entries whose
        head is missing.

        Raises:
            LedgerError: If the folder holds a ledger already, cannot be written, or another process
                writes there.
        """
        with ExitStack() as undo, _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            undo.callback(os.close, _lock(folder))
            if (folder / rows.DB).exists():
                raise LedgerError(f"{folder} holds a ledger already; open it, or use a new folder")
            head = HeadFile(folder / rows.HEAD)
            undo.callback(head.close)
            head.reset(EMPTY)

    def store(self, group: Sequence[rows.Entry], count: int, last_hash: bytes) -> None:
        """Return once a group, and after it the head, is on the disk.

        Raises:
            sqlite3.Error: If the database did not take it; then nothing of it is stored.
            OSError: If the head did not take it.
        """
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.connection.executemany(rows.INSERT, group)
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self._head.write(count, last_hash)

    def settle(self, head: Head) -> None:
        """Put on the disk what a crash left in the system's buffers, then the head over it."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        sync_folder(self.folder)
        self._head.reset(head)

    def close(self) -> None:
        """Close everything and let go of the lock."""
        self._close()

    def _check_schema(self) -> None:
        if self.head_found.count == 0 and is_blank(self.connection):
            make(self.connection, rows.LAYOUT)
        if not rows.has_schema(self.connection):
            raise TamperedError(f"{self.folder / rows.DB}: table or triggers are not the ledger's")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell what the disk refuses, such as space, as an error of the ledger."""
    try:
        yield
    except OSError as why:
        raise LedgerError(f"{folder} cannot be written: {why.strerror or why}") from why


def _lock(folder: Path) -> int:
    """Return a descriptor that holds the writer's lock."""
    try:
        return lock(folder / rows.LOCK)
    except BlockingIOError as why:
        raise LedgerError(f"{folder}: another process writes this ledger") from why
