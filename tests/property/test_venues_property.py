"""Every venue's decoder against mangled messages, and its books against slow ones of dictionaries."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finllm.domain.market import N_LEVELS, BookView, Flag, Frame
from finllm.market.feed import Market
from finllm.market.markets import VENUES
from finllm.market.venue_feed import VenueFeed
from finllm.market.venues.kraken import Kraken
from finllm.market.venues.okx import Okx
from finllm.runtime.tally import Tally

V = BookView
T = 1_700_000_000_000_000_000
MS = T // 1_000_000
STAMP = "2023-11-14T22:13:20.5Z"
SIDES = {"bids": [["1.5", "2"], ["1.4", "3"]], "asks": [["1.6", "2"], ["1.7", "3"]]}
TRIPLES = [[px, sz, "1700000000.5"] for px, sz in SIDES["bids"]]
BOOK = {"s": "AB", "b": SIDES["bids"], "a": SIDES["asks"], "u": 5, "seq": 6}
OLD = [{"price": "1.5", "side": "Buy", "size": 2}, {"price": "1.6", "side": "Sell", "size": 2}]
QUADS = {name: [[px, sz, "0", "1"] for px, sz in rows] for name, rows in SIDES.items()}
CHANGES = {name: [["new", float(px), float(sz)] for px, sz in rows] for name, rows in SIDES.items()}
NAMED = {"timestamp": MS, "instrument_name": "X"}
STAMPS = {"timestamp": "1700000000", "microtimestamp": str(MS * 1000)}


def rpc(channel, data):
    return {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"channel": channel, "data": data},
    }


MESSAGES = {
    "kraken": [
        [0, {"as": TRIPLES, "bs": TRIPLES}, "book-10", "A/B"],
        [0, {"b": TRIPLES, "c": "9"}, "book-10", "A/B"],
        [0, [["1.5", "2", "1700000000.5", "b", "l", ""]], "trade", "A/B"],
        [0, {"a": ["1.6", 1, "1"], "b": ["1.5", 1, "1"]}, "ticker", "A/B"],
        {"channel": "book", "type": "snapshot", "data": [{"symbol": "A/B", "checksum": 5,
         "bids": [{"price": 1.5, "qty": 1.0}], "asks": [{"price": 1.6, "qty": 1.0}]}]},
    ],
    "bybit": [
        {"topic": "orderbook.50.AB", "type": "snapshot", "ts": MS, "data": BOOK},
        {"topic": "orderbook.50.AB", "type": "delta", "ts": MS, "data": BOOK | {"u": 6}},
        {"topic": "orderbook.1.AB", "type": "snapshot", "ts": MS, "data": BOOK},
        {"topic": "orderBookL2_25.AB", "type": "snapshot", "data": OLD, "cross_seq": 4, "timestamp_e6": "5"},
        {"topic": "orderBookL2_25.AB", "type": "delta", "cross_seq": 5, "timestamp_e6": "6",
         "data": {"delete": OLD, "update": OLD, "insert": []}},
        {"topic": "publicTrade.AB", "data": [{"T": MS, "s": "AB", "S": "Buy", "v": "1", "p": "1.5"}]},
    ],
    "okx": [
        {"arg": {"channel": "books", "instId": "A-B"}, "action": kind,
         "data": [QUADS | {"ts": str(MS), "checksum": sum_, "seqId": 5, "prevSeqId": 4}]}
        for kind, sum_ in (("snapshot", 0), ("update", 0), ("update", 7))
    ] + [{"arg": {"channel": "trades", "instId": "A-B"}, "data": [
        {"instId": "A-B", "tradeId": "3", "px": "1.5", "sz": "1", "side": "buy", "ts": str(MS)}]}],
    "coinbase": [
        {"type": "snapshot", "product_id": "A-B", **SIDES},
        {"type": "l2update", "product_id": "A-B", "changes": [["buy", "1.5", "0"]], "time": STAMP},
        {"type": "ticker", "product_id": "A-B", "best_bid": "1.4", "best_ask": "1.6", "time": STAMP},
        {"type": "match", "product_id": "A-B", "trade_id": 1, "side": "buy", "size": "1",
         "price": "1", "time": STAMP},
        {"channel": "l2_data", "timestamp": STAMP, "sequence_num": 1, "events": [{"type": "update",
         "product_id": "A-B", "updates": [{"side": "bid", "price_level": "1.5", "new_quantity": "1"}]}]},
    ],
    "deribit": [
        rpc("book.X.raw", CHANGES | NAMED | {"type": "snapshot", "change_id": 1}),
        rpc("book.X.raw", CHANGES | NAMED | {"type": "change", "change_id": 2, "prev_change_id": 1}),
        rpc("quote.X", NAMED | {"best_bid_price": 1.5, "best_bid_amount": 2,
                        "best_ask_price": 1.6, "best_ask_amount": 2}),
        rpc("trades.X.raw", [{"instrument_name": "X", "trade_seq": 1, "timestamp": MS, "price": 1.5,
                              "amount": 1.0, "direction": "buy"}]),
    ],
    "bitstamp": [
        {"event": "data", "channel": "diff_order_book_ab", "data": STAMPS | SIDES},
        {"event": "data", "channel": "order_book_ab", "data": STAMPS | SIDES},
        {"url": "https://www.bitstamp.net/api/v2/order_book/ab", "data": STAMPS | SIDES},
        {"event": "trade", "channel": "live_trades_ab",
         "data": STAMPS | {"id": 1, "amount": 1, "price": 1.5, "type": 0}},
    ],
    "hyperliquid": [
        {"channel": "l2Book", "data": {"coin": "A", "time": MS,
         "levels": [[{"px": "1.5", "sz": "2"}], [{"px": "1.6", "sz": "2"}]]}},
        {"channel": "bbo", "data": {"coin": "A", "time": MS, "bbo": [{"px": "1.5", "sz": "2"}, None]}},
        {"channel": "trades", "data": [{"coin": "A", "side": "B", "px": "1.5", "sz": "1", "time": MS}]},
    ],
}  # fmt: skip
MESSAGES["normalised"] = MESSAGES["us-equity"] = [
    {"book": {"symbol": "A", "whole": True, **SIDES}},
    {"book": {"symbol": "A", "sequence": 5, "previous": 4, **SIDES}},
    {"touch": {"symbol": "A", "bid": ["1.5", "1"], "ask": ["1.6", "1"]}},
    {"trade": {"symbol": "A", "price": "1.5", "size": "1", "side": "buy"}},
    {"instrument": {"symbol": "A", "tick_size": "0.1", "lot_size": "1"}},
]
US = [
    {"stream": "abusd@aggTrade", "data": {"e": "aggTrade", "E": MS, "T": MS, "s": "ABUSD", "a": 3, "p": "1.5",
     "q": "2", "f": 4, "l": 5, "m": True, "M": True}},
    {"stream": "abusd@depth", "data": {"e": "depthUpdate", "E": MS, "s": "ABUSD", "U": 4, "u": 5,
     "b": SIDES["bids"], "a": []}},
    {"url": "https://api.binance.us/api/v3/depth?symbol=ABUSD", "data": {"lastUpdateId": 4, **SIDES}},
]  # fmt: skip


def text_of(message):
    return json.dumps(message, separators=(",", ":")).encode()


PIECES = [
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b"-",
    b"0",
    b"9" * 20,
    b"null",
    b"e9",
    b"nan",
    b"\\u0000",
    b'"1"',
    b",",
    b":",
]


@st.composite
def mangled(draw, texts):
    text = bytearray(draw(st.sampled_from(texts)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.binary(max_size=6) | st.sampled_from(PIECES))
        text[at : at + draw(st.integers(0, 8))] = piece
    return bytes(text)


def tell(feed, tally, payloads):
    """Push everything; every row is one more of its book, and every frame ends in the account."""
    rows = {}
    for i, payload in enumerate(payloads):
        index = feed.push(Frame(T + i, payload, i % 2))
        while index >= 0:
            view = feed.view(index)
            assert view[V.SEQ] == rows.get(index, 0) + 1
            assert view[V.TS_RECV] == T + i
            if view[V.FLAGS] & Flag.VALID and view[V.BID_PX] > view[V.ASK_PX]:
                assert view[V.FLAGS] & Flag.CROSSED
            rows[index] = int(view[V.SEQ])
            index = feed.more()
    feed.finish()
    assert tally.used + sum(tally.dropped.values()) == len(payloads)


@pytest.mark.parametrize("venue", VENUES)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_content_raises_and_every_frame_is_used_or_dropped(venue, data):
    texts = [text_of(message) for message in MESSAGES[venue.name]]
    payloads = data.draw(st.lists(st.one_of(st.binary(max_size=40), mangled(texts)), max_size=14))
    tally = Tally()
    tell(VenueFeed(venue(), tally), tally, payloads)


@settings(max_examples=150, deadline=None)
@example([text_of(US[2]).replace(b"//", b"//[")])
@given(st.lists(mangled([text_of(message) for message in US]), max_size=14))
def test_no_answer_or_aggregate_of_binance_us_raises(payloads):
    tally = Tally()
    tell(Market(tally, spot="binance-us"), tally, payloads)


@pytest.mark.parametrize("venue", VENUES)
def test_the_unmangled_messages_are_all_used(venue):
    feed = VenueFeed(venue(), Tally())
    for i, message in enumerate(MESSAGES[venue.name]):
        events = feed._decode(Frame(T + i, text_of(message), 0))
        assert not isinstance(events, str), message


def captured(shared, name, n):
    from finllm.market.capture import read_recordings

    path = shared / "orderbook" / "wire_captures" / name
    return [
        frame.payload for _, frame in zip(range(n), read_recordings([path], Tally()), strict=False)
    ]


CAPTURES = {
    "bitstamp": "BITSTAMP.ws.1.0.gz", "bybit": "BYBIT.ws.25.0.gz", "coinbase": "COINBASE.ws.28.0.gz",
    "deribit": "DERIBIT.ws.1.0.gz", "hyperliquid": "hyperliquid_btc_20250126.ndjson.gz",
    "kraken": "KRAKEN.ws.50.0.gz", "okx": "OKX.ws.1.0.gz",
}  # fmt: skip


@pytest.mark.parametrize("venue", [venue for venue in VENUES if venue.name in CAPTURES])
def test_no_mangled_capture_raises(venue, shared):
    payloads = captured(shared, CAPTURES[venue.name], 120)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, len(payloads) - 1), max_size=6), st.data())
    def law(hit, data):
        mine = list(payloads)
        for at in hit:
            mine[at] = data.draw(mangled([mine[at]]))
        tally = Tally()
        tell(VenueFeed(venue(), tally), tally, mine)

    law()


class SlowBook:
    """Bids and asks as dictionaries of ticks and lots."""

    def __init__(self):
        self.sides = ({}, {})

    def change(self, bids, asks):
        for levels, changes in zip(self.sides, (bids, asks), strict=True):
            for px, sz in changes:
                levels.pop(px, None)
                if sz:
                    levels[px] = sz

    def best(self, which, n=N_LEVELS):
        return sorted(self.sides[which].items(), key=lambda row: row[0] * (-1, 1)[which])[:n]


bid_changes = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 5)), max_size=6, unique_by=lambda r: r[0]
)
ask_changes = st.lists(
    st.tuples(st.integers(31, 60), st.integers(0, 5)), max_size=6, unique_by=lambda r: r[0]
)
START = ([(px, 1) for px in range(1, 31)], [(px, 1) for px in range(31, 61)])


def shown(view, which):
    px, sz = (V.BID_PX, V.BID_SZ) if which == 0 else (V.ASK_PX, V.ASK_SZ)
    return [(int(view[px + i]), int(view[sz + i])) for i in range(int(view[V.N_BIDS + which]))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(bid_changes, ask_changes, st.booleans()), max_size=12))
def test_okx_books_equal_slow_ones_and_any_wrong_checksum_is_caught(story):
    feed, slow = VenueFeed(Okx(), Tally()), SlowBook()
    arg = {"channel": "books", "instId": "A-B"}
    for i, (bids, asks, is_honest) in enumerate([(*START, True), *story]):
        slow.change(bids, asks)
        value = Okx().checksum(slow.best(0, 25), slow.best(1, 25), (0, 0)) ^ (not is_honest)
        levels = {"bids": [[str(p), str(s), "0", "1"] for p, s in bids]}
        levels |= {"asks": [[str(p), str(s)] for p, s in asks]}
        data = levels | {"ts": str(MS + i), "seqId": i + 1, "prevSeqId": i, "checksum": value}
        action = "update" if i else "snapshot"
        index = feed.push(Frame(T + i, text_of({"arg": arg, "action": action, "data": [data]}), 0))
        if not is_honest:
            assert index == -1
            assert [gap.reason for gap in feed.gaps] == ["checksum"]
            return
        assert index == 0
        assert shown(feed.view(0), 0) == slow.best(0)
        assert shown(feed.view(0), 1) == slow.best(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(bid_changes, ask_changes, st.booleans()), max_size=12))
def test_kraken_v2_books_equal_slow_ones_and_any_wrong_checksum_is_caught(story):
    feed, slow = VenueFeed(Kraken(), Tally()), SlowBook()
    for i, (bids, asks, is_honest) in enumerate([(*START, True), *story]):
        slow.change(bids, asks)
        scaled = [[(px * 10, sz * 100) for px, sz in slow.best(which, 10)] for which in (0, 1)]
        value = Kraken().checksum(*scaled, (1, 2))
        if not is_honest:
            value ^= 1
        rows = [
            ",".join(f'{{"price":{px}.0,"qty":{sz}.00}}' for px, sz in side)
            for side in (bids, asks)
        ]
        text = (
            f'{{"channel":"book","type":"{"update" if i else "snapshot"}","data":[{{"symbol":"A/B",'
            f'"bids":[{rows[0]}],"asks":[{rows[1]}],"checksum":{value}}}]}}'
        )
        index = feed.push(Frame(T + i, text.encode(), 0))
        if not is_honest:
            assert index == -1
            assert [gap.reason for gap in feed.gaps] == ["checksum"]
            return
        assert index == 0
        assert shown(feed.view(0), 0) == slow.best(0)
        assert shown(feed.view(0), 1) == slow.best(1)
