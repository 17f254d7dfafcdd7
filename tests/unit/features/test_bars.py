"""Laws of a bar's feature rows."""

import math

import numpy as np
import pytest

from finllm.domain.market import ROW_HEAD, Bar, Flag, RowKind
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.bars import BAR_TICK, BarFeatures, MarketLead

HOUR = 3_600 * 10**9
MONDAY = 1_433_165_400 * 10**9  # 2015-06-01 13:30 UTC, the open in New York


def bar(close, *, start=MONDAY, opened=None, instrument="us:AAPL", volume=1e6):
    first = close if opened is None else opened
    return Bar(
        instrument=instrument,
        ts_start=start,
        ts_recv=start + HOUR,
        open=first,
        high=max(first, close) * 1.001,
        low=min(first, close) * 0.999,
        close=close,
        volume=volume,
    )


class Stream:
    """Bars in the hand."""

    def __init__(self, lead=None):
        self.features = BarFeatures(lead)
        self.row = np.full(len(BAR_SPEC), np.nan)
        self.head = np.zeros((), ROW_HEAD)
        self.refused = ""

    def push(self, *args, **kwargs):
        self.refused = self.features.push(bar(*args, **kwargs), self.row, self.head)
        return self

    def __getitem__(self, name):
        return self.row[BAR_SPEC.columns[name]]


