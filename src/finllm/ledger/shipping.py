"""A ledger on its way to where several are put in one order: the ledger itself is the outbox.

What is committed and not acknowledged there is sent until it is; after a crash everything is offered
again from the first entry, and the acknowledgement says from where it is wanted. Sends nothing itself.
"""

import msgspec

from finllm.ledger.rows import Entry
from finllm.ledger.store import Ledger


class Shipment(msgspec.Struct, frozen=True):
    """Entries of one ledger, one after the other."""

    writer: str
    """Whose ledger it is."""
    entries: tuple[Entry, ...]


class Shipper:
    """What of a ledger has been sent and what has arrived.

    Args:
        writer: Whose ledger it is.
        ledger: What is sent, as far as it is committed.
        resend_ns: Time after which what is not acknowledged is sent again.
        most: Entries in one shipment.
    """

    def __init__(self, writer: str, ledger: Ledger, *, resend_ns: int, most: int = 200) -> None:
        self._writer, self._ledger = writer, ledger
        self._resend_ns, self._most = resend_ns, most
        self._arrived = self._sent = 0
        self._resend_at = 0

    def due(self, now: int) -> Shipment | None:
        """Return what is to be sent now, or None."""
        if self._sent > self._arrived and now >= self._resend_at:
            self._sent = self._arrived
        if self._sent >= self._ledger.head.count:
            return None
        entries = tuple(self._ledger.committed(self._sent, self._most))
        self._sent = entries[-1][0]
        self._resend_at = now + self._resend_ns
        return Shipment(self._writer, entries)

    def acknowledged(self, count: int) -> None:
        """Take the word of the receiver that it has so many entries."""
        self._arrived = max(self._arrived, count)
        self._sent = max(self._sent, self._arrived)
