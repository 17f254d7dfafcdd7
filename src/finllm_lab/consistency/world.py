"""The world around the protocol: virtual time, a network that misbehaves, disks that outlive crashes."""

import heapq
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol

from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.ledger import rows
from finllm.ledger.head import EMPTY, Head
from finllm.ledger.storage import Store
from finllm.runtime.database import make
from finllm_lab.consistency.chance import Chance

T0: Final = 1_700_000_000 * NS_PER_S
_LAN_NS: Final = NS_PER_MS
_WAN_NS: Final = 40 * NS_PER_MS
_OVERTAKEN_NS: Final = 3 * NS_PER_S
_REMEMBERED: Final = 40
Tell = Callable[[str], None]


class PowerCutError(Exception):
    """The node stops here: what is on its disk stays, all else is gone."""


class World:
    """Events in virtual time, and messages between places.

    Args:
        chance: Where all chance comes from.
        tell: Told each line of the timeline as it happens; None keeps the last ones only.
    """

    def __init__(self, chance: Chance, tell: Tell | None = None) -> None:
        self.chance = chance
        self.now = T0
        self.is_calm = False
        """Whether faults have ended, so that everything can come to rest."""
        self._tell = tell
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._cut: dict[frozenset[str], int] = {}
        self._last: deque[tuple[int, str, str, tuple[object, ...]]] = deque(maxlen=_REMEMBERED)
        self._digest = blake2b(digest_size=16)

    # --- time --------------------------------------------------------------------------------

    def at(self, when: int, call: Callable[..., None], *args: Any) -> None:
        """Let something happen at an instant, never before now."""
        self._order += 1
        heapq.heappush(self._events, (max(when, self.now), self._order, call, args))

    def after(self, ns: float, call: Callable[..., None], *args: Any) -> None:
        """Let something happen after a while."""
        self.at(self.now + int(ns), call, *args)

    def run(self, until: int) -> None:
        """Let everything happen that is due before an instant."""
        events = self._events
        while events and events[0][0] < until:
            self.now, _, call, args = heapq.heappop(events)
            call(*args)
        self.now = until

    # --- what is kept of it ------------------------------------------------------------------

    def note(self, where: str, what: str, *about: object) -> None:
        """Put a line on the timeline."""
        line = self.now, where, what, about
        self._last.append(line)
        if self._tell is not None:
            self._tell(_text(line))

    def timeline(self) -> list[str]:
        """Return the last lines of the timeline."""
        return [_text(line) for line in self._last]

    def seal(self, content: bytes) -> None:
        """Take a record into the trace hash, with the time it was made."""
        self._digest.update(self.now.to_bytes(8, "little"))
        self._digest.update(content)

    @property
    def trace_hash(self) -> str:
        """Return the hash over all records so far, hex."""
        return self._digest.hexdigest()

    # --- the network -------------------------------------------------------------------------

    def cut(self, one: str, other: str, *, is_cut: bool) -> None:
        """Cut a link, or heal it; a link that is cut twice is healed twice."""
        link = frozenset((one, other))
        self._cut[link] = self._cut.get(link, 0) + (1 if is_cut else -1)
        self.note(one, "cut from" if is_cut else "joined with", other)

    def send(self, source: str, target: str, deliver: Callable[..., None], *args: Any) -> None:
        """Send a message: it may come late, twice, after later ones, or never."""
        if not self.is_calm and (self._is_cut(source, target) or self.chance.happens("loss")):
            return
        self.after(self._delay(source, target), self._arrive, source, target, deliver, args)
        if not self.is_calm and self.chance.happens("duplicate"):
            self.after(self._delay(source, target), self._arrive, source, target, deliver, args)

    def _arrive(
        self, source: str, target: str, deliver: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        if self.is_calm or not self._is_cut(source, target):
            deliver(*args)

    def _is_cut(self, source: str, target: str) -> bool:
        return self._cut.get(frozenset((source, target)), 0) > 0

    def _delay(self, source: str, target: str) -> float:
        usual = _WAN_NS if "cloud" in (source, target) else _LAN_NS
        delay = usual * (0.5 - math.log(1.0 - self.chance.unit("delay")))
        if not self.is_calm and self.chance.happens("reorder"):
            delay += _OVERTAKEN_NS * self.chance.unit("reorder length")
        return delay


class Disk(Protocol):
    """A node's disk: outlives its user, and can be made to cut a write."""

    cut: str
    """Where the next write is cut: `before` it, `between` entries and head, or `after` it; else empty."""

    def opened(self) -> Store:
        """Return what a ledger stands on, as it was left."""
        ...

    def close(self) -> None:
        """Let go of it when the run is over."""
        ...


Stored = Callable[[Sequence[rows.Entry]], None]
"""Told each group of entries that is kept for good."""


class MemoryDisk:
    """What a node's ledger stands on: SQLite in memory under the ledger's own schema, and the head.

    Args:
        name: Whose it is.
        stored: Told each group.
    """

    def __init__(self, name: str, stored: Stored) -> None:
        self.folder = Path(name)
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        make(self.connection, rows.LAYOUT)
        self.head_found: Head = EMPTY
        self.cut = ""
        self._stored = stored

    def opened(self) -> Store:
        """Return itself: memory is as it was left."""
        return self

    def store(self, group: Sequence[rows.Entry], count: int, last_hash: bytes) -> None:
        """Keep a group and after it the head.

        Raises:
            PowerCutError: Where a cut was planned.
        """
        self._maybe_cut("before")
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(rows.INSERT, group)
        self.connection.execute("COMMIT")
        self._stored(group)
        self._maybe_cut("between")
        self.head_found = Head(count=count, hash=last_hash.hex())
        self._maybe_cut("after")

    def settle(self, head: Head) -> None:
        """Keep the head of what a crash left."""
        self.head_found = head

    def close(self) -> None:
        """Let go of the memory."""
        self.connection.close()

    def _maybe_cut(self, place: str) -> None:
        if self.cut == place:
            self.cut = ""
            raise PowerCutError(place)


def _text(line: tuple[int, str, str, tuple[object, ...]]) -> str:
    ts, where, what, about = line
    return f"{(ts - T0) / NS_PER_S:11.6f} s  {where:5} {what} {' '.join(map(str, about))}"
