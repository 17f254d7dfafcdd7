"""Laws of the features room: streaming is recomputation, the past is final, everything is finite."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finllm.domain.instrument import Horizon
from finllm.domain.label import label, return_bps
from finllm.domain.market import ROW_HEAD, VIEW_SIZE, Bar, BookView, Flag, RowKind
from finllm.features import book_state as bs
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.bars import BAR_TICK, BarFeatures, MarketLead
from finllm.features.book import BookFeatures, BookRows
from finllm.features.book_spec import BOOK_SPEC
from finllm.features.outcomes import OutcomeResolver
from finllm.market.feed import Market
from finllm.market.tape import read_frames
from finllm.runtime.tally import Tally

T0 = 1_700_000_000_123_456_789
MS, S = 10**6, 10**9
V = BookView


# -- the slow recomputation: plain Python from the list of events, nothing shared but the words -------


@dataclass
class Seen:
    """What one event adds, as a person would write it down."""

    ts: int
    sums: dict[int, int] = field(default_factory=dict)


def cut(size: int) -> int:
    return min(max(size, 0), 2**40)


def side(view, n_at, px_at, sz_at):
    n = 1 if view[V.FLAGS] & Flag.RESYNCING else min(view[n_at], 10)
    return [(view[px_at + i], cut(view[sz_at + i])) for i in range(n)]


def flow(before, after, sign):
    """Order flow of one level of one side, Cont, Kukanov & Stoikov."""
    (old_px, old), (new_px, new) = before, after
    if new_px == old_px:
        return sign * (new - old)
    return sign * new if (new_px > old_px) == (sign > 0) else -sign * old


def changed(before, after, sign):
    """Sizes after less sizes before, at every price that both lists of levels know."""
    last = max(before[-1][0] * sign, after[-1][0] * sign)
    old, new = dict(before), dict(after)
    return [new.get(p, 0) - old.get(p, 0) for p in old.keys() | new.keys() if p * sign >= last]


def cell_of(view):
    """The cell of the microprice (spread class, imbalance class), and the side of the longer queue."""
    bid, ask = cut(view[V.BID_SZ]), cut(view[V.ASK_SZ])
    lean = min(5 * abs(bid - ask) // (bid + ask), 4)
    spread = min(max(view[V.ASK_PX] - view[V.BID_PX], 1), 4)
    return (spread, lean), (bid > ask) - (bid < ask)


def has_touch(view):
    return (
        view[V.N_BIDS] > 0
        and view[V.N_ASKS] > 0
        and 0 < view[V.BID_PX] < 2**40
        and 0 < view[V.ASK_PX] < 2**40
        and view[V.BID_SZ] > 0
        and view[V.ASK_SZ] > 0
    )


class Recomputation:
    """Every event since the start, kept; every window summed anew."""

    def __init__(self):
        self.seen, self.mids, self.now = [], [], 0
        self.start = self.ts_move = self.ts_trade = 0
        self.resyncing = False
        self.warm = []
        self.last = None
        self.move = 0
        self.ewma = []  # (weight-free) squared returns of whole seconds, oldest first
        self.spreads = []  # (spread, from, to) of every spread that stood
        self.stays = {}  # cell of the microprice: (leaning views, views, what came) of every stay
        self.stay = []  # (cell, side) of every view since the last mid move
        self.spread = 0

    def restart(self, ts):
        self.spread, self.stay = 0, []
        self.seen, self.mids, self.warm, self.last = [], [], [], None
        self.start, self.move, self.ts_move, self.ts_trade = ts, 0, 0, 0
        self.sampled = (0, 0)

    def add(self, view):
        ts, resyncing = view[V.TS_RECV], bool(view[V.FLAGS] & Flag.RESYNCING)
        if not self.now or self.now - ts > 10 * S or (resyncing and not self.resyncing):
            self.restart(ts)
        else:
            ts = max(ts, self.now)
        self.now, self.resyncing = ts, resyncing
        if not resyncing:
            self.warm.append(ts)
        self.sample(ts)
        self.seen.append(Seen(ts, self.measured(view, ts)))

    def sample(self, ts):
        """Squared returns between the mids at the ends of whole seconds."""
        if not self.mids:
            return
        second = ts // S
        known, mid2 = self.sampled
        if second == known:
            return
        if mid2:
            ret = (self.mids[-1] / mid2 - 1) * 1e4
            self.ewma += [ret * ret] + [0.0] * (second - known - 1)
        self.sampled = (second, self.mids[-1])

    def measured(self, view, ts):
        sums = {bs.EVENTS: 1}
        if view[V.KIND] == RowKind.TRADE:
            size = cut(view[V.TRADE_SZ])
            sums |= {bs.TRADES: 1, bs.TURNOVER: size}
            sums[bs.FLOW] = size * int(np.sign(view[V.TRADE_SIDE]))
            self.ts_trade = ts
        if not has_touch(view) or view[V.BID_PX] > view[V.ASK_PX]:
            return sums
        mid2 = view[V.BID_PX] + view[V.ASK_PX]
        if self.mids and mid2 != self.mids[-1]:
            self.move = max(min(mid2 - self.mids[-1], 2**20), -(2**20))
            self.ts_move = ts
            sums |= {bs.MOVE: self.move, bs.SQUARED: self.move**2}
        if not self.mids:
            self.sampled = (ts // S, 0)
        self.mids.append(mid2)
        self.quote(view, ts, sums.get(bs.MOVE, 0))
        return sums | self.levels(view)

    def levels(self, view):
        """Depth on the five best levels of a side, and what flowed to and from them."""
        bids = side(view, V.N_BIDS, V.BID_PX, V.BID_SZ)[:5]
        asks = side(view, V.N_ASKS, V.ASK_PX, V.ASK_SZ)[:5]
        best = (bids[0][1], asks[0][1])
        sums = {bs.SAMPLES: 1, bs.DEPTH: sum(best), bs.SMALLEST: min(best)}
        sums[bs.LEVELS_SEEN] = len(bids) + len(asks)
        sums[bs.LEVEL_DEPTH] = min(sum(size for _, size in bids + asks), 2**40)
        if self.last is not None:
            pairs = [(*p, 1) for p in zip(self.last[0], bids, strict=False)]
            pairs += [(*p, -1) for p in zip(self.last[1], asks, strict=False)]
            both = zip(
                self.last[0][:1] + self.last[1][:1], bids[:1] + asks[:1], (1, -1), strict=True
            )
            sums[bs.OFI] = max(min(sum(flow(*p) for p in both), 2**40), -(2**40))
            sums[bs.MLOFI] = max(min(sum(flow(*p) for p in pairs), 2**40), -(2**40))
            sides = [(self.last[0], bids, 1), (self.last[1], asks, -1)]
            changes = [c for before, after, sign in sides for c in changed(before, after, sign)]
            sums[bs.CAME] = min(sum(c for c in changes if c > 0), 2**40)
            sums[bs.LEFT] = min(sum(-c for c in changes if c < 0), 2**40)
        self.last = (bids, asks)
        return sums

    def quote(self, view, ts, move):
        """Keep the spread that stood, and what came after each stay in a cell of the microprice."""
        if self.spread:
            self.spreads.append((self.spread, self.since, ts))
        self.spread, self.since = max(view[V.ASK_PX] - view[V.BID_PX], 1), ts
        cell, side = cell_of(view)
        if move:
            target = max(min(move, 256), -256) + side * self.expected_move(cell)
            for other in {seen for seen, _ in self.stay}:
                leans = [lean for seen, lean in self.stay if seen == other]
                self.stays.setdefault(other, []).append((sum(leans), len(leans), target))
            self.stay = []
        self.stay.append((cell, side))

    def expected_move(self, cell):
        """The forgotten mean of what came after the stays in a cell, and a hundred views of nothing."""
        stays = self.stays.get(cell, ())
        kept = [0.5 ** (age / 100) for age in range(len(stays))][::-1]
        total = math.fsum(
            k * lean * target for k, (lean, _, target) in zip(kept, stays, strict=True)
        )
        weight = math.fsum(k * n for k, (_, n, _) in zip(kept, stays, strict=True))
        return max(min(total / (weight + 100), 256), -256)

    def mean_spread(self):
        """The mean of every spread that stood, by the time that it stood; half of it fades a minute."""
        total = weight = later = 0.0
        for spread, since, until in reversed(self.spreads):
            fades = 2.0 ** (-later / 60e9)
            share = fades * -math.expm1(-math.log(2) * (until - since) / 60e9)
            total, weight, later = total + share * spread, weight + share, later + until - since
        return total / weight if weight else 0.0

    def total(self, column, n_slots, slot):
        since = self.now // slot - n_slots
        return sum(e.sums.get(column, 0) for e in self.seen if e.ts // slot > since)

    def fine(self, column, ms):
        return self.total(column, ms, MS)

    def coarse(self, column, s):
        return self.total(column, s * 20, 50 * MS)

    def sigma(self):
        floor = 1 / self.mids[-1] * 1e4 / math.sqrt(60) if self.mids else 1e-3
        weights = [0.5 ** (age / 30) for age in range(len(self.ewma))][::-1]
        if not weights:
            return floor
        mean = math.fsum(w * x for w, x in zip(weights, self.ewma, strict=True)) / math.fsum(
            weights
        )
        return max(math.sqrt(mean), floor)


def slog(x):
    return math.copysign(math.log1p(abs(x)), x)


def ratio(bid, ask):
    return (bid - ask) / (bid + ask) if bid + ask else 0.0


def over(past, column, name):
    """The sum of a column over the window that a column's name ends in."""
    if name.endswith("ms"):
        return past.fine(column, int(name[:-2]))
    s = int(name[:-1])
    return past.fine(column, 1000 * s) if s <= 2 else past.coarse(column, s)


