"""The ledger: what we said, when, and why we changed our mind. Append-only, chained, in groups.

A group is acknowledged once its entries are on the disk (SQLite in WAL mode, synchronous FULL) and
after them the head, in a file apart. After a crash the entries beyond the head that chain correctly
are kept: they were said, and a consumer may have seen a version 1 before its group was synced;
nothing was promised about them, and keeping them loses less. Fewer entries than the head says means
that the disk lied about a sync or that someone cut the tail; that is never mended in silence.

A full disk stops the recording, loudly and once; the view in memory and the answers stay right.
"""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from finllm.domain.errors import LedgerError, TamperedError
from finllm.domain.forecast import Forecast, Status
from finllm.domain.identity import canonical
from finllm.domain.protocol import (
    Applied,
    Closing,
    Revision,
    Standing,
    Verdict,
    close,
    standing_of,
    transition,
)
from finllm.ledger import rows
from finllm.ledger.chain import GENESIS, link
from finllm.ledger.head import EMPTY, Head
from finllm.ledger.kinds import BY_TYPE, decode, kind_of
from finllm.ledger.storage import Storage, Store
from finllm.ledger.view import LatestView
from finllm.runtime.tally import Tally

T = TypeVar("T")
BeforeCommit = Callable[[], None]
OnCommit = Callable[[int, str], None]
OnFailure = Callable[[str], None]
Revise = Callable[[Forecast, Verdict, int], Forecast]
_OWN: Final = (Forecast, Revision, Closing)
"""Records that only the ledger's own verbs write, because the view hangs on them."""
_KEPT: Final = ("forecast_id", "epoch", "valid_until", "base", "base_q", "instrument", "horizon")
"""What a revision may not touch."""


