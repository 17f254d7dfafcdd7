"""Timelines: what was admitted, in order of receipt, that cannot be asked without an as-of time.

Bounded: old entries are retired by age and by count. A question whose answer would have needed a
retired entry is refused, never answered differently from before.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from finllm.domain.errors import InputError

T = TypeVar("T")

ENTRY_BYTES: Final = 256
"""What a kept text takes besides its own bytes: its id, its place, what the interpreter adds."""


class Timeline(Generic[T]):
    """Dated things in order of receipt; from any instant at most the last `visible` can be seen.

    Args:
        visible: Most things that a question may return; at least as many are kept.
        retain_ns: Things older than this, against the newest, may be retired.
    """

    def __init__(self, *, visible: int, retain_ns: int) -> None:
        self._visible = visible
        self._retain_ns = retain_ns
        self._ts: list[int] = []
        self._things: list[T] = []
        self._floor = -1
        """Receive time of the newest retired thing; -1 = nothing was retired."""

    def __len__(self) -> int:
        """Return how many things are kept."""
        return len(self._ts)

    def append(self, ts: int, thing: T) -> int:
        """Keep a thing received no earlier than the last one; return how many were retired."""
        self._ts.append(ts)
        self._things.append(thing)
        if len(self._ts) < 2 * self._visible and self._ts[0] >= ts - 2 * self._retain_ns:
            return 0
        # Retired in bulk, so that each append costs a constant on average.
        by_count = len(self._ts) - self._visible
        by_age = bisect_left(self._ts, ts - self._retain_ns)
        n = max(by_count if len(self._ts) >= 2 * self._visible else 0, by_age)
        self._floor = self._ts[n - 1]
        del self._ts[:n], self._things[:n]
        return n

    def between(self, after: int, until: int) -> list[T]:
        """Return what was received after one instant, up to and including another; last ones first lost.

        Raises:
            InputError: If something that the answer would hold has been retired.
        """
        start, end = self._span(after, until)
        return self._things[start:end]

    def count(self, after: int, until: int) -> int:
        """Return how many were received after one instant, up to and including another.

        Raises:
            InputError: If something that the answer would count has been retired.
        """
        start, end = self._span(after, until)
        return end - start

    def _span(self, after: int, until: int) -> tuple[int, int]:
        end = bisect_right(self._ts, until)
        start = bisect_right(self._ts, after, hi=end)
        if self._floor > after and end - start < self._visible:
            raise InputError(
                f"what was received after {after} is partly retired from memory",
                place=f"as of {until}",
                mend="Ask about a later instant, or keep more: narrative.retention_ns, narrative.keep.",
            )
        return max(start, end - self._visible), end


class Arrivals:
    """Counts of arrivals by quantum of time: bounded however many arrive.

    An instant sees only quanta that ended by then, so a later arrival never enters an earlier count.

    Args:
        quantum_ns: Resolution.
        retain_ns: Quanta older than this, against the newest, may be retired.
    """

    def __init__(self, *, quantum_ns: int, retain_ns: int) -> None:
        self._quantum_ns = quantum_ns
        self._retain = retain_ns // quantum_ns + 1
        self._quanta = array("q")
        self._total = array("q")
        """Arrivals up to and including each quantum."""
        self._floor = -1
        self._n_before_floor = 0

    def __len__(self) -> int:
        """Return how many quanta are kept."""
        return len(self._quanta)

    def add(self, ts: int) -> None:
        """Count one arrival, no earlier than the last one."""
        quantum = ts // self._quantum_ns
        if self._quanta and self._quanta[-1] == quantum:
            self._total[-1] += 1
            return
        self._total.append(self._total[-1] + 1 if self._total else self._n_before_floor + 1)
        self._quanta.append(quantum)
        # In bulk, so that each arrival costs a constant on average.
        if self._quanta[0] < quantum - self._retain - self._retain // 8:
            n = bisect_left(self._quanta, quantum - self._retain)
            self._floor, self._n_before_floor = self._quanta[n - 1], self._total[n - 1]
            del self._quanta[:n], self._total[:n]

    def before(self, ts: int) -> int:
        """Return how many arrived before the quantum that an instant lies in, ever.

        Raises:
            InputError: If the quanta of that time have been retired.
        """
        quantum = ts // self._quantum_ns
        if quantum <= self._floor:
            raise InputError(
                "the counts of that time are retired from memory",
                place=f"as of {ts}",
                mend="Ask about a later instant, or keep more: narrative.retention_ns.",
            )
        i = bisect_left(self._quanta, quantum)
        return self._total[i - 1] if i else self._n_before_floor


class Texts:
    """Canonical texts by document, the last ones up to a number of bytes.

    Kept as UTF-8: in memory one character outside of Latin makes each of a text's characters wider.

    Args:
        most_bytes: Of UTF-8, with `ENTRY_BYTES` for each text.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.n_bytes = 0
        self._texts: OrderedDict[str, bytes] = OrderedDict()

    def keep(self, document_id: str, text: str) -> int:
        """Keep a text; return how many older ones were retired for it."""
        if document_id in self._texts:
            return 0
        kept = self._texts[document_id] = text.encode()
        self.n_bytes += len(kept) + ENTRY_BYTES
        retired = 0
        while self.n_bytes > self.most_bytes and len(self._texts) > 1:
            self.n_bytes -= len(self._texts.popitem(last=False)[1]) + ENTRY_BYTES
            retired += 1
        return retired

    def __getitem__(self, document_id: str) -> str:
        """Return a text.

        Raises:
            InputError: If it was never kept, or has been retired.
        """
        if document_id not in self._texts:
            raise InputError(
                "no text is held under this id",
                place=f"document {document_id}",
                mend="Only documents that made evidence are kept, up to narrative.most_text_bytes.",
            )
        return self._texts[document_id].decode()