def length(past, s):
    return min(s, max((past.now - past.start) / 1e9, s / 5))


def expected(view, past):
    """The row of the newest event, by name."""
    row = dict.fromkeys(BOOK_SPEC.columns, 0.0)
    n10 = past.coarse(bs.SAMPLES, 10)
    touch = past.coarse(bs.DEPTH, 10) / (2 * n10) if n10 else 1.0
    row["sigma"] = past.sigma()
    scale = max(row["sigma"] * (past.mids[-1] if past.mids else 1) / 1e4, past.spread, 1)
    row |= expected_flows(past, touch) | expected_rates(past, touch)
    for name, s in (("500ms", 0.5), ("1s", 1), ("10s", 10)):
        row[f"ret_{name}"] = slog(over(past, bs.MOVE, name) / scale / math.sqrt(s))
    for s in (1, 10, 60):
        realised = math.sqrt(over(past, bs.SQUARED, f"{s}s") / length(past, s))
        row[f"rv_{s}s"] = math.log(max(realised / scale, 0.05))
    row["last_move_sign"] = float(np.sign(past.move))
    for name, ts in (("since_move", past.ts_move), ("since_trade", past.ts_trade)):
        row[name] = math.log(min(max((past.now - max(ts, past.start)) / 1e9, 1e-4), 60))
    if has_touch(view):
        row |= expected_of_touch(view, past, row["sigma"], scale)
    return row