class Ledger:
    """One writer's ledger in a folder. Make one with `create`, go on with `open`."""

    def __init__(
        self,
        storage: Store,
        *,
        group: int,
        before_commit: BeforeCommit | None,
        on_commit: OnCommit | None,
        on_failure: OnFailure | None,
    ) -> None:
        self.failed: str | None = None
        """Why recording stopped, or None while it goes on."""
        self.lost = 0
        """Records taken and not acknowledged since then."""
        self.tally = Tally()
        """Forecasts offered, used, and dropped because they were open already."""
        self._storage = storage
        self._group = group
        self._before_commit, self._on_commit = before_commit, on_commit
        self._on_failure = on_failure
        self._view = LatestView()
        self._count = 0
        self._hash = GENESIS
        self._acknowledged = EMPTY
        self._pending: list[rows.Entry] = []
        self._rows = rows.Rows(storage.connection, self._pending)

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        group: int = 500,
        before_commit: BeforeCommit | None = None,
        on_commit: OnCommit | None = None,
        on_failure: OnFailure | None = None,
        max_bytes: int | None = None,
    ) -> Self:
        """Begin a ledger.

        Args:
            folder: Made if it is missing.
            group: Entries that are synced together.
            before_commit: Called before each group is written, to put first what it rests on.
            on_commit: Told (entries, hex hash of the last) after each group is on the disk.
            on_failure: Told once, with the reason, when recording stops.
            max_bytes: Bound on the database's size; recording stops there. None = the disk's.

        Raises:
            LedgerError: If the folder holds a ledger already, or another process writes there.
        """
        Storage.make(folder)
        return cls.open(
            folder,
            group=group,
            before_commit=before_commit,
            on_commit=on_commit,
            on_failure=on_failure,
            max_bytes=max_bytes,
        )

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        group: int = 500,
        before_commit: BeforeCommit | None = None,
        on_commit: OnCommit | None = None,
        on_failure: OnFailure | None = None,
        max_bytes: int | None = None,
    ) -> Self:
        """Go on with a ledger, after a crash too; arguments as for `create`.

        Raises:
            LedgerError: If there is none, or another process writes it.
            TamperedError: If what is stored is not what was acknowledged; says what is missing.
        """
        return cls.on(
            Storage(folder, max_bytes),
            group=group,
            before_commit=before_commit,
            on_commit=on_commit,
            on_failure=on_failure,
        )

    @classmethod
    def on(
        cls,
        storage: Store,
        *,
        group: int = 500,
        before_commit: BeforeCommit | None = None,
        on_commit: OnCommit | None = None,
        on_failure: OnFailure | None = None,
    ) -> Self:
        """Go on with the ledger that a storage holds; arguments and errors as for `open`."""
        ledger = cls(
            storage,
            group=group,
            before_commit=before_commit,
            on_commit=on_commit,
            on_failure=on_failure,
        )
        try:
            ledger._recover(storage.head_found)
        except (sqlite3.Error, UnicodeDecodeError) as why:
            storage.close()
            raise TamperedError(f"{storage.folder / rows.DB}: {why}") from why
        except BaseException:
            storage.close()
            raise
        return ledger

    @property
    def head(self) -> Head:
        """Return how many entries are acknowledged, and the hash of the last."""
        return self._acknowledged

    @property
    def standing(self) -> Iterator[Forecast]:
        """Yield the standing version of each open forecast, by (valid_until, id)."""
        return iter(self._view)

    def open_forecast(self, forecast: Forecast) -> bool:
        """Keep a new forecast as version 1, and tell whether it was kept.

        One that is open already, or was, under the same or a higher epoch is counted and not kept.

        Raises:
            LedgerError: If it is not a speculative version 1.
        """
        if forecast.version != 1 or forecast.status is not Status.SPECULATIVE:
            raise LedgerError(
                f"forecast {forecast.forecast_id} opens as {forecast.status} version "
                f"{forecast.version}; only a speculative version 1 can"
            )
        self.tally.read += 1
        if not self._view.admits(forecast):
            self.tally.drop("already_open", forecast.forecast_id)
            return False
        self.tally.used += 1
        self._view.opened(forecast)
        self._write(forecast)
        return True

    def adopt(self, forecast: Forecast) -> bool:
        """Keep the standing version of a forecast that another ledger opened, under this one's epoch.

        Tells whether it was kept: not if it is or was open here under the same or a higher epoch.
        """
        if not self._view.admits(forecast):
            return False
        self._view.opened(forecast)
        self._write(forecast)
        return True

    def revise(self, verdict: Verdict, now: int, revised: Revise) -> Revision:
        """Apply a verdict by compare-and-set, or say why not; either way the revision is kept.

        The verdict itself is kept by `append`.

        Args:
            verdict: The slow path's answer.
            now: When it arrived, ns UTC.
            revised: Makes the new version's numbers from (standing version, verdict, now); version,
                base version and status are set here.

        Raises:
            LedgerError: If `revised` changed what a verdict may not touch.
        """
        revision = self._judge(verdict, now, revised)
        self._view.revised(revision)
        self._write(revision)
        return revision

    def close_due(self, now: int) -> list[Closing]:
        """End every forecast whose time is over, by (valid_until, id), and return the closings."""
        closings = []
        for forecast in self._view.due(now):
            closing = close(standing_of(forecast), now)
            self._view.closed(closing)
            self._write(closing)
            closings.append(closing)
        return closings

    def append(self, record: msgspec.Struct) -> None:
        """Keep a record that changes no forecast.

        Raises:
            LedgerError: If records of this type are not kept, or are written by another verb.
        """
        if isinstance(record, _OWN):
            raise LedgerError(
                f"{type(record).__name__} is written by open_forecast, revise, close_due"
            )
        self._write(record)

    def latest(self, forecast_id: str) -> Forecast | None:
        """Return the standing version of an open forecast; None if it is not open."""
        return self._view.get(forecast_id)

    def committed(self, after: int, most: int) -> Iterator[rows.Entry]:
        """Yield the acknowledged entries after a number, in order, at most so many."""
        last = min(after + most, self._acknowledged.count)
        return rows.entries_between(self._storage.connection, after, last)

    def records(self, kind: type[T]) -> Iterator[T]:
        """Yield the records of one type in the order they were written."""
        return self._rows.records(kind)

    def find(self, kind: type[T], entry_id: str) -> T | None:
        """Return the last record of one type and id, or None.

        Revisions, closings and outcomes are found by their forecast's id.
        """
        return self._rows.find(kind, entry_id)

    def find_all(self, kind: type[T], entry_id: str) -> list[T]:
        """Return the records of one type and id, in the order they were written."""
        return self._rows.find_all(kind, entry_id)

    def commit(self) -> None:
        """Return once everything kept so far is on the disk, or recording has stopped."""
        if self.failed is not None or not self._pending:
            return
        if self._before_commit is not None:
            self._before_commit()
        try:
            self._storage.store(self._pending, self._count, self._hash)
        except (sqlite3.Error, OSError) as why:
            self._fail(why)
            return
        self._pending.clear()
        self._acknowledged = Head(count=self._count, hash=self._hash.hex())
        if self._on_commit is not None:
            self._on_commit(self._count, self._acknowledged.hash)

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._storage.close()

    def _judge(self, verdict: Verdict, now: int, revised: Revise) -> Revision:
        forecast = self._view.get(verdict.forecast_id)
        if forecast is None:
            return _revision(verdict, now, *self._judge_closed(verdict))
        after, applied, reason = transition(standing_of(forecast), verdict, now)
        made = None
        if applied is Applied.APPLIED:
            made = _next_version(forecast, revised(forecast, verdict, now), after)
        return _revision(verdict, now, after.version, applied, reason, made)

    def _judge_closed(self, verdict: Verdict) -> tuple[int, Applied, str]:
        ended = self._view.ended(verdict.forecast_id)
        if ended is None:
            return 0, Applied.REFUSED, "no such forecast is open"
        return ended.version, Applied.LATE, "arrived after the forecast was closed"

    def _write(self, record: Any) -> None:
        kind = BY_TYPE.get(type(record)) or kind_of(type(record))
        if self.failed is not None:
            self.lost += 1
            return
        seq = self._count + 1
        entry_id, ts, body = kind.id_of(record), kind.ts_of(record), canonical(record)
        self._hash = link(self._hash, seq, kind.name, entry_id, ts, body)
        self._count = seq
        self._pending.append((seq, kind.name, entry_id, ts, body, self._hash))
        if len(self._pending) >= self._group:
            self.commit()

    def _fail(self, why: Exception) -> None:
        self.failed = f"recording stopped after entry {self._acknowledged.count}: {why}"
        self.lost += len(self._pending)
        self._pending.clear()
        if self._on_failure is not None:
            self._on_failure(self.failed)

    def _recover(self, head: Head) -> None:
        for entry in rows.entries(self._storage.connection):
            self._replay(entry, head)
        if self._count < head.count:
            raise TamperedError(
                f"{self._storage.folder}: {head.count} entries were acknowledged, {self._count} are"
                f" left; {head.count - self._count} are missing (cut off, an older copy, or a disk"
                " that lost what it had said was synced)"
            )
        self._acknowledged = Head(count=self._count, hash=self._hash.hex())
        self._storage.settle(self._acknowledged)

    def _replay(self, entry: rows.Entry, head: Head) -> None:
        if not rows.is_well_typed(entry):
            raise TamperedError(f"entry {self._count + 1}: a column has another type")
        seq, kind, entry_id, ts, body, stored = entry
        expected = link(self._hash, self._count + 1, kind, entry_id, ts, body)
        if seq != self._count + 1 or stored != expected:
            raise TamperedError(f"entry {seq} ({kind} {entry_id}) does not chain to the one before")
        if seq == head.count and stored.hex() != head.hash:
            raise TamperedError(f"entry {seq} is not the one that was acknowledged")
        self._count, self._hash = seq, stored
        record = decode(kind, body)
        if isinstance(record, Forecast):
            self._view.opened(record)
        elif isinstance(record, Revision):
            self._view.revised(record)
        elif isinstance(record, Closing):
            self._view.closed(record)


def _next_version(before: Forecast, made: Forecast, after: Standing) -> Forecast:
    for name in _KEPT:
        if getattr(made, name) != getattr(before, name):
            raise LedgerError(f"revision of {before.forecast_id} would change its {name}")
    return msgspec.structs.replace(
        made, version=after.version, base_version=before.version, status=after.status
    )


def _revision(
    verdict: Verdict,
    now: int,
    version: int,
    applied: Applied,
    reason: str,
    forecast: Forecast | None = None,
) -> Revision:
    return Revision(
        forecast_id=verdict.forecast_id,
        verdict_id=verdict.verdict_id,
        ts=now,
        version=version,
        base_version=verdict.base_version,
        applied=applied,
        reason=reason,
        forecast=forecast,
    )
