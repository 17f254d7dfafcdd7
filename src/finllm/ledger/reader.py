"""Reading a ledger without changing a byte of it, while its writer may still be at work."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self, TypeVar

from finllm.domain.errors import LedgerError, TamperedError
from finllm.ledger import rows
from finllm.ledger.head import Head, read_head
from finllm.runtime.database import reading

T = TypeVar("T")


class LedgerReader:
    """A read-only view of a ledger's records. A context manager.

    Args:
        folder: The ledger's folder.

    Raises:
        LedgerError: If there is no ledger.
        TamperedError: Here and while reading, if the database is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / rows.DB).exists():
            raise LedgerError(f"{folder} holds no ledger")
        self._folder = folder
        with ExitStack() as undo, self._damage_told():
            connection = undo.enter_context(reading(folder / rows.DB))
            self._rows = rows.Rows(connection)
            self._close = undo.pop_all().close

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    @property
    def head(self) -> Head:
        """Return how many entries are acknowledged by now; raises TamperedError if it is damaged."""
        return read_head(self._folder / rows.HEAD)

    def records(self, kind: type[T]) -> Iterator[T]:
        """Yield the records of one type in the order they were written."""
        with self._damage_told():
            yield from self._rows.records(kind)

    def located(self, kind: type[T]) -> Iterator[tuple[int, T]]:
        """Yield the records of one type with the number of their entry, in order."""
        with self._damage_told():
            yield from self._rows.located(kind)

    def at(self, kind: type[T], seq: int) -> T:
        """Return the record of one type in an entry, by its number from `located`."""
        with self._damage_told():
            return self._rows.at(kind, seq)

    def find(self, kind: type[T], entry_id: str) -> T | None:
        """Return the last record of one type and id, or None."""
        with self._damage_told():
            return self._rows.find(kind, entry_id)

    def find_all(self, kind: type[T], entry_id: str) -> list[T]:
        """Return the records of one type and id, in the order they were written."""
        with self._damage_told():
            return self._rows.find_all(kind, entry_id)

    def close(self) -> None:
        """Close the connection."""
        self._close()

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as why:
            raise TamperedError(f"{self._folder / rows.DB}: {why}") from why