def expected_flows(past, touch):
    row, level = {}, 1.0
    if past.coarse(bs.LEVEL_DEPTH, 10):
        level = past.coarse(bs.LEVEL_DEPTH, 10) / past.coarse(bs.LEVELS_SEEN, 10)
    for name in ("100ms", "500ms", "2s", "10s"):
        row[f"ofi_{name}"] = slog(over(past, bs.OFI, name) / touch)
        row[f"mlofi_{name}"] = slog(over(past, bs.MLOFI, name) / level)
        row[f"flow_{name}"] = slog(over(past, bs.FLOW, name) / touch)
    for name, s in (("2s", 2), ("10s", 10)):
        came, left = over(past, bs.CAME, name), over(past, bs.LEFT, name)
        cancelled = max(left - over(past, bs.TURNOVER, name), 0)
        row[f"cancel_rate_{name}"] = math.log1p(cancelled / touch / length(past, s))
        row[f"resilience_{name}"] = ratio(came, left)
    newest = past.seen[-1].sums
    if newest.get(bs.LEVEL_DEPTH):
        now = newest[bs.LEVEL_DEPTH] / newest[bs.LEVELS_SEEN]
        for s in (10, 60):
            mean = past.coarse(bs.LEVEL_DEPTH, s) / past.coarse(bs.LEVELS_SEEN, s)
            row[f"depletion_{s}s"] = math.log(now / mean)
    return row


