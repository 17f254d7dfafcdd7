"""The book against a slow one made of dictionaries, and the decoder against arbitrary bytes."""

import json

import msgspec
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finllm.domain.market import N_LEVELS, BookView, Flag, Frame
from finllm.market import book as books
from finllm.market.feed import Market
from finllm.market.levels import FULL, read_levels
from finllm.runtime.tally import Tally

V = BookView
T = 1_700_000_000_000_000_000
FEW = settings(max_examples=60, deadline=None)

prices = st.integers(1, 60)
sizes = st.integers(0, 5)
side = st.lists(st.tuples(prices, sizes), max_size=12)
diffs = st.tuples(st.just("diff"), side, side)
touches = st.tuples(st.just("touch"), prices, st.integers(1, 5), prices, st.integers(1, 5))
trades = st.tuples(st.just("trade"), prices, st.integers(1, 5))
snapshots = st.tuples(st.just("snapshot"), side, side)
events = st.lists(st.one_of(diffs, touches, trades, snapshots), max_size=40)


class SlowBook:
    """Bids and asks as dictionaries; the touch as a tuple."""

    def __init__(self):
        self.sides = ({}, {})
        self.touch = None
        self.is_valid = False

    def change(self, bids, asks):
        for levels, changes in zip(self.sides, (bids, asks), strict=True):
            for px, sz in changes:
                levels.pop(px, None)
                if sz:
                    levels[px] = sz

    def best(self, which):
        sign = -1 if which == 0 else 1
        rows = sorted(self.sides[which].items(), key=lambda row: sign * row[0])
        rows = rows if self.is_valid else []
        if self.touch is not None:
            px, sz = self.touch[2 * which : 2 * which + 2]
            rows = [(px, sz), *(row for row in rows if sign * row[0] > sign * px)]
        return rows[:N_LEVELS]


def shown(view, which):
    px, sz = (V.BID_PX, V.BID_SZ) if which == 0 else (V.ASK_PX, V.ASK_SZ)
    n = int(view[V.N_BIDS + which])
    assert not view[px + n : px + N_LEVELS].any()
    return [(int(view[px + i]), int(view[sz + i])) for i in range(n)]


def load(bids, asks):
    levels = np.zeros((64, 2))
    both = [*bids, *asks]
    levels[: len(both)] = np.array(both).reshape(-1, 2)
    return levels, len(bids), len(both)


def once(levels):
    """Keep the first level of each price, as snapshots never repeat one on purpose."""
    return list({px: (px, sz) for px, sz in reversed(levels)}.values())[::-1]


@FEW
@given(events)
def test_the_view_equals_that_of_a_book_of_dictionaries(story):
    fast, slow = books.new_book(10**12), SlowBook()
    for i, event in enumerate(story, start=1):
        match event:
            case ("diff", bids, asks):
                books.apply_diff(fast, *load(bids, asks), i, T + i, T, 1.0, 1.0)
                slow.change(bids, asks)
                slow.touch = slow.touch if not slow.is_valid else None
            case ("snapshot", bids, asks):
                bids, asks = once(bids), once(asks)
                books.apply_snapshot(fast, *load(bids, asks), i, 1.0, 1.0)
                slow.sides = ({}, {})
                slow.change(bids, asks)
                slow.touch, slow.is_valid = None, True
                continue
            case ("touch", *touch):
                books.apply_touch(fast, i, T + i, T, *map(float, touch), 1.0, 1.0)
                slow.touch = tuple(touch)
            case ("trade", px, sz):
                books.apply_trade(fast, T + i, T, float(px), float(sz), 1, 1.0, 1.0)
        assert shown(fast, 0) == slow.best(0)
        assert shown(fast, 1) == slow.best(1)
        has_both = slow.best(0) and slow.best(1)
        assert bool(fast[V.FLAGS] & Flag.VALID) == bool(slow.is_valid and has_both)
        if has_both:
            spread = slow.best(1)[0][0] - slow.best(0)[0][0]
            assert bool(fast[V.FLAGS] & Flag.CROSSED) == (spread < 0)
            assert bool(fast[V.FLAGS] & Flag.LOCKED) == (spread == 0)


