"""What the engine makes of any venue's events: rows, flags, gaps, drops and comparisons."""

import json

import pytest

from finllm.domain.market import BookView, Flag, Frame, RowKind
from finllm.market.connection import down, silent
from finllm.market.markets import Markets, open_market
from finllm.market.venue_feed import VenueFeed
from finllm.market.venues.bitstamp import Bitstamp
from finllm.market.venues.bybit import Bybit
from finllm.market.venues.coinbase import Coinbase
from finllm.market.venues.deribit import Deribit
from finllm.market.venues.hyperliquid import Hyperliquid
from finllm.market.venues.kraken import Kraken
from finllm.market.venues.okx import Okx
from finllm.runtime.tally import Tally

V = BookView
T0 = 1_700_000_000_000_000_000
MS = 1_000_000
BIDS = [[str(100 - i), "5"] for i in range(8)]
ASKS = [[str(101 + i), "5"] for i in range(8)]


class Told:
    """A venue's feed and the messages told to it, a millisecond apart."""

    def __init__(self, venue):
        self.tally = Tally()
        self.feed = VenueFeed(venue(), self.tally)
        self.now = T0
        self.n = 0

    @property
    def ms(self):
        return self.now // MS

    def push(self, message, *, source=0):
        """Take a message in; return the (kind, flags) of each row that it made."""
        self.now += MS
        self.n += 1
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        rows = []
        index = self.feed.push(Frame(self.now, text.replace(b'{"url": ', b'{"url":'), source))
        while index >= 0:
            view = self.feed.view(index)
            rows.append((RowKind(int(view[V.KIND])), Flag(int(view[V.FLAGS]))))
            index = self.feed.more()
        return rows

    def best(self, index=0):
        view = self.feed.view(index)
        return int(view[V.BID_PX]), int(view[V.BID_SZ]), int(view[V.ASK_PX]), int(view[V.ASK_SZ])

    def settle(self):
        self.feed.finish()
        assert self.tally.used + sum(self.tally.dropped.values()) == self.n
        return dict(self.tally.dropped)


