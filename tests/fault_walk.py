"""Frames with faults put in, through the books, with the truth beside: what every row may say."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np

from finllm.domain.market import BookView, Flag, Frame, Gap, RowKind
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.faults import Fault, Injected, Injector, TrueBook
from finllm.market.feed import Market
from finllm.market.tape import merged, read_frames
from finllm.runtime.tally import Tally

LEVELS = 5
DEEPER = 200
"""Levels that a newer touch may have taken away above those compared."""
ANSWER_NS = 300 * NS_PER_MS
"""How long a snapshot that was asked for is on its way."""
Level = tuple[float, float]
_VALID, _STALE = int(Flag.VALID), int(Flag.STALE)


class Walk(msgspec.Struct, kw_only=True):
    """What the rows showed."""

    rows: int = 0
    valid: int = 0
    compared: int = 0
    wrong: list[str] = []
    """Rows that counted as valid and were not the true book."""
    false_flags: int = 0
    """Rows that were not valid, once every book had been, on a tape without faults."""
    gaps: list[Gap] = []
    faults: list[Injected] = []
    first_after: dict[int, int] = {}
    """Flags of the first row after each fault, by the fault's place in the list."""
    dropped: dict[str, int] = {}
    noted: dict[str, int] = {}
    unusable_at_end: int = 0
    last_ts: int = 0
    """Receive time of the last frame that the feed was handed; what befell later ones cannot be seen."""


class _Reference:
    """The true book of one symbol, as of any number, from its sound diffs and the touches received."""

    def __init__(self) -> None:
        self.book = TrueBook()
        self.coming: list[dict] = []
        self.touch = 0, ((0.0, 0.0), (0.0, 0.0))
        """The newest bookTicker that reached the feed: its number, and (price, size) of bid and ask."""

    def hear(self, body: dict, shift: int) -> None:
        number = int(body["u"]) + shift
        if number > self.touch[0]:
            bid = float(body["b"]), float(body["B"])
            self.touch = number, (bid, (float(body["a"]), float(body["A"])))

    def best(self, number: int) -> tuple[list[Level], list[Level]] | None:
        """Return what is to be served at a diff; None if the truth does not know that number."""
        true = self.at(number)
        if true.update != number:
            return None
        bids, asks = true.best(LEVELS + DEEPER)
        if self.touch[0] > number:
            bid, ask = self.touch[1]
            bids = [bid, *(level for level in bids if level[0] < bid[0])]
            asks = [ask, *(level for level in asks if level[0] > ask[0])]
        return bids[:LEVELS], asks[:LEVELS]

    def at(self, number: int) -> TrueBook:
        while self.coming and int(self.coming[0]["u"]) <= number:
            self.book.apply(self.coming.pop(0))
        return self.book


def walk(tapes: list[Path], every_s: float = 0.0, seed: int = 1) -> Walk:
    """Walk sound tapes with a fault at each interval, kinds in turn; 0 = none."""
    kinds = [fault for fault in Fault if fault is not Fault.DISCONNECT]
    injector, tally = Injector(np.random.default_rng(seed)), Tally()
    market, seen = Market(tally), Walk()
    references: dict[str, _Reference] = {}
    asked: dict[int, int] = {}
    next_fault, n_told = 0, 0
    for sound in merged([read_frames(t, source=i, tally=Tally()) for i, t in enumerate(tapes)]):
        _learn(sound, references)
        now = sound.ts_recv
        next_fault = next_fault or now + 10 * NS_PER_S
        if (
            every_s
            and now >= next_fault
            and not injector.is_busy
            and not any(market.needs_snapshot(i) for i in range(len(market.instruments)))
        ):
            injector.want(kinds[len(injector.log) % len(kinds)])
            next_fault = now + int(every_s * NS_PER_S)
        first = _is_first_book(sound)
        for frame in [*([sound] if first else []), *injector.push(sound)]:
            tally.read += 1
            seen.last_ts = frame.ts_recv
            index = market.push(frame)
            seen.gaps += market.gaps
            market.gaps.clear()
            if index < 0:
                continue
            _see(market, index, frame, injector, references, seen)
            while n_told < len(injector.log) and injector.log[n_told].ts < now:
                seen.first_after[n_told] = int(market.view(index)[BookView.FLAGS])
                n_told += 1
        _answer(market, injector, asked, now, tally)
    _close(market, injector, tally, seen)
    return seen


