"""The wire: the venue's shapes, numbers that chain, a book that is right at every instant."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.market.synthetic import LISTINGS, SyntheticMarket, TruthKind, generate
from finllm.market.synthetic.wire import Wire, size

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data" / "orderbook" / "binance_frames"
TAPE = generate(SyntheticMarket(seed=6, duration_s=160.0))


Messages = list[tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def decoded() -> list[Messages]:
    found: list[Messages] = [[], []]
    for frame in TAPE.frames():
        found[frame.source].append((frame.ts_recv, json.loads(frame.payload)))
    return found


@pytest.fixture(params=[0, 1], ids=["BTCUSDT", "ETHUSDT"])
def messages(request: pytest.FixtureRequest, decoded: list[Messages]) -> Messages:
    return decoded[request.param]


def _shape(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: _shape(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return _shape(thing[0]) if thing else "?"
    if isinstance(thing, str) and thing.replace(".", "").isdigit():
        return f"number with {len(thing.partition('.')[2])} decimals"
    return type(thing).__name__


def _first_of_each(lines: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in lines:
        kind = line["data"]["e"] if "data" in line else "snapshot"
        if "data" in line and not all(line["data"].get(side, "?") for side in "ba"):
            continue  # a diff with an empty side shows no shape
        shape = _shape(line)
        shape.pop("symbol", None)  # ours names itself
        if isinstance(shape.get("stream"), str):
            shape["stream"] = line["stream"]
        found.setdefault(kind, shape)
    return found


@pytest.mark.skipif(not SHARED.exists(), reason="the recordings (../shared) are not here")
def test_each_frame_has_the_fields_order_and_number_formats_of_the_recordings(
    messages: Messages,
) -> None:
    symbol = next(m["data"]["s"] for _, m in messages if "data" in m)
    name = f"usdm_{symbol.lower()}_20240808.ndjson.gz"
    with gzip.open(SHARED / name, "rt") as recording:
        lines = [json.loads(recording.readline().split(" ", 1)[1]) for _ in range(600)]
    real, ours = _first_of_each(lines), _first_of_each([m for _, m in messages])
    assert set(real) == {"snapshot", "depthUpdate", "bookTicker", "trade"}
    for kind, shape in real.items():
        assert ours[kind] == shape
        assert str(ours[kind]) == str(shape)  # the order of the fields too


def test_mark_prices_come_every_second(messages: Messages) -> None:
    marks = [m["data"] for _, m in messages if m.get("stream", "").endswith("@markPrice@1s")]
    assert len(marks) == 160
    assert list(marks[0]) == ["e", "E", "s", "p", "P", "i", "r", "T"]
    assert all(mark["T"] > mark["E"] and mark["T"] % 28_800_000 == 0 for mark in marks)


Book = dict[int, int]


class ReferenceBook:
    """Plain dicts under the venue's own rule for joining a snapshot and its diffs."""

    def __init__(self) -> None:
        self.bids: Book = {}
        self.asks: Book = {}
        self.last = 0
        self.n_joined = 0
        self.n_breaks = 0
        self._held: list[dict[str, Any]] = []

    def join(self, snapshot: dict[str, Any]) -> None:
        self.bids, self.asks = _sizes(snapshot["bids"]), _sizes(snapshot["asks"])
        update = snapshot["lastUpdateId"]
        rest = [diff for diff in self._held if diff["u"] > update]
        assert rest[0]["U"] <= update + 1 <= rest[0]["u"]
        for diff in rest:
            self._merge(diff)
        self._held = []
        self.n_joined += 1

    def take(self, diff: dict[str, Any]) -> bool:
        """Apply a diff; return whether the book is whole."""
        assert diff["U"] <= diff["u"]
        if self.last and diff["pu"] != self.last:
            self.n_breaks += 1
            self.bids, self.asks, self._held = {}, {}, []
        self.last = diff["u"]
        if not self.bids:
            self._held.append(diff)
            return False
        self._merge(diff)
        return True

    def _merge(self, diff: dict[str, Any]) -> None:
        for book, levels in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, lots in _sizes(levels).items():
                if lots:
                    book[price] = lots
                else:
                    book.pop(price, None)


def _number(text: str) -> int:
    return int(text.replace(".", ""))


def _sizes(levels: list[list[str]]) -> Book:
    return {_number(price): _number(lots) for price, lots in levels}


def _assert_agrees(book: ReferenceBook, touch: dict[str, Any]) -> None:
    bid, ask = max(book.bids), min(book.asks)
    assert bid < ask
    assert touch["u"] <= book.last
    assert (bid, book.bids[bid]) == (_number(touch["b"]), _number(touch["B"]))
    assert (ask, book.asks[ask]) == (_number(touch["a"]), _number(touch["A"]))
    assert min(len(book.bids), len(book.asks)) >= 20


def test_the_depth_agrees_with_every_touch_and_is_never_crossed(messages: Messages) -> None:
    book = ReferenceBook()
    touch: dict[str, Any] = {}
    n_checked = 0
    for _, message in messages:
        data = message.get("data", message)
        if "lastUpdateId" in data:
            book.join(data)
        elif data["e"] == "bookTicker":
            assert _number(data["b"]) < _number(data["a"])
            assert _number(data["B"]) > 0 < _number(data["A"])
            touch = data
        elif data["e"] == "depthUpdate" and book.take(data):
            _assert_agrees(book, touch)
            n_checked += 1
    symbol = touch["s"]
    planted = [t for t in TAPE.truths if t.kind is TruthKind.GAP and t.instrument.endswith(symbol)]
    assert book.n_breaks == len(planted)
    assert book.n_joined == 1 + len(planted)
    assert n_checked > 2_000


def test_trades_hit_the_touch_that_stood(messages: Messages) -> None:
    touch: dict[str, Any] = {}
    numbers = []
    for _, message in messages:
        data = message.get("data", {})
        if data.get("e") == "bookTicker":
            touch = data
        elif data.get("e") == "trade" and touch:
            numbers.append(data["t"])
            standing = touch["b"] if data["m"] else touch["a"]
            assert data["p"] == standing
            assert 0 < Decimal(data["q"]) <= Decimal(touch["B" if data["m"] else "A"])
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_exchange_times_never_go_back_and_precede_receipt_by_a_few_ms(
    messages: Messages,
) -> None:
    before = 0
    for ts_recv, message in messages:
        if "data" not in message:
            continue  # a snapshot is older than the diffs that arrive before it
        event_ms = message["data"]["E"]
        assert event_ms >= before
        assert 0 < ts_recv - event_ms * 1_000_000 < 12_000_000
        before = event_ms


@settings(deadline=None, max_examples=60)
@given(
    listing=st.sampled_from(LISTINGS),
    ticks=st.integers(1, 10**9),
    lots=st.integers(0, 10**9),
)
def test_prices_and_sizes_are_printed_without_loss(listing, ticks, lots) -> None:
    wire = Wire(listing.symbol, listing.decimals)
    assert Decimal(wire.price(ticks)) * 10**listing.decimals == ticks
    assert Decimal(size(lots)) * 1000 == lots
    mark = json.loads(wire.mark(0, 2 * ticks + 1))["data"]["p"]
    assert Decimal(mark) * 10**listing.decimals * 2 == 2 * ticks + 1
