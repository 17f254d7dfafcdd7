"""Honest sessions of every venue, made up by chance, and the mending of numbers and checksums.

Every message is generated here, in the form that the venue's documents give; none was recorded.
"""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fuzz.inputs import Told, encoded, parsed
from fuzz.oracle import run
from fuzz.reference import RULES, Depth, Sides, Steps, Text

T_MS = 1_700_000_000_000
ISO = "2023-11-14T22:13:{:02d}.{:06d}Z"
FINE = Steps(100.0, 1000.0)
N_MESSAGES = 14

Sent = tuple[list[Text], list[Text]]
Session = list[Any]


class Walk:
    """A book that walks: a whole one, then changes of a few levels."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.mid = 10_000

    def whole(self, n: int = 10) -> Sent:
        """Return `n` levels a side, 0.10 apart."""
        return tuple(  # type: ignore[return-value]
            [(f"{(self.mid + sign * (5 + 10 * i)) / 100:.2f}", self._size()) for i in range(n)]
            for sign in (-1, 1)
        )

    def change(self) -> Sent:
        """Return up to two levels a side, near the touch; some deleted."""
        sides = []
        for sign in (-1, 1):
            rows = []
            for _ in range(int(self.rng.integers(3))):
                away = 5 + 10 * int(self.rng.integers(12))
                size = "0.000" if self.rng.integers(3) == 0 else self._size()
                rows.append((f"{(self.mid + sign * away) / 100:.2f}", size))
            sides.append(rows)
        return sides[0], sides[1]

    def top(self) -> tuple[Text, Text]:
        """Return a best bid and ask."""
        return (f"{(self.mid - 5) / 100:.2f}", "1.000"), (f"{(self.mid + 5) / 100:.2f}", "2.000")

    def _size(self) -> str:
        return f"{int(self.rng.integers(1, 90)) / 10:.3f}"


def _lists(rows: list[Text]) -> list[list[str]]:
    return [list(row) for row in rows]


def _numbers(rows: list[Text]) -> list[list[float]]:
    return [[float(px), float(sz)] for px, sz in rows]


def _iso(i: int) -> str:
    return ISO.format(20 + i // 10, i % 10 * 100_000)


# -- one session a venue -----------------------------------------------------------------------------


def _binance(walk: Walk) -> Session:
    kind = int(walk.rng.integers(3))
    symbol = ("BTCUSDT", "BTCUSDT", "BTCUSD_PERP")[kind]
    is_unlisted = walk.rng.integers(4) == 0
    symbol = "NEWUSDT" if is_unlisted and kind < 2 else symbol

    def stream(name: str, data: Any) -> Any:
        return {"stream": f"{symbol.lower()}@{name}", "data": data}

    def touch(i: int) -> Any:
        (bid, bid_sz), (ask, ask_sz) = walk.top()
        data: dict[str, Any] = {
            "u": i * 10 + 5,
            "s": symbol,
            "b": bid,
            "B": bid_sz,
            "a": ask,
            "A": ask_sz,
        }
        data |= {"e": "bookTicker", "E": T_MS + i, "T": T_MS + i} if kind else {}
        return stream("bookTicker", data | ({"ps": "BTCUSD"} if kind == 2 else {}))

    def diff(i: int) -> Any:
        bids, asks = walk.change()
        data = {"e": "depthUpdate", "E": T_MS + i, "s": symbol, "U": i * 10 + 1, "u": i * 10 + 10}
        data |= {"T": T_MS + i, "pu": i * 10} if kind else {}
        return stream("depth@100ms", data | {"b": _lists(bids), "a": _lists(asks)})

    def trade(i: int) -> Any:
        name = ("trade", "aggTrade")[i % 2]
        data = {"e": name, "E": T_MS + i, "T": T_MS + i, "s": symbol, ("t", "l")[i % 2]: i, "p": "100.00",
                "q": "0.5", "m": True}  # fmt: skip
        return stream(name, data if kind else data | {"M": True})

    bids, asks = walk.whole()
    whole: dict[str, Any] = {"lastUpdateId": 30, "bids": _lists(bids), "asks": _lists(asks)}
    whole |= {"E": T_MS + 3, "T": T_MS + 3} if kind else {}
    whole |= {"symbol": symbol, "pair": "BTCUSD"} if kind == 2 else {}
    url = f"https://api.binance.com/api/v3/depth?symbol={symbol}&limit=10"
    answer = {"url": url, "data": whole} if walk.rng.integers(2) else whole
    mark = {"e": "markPriceUpdate", "E": T_MS + 3, "s": symbol, "p": "100.02"}
    rest = [
        (diff, diff, diff, touch, trade)[int(walk.rng.integers(5))](i) for i in range(4, N_MESSAGES)
    ]
    marks = [stream("markPrice@1s", mark)] if kind else []
    return [touch(1), diff(1), diff(2), diff(3), answer, *rest[:4], *marks, *rest[4:]]


def _kraken(walk: Walk) -> Session:
    if walk.rng.integers(2):
        return _kraken_v2(walk)

    def rows(side: list[Text], i: int) -> Any:
        return [[px, sz, f"17000000{20 + i}.5"] for px, sz in side]

    bids, asks = walk.whole()
    session: Session = [[0, {"as": rows(asks, 0), "bs": rows(bids, 0)}, "book-10", "XBT/USD"]]
    for i in range(1, N_MESSAGES):
        bids, asks = walk.change()
        parts = [{name: rows(side, i)} for name, side in (("a", asks), ("b", bids)) if side]
        parts = parts or [{"b": []}]
        parts[-1]["c"] = "0"
        session.append([0, *parts, "book-10", "XBT/USD"])
    session[4] = [0, [["100.00", "2", "1700000024.5", "b", "l", ""]], "trade", "XBT/USD"]
    session[6] = [0, ["99.90", "100.10", "1700000026.5", "1", "2"], "spread", "XBT/USD"]
    session[8] = [0, {"a": ["100.1", 1, "1"], "b": ["99.9", 1, "1"]}, "ticker", "XBT/USD"]
    return session


def _kraken_v2(walk: Walk) -> Session:
    def book(kind: str, sent: Sent, i: int) -> Any:
        sides = [
            [{"price": parsed(px.encode()), "qty": parsed(sz.encode())} for px, sz in side]
            for side in sent
        ]
        row = {
            "symbol": "BTC/USD",
            "bids": sides[0],
            "asks": sides[1],
            "checksum": 0,
            "timestamp": _iso(i),
        }
        return {"channel": "book", "type": kind, "data": [row]}

    pair = {"symbol": "BTC/USD", "quote": "USD", "price_increment": 0.01, "qty_increment": 0.001}
    session: Session = [
        {"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [pair]}},
        book("snapshot", walk.whole(), 0),
    ]
    session += [book("update", walk.change(), i) for i in range(1, N_MESSAGES)]
    trade = {
        "symbol": "BTC/USD",
        "side": "sell",
        "price": 100.5,
        "qty": 0.1,
        "trade_id": 7,
        "timestamp": _iso(5),
    }
    session[5] = {"channel": "trade", "type": "update", "data": [trade, trade | {"trade_id": 8}]}
    top = {"symbol": "BTC/USD", "bid": 99.95, "bid_qty": 2.0, "ask": 100.05, "ask_qty": 4.0}
    session[7] = {"channel": "ticker", "type": "update", "data": [top]}
    session[9] = {"channel": "heartbeat"}
    return session


def _bybit(walk: Walk) -> Session:
    if walk.rng.integers(2):
        return _bybit_old(walk)

    def book(kind: str, sent: Sent, i: int, depth: int = 50) -> Any:
        data = {
            "s": "BTCUSDT",
            "b": _lists(sent[0]),
            "a": _lists(sent[1]),
            "u": i + 7,
            "seq": i * 10 + 50,
        }
        return {
            "topic": f"orderbook.{depth}.BTCUSDT",
            "type": kind,
            "ts": T_MS + i,
            "cts": T_MS + i,
            "data": data,
        }

    session = [book("snapshot", walk.whole(), 0)]
    session += [book("delta", walk.change(), i) for i in range(1, N_MESSAGES)]
    bid, ask = walk.top()
    session[4] = book("snapshot", ([bid], [ask]), 4, depth=1)
    row = {"T": T_MS + 6, "s": "BTCUSDT", "S": "Sell", "v": "0.001", "p": "100.00"}
    session[6] = {
        "topic": "publicTrade.BTCUSDT",
        "type": "snapshot",
        "ts": T_MS,
        "data": [row, row],
    }
    return session


def _bybit_old(walk: Walk) -> Session:
    def rows(sent: Sent) -> Any:
        return [
            {"price": px, "side": side, "size": float(sz)}
            for side, levels in zip(("Buy", "Sell"), sent, strict=True)
            for px, sz in levels
        ]

    def message(kind: str, data: Any, i: int) -> Any:
        return {"topic": "orderBookL2_25.BTCUSD", "type": kind, "data": data, "cross_seq": 100 + i,
                "timestamp_e6": (T_MS + i) * 1000}  # fmt: skip

    session = [message("snapshot", rows(walk.whole()), 0)]
    for i in range(1, N_MESSAGES):
        changed = rows(walk.change())
        gone = [{"price": row["price"], "side": row["side"]} for row in changed if not row["size"]]
        kept = [row for row in changed if row["size"]]
        data = {"delete": gone, "update": kept[:1], "insert": kept[1:]}
        session.append(message("delta", data, i))
    row = {"symbol": "BTCUSD", "price": 100.0, "size": 5, "side": "Buy", "trade_time_ms": T_MS + 5}
    session[5] = {"topic": "trade.BTCUSD", "data": [row]}
    session[0]["data"] = (
        {"order_book": session[0]["data"]} if walk.rng.integers(2) else session[0]["data"]
    )
    return session


def _okx(walk: Walk) -> Session:
    def book(action: str, sent: Sent, i: int, channel: str = "books") -> Any:
        row: dict[str, Any] = {
            "ts": str(T_MS + i),
            "checksum": 0,
            "seqId": i + 10,
            "prevSeqId": i + 9,
        }
        for name, side in (("bids", sent[0]), ("asks", sent[1])):
            row[name] = [[*level, "0", "1"] for level in side]
        return {"arg": {"channel": channel, "instId": "BTC-USDT"}, "action": action, "data": [row]}

    session = [book("snapshot", walk.whole(), 0)]
    session += [book("update", walk.change(), i) for i in range(1, N_MESSAGES)]
    bid, ask = walk.top()
    session[4] = book("", ([bid], [ask]), 4, "bbo-tbt")
    trade = {
        "instId": "BTC-USDT",
        "tradeId": "3",
        "px": "100",
        "sz": "1",
        "side": "buy",
        "ts": str(T_MS + 5),
    }
    session[5] = {"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [trade]}
    ticker = {
        "instId": "BTC-USDT",
        "askPx": "100.05",
        "askSz": "1",
        "bidPx": "99.95",
        "bidSz": "1",
        "ts": str(T_MS),
    }
    session[7] = {"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [ticker]}
    if walk.rng.integers(3) == 0:
        session[9] = book("", walk.whole(5), 9, "books5")
    return session


def _coinbase(walk: Walk) -> Session:
    return (_coinbase_exchange if walk.rng.integers(2) else _coinbase_advanced)(walk)


def _coinbase_exchange(walk: Walk) -> Session:
    bids, asks = walk.whole()
    session: Session = [
        {"type": "snapshot", "product_id": "BTC-USD", "bids": _lists(bids), "asks": _lists(asks)}
    ]
    for i in range(1, N_MESSAGES):
        bids, asks = walk.change()
        changes = [["buy", *row] for row in bids] + [["sell", *row] for row in asks]
        session.append(
            {"type": "l2update", "product_id": "BTC-USD", "changes": changes, "time": _iso(i)}
        )
    (bid, bid_sz), (ask, ask_sz) = walk.top()
    session[4] = {"type": "ticker", "product_id": "BTC-USD", "best_bid": bid, "best_bid_size": bid_sz,
                  "best_ask": ask, "best_ask_size": ask_sz, "time": _iso(4)}  # fmt: skip
    session[6] = {"type": "match", "product_id": "BTC-USD", "trade_id": 9, "side": "buy", "size": "1",
                  "price": "100.00", "time": _iso(6)}  # fmt: skip
    return session


def _coinbase_advanced(walk: Walk) -> Session:
    def message(i: int, channel: str, events: list[Any]) -> Any:
        return {"channel": channel, "timestamp": _iso(i), "sequence_num": i, "events": events}

    def book(kind: str, sent: Sent, product: str = "BTC-USD") -> Any:
        rows = [
            {"side": side, "price_level": px, "new_quantity": sz}
            for side, levels in zip(("bid", "offer"), sent, strict=True)
            for px, sz in levels
        ]
        return {"type": kind, "product_id": product, "updates": rows}

    n = (3, 10)[int(walk.rng.integers(2))]
    session = [message(0, "l2_data", [book("snapshot", walk.whole(n))])]
    session += [
        message(i, "l2_data", [book("update", walk.change())]) for i in range(1, N_MESSAGES)
    ]
    session[2] = message(
        2, "l2_data", [book("snapshot", walk.whole(), "ETH-USD"), book("update", walk.change())]
    )
    trade = {
        "trade_id": "12",
        "product_id": "BTC-USD",
        "price": "100",
        "size": "0.3",
        "side": "BUY",
        "time": _iso(5),
    }
    session[5] = message(5, "market_trades", [{"type": "update", "trades": [trade]}])
    session[6] = message(6, "heartbeats", [])
    top = {"product_id": "BTC-USD", "best_bid": "99.95", "best_ask": "100.05", "best_bid_quantity": "1",
           "best_ask_quantity": "1"}  # fmt: skip
    session[8] = message(8, "ticker", [{"type": "update", "tickers": [top]}])
    product = {"id": "BTC-USD", "quote_increment": "0.01", "base_increment": "0.001"}
    listing = {"url": "https://api.exchange.coinbase.com/products", "data": [product]}
    return [listing, *session] if n == 3 and walk.rng.integers(2) else session


def _deribit(walk: Walk) -> Session:
    name = ("BTC-PERPETUAL", "SOL_USDC-PERPETUAL")[int(walk.rng.integers(2))]

    def message(channel: str, data: Any) -> Any:
        params = {"channel": f"{channel}.{name}.raw", "data": data}
        return {"jsonrpc": "2.0", "method": "subscription", "params": params}

    def book(kind: str, sent: Sent, i: int) -> Any:
        sides = [
            [["change" if sz else "delete", px, sz] for px, sz in _numbers(side)] for side in sent
        ]
        data = {"type": kind, "timestamp": T_MS + i, "instrument_name": name, "change_id": i + 1,
                "prev_change_id": i, "bids": sides[0], "asks": sides[1]}  # fmt: skip
        return message("book", data)

    session = [book("snapshot", walk.whole(), 0)]
    session += [book("change", walk.change(), i) for i in range(1, N_MESSAGES)]
    quote = {"timestamp": T_MS + 4, "instrument_name": name, "best_bid_price": 99.5, "best_bid_amount": 10.0,
             "best_ask_price": 100.5, "best_ask_amount": 20.0}  # fmt: skip
    session[4] = message("quote", quote)
    trade = {"instrument_name": name, "trade_seq": 3, "timestamp": T_MS + 5, "price": 100.0, "amount": 10.0,
             "direction": "buy"}  # fmt: skip
    session[5] = message("trades", [trade])
    bids, asks = walk.whole(5)
    whole = {
        "timestamp": T_MS + 9,
        "instrument_name": name,
        "change_id": 99,
        "bids": _numbers(bids),
        "asks": _numbers(asks),
    }
    if walk.rng.integers(3) == 0:
        session[9] = message("book", whole)
    return session


def _bitstamp(walk: Walk) -> Session:
    def book(sent: Sent, i: int) -> Any:
        return {
            "timestamp": str(T_MS // 1000),
            "microtimestamp": str(T_MS * 1000 + i),
            "bids": _lists(sent[0]),
            "asks": _lists(sent[1]),
        }

    def diff(i: int) -> Any:
        return {
            "event": "data",
            "channel": "diff_order_book_btcusd",
            "data": book(walk.change(), i),
        }

    url = "https://www.bitstamp.net/api/v2/order_book/btcusd"
    session = [diff(i) for i in range(1, 5)]
    session.append({"url": url, "data": book(walk.whole(), 2)})
    session += [diff(i) for i in range(5, N_MESSAGES)]
    trade = {"id": 1, "amount": 1, "price": 99.5, "type": 0, "microtimestamp": str(T_MS * 1000 + 7)}
    session[7] = {"event": "trade", "channel": "live_trades_btcusd", "data": trade}
    if walk.rng.integers(2):
        session[9] = {
            "event": "data",
            "channel": "order_book_btcusd",
            "data": book(walk.whole(), 9),
        }
    return session


def _hyperliquid(walk: Walk) -> Session:
    def side(rows: list[Text]) -> Any:
        return [{"px": px, "sz": sz, "n": 1} for px, sz in rows]

    session: Session = []
    for i in range(N_MESSAGES):
        walk.mid += int(walk.rng.integers(-2, 3)) * 10
        bids, asks = walk.whole(4 + int(walk.rng.integers(8)))
        book = {"coin": "BTC", "time": T_MS + i, "levels": [side(bids), side(asks)]}
        session.append({"channel": "l2Book", "data": book})
    (bid, bid_sz), (ask, ask_sz) = walk.top()
    best = [{"px": bid, "sz": bid_sz, "n": 1}, {"px": ask, "sz": ask_sz, "n": 1}]
    session[4] = {"channel": "bbo", "data": {"coin": "BTC", "time": T_MS + 4, "bbo": best}}
    row = {"coin": "BTC", "side": "B", "px": "100.0", "sz": "1", "time": T_MS + 6}
    session[6] = {"channel": "trades", "data": [row, row]}
    return session


def _normalised(walk: Walk) -> Session:
    is_linked = bool(walk.rng.integers(2))

    def book(sent: Sent, i: int, *, whole: bool) -> Any:
        body: dict[str, Any] = {
            "symbol": "BTC/USDT",
            "bids": _lists(sent[0]),
            "asks": _lists(sent[1]),
            "whole": whole,
        }
        body |= {"ts_event": (T_MS + i) * 10**6}
        return {"book": body | ({"sequence": i + 5, "previous": i + 4} if is_linked else {})}

    session = [book(walk.whole(), 0, whole=True)]
    session += [book(walk.change(), i, whole=False) for i in range(1, N_MESSAGES)]
    bid, ask = walk.top()
    session[4] = {
        "touch": {"symbol": "BTC/USDT", "bid": bid, "ask": ask, "sequence": 9 * is_linked}
    }
    session[6] = {"trade": {"symbol": "BTC/USDT", "price": "100.0", "size": "1", "side": "buy"}}
    steps = {"symbol": "BTC/USDT", "tick_size": "0.01", "lot_size": "0.001"}
    return [{"instrument": steps}, *session] if walk.rng.integers(2) else session


SESSIONS: dict[str, Callable[[Walk], Session]] = {
    "binance": _binance, "bitstamp": _bitstamp, "bybit": _bybit, "coinbase": _coinbase,
    "deribit": _deribit, "hyperliquid": _hyperliquid, "kraken": _kraken, "normalised": _normalised,
    "okx": _okx, "us-equity": _normalised,
}  # fmt: skip


# -- mending -----------------------------------------------------------------------------------------


def mend(venue: str, messages: Session) -> None:
    """Put the numbers and checksums of messages right where they have any; never fails on odd ones."""
    mender = _MENDERS.get(venue)
    if mender is None:
        return
    state: dict[str, Any] = {}
    for message in messages:
        try:
            mender(message, state)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError):
            continue


def _mend_binance(message: Any, state: dict[str, Any]) -> None:
    body = message.get("data")
    if not isinstance(body, dict) or body.get("e") != "depthUpdate":
        return
    key = body["s"], "pu" in body
    last = state.get(key)
    if last is not None:
        body["U"] = last + 1
        body["u"] = max(body["u"], body["U"])
        if "pu" in body:
            body["pu"] = last
    state[key] = body["u"]


def _mend_bybit(message: Any, state: dict[str, Any]) -> None:
    body = message["data"]
    if message["topic"].startswith("orderbook.") and not message["topic"].startswith(
        "orderbook.1."
    ):
        last = state.get(body["s"])
        if last is not None and message["type"] == "delta":
            body["u"] = last + 1
        state[body["s"]] = body["u"]


def _mend_deribit(message: Any, state: dict[str, Any]) -> None:
    body = message["params"]["data"]
    if not isinstance(body, dict) or "change_id" not in body:
        return
    last = state.get(body["instrument_name"])
    if last is not None and body.get("type") == "change":
        body["prev_change_id"] = last
        body["change_id"] = max(body["change_id"], last + 1)
    state[body["instrument_name"]] = body["change_id"]


def _mend_coinbase(message: Any, state: dict[str, Any]) -> None:
    if "sequence_num" in message:
        message["sequence_num"] = state.get("last", -1) + 1
        state["last"] = message["sequence_num"]


def _mend_normalised(message: Any, state: dict[str, Any]) -> None:
    body = message["book"]
    last = state.get(body["symbol"])
    if last is not None and body.get("previous") is not None:
        body["previous"], body["sequence"] = last, last + 1
    state[body["symbol"]] = body.get("sequence", 0)


def _mend_okx(message: Any, state: dict[str, Any]) -> None:
    if message["arg"]["channel"] not in {"books", "books-l2-tbt", "books50-l2-tbt", "books-elp"}:
        return
    symbol = message["arg"]["instId"]
    for row in message["data"]:
        last = state.get(symbol, {}).get("seqId")
        if last is not None and message["action"] == "update":
            row["prevSeqId"], row["seqId"] = last, max(int(row["seqId"]), last + 1)
        state.setdefault(symbol, {})["seqId"] = int(row["seqId"])
        whole = {"arg": message["arg"], "action": message["action"], "data": [row]}
        row["checksum"] = _summed("okx", whole, state[symbol])


def _mend_kraken(message: Any, state: dict[str, Any]) -> None:
    if isinstance(message, list):
        sums = [part for part in message[1:-2] if isinstance(part, dict) and part.get("c")]
        total = _summed("kraken", message, state.setdefault(message[-1], {}))
        if sums:
            sums[0]["c"] = str(total)
    elif message["channel"] == "book":
        for row in message["data"]:
            total = _summed(
                "kraken", message | {"data": [row]}, state.setdefault(row["symbol"], {})
            )
            row["checksum"] = total


def _summed(venue: str, message: Any, state: dict[str, Any]) -> int:
    """Take a message into a book of its own; return the checksum after it."""
    sides = state.setdefault("sides", Sides())
    for event in RULES[venue].read(message):
        if isinstance(event, Depth):
            change = sides.replace if event.is_whole else sides.change
            change(event.bids, event.asks, FINE)
            state["depth"] = event.depth or state.get("depth", 0)
            if state["depth"] and not event.is_whole:
                sides.cut(state["depth"])
    return RULES[venue].checksum(sides)


_MENDERS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "binance": _mend_binance, "bybit": _mend_bybit, "coinbase": _mend_coinbase, "deribit": _mend_deribit,
    "kraken": _mend_kraken, "normalised": _mend_normalised, "okx": _mend_okx, "us-equity": _mend_normalised,
}  # fmt: skip


def sessions(venue: str, n: int, seed: int = 1) -> Iterator[list[Told]]:
    """Yield `n` honest sessions of a venue."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        messages = [parsed(encoded(message)) for message in SESSIONS[venue](Walk(rng))]
        mend(venue, messages)
        yield [Told(1, 0, encoded(message)) for message in messages]


def warm() -> None:
    """Compile every kernel and set aside what is there, so that no push is timed that has to."""
    for venue in ("binance", "okx"):
        for frames in sessions(venue, 12):
            run(venue, frames, float("inf"))
    gc.collect()
    gc.freeze()  # a full collection goes through all that numba has loaded: more than 100 ms
