"""Slow books as oracles: dictionaries of price to size, fed with the same frames.

Written from what each venue's documents say, over Python's own `json`; nothing here calls a decoder, a
kernel or a feed. What a frame may not do without (a symbol, a number) raises here, so that a frame which
the product takes in and this cannot read is a finding.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

from fuzz.inputs import parsed

N_LEVELS = 10
RESTART_NS = 5_000_000_000
STALE_NS = 5_000_000_000
MS, US = 1_000_000, 1_000

Text = tuple[str, str]
"""Price and size as they are written."""
Levels = list[tuple[int, int]]


class Depth(NamedTuple):
    """A whole book, or a change of one."""

    symbol: str
    bids: list[Text]
    asks: list[Text]
    is_whole: bool
    number: int = 0
    previous: int | None = None
    """Of a change: the number that must be the last; None = the stream does not say."""
    order: int = 0
    ts: int = 0
    checksum: int | None = None
    depth: int = 0
    is_unverified: bool = False
    is_answer: bool = False


class Top(NamedTuple):
    """A best bid and offer."""

    symbol: str
    bid: Text
    ask: Text
    order: int = 0


class Other(NamedTuple):
    """Something that changes no book."""

    symbol: str


class Count(NamedTuple):
    """The number of a message on its connection."""

    number: int


Event = Depth | Top | Other | Count


class Steps(NamedTuple):
    """Ticks and lots in one unit."""

    per_price: float
    per_size: float


def steps_of(tick: float, lot: float) -> Steps:
    """Return how many ticks and lots make one unit."""
    return Steps(*(round(1 / step) if step <= 1.0 else 1 / step for step in (tick, lot)))


def in_steps(text: str, per_unit: float) -> int:
    """Return a number in whole steps; what is more than nothing is at least one."""
    value = float(text)
    whole = round(value * per_unit)
    return 1 if whole == 0 and value > 0 else whole


def is_usable(rows: list[Text], steps: Steps) -> bool:
    """Return whether every level can be kept: a price above 0, a size of 0 or more, both countable."""
    return all(
        0.0 < float(px) * steps.per_price < 2.0**53
        and float(px) > 0.0
        and 0.0 <= float(sz) * steps.per_size < 2.0**53
        for px, sz in rows
    )


class Sides:
    """Bids and asks: ticks to (lots, price as written, size as written)."""

    def __init__(self) -> None:
        self.bids: dict[int, tuple[int, str, str]] = {}
        self.asks: dict[int, tuple[int, str, str]] = {}

    def change(self, bids: list[Text], asks: list[Text], steps: Steps) -> None:
        for side, rows in ((self.bids, bids), (self.asks, asks)):
            for px, sz in rows:
                ticks, lots = in_steps(px, steps.per_price), in_steps(sz, steps.per_size)
                side.pop(ticks, None)
                if lots > 0:
                    side[ticks] = (lots, px, sz)

    def replace(self, bids: list[Text], asks: list[Text], steps: Steps) -> None:
        """Take a whole book; of two levels with one price the first stands."""
        self.bids, self.asks = {}, {}
        self.change(bids[::-1], asks[::-1], steps)

    def cut(self, depth: int) -> None:
        self.bids = {px: self.bids[px] for px in sorted(self.bids, reverse=True)[:depth]}
        self.asks = {px: self.asks[px] for px in sorted(self.asks)[:depth]}

    def texts(self, n: int) -> tuple[list[Text], list[Text]]:
        """Return the best `n` bids and asks as they were written."""
        bids = [self.bids[px][1:] for px in sorted(self.bids, reverse=True)[:n]]
        asks = [self.asks[px][1:] for px in sorted(self.asks)[:n]]
        return bids, asks

    def is_rounded(self, steps: Steps) -> bool:
        """Return whether any level is between two steps."""
        return any(
            abs(float(text) * per_unit - round(float(text) * per_unit)) > 1e-6
            for row in (*self.bids.values(), *self.asks.values())
            for text, per_unit in zip(row[1:], steps, strict=True)
        )

    def best(self, touch: tuple[int, int, int, int] | None) -> tuple[Levels, Levels]:
        """Return the best levels a side, under a touch where one lies over them."""
        bids = [(px, self.bids[px][0]) for px in sorted(self.bids, reverse=True)]
        asks = [(px, self.asks[px][0]) for px in sorted(self.asks)]
        if touch is not None:
            bid, bid_lots, ask, ask_lots = touch
            bids = [(bid, bid_lots)] * (bid_lots > 0) + [row for row in bids if row[0] < bid]
            asks = [(ask, ask_lots)] * (ask_lots > 0) + [row for row in asks if row[0] > ask]
        return bids[:N_LEVELS], asks[:N_LEVELS]


class Laid:
    """The newest touch, and whether it may be taken for newer than the one before."""

    def __init__(self) -> None:
        self.order = 0
        self.levels: tuple[int, int, int, int] | None = None
        self.held_since = 0

    def lay(self, top: Top, steps: Steps, ts_recv: int) -> None:
        if top.order <= self.order:
            self.held_since = self.held_since or ts_recv
            if ts_recv - self.held_since <= STALE_NS:
                return
        self.held_since = 0
        self.order = top.order
        self.levels = (
            in_steps(top.bid[0], steps.per_price), in_steps(top.bid[1], steps.per_size),
            in_steps(top.ask[0], steps.per_price), in_steps(top.ask[1], steps.per_size),
        )  # fmt: skip

    def forget(self) -> None:
        self.order, self.levels = 0, None


class Shown(NamedTuple):
    """What a trustworthy book shows after one event."""

    views: list[tuple[Levels, Levels]]
    is_unverified: bool


# -- every venue but Binance -----------------------------------------------------------------------


class Book:
    """One instrument of a venue, held to what its messages say of themselves."""

    def __init__(self, steps: Steps, rule: "Rule") -> None:
        self.sides = Sides()
        self.is_trusted = False
        self.sources: set[int] = set()
        self.n_whole = 0
        self.is_linked = True
        self._steps = steps
        self._rule = rule
        self._last = 0
        self._last_ts = 0
        self._order = 0
        self._depth = 0
        self._is_unverified = True
        self._held: list[Depth] = []
        self._laid = Laid()
        self.is_touch_optional = False
        self.is_doubtful = False

    def take(self, event: Event, ts_recv: int, source: int) -> None:
        if isinstance(event, Top):
            self._top(event, ts_recv)
        elif isinstance(event, Depth):
            self.is_linked &= event.is_whole or event.previous is not None
            before = self.n_whole
            (self._whole if event.is_whole else self._change)(event)
            if self.n_whole > before:
                self.sources.clear()
            self.sources.add(source)

    def shown(self) -> Shown | None:
        """Return what the book shows, or None if it is not to be trusted."""
        if not self.is_trusted:
            return None
        is_laid = self._laid.levels is not None and self._laid.order > self._order
        views = [self.sides.best(self._laid.levels if is_laid else None)]
        if is_laid and self.is_touch_optional:
            views.append(self.sides.best(None))
        return Shown(views, self._is_unverified)

    def lose_of(self, source: int) -> None:
        """Trust nothing any more if a message of a source of this book is missing."""
        if source in self.sources:
            self.lose()

    def lose(self) -> None:
        """Trust nothing any more."""
        self.is_trusted = False
        self._held = []

    def _whole(self, event: Depth) -> None:
        if event.is_answer and self.is_trusted and event.number <= self._last:
            return
        if self._is_overtaken(event) or (event.is_answer and self._is_short(event)):
            return
        if not is_usable([*event.bids, *event.asks], self._steps):
            if not event.is_answer and self.is_trusted:
                self.lose()
            return
        self.n_whole += 1
        was_doubtful = self.is_doubtful
        self.is_trusted, self.is_doubtful = True, False
        self.sides.replace(event.bids, event.asks, self._steps)
        self._depth = event.depth or self._depth
        self._advance(event, was_doubtful=was_doubtful)
        held, self._held = self._held, []
        for change in held:
            if event.is_answer and change.number > event.number:
                self._change(change)
        self._verify(event)

    def _is_overtaken(self, event: Depth) -> bool:
        if not self.is_trusted or not event.is_unverified or event.is_answer:
            return False
        key, last = (event.number, self._last) if event.number else (event.ts, self._last_ts)
        return 0 < key < last and event.ts - self._last_ts <= RESTART_NS

    def _is_short(self, event: Depth) -> bool:
        """Return whether a change that is missing in an answer cannot be applied."""
        newer = [change for change in self._held if change.number > event.number]
        return not all(is_usable([*change.bids, *change.asks], self._steps) for change in newer)

    def _change(self, event: Depth) -> None:
        if not self.is_trusted:
            self._hold(event)
        elif not is_usable([*event.bids, *event.asks], self._steps):
            if event.previous is None:
                self.lose()
                self._hold(event)
        elif event.previous is not None and event.previous == self._last:
            self._apply(event)
        elif self._is_old(event):
            if event.ts - self._last_ts > RESTART_NS:
                self.lose()
                self._hold(event)
        elif event.previous is None:
            self._apply(event)
        else:
            self.lose()
            self._hold(event)

    def _is_old(self, event: Depth) -> bool:
        is_seen = event.number == self._last and not event.is_unverified
        return event.number > 0 and (event.number < self._last or is_seen)

    def _hold(self, event: Depth) -> None:
        if self._rule.holds:
            self._held.append(event)

    def _apply(self, event: Depth) -> None:
        self.sides.change(event.bids, event.asks, self._steps)
        self._depth = event.depth or self._depth
        if self._depth:
            self.sides.cut(self._depth)
        self._advance(event)
        self._verify(event)

    def _advance(self, event: Depth, *, was_doubtful: bool = False) -> None:
        self._last = event.number
        self._last_ts = event.ts or self._last_ts
        if was_doubtful:
            self.is_touch_optional = True  # how far the other had come is not known
        elif event.order == 0 or event.order < self._order:
            self._laid.forget()
            self.is_touch_optional = False
        self._order = event.order
        self._is_unverified = event.is_unverified

    def _verify(self, event: Depth) -> None:
        if event.checksum is None:
            return
        if self.sides.is_rounded(self._steps):
            self.is_doubtful = True  # the sum is of digits, and what was rounded has others
        elif self._rule.checksum(self.sides) != event.checksum:
            self.lose()

    def _top(self, event: Top, ts_recv: int) -> None:
        is_whole = all(float(text) > 0.0 for text in (*event.bid, *event.ask))
        if is_whole and not is_usable([event.bid, event.ask], self._steps):
            return
        if is_whole and not event.order and not self.is_trusted:
            # One of no stated place goes by our clock, and takes the other's place if that is older.
            self.is_touch_optional = ts_recv <= self._laid.order
            if not self.is_touch_optional:
                self._laid.forget()
        if is_whole and event.order and not (self.is_trusted and event.order <= self._order):
            self._laid.lay(event, self._steps, ts_recv)


class Rule(NamedTuple):
    """How one venue's messages are read."""

    read: Callable[[Any], list[Event]]
    holds: bool = False
    """Whether changes wait for a whole book that has to be asked for."""
    checksum: Callable[[Sides], int] = lambda _: 0


