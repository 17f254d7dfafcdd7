"""Faults put into a stream of Binance frames on purpose, with the truth beside: a feed is judged by these.

`Injector` takes the sound frames of some sources one by one and gives back what the feed is to receive
instead; `TrueBook` keeps each symbol's book from the sound frames, slowly and plainly, so that a snapshot
can be had at any time and a served book can be held to it. Used by the simulated exchange and by tests.
"""

from enum import StrEnum
from typing import Final

import msgspec
import numpy as np

from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_S
from finllm.market.book import CAPACITY

STALL_NS: Final = 6 * NS_PER_S
HELD_NS: Final = 2 * NS_PER_S
"""How long frames are held back for a burst; all of them come at once then."""
JUMP_MS: Final = 3_600_000
_JUMP_NS: Final = NS_PER_S
_ROLL: Final = 10**9
_OLD: Final = 64
"""Frames of depth between two copies of a book; a stale snapshot is one to two of these old."""


class Fault(StrEnum):
    """What can go wrong on the way from a venue."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    TRUNCATE = "truncate"
    ROLL_OVER = "roll_over"
    """The venue numbers its updates anew, from lower numbers."""
    CLOCK_JUMP = "clock_jump"
    """The venue's clock is an hour ahead for a second."""
    STALL = "stall"
    """Nothing comes for a while, and what was sent meanwhile is lost."""
    BURST = "burst"
    """Nothing comes for a while, then everything at once."""
    LATE_SNAPSHOT = "late_snapshot"
    """A frame is lost, and the snapshot that is asked for comes late."""
    STALE_SNAPSHOT = "stale_snapshot"
    """A frame is lost, and the first snapshot that is asked for is older than that."""
    DISCONNECT = "disconnect"
    """The connection is cut; only a socket can have it."""


LOSES: Final = frozenset(
    {Fault.DROP, Fault.TRUNCATE, Fault.STALL, Fault.LATE_SNAPSHOT, Fault.STALE_SNAPSHOT}
)
"""Those after which a depth frame is missing."""


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """One fault as it was put in."""

    fault: Fault
    ts: int
    """Of the first frame that it touched."""
    symbol: str


