"""SQLite files that have one writer and any number of readers: opened, locked, marked and made alike.

Knows no table: whoever owns a file brings its layout.
"""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import msgspec


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds, and the marks by which it is known."""

    statements: tuple[str, ...]
    """That make it, in order."""
    application_id: int
    """So that `file` and others can tell what the database is."""
    version: int


def connect_for_writing(
    path: Path, *, synchronous: Literal["FULL", "NORMAL"]
) -> sqlite3.Connection:
    """Open a database for its one writer.

    Args:
        path: Made if it is missing.
        synchronous: `FULL`: a returned commit is on the disk. `NORMAL`: it survives a killed process,
            whole or not at all.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open a database that may be written meanwhile; nothing in it is changed."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that changes nothing of a database, however its folder is kept.

    SQLite keeps a work file beside a database while it reads; where the folder is read-only, as
    archives are, a copy is read.
    """
    with ExitStack() as undo:
        if not os.access(path.parent, os.W_OK):
            prefix = f"{path.stem}-"
            copy = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
            for part in (path, path.with_name(path.name + "-wal")):
                if part.exists():
                    shutil.copyfile(part, copy / part.name)
            path = copy / path.name
        connection = connect_for_reading(path)
        undo.callback(connection.close)
        yield connection


def make(connection: sqlite3.Connection, layout: Layout) -> None:
    """Make what a blank database is to hold, and mark it, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in layout.statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {layout.application_id}")
    connection.execute(f"PRAGMA user_version = {layout.version}")
    connection.execute("COMMIT")


def is_blank(connection: sqlite3.Connection) -> bool:
    """Return whether nothing was ever made in the database."""
    return not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def lock(path: Path) -> int:
    """Return a descriptor that holds a writer's lock; the system lets go of it when we die.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If the file cannot be made or written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
