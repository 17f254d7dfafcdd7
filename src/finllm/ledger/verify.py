"""Verification: is what is stored what was written? Changes nothing."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from finllm.domain.errors import LedgerError, TamperedError
from finllm.ledger import rows
from finllm.ledger.chain import GENESIS, link
from finllm.ledger.head import EMPTY, Head, read_head
from finllm.ledger.kinds import BY_NAME, decode
from finllm.runtime.database import reading

MAX_FAILURES: Final = 100
"""Failures listed; the rest are counted in the last one."""
Anchor = tuple[int, str]
"""(entries, hex hash of the last), noted somewhere else at some time."""


class Failure(NamedTuple):
    """One thing that is not as it was written."""

    id: str
    """Entry, as `7 Forecast 3f2a...`, or the file at fault."""
    why: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    ok: bool
    checked: int
    """Entries read."""
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()
    """What a crash leaves behind and nobody has to mend."""


class _Check:
    """Walks the chain once, noting what fails."""

    def __init__(self, head: Head, anchors: tuple[Anchor, ...]) -> None:
        self.failures: list[Failure] = []
        self.count = 0
        self._hash = GENESIS
        self._head = head
        self._wanted: dict[int, list[str]] = {}
        for count, wanted in ((head.count, head.hash), *anchors):
            self._wanted.setdefault(count, []).append(wanted)

    def take(self, entry: rows.Entry) -> None:
        seq, kind, entry_id, ts, body, stored = entry
        name = f"{seq} {kind} {entry_id}"
        self.count += 1
        if not rows.is_well_typed(entry):
            self._fail(name, "a column has another type")
            return
        if seq != self.count:
            self._fail(name, f"number {seq} where {self.count} belongs")
        if stored != link(self._hash, seq, kind, entry_id, ts, body):
            self._fail(name, "does not chain to the entry before it")
        self._hash = stored
        self._match(name, seq, stored.hex())
        self._read(name, kind, entry_id, ts, body)

    def end(self) -> None:
        if self.count < self._head.count:
            missing = self._head.count - self.count
            why = f"{self._head.count} entries acknowledged, {self.count} left, {missing} missing"
            self._fail(rows.DB, why)
        for count in sorted(self._wanted):
            if count > max(self.count, self._head.count):
                self._fail(rows.DB, f"{count} entries were noted elsewhere, {self.count} are left")

    def _match(self, name: str, seq: int, stored: str) -> None:
        for wanted in self._wanted.get(seq, ()):
            if wanted != stored:
                self._fail(name, "is not the entry that was acknowledged")

    def _read(self, name: str, kind: str, entry_id: str, ts: int, body: bytes) -> None:
        try:
            record = decode(kind, body)
        except TamperedError as why:
            self._fail(name, str(why))
            return
        if (BY_NAME[kind].id_of(record), BY_NAME[kind].ts_of(record)) != (entry_id, ts):
            self._fail(name, "id or time differs from the record's own")

    def _fail(self, name: str, why: str) -> None:
        self.failures.append(Failure(name, why))


def verify(folder: Path, *, anchors: tuple[Anchor, ...] = ()) -> Verification:
    """Check a ledger, closed or being written: structure, numbering, chain, every record, the head.

    Args:
        folder: Where the ledger is.
        anchors: Heads noted elsewhere, such as in a journal; each must still be part of the chain.
            They alone can tell when database and head were both replaced by an older copy.

    Raises:
        LedgerError: If the folder holds no ledger.
    """
    path = folder / rows.DB
    if not path.exists() and not (folder / rows.HEAD).exists():
        raise LedgerError(f"{folder} holds no ledger")
    notes: list[str] = []
    try:
        head = read_head(folder / rows.HEAD)  # before the entries: a writer may add more meanwhile
    except TamperedError as why:
        head = EMPTY
        first = [Failure(rows.HEAD, str(why))]
    else:
        first = []
    check = _Check(head, anchors)
    check.failures += first
    try:
        for entry in _snapshot(path, check.failures):
            check.take(entry)
    except (sqlite3.Error, UnicodeDecodeError) as why:
        check.failures.append(Failure(rows.DB, str(why)))
    check.end()
    if head.damaged_slots:
        notes.append("one slot of the head is damaged: a write cut short, or a change from outside")
    if check.count > head.count:
        notes.append(f"{check.count - head.count} entries beyond the acknowledged head, chained")
    return Verification(
        ok=not check.failures,
        checked=check.count,
        failures=_listed(check.failures),
        notes=tuple(notes),
    )


def _snapshot(path: Path, failures: list[Failure]) -> Iterator[rows.Entry]:
    """Yield all entries of one consistent state, noting what is wrong with the database itself."""
    if not path.exists():
        raise sqlite3.DatabaseError(f"{path} is missing")
    with reading(path) as connection:
        connection.execute("BEGIN")
        if not rows.has_schema(connection):
            failures.append(Failure(rows.DB, "table or triggers are not the ledger's"))
        for name, wanted in (
            ("application_id", rows.LAYOUT.application_id),
            ("user_version", rows.LAYOUT.version),
        ):
            if connection.execute(f"PRAGMA {name}").fetchone() != (wanted,):
                failures.append(Failure(rows.DB, f"{name} is not {wanted}"))
        for (finding,) in connection.execute("PRAGMA integrity_check(10)"):
            if finding != "ok":
                failures.append(Failure(rows.DB, finding))
        yield from connection.execute("SELECT * FROM entries ORDER BY seq")


def _listed(failures: list[Failure]) -> tuple[Failure, ...]:
    if len(failures) <= MAX_FAILURES:
        return tuple(failures)
    rest = Failure(rows.DB, f"and {len(failures) - MAX_FAILURES} more")
    return (*failures[:MAX_FAILURES], rest)