def expected_rates(past, touch):
    row = {}
    for name, s in (("500ms", 0.5), ("2s", 2)):
        row[f"event_rate_{name}"] = math.log1p(over(past, bs.EVENTS, name) / length(past, s))
    row["trade_rate_2s"] = math.log1p(past.fine(bs.TRADES, 2000) / length(past, 2))
    lately, mean = (past.coarse(bs.TRADES, s) / length(past, s) for s in (10, 60))
    row["trade_rate_rel"] = math.log((lately + 0.1) / (mean + 0.1))
    row["turnover_10s"] = math.log1p(past.coarse(bs.TURNOVER, 10) / touch)
    return row


def expected_of_touch(view, past, sigma, scale):
    row = {}
    bids = [size for _, size in side(view, V.N_BIDS, V.BID_PX, V.BID_SZ)]
    asks = [size for _, size in side(view, V.N_ASKS, V.ASK_PX, V.ASK_SZ)]
    for n in (1, 3, 5, 10):
        row[f"obi_{n}"] = ratio(sum(bids[:n]), sum(asks[:n]))
    row["log_queue_ratio"] = math.log(bids[0] / asks[0])
    n10 = past.coarse(bs.SAMPLES, 10)
    if n10:
        row["min_queue"] = math.log(min(bids[0], asks[0]) / (past.coarse(bs.SMALLEST, 10) / n10))
    bid, ask = view[V.BID_PX], view[V.ASK_PX]
    mid, spread = (bid + ask) / 2, ask - bid
    wmid = (ask * bids[0] + bid * asks[0]) / (bids[0] + asks[0])
    row["wmid_offset"] = slog(2 * (wmid - mid) / scale)
    if spread >= 0:
        cell, lean = cell_of(view)
        row["microprice_offset"] = slog(lean * past.expected_move(cell) / scale)
    row["log_spread"] = math.log(max(spread, 1))
    if past.mean_spread():
        row["spread_rel"] = math.log(max(spread, 1) / past.mean_spread())
    row["sigma_half_spread"] = math.log(sigma / (max(spread, 1) / 2 / mid * 1e4))
    row["last_move_size"] = math.log1p(abs(past.move) / max(spread, 1))
    mean = sum(bids + asks) / len(bids + asks)
    row["depth_slope"] = math.log(mean / ((bids[0] + asks[0]) / 2))
    row["depth_slope_skew"] = math.log(sum(bids) / len(bids) / bids[0]) - math.log(
        sum(asks) / len(asks) / asks[0]
    )
    near, middle, far = bids[:3] + asks[:3], bids[3:7] + asks[3:7], bids[7:] + asks[7:]
    if sum(middle) and sum(far):
        near, middle, far = (math.log(sum(part) / len(part)) for part in (near, middle, far))
        row["depth_convexity"] = near - 2 * middle + far
    return row


# -- random books ----------------------------------------------------------------------------------

STEPS = (0, 1, 400_000, MS, 37 * MS, 400 * MS, 3 * S, 11 * S, 70 * S, -5 * MS, -20 * S)
FLAGS = (1, 1, 1, 1, int(Flag.RESYNCING), int(Flag.VALID | Flag.STALE), int(Flag.UNVERIFIED))
event = st.tuples(
    st.sampled_from(STEPS),
    st.sampled_from((1, 2, 3)),
    st.sampled_from(FLAGS),
    st.integers(-3, 3),
    st.sampled_from((1, 1, 1, 2, 5, 0, -2)),
    st.integers(0, 10),
    st.integers(0, 10),
    st.sampled_from((5, 5, 400, 2**45, 2**62)),
    st.integers(0, 2**32 - 1),
)


