"""What a market makes of frames: rows, flags, gaps and drops."""

import json

import pytest

from finllm.domain.instrument import Instrument
from finllm.domain.market import BookView, Flag, Frame, RowKind
from finllm.market.connection import down
from finllm.market.instruments import InstrumentTable

V = BookView
S = 1_000_000_000


def levels(view, side, n):
    px, sz = (V.BID_PX, V.BID_SZ) if side == "bid" else (V.ASK_PX, V.ASK_SZ)
    return [(int(view[px + i]), int(view[sz + i])) for i in range(n)]


def test_a_valid_book_carries_the_valid_flag_and_nothing_else(story):
    view = story.opened().market.view(0)
    assert view[V.FLAGS] == Flag.VALID
    assert view[V.KIND] == RowKind.DEPTH
    assert levels(view, "bid", 3) == [(1000, 1000), (999, 3000), (0, 0)]
    assert levels(view, "ask", 2) == [(1001, 2000), (0, 0)]
    assert (view[V.N_BIDS], view[V.N_ASKS]) == (2, 1)
    assert view[V.TS_RECV] == story.now
    assert story.settle() == {}


def test_each_row_has_the_next_sequence_and_silent_frames_have_none(story):
    story.opened()
    view = story.market.view(0)
    start = int(view[V.SEQ])
    assert start == 2  # the touch and the diff after the snapshot
    story.trade()
    story.touch(21)
    mark = {"e": "markPriceUpdate", **story.times(), "s": "BTCUSDT", "p": "100.05"}
    assert story.push({"stream": "btcusdt@markPrice@1s", "data": mark}) == -1
    story.diff(21, 22, 20)
    assert view[V.SEQ] == start + 3
    assert story.settle() == {}


def test_a_trade_carries_its_aggressor_and_leaves_the_book_alone(story):
    view = story.opened().market.view(0)
    before = view[V.BID_PX :].copy()
    story.trade("100.1", "0.25")
    assert tuple(view[[V.TRADE_SIDE, V.TRADE_PX, V.TRADE_SZ]]) == (1, 1001, 250)
    assert (view[V.BID_PX :] == before).all()
    story.trade("100.0", "0.25", is_sell=True)
    assert view[V.TRADE_SIDE] == -1
    story.diff(21, 22, 20)
    assert tuple(view[[V.TRADE_SIDE, V.TRADE_PX, V.TRADE_SZ]]) == (0, 0, 0)


def test_a_newer_touch_overlays_the_depth_and_an_older_one_does_not(story):
    view = story.opened().market.view(0)
    story.touch(25, bid=("99.9", "7"), ask=("100.0", "8"))
    assert levels(view, "bid", 2) == [(999, 7000), (0, 0)]
    assert levels(view, "ask", 2) == [(1000, 8000), (1001, 2000)]
    story.diff(21, 30, 20)  # newer than the touch: the depth speaks again
    assert levels(view, "bid", 2) == [(1000, 1000), (999, 3000)]
    story.touch(28, bid=("99.9", "7"), ask=("100.0", "8"))  # newer than the last, older than depth
    assert levels(view, "bid", 1) == [(1000, 1000)]


def test_a_touch_never_edits_the_depth(story):
    story.opened()
    story.touch(25, bid=("100.5", "7"), ask=("100.6", "8"))
    story.diff(21, 30, 20)
    view = story.market.view(0)
    assert levels(view, "bid", 1) == [(1000, 1000)]
    assert levels(view, "ask", 1) == [(1001, 2000)]


def test_a_gap_forces_a_new_snapshot(story):
    story.opened()
    view = story.market.view(0)
    assert story.diff(31, 40, 30) == -1
    [gap] = story.market.gaps
    assert (gap.from_sequence, gap.to_sequence, gap.reason) == (20, 31, "gap")
    assert gap.instrument == "binance-usdm:BTCUSDT"
    assert story.touch(41) == 0
    assert view[V.FLAGS] == Flag.RESYNCING
    assert (view[V.N_BIDS], view[V.N_ASKS]) == (1, 1)
    assert story.diff(41, 50, 40) == -1
    story.snapshot(45)
    assert story.diff(51, 60, 50) == 0
    assert view[V.FLAGS] == Flag.VALID
    assert story.settle() == {"before_snapshot": 1}


def test_diffs_from_before_the_snapshot_are_applied_after_it(story):
    story.touch(1)
    story.diff(2, 9, 1, bids=[("99.0", "9")])
    story.diff(10, 19, 9, bids=[("99.5", "5")])
    story.snapshot(9)
    story.diff(20, 21, 19)
    assert levels(story.market.view(0), "bid", 3) == [(1000, 1000), (995, 5000), (990, 9000)]
    assert story.settle() == {}


