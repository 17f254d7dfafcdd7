"""US stocks from tick files, and other libraries' records, as normalised frames."""

import json
from types import SimpleNamespace

import pytest

from finllm.domain.errors import InputError
from finllm.domain.market import BookView, Flag
from finllm.market.capture import look, read_recordings
from finllm.market.check import check_feed
from finllm.market.markets import open_market, venue_of
from finllm.market.venues import normalised
from finllm.market.venues.doorway import NO_PREVIOUS, Diff, Listing, Print, Snapshot, Touch
from finllm.runtime.tally import Tally

V = BookView
NINE_THIRTY = 1_340_285_400_000_000_000
"""2012-06-21 09:30 in New York, ns UTC."""


def walk(*paths):
    """Return the tally and each row as (ns after 09:30, flags, bid, size, ask, size, trade side)."""
    tally = Tally()
    books = open_market([venue_of(look(path)) for path in paths], tally)
    rows = []
    for frame in read_recordings(paths, tally):
        if books.push(frame) >= 0:
            view = books.view(0)
            cells = (V.BID_PX, V.BID_SZ, V.ASK_PX, V.ASK_SZ, V.TRADE_SIDE)
            flags = Flag(int(view[V.FLAGS]))
            rows.append((int(view[V.TS_RECV]) - NINE_THIRTY, flags, *(int(view[c]) for c in cells)))
    books.finish()
    assert tally.used + sum(tally.dropped.values()) == tally.read
    return tally, rows


def lobster(folder, messages, levels):
    path = folder / "AMZN_20120621_message_L1.csv"
    path.write_text("\n".join(messages) + "\n")
    (folder / "AMZN_20120621_orderbook_L1.csv").write_text("\n".join(levels) + "\n")
    return path


GOOD = Flag.VALID | Flag.UNVERIFIED


def test_lobsters_book_follows_each_message_and_executions_are_trades(tmp_path):
    path = lobster(
        tmp_path,
        ["34200.000000001,1,1,100,2238100,1", "34200.5,4,1,21,2238100,1", "34201,5,0,7,2238300,-1",
         "34202,1,9,5,100,1", "x,1,1,1,1,1"],
        ["2239500,100,2238100,100", "2239500,100,2238100,79", "2239500,100,2238100,79",
         "2239500,100,2238100,79", "2239500,100,2238100,79"],
    )  # fmt: skip
    tally, rows = walk(path)
    assert rows == [
        (1, GOOD, 22381, 100, 22395, 100, 0),
        (500_000_000, GOOD, 22381, 100, 22395, 100, -1),  # a resting bid was hit
        (500_000_000, GOOD, 22381, 79, 22395, 100, 0),
        (1_000_000_000, GOOD, 22381, 79, 22395, 100, 1),  # hidden: the book stays
    ]
    assert tally.dropped == {"no_change": 1, "malformed_line": 1}
    assert check_feed([path]).streams[0].instrument == "us-equity:AMZN"


def test_lobsters_messages_need_their_book_file(tmp_path):
    (tmp_path / "AMZN_20120621_message_L1.csv").write_text("34200,1,1,100,2238100,1\n")
    with pytest.raises(InputError, match="orderbook"):
        walk(tmp_path / "AMZN_20120621_message_L1.csv")


def test_an_empty_level_is_no_level(tmp_path):
    path = lobster(tmp_path, ["34200,1,1,100,2238100,1"], ["9999999999,0,2238100,100"])
    _, rows = walk(path)
    assert rows == [(0, Flag.RESYNCING | Flag.UNVERIFIED, 22381, 100, 0, 0, 0)]


def test_the_best_quote_is_over_all_exchanges_and_a_met_or_passed_one_is_gone(tmp_path):
    quotes = tmp_path / "aig_20120621_quote.csv"
    quotes.write_text(
        "\n".join(
            [
                "34200000,480000,100,0,0,P,1,0",
                "34200000,0,0,480100,300,P,1,0",
                "34200001,480000,200,0,0,Q,1,0",  # joins at the best
                "34200002,470000,900,0,0,N,1,0",  # behind it
                "34200003,0,0,479900,500,N,1,0",  # passes both bids at 48.00
                "34200004,480000,100,0,0,K,1,1",  # suspicious
            ]
        )
    )
    trades = tmp_path / "aig_20120621_trade.csv"
    trades.write_text(
        "34200002,480000,10,Q,0,0\n34200005,480100,10,Q,0,0\n34200006,480100,10,Q,0,0\n"
    )
    tally, rows = walk(quotes, trades)
    assert [row[2:] for row in rows] == [
        (4800, 100, 4801, 300, 0),
        (4800, 300, 4801, 300, 0),
        (4700, 900, 4799, 500, 0),
        (4700, 900, 4799, 500, 1),
        (4700, 900, 4799, 500, 1),
    ]
    assert tally.dropped == {"no_change": 2, "suspicious": 1, "no_aggressor": 1}