class OkxTold(Told):
    def __init__(self):
        super().__init__(Okx)

    def book(self, number, previous, bids=(), asks=(), action="update", checksum=0):
        data = {"bids": list(bids), "asks": list(asks), "ts": str(self.ms), "seqId": number}
        data |= {"prevSeqId": previous, "checksum": checksum}
        arg = {"channel": "books", "instId": "BTC-USDT"}
        return self.push({"arg": arg, "action": action, "data": [data]})

    def trades(self, *numbers):
        data = [
            {
                "instId": "BTC-USDT",
                "tradeId": str(n),
                "px": "100",
                "sz": "2",
                "side": "buy",
                "ts": str(self.ms),
            }
            for n in numbers
        ]
        return self.push({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": data})

    def best_of(self, number, bid, ask):
        data = {"bids": [[bid, "5"]], "asks": [[ask, "5"]], "ts": str(self.ms), "seqId": number}
        return self.push({"arg": {"channel": "bbo-tbt", "instId": "BTC-USDT"}, "data": [data]})


@pytest.fixture
def okx():
    told = OkxTold()
    rows = told.book(10, -1, BIDS, ASKS, "snapshot")
    assert rows == [(RowKind.DEPTH, Flag.VALID)]
    return told


def test_linked_updates_make_valid_rows(okx):
    assert okx.book(12, 10, bids=[["100", "7"]]) == [(RowKind.DEPTH, Flag.VALID)]
    assert okx.best() == (100, 7, 101, 5)
    assert okx.feed.gaps == []
    assert okx.settle() == {}


def test_a_break_in_the_links_records_a_gap_and_trusts_no_depth_until_a_snapshot(okx):
    assert okx.book(15, 12, bids=[["100", "7"]]) == []
    [gap] = okx.feed.gaps
    assert (gap.reason, gap.from_sequence, gap.to_sequence) == ("gap", 10, 15)
    assert (gap.instrument, gap.ts_recv) == ("okx:BTC-USDT", okx.now)
    assert okx.feed.needs_snapshot(0)
    assert okx.trades(1) == [(RowKind.TRADE, Flag.RESYNCING)]
    assert okx.book(16, 15) == []
    assert okx.book(20, -1, BIDS, ASKS, "snapshot") == [(RowKind.DEPTH, Flag.VALID)]
    assert okx.best() == (100, 5, 101, 5)
    assert okx.book(21, 20, bids=[["100", "0"]]) == [(RowKind.DEPTH, Flag.VALID)]
    assert okx.best() == (99, 5, 101, 5)
    assert okx.settle() == {"no_snapshot": 2}


def test_what_was_applied_is_not_applied_again(okx):
    okx.book(12, 10, bids=[["100", "7"]])
    assert okx.book(12, 10, bids=[["100", "7"]]) == []
    assert okx.settle() == {"old_diff": 1}


def test_an_update_that_keeps_or_lowers_the_number_still_links(okx):
    """OKX repeats the number when nothing changed, and restarts it after maintenance."""
    assert okx.book(10, 10) == [(RowKind.DEPTH, Flag.VALID)]
    assert okx.book(3, 10, bids=[["100", "9"]]) == [(RowKind.DEPTH, Flag.VALID)]
    assert okx.book(5, 3) == [(RowKind.DEPTH, Flag.VALID)]
    assert okx.feed.gaps == []
    assert okx.settle() == {}


def test_a_touch_from_before_the_numbers_began_anew_does_not_cover_the_depth(okx):
    okx.best_of(12, "98", "103")
    assert okx.best()[2] == 103
    okx.book(3, 10)
    assert okx.best() == (100, 5, 101, 5)
    okx.best_of(4, "99", "102")
    assert okx.best()[2] == 102


def test_levels_of_neither_kind_are_refused(okx):
    assert okx.book(12, 10, bids=[["100", "7"]], action="updata") == []
    assert okx.best() == (100, 5, 101, 5)
    assert okx.settle() == {"bad_fields": 1}


def test_old_numbers_with_late_times_are_a_restart(okx):
    okx.book(12, 10)
    okx.now += 10_000 * MS
    assert okx.book(2, 1) == []
    assert [gap.reason for gap in okx.feed.gaps] == ["restart"]


def test_a_failed_checksum_breaks_the_book_before_its_row(okx):
    assert okx.book(12, 10, bids=[["100", "7"]], checksum=1) == []
    assert [gap.reason for gap in okx.feed.gaps] == ["checksum"]
    assert okx.trades(1) == [(RowKind.TRADE, Flag.RESYNCING)]
    assert (okx.feed.checks.checksums, okx.feed.checks.checksums_equal) == (1, 0)
    assert okx.settle() == {"failed_checksum": 1}


def test_each_trade_of_a_frame_makes_a_row_and_none_counts_twice(okx):
    assert okx.trades(3, 1, 2) == [(RowKind.TRADE, Flag.VALID)] * 3
    view = okx.feed.view(0)
    assert tuple(view[[V.TRADE_SIDE, V.TRADE_PX, V.TRADE_SZ]]) == (1, 100, 2)
    okx.now -= MS  # the same instant
    assert okx.trades(3) == []
    assert okx.settle() == {"old_trade": 1}


def test_a_touch_newer_than_the_depth_lies_over_it_and_an_older_one_does_not(okx):
    assert okx.best_of(12, "100.0", "102") == [(RowKind.TOUCH, Flag.VALID)]
    assert okx.best()[2] == 102
    okx.book(13, 10, asks=[["101", "0"]])
    assert okx.best_of(11, "90", "200") == []
    assert okx.best() == (100, 5, 102, 5)


def test_a_touch_is_compared_with_the_depth_of_its_own_place(okx):
    okx.best_of(10, "100", "101")
    okx.best_of(11, "100", "101")
    okx.book(12, 10, bids=[["100", "0"]])
    okx.best_of(12, "98", "101")
    okx.book(13, 12)
    okx.settle()
    checks = okx.feed.checks
    assert (checks.done, checks.equal, checks.sizes_equal, checks.undecidable) == (2, 1, 1, 1)


def test_a_ticker_of_unknown_place_never_covers_a_valid_depth(okx):
    ticker = {
        "instId": "BTC-USDT",
        "askPx": "200",
        "askSz": "1",
        "bidPx": "199",
        "bidSz": "1",
        "ts": str(okx.ms),
    }
    assert okx.push({"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [ticker]}) == []
    okx.book(15, 12)  # a gap: now the ticker is all there is
    rows = okx.push({"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [ticker]})
    assert rows == [(RowKind.TOUCH, Flag.RESYNCING)]
    assert okx.best() == (199, 1, 200, 1)
    assert okx.book(20, -1, BIDS, ASKS, "snapshot") == [(RowKind.DEPTH, Flag.VALID)]
    assert okx.best() == (100, 5, 101, 5)


def test_a_touch_of_known_place_replaces_one_of_unknown_place(okx):
    okx.book(15, 12)  # a gap
    ticker = {
        "instId": "BTC-USDT",
        "askPx": "200",
        "askSz": "1",
        "bidPx": "199",
        "bidSz": "1",
        "ts": "1",
    }
    okx.push({"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [ticker]})
    assert okx.best_of(21, "98", "103") == [(RowKind.TOUCH, Flag.RESYNCING)]
    okx.book(20, -1, BIDS, ASKS, "snapshot")
    assert okx.best() == (98, 5, 103, 5)


def test_bybit_numbers_count_one_by_one():
    told = Told(Bybit)

    def book(number, kind="delta", bids=BIDS):
        data = {"s": "BTCUSDT", "b": bids, "a": ASKS, "u": number, "seq": number * 10}
        return told.push(
            {"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": told.ms, "data": data}
        )

    assert book(7, "snapshot") == [(RowKind.DEPTH, Flag.VALID)]
    assert book(8) == [(RowKind.DEPTH, Flag.VALID)]
    assert book(10) == []
    assert [gap.reason for gap in told.feed.gaps] == ["gap"]
    assert book(0) == []  # no number of theirs: it would link to anything
    assert book(1, bids=BIDS[1:]) == [(RowKind.DEPTH, Flag.VALID)]  # the service restarted
    assert told.best()[0] == 99
    assert told.settle() == {"no_snapshot": 1, "bad_fields": 1}


def coinbase_message(number, product, kind, bids, asks):
    rows = [("bid", *row) for row in bids] + [("offer", *row) for row in asks]
    updates = [
        {"side": s, "event_time": "x", "price_level": p, "new_quantity": q} for s, p, q in rows
    ]
    event = {"type": kind, "product_id": product, "updates": updates}
    stamp = "2023-11-14T22:13:20Z"
    return {"channel": "l2_data", "timestamp": stamp, "sequence_num": number, "events": [event]}


def test_a_message_missing_on_a_connection_breaks_every_book_on_it_and_no_other():
    told = Told(Coinbase)
    for source, number, product in ((0, 0, "A-USD"), (0, 1, "B-USD"), (1, 5, "C-USD")):
        message = coinbase_message(number, product, "snapshot", BIDS, ASKS)
        assert told.push(message, source=source) == [(RowKind.DEPTH, Flag.VALID)]
    assert (
        told.push({"channel": "heartbeats", "timestamp": "2023-11-14T22:13:20Z", "sequence_num": 2})
        == []
    )
    update = coinbase_message(4, "A-USD", "update", [["100", "9"]], [])
    assert told.push(update) == []
    assert [(gap.instrument, gap.reason) for gap in told.feed.gaps] == [
        ("coinbase:A-USD", "gap"), ("coinbase:B-USD", "gap"),
    ]  # fmt: skip
    assert not told.feed.needs_snapshot(2)
    snapshot = coinbase_message(5, "A-USD", "snapshot", BIDS, ASKS)
    assert told.push(snapshot) == [(RowKind.DEPTH, Flag.VALID)]
    assert told.push(snapshot) == []
    assert told.settle() == {"old_message": 1}  # the update counted: its number was taken up
    assert told.tally.noted["no_snapshot (part of a frame)"] == 1


def test_a_connection_that_counts_from_zero_again_is_a_restart():
    told = Told(Coinbase)
    told.push(coinbase_message(3, "A-USD", "snapshot", BIDS, ASKS))
    rows = told.push(coinbase_message(0, "A-USD", "snapshot", BIDS, ASKS))
    assert rows == [(RowKind.DEPTH, Flag.VALID)]
    assert [gap.reason for gap in told.feed.gaps] == ["restart"]
    assert told.push(coinbase_message(1, "A-USD", "update", [], [])) == [
        (RowKind.DEPTH, Flag.VALID)
    ]


def test_a_stream_without_a_rule_carries_unverified_on_every_row():
    told = Told(Coinbase)
    told.push({"type": "snapshot", "product_id": "A-USD", "bids": BIDS, "asks": ASKS})
    change = {"type": "l2update", "product_id": "A-USD", "time": "2023-11-14T22:13:20.5Z"}
    assert told.push(change | {"changes": [["buy", "100", "0"]]}) == [
        (RowKind.DEPTH, Flag.VALID | Flag.UNVERIFIED)
    ]
    match = {"type": "match", "trade_id": 4, "side": "sell", "size": "5", "price": "101",
             "product_id": "A-USD", "time": "2023-11-14T22:13:20.6Z"}  # fmt: skip
    assert told.push(match) == [(RowKind.TRADE, Flag.VALID | Flag.UNVERIFIED)]
    assert told.feed.view(0)[V.TRADE_SIDE] == 1
    assert told.best() == (99, 5, 101, 5)
    assert told.settle() == {}


def test_an_unusable_update_breaks_a_stream_in_which_nothing_else_would_show_it():
    told = Told(Coinbase)
    told.push({"type": "snapshot", "product_id": "A-USD", "bids": BIDS, "asks": ASKS})
    told.push(
        {
            "type": "l2update",
            "product_id": "A-USD",
            "changes": [["buy", "-1", "0"]],
            "time": "2023-11-14T22:13:20Z",
        }
    )
    assert [gap.reason for gap in told.feed.gaps] == ["unusable"]
    assert told.settle() == {"bad_price": 1}


def test_an_unusable_whole_book_breaks_the_one_before_it():
    told = Told(Coinbase)
    whole = {"type": "snapshot", "product_id": "A-USD", "bids": BIDS, "asks": ASKS}
    told.push(whole)
    assert told.push(whole | {"bids": [["0", "1"]]}) == []
    assert [gap.reason for gap in told.feed.gaps] == ["unusable"]
    assert told.feed.needs_snapshot(0)
    assert told.settle() == {"bad_price": 1}


def test_a_message_missing_before_a_symbol_is_known_takes_the_depth_that_was_held():
    told = Told(Coinbase)
    few = [["100", "5"]], [["101", "5"]]
    told.push(coinbase_message(0, "A-USD", "snapshot", *few))
    for number in range(2, 70):
        told.push(coinbase_message(number, "A-USD", "update", [["99", str(number)]], []))
    assert told.feed.instruments
    assert told.feed.needs_snapshot(0)
    rows = told.push(coinbase_message(70, "A-USD", "snapshot", *few))
    assert rows == [(RowKind.DEPTH, Flag.VALID)]
    told.settle()


def test_a_symbol_of_which_a_break_left_nothing_gets_no_book():
    told = Told(Coinbase)
    told.push(coinbase_message(0, "A-USD", "snapshot", [["100", "5"]], [["101", "5"]]))
    told.push(coinbase_message(4, "B-USD", "update", [], []))
    told.settle()
    assert [instrument.symbol for instrument in told.feed.instruments] == ["B-USD"]


def bitstamp(told, micros, bids=(), asks=(), channel="diff_order_book_btcusd"):
    data = {"timestamp": "1", "microtimestamp": str(micros), "bids": list(bids), "asks": list(asks)}
    if channel:
        return told.push({"event": "data", "channel": channel, "data": data})
    url = "https://www.bitstamp.net/api/v2/order_book/btcusd"
    return told.push({"url": url, "data": data})


def test_diffs_wait_for_the_answer_that_they_are_newer_than():
    told = Told(Bitstamp)
    now = told.ms * 1_000
    for i in range(4):
        assert bitstamp(told, now + i, bids=[["100", str(i + 1)]]) == []
    assert bitstamp(told, now + 1, BIDS, ASKS, channel="") == [
        (RowKind.DEPTH, Flag.VALID | Flag.UNVERIFIED)
    ]
    assert told.best() == (100, 4, 101, 5)
    assert bitstamp(told, now, BIDS, ASKS, channel="") == []
    assert bitstamp(told, now + 2, bids=[["100", "9"]]) == []
    assert told.settle() == {"before_snapshot": 2, "stale_snapshot": 1, "old_diff": 1}


def test_diffs_held_when_the_connection_ended_are_never_joined_to_what_comes_after():
    told = Told(Bitstamp)
    now = told.ms * 1_000
    bitstamp(told, now, BIDS, ASKS, channel="")
    told.push(down())
    bitstamp(told, now + 2, bids=[["100", "9"]])
    told.push(down())
    assert bitstamp(told, now + 1, BIDS, ASKS, channel="") == [
        (RowKind.DEPTH, Flag.VALID | Flag.UNVERIFIED)
    ]
    assert told.best() == (100, 5, 101, 5)
    assert told.settle() == {"gap": 1}


def test_a_silence_without_a_symbol_is_of_every_book_of_its_connection(okx):
    arg, data = {"channel": "books", "instId": "ETH-USDT"}, {"bids": BIDS, "asks": ASKS}
    data |= {"ts": str(okx.ms), "seqId": 1, "prevSeqId": -1, "checksum": 0}
    okx.push({"arg": arg, "action": "snapshot", "data": [data]}, source=1)
    okx.now += 6_000 * MS
    assert okx.push(silent(), source=1) == [(RowKind.DEPTH, Flag.VALID | Flag.STALE)]
    assert okx.feed.view(1)[V.TS_RECV] == okx.now
    assert okx.push(silent("BTC-USDT")) == [(RowKind.DEPTH, Flag.VALID | Flag.STALE)]
    assert okx.push(silent("XRP-USDT")) == []
    assert okx.push(silent(), source=7) == []
    assert okx.settle() == {}


def test_held_diffs_are_held_to_the_order_of_their_numbers():
    told = Told(Bitstamp)
    now = told.ms * 1_000
    bitstamp(told, now + 4, bids=[["100", "4"]])
    bitstamp(told, now + 3, bids=[["100", "3"]])
    bitstamp(told, now + 1, BIDS, ASKS, channel="")
    assert told.best() == (100, 4, 101, 5)
    assert told.settle() == {"old_diff": 1}


def test_an_answer_that_lacks_an_unusable_diff_is_refused_until_one_contains_it():
    told = Told(Bitstamp)
    now = told.ms * 1_000
    bitstamp(told, now, BIDS, ASKS, channel="")
    bitstamp(told, now + 2, bids=[["-1", "4"]])
    assert [gap.reason for gap in told.feed.gaps] == ["unusable"]
    bitstamp(told, now + 3, bids=[["100", "7"]])
    assert bitstamp(told, now + 1, BIDS, ASKS, channel="") == []
    assert told.feed.needs_snapshot(0)
    bitstamp(told, now + 2, BIDS, ASKS, channel="")
    assert told.best() == (100, 7, 101, 5)
    assert told.settle() == {"unusable_diff": 1, "before_snapshot": 1}


def test_whole_books_replace_each_other_and_an_overtaken_one_is_dropped():
    told = Told(Hyperliquid)

    def book(ms, best):
        sides = [
            [{"px": str(best + sign * i), "sz": "5", "n": 1} for i in range(1, 9)]
            for sign in (-1, 1)
        ]
        return told.push(
            {"channel": "l2Book", "data": {"coin": "BTC", "time": ms, "levels": sides}}
        )

    ms = told.ms
    assert book(ms, 100) == [(RowKind.DEPTH, Flag.VALID | Flag.UNVERIFIED)]
    assert book(ms + 10, 200) == [(RowKind.DEPTH, Flag.VALID | Flag.UNVERIFIED)]
    assert book(ms + 5, 100) == []
    assert told.best() == (199, 5, 201, 5)
    assert int(told.feed.view(0)[V.N_BIDS]) == 8
    assert told.settle() == {"old_snapshot": 1}


def test_levels_below_the_subscribed_depth_are_forgotten():
    told = Told(Kraken)
    as_rows = lambda rows: [[px, sz, "1700000000.0"] for px, sz in rows]  # noqa: E731
    deep = [[str(100 - i), "5.00000000"] for i in range(10)]
    told.push([0, {"as": as_rows(ASKS), "bs": as_rows(deep)}, "book-10", "XBT/USD"])
    assert int(told.feed.view(0)[V.N_BIDS]) == 10
    told.push([0, {"b": as_rows([["99.5", "1"]])}, "book-10", "XBT/USD"])
    told.push([0, {"b": as_rows([["99.5", "0"]])}, "book-10", "XBT/USD"])
    view = told.feed.view(0)
    assert (
        int(view[V.N_BIDS]) == 9
    )  # the tenth fell out of the depth; only Kraken can bring it back
    assert view[V.BID_PX + 8] == 92 * view[V.BID_PX] // 100


def test_an_option_with_few_prices_has_the_tick_of_its_kind():
    told = Told(Deribit)
    data = {"type": "snapshot", "timestamp": told.ms, "change_id": 1,
            "instrument_name": "BTC-30JUL21-24000-P", "bids": [["new", 0.002, 0.1]],
            "asks": [["new", 0.0025, 1.0]]}  # fmt: skip
    params = {"channel": "book.BTC-30JUL21-24000-P.raw", "data": data}
    rows = told.push({"jsonrpc": "2.0", "method": "subscription", "params": params})
    assert rows == [(RowKind.DEPTH, Flag.VALID)]
    assert told.best() == (20, 1, 25, 10)


def test_what_the_venue_lists_comes_before_what_is_inferred():
    told = OkxTold()
    listed = {"instId": "BTC-USDT", "tickSz": "0.5", "lotSz": "0.25", "quoteCcy": "USDT"}
    told.push({"arg": {"channel": "instruments", "instType": "SPOT"}, "data": [listed]})
    told.book(10, -1, BIDS, ASKS, "snapshot")
    [instrument] = told.feed.instruments
    assert (instrument.tick_size, instrument.lot_size, instrument.quote) == (0.5, 0.25, "USDT")
    assert told.best() == (200, 20, 202, 20)
    assert "inferred_instrument" not in told.tally.noted


@pytest.mark.parametrize("step", ["inf", "nan", "0", "-1", "1e-320", "1e300"])
def test_a_step_that_nothing_can_be_a_multiple_of_is_not_believed(step):
    told = OkxTold()
    listed = {"instId": "BTC-USDT", "tickSz": step, "lotSz": "1", "quoteCcy": "USDT"}
    told.push({"arg": {"channel": "instruments", "instType": "SPOT"}, "data": [listed]})
    told.book(10, -1, BIDS, ASKS, "snapshot")
    assert told.best() == (100, 5, 101, 5)
    assert told.settle() == {"bad_listing": 1}


def test_a_lot_is_made_coarse_enough_for_the_largest_size():
    told = Told(Bitstamp)
    huge = [["0.5", "100000000.00000001"], *(["0.4" + str(i), "1.00000001"] for i in range(1, 9))]
    bitstamp(told, told.ms * 1000, huge, [["0.6", "1"]], channel="")
    [instrument] = told.feed.instruments
    assert instrument.lot_size > 1e-8
    assert "coarser" in instrument.source
    assert told.best()[1] == round(1e8 / instrument.lot_size)


def test_the_steps_of_a_whole_book_too_deep_to_keep_are_read_from_levels_all_over_it():
    sides = [
        [
            [f"{5000 + sign * (i + 1) / 100:.2f}", f"{1 + i % 7}.{i % 10_000:04d}"]
            for i in range(30_000)
        ]
        for sign in (-1, 1)
    ]
    tally = Tally()
    feed = open_market(["coinbase"], tally)
    whole = {"type": "snapshot", "product_id": "AB-USD", "bids": sides[0], "asks": sides[1]}
    assert feed.push(Frame(T0, json.dumps(whole).encode(), 0)) == 0
    assert (feed.instruments[0].tick_size, feed.instruments[0].lot_size) == (0.01, 0.0001)
    assert tally.noted["deep_levels"] == 2 * (30_000 - 8_192)
    assert tally.noted["off_grid_or_deep_levels"] == 0


EMPTY = b'"action": "update", "data": [{"asks": [], "bids": [], "ts": "1"}]}'


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xfe", "bad_utf8"),
        (b"{", "bad_json"),
        (b'{"data": ' + b"[" * 100_000, "bad_json"),
        (b'{"arg": 5}', "bad_fields"),
        (b'{"arg": {"channel": "books", "instId": ""}, ' + EMPTY, "bad_fields"),
        (b'{"arg": {"channel": "books", "instId": "A B"}, ' + EMPTY, "bad_symbol"),
        (b'{"arg": {"channel": "books", "instId": "AB"}, "data": []}', "no_events"),
        (b" " * (1 << 23) + b"{}", "oversize"),
        (
            b'{"arg": {"channel": "trades", "instId": "AB"}, "data": ['
            + b",".join(
                [
                    b'{"instId": "AB", "tradeId": "1", "px": "1", "sz": "1", "side": "buy", "ts": "1"}'
                ]
                * 4_097
            )
            + b"]}",
            "too_many_events",
        ),
    ],
)
def test_what_cannot_be_used_is_dropped_with_its_reason(payload, reason):
    told = OkxTold()
    assert told.push(payload) == []
    assert told.settle() == {reason: 1}


def test_two_venues_under_one_roof_keep_their_own_books():
    tally = Tally()
    books = open_market(["okx", "hyperliquid"], tally)
    assert isinstance(books, Markets)
    sides = [
        [{"px": str(100 + sign * i), "sz": "5", "n": 1} for i in range(1, 9)] for sign in (-1, 1)
    ]
    hyper = {"channel": "l2Book", "data": {"coin": "BTC", "time": T0 // MS, "levels": sides}}
    data = {"bids": BIDS, "asks": ASKS, "ts": str(T0 // MS), "seqId": 1, "prevSeqId": -1}
    arg = {"channel": "books", "instId": "BTC-USDT"}
    okx = {"arg": arg, "action": "snapshot", "data": [data]}
    assert books.push(Frame(T0, json.dumps(hyper).encode(), 1)) == 0
    assert books.more() == -1
    assert books.push(Frame(T0 + 1, json.dumps(okx).encode(), 0)) == 1
    assert [i.key for i in books.instruments] == ["hyperliquid:BTC", "okx:BTC-USDT"]
    assert int(books.view(0)[V.BID_PX]) == 99
    assert int(books.view(1)[V.BID_PX]) == 100
    lost = okx | {"action": "update", "data": [data | {"seqId": 9, "prevSeqId": 8}]}
    assert books.push(Frame(T0 + 2, json.dumps(lost).encode(), 0)) == -1
    assert [gap.instrument for gap in books.gaps] == ["okx:BTC-USDT"]
    assert (books.needs_snapshot(0), books.needs_snapshot(1)) == (False, True)
    books.finish()
    assert sorted(books.offsets) == [0, 1]
