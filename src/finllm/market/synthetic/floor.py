"""The trading floor of one instrument: from the efficient price to quotes, trades and wire frames.

The touch stands still while the efficient price stays within a zone around the mid, and walks
after it in several steps once it has left the zone (`ZONE_BPS`). Inside the zone the distance tilts
the two queues at the touch and the sign of trades, so that imbalance leads the next move; a slow
noise of the queues keeps it from telling everything. Deeper, levels are born and die.

Source:
    Robert & Rosenbaum (2011), "A new approach for the dynamics of ultra-high-frequency data: the
    model with uncertainty zones", for the zone. Cont & de Larrard (2013), "Price dynamics in a
    Markovian limit order market", and Gould & Bonart (2016), "Queue imbalance as a one-tick-ahead
    price predictor", for queues that lead the price. Lillo & Farmer (2004), "The long memory of the
    efficient market", for the persistence of trade signs (here one step deep). Constants were
    chosen so that the tape is near the usdm recordings of August 2024; no recorded row is used.
"""

import math
from typing import Final

from finllm.domain.market import Frame
from finllm.domain.units import BPS, NS_PER_MS, NS_PER_S
from finllm.market.synthetic.chance import Draw, normal, waiting
from finllm.market.synthetic.ladder import Side
from finllm.market.synthetic.latent import CELL_NS, EfficientPrice
from finllm.market.synthetic.plan import Drain, Outage
from finllm.market.synthetic.settings import Listing
from finllm.market.synthetic.wire import Wire

ZONE_BPS: Final = 1.1
"""Half-width of the zone in which the touch stands still."""
_ZONE_END: Final = 0.2
"""A walk ends this share of the zone away from the efficient price."""
_TILT: Final = 2.0
"""Log-size of a queue per zone of distance."""
_QUEUE_NOISE: Final = 0.5
"""Standard deviation of the queues' own slow tilt, log-size."""
_QUEUE_MEMORY: Final = 1.0 - CELL_NS / NS_PER_S
"""That tilt forgets in about a second."""
_QUEUE_SHOCK: Final = _QUEUE_NOISE * math.sqrt(1.0 - _QUEUE_MEMORY**2)
_TRADE_SHARE: Final = 0.22
"""Share of events that are trades; the recordings have one trade for four touch changes."""
_SAME_SIGN: Final = 0.6
"""Chance that a trade repeats the sign of the last without a look at the price."""
_DEPTH_BPS: Final = 6.0
"""How far behind the touch levels are placed."""
_LEVELS: Final = (25, 40, 60)
"""Fewest, usual and most levels on a side."""
_TAIL_NS: Final = 2 * NS_PER_MS
"""Touch and trades of a grid cell stop this long before its end; the diff follows."""
_FIRST_SEQ: Final = 7_000_000_000_000
_FIRST_TRADE: Final = 5_000_000_000