def _close(market: Market, injector: Injector, tally: Tally, seen: Walk) -> None:
    market.finish()
    seen.faults = injector.log
    seen.dropped, seen.noted = dict(tally.dropped), dict(tally.noted)
    seen.unusable_at_end = sum(market.needs_snapshot(i) for i in range(len(market.instruments)))
    assert tally.read == tally.used + sum(tally.dropped.values())


def _is_first_book(frame: Frame) -> bool:
    """Let the recorded snapshot through: it is the one that was asked for at the start."""
    return b'"lastUpdateId"' in frame.payload[:40]


def _body(frame: Frame) -> dict:
    whole = msgspec.json.decode(frame.payload)
    return whole.get("data", whole)


def _learn(frame: Frame, references: dict[str, _Reference]) -> None:
    body = _body(frame)
    if "lastUpdateId" in body:
        name = (
            body.get("symbol")
            or next(
                name
                for name, one in references.items()
                if name.startswith(f"{frame.source}:") and one
            ).partition(":")[2]
        )
        references.setdefault(f"{frame.source}:{name}", _Reference()).book.load(body)
    elif body.get("e") == "depthUpdate":
        references.setdefault(f"{frame.source}:{body['s']}", _Reference()).coming.append(body)


def _see(
    market: Market,
    index: int,
    frame: Frame,
    injector: Injector,
    references: dict[str, _Reference],
    seen: Walk,
) -> None:
    view = market.view(index)
    flags = int(view[BookView.FLAGS])
    seen.rows += 1
    seen.valid += flags == _VALID
    seen.false_flags += bool(seen.valid) and flags & (_VALID | _STALE) != _VALID
    kind = int(view[BookView.KIND])
    instrument = market.instruments[index]
    if kind == int(RowKind.TRADE):
        return
    body, shift = _body(frame), injector.lines[frame.source, instrument.symbol].shift
    reference = references.setdefault(f"{frame.source}:{instrument.symbol}", _Reference())
    if kind == int(RowKind.TOUCH):
        reference.hear(body, shift)
    number = int(body["u"]) + shift
    best = reference.best(number) if kind == int(RowKind.DEPTH) and flags & _VALID else None
    if best is None:
        return
    seen.compared += 1
    tick, lot = instrument.tick_size, instrument.lot_size
    for side, px_at, sz_at in zip(
        best,
        (BookView.BID_PX, BookView.ASK_PX),
        (BookView.BID_SZ, BookView.ASK_SZ),
        strict=True,
    ):
        for i, (price, size) in enumerate(side):
            mine = view[px_at + i] * tick, view[sz_at + i] * lot
            if not np.allclose(mine, (price, size), rtol=1e-9, atol=lot / 2):
                seen.wrong.append(f"{instrument.key} {number} level {i}: {mine}, not {price, size}")


def _answer(
    market: Market, injector: Injector, asked: dict[int, int], now: int, tally: Tally
) -> None:
    """Ask for what is missing, as the live feed does, and hand over what has come."""
    for index, instrument in enumerate(market.instruments):
        if not market.needs_snapshot(index):
            asked.pop(index, None)
            continue
        if now < asked.setdefault(index, now + ANSWER_NS):
            continue
        if injector.snapshot_fault is Fault.LATE_SNAPSHOT:
            injector.snapshot_fault = None
            asked[index] = now + 3 * NS_PER_S
            continue
        asked[index] = now + ANSWER_NS
        for source, symbol in list(injector.lines):
            if symbol == instrument.symbol and _is_of(
                market, index, injector.lines[source, symbol]
            ):
                body = injector.snapshot(source, symbol, now // NS_PER_MS)
                if body is not None:
                    tally.read += 1
                    market.push(Frame(now, body, source))


def _is_of(market: Market, index: int, line: object) -> bool:
    return market.instruments[index].venue.endswith("spot") != line.is_futures  # type: ignore[attr-defined]


def count(walked: Walk) -> Counter[str]:
    """Return how often each fault was put in."""
    return Counter(str(one.fault) for one in walked.faults)
