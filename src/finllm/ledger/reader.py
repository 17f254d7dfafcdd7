"""Reading a ledger without writing a byte of it, while its writer may still be at work."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from finllm.domain.errors import LedgerError
from finllm.ledger import rows

T = TypeVar("T")


class LedgerReader:
    """A read-only view of a ledger's records. A context manager.

    Args:
        folder: The ledger's folder.

    Raises:
        LedgerError: If there is no ledger.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / rows.DB).exists():
            raise LedgerError(f"{folder} holds no ledger")
        self._connection = rows.connect_for_reading(folder / rows.DB)
        self._rows = rows.Rows(self._connection)

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._connection.close()

    def records(self, kind: type[T]) -> Iterator[T]:
        """Yield the records of one type in the order they were written."""
        return self._rows.records(kind)

    def find(self, kind: type[T], entry_id: str) -> T | None:
        """Return the last record of one type and id, or None."""
        return self._rows.find(kind, entry_id)

    def find_all(self, kind: type[T], entry_id: str) -> list[T]:
        """Return the records of one type and id, in the order they were written."""
        return self._rows.find_all(kind, entry_id)