class Floor:
    """One instrument's venue: keeps the book, returns what the wire carries."""

    def __init__(self, listing: Listing, price: EfficientPrice, draw: Draw, source: int) -> None:
        self._price = price
        self._draw = draw
        self._source = source
        self._wire = Wire(listing.symbol, listing.decimals)
        self._queue = listing.queue_lots
        self._bid = Side(+1, listing.ticks, listing.queue_lots)
        self._ask = Side(-1, listing.ticks + 1, listing.queue_lots)
        self._zone = max(1.0, listing.ticks * ZONE_BPS / BPS)
        self._depth = max(80, int(listing.ticks * _DEPTH_BPS / BPS))
        self._is_walking = False
        self._queue_tilt = 0.0
        self._sign = 1
        self._seq = _FIRST_SEQ
        self._sent_seq = _FIRST_SEQ
        self._trade = _FIRST_TRADE
        self._next = 0
        self._ts_recv = 0
        self._ts_ms = 0
        self._out: list[Frame] = []
        self._drain: Drain | None = None
        self._outage: Outage | None = None
        self._request = 1
        """When a snapshot is to be taken; 0 = none is wanted. 1 = at the first event."""
        self._snapshot = b""
        self._snapshot_wait = 0
        for side in (self._bid, self._ask):
            self._top_up(side)
            side.take_changes()

    def drain(self, drain: Drain) -> None:
        """Begin to thin one side."""
        self._drain = drain

    def cut(self, outage: Outage) -> None:
        """Lose the diffs of a while, and ask for a snapshot later."""
        self._outage = outage

    def cell(self, start: int, events_per_s: float) -> list[Frame]:
        """Return the frames of one grid cell, in order of receive time."""
        self._out = []
        self._queue_tilt = self._queue_tilt * _QUEUE_MEMORY + _QUEUE_SHOCK * normal(self._draw)
        if self._drain is not None and start >= self._drain.end:
            self._drain = None
        self._deliver(start)
        if start % NS_PER_S == 0:
            ts_ms = self._stamp(start + 1000)
            self._send(self._wire.mark(ts_ms, self._bid.best + self._ask.best))
        self._touch_events(start, events_per_s)
        self._deep_events()
        self._send_diff(start + CELL_NS - _TAIL_NS)
        return self._out

    # What the wire carries.

    def _stamp(self, ts: int) -> int:
        """Move receive time on and return the venue's time in ms; the feed takes 2 to 9 ms."""
        self._ts_recv = max(ts, self._ts_recv + 1000)
        latency = 2 * NS_PER_MS + int(self._draw() * self._draw() * 7 * NS_PER_MS)
        self._ts_ms = max(self._ts_ms, (self._ts_recv - latency) // NS_PER_MS)
        return self._ts_ms

    def _send(self, payload: bytes) -> None:
        self._out.append(Frame(self._ts_recv, payload, self._source))

    def _touch_events(self, start: int, events_per_s: float) -> None:
        limit = start + CELL_NS - 2 * _TAIL_NS
        mean_ns = NS_PER_S / events_per_s
        self._next = max(self._next, start)
        while self._next < limit:
            self._event(self._next)
            self._next += int(waiting(self._draw, mean_ns))

    def _event(self, ts: int) -> None:
        ts_ms = self._stamp(ts)
        self._move(ts_ms)
        self._seq += 1 + int(self._draw() * 60.0)
        self._send(self._wire.touch(ts_ms, self._seq, self._bid.touch, self._ask.touch))
        if 0 < self._request <= ts:
            self._request = 0
            self._snapshot = self._wire.snapshot(
                ts_ms, self._seq, self._bid.levels, self._ask.levels
            )
            self._snapshot_wait = 2

    def _deliver(self, start: int) -> None:
        # A snapshot comes two diffs after it was taken, so that a reader has to hold those back.
        if not self._snapshot:
            return
        self._snapshot_wait -= 1
        if self._snapshot_wait == 0:
            self._stamp(start + 1000)
            self._send(self._snapshot)
            self._snapshot = b""

    def _send_diff(self, ts: int) -> None:
        bids, asks = self._bid.take_changes(), self._ask.take_changes()
        ts_ms = self._stamp(ts)
        first, previous = self._sent_seq + 1, self._sent_seq
        self._seq += 1 + int(self._draw() * 100.0)
        self._sent_seq = self._seq
        outage = self._outage
        if outage is not None and ts >= outage.start:
            if ts < outage.end:
                return
            self._request = outage.request
            self._outage = None
        self._send(self._wire.diff(ts_ms, (first, self._seq, previous), bids, asks))

    # What happens at the touch.

    def _move(self, ts_ms: int) -> None:
        distance = self._price.ticks - (self._bid.best + self._ask.best) * 0.5
        reach = abs(distance)
        if self._is_walking or reach > self._zone:
            self._is_walking = reach > _ZONE_END * self._zone
        if self._ask.best - self._bid.best > 1 and self._draw() < 0.6:
            self._close_spread()
        elif self._is_walking and self._draw() < 0.5:
            self._step(ts_ms, 1 if distance > 0.0 else -1, reach)
        else:
            pressure = max(-1.5, min(1.5, distance / self._zone))
            if self._draw() < _TRADE_SHARE:
                self._hit(ts_ms, pressure)
            else:
                self._requote(pressure)

    def _close_spread(self) -> None:
        """Quote up to one tick from the other side, on the side that lags."""
        mid2 = self._bid.best + self._ask.best
        if self._price.ticks * 2.0 > mid2:
            self._bid.improve(self._ask.best - 1, self._fresh(self._bid, 0.0))
        else:
            self._ask.improve(self._bid.best + 1, self._fresh(self._ask, 0.0))

    def _step(self, ts_ms: int, sign: int, reach: float) -> None:
        """Walk one step: the queue in the way is eaten or pulled, the one behind may follow."""
        ahead, behind = (self._ask, self._bid) if sign > 0 else (self._bid, self._ask)
        ticks = 1 + int(reach * (0.05 + 0.45 * self._draw()))
        if self._draw() < 0.7:
            self._print(ts_ms, sign, ahead.best, min(ahead.levels[ahead.best], self._lots()))
        ahead.retreat(ahead.best + sign * ticks, self._fresh(ahead, 0.0) // 2 + 1)
        if self._draw() < 0.85:
            behind.improve(ahead.best - sign, self._fresh(behind, 0.0))

    def _hit(self, ts_ms: int, pressure: float) -> None:
        """Trade against part of the queue at the touch."""
        if self._draw() >= _SAME_SIGN:
            self._sign = 1 if self._draw() < 0.5 + 0.3 * pressure else -1
        side = self._ask if self._sign > 0 else self._bid
        standing = side.levels[side.best]
        if standing > 1:
            lots = min(self._lots(), standing // 2)
            self._print(ts_ms, self._sign, side.best, lots)
            side.put(side.best, standing - lots)

    def _requote(self, pressure: float) -> None:
        """Add to or cancel from one queue, half-way to where the pressure wants it."""
        side = self._bid if self._draw() < 0.5 else self._ask
        standing = side.levels[side.best]
        wanted = self._fresh(side, pressure)
        side.put(side.best, max(1, standing + (wanted - standing) // 2))

    def _fresh(self, side: Side, pressure: float) -> int:
        """Return the size that a queue at the touch tends to, in lots."""
        tilt = side.sign * (_TILT * pressure + self._queue_tilt)
        scale = self._queue * (0.5 if self._is_drained(side) else 1.0)
        return 1 + int(scale * math.exp(tilt) * (0.2 + 1.6 * self._draw()))

    def _lots(self) -> int:
        """Return a trade's size: a Pareto tail, median 16 lots, 5 % over 400."""
        return min(4000, 1 + int(6.0 * (1.0 - self._draw()) ** -1.4))

    def _print(self, ts_ms: int, sign: int, price: int, lots: int) -> None:
        self._trade += 1
        self._send(self._wire.trade(ts_ms, self._trade, price, lots, sign < 0))
        self._stamp(self._ts_recv)

    # What happens deeper.

    def _is_drained(self, side: Side) -> bool:
        return self._drain is not None and self._drain.is_bid == (side.sign > 0)

    def _deep_events(self) -> None:
        for side in (self._bid, self._ask):
            for _ in range(2 + int(self._draw() * 4.0)):
                self._birth_or_death(side)
            if self._is_drained(side):
                self._thin(side)
            self._top_up(side)
            while len(side.levels) > _LEVELS[2]:
                side.put(side.worst(), 0)

    def _birth_or_death(self, side: Side) -> None:
        price = self._place(side)
        if price in side.levels:
            share = 0.7 if len(side.levels) > _LEVELS[1] else 0.3
            side.put(price, 0 if self._draw() < share else self._deep_size(side, price))
        elif len(side.levels) <= _LEVELS[2]:
            side.put(price, self._deep_size(side, price))

    def _top_up(self, side: Side) -> None:
        while len(side.levels) < _LEVELS[0]:
            price = self._place(side)
            side.put(price, side.levels.get(price) or self._deep_size(side, price))

    def _place(self, side: Side) -> int:
        """Return a price behind the best, denser near the touch."""
        u = self._draw()
        return side.best - side.sign * (1 + int(self._depth * u * u))

    def _deep_size(self, side: Side, price: int) -> int:
        far = abs(side.best - price) / self._depth
        u = self._draw()
        scale = self._queue * (0.15 if self._is_drained(side) else 1.0)
        return 1 + int(scale * (0.5 + far) * u * u)

    def _thin(self, side: Side) -> None:
        """Cancel part of a few levels behind the touch; within seconds a fifth is left."""
        for price in [each for each in side.levels if each != side.best]:
            if self._draw() < 0.05:
                side.put(price, max(1, side.levels[price] * 2 // 5))
