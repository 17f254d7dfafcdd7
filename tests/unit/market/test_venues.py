"""What each venue's file makes of a message: forms in no capture are from the venue's documents."""

import json
from zlib import crc32

import msgspec
import pytest

from finllm.market.markets import VENUES
from finllm.market.venues.bitstamp import Bitstamp
from finllm.market.venues.bybit import Bybit
from finllm.market.venues.coinbase import Coinbase
from finllm.market.venues.deribit import Deribit
from finllm.market.venues.doorway import (
    Connection,
    Diff,
    Listing,
    Snapshot,
    Touch,
    ns_of_iso,
    ns_of_seconds,
)
from finllm.market.venues.hyperliquid import Hyperliquid
from finllm.market.venues.kraken import Kraken
from finllm.market.venues.normalised import Normalised
from finllm.market.venues.okx import Okx

MS = 1_000_000
T = 1_700_000_000_000


def decode(venue, message):
    return venue().decode(json.dumps(message, separators=(",", ":")).encode())


def answer(venue, url, body):
    return decode(venue, {"url": url, "data": body})


# -- Kraken --------------------------------------------------------------------------------------


def test_kraken_v2_numbers_keep_the_decimals_that_the_checksum_needs():
    text = (
        b'{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,'
        b'"qty":1098.39476980}],"asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}'
    )
    [diff] = Kraken().decode(text)
    assert isinstance(diff, Diff)
    assert (list(diff.bids), diff.checksum, diff.places) == (
        [(0.5657, 1098.3947698)],
        2114181697,
        (4, 8),
    )
    assert diff.ts_event == ns_of_iso("2023-10-06T17:35:55.440295Z")
    assert not diff.is_unverified


def test_kraken_sums_the_digits_of_asks_then_bids():
    asks, bids = [(452852, 100000), (452864, 154582015)], [(452835, 10000000)]
    digits = b"452852100000" + b"452864154582015" + b"45283510000000"
    assert Kraken().checksum(bids, asks, (1, 8)) == crc32(digits)


def test_a_full_kraken_v2_snapshot_states_the_depth_to_keep():
    rows = [{"price": 100 + i, "qty": 1.0} for i in range(10)]
    data = [{"symbol": "BTC/USD", "bids": rows[:3], "asks": rows, "checksum": 1}]
    [snapshot] = decode(Kraken, {"channel": "book", "type": "snapshot", "data": data})
    assert isinstance(snapshot, Snapshot)
    assert snapshot.depth == 10
    assert snapshot.checksum == 1


