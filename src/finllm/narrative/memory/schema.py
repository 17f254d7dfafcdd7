"""The file that memory is: its tables, how it is opened, and what is said of a damaged or foreign one.

Rows are only ever added, and each says from which instant on it is known; what is retired goes in bulk,
and the file says up to where.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.errors import InputError
from finllm.runtime import database

NAME: Final = "memory.sqlite"
"""Name of the file in a run's folder."""
ALWAYS: Final = 2**62
"""End of what has no end, ns."""
SCHEMA: Final = (
    "CREATE TABLE encoders (name TEXT PRIMARY KEY, dim INTEGER NOT NULL, knows_until TEXT NOT NULL)"
    " STRICT, WITHOUT ROWID",
    # A transaction's worth of documents; what is long comes last, so that a scan over times skips it.
    # seqs, stamps: int64 [n] of the first appearances among them; vectors: int16 [n, dim];
    # ends: int32 [n], where each one's words end in words: uint32 [sum].
    "CREATE TABLE batches (batch INTEGER PRIMARY KEY, settled INTEGER NOT NULL, ts_first INTEGER NOT NULL,"
    " ts_last INTEGER NOT NULL, n_documents INTEGER NOT NULL, encoder TEXT NOT NULL, seqs BLOB NOT NULL,"
    " stamps BLOB NOT NULL, ends BLOB NOT NULL, words BLOB NOT NULL, vectors BLOB NOT NULL) STRICT",
    "CREATE INDEX batches_time ON batches (ts_last, ts_first)",
    "CREATE TABLE documents (seq INTEGER PRIMARY KEY, document_id TEXT NOT NULL, ts_recv INTEGER NOT NULL,"
    " ts_published INTEGER NOT NULL, source TEXT NOT NULL, author TEXT NOT NULL, lang TEXT NOT NULL,"
    " copy_of TEXT NOT NULL, cluster INTEGER NOT NULL, changes BLOB NOT NULL, n_chars INTEGER NOT NULL,"
    " text TEXT NOT NULL) STRICT",
    "CREATE INDEX documents_id ON documents (document_id)",
    "CREATE INDEX documents_time ON documents (ts_recv DESC, document_id)",
    "CREATE INDEX documents_copy ON documents (copy_of, ts_recv) WHERE copy_of <> ''",
    "CREATE TABLE claims (claim INTEGER PRIMARY KEY, seq INTEGER NOT NULL, evidence_id TEXT NOT NULL,"
    " instrument TEXT NOT NULL, ts_recv INTEGER NOT NULL, body BLOB NOT NULL) STRICT",
    "CREATE INDEX claims_id ON claims (evidence_id)",
    "CREATE INDEX claims_seq ON claims (seq)",
    "CREATE INDEX claims_time ON claims (ts_recv DESC, evidence_id)",
    "CREATE INDEX claims_instrument ON claims (instrument, ts_recv DESC, evidence_id)",
    "CREATE TABLE standings (change INTEGER PRIMARY KEY, evidence_id TEXT NOT NULL, ts INTEGER NOT NULL,"
    " body BLOB NOT NULL) STRICT",
    "CREATE INDEX standings_id ON standings (evidence_id, ts)",
    "CREATE TABLE aliases (alias INTEGER PRIMARY KEY, instrument TEXT NOT NULL, name TEXT NOT NULL,"
    " valid_from INTEGER NOT NULL, valid_until INTEGER NOT NULL, known_from INTEGER NOT NULL) STRICT",
    "CREATE INDEX aliases_instrument ON aliases (instrument, known_from)",
    "CREATE TABLE retirements (retirement INTEGER PRIMARY KEY, floor INTEGER NOT NULL, why TEXT NOT NULL,"
    " n_documents INTEGER NOT NULL, n_claims INTEGER NOT NULL) STRICT",
)
LAYOUT: Final = database.Layout(
    statements=SCHEMA,
    application_id=0x46494E4D,  # `FINM`
    version=1,
)
_AGAIN: Final = "Replay the run into a new folder: its memory is made again from its documents."


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that changes nothing of the file, while its writer may still be at work."""
    with database.reading(path) as connection:
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """See that a file is a memory of this version.

    Raises:
        InputError: If it is something else, of another version, or altered.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != LAYOUT.application_id:
        raise InputError("is no memory of a run", place=str(path), mend="Name a run's own folder.")
    if version != LAYOUT.version:
        raise InputError(
            f"is a memory of version {version}, and this program reads {LAYOUT.version}",
            place=str(path),
            mend=_AGAIN,
        )
    found = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    ).fetchall()
    if [row[0] for row in found] != list(SCHEMA):
        raise InputError("its tables are not a memory's", place=str(path), mend=_AGAIN)


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Tell what SQLite or a decoder makes of a damaged file as an error that names it."""
    try:
        yield
    except (sqlite3.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError) as why:
        raise InputError(f"cannot be read ({why})", place=str(path), mend=_AGAIN) from why