def sessions(n_days):
    """Starts of hourly bars: a half-hour at 09:30, then whole hours to 15:00, from Monday on."""
    for day in range(n_days):
        opens = MONDAY + (day // 5 * 7 + day % 5) * 24 * HOUR
        yield from (opens, *(opens + HOUR // 2 + i * HOUR for i in range(6)))


def test_returns_look_back_one_two_seven_and_35_bars():
    book, closes = Stream(), [100 + i for i in range(40)]
    for close, start in zip(closes, sessions(6), strict=False):
        book.push(close, start=start)
    for n in (1, 2, 7, 35):
        assert book[f"ret_{n}"] == pytest.approx((139 / (139 - n) - 1) * 1e4)


def test_a_return_is_zero_until_there_are_bars_enough():
    book = Stream().push(100.0)
    assert book["ret_1"] == book["ret_35"] == 0
    assert book["sigma"] == pytest.approx(1 / 60)
    assert book.head["flags"] == Flag.WARMING


def test_volatility_times_root_nominal_time_is_that_of_the_horizon():
    book, rng = Stream(), np.random.default_rng(5)
    close, rets = 100.0, []
    for start in sessions(200):
        before, close = close, close * (1 + 0.003 * rng.standard_normal())
        rets.append((close / before - 1) * 1e4)
        book.push(close, start=start)
    weights = [0.5 ** (age / 35) for age in range(len(rets))][::-1]
    mean = sum(w * r * r for w, r in zip(weights[1:], rets[1:], strict=True)) / sum(weights[1:])
    assert book["sigma"] * math.sqrt(7 * 3_600) == pytest.approx(math.sqrt(7 * mean), rel=1e-4)
    assert book["sigma"] * 60 == pytest.approx(30, rel=0.3)


def test_a_row_is_valid_once_the_longest_return_is_known():
    book = Stream()
    flags = [int(book.push(100.0, start=start).head["flags"]) for start in sessions(6)]
    assert flags[:35] == [Flag.WARMING] * 35
    assert set(flags[35:]) == {Flag.VALID}


def test_the_session_clock_knows_first_and_last_bar():
    book, seen = Stream(), []
    for start in sessions(2):
        book.push(100.0, start=start)
        seen.append((book["is_first"], book["is_last"], round(book["session_clock"] * 13)))
    day = [(1, 0, 0), (0, 0, 1), (0, 0, 3), (0, 0, 5), (0, 0, 7), (0, 0, 9), (0, 1, 11)]
    assert seen == day * 2


def test_weekdays_are_told_apart():
    book, seen = Stream(), []
    for start in sessions(5):
        book.push(100.0, start=start)
        seen.append((book["weekday"], book["is_monday"], book["is_friday"]))
    assert seen[::7] == [(-1, 1, 0), (-0.5, 0, 0), (0, 0, 0), (0.5, 0, 0), (1, 0, 1)]


def test_the_gap_of_the_night_is_held_through_the_session():
    starts = list(sessions(3))
    book = Stream()
    for start in starts[:7]:
        book.push(100.0, start=start)
    book.push(103.0, start=starts[7], opened=102.0)
    assert book["gap"] == pytest.approx(200)
    book.push(104.0, start=starts[8], opened=103.0)
    assert book["gap"] == pytest.approx(200)
    for start in starts[9:15]:
        book.push(104.0, start=start)
    assert book["gap"] == 0


def test_volume_and_range_are_against_their_means():
    book = Stream()
    for start in list(sessions(5))[:-1]:
        book.push(100.0, start=start, volume=1_000)
    book.push(100.0, start=list(sessions(5))[-1], volume=3_000)
    assert book["volume_rel"] == pytest.approx(math.log(3_001 / (37_000 / 35 + 1)))
    assert book["range_rel"] == pytest.approx(0, abs=1e-6)
    assert book["close_in_range"] == pytest.approx(0, abs=1e-6)


def test_the_market_leads_by_what_it_said_since_our_bar_before():
    lead = MarketLead("us:SPY")
    spy, aapl = Stream(lead), Stream(lead)
    starts = list(sessions(2))
    for i, start in enumerate(starts[:3]):
        aapl.push(100.0, start=start)  # AAPL is read first: SPY's bar before is the newest known
        known = aapl["market_ret_1"]
        spy.push(200.0 + i, start=start, instrument="us:SPY")
    assert known == pytest.approx((201 / 200 - 1) * 1e4)
    assert spy["market_ret_1"] == spy["ret_1"] == pytest.approx((202 / 201 - 1) * 1e4)
    aapl.push(100.0, start=starts[3])
    aapl.push(100.0, start=starts[4])
    assert aapl["market_ret_1"] == 0  # nothing heard of SPY since


def test_the_market_leads_a_symbol_alike_on_whichever_side_of_it_the_symbol_is_read():
    rows = []
    for spy_first in (False, True):
        lead = MarketLead("us:SPY")
        spy, other = Stream(lead), Stream(lead)
        for i, start in enumerate(sessions(2)):
            if spy_first:
                spy.push(200.0 + i % 3, start=start, instrument="us:SPY")
            other.push(100.0 + i, start=start)
            rows.append(other.row.copy())
            if not spy_first:
                spy.push(200.0 + i % 3, start=start, instrument="us:SPY")
    half = len(rows) // 2
    assert np.array_equal(rows[:half], rows[half:])
    assert len({row[BAR_SPEC.columns["market_ret_1"]] for row in rows}) > 3


@pytest.mark.parametrize("close", [math.nan, math.inf, 0.0, -5.0, 1e300])
def test_a_bar_without_a_price_changes_nothing_and_says_why(close):
    starts = list(sessions(1))
    book, clean = Stream().push(100.0, start=starts[0]), Stream().push(100.0, start=starts[0])
    book.push(close, start=starts[1])
    assert book.refused == "price_out_of_bounds"
    assert (book.head["mid2"], book.head["flags"]) == (0, 0)
    assert np.isfinite(book.row).all()
    book.push(101.0, start=starts[2])
    clean.push(101.0, start=starts[2])
    assert book.row.tobytes() == clean.row.tobytes()
    assert book.head["seq"] == 3


def test_a_bar_that_is_not_later_is_refused():
    assert Stream().push(100.0).refused == ""
    assert Stream().push(100.0).push(120.0).refused == "not_later"


def test_the_head_says_twice_the_close_in_fixed_ticks():
    head = Stream().push(123.456789).head
    assert head["mid2"] == 2 * round(123.456789 / BAR_TICK)
    assert (head["spread"], head["kind"], head["seq"]) == (0, RowKind.BAR, 1)
    assert head["ts_recv"] == head["ts_event"] == MONDAY + HOUR


def test_the_spec_names_every_column_once():
    assert len(BAR_SPEC.columns) == len(BAR_SPEC) == 21
    assert list(BAR_SPEC.columns)[:5] == ["ret_1", "ret_2", "ret_7", "ret_35", "sigma"]
