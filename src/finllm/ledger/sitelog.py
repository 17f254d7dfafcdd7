"""The ledgers of a site's owners in one order, each entry once and each ledger unbroken."""

from typing import Any, NamedTuple

from finllm.domain.errors import TamperedError
from finllm.ledger.chain import GENESIS, link
from finllm.ledger.kinds import decode
from finllm.ledger.rows import Entry
from finllm.ledger.shipping import Shipment


class Logged(NamedTuple):
    """One entry at its place in the order."""

    seq: int
    """From 1."""
    writer: str
    """Whose ledger it is from."""
    entry: Entry
    record: Any
    """What the entry holds."""
    ts: int
    """When it got its place, by the clock of the log, ns UTC."""


class SiteLog:
    """Takes shipments in any order, any number of times; gives them out in one.

    Kept in memory: a durable log of the fabric takes its place where there is one.
    """

    def __init__(self) -> None:
        self._entries: list[Logged] = []
        self._chains: dict[str, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, shipment: Shipment, now: int) -> int:
        """Take what follows on what is here; return how many entries of that ledger are here.

        What has come before changes nothing, what lies beyond a hole is left to be sent again.

        Args:
            shipment: From one ledger.
            now: The log's time, ns UTC.

        Raises:
            TamperedError: If an entry has the next number and does not chain to the one before.
        """
        writer = shipment.writer
        for entry in shipment.entries:
            count, last = self._chains.get(writer, (0, GENESIS))
            if not is_next(entry, count):
                continue
            seq, kind, entry_id, ts, body, stored = entry
            if stored != link(last, seq, kind, entry_id, ts, body):
                raise TamperedError(f"entry {seq} of {writer} does not chain to the one before")
            self._chains[writer] = seq, stored
            place = len(self._entries) + 1
            self._entries.append(Logged(place, writer, entry, decode(kind, body), now))
        return self._chains.get(writer, (0, GENESIS))[0]

    def after(self, seq: int, most: int) -> list[Logged]:
        """Return the entries after a place, in order."""
        return self._entries[seq : seq + most]


def is_next(entry: Entry, count: int) -> bool:
    """Return whether an entry follows on so many."""
    return entry[0] == count + 1