def views_of(events):
    """Turn drawn events into views, int64 [n, VIEW_SIZE]."""
    views = np.zeros((len(events), VIEW_SIZE), np.int64)
    ts, bid = T0, 50_000
    for i, (step, kind, flags, move, spread, n_bids, n_asks, largest, seed) in enumerate(events):
        rng = np.random.default_rng(seed)
        ts, bid = ts + step, bid + move
        view = views[i]
        view[V.KIND], view[V.FLAGS], view[V.TS_RECV], view[V.TS_EVENT] = kind, flags, ts, ts - 5
        view[V.SEQ] = i + 1
        if kind == RowKind.TRADE:
            view[V.TRADE_SIDE], view[V.TRADE_SZ] = rng.choice([-1, 1]), rng.integers(0, largest)
        view[V.N_BIDS], view[V.N_ASKS] = n_bids, n_asks
        gaps = np.cumsum(rng.integers(1, 3, 10)) - 1
        view[V.BID_PX : V.BID_PX + n_bids] = (bid - gaps)[:n_bids]
        view[V.ASK_PX : V.ASK_PX + n_asks] = (bid + spread + gaps)[:n_asks]
        view[V.BID_SZ : V.BID_SZ + n_bids] = rng.integers(1, largest, 10)[:n_bids]
        view[V.ASK_SZ : V.ASK_SZ + n_asks] = rng.integers(1, largest, 10)[:n_asks]
    return views


def rows_of(views):
    """Return rows float64 [n, columns] and heads."""
    rows = np.zeros((len(views), len(BOOK_SPEC)))
    heads = np.zeros(len(views), ROW_HEAD)
    features = BookFeatures()
    for i, view in enumerate(views):
        features.push(view, rows[i], heads[i : i + 1])
    return rows, heads


@settings(deadline=None, max_examples=50)
@given(st.lists(event, min_size=1, max_size=40))
def test_streaming_is_recomputation(events):
    views = views_of(events)
    features, past = BookFeatures(), Recomputation()
    row, head = np.zeros(len(BOOK_SPEC)), np.zeros((), ROW_HEAD)
    for i, view in enumerate(views):
        features.push(view, row, head)
        plain = [int(x) for x in view]
        past.add(plain)
        if i % 5 and i < len(views) - 1:  # the recomputation is slow: every fifth row, and the last
            continue
        for column in range(bs.EVENTS, bs.LEFT + 1):
            for window, ms in zip((bs.W_100MS, bs.W_500MS, bs.W_1S, bs.W_2S), bs.FINE, strict=True):
                assert features._state[window, column] == past.fine(column, ms)
            assert features._state[bs.W_10S, column] == past.coarse(column, 10)
            assert features._state[bs.W_60S, column] == past.coarse(column, 60)
        for name, value in expected(plain, past).items():
            assert row[BOOK_SPEC.columns[name]] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def expected_of_leader(view, past, mine):
    """What a follower hears, from the list of its leader's events and of its own."""
    row = dict.fromkeys(("lead_ret_100ms", "lead_ret_500ms", "lead_ofi_500ms", "lead_known"), 0.0)
    trusted = has_touch(view) and view[V.BID_PX] <= view[V.ASK_PX]
    age = mine.now - past.now
    if not trusted or view[V.FLAGS] & Flag.RESYNCING or not 0 <= age <= 5 * S:
        return row
    row["lead_known"] = 1.0
    mid2 = mine.mids[-1] if mine.mids else 1
    scale = max(mine.sigma(), max(mine.spread, 1) / mid2 * 1e4) / 1e4
    for name, ms in (("lead_ret_100ms", 100), ("lead_ret_500ms", 500)):
        if age < ms * MS:
            ret = past.fine(bs.MOVE, ms) / past.mids[-1]
            row[name] = slog(ret / scale / math.sqrt(ms / 1e3))
    if age < 500 * MS:
        touch = past.coarse(bs.DEPTH, 10) / (2 * past.coarse(bs.SAMPLES, 10))
        row["lead_ofi_500ms"] = slog(past.fine(bs.OFI, 500) / touch)
    return row


def rows_of_pair(views, turns):
    """Return the rows of a leader's and a follower's views, in turns; True is the leader's."""
    features = BookRows()
    leader, follower = features.features("x:BTCUSDT"), features.features("x:ETHUSDT")
    rows, head = np.zeros((len(turns), len(BOOK_SPEC))), np.zeros((), ROW_HEAD)
    for view, leads, row in zip(views, turns, rows, strict=True):
        (leader if leads else follower).push(view, row, head)
    return rows