class TrueBook:
    """One symbol's book from its sound frames: two dictionaries, and the last update's number."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.update = 0
        """Number of the last update applied; 0 before the first snapshot, and where diffs are missing."""
        self._early: list[dict[str, object]] = []

    def load(self, snapshot: dict[str, object]) -> None:
        """Begin from a snapshot."""
        self.bids = _levels(snapshot["bids"])
        self.asks = _levels(snapshot["asks"])
        self.update = int(str(snapshot["lastUpdateId"]))
        early, self._early = self._early, []
        for diff in early:
            self.apply(diff)

    def apply(self, diff: dict[str, object]) -> None:
        """Apply a diff, unless the book holds it already; keep it where there is no book yet.

        Where diffs before it are missing, as a recording's own gaps leave it, there is no book until the
        next snapshot: one with levels that were never taken away would be served as sound.
        """
        final = int(str(diff["u"]))
        if self.update and final <= self.update:
            return
        if self.update and not self._follows(diff):
            self.update = 0
        if not self.update:
            self._early.append(diff)
            return
        for side, changes in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, size in _levels(changes).items():
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        self.update = final

    def _follows(self, diff: dict[str, object]) -> bool:
        return int(str(diff["U"])) <= self.update + 1 or diff.get("pu") == self.update

    def best(self, n: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Return the best n levels of both sides, best first."""
        return sorted(self.bids.items(), reverse=True)[:n], sorted(self.asks.items())[:n]

    def snapshot(self, symbol: str, *, is_futures: bool, event_ms: int, shift: int = 0) -> bytes:
        """Return the book as the venue's REST service would; its number less `shift`."""
        bids, asks = self.best(CAPACITY // 8)
        body: dict[str, object] = {"lastUpdateId": self.update - shift}
        if is_futures:
            body |= {"E": event_ms, "T": event_ms, "symbol": symbol}
        body["bids"] = [[repr(price), repr(size)] for price, size in bids]
        body["asks"] = [[repr(price), repr(size)] for price, size in asks]
        return msgspec.json.encode(body)


def _levels(pairs: object) -> dict[float, float]:
    return {float(price): float(size) for price, size in pairs}  # type: ignore[attr-defined] # a list of pairs


class _Line:
    """One symbol of one source: its true book and how its numbering has been moved."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.truth = TrueBook()
        self.is_futures = False
        self.shift = 0
        self.n_diffs = 0
        self.copies = (b"", b"")
        """Snapshots of the past, the older one first."""


class Injector:
    """Puts faults into sound frames. Frames go in by `push`, in order; what is to be received comes out.

    Args:
        rng: Chooses the symbol that a fault befalls.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.log: list[Injected] = []
        self.lines: dict[tuple[int, str], _Line] = {}
        self._rng = rng
        self._wanted: Fault | None = None
        self._victim: _Line | None = None
        self._kept: Frame | None = None
        self._until = 0
        self._blocked: Fault | None = None
        self._held: list[Frame] = []
        self._ahead_until = 0
        self.snapshot_fault: Fault | None = None
        """What is to happen to the next snapshot that is asked for; whoever serves it takes it away."""

    def want(self, fault: Fault) -> None:
        """Let a fault befall the next frame of depth that it fits."""
        self._wanted = fault

    @property
    def is_busy(self) -> bool:
        """Return whether a fault is still to come or going on."""
        return (
            self._wanted is not None
            or self._kept is not None
            or self._blocked is not None
            or self._ahead_until > 0
        )

    def push(self, frame: Frame) -> list[Frame]:
        """Take one sound frame; return what comes instead, receive times never decreasing."""
        line, body = self._hear(frame)
        if line is not None and "lastUpdateId" in body:
            return []  # whoever is listening asks for its own
        if self._blocked is not None:
            return self._wait(frame, line)
        if self._ahead_until and frame.ts_recv >= self._ahead_until:
            self._ahead_until = 0
        if line is None or body.get("e") != "depthUpdate":
            return [self._moved(frame, line)]
        return self._depth(frame, line)

    def snapshot(self, source: int, symbol: str, event_ms: int) -> bytes | None:
        """Return a symbol's whole book as it is now, or as it was if a stale one is due; None if unknown."""
        line = self.lines.get((source, symbol))
        if line is None or not line.truth.update:
            return None
        if self.snapshot_fault is Fault.STALE_SNAPSHOT:
            self.snapshot_fault = None
            if line.copies[0]:
                return line.copies[0]
        return line.truth.snapshot(
            symbol, is_futures=line.is_futures, event_ms=event_ms, shift=line.shift
        )

    def _hear(self, frame: Frame) -> tuple[_Line | None, dict[str, object]]:
        """Keep the truth, and return whose frame it is and its body."""
        decoded = msgspec.json.decode(frame.payload)
        body: dict[str, object] = decoded.get("data", decoded)
        symbol = str(body.get("s") or body.get("symbol") or "")
        if "lastUpdateId" in body and not symbol:
            mine = [line for (source, _), line in self.lines.items() if source == frame.source]
            symbol = mine[0].symbol if len(mine) == 1 else ""
        if not symbol:
            return None, body
        line = self.lines.setdefault((frame.source, symbol), _Line(symbol))
        if "lastUpdateId" in body:
            line.truth.load(body)
        elif body.get("e") == "depthUpdate":
            line.is_futures = "pu" in body
            line.n_diffs += 1
            if line.truth.update and line.n_diffs % _OLD == 0:
                line.copies = (line.copies[1], self._copy(line, body))
            line.truth.apply(body)
        return line, body

    @staticmethod
    def _copy(line: _Line, body: dict[str, object]) -> bytes:
        event_ms = int(str(body["E"]))
        return line.truth.snapshot(
            line.symbol, is_futures=line.is_futures, event_ms=event_ms, shift=line.shift
        )

    def _depth(self, frame: Frame, line: _Line) -> list[Frame]:
        if self._kept is not None and line is self._victim:
            kept, self._kept = self._kept, None
            later = Frame(frame.ts_recv, kept.payload, kept.source)
            return [self._moved(frame, line), later]
        fault = self._wanted
        if fault is None or not line.truth.update:
            return [self._moved(frame, line)]
        self._wanted, self._victim = None, line
        self.log.append(Injected(fault=fault, ts=frame.ts_recv, symbol=line.symbol))
        if fault in {Fault.STALL, Fault.BURST}:
            self._blocked = fault
            self._until = frame.ts_recv + (STALL_NS if fault is Fault.STALL else HELD_NS)
            return self._wait(frame, line)
        if fault is Fault.ROLL_OVER:
            line.shift += _ROLL
        if fault is Fault.CLOCK_JUMP:
            self._ahead_until = frame.ts_recv + _JUMP_NS
        if fault in {Fault.LATE_SNAPSHOT, Fault.STALE_SNAPSHOT}:
            self.snapshot_fault = fault
        return self._harmed(fault, self._moved(frame, line))

    def _harmed(self, fault: Fault, frame: Frame) -> list[Frame]:
        if fault is Fault.DUPLICATE:
            return [frame, frame]
        if fault is Fault.REORDER:
            self._kept = frame
            return []
        if fault is Fault.TRUNCATE:
            half = frame.payload[: len(frame.payload) // 2]
            return [Frame(frame.ts_recv, half, frame.source)]
        return [] if fault in LOSES else [frame]

    def _wait(self, frame: Frame, line: _Line | None) -> list[Frame]:
        """Lose or keep what comes while nothing gets through."""
        if frame.ts_recv < self._until:
            if self._blocked is Fault.BURST:
                self._held.append(self._moved(frame, line))
            return []
        held, self._held, self._blocked = self._held, [], None
        now = [Frame(frame.ts_recv, one.payload, one.source) for one in held]
        return [*now, self._moved(frame, line)]

    def _moved(self, frame: Frame, line: _Line | None) -> Frame:
        """Return a frame with its numbers and its clock moved as the faults so far ask for."""
        shift = line.shift if line is not None else 0
        if not shift and not self._ahead_until:
            return frame
        whole = msgspec.json.decode(frame.payload)
        inner = whole.get("data", whole)
        is_touch = "B" in inner
        if inner.get("e") == "depthUpdate" or is_touch:
            _add(inner, ("U", "u", "pu"), -shift)
        if self._ahead_until:
            _add(inner, ("E", "T"), JUMP_MS)
        return Frame(frame.ts_recv, msgspec.json.encode(whole), frame.source)


def _add(body: dict[str, object], keys: tuple[str, ...], by: int) -> None:
    for key in keys:
        value = body.get(key)
        if isinstance(value, int):
            body[key] = value + by


def restamped(payload: bytes, by_ms: int) -> bytes:
    """Return a frame with its exchange times `E` and `T` moved, in milliseconds."""
    whole = msgspec.json.decode(payload)
    inner = whole.get("data", whole)
    _add(inner, ("E", "T"), by_ms)
    return msgspec.json.encode(whole)