def test_a_snapshot_that_does_not_reach_the_held_diffs_is_refused(story):
    story.touch(1)
    story.diff(20, 29, 19)
    story.snapshot(15)
    assert story.settle() == {"stale_snapshot": 1, "no_snapshot": 1}


def test_a_dropped_frame_is_shown_where_its_reader_says_that_it_stands(new_story):
    told = new_story(place_of=lambda frame: f"tape.gz:{frame.line}")
    told.market.push(Frame(told.now, b"{}", 0, 12))
    assert told.tally.first_place == {"unknown_stream": "tape.gz:12"}


def test_a_late_snapshot_never_touches_a_valid_book(story):
    story.opened()
    story.snapshot(15, bids=[("90.0", "1")], asks=[("110.0", "1")])
    story.diff(21, 22, 20)
    assert levels(story.market.view(0), "bid", 1) == [(1000, 1000)]
    assert story.settle() == {"stale_snapshot": 1}


def test_a_newer_snapshot_replaces_the_whole_book(story):
    story.opened()
    story.snapshot(30, bids=[("99.0", "1")], asks=[("101.0", "1")])
    story.diff(31, 40, 29)
    view = story.market.view(0)
    assert levels(view, "bid", 2) == [(990, 1000), (0, 0)]
    assert view[V.FLAGS] == Flag.VALID
    assert story.market.gaps == []


def test_duplicates_and_old_diffs_are_dropped_without_a_gap(story):
    story.opened()
    data = {"e": "depthUpdate", "E": 1, "T": 1, "s": "BTCUSDT", "U": 11, "u": 20, "pu": 10}
    again = {"stream": "btcusdt@depth@0ms", "data": data | {"b": [["99.9", "77"]], "a": []}}
    assert story.push(again) == -1
    story.diff(21, 22, 20)
    assert levels(story.market.view(0), "bid", 2)[1] == (999, 3000)
    assert story.market.gaps == []
    assert story.settle() == {"old_diff": 1}


def test_a_restarted_numbering_is_a_gap_and_not_an_endless_row_of_old_diffs(story):
    story.opened()
    assert story.diff(1, 2, 0) == -1
    assert [gap.reason for gap in story.market.gaps] == ["restart"]
    story.snapshot(2)
    assert story.diff(3, 4, 2) == 0
    assert story.touch(5) == 0
    assert story.market.view(0)[V.FLAGS] == Flag.VALID


def test_spot_diffs_continue_by_first_and_final_number(new_story):
    story = new_story()
    touch = {"u": 5, "s": "BTCUSDT", "b": "100.00", "B": "1", "a": "100.01", "A": "2"}
    story.push({"stream": "btcusdt@bookTicker", "data": touch})
    assert story.market.instruments[0].venue == "binance-spot"
    story.push({"lastUpdateId": 10, "bids": [["100.00", "1"]], "asks": [["100.01", "1"]]})
    assert story.diff(8, 12, None) == 0  # overlaps the snapshot
    assert story.diff(13, 13, None) == 0
    assert story.diff(13, 14, None) == 0  # overlaps by one
    assert story.diff(16, 17, None) == -1
    assert [gap.to_sequence for gap in story.market.gaps] == [16]


def test_without_any_snapshot_touches_make_rows_flagged_resyncing(story):
    for i in range(3):
        assert story.diff(10 * i + 1, 10 * i + 10, 10 * i) == -1
        assert story.touch(100 + i) == 0
    view = story.market.view(0)
    assert view[V.FLAGS] == Flag.RESYNCING
    assert levels(view, "bid", 2) == [(1000, 1000), (0, 0)]
    assert story.settle() == {"no_snapshot": 3}


@pytest.mark.parametrize(("ask", "flag"), [("100.0", Flag.LOCKED), ("99.9", Flag.CROSSED)])
def test_a_crossed_or_locked_book_says_so(story, ask, flag):
    story.opened()
    story.diff(21, 22, 20, asks=[(ask, "1")])
    assert story.market.view(0)[V.FLAGS] == Flag.VALID | flag
    story.diff(23, 24, 22, asks=[(ask, "0")])
    assert story.market.view(0)[V.FLAGS] == Flag.VALID


def test_the_row_that_ends_a_silence_is_stale_and_the_next_is_not(story):
    view = story.opened().market.view(0)
    story.touch(21, after_ns=5 * S)
    assert view[V.FLAGS] == Flag.VALID
    story.touch(22, after_ns=5 * S + 1)
    assert view[V.FLAGS] == Flag.VALID | Flag.STALE
    story.touch(23)
    assert view[V.FLAGS] == Flag.VALID


