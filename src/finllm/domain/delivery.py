"""At least once, with effects once: what was sent and not yet acknowledged, and what has come before.

Pure: both are told the time and send nothing themselves.
"""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

T = TypeVar("T")
REMEMBERED: Final = 65_536
"""Ids that a receiver remembers at most; a sender gives up long before so many have passed."""


class Outbox(Generic[T]):
    """Messages by id that are sent again and again until they are acknowledged or worth nothing.

    Args:
        first_ns: Time until a message is sent for the second time; doubled each time.
        most_ns: Longest time between two sends.
    """

    def __init__(self, first_ns: int, most_ns: int) -> None:
        self._first_ns, self._most_ns = first_ns, most_ns
        self._waiting: dict[str, tuple[T, int, int, int]] = {}  # message, until, next send, pause

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message_id: str, message: T, until: int) -> None:
        """Take a message that is worth sending before an instant; one already there stays as it is."""
        self._waiting.setdefault(message_id, (message, until, 0, self._first_ns))

    def due(self, now: int) -> list[tuple[str, T]]:
        """Return what is to be sent now; messages whose time is over are let go."""
        found = []
        for message_id, (message, until, at, pause_ns) in list(self._waiting.items()):
            if now >= until:
                del self._waiting[message_id]
            elif now >= at:
                found.append((message_id, message))
                longer = min(2 * pause_ns, self._most_ns)
                self._waiting[message_id] = message, until, now + pause_ns, longer
        return found

    def acknowledged(self, message_id: str) -> None:
        """Let a message go; it has arrived."""
        self._waiting.pop(message_id, None)


class Inbox:
    """Ids of what has arrived, so that it has its effect once however often it comes."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def take(self, message_id: str) -> bool:
        """Remember an id; tell whether it is the first time."""
        if message_id in self._seen:
            return False
        self._seen[message_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True
