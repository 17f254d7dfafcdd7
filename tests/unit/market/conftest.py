"""Hand-written frames of one futures symbol, so that a test reads as a story."""

import json

import pytest

from finllm.domain.market import Frame
from finllm.market.feed import Market
from finllm.runtime.tally import Tally

T0 = 1_700_000_000_000_000_000
MS = 1_000_000


class Story:
    """A market and the frames told to it, a millisecond apart."""

    def __init__(self, symbol: str = "BTCUSDT", **options: object) -> None:
        self.symbol = symbol
        self.tally = Tally()
        self.market = Market(self.tally, **options)
        self.now = T0
        self.told = 0
        self.last_trade = 0

    def push(self, payload: object, *, after_ns: int = MS, source: int = 0) -> int:
        self.now += after_ns
        self.told += 1
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.market.push(Frame(self.now, text, source))

    def _stream(self, name: str, data: dict[str, object], **options: int) -> int:
        return self.push({"stream": f"{self.symbol.lower()}@{name}", "data": data}, **options)

    def times(self) -> dict[str, int]:
        return {"E": self.now // MS + 1, "T": self.now // MS}

    def diff(self, first, final, previous, bids=(), asks=(), **options) -> int:
        data = {"e": "depthUpdate", **self.times(), "s": self.symbol, "U": first, "u": final}
        if previous is not None:
            data["pu"] = previous
        return self._stream("depth@0ms", data | {"b": list(bids), "a": list(asks)}, **options)

    def touch(self, final, bid=("100.0", "1"), ask=("100.1", "2"), **options) -> int:
        data = {"e": "bookTicker", "u": final, "s": self.symbol, **self.times()}
        names = {"b": bid[0], "B": bid[1], "a": ask[0], "A": ask[1]}
        return self._stream("bookTicker", data | names, **options)

    def touch_of_spot(self) -> int:
        return self._stream(
            "bookTicker",
            {"u": 5, "s": self.symbol, "b": "100.0", "B": "1", "a": "100.1", "A": "2"},
        )

    def trade(self, price="100.0", size="0.5", *, is_sell=False, number=None, **options) -> int:
        self.last_trade = number or self.last_trade + 1
        data = {"e": "trade", **self.times(), "s": self.symbol, "t": self.last_trade}
        return self._stream(
            "trade", data | {"p": price, "q": size, "X": "MARKET", "m": is_sell}, **options
        )

    def snapshot(self, update, bids=(("100.0", "1"),), asks=(("100.1", "2"),), **options) -> int:
        levels = {"bids": list(bids), "asks": list(asks)}
        return self.push({"lastUpdateId": update, **self.times(), **levels}, **options)

    def opened(self) -> "Story":
        """A touch, a diff, a snapshot and the diff that connects to it: a valid book at 20."""
        self.touch(5)
        self.diff(6, 10, 4)
        self.snapshot(10)
        assert self.diff(11, 20, 10, bids=[("99.9", "3")]) == 0
        return self

    def settle(self) -> dict[str, int]:
        """End the input; every frame must be accounted for."""
        self.market.finish()
        assert self.tally.used + sum(self.tally.dropped.values()) == self.told
        return dict(self.tally.dropped)


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def new_story() -> type[Story]:
    return Story
