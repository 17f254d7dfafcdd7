"""Laws of a book's feature rows."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from book_stream import MS, S, Stream
from finllm.domain.market import ROW_HEAD, BookView, Flag, RowKind
from finllm.features.book_spec import BOOK_SPEC


@pytest.fixture
def book():
    return Stream().push([(100, 30), (99, 10), (98, 20)], [(102, 10), (103, 40), (104, 40)])


def slog(x):
    return math.copysign(math.log1p(abs(x)), x)


def test_imbalance_is_cumulated_over_levels(book):
    assert book["obi_1"] == pytest.approx(20 / 40)
    assert book["obi_3"] == pytest.approx((60 - 90) / 150)
    assert book["obi_10"] == book["obi_5"] == book["obi_3"]
    assert book["log_queue_ratio"] == pytest.approx(math.log(3))


def test_the_weighted_mid_leans_to_the_thinner_queue(book):
    half_spread = 1.0  # more than the volatility known so far, so returns are measured in it
    assert book["wmid_offset"] == pytest.approx(slog((101.5 - 101) / half_spread))
    assert book["log_spread"] == pytest.approx(math.log(2))


def test_a_spread_is_told_against_the_time_that_others_stood(book):
    assert book["spread_rel"] == 0  # nothing has stood yet
    book.push(None, [(104, 10)], after=30 * S)
    assert book["spread_rel"] == pytest.approx(math.log(4 / 2))
    book.push(None, [(102, 10)], after=30 * S)
    weights = 0.5**0.5 * (1 - 0.5**0.5), 1 - 0.5**0.5
    mean = (2 * weights[0] + 4 * weights[1]) / sum(weights)
    assert book["spread_rel"] == pytest.approx(math.log(2 / mean))


@pytest.mark.parametrize(
    ("bid", "ask", "flow"),
    [
        ((100, 45), (102, 10), 15),  # queue grows at the same price
        ((100, 30), (102, 4), 6),  # ask queue shrinks
        ((101, 5), (102, 10), 5),  # a better bid brings its size
        ((99, 10), (102, 10), -30),  # the bid is gone: the old size leaves
        ((100, 30), (103, 40), 10),  # the ask is gone
        ((100, 30), (101, 7), -7),  # a better ask
    ],
)
def test_order_flow_at_the_touch_is_that_of_cont_kukanov_and_stoikov(book, bid, ask, flow):
    book.push([bid], [ask])
    touch = (40 + bid[1] + ask[1]) / 4  # mean of a touch queue over both events
    assert book["ofi_100ms"] == pytest.approx(slog(flow / touch))
    assert book["ofi_10s"] == book["ofi_100ms"]


def test_flow_over_levels_compares_only_levels_known_before_and_after(book):
    book.push([(100, 30), (99, 16)], [(102, 10), (103, 40), (104, 40), (105, 9)])
    mean_level = (150 + 145) / (6 + 6)
    assert book["mlofi_500ms"] == pytest.approx(slog(6 / mean_level))


def test_an_order_flow_leaves_its_window(book):
    book.push([(100, 35)])
    assert book["ofi_100ms"] > 0
    book.push(after=150 * MS)
    assert book["ofi_100ms"] == 0
    assert book["ofi_500ms"] > 0
    book.push(after=400 * MS)
    assert book["ofi_500ms"] == 0
    assert book["ofi_2s"] > 0


def test_trade_flow_takes_the_sign_of_the_aggressor(book):
    book.push(trade=8)
    assert book["flow_500ms"] == pytest.approx(slog(8 / 20))
    book.push(trade=-20)
    assert book["flow_500ms"] == pytest.approx(slog(-12 / 20))
    assert book["turnover_10s"] == pytest.approx(math.log1p(28 / 20))
    assert book["since_trade"] == pytest.approx(math.log(1e-4))
    book.push(after=2 * S)
    assert book["since_trade"] == pytest.approx(math.log(2))


def test_a_trade_leaves_order_flow_alone(book):
    book.push(trade=8)
    assert book["ofi_10s"] == 0


TEN = [(100 - i, 10) for i in range(10)], [(101 + i, 10) for i in range(10)]


def test_depth_that_leaves_without_a_trade_was_cancelled():
    book = Stream().push(*TEN)
    bids = [(100, 4), *TEN[0][1:]]
    book.push(bids)
    assert book["cancel_rate_2s"] == pytest.approx(math.log1p(6 / 8.5 / 0.4))
    book.push(trade=-5)  # five of the six were traded after all
    assert book["cancel_rate_2s"] == pytest.approx(math.log1p(1 / 8 / 0.4))
    book.push(trade=-1)
    assert book["cancel_rate_2s"] == 0


def test_resilience_is_what_came_back_of_what_left():
    book = Stream().push(*TEN)
    book.push([(100, 2), *TEN[0][1:]])
    assert book["resilience_2s"] == -1
    book.push([(100, 6), *TEN[0][1:]])
    assert book["resilience_2s"] == pytest.approx((4 - 8) / (4 + 8))
    book.push(TEN[0])
    assert book["resilience_2s"] == 0
    book.push([(101, 3), *TEN[0][:9]], TEN[1][1:])  # a level came, the best ask left
    assert book["resilience_2s"] == pytest.approx((8 + 3 - 8 - 10) / (8 + 3 + 8 + 10))


def test_a_level_that_comes_into_sight_from_beyond_has_not_come():
    book = Stream().push(*TEN)
    book.push(TEN[0][1:])  # the best bid left: the sixth level is now the fifth
    assert book["resilience_2s"] == -1
    assert book["cancel_rate_2s"] == pytest.approx(math.log1p(10 / 10 / 0.4))


def test_a_hidden_drain_shows_as_depletion_while_the_touch_stands_still():
    book = Stream()
    for _ in range(100):
        book.push(*TEN, after=100 * MS)
    assert book["depletion_10s"] == book["depletion_60s"] == 0
    thin = [(100, 10), *((100 - i, 1) for i in range(1, 10))]
    book.push(thin, after=100 * MS)
    assert book["obi_1"] == book["ret_10s"] == 0
    assert book["depletion_10s"] == pytest.approx(math.log(6.4 / 10), abs=0.01)
    assert book["resilience_2s"] == -1


def test_the_profile_of_depth_has_a_slope_and_a_bend():
    def profile(size):
        book = Stream().push(
            [(100 - i, size(i)) for i in range(10)], [(101 + i, size(i)) for i in range(10)]
        )
        return book["depth_slope"], book["depth_convexity"]

    assert profile(lambda _: 10) == (0, 0)
    slope, bend = profile(lambda i: 40 if 3 <= i < 7 else 10)
    assert slope > 0
    assert bend == pytest.approx(-2 * math.log(4))
    assert profile(lambda i: 10 if 3 <= i < 7 else 40)[1] == pytest.approx(2 * math.log(4))


def test_the_microprice_learns_which_way_a_lopsided_touch_moves():
    book = Stream().push([(100, 90)], [(101, 10)])
    assert book["microprice_offset"] == 0  # nothing has moved yet
    for _ in range(400):
        book.push([(100, 90)], [(101, 10)])
        book.push([(101, 50)], [(102, 50)])  # up by two half-ticks, to a balanced touch
        book.push([(101, 10)], [(102, 90)])
        book.push([(100, 50)], [(101, 50)])
    book.push([(100, 90)], [(101, 10)])
    scale = max(book["sigma"] * book.head["mid2"] / 1e4, 1)
    learnt = math.expm1(book["microprice_offset"]) * scale
    assert 1 < learnt < 2
    book.push([(100, 10)], [(101, 90)])
    assert book["microprice_offset"] < 0


def test_the_microprice_of_a_coin_toss_is_the_mid():
    rng = np.random.default_rng(5)
    book = Stream()
    bid, wrong = 1_000, []
    for _ in range(6_000):
        bid += int(rng.choice([-1, 0, 1]))
        bids, asks = rng.integers(1, 100, 2)
        book.push([(bid, bids)], [(bid + 1, asks)])
        wrong.append(book["microprice_offset"])
    assert abs(np.mean(wrong)) < 0.02
    assert np.abs(wrong[-2_000:]).max() < 0.7


def test_volatility_is_that_of_the_last_mid_of_each_second(book):
    mid2s = [202, 204, 203, 207]
    for i, mid2 in enumerate(mid2s):
        book.push([(mid2 - 105, 5)], [(105, 5)], after=S // 2 if i == 0 else S)
        book.push([(mid2 - 104, 5)], [(104, 5)], after=1)  # same mid
    book.push(after=S)
    rets = [(b / a - 1) * 1e4 for a, b in pairwise(mid2s)]
    weights = [0.5 ** (age / 30) for age in (2, 1, 0)]
    mean = sum(w * r * r for w, r in zip(weights, rets, strict=True)) / sum(weights)
    assert book["sigma"] == pytest.approx(math.sqrt(mean))


def test_volatility_has_a_floor_and_is_never_zero(book):
    assert book["sigma"] == pytest.approx(1 / 202 * 1e4 / math.sqrt(60))
    for _ in range(50):
        book.push(after=S)
    assert book["sigma"] == pytest.approx(1 / 202 * 1e4 / math.sqrt(60))


def test_a_row_warms_for_ten_seconds_and_fifty_rows():
    quick = Stream().push([(100, 5)], [(101, 5)])
    for _ in range(60):
        quick.push()
    assert quick.head["flags"] == Flag.WARMING  # enough rows, too little time
    quick.push(after=10 * S)
    assert quick.head["flags"] == Flag.VALID
    sparse = Stream().push([(100, 5)], [(101, 5)])
    for _ in range(48):
        sparse.push(after=S)
    assert sparse.head["flags"] == Flag.WARMING  # enough time, too few rows
    assert sparse.push(after=S).head["flags"] == Flag.VALID


def warm_book():
    book = Stream().push([(100, 5), (99, 9)], [(101, 5), (102, 1)])
    for _ in range(60):
        book.push(after=S)
    assert book.head["flags"] == Flag.VALID
    return book


def test_a_gap_restarts_the_windows_and_the_warming():
    book = warm_book()
    book.push([(100, 9)], trade=3)
    assert book["ofi_10s"] > 0
    book.push(flags=Flag.RESYNCING)
    assert book["ofi_10s"] == book["flow_10s"] == book["turnover_10s"] == 0
    book.push([(100, 900)], flags=Flag.VALID)
    assert book.head["flags"] == Flag.WARMING
    assert book.features.restarts == 1
    for _ in range(49):
        book.push(after=S)
    assert book.head["flags"] == Flag.VALID


def test_time_spent_resyncing_does_not_warm():
    book = Stream()
    for _ in range(100):
        book.push([(100, 5)], [(101, 5)], after=S, flags=Flag.RESYNCING)
    assert book.head["flags"] == Flag.RESYNCING | Flag.WARMING
    assert book.push(flags=Flag.VALID).head["flags"] == Flag.WARMING


def test_while_resyncing_depth_falls_back_to_the_touch():
    book = warm_book().push(flags=Flag.RESYNCING)
    assert book["obi_10"] == book["obi_1"] == 0
    assert book["depth_slope"] == 0
    assert book.push(flags=Flag.VALID)["obi_10"] == pytest.approx(8 / 20)


@pytest.mark.parametrize(
    ("bid", "ask", "flag"), [(105, 103, Flag.CROSSED), (103, 103, Flag.LOCKED)]
)
def test_a_crossed_or_locked_book_is_never_valid(bid, ask, flag):
    book = warm_book().push([(bid, 5)], [(ask, 5)])
    assert book.head["flags"] == flag


def test_a_crossed_book_moves_no_price():
    book = warm_book().push([(150, 5)], [(103, 5)])
    book.push([(100, 5)], [(101, 5)])
    assert book["ret_1s"] == 0
    assert book["rv_10s"] == math.log(0.05)  # the least that is told


def test_an_empty_side_has_no_mid_and_is_not_valid():
    book = warm_book().push([])
    assert (book.head["flags"], book.head["mid2"], book.head["spread"]) == (0, 0, 0)
    assert np.isfinite(book.row).all()
    assert book["obi_1"] == 0
    assert book.push([(100, 5)]).head["flags"] == Flag.VALID


def test_a_small_step_back_in_time_is_taken_as_none_and_counted(book):
    book.push([(100, 35)], after=S)
    before = book.row.copy()
    book.push(after=-400 * MS)
    assert book["ofi_500ms"] == pytest.approx(before[BOOK_SPEC.columns["ofi_500ms"]], rel=0.1)
    assert book.features.clock_steps_back == 1
    assert book.features.restarts == 0


def test_a_clock_that_jumps_back_restarts_and_does_not_freeze():
    book = warm_book()
    book.push(after=3_600 * S)  # one frame from the future
    book.push([(100, 9)], after=-3_600 * S)
    assert book.features.restarts == 1
    book.push([(100, 19)])
    book.push(after=200 * MS)
    assert book["ofi_100ms"] == 0
    assert book["ofi_500ms"] > 0


def test_the_head_is_the_same_as_an_array_of_one_and_of_no_dimension(book):
    for head in (np.zeros(1, ROW_HEAD), np.zeros((), ROW_HEAD)):
        book.features.push(book.view, book.row, head)
        (seq, ts_recv, ts_event, mid2, spread, flags, kind) = head.reshape(1)[0].item()
        assert (seq, ts_recv, ts_event) == (1, book.ts, book.ts - 7)
        assert (mid2, spread, kind) == (202, 2, RowKind.DEPTH)
        assert flags == Flag.WARMING


def test_heads_may_be_slots_of_a_ring(book):
    ring = np.zeros(4, ROW_HEAD)
    for i in range(4):
        book.view[BookView.SEQ] = 10 + i
        book.features.push(book.view, book.row, ring[i : i + 1])
    assert list(ring["seq"]) == [10, 11, 12, 13]


def test_memory_is_constant():
    book = Stream().push([(100, 5)], [(101, 5)])
    for _ in range(100):
        book.push(after=3 * MS, trade=1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(4_000):
        book.push([(100, 5 + i % 7)], after=(i % 11) * MS, trade=i % 3)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2_000
    assert book.features._state.nbytes < 450_000


def test_the_spec_names_every_column_once_with_unit_and_source():
    assert len(BOOK_SPEC.columns) == len(BOOK_SPEC) == 52
    assert all(feature.unit and feature.source for feature in BOOK_SPEC.features)