@FEW
@given(
    st.lists(st.tuples(st.integers(1, 20_000), st.integers(0, 3)), max_size=60), st.integers(0, 1)
)
def test_a_full_side_keeps_the_best_levels_and_counts_the_rest(changes, which):
    cells = books.new_book(10**12)
    full = [(px, 1) for px in range(5_000, 5_000 + books.CAPACITY)]
    levels = np.zeros((books.MAX_LEVELS, 2))
    levels[: len(full)] = full
    n_bids = len(full) if which == 0 else 0
    books.apply_snapshot(cells, levels, n_bids, len(full), 1, 1.0, 1.0)
    slow = dict(full)
    dropped = 0
    worst = min if which == 0 else max
    for i, (px, sz) in enumerate(changes, start=2):
        change = ([(px, sz)], []) if which == 0 else ([], [(px, sz)])
        books.apply_diff(cells, *load(*change), i, T, T, 1.0, 1.0)
        slow.pop(px, None)
        if sz:
            slow[px] = sz
        if len(slow) > books.CAPACITY:
            del slow[worst(slow)]
            dropped += 1
    px, sz = books.depth(cells, which)
    assert dict(zip(px.tolist(), sz.tolist(), strict=True)) == slow
    assert px.tolist() == sorted(slow, reverse=which == 0)
    assert cells[books.Cell.DEEP_DROPPED] == dropped


numbers = st.one_of(
    st.decimals(0, 10**9, allow_nan=False, places=8).map("{:f}".format),
    st.floats(allow_nan=True).map(repr),
    st.integers(0, 10**25).map(str),
)


@FEW
@given(st.lists(st.tuples(numbers, numbers), max_size=8))
@example([("0.1", "0.30000000000000004"), ("9007199254740993", "90071992547409.93")])
def test_levels_read_by_the_kernel_equal_those_of_the_decoder(levels):
    raw = msgspec.json.encode(levels)
    out = np.zeros((8, 2))
    decoded = msgspec.json.decode(raw, type=list[tuple[float, float]], strict=False)
    assert read_levels(msgspec.Raw(raw), out, 0) == len(levels)
    np.testing.assert_array_equal(out[: len(levels)], np.array(decoded).reshape(-1, 2))
    if levels:
        assert read_levels(msgspec.Raw(raw), out[: len(levels) - 1], 0) == FULL


GOOD = [
    {"stream": "btcusdt@bookTicker", "data": {"e": "bookTicker", "u": 9, "s": "BTCUSDT", "b": "100.0",
     "B": "1", "a": "100.1", "A": "1", "T": 1, "E": 1}},
    {"stream": "btcusdt@depth@0ms", "data": {"e": "depthUpdate", "E": 1, "T": 1, "s": "BTCUSDT",
     "U": 11, "u": 20, "pu": 10, "b": [["99.9", "3"]], "a": []}},
    {"stream": "newusdt@trade", "data": {"e": "trade", "E": 1, "T": 1, "s": "NEWUSDT", "t": 1,
     "p": "1.5", "q": "2", "X": "MARKET", "m": True}},
    {"lastUpdateId": 10, "E": 1, "T": 1, "bids": [["100.0", "1"]], "asks": [["100.1", "1"]]},
]  # fmt: skip
texts = [json.dumps(frame, separators=(",", ":")).encode() for frame in GOOD]


@st.composite
def mangled(draw):
    text = bytearray(draw(st.sampled_from(texts)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=6) | st.sampled_from(
            [b'"', b"[", b"]", b"-", b"0", b"9" * 20, b"null", b"e9", b"nan", b"\\u0000", b'"1"'],
        ))  # fmt: skip
    return bytes(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), mangled()), max_size=12))
def test_no_content_raises_and_every_frame_is_used_or_dropped(payloads):
    tally = Tally()
    market = Market(tally)
    rows = {}
    for i, payload in enumerate(payloads):
        index = market.push(Frame(T + i, payload, i % 2))
        if index >= 0:
            view = market.view(index)
            assert view[V.SEQ] == rows.get(index, 0) + 1
            assert view[V.TS_RECV] == T + i
            rows[index] = int(view[V.SEQ])
    market.finish()
    assert tally.used + sum(tally.dropped.values()) == len(payloads)