turns_of = st.lists(st.tuples(event, st.booleans()), min_size=2, max_size=40)


@settings(deadline=None, max_examples=50)
@given(turns_of)
def test_what_a_leader_said_is_recomputation(drawn):
    turns = [leads for _, leads in drawn]
    views = views_of([step for step, _ in drawn])
    rows = rows_of_pair(views, turns)
    leader, follower, newest = Recomputation(), Recomputation(), None
    silent = dict.fromkeys(("lead_ret_100ms", "lead_ret_500ms", "lead_ofi_500ms", "lead_known"), 0)
    for view, leads, row in zip(views.tolist(), turns, rows, strict=True):
        (leader if leads else follower).add(view)
        newest = view if leads else newest
        heard = silent
        if not leads and newest is not None:
            heard = expected_of_leader(newest, leader, follower)
        for name, value in heard.items():
            assert row[BOOK_SPEC.columns[name]] == pytest.approx(value, rel=1e-9, abs=1e-9), name


@settings(deadline=None, max_examples=30)
@given(turns_of, st.data())
def test_a_followers_row_is_final_whatever_its_leader_does_next(drawn, data):
    n = data.draw(st.integers(1, len(drawn) - 1))
    other = drawn[:n] + data.draw(turns_of)
    rows, again = (
        rows_of_pair(views_of([step for step, _ in part]), [leads for _, leads in part])
        for part in (drawn, other)
    )
    assert rows[:n].tobytes() == again[:n].tobytes()


wild = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 12), st.just(VIEW_SIZE)),
    elements=st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 12), st.just(T0)),
)


@settings(deadline=None, max_examples=60)
@given(wild)
def test_no_view_makes_a_row_that_is_not_finite(views):
    rows, heads = rows_of(views)
    assert np.isfinite(rows).all()
    assert np.isfinite(rows_of_pair(views, [i % 2 == 0 for i in range(len(views))])).all()
    assert (rows[:, BOOK_SPEC.columns["sigma"]] > 0).all()
    assert not (heads["flags"] & Flag.VALID).any()  # twelve rows are never warm


@settings(deadline=None, max_examples=30)
@given(st.lists(event, min_size=1, max_size=40))
def test_valid_means_a_warm_uncrossed_book_that_the_market_calls_valid(events):
    views = views_of([*events] * 3)
    rows, heads = rows_of(views)
    assert np.isfinite(rows).all()
    for view, head in zip(views, heads, strict=True):
        if head["flags"] & Flag.VALID:
            assert view[V.FLAGS] & Flag.VALID
            assert head["spread"] > 0
            assert head["mid2"] == view[V.BID_PX] + view[V.ASK_PX]
            assert not head["flags"] & (Flag.WARMING | Flag.CROSSED | Flag.LOCKED)
        else:
            assert head["flags"] & ~Flag.VALID or not has_touch(view) or not view[V.FLAGS] & 1


@settings(deadline=None, max_examples=30)
@given(st.lists(event, min_size=2, max_size=40), st.data())
def test_a_row_is_final_whatever_comes_after(events, data):
    n = data.draw(st.integers(1, len(events) - 1))
    other = data.draw(st.lists(event, max_size=20))
    rows, heads = rows_of(views_of(events))
    again, heads_again = rows_of(views_of(events[:n] + other))
    assert rows[:n].tobytes() == again[:n].tobytes()
    assert heads[:n].tobytes() == heads_again[:n].tobytes()


def test_a_planted_look_ahead_would_be_found():
    rng = np.random.default_rng(7)
    steps = [
        (MS * int(rng.integers(1, 99)), 2, 1, int(rng.integers(-1, 2)), 1, 5, 5, 90, i)
        for i in range(60)
    ]
    views = views_of(steps)
    rows, _ = rows_of(views)
    peeking = rows.copy()
    peeking[:-1, 0] = rows[1:, 0]  # a column that shows the next event's imbalance
    past, wrong, right = Recomputation(), 0, 0
    for view, row, peek in zip(views, rows, peeking, strict=True):
        past.add([int(x) for x in view])
        imbalance = expected([int(x) for x in view], past)["obi_1"]
        right += row[0] == pytest.approx(imbalance)
        wrong += peek[0] != pytest.approx(imbalance)
    assert right == len(views)
    assert wrong > 50