def test_kraken_v2_trades_tickers_and_instruments():
    trade = {"symbol": "BTC/USD", "side": "sell", "price": 100.5, "qty": 0.1, "ord_type": "limit",
             "trade_id": 7, "timestamp": "2023-09-25T07:49:37.708706Z"}  # fmt: skip
    [row] = decode(Kraken, {"channel": "trade", "type": "update", "data": [trade]})
    assert (row.side, row.number, row.price) == (-1, 7, 100.5)
    ticker = {"symbol": "BTC/USD", "bid": 1.0, "bid_qty": 2.0, "ask": 3.0, "ask_qty": 4.0}
    [touch] = decode(Kraken, {"channel": "ticker", "type": "update", "data": [ticker]})
    assert (touch.bid_px, touch.ask_sz, touch.order) == (1.0, 4.0, 0)
    pair = {"symbol": "BTC/USD", "quote": "USD", "price_increment": 0.1, "qty_increment": 1e-8}
    message = {"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [pair]}}
    [listing] = decode(Kraken, message)
    assert (listing.tick_size, listing.lot_size) == (0.1, 1e-8)


def test_kraken_v1_spreads_are_touches_and_two_sided_updates_are_one_diff():
    [touch] = decode(
        Kraken, [0, ["5698.4", "5700.0", "1542057299.545897", "1.5", "2"], "spread", "XBT/USD"]
    )
    assert (touch.bid_px, touch.ask_px, touch.bid_sz, touch.ask_sz) == (5698.4, 5700.0, 1.5, 2.0)
    sides = [{"a": [["2.0", "1.00", "1.5"]]}, {"b": [["1.0", "2.00", "1.6"]], "c": "9"}]
    [diff] = decode(Kraken, [0, *sides, "book-25", "XBT/USD"])
    assert (list(diff.asks), list(diff.bids), diff.checksum, diff.depth) == (
        [(2.0, 1.0)], [(1.0, 2.0)], 9, 25,
    )  # fmt: skip
    assert diff.ts_event == ns_of_seconds("1.6")


@pytest.mark.parametrize("text", ["1700000029.5", "12345678901", "-1", "1_0", " 1"])
def test_a_kraken_checksum_that_is_no_number_is_not_cut_down_to_one(text):
    with pytest.raises(ValueError, match="no checksum"):
        decode(Kraken, [0, {"b": [["1.0", "2.00", "1.6"]], "c": text}, "book-10", "XBT/USD"])


# -- Bybit ---------------------------------------------------------------------------------------


def test_bybit_updates_link_by_their_number_and_a_first_number_starts_anew():
    data = {
        "s": "BTCUSDT",
        "b": [["30247.20", "30.028"]],
        "a": [["30248.70", "0"]],
        "u": 177400507,
        "seq": 66544703342,
    }
    message = {
        "topic": "orderbook.50.BTCUSDT",
        "type": "delta",
        "ts": T,
        "cts": T - 2,
        "data": data,
    }
    [diff] = decode(Bybit, message)
    assert (diff.previous, diff.number, diff.order, diff.ts_event) == (
        177400506, 177400507, 66544703342, (T - 2) * MS,
    )  # fmt: skip
    [snapshot] = decode(Bybit, message | {"data": data | {"u": 1}})
    assert isinstance(snapshot, Snapshot)


def test_bybit_depth_one_is_a_touch_and_an_empty_side_has_no_price():
    data = {"s": "BTCUSDT", "b": [["1.5", "2"]], "a": [], "u": 5, "seq": 9}
    [touch] = decode(
        Bybit, {"topic": "orderbook.1.BTCUSDT", "type": "snapshot", "ts": T, "data": data}
    )
    assert (touch.bid_px, touch.bid_sz, touch.ask_px, touch.order) == (1.5, 2.0, 0.0, 9)


def test_bybit_trades_carry_the_takers_side_and_instruments_their_steps():
    row = {
        "T": T,
        "s": "BTCUSDT",
        "S": "Sell",
        "v": "0.001",
        "p": "16578.50",
        "L": "PlusTick",
        "i": "x",
        "BT": False,
    }
    [trade] = decode(
        Bybit, {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": T, "data": [row]}
    )
    assert (trade.side, trade.size, trade.ts_event) == (-1, 0.001, T * MS)
    listed = {
        "symbol": "BTCUSDT",
        "quoteCoin": "USDT",
        "priceFilter": {"tickSize": "0.10"},
        "lotSizeFilter": {"qtyStep": "0.001"},
    }
    url = "https://api.bybit.com/v5/market/instruments-info?category=linear"
    [listing] = answer(
        Bybit, url, {"retCode": 0, "result": {"category": "linear", "list": [listed]}}
    )
    assert (listing.tick_size, listing.lot_size, listing.quote) == (0.1, 0.001, "USDT")


# -- OKX -----------------------------------------------------------------------------------------

OKX_ARG = {"channel": "books", "instId": "BTC-USDT"}
OKX_BOOK = {
    "asks": [["8476.98", "415", "0", "13"]],
    "bids": [["8476.97", "256", "0", "12"]],
    "ts": str(T),
}


def test_okx_updates_name_the_one_before_them():
    data = [OKX_BOOK | {"checksum": -855196043, "prevSeqId": 123456, "seqId": 123457}]
    [diff] = decode(Okx, {"arg": OKX_ARG, "action": "update", "data": data})
    assert (diff.previous, diff.number, diff.checksum) == (123456, 123457, -855196043)
    [snapshot] = decode(Okx, {"arg": OKX_ARG, "action": "snapshot", "data": data})
    assert isinstance(snapshot, Snapshot)
    assert not snapshot.is_unverified


def test_okx_five_levels_are_whole_books_and_the_best_a_touch():
    [whole] = decode(
        Okx, {"arg": OKX_ARG | {"channel": "books5"}, "data": [OKX_BOOK | {"seqId": 3}]}
    )
    assert isinstance(whole, Snapshot)
    assert whole.is_unverified
    [touch] = decode(
        Okx, {"arg": OKX_ARG | {"channel": "bbo-tbt"}, "data": [OKX_BOOK | {"seqId": 3}]}
    )
    assert isinstance(touch, Touch)
    assert (touch.order, touch.bid_px, touch.ask_px) == (3, 8476.97, 8476.98)


def test_okx_instruments_state_what_a_contract_is_worth():
    row = {
        "instId": "BTC-USD-SWAP",
        "tickSz": "0.1",
        "lotSz": "1",
        "ctVal": "100",
        "ctValCcy": "USD",
        "quoteCcy": "",
    }
    url = "https://www.okx.com/api/v5/public/instruments?instType=SWAP"
    [listing] = answer(Okx, url, {"code": "0", "data": [row]})
    assert isinstance(listing, Listing)
    assert (listing.tick_size, listing.contract_multiplier, listing.quote) == (0.1, 100.0, "USD")


def test_okx_checksum_strips_zeros_and_lists_what_a_longer_side_has_left():
    bids = [(33661, 7), (33660, 6)]
    asks = [(33668, 9), (336680, 8), (3369, 7)]
    text = "3366.1:7:3366.8:9:3366:6:33668:8:336.9:7"
    signed = crc32(text.encode())
    signed -= 2**32 * (signed >= 2**31)
    assert (
        Okx().checksum(*([(px, sz) for px, sz in side] for side in (bids, asks)), (1, 0)) == signed
    )


# -- Coinbase ------------------------------------------------------------------------------------


def advanced(channel, events, number=4):
    stamp = "2023-02-09T20:32:50.714964855Z"
    return {
        "channel": channel,
        "client_id": "",
        "timestamp": stamp,
        "sequence_num": number,
        "events": events,
    }


def test_coinbase_advanced_numbers_come_first_and_heartbeats_have_one_too():
    assert decode(Coinbase, advanced("heartbeats", [{"heartbeat_counter": "3"}])) == [Connection(4)]
    level = {
        "side": "bid",
        "event_time": "1970-01-01T00:00:00Z",
        "price_level": "21921.73",
        "new_quantity": "0.06",
    }
    offer = level | {"side": "offer", "price_level": "21921.9", "new_quantity": "0"}
    event = {"type": "update", "product_id": "BTC-USD", "updates": [level, offer]}
    first, diff = decode(Coinbase, advanced("l2_data", [event]))
    assert first == Connection(4)
    assert (list(diff.bids), list(diff.asks)) == ([(21921.73, 0.06)], [(21921.9, 0.0)])
    assert diff.ts_event == ns_of_iso("2023-02-09T20:32:50.714964855Z") == 1675974770714964855
    assert not diff.is_unverified


def test_coinbase_matches_print_the_takers_side_oldest_first():
    trade = {
        "trade_id": "12",
        "product_id": "ETH-USD",
        "price": "1260.01",
        "size": "0.3",
        "side": "BUY",
        "time": "2019-08-14T20:42:27.265Z",
    }
    event = {"type": "snapshot", "trades": [trade, trade | {"trade_id": "11", "side": "SELL"}]}
    _, older, newer = decode(Coinbase, advanced("market_trades", [event]))
    assert [(p.number, p.side) for p in (older, newer)] == [(11, 1), (12, -1)]


def test_coinbase_exchange_touches_share_the_time_of_the_level_that_changed():
    top = {"type": "ticker", "product_id": "BTC-USD", "best_bid": "9.5", "best_bid_size": "1",
           "best_ask": "9.6", "best_ask_size": "2", "sequence": 1,
           "time": "2022-10-19T23:28:22.061769Z", "trade_id": 1}  # fmt: skip
    [touch] = decode(Coinbase, top)
    change = {
        "type": "l2update",
        "product_id": "BTC-USD",
        "changes": [["buy", "9.5", "1"]],
        "time": top["time"],
    }
    [diff] = decode(Coinbase, change)
    assert touch.order == diff.order > 0
    assert diff.is_unverified


def test_coinbase_products_state_their_steps():
    product = {
        "id": "BTC-USD",
        "quote_increment": "0.01",
        "base_increment": "0.00000001",
        "quote_currency": "USD",
    }
    [listing] = answer(Coinbase, "https://api.exchange.coinbase.com/products", [product])
    assert (listing.tick_size, listing.lot_size) == (0.01, 1e-8)
    assert decode(Coinbase, {"type": "status", "products": [product], "currencies": []}) == [
        listing
    ]


# -- Deribit -------------------------------------------------------------------------------------


def subscription(channel, data):
    return {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"channel": channel, "data": data},
    }


def test_deribit_grouped_books_are_whole_and_unverified():
    data = {
        "timestamp": T,
        "instrument_name": "BTC-PERPETUAL",
        "change_id": 9,
        "bids": [[161.1, 20]],
        "asks": [],
    }
    [whole] = decode(Deribit, subscription("book.BTC-PERPETUAL.none.10.100ms", data))
    assert isinstance(whole, Snapshot)
    assert (list(whole.bids), whole.is_unverified) == ([(161.1, 20.0)], True)


def test_deribit_changes_must_name_the_one_before():
    data = {"type": "change", "timestamp": T, "instrument_name": "BTC-PERPETUAL", "change_id": 9,
            "bids": [["delete", 5041.94, 0]], "asks": [["new", 5042.34, 40]]}  # fmt: skip
    with pytest.raises(msgspec.ValidationError):
        decode(Deribit, subscription("book.BTC-PERPETUAL.raw", data))
    [diff] = decode(Deribit, subscription("book.BTC-PERPETUAL.raw", data | {"prev_change_id": 8}))
    assert (diff.previous, list(diff.bids), list(diff.asks)) == (
        8,
        [(5041.94, 0.0)],
        [(5042.34, 40.0)],
    )


def test_deribit_trades_quotes_and_steps():
    row = {"trade_seq": 30289442, "trade_id": "48079269", "timestamp": T, "price": 8950.0,
           "direction": "sell", "instrument_name": "BTC-PERPETUAL", "amount": 10.0}  # fmt: skip
    [trade] = decode(Deribit, subscription("trades.BTC-PERPETUAL.raw", [row]))
    assert (trade.side, trade.size, trade.number) == (-1, 10.0, 30289442)
    quote = {"timestamp": T, "instrument_name": "BTC-PERPETUAL", "best_bid_price": None,
             "best_bid_amount": 0.0, "best_ask_price": 8950.5, "best_ask_amount": 10.0}  # fmt: skip
    [touch] = decode(Deribit, subscription("quote.BTC-PERPETUAL", quote))
    assert (touch.bid_px, touch.ask_px, touch.order) == (0.0, 8950.5, T * MS)
    assert Deribit().listing("BTC-30JUL21-24000-P").tick_size == 0.0001
    assert Deribit().listing("ETH-PERPETUAL").tick_size == 0.05
    assert Deribit().listing("SOL_USDC-PERPETUAL") is None
    listed = {"instrument_name": "SOL_USDC-PERPETUAL", "tick_size": 0.01, "min_trade_amount": 0.1}
    [listing] = decode(Deribit, {"jsonrpc": "2.0", "id": 1, "result": [listed]})
    assert listing.lot_size == 0.1


# -- Bitstamp ------------------------------------------------------------------------------------

STAMPS = {"timestamp": "1641343691", "microtimestamp": "1641343691244908"}


def test_bitstamp_books_are_whole_beside_the_stream_or_in_it():
    book = STAMPS | {"bids": [["1.5", "2"]], "asks": [["1.6", "3"]]}
    [whole] = decode(Bitstamp, {"event": "data", "channel": "order_book_btcusd", "data": book})
    assert isinstance(whole, Snapshot)
    assert not whole.is_answer
    [started] = answer(Bitstamp, "https://www.bitstamp.net/api/v2/order_book/btcusd/?group=1", book)
    assert started.is_answer
    assert (started.symbol, started.number) == ("btcusd", 1641343691244908)
    [diff] = decode(Bitstamp, {"event": "data", "channel": "diff_order_book_btcusd", "data": book})
    assert (diff.symbol, diff.number, diff.is_unverified) == ("btcusd", 1641343691244908, True)


def test_bitstamp_pairs_state_their_steps():
    pair = {"name": "BTC/USD", "url_symbol": "btcusd", "base_decimals": 8, "counter_decimals": 0}
    [listing] = answer(Bitstamp, "https://www.bitstamp.net/api/v2/trading-pairs-info/", [pair])
    assert (listing.symbol, listing.tick_size, listing.lot_size) == ("btcusd", 1.0, 1e-8)


# -- Hyperliquid ---------------------------------------------------------------------------------


def test_hyperliquid_best_and_book_of_one_block_share_their_place():
    level = {"px": "105055.0", "sz": "3.03622", "n": 5}
    book = {"coin": "BTC", "time": T, "levels": [[level], []]}
    [whole] = decode(Hyperliquid, {"channel": "l2Book", "data": book})
    best = {"coin": "BTC", "time": T, "bbo": [level, None]}
    [touch] = decode(Hyperliquid, {"channel": "bbo", "data": best})
    assert touch.order == whole.order == T * MS
    assert (touch.bid_px, touch.ask_px) == (105055.0, 0.0)
    assert whole.is_unverified


def test_hyperliquid_steps_follow_the_decimals_of_its_sizes():
    meta = {"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 50}]}
    [listing] = answer(Hyperliquid, "https://api.hyperliquid.xyz/info", meta)
    assert (listing.tick_size, listing.lot_size) == (0.1, 1e-5)


# -- all -----------------------------------------------------------------------------------------

ASIDE = [
    (Kraken, {"event": "heartbeat"}, "heartbeat"),
    (Kraken, {"method": "subscribe", "success": True, "result": {}}, "acknowledgement"),
    (Kraken, {"channel": "heartbeat"}, "heartbeat"),
    (Kraken, [1, ["1"], "ohlc-5", "XBT/USD"], "unknown_stream"),
    (Bybit, {"success": True, "ret_msg": "pong", "op": "ping"}, "heartbeat"),
    (Bybit, {"topic": "kline.5.BTCUSDT", "data": []}, "unknown_stream"),
    (Okx, {"event": "error", "code": "60012", "msg": "x"}, "acknowledgement"),
    (Okx, {"arg": {"channel": "candle1D", "instId": "X"}, "data": []}, "unknown_stream"),
    (Coinbase, {"type": "heartbeat", "sequence": 90}, "heartbeat"),
    (Coinbase, {"type": "received"}, "unknown_stream"),
    (Deribit, {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}, "heartbeat"),
    (Bitstamp, {"event": "bts:request_reconnect", "channel": "", "data": ""}, "acknowledgement"),
    (Bitstamp, {"event": "data", "channel": "detail_order_book_btcusd", "data": {}}, "unknown_stream"),
    (Hyperliquid, {"channel": "pong"}, "heartbeat"),
    (Hyperliquid, {"channel": "candle", "data": {}}, "unknown_stream"),
]  # fmt: skip


@pytest.mark.parametrize(("venue", "message", "reason"), ASIDE)
def test_what_is_no_market_event_has_a_reason(venue, message, reason):
    assert decode(venue, message) == reason


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_says_who_it_is(venue):
    assert venue.name == venue.name.lower()
    assert venue.hosts or issubclass(venue, Normalised)
    assert all(b" " not in sign for sign in venue.signs)
    assert len({other.name for other in VENUES}) == len(VENUES)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "1969-12-31T23:59:59Z", "2600-01-01T00:00:00Z", "2020-01-01T00:00:00.x"],
)
def test_a_time_that_is_none_is_an_error(text):
    with pytest.raises(ValueError, match=r"time|iso|decimals"):
        ns_of_iso(text)


def test_times_keep_their_nanoseconds():
    assert ns_of_seconds("1618678142.557535") == 1618678142557535000
    assert ns_of_seconds("5") == 5_000_000_000
    assert ns_of_iso("1970-01-01T00:00:01.000000001Z") == 1_000_000_001