BAD = {
    "not json": (b"{nope", "bad_json"),
    "cut": (b'{"stream":"btcusdt@trade","data":{"e":"trade","E":17', "bad_json"),
    "not utf-8": (b'{"stream":"btcusdt@trade","data":{"e":"\xff"}}', "bad_utf8"),
    "unknown stream": (b'{"stream":"btcusdt@kline_1m","data":{}}', "unknown_stream"),
    "unknown event": (
        b'{"stream":"btcusdt@trade","data":{"e":"liquidation","E":1,"T":1,"s":"BTCUSDT",'
        b'"t":9,"p":"1","q":"1","m":true}}',
        "unknown_event",
    ),
    "no number": (
        b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":99,"s":"BTCUSDT",'
        b'"b":"abc","B":"1","a":"2","A":"1","T":1,"E":1}}',
        "bad_fields",
    ),
    "field missing": (
        b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":99,"s":"BTCUSDT"}}',
        "bad_fields",
    ),
    "negative update": (
        b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":-1,"s":"BTCUSDT",'
        b'"b":"1","B":"1","a":"2","A":"1","T":1,"E":1}}',
        "bad_fields",
    ),
    "bad symbol": (
        b'{"stream":"x@bookTicker","data":{"e":"bookTicker","u":99,"s":"../x",'
        b'"b":"1","B":"1","a":"2","A":"1","T":1,"E":1}}',
        "bad_symbol",
    ),
    "deep nesting": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_json"),
    "oversize": (b'{"stream":"btcusdt@trade","data":"' + b"x" * (1 << 20) + b'"}', "oversize"),
    "a level without a size": (
        b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT",'
        b'"U":21,"u":22,"pu":20,"b":[["99.7"]],"a":[]}}',
        "bad_fields",
    ),
    "a list": (b"[1,2,3]", "unknown_stream"),
    "a snapshot without levels": (b'{"lastUpdateId":50,"bids":5,"asks":[]}', "bad_fields"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_dropped_with_a_reason_and_leaves_the_book_unharmed(story, name):
    payload, reason = BAD[name]
    view = story.opened().market.view(0).copy()
    assert story.push(payload) == -1
    assert (story.market.view(0) == view).all()
    assert story.diff(21, 22, 20) == 0
    assert story.market.view(0)[V.FLAGS] == Flag.VALID
    assert story.settle() == {reason: 1}
    assert "ts_recv" in story.tally.first_place[reason]


@pytest.mark.parametrize("px", ["-100.0", "0", "nan", "inf", "1e300"])
def test_an_impossible_price_is_dropped_wherever_it_stands(story, px):
    view = story.opened().market.view(0).copy()
    story.touch(30, bid=(px, "1"))
    story.touch(30, ask=(px, "1"))
    story.trade(px)
    story.diff(21, 22, 20, bids=[("99.8", "1"), (px, "1")])
    story.snapshot(30, bids=[("100.0", "1"), (px, "1")])
    assert (story.market.view(0) == view).all()
    story.diff(21, 22, 20)  # the bad one did not take the number
    assert story.market.view(0)[V.N_BIDS] == 2
    assert story.settle() == {"bad_price": 5}


@pytest.mark.parametrize("size", ["-1", "nan", "inf"])
def test_an_impossible_size_is_dropped_wherever_it_stands(story, size):
    story.opened()
    story.touch(30, bid=("100.0", size))
    story.trade("100.0", size)
    story.diff(21, 22, 20, asks=[("100.2", size)])
    assert story.settle() == {"bad_size": 3}


def test_a_price_between_two_ticks_is_noted_and_rounded(story):
    story.opened()
    story.touch(21, bid=("99.96", "1"))
    assert levels(story.market.view(0), "bid", 1) == [(1000, 1000)]
    assert story.tally.noted["off_grid"] == 1


def test_old_and_repeated_touches_are_dropped_until_only_such_come(story):
    story.opened()
    story.touch(50)
    assert story.touch(50) == -1
    assert story.touch(40) == -1
    assert story.touch(41, after_ns=6 * S) == 0  # nothing newer for long: the venue restarted
    assert story.tally.dropped["old_touch"] == 2


def test_repeated_trades_are_dropped(story):
    story.opened()
    story.trade(number=7)
    data = {"e": "trade", "E": 1, "T": 1, "s": "BTCUSDT", "t": 7, "p": "1", "q": "1", "m": True}
    assert story.push({"stream": "btcusdt@trade", "data": data | {"X": "MARKET"}}) == -1
    assert story.settle() == {"old_trade": 1}


def test_two_sources_carry_on_one_book(story):
    story.opened()
    assert story.diff(21, 30, 20, source=1) == 0
    assert story.market.view(0)[V.FLAGS] == Flag.VALID
    assert len(story.market.instruments) == 1


def test_an_unnamed_snapshot_is_refused_where_a_source_carries_several_symbols(new_story):
    story = new_story()
    story.touch(1)
    story.symbol = "ETHUSDT"
    story.touch(1, bid=("10.00", "1"), ask=("10.01", "1"))
    story.snapshot(5)
    assert story.settle() == {"unnamed_snapshot": 1}


def test_a_snapshot_of_another_market_is_refused(story):
    story.touch(1, bid=("2500.0", "1"), ask=("2500.1", "1"))
    story.snapshot(5)
    assert story.settle() == {"snapshot_off_market": 1}


def test_a_snapshot_may_come_first(story):
    story.snapshot(10)
    assert story.diff(11, 12, 10) == 0
    assert story.market.view(0)[V.FLAGS] == Flag.VALID
    assert story.settle() == {}


def test_coin_margined_symbols_have_their_own_venue(new_story):
    story = new_story("BTCUSD_PERP")
    story.touch(1, bid=("61804.7", "35"), ask=("61804.8", "1645"))
    [instrument] = story.market.instruments
    assert instrument.key == "binance-cm:BTCUSD_PERP"
    assert instrument.contract_multiplier == 100.0
    assert levels(story.market.view(0), "ask", 1) == [(618048, 1645)]


def test_an_unlisted_symbol_is_inferred_from_its_first_frames_and_loses_none(new_story):
    story = new_story("NEWUSDT")
    bids = [(f"1.{i:04d}00", "12.50") for i in range(1, 9)]
    story.touch(1, bid=("1.000900", "5.0"), ask=("1.001000", "5.0"))
    story.diff(2, 3, 1, bids=bids)
    [instrument] = story.market.instruments
    assert instrument.tick_size == 0.0001
    assert instrument.lot_size == 0.1
    assert instrument.quote == "USDT"
    assert instrument.source.startswith("inferred from")
    story.snapshot(3, bids=bids, asks=[("1.0010", "5")])
    assert story.diff(4, 5, 3) == 0
    assert story.market.view(0)[V.SEQ] == 1
    assert levels(story.market.view(0), "bid", 1) == [(10008, 125)]
    assert story.settle() == {}
    assert story.tally.noted["inferred_instrument"] == 1


def test_a_symbol_heard_too_little_of_is_settled_at_the_end(new_story):
    story = new_story("NEWUSDT")
    for i in range(1, 4):
        assert story.touch(i) == -1
    assert story.settle() == {}
    assert len(story.market.instruments) == 1


def test_a_table_may_be_extended(new_story):
    own = Instrument(
        venue="binance-usdm", symbol="NEWUSDT", tick_size=0.5, lot_size=0.25, source="test"
    )
    story = new_story("NEWUSDT", table=InstrumentTable([own]))
    story.touch(1, bid=("100.0", "1"), ask=("100.5", "2"))
    assert levels(story.market.view(0), "ask", 1) == [(201, 8)]


def test_depth_is_checked_against_the_touch_of_its_own_number(new_story):
    story = new_story(check_every=2)
    story.touch(5)
    story.snapshot(10)
    story.diff(11, 20, 10, bids=[("99.9", "3")])
    story.touch(15, bid=("100.0", "1"), ask=("100.1", "2"))
    story.diff(21, 30, 20)
    assert story.market.checks.done == 0  # no touch beyond 30 yet
    story.touch(31, bid=("99.8", "1"), ask=("100.0", "1"))
    assert (story.market.checks.done, story.market.checks.equal) == (1, 1)
    story.diff(31, 40, 30)  # the depth does not know of the new touch: it disagrees
    story.diff(41, 50, 40)
    story.market.finish()
    assert (story.market.checks.done, story.market.checks.equal) == (2, 1)


def test_gaps_can_be_handed_to_a_callback(new_story):
    seen = []
    story = new_story(on_gap=seen.append)
    story.opened().diff(99, 100, 98)
    assert len(seen) == 1
    assert story.market.gaps == []


def test_a_touch_without_a_time_gets_ours_less_the_offset(new_story):
    story = new_story()
    for _ in range(200):
        story.trade()  # exchange time equals ours, to the millisecond
    touch = {"u": 5, "s": "BTCUSDT", "b": "100.00", "B": "1", "a": "100.01", "A": "2"}
    index = story.push({"stream": "btcusdt@bookTicker", "data": touch})
    view = story.market.view(index)
    assert abs(int(view[V.TS_EVENT]) - story.now) < 2_000_000
    assert abs(story.market.offsets[0].median_ns) < 2_000_000


def test_an_answers_address_names_the_symbol_of_its_snapshot(new_story):
    story = new_story(spot="binance-us")
    for symbol in ("BTCUSDT", "ETHUSDT"):
        story.symbol = symbol
        story.touch_of_spot()
    body = {"lastUpdateId": 9, "bids": [["100.0", "1"]], "asks": [["100.1", "2"]]}
    url = "https://api.binance.us/api/v3/depth?symbol=ETHUSDT&limit=1000"
    assert (
        story.push(b'{"url":"' + url.encode() + b'","data":' + json.dumps(body).encode() + b"}")
        == -1
    )
    story.market.finish()
    assert [i.key for i in story.market.instruments] == ["binance-us:BTCUSDT", "binance-us:ETHUSDT"]
    assert [story.market.needs_snapshot(i) for i in (0, 1)] == [True, False]
    assert story.settle() == {}


def test_an_aggregate_and_its_trades_count_once(story):
    story.opened()
    story.trade("100.1", "1", number=7)
    data = {
        "e": "aggTrade",
        **story.times(),
        "s": "BTCUSDT",
        "a": 3,
        "p": "100.1",
        "q": "2",
        "m": True,
    }
    name = {"stream": "btcusdt@aggTrade"}
    assert story.push(name | {"data": data | {"f": 8, "l": 9}}) == 0
    assert story.market.view(0)[V.TRADE_SIDE] == -1
    assert story.market.view(0)[V.TRADE_SZ] == 2000
    story.now -= 2 * 1_000_000
    story.trade("100.1", "1", number=9)
    assert story.settle() == {"old_trade": 1}


def test_a_stranger_is_known_by_levels_and_not_by_fields_that_do_not_belong(new_story):
    story = new_story("NEWUSDT")
    for i, extra in enumerate(
        [{"B": 1, "bids": 5}, {"lastUpdateId": 3, "q": []}, {"p": {}, "a": []}]
    ):
        data = {"e": "depthUpdate", **story.times(), "s": "NEWUSDT", "U": i, "u": i, "pu": 0}
        story.push(
            {"stream": "newusdt@depth", "data": data | {"b": [["1.5", "2"]], "a": []} | extra}
        )
    story.push({"lastUpdateId": 1, **story.times(), "symbol": "NEWUSDT", "bids": [], "asks": [],
                "e": "trade", "data": 5})  # fmt: skip
    story.settle()
    assert [instrument.tick_size for instrument in story.market.instruments] == [0.1]


def test_what_was_held_when_the_connection_ended_is_never_joined_to_what_comes_after(story):
    story.touch(1)
    story.diff(100, 101, 99, bids=[("100.0", "1")])
    story.diff(102, 103, 101, bids=[("100.1", "1")])
    story.push(down())
    story.diff(200, 201, 199)
    story.snapshot(101)  # asked for before, late
    assert story.diff(202, 203, 201) == -1
    assert story.market.needs_snapshot(0)
    story.snapshot(205)
    assert story.diff(206, 207, 205) == 0
    assert story.market.view(0)[V.FLAGS] == Flag.VALID
    assert story.settle() == {"gap": 2, "stale_snapshot": 1, "before_snapshot": 2}


def test_a_touch_of_an_ended_connection_lies_over_no_later_book(story):
    story.opened()
    story.touch(25)
    story.push(down())
    story.snapshot(3, bids=(("90.0", "1"),), asks=(("90.1", "1"),))
    assert story.diff(4, 5, 3) == 0
    view = story.market.view(0)
    assert view[V.FLAGS] == Flag.VALID
    assert levels(view, "bid", 1) == [(900, 1000)]
    assert story.touch(6, bid=("90.0", "4"), ask=("90.1", "5")) == 0
    assert levels(view, "bid", 1) == [(900, 4000)]


def test_only_an_instrument_whose_depth_comes_wants_a_snapshot(story):
    story.touch(5)
    assert story.market.needs_snapshot(0)
    assert not story.market.wants_snapshot(0)
    assert story.market.depth_source(0) == -1
    story.diff(6, 10, 4, source=1)
    assert story.market.wants_snapshot(0)
    assert story.market.depth_source(0) == 1
    story.snapshot(10)
    assert not story.market.wants_snapshot(0)