# -- bars --------------------------------------------------------------------------------------------

HOUR = 3_600 * S
bar_step = st.tuples(
    st.sampled_from((1, 1, 1, 18, 66)),
    st.floats(0.9, 1.1),
    st.floats(1.0, 1.05),
    st.floats(0.0, 1e9),
)


def bars_of(steps, instrument="us:AAPL"):
    bars, ts, close = [], T0 // HOUR * HOUR, 100.0
    for hours, factor, stretch, volume in steps:
        ts += hours * HOUR
        opened, close = close, min(max(close * factor, 1.0), 1e6)
        high, low = max(opened, close) * stretch, min(opened, close) / stretch
        bars.append(
            Bar(
                instrument=instrument,
                ts_start=ts,
                ts_recv=ts + HOUR,
                open=opened,
                high=high,
                low=low,
                close=close,
                volume=volume,
            )
        )
    return bars


def bar_rows(bars, features=None):
    rows, heads = np.zeros((len(bars), len(BAR_SPEC))), np.zeros(len(bars), ROW_HEAD)
    features = features or BarFeatures()
    for i, bar in enumerate(bars):
        features.push(bar, rows[i], heads[i : i + 1])
    return rows, heads


def expected_bar(bars):
    """The row of the last bar, by name, from the whole list."""
    mids = [2 * round(bar.close / BAR_TICK) for bar in bars]
    rets = [(b / a - 1) * 1e4 for a, b in pairwise(mids)]
    row = {
        f"ret_{n}": (mids[-1] / mids[-1 - n] - 1) * 1e4 if len(mids) > n else 0
        for n in (1, 2, 7, 35)
    }
    weights = [0.5 ** (age / 35) for age in range(len(rets))][::-1]
    sigma = 1.0
    if rets:
        mean = math.fsum(w * r * r for w, r in zip(weights, rets, strict=True)) / math.fsum(weights)
        sigma = max(math.sqrt(mean), 1.0)
    row["sigma"] = sigma / 60
    row["ret_1_z"], row["ret_7_z"] = row["ret_1"] / sigma, row["ret_7"] / sigma / math.sqrt(7)

    def rms(n):
        last = rets[-n:]
        return max(math.sqrt(sum(r * r for r in last) / len(last)), 1.0) if last else 1.0

    row["rv_ratio"] = math.log(rms(7) / rms(35))
    ranges = [(b.high - b.low) / b.close * 1e4 for b in bars[-35:]]
    row["range"] = ranges[-1]
    row["range_rel"] = math.log(max(ranges[-1], 1) / max(sum(ranges) / len(ranges), 1))
    volumes = [b.volume for b in bars[-35:]]
    row["volume_rel"] = math.log((volumes[-1] + 1) / (sum(volumes) / len(volumes) + 1))
    firsts = [
        i for i, b in enumerate(bars) if i == 0 or b.ts_start - bars[i - 1].ts_start > 4 * HOUR
    ]
    first = firsts[-1]
    opened = 2 * round(bars[first].open / BAR_TICK)
    row["gap"] = (opened / mids[first - 1] - 1) * 1e4 if first else 0.0
    row["is_first"] = float(first == len(bars) - 1)
    row["session_clock"] = min((bars[-1].ts_start - bars[first].ts_start) / S / 23_400, 1)
    return row


@settings(deadline=None, max_examples=30)
@given(st.lists(bar_step, min_size=1, max_size=50))
def test_streaming_bars_is_recomputation(steps):
    bars = bars_of(steps)
    rows, _ = bar_rows(bars)
    for n in range(1, len(bars) + 1):
        for name, value in expected_bar(bars[:n]).items():
            got = rows[n - 1, BAR_SPEC.columns[name]]
            assert got == pytest.approx(value, rel=1e-9, abs=1e-7), name


