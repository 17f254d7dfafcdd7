"""Entries in SQLite: the table, how it is opened, and how records are read back."""

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from finllm.ledger.chain import FORMAT
from finllm.ledger.kinds import kind_of
from finllm.runtime import database

T = TypeVar("T")
Entry = tuple[int, str, str, int, bytes, bytes]
"""seq from 1, kind, id, ts, body, hash."""
DB: Final = "ledger.db"
HEAD: Final = "ledger.head"
LOCK: Final = "ledger.lock"
SCHEMA: Final = (
    "CREATE TABLE entries (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL,"
    " ts INTEGER NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL)",
    "CREATE TRIGGER entries_stay BEFORE DELETE ON entries"
    " BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END",
    "CREATE TRIGGER entries_hold BEFORE UPDATE ON entries"
    " BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END",
    "CREATE TRIGGER entries_follow BEFORE INSERT ON entries"
    " WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)"
    " BEGIN SELECT RAISE(ABORT, 'entries are numbered without holes'); END",
)
LAYOUT: Final = database.Layout(
    statements=SCHEMA,
    application_id=0x46494E4C,  # `FINL`
    version=FORMAT,
)
INSERT: Final = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)"
_CHUNK: Final = 1_000
_TYPES: Final = (int, str, str, int, bytes, bytes)
_MERGE: Final = 10_000
"""Entries that the index keeps in a dict before they are sorted into its arrays."""


def connect_for_writing(path: Path, max_bytes: int | None) -> sqlite3.Connection:
    """Open a database so that a returned commit is on the disk.

    Args:
        path: The database file; made if it is missing.
        max_bytes: Size at which SQLite calls the disk full; None = never.
    """
    connection = database.connect_for_writing(path, synchronous="FULL")
    if max_bytes is not None:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {max(4, max_bytes // page_size)}")
    return connection


def has_schema(connection: sqlite3.Connection) -> bool:
    """Return whether the database holds exactly the table and triggers that it should."""
    rows = connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid").fetchall()
    return [row[0] for row in rows] == list(SCHEMA)


def entries(connection: sqlite3.Connection, after: int = 0) -> Iterator[Entry]:
    """Yield entries in order, in chunks, so that a writer is never kept waiting."""
    query = "SELECT seq, kind, id, ts, body, hash FROM entries WHERE seq > ? ORDER BY seq LIMIT ?"
    while chunk := connection.execute(query, (after, _CHUNK)).fetchall():
        yield from chunk
        after = chunk[-1][0]


def entries_between(connection: sqlite3.Connection, after: int, last: int) -> Iterator[Entry]:
    """Yield the entries after a number up to another, in order."""
    query = (
        "SELECT seq, kind, id, ts, body, hash FROM entries WHERE seq > ? AND seq <= ? ORDER BY seq"
    )
    yield from connection.execute(query, (after, last))


def is_well_typed(entry: tuple[object, ...]) -> bool:
    """Return whether every column has its type; SQLite itself lets any value into any column."""
    return tuple(map(type, entry)) == _TYPES


class Rows:
    """Reads records back, from the database and from the group that waits to be committed.

    Args:
        connection: To the database.
        pending: Entries not yet in it, in order; the writer's own list.
    """

    def __init__(self, connection: sqlite3.Connection, pending: Sequence[Entry] = ()) -> None:
        self._connection = connection
        self._pending = pending
        self._index = _Index()

    def records(self, record_type: type[T]) -> Iterator[T]:
        """Yield the records of one type in the order they were written."""
        kind = kind_of(record_type)
        after = 0
        for after, record in self.located(record_type):  # noqa: B007 - goes on after the last
            yield record
        for entry in list(self._pending):
            if entry[0] > after and entry[1] == kind.name:
                yield kind.decode(entry[4])

    def located(self, record_type: type[T]) -> Iterator[tuple[int, T]]:
        """Yield the committed records of one type with the number of their entry, in order."""
        kind = kind_of(record_type)
        query = "SELECT seq, body FROM entries WHERE seq > ? AND kind = ? ORDER BY seq LIMIT ?"
        after = 0
        while chunk := self._connection.execute(query, (after, kind.name, _CHUNK)).fetchall():
            for seq, body in chunk:
                yield seq, kind.decode(body)
                after = seq

    def at(self, record_type: type[T], seq: int) -> T:
        """Return the record of one type in a committed entry."""
        kind = kind_of(record_type)
        query = "SELECT body FROM entries WHERE seq = ? AND kind = ?"
        (body,) = self._connection.execute(query, (seq, kind.name)).fetchone()
        found: T = kind.decode(body)
        return found

    def find_all(self, record_type: type[T], entry_id: str) -> list[T]:
        """Return the records of one type and id, in the order they were written."""
        kind = kind_of(record_type)
        self._index.extend(self._connection)
        query = "SELECT kind, id, body FROM entries WHERE seq = ?"
        bodies = []
        for seq in self._index.candidates(kind.name, entry_id):
            name, found_id, body = self._connection.execute(query, (seq,)).fetchone()
            if (name, found_id) == (kind.name, entry_id):
                bodies.append(body)
        bodies += [e[4] for e in self._pending if e[1] == kind.name and e[2] == entry_id]
        return [kind.decode(body) for body in bodies]

    def find(self, record_type: type[T], entry_id: str) -> T | None:
        """Return the last record of one type and id, or None."""
        found = self.find_all(record_type, entry_id)
        return found[-1] if found else None


class _Index:
    """Where each (kind, id) stands, 16 bytes an entry, made when first asked for.

    An index in SQLite on ids that are hashes touches a page per row: it took the cost of a row from
    3 to 16 us, for lookups that only explaining and verifying make.
    """

    def __init__(self) -> None:
        self._last = 0
        self._keys: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._seqs: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._recent: dict[int, list[int]] = {}

    def extend(self, connection: sqlite3.Connection) -> None:
        """Take in the entries written since the last time."""
        for seq, kind, entry_id in connection.execute(
            "SELECT seq, kind, id FROM entries WHERE seq > ? ORDER BY seq", (self._last,)
        ):
            self._recent.setdefault(_key(kind, entry_id), []).append(seq)
            self._last = seq
        if len(self._recent) > _MERGE + len(self._keys) // 4:
            self._merge()

    def candidates(self, kind: str, entry_id: str) -> list[int]:
        """Return the entries that may be meant, in order."""
        key = _key(kind, entry_id)
        low, high = np.searchsorted(self._keys, np.array([key, key + 1], np.uint64))
        return [*map(int, self._seqs[low:high]), *self._recent.get(key, ())]

    def _merge(self) -> None:
        keys, seqs = array("Q", self._keys.tobytes()), array("q", self._seqs.tobytes())
        for key, found in self._recent.items():
            keys.extend([key] * len(found))
            seqs.extend(found)
        all_keys = np.frombuffer(keys, np.uint64)
        order = np.lexsort((np.frombuffer(seqs, np.int64), all_keys))
        self._keys = all_keys[order]
        self._seqs = np.frombuffer(seqs, np.int64)[order]
        self._recent = {}


def _key(kind: str, entry_id: str) -> int:
    digest = blake2b(f"{kind}\0{entry_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # room for key + 1