MAX_DIGITS = 40
"""An integer of more digits fits nowhere, and may have a billion of them."""


def text_of(value: Any) -> str:
    """Return a number as it is written; it may be a string.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(value, str):
        float(value)
        return value
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise TypeError(f"no number: {value!r}")
    return str(value)


def whole_of(value: Any) -> int:
    """Return an integer, whatever its dress; what is none is one if its nearest double is."""
    number = Decimal(text_of(value))
    if not number.is_finite() or number.adjusted() > MAX_DIGITS:
        raise TypeError(f"no integer: {value!r}")
    if number == int(number):
        return int(number)
    double = float(number)
    if not double.is_integer():
        raise TypeError(f"no integer: {value!r}")
    return int(double)


def pairs(rows: Any) -> list[Text]:
    """Return levels of rows that begin with price and size."""
    return [(text_of(row[0]), text_of(row[1])) for row in rows]


def ns_of(text: str) -> int:
    """Return an ISO time in ns."""
    whole, _, rest = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(f"{whole}+00:00")
    return round(moment.timestamp()) * 1_000_000_000 + int(rest[:9].ljust(9, "0"))


def answered(message: Any) -> tuple[str, Any] | None:
    """Return (address, body) of an answer to a request."""
    is_answer = isinstance(message, dict) and "url" in message
    return (message["url"], message["data"]) if is_answer else None


def _kraken(message: Any) -> list[Event]:
    if isinstance(message, list):
        return _kraken_v1(message)
    if message["channel"] != "book":
        is_of_books = message["channel"] in {"trade", "ticker"}
        return [Other(row["symbol"]) for row in message["data"]] if is_of_books else []
    events: list[Event] = []
    for row in message["data"]:
        is_whole = message["type"] == "snapshot"
        sides = [
            [(text_of(level["price"]), text_of(level["qty"])) for level in row.get(name, ())]
            for name in ("bids", "asks")
        ]
        longest = max(map(len, sides))
        depth = longest if longest in {10, 25, 100, 500, 1000} else 1000
        checksum = row.get("checksum")
        stamp = row.get("timestamp")
        events.append(
            Depth(
                row["symbol"], *sides, is_whole, checksum=checksum, depth=depth if is_whole else 0,
                ts=ns_of(stamp) if stamp else 0, is_unverified=checksum is None,
            )
        )  # fmt: skip
    return events


def _kraken_v1(message: list[Any]) -> list[Event]:
    parts, channel, symbol = message[1:-2], message[-2], message[-1]
    if not channel.startswith("book-"):
        return [Other(symbol)]
    first = parts[0]
    is_whole = first.get("as") is not None or first.get("bs") is not None
    if is_whole:
        asks, bids = first.get("as") or [], first.get("bs") or []
    else:
        asks = [row for part in parts for row in part.get("a", ())]
        bids = [row for part in parts for row in part.get("b", ())]
    sums = [part["c"] for part in parts if part.get("c")]
    checksum = int(sums[0]) if sums else None
    return [
        Depth(
            symbol, pairs(bids), pairs(asks), is_whole, checksum=checksum,
            depth=max(10, int(channel[5:])), is_unverified=not is_whole and checksum is None,
        )
    ]  # fmt: skip


def _kraken_sum(sides: Sides) -> int:
    bids, asks = sides.texts(10)
    digits = (text.replace(".", "").lstrip("0") for row in (*asks, *bids) for text in row)
    return crc32("".join(digits).encode())


def _bybit(message: Any) -> list[Event]:
    if answered(message) is not None:
        return []
    topic = message["topic"]
    stream, _, symbol = topic.partition(".")
    body = message["data"]
    if stream == "orderbook":
        return [_bybit_v5(message, body, symbol.partition(".")[0])]
    if not stream.startswith("orderBook"):
        return [Other(row["s" if stream == "publicTrade" else "symbol"]) for row in body]
    is_whole = message["type"] == "snapshot"
    if is_whole:
        rows, gone = body["order_book"] if isinstance(body, dict) else body, []
    else:
        rows, gone = [*body["update"], *body["insert"]], body["delete"]
    sides = [
        [(text_of(row["price"]), "0") for row in gone if row["side"] == side]
        + [
            (text_of(row["price"]), text_of(row.get("size", 0)))
            for row in rows
            if row["side"] == side
        ]
        for side in ("Buy", "Sell")
    ]
    number = whole_of(message.get("cross_seq", 0))
    ts = whole_of(message.get("timestamp_e6", 0)) * US
    name = symbol.rpartition(".")[2]
    return [
        Depth(name, *sides, is_whole, number=number, order=number, ts=ts, is_unverified=True)
    ]  # fmt: skip


def _bybit_v5(message: Any, body: Any, depth: str) -> Event:
    order = whole_of(body.get("seq", 0))
    if depth == "1":
        bid, ask = ((*pairs(body[side]), ("0", "0"))[0] for side in ("b", "a"))
        return Top(body["s"], bid, ask, order)
    number = whole_of(body["u"])
    ts = (whole_of(message.get("cts", 0)) or whole_of(message.get("ts", 0))) * MS
    return Depth(
        body["s"], pairs(body["b"]), pairs(body["a"]), message["type"] == "snapshot" or number == 1,
        number=number, previous=number - 1, order=order, ts=ts,
    )  # fmt: skip


def _okx(message: Any) -> list[Event]:
    if answered(message) is not None:
        return []
    arg = message["arg"]
    channel, symbol = arg["channel"], arg.get("instId", "")
    if channel == "instruments":
        return []
    if channel == "tickers":
        names = ("bidPx", "bidSz"), ("askPx", "askSz")
        return [
            Top(row["instId"], *((row[px] or "0", row[sz] or "0") for px, sz in names))
            for row in message["data"]
        ]
    if not channel.startswith(("books", "bbo")):
        return [Other(row["instId"]) for row in message["data"]]
    return [_okx_book(row, channel, symbol, message.get("action")) for row in message["data"]]


def _okx_book(row: Any, channel: str, symbol: str, action: str) -> Event:
    bids, asks = pairs(row["bids"]), pairs(row["asks"])
    number = whole_of(row.get("seqId", 0))
    if channel == "bbo-tbt":
        return Top(symbol, (*bids, ("0", "0"))[0], (*asks, ("0", "0"))[0], number)
    previous = whole_of(row.get("prevSeqId", -1))
    checksum = whole_of(row.get("checksum", 0)) or None
    is_whole = channel == "books5" or action == "snapshot"
    is_plain = not is_whole and previous == -1 and checksum is None
    return Depth(
        symbol, bids, asks, is_whole, number=number, previous=None if previous == -1 else previous,
        order=number, ts=whole_of(row["ts"]) * MS, checksum=checksum,
        is_unverified=channel == "books5" or is_plain,
    )  # fmt: skip


def _okx_sum(sides: Sides) -> int:
    bids, asks = sides.texts(25)
    parts = [
        ":".join(format(Decimal(text).normalize(), "f") for text in row)
        for pair in zip_longest(bids, asks)
        for row in pair
        if row is not None
    ]
    value = crc32(":".join(parts).encode())
    return value - 2**32 if value >= 2**31 else value


def _coinbase(message: Any) -> list[Event]:
    if answered(message) is not None:
        return []
    if message.get("channel"):
        return list(_coinbase_advanced(message))
    return [] if message["type"] == "status" else [_coinbase_exchange(message)]


def _coinbase_exchange(message: Any) -> Event:
    kind = message["type"]
    symbol = message["product_id"]
    if kind == "snapshot":
        return Depth(
            symbol, pairs(message["bids"]), pairs(message["asks"]), True, is_unverified=True
        )
    ts = ns_of(message["time"]) if message.get("time") else 0
    if kind == "ticker":
        bid = text_of(message["best_bid"]), text_of(message.get("best_bid_size", 0))
        ask = text_of(message["best_ask"]), text_of(message.get("best_ask_size", 0))
        return Top(symbol, bid, ask, ts)
    if kind != "l2update":
        return Other(symbol)
    sides = [
        [(text_of(px), text_of(sz)) for name, px, sz in message["changes"] if name == side]
        for side in ("buy", "sell")
    ]
    return Depth(symbol, *sides, False, order=ts, ts=ts, is_unverified=True)


def _coinbase_advanced(message: Any) -> Iterator[Event]:
    yield Count(whole_of(message["sequence_num"]))
    channel = message["channel"]
    if channel not in {"l2_data", "market_trades", "ticker", "ticker_batch"}:
        return
    for part in message.get("events", ()):
        if channel == "l2_data":
            sides = [
                [
                    (text_of(row["price_level"]), text_of(row["new_quantity"]))
                    for row in part.get("updates", ())
                    if row["side"] in names
                ]
                for names in (("bid",), ("offer", "ask"))
            ]
            is_whole = part["type"] == "snapshot"
            yield Depth(
                part.get("product_id", "-"), *sides, is_whole, ts=ns_of(message["timestamp"])
            )
        yield from (Other(row["product_id"]) for row in part.get("trades", ()))
        for row in part.get("tickers", ()):
            bid, ask = (
                tuple(text_of(row.get(f"best_{side}{what}", 0)) for what in ("", "_quantity"))
                for side in ("bid", "ask")
            )
            yield Top(row["product_id"], bid, ask)


def _deribit(message: Any) -> list[Event]:
    params = message.get("params")
    if params is None or message.get("method") != "subscription":
        return []
    kind, body = params["channel"].partition(".")[0], params["data"]
    if kind == "trades":
        return [Other(row["instrument_name"]) for row in body]
    symbol, order = body["instrument_name"], body["timestamp"] * MS
    if kind != "book":
        names = ("best_bid_price", "best_bid_amount"), ("best_ask_price", "best_ask_amount")
        bid, ask = ((text_of(body[px] or 0), text_of(body[sz] or 0)) for px, sz in names)
        return [Top(symbol, bid, ask, order)]
    if not body.get("type"):
        sides = pairs(body["bids"]), pairs(body["asks"])
        return [
            Depth(
                symbol, *sides, True, number=body["change_id"], order=order, ts=order,
                is_unverified=True,
            )
        ]  # fmt: skip
    typed = [
        [(text_of(px), "0" if action == "delete" else text_of(sz)) for action, px, sz in body[side]]
        for side in ("bids", "asks")
    ]
    return [
        Depth(
            symbol, *typed, body["type"] == "snapshot", number=body["change_id"],
            previous=body.get("prev_change_id"), order=order, ts=order,
        )
    ]  # fmt: skip


def _bitstamp(message: Any) -> list[Event]:
    answer = answered(message)
    if answer is not None:
        parts = urlsplit(answer[0]).path.strip("/").split("/")
        if len(parts) < 2 or parts[-2] != "order_book":
            return []
        return [_bitstamp_book(parts[-1], answer[1], is_whole=True, is_answer=True)]
    stream, _, symbol = message["channel"].rpartition("_")
    if stream == "live_trades":
        return [Other(symbol)]
    return [_bitstamp_book(symbol, message["data"], is_whole=stream == "order_book")]


def _bitstamp_book(symbol: str, body: Any, *, is_whole: bool, is_answer: bool = False) -> Event:
    micros = whole_of(body["microtimestamp"])
    return Depth(
        symbol, pairs(body["bids"]), pairs(body["asks"]), is_whole, number=micros, order=micros,
        ts=micros * US, is_unverified=True, is_answer=is_answer,
    )  # fmt: skip


def _hyperliquid(message: Any) -> list[Event]:
    if answered(message) is not None:
        return []
    body = message["data"]
    if message["channel"] == "trades":
        return [Other(row["coin"]) for row in body]
    order = whole_of(body["time"]) * MS
    if message["channel"] == "bbo":
        rows = [
            (text_of(row["px"]), text_of(row["sz"])) if row else ("0", "0") for row in body["bbo"]
        ]
        return [Top(body["coin"], rows[0], rows[1], order)]
    sides = [[(text_of(row["px"]), text_of(row["sz"])) for row in side] for side in body["levels"]]
    return [Depth(body["coin"], *sides, True, order=order, ts=order, is_unverified=True)]


def _normalised(message: Any) -> list[Event]:
    book, touch, trade = (message.get(name) for name in ("book", "touch", "trade"))
    if book is not None:
        number = whole_of(book.get("sequence", 0))
        previous = book.get("previous")
        is_whole = bool(book.get("whole")) and str(book["whole"]).lower() not in {"false", "0"}
        return [
            Depth(
                book["symbol"], pairs(book.get("bids", ())), pairs(book.get("asks", ())), is_whole,
                number=number, order=number, ts=whole_of(book.get("ts_event", 0)),
                previous=None if previous in {None, "null"} else whole_of(previous),
                is_unverified=number == 0 if is_whole else previous in {None, "null"},
            )
        ]  # fmt: skip
    if touch is not None:
        [bid], [ask] = pairs([touch["bid"]]), pairs([touch["ask"]])
        return [Top(touch["symbol"], bid, ask, whole_of(touch.get("sequence", 0)))]
    return [] if trade is None else [Other(trade["symbol"])]


RULES: dict[str, Rule] = {
    "bitstamp": Rule(_bitstamp, holds=True),
    "bybit": Rule(_bybit),
    "coinbase": Rule(_coinbase),
    "deribit": Rule(_deribit),
    "hyperliquid": Rule(_hyperliquid),
    "kraken": Rule(_kraken, checksum=_kraken_sum),
    "normalised": Rule(_normalised),
    "okx": Rule(_okx, checksum=_okx_sum),
    "us-equity": Rule(_normalised),
}


class Books:
    """Every book of one venue; events of a symbol wait until its steps are known."""

    def __init__(self, venue: str) -> None:
        self._rule = RULES[venue]
        self._books: dict[str, Book] = {}
        self._waiting: dict[str, list[tuple[Event, int, int]]] = {}
        self._counts: dict[int, int] = {}

    def take(
        self, payload: bytes, ts_recv: int, source: int, steps_of: Callable[[str], Steps | None]
    ) -> list[tuple[str, Shown | None]]:
        """Take in a frame; return (symbol, what its book shows) after each of its events.

        Args:
            payload: The frame, which the product did not refuse.
            ts_recv: Its receive time, ns.
            source: Where it comes from.
            steps_of: Says a symbol's steps, or None while the product does not know them.
        """
        states: list[tuple[str, Shown | None]] = []
        for event in self._rule.read(parsed(payload)):
            if isinstance(event, Count):
                if not self._count(event.number, source):
                    break
                continue
            symbol = event.symbol
            self._waiting.setdefault(symbol, []).append((event, ts_recv, source))
            steps = steps_of(symbol)
            if steps is not None:
                states.append((symbol, self._settle(symbol, steps)))
        return states

    def doubt(self, symbol: str) -> bool:
        """Return whether two unlinked streams were mixed, or a sum is of digits that were rounded off."""
        book = self._books.get(symbol)
        is_mixed = book is not None and len(book.sources) > 1 and not book.is_linked
        return is_mixed or (book is not None and book.is_doubtful)

    def old_touch(self, symbols: set[str]) -> None:
        """Take note that the product refused a touch, which is never wrong, for depth is the truth."""
        for symbol in symbols & self._books.keys():
            self._books[symbol].is_touch_optional = True

    def _settle(self, symbol: str, steps: Steps) -> Shown | None:
        book = self._books.get(symbol)
        if book is None:
            book = self._books[symbol] = Book(steps, self._rule)
        for event, ts_recv, source in self._waiting.pop(symbol, ()):
            if isinstance(event, Count):
                book.lose_of(source)
            else:
                book.take(event, ts_recv, source)
        return book.shown()

    def _count(self, number: int, source: int) -> bool:
        """Return whether a numbered message is new; one that is missing takes the trust of all books."""
        last = self._counts.get(source)
        if last is not None and 0 < number <= last:
            return False
        self._counts[source] = number
        if last is not None and number != last + 1:
            for book in self._books.values():
                book.lose_of(source)
            for waiting in self._waiting.values():
                waiting.append((Count(number), 0, source))
        return True


# -- Binance ---------------------------------------------------------------------------------------


class Diff(NamedTuple):
    """A change of a Binance book."""

    first: int
    final: int
    previous: int | None
    event_ms: int
    bids: list[Text]
    asks: list[Text]


class Answer(NamedTuple):
    """A whole Binance book, asked for."""

    update: int
    bids: list[Text]
    asks: list[Text]


Binance = Diff | Answer | Top | Other
Key = tuple[bool, str]
"""Whether it is a future, and its symbol."""


def connects(diff: Diff, update: int) -> bool:
    """Return whether a diff may be the first after a whole book."""
    is_linked = diff.previous is not None and diff.previous <= update <= diff.final
    return is_linked or diff.first <= update + 1 <= diff.final


class BinanceBook:
    """One instrument, by "How to manage a local order book correctly"."""

    def __init__(self, steps: Steps, *, is_futures: bool) -> None:
        self.sides = Sides()
        self.is_trusted = False
        self.is_doubtful = False
        self._is_futures = is_futures
        self._steps = steps
        self._held: list[Diff] = []
        self._last: int | None = None
        self._is_after_answer = False
        self._last_ms = 0
        self._number = 0
        self._laid = Laid()
        self._bid = 0

    def take(self, event: Binance, ts_recv: int) -> None:
        if isinstance(event, Diff):
            self._diff(event)
        elif isinstance(event, Answer):
            self._answer(event)
        elif isinstance(event, Top) and is_usable([event.bid, event.ask], self._steps):
            self._laid.lay(event, self._steps, ts_recv)
            self._bid = self._laid.levels[0] if self._laid.levels else self._bid

    def shown(self) -> Shown | None:
        if not self.is_trusted:
            return None
        is_laid = self._laid.levels is not None and self._laid.order > self._number
        return Shown([self.sides.best(self._laid.levels if is_laid else None)], False)

    def _diff(self, diff: Diff) -> None:
        if diff.final < diff.first or not is_usable([*diff.bids, *diff.asks], self._steps):
            return
        word = self._judge(diff)
        if word == "old":
            return
        self._is_after_answer = False
        self._last, self._last_ms = diff.final, diff.event_ms
        if word in {"gap", "restart"}:
            self.is_trusted = False
            self._held = []
            if word == "restart":
                self._laid.forget()
        if self.is_trusted:
            self._apply(diff)
        else:
            self._held.append(diff)

    def _judge(self, diff: Diff) -> str:
        last = self._last
        if last is None:
            return "next"
        if self._is_after_answer:
            if diff.final < last or (diff.final == last and not self._is_futures):
                self._last_ms = self._last_ms or diff.event_ms
                return "restart" if diff.event_ms - self._last_ms > 5_000 else "old"
            return "next" if connects(diff, last) else "gap"
        if diff.previous == last if self._is_futures else diff.first == last + 1:
            return "next"
        if diff.final <= last:
            return "restart" if diff.event_ms > self._last_ms else "old"
        return "next" if not self._is_futures and diff.first <= last else "gap"

    def _answer(self, answer: Answer) -> None:
        last = self._last or 0
        if self.is_trusted and answer.update <= last:
            return
        rest = [diff for diff in self._held if diff.final >= answer.update + (not self._is_futures)]
        if not (connects(rest[0], answer.update) if rest else last <= answer.update):
            return
        if not is_usable([*answer.bids, *answer.asks], self._steps) or self._is_elsewhere(answer):
            return
        self.is_trusted = True
        self.sides.replace(answer.bids, answer.asks, self._steps)
        self._number = answer.update
        self._held = []
        for diff in rest:
            self._apply(diff)
        if not rest:
            self._last, self._is_after_answer, self._last_ms = answer.update, True, 0

    def _is_elsewhere(self, answer: Answer) -> bool:
        if not self._bid or not answer.bids:
            return False
        bid = self._bid / self._steps.per_price
        return not abs(float(answer.bids[0][0]) / bid - 1.0) < 0.2

    def _apply(self, diff: Diff) -> None:
        self.sides.change(diff.bids, diff.asks, self._steps)
        self._number = diff.final


class BinanceBooks:
    """Every book of Binance's feeds, behind the methods of `Books`."""

    def __init__(self, venue: str) -> None:
        del venue
        self._books: dict[Key, BinanceBook] = {}
        self._waiting: dict[Key, list[tuple[Binance | None, int]]] = {}
        self._heard: dict[int, dict[bool, list[str]]] = {}
        self._early: dict[int, tuple[Any, int]] = {}

    def take(
        self, payload: bytes, ts_recv: int, source: int, steps_of: Callable[[Key], Steps | None]
    ) -> list[tuple[Key, Shown | None]]:
        """Take in a frame (see `Books.take`)."""
        message = parsed(payload)
        answer = answered(message)
        if answer is not None or "lastUpdateId" in message:
            body = message if answer is None else answer[1]
            named = (
                "" if answer is None else parse_qs(urlsplit(answer[0]).query).get("symbol", [""])[0]
            )
            return self._snapshot(body, named[:32], (ts_recv, source), steps_of)
        key, event = _binance(message["data"])
        self._hear(key, source, steps_of)
        self._waiting.setdefault(key, []).append((event, ts_recv))
        return self._settle(key, steps_of)

    def doubt(self, key: Key) -> bool:
        """Return whether it cannot be told whose an unnamed whole book was."""
        return key in self._books and self._books[key].is_doubtful

    def old_touch(self, symbols: set[Key]) -> None:
        """Binance's touches have an order of their own, which is held to exactly."""

    def _snapshot(
        self, body: Any, named: str, at: tuple[int, int], steps_of: Callable[[Key], Steps | None]
    ) -> list[tuple[Key, Shown | None]]:
        ts_recv, source = at
        heard = self._heard.setdefault(source, {False: [], True: []})
        is_futures = whole_of(body.get("E", 0)) > 0
        symbol = body.get("symbol") or named
        if not symbol and not any(heard.values()):
            self._early[source] = (body, ts_recv)
            return []
        is_unnamed = not symbol
        if is_unnamed:
            [symbol] = heard[is_futures]
        key = (is_futures, symbol)
        if is_unnamed and steps_of(key) is None:
            self._waiting.setdefault(key, []).append((None, ts_recv))
        self._hear(key, source, steps_of)
        event = Answer(whole_of(body["lastUpdateId"]), pairs(body["bids"]), pairs(body["asks"]))
        self._waiting.setdefault(key, []).append((event, ts_recv))
        return self._settle(key, steps_of)

    def _hear(self, key: Key, source: int, steps_of: Callable[[Key], Steps | None]) -> None:
        heard = self._heard.setdefault(source, {False: [], True: []})
        if key[1] in heard[key[0]]:
            return
        heard[key[0]].append(key[1])
        if source not in self._early:
            return
        body, ts_recv = self._early.pop(source)
        if steps_of(key) is None:
            # Held with the frames of an unlisted symbol, and only named once that has been settled.
            self._waiting.setdefault(key, []).append((None, ts_recv))
        elif key[0] == (whole_of(body.get("E", 0)) > 0):
            self._snapshot(body, "", (ts_recv, source), steps_of)

    def _settle(
        self, key: Key, steps_of: Callable[[Key], Steps | None]
    ) -> list[tuple[Key, Shown | None]]:
        steps = steps_of(key)
        if steps is None:
            return []
        if key not in self._books:
            self._books[key] = BinanceBook(steps, is_futures=key[0])
        book = self._books[key]
        for event, ts_recv in self._waiting.pop(key, ()):
            if event is None:
                book.is_doubtful = True
            else:
                book.take(event, ts_recv)
        return [(key, book.shown())]


def _binance(body: Any) -> tuple[Key, Any]:
    kind = body.get("e", "")
    symbol = body["s"]
    if kind == "depthUpdate":
        previous = whole_of(body.get("pu", -1))
        diff = Diff(
            whole_of(body["U"]), whole_of(body["u"]), None if previous < 0 else previous,
            whole_of(body["E"]), pairs(body["b"]), pairs(body["a"]),
        )  # fmt: skip
        return (previous >= 0, symbol), diff
    if kind in {"trade", "aggTrade"}:
        return (body.get("M") is None, symbol), Other(symbol)
    if kind == "markPriceUpdate":
        return (True, symbol), Other(symbol)
    bid, ask = (text_of(body["b"]), text_of(body["B"])), (text_of(body["a"]), text_of(body["A"]))
    return (kind != "" or bool(body.get("ps")), symbol), Top(symbol, bid, ask, whole_of(body["u"]))