any_float = st.floats(allow_nan=True, allow_infinity=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[any_float] * 5, st.integers(-(2**62), 2**62)), min_size=1, max_size=40))
def test_no_bar_makes_a_row_that_is_not_finite(drawn):
    bars = [
        Bar(
            instrument="us:SPY",
            ts_start=ts,
            ts_recv=ts + HOUR,
            open=o,
            high=h,
            low=lo,
            close=c,
            volume=v,
        )
        for o, h, lo, c, v, ts in drawn
    ]
    rows, heads = bar_rows(bars, BarFeatures(MarketLead("us:SPY")))
    assert np.isfinite(rows).all()
    assert (rows[:, BAR_SPEC.columns["sigma"]] > 0).all()
    assert ((heads["mid2"] > 0) == (heads["flags"] > 0)).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(bar_step, min_size=2, max_size=45), st.lists(bar_step, max_size=10), st.data())
def test_a_bar_row_is_final_whatever_comes_after(steps, other, data):
    n = data.draw(st.integers(1, len(steps) - 1))
    rows, heads = bar_rows(bars_of(steps))
    again, heads_again = bar_rows(bars_of(steps[:n] + other))
    assert rows[:n].tobytes() == again[:n].tobytes()
    assert heads[:n].tobytes() == heads_again[:n].tobytes()


# -- outcomes ----------------------------------------------------------------------------------------

LENGTHS = (S, 5 * S, 30 * S)
HORIZONS = tuple(
    Horizon(name=f"{ns // S}s", ns=ns, nominal_s=ns / S, band="half_spread") for ns in LENGTHS
)
price_row = st.tuples(
    st.sampled_from((0, 0, 100 * MS, 900 * MS, S, 4 * S, 6 * S, 40 * S)),
    st.integers(-3, 3),
    st.sampled_from((1, 1, 1, 1, int(Flag.RESYNCING))),
    st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(price_row, min_size=1, max_size=40))
def test_an_outcome_is_the_as_of_value_at_its_target(drawn):
    heads = np.zeros(len(drawn), ROW_HEAD)
    ts, mid2 = T0, 10_000
    resolver, got, opened, last = OutcomeResolver("x", HORIZONS), {}, [], None
    for i, (step, move, flags, opens) in enumerate(drawn):
        ts, mid2 = ts + step, mid2 + move
        heads[i] = (i + 1, ts, ts, mid2, 1, flags, 2)
        if ts > resolver.next_due:
            got |= {o.forecast_id: o for o in resolver.resolve(last, ts)}
        if opens:
            for h in range(3):
                resolver.open(f"{i}.{h}", h, ts, mid2, 1.5)
                opened.append((f"{i}.{h}", ts, mid2, LENGTHS[h]))
        last = heads[i]
    due = {name for name, at, _, ns in opened if at + ns < ts}
    assert got.keys() == due
    assert {o.forecast_id for o in resolver.abandon(ts)} == {name for name, *_ in opened} - due
    for name, at, mid2_from, ns in opened:
        if name not in due:
            continue
        seen = heads[heads["ts_recv"] <= at + ns][-1]
        quiet = at + ns - seen["ts_recv"] > max(5 * S, ns // 2)
        if quiet or not seen["flags"] & Flag.VALID:
            assert got[name].label == -1
            assert got[name].void
        else:
            ret = return_bps(mid2_from, int(seen["mid2"]))
            assert (got[name].return_bps, got[name].label) == (ret, label(ret, 1.5))


# -- a real recording --------------------------------------------------------------------------------


def test_rows_of_a_real_tape_are_recomputed_exactly(shared):
    path = shared / "orderbook" / "binance_frames" / "usdm_btcusdt_20240808.ndjson.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the recordings")
    market, features, past = Market(Tally()), BookFeatures(), Recomputation()
    row, head, n = np.zeros(len(BOOK_SPEC)), np.zeros((), ROW_HEAD), 0
    for frame in read_frames(path, source=0, tally=Tally()):
        if market.push(frame) != 0:
            continue
        view = market.view(0)
        features.push(view, row, head)
        plain = [int(x) for x in view]
        past.add(plain)
        n += 1
        if n % 400 == 0:
            for name, value in expected(plain, past).items():
                assert row[BOOK_SPEC.columns[name]] == pytest.approx(value, rel=1e-9, abs=1e-9), (
                    name
                )
        if n == 6_000:
            break
    assert head["flags"] == Flag.VALID
    assert features.restarts == features.clock_steps_back == 0