def test_a_side_that_nobody_quotes_leaves_the_best_as_it_was_until_somebody_does(tmp_path):
    quotes = tmp_path / "aig_20120621_quote.csv"
    quotes.write_text(
        "\n".join(
            [
                "34200000,480000,100,0,0,P,1,0",
                "34200000,0,0,480100,300,P,1,0",
                "34200001,0,0,480000,700,Q,1,0",  # meets the only bid
                "34200002,479900,400,0,0,P,1,0",
            ]
        )
    )
    tally, rows = walk(quotes)
    assert [row[2:] for row in rows] == [(4800, 100, 4801, 300, 0), (4799, 400, 4800, 700, 0)]
    assert tally.dropped == {"no_change": 2}


def test_the_recorded_stocks_are_never_crossed(shared):
    folder = shared / "orderbook"
    report = check_feed([folder / "lobster" / "AMZN_20120621_message_L1.csv.gz"])
    assert report.ok
    assert report.streams[0].rows["trade"] > 1_000
    assert report.frames.read == report.frames.used + sum(report.frames.dropped.values())


def decode(payload):
    return normalised.Normalised().decode(payload)


def test_normalised_books_link_where_they_are_numbered():
    book = {"symbol": "A", "bids": [["1.5", "2"]], "asks": [[1.6, 1]], "ts_event": 5}
    [whole] = decode(json.dumps({"book": book | {"whole": True}}).encode())
    assert isinstance(whole, Snapshot)
    assert whole.is_unverified
    [diff] = decode(json.dumps({"book": book | {"sequence": 8, "previous": 7}}).encode())
    assert isinstance(diff, Diff)
    assert (diff.number, diff.previous, diff.is_unverified) == (8, 7, False)
    [loose] = decode(json.dumps({"book": book}).encode())
    assert (loose.previous, loose.is_unverified) == (NO_PREVIOUS, True)
    steps = {"symbol": "A", "tick_size": 0.1, "lot_size": 1}
    [listing] = decode(json.dumps({"instrument": steps}).encode())
    assert isinstance(listing, Listing)
    assert decode(b"{}") == "unknown_stream"


def test_ccxt_records_are_whole_books_and_takers_trades():
    book = {
        "symbol": "A/B",
        "bids": [[1.5, 2.0, 0]],
        "asks": [[1.6, 1.0]],
        "timestamp": 7,
        "nonce": 3,
    }
    [whole] = decode(normalised.from_ccxt_book(book))
    assert (list(whole.bids), whole.ts_event, whole.number) == ([(1.5, 2.0)], 7_000_000, 0)
    trade = {"symbol": "A/B", "price": 1.5, "amount": 2, "side": "sell", "timestamp": None}
    [row] = decode(normalised.from_ccxt_trade(trade))
    assert isinstance(row, Print)
    assert (row.side, row.size, row.ts_event) == (-1, 2.0, 0)


def test_cryptofeed_deltas_are_changes_and_books_without_one_are_whole():
    sides = SimpleNamespace(to_dict=lambda: {"bid": {1.5: 2.0}, "ask": {1.6: 1.0}})
    book = SimpleNamespace(symbol="A-B", book=sides, delta=None, timestamp=1.5)
    [whole] = decode(normalised.from_cryptofeed_book(book))
    assert isinstance(whole, Snapshot)
    assert (list(whole.asks), whole.ts_event) == ([(1.6, 1.0)], 1_500_000_000)
    book.delta = {"bid": [(1.5, 0)], "ask": []}
    [diff] = decode(normalised.from_cryptofeed_book(book))
    assert isinstance(diff, Diff)
    assert (list(diff.bids), list(diff.asks)) == ([(1.5, 0.0)], [])
    trade = SimpleNamespace(symbol="A-B", price=1.5, amount=2, side="buy", timestamp=None)
    assert decode(normalised.from_cryptofeed_trade(trade))[0].side == 1


def test_nautilus_deltas_that_begin_with_clear_are_whole():
    def delta(action, side, price, size):
        order = SimpleNamespace(side=SimpleNamespace(name=side), price=price, size=size)
        return SimpleNamespace(action=SimpleNamespace(name=action), order=order)

    rows = [
        delta("ADD", "BUY", 9, 9),
        delta("CLEAR", "NO_ORDER_SIDE", 0, 0),
        delta("ADD", "SELL", 1.6, 1),
    ]
    deltas = SimpleNamespace(instrument_id="A.X", deltas=rows, ts_event=9)
    [whole] = decode(normalised.from_nautilus_deltas(deltas))
    assert isinstance(whole, Snapshot)
    assert (list(whole.bids), list(whole.asks)) == ([], [(1.6, 1.0)])
    deltas.deltas = [delta("DELETE", "SELL", 1.6, 1)]
    [diff] = decode(normalised.from_nautilus_deltas(deltas))
    assert isinstance(diff, Diff)
    assert list(diff.asks) == [(1.6, 0.0)]
    quote = SimpleNamespace(
        instrument_id="A.X", bid_price=1, bid_size=2, ask_price=3, ask_size=4, ts_event=5
    )
    [touch] = decode(normalised.from_nautilus_quote(quote))
    assert isinstance(touch, Touch)
    side = SimpleNamespace(name="NO_AGGRESSOR")
    trade = SimpleNamespace(instrument_id="A.X", price=1, size=1, aggressor_side=side, ts_event=5)
    with pytest.raises(KeyError):
        normalised.from_nautilus_trade(trade)
