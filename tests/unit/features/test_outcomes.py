"""Laws of outcomes: valued as of the target, void rather than guessed."""

import numpy as np
import pytest

from finllm.domain.instrument import Horizon
from finllm.domain.label import DOWN, FLAT, UP
from finllm.domain.market import ROW_HEAD, Flag
from finllm.features import outcomes as oc
from finllm.features.outcomes import NEVER, OutcomeResolver

T0 = 1_700_000_000 * 10**9
S = 10**9
CLOCK = (
    Horizon(name="1s", ns=S, nominal_s=1.0, band="half_spread"),
    Horizon(name="60s", ns=60 * S, nominal_s=60.0, band="sigma"),
)
BARS = (
    Horizon(name="1h", ns=1_800 * S, events=1, nominal_s=3_600.0, band="sigma"),
    Horizon(name="1d", ns=19_800 * S, events=7, nominal_s=25_200.0, band="sigma"),
)


def head(ts, mid2, flags=Flag.VALID, seq=1):
    record = np.zeros((), ROW_HEAD)
    record["seq"], record["ts_recv"], record["mid2"], record["flags"] = seq, ts, mid2, flags
    return record


@pytest.fixture
def resolver():
    return OutcomeResolver("x:BTC", CLOCK)


def test_a_target_is_valued_at_the_last_row_not_later_than_it(resolver):
    resolver.open("f", 0, T0, 20_000, 1.0)
    assert resolver.next_due == T0 + S
    [outcome] = resolver.resolve(head(T0 + S, 20_010), T0 + S + 1)
    assert outcome.return_bps == pytest.approx(5)
    assert (outcome.label, outcome.void, outcome.horizon) == (UP, "", "1s")
    assert outcome.ts_resolved == T0 + S + 1
    assert resolver.next_due == NEVER


def test_rows_that_share_the_target_time_still_count(resolver):
    resolver.open("f", 0, T0, 20_000, 1.0)
    assert resolver.resolve(head(T0 + 5, 20_000), T0 + S) == []
    assert resolver.pending == 1


@pytest.mark.parametrize(
    ("mid2", "which"),
    [(20_002, UP), (20_001, FLAT), (20_000, FLAT), (19_999, FLAT), (19_998, DOWN)],
)
def test_the_label_is_that_of_the_domain(resolver, mid2, which):
    resolver.open("f", 0, T0, 20_000, 1.0)
    [outcome] = resolver.resolve(head(T0 + S, mid2), T0 + 2 * S)
    assert outcome.label == which


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (head(T0 + S, 20_000, Flag.RESYNCING), oc.NOT_VALID),
        (head(T0 + S, 20_000, Flag.WARMING), oc.NOT_VALID),
        (head(T0 + S, 0), oc.NOT_VALID),
        (head(T0 + S - 5 * S - 1, 20_000), oc.SILENT),
        (head(T0 + S + 1, 20_000), oc.MISSED),
        (None, oc.NO_ROW),
    ],
)
def test_a_target_that_was_not_seen_well_is_void(resolver, last, reason):
    resolver.open("f", 0, T0, 20_000, 1.0)
    [outcome] = resolver.resolve(last, T0 + 9 * S)
    assert (outcome.label, outcome.void, outcome.return_bps) == (-1, reason, 0.0)


def test_silence_up_to_five_seconds_or_half_the_horizon_is_borne(resolver):
    resolver.open("short", 0, T0, 20_000, 1.0)
    resolver.open("long", 1, T0, 20_000, 1.0)
    [short] = resolver.resolve(head(T0 - 4 * S, 20_000), T0 + 2 * S)
    [long] = resolver.resolve(head(T0 + 30 * S, 20_000), T0 + 90 * S)
    assert short.label == long.label == FLAT
    resolver.open("long", 1, T0, 20_000, 1.0)
    [long] = resolver.resolve(head(T0 + 30 * S - 1, 20_000), T0 + 90 * S)
    assert long.void == oc.SILENT


def test_a_forecast_without_a_price_is_void(resolver):
    resolver.open("f", 0, T0, 0, 1.0)
    [outcome] = resolver.resolve(head(T0 + S, 20_000), T0 + 2 * S)
    assert outcome.void == oc.NO_PRICE


def test_outcomes_come_by_due_time_and_then_in_order_of_opening(resolver):
    resolver.open("a", 1, T0 - 59 * S, 20_000, 1.0)
    resolver.open("b", 0, T0, 20_000, 1.0)
    resolver.open("c", 0, T0 - 1, 20_000, 1.0)
    found = resolver.resolve(head(T0 + S - 1, 20_000), T0 + 2 * S)
    assert [outcome.forecast_id for outcome in found] == ["c", "a", "b"]


def test_what_is_left_at_the_end_is_void_and_said_so(resolver):
    resolver.open("f", 1, T0, 20_000, 1.0)
    [outcome] = resolver.abandon(T0 + S)
    assert outcome.void == oc.ENDED
    assert (resolver.pending, resolver.next_due) == (0, NEVER)


def bar(i, mid2, flags=Flag.VALID):
    return head(T0 + i * 3_600 * S, mid2, flags, seq=i)


def test_an_event_horizon_is_valued_at_the_nth_later_bar_however_long_it_takes():
    resolver = OutcomeResolver("us:AAPL", BARS)
    found = {}
    for i in range(1, 20):
        ts = T0 + i * 3_600 * S
        for outcome in resolver.resolve(bar(i, 20_000 + 10 * i), ts):
            found[outcome.forecast_id] = (outcome.return_bps, outcome.ts_resolved)
        resolver.open(f"{i}h", 0, ts, 20_000 + 10 * i, 1.0)
        resolver.open(f"{i}d", 1, ts, 20_000 + 10 * i, 1.0)
    assert resolver.next_due == NEVER
    assert resolver.pending == 8
    for i in range(1, 12):
        value, ts_resolved = found[f"{i}d"]
        assert value == pytest.approx(70 / (20_000 + 10 * i) * 1e4)
        assert ts_resolved == T0 + (i + 7) * 3_600 * S


def test_a_bar_that_was_not_shown_makes_its_target_void():
    resolver = OutcomeResolver("us:AAPL", BARS)
    resolver.resolve(bar(1, 20_000), T0 + 3_600 * S)
    resolver.open("f", 0, T0 + 3_600 * S, 20_000, 1.0)
    [outcome] = resolver.resolve(bar(3, 20_000), T0 + 3 * 3_600 * S)
    assert outcome.void == oc.MISSED


def test_an_event_horizon_needs_the_bar_it_counts_from():
    resolver = OutcomeResolver("us:AAPL", BARS)
    with pytest.raises(ValueError, match="resolve the bar"):
        resolver.open("f", 0, T0, 20_000, 1.0)


def test_a_head_may_be_an_array_of_one_or_a_record(resolver):
    for last in (head(T0 + S, 20_010).reshape(1), head(T0 + S, 20_010)[()]):
        resolver.open("f", 0, T0, 20_000, 1.0)
        [outcome] = resolver.resolve(last, T0 + 2 * S)
        assert outcome.label == UP
