"""Laws of what a leading book says to the one that follows it."""

import math

import pytest

from book_stream import MS, S, Stream
from finllm.domain.market import Flag
from finllm.features.book import BookRows
from finllm.features.lead import leader_of

LEAD = ("lead_ret_100ms", "lead_ret_500ms", "lead_ofi_500ms", "lead_known")
CALM = [(1_000, 10)], [(1_002, 10)]


@pytest.fixture
def pair():
    """A leader and its follower, both at the same time."""
    rows = BookRows()
    btc, eth = (Stream(rows.features(f"x:{name}USDT")) for name in ("BTC", "ETH"))
    return btc.push(*CALM), eth.push(*CALM)


def said(book):
    return [book[name] for name in LEAD]


def slog(x):
    return math.copysign(math.log1p(abs(x)), x)


def test_a_follower_hears_what_the_leader_did_before(pair):
    btc, eth = pair
    btc.push([(1_004, 10)], [(1_006, 10)])  # eight half-ticks up
    assert said(eth) == [0, 0, 0, 1]
    eth.push()
    ret, scale = 8 / 2_010, 2 / 2_002  # half the spread is more than the volatility known so far
    assert eth["lead_ret_100ms"] == pytest.approx(slog(ret / scale / math.sqrt(0.1)))
    assert eth["lead_ret_500ms"] == pytest.approx(slog(ret / scale / math.sqrt(0.5)))
    assert eth["lead_ofi_500ms"] == pytest.approx(slog((10 + 10) / 10))
    assert eth["ret_500ms"] == 0


def test_a_leader_does_not_lead_itself(pair):
    btc, _ = pair
    btc.push([(1_004, 10)], [(1_006, 10)])
    assert said(btc) == [0, 0, 0, 0]


def test_what_a_leader_did_is_over_when_its_window_is(pair):
    btc, eth = pair
    btc.push([(1_004, 10)], [(1_006, 10)])
    eth.push(after=100 * MS + 10 * MS)
    assert eth["lead_ret_100ms"] == 0
    assert eth["lead_ret_500ms"] > 0
    eth.push(after=400 * MS)
    assert said(eth) == [0, 0, 0, 1]


def test_a_leader_that_fell_silent_is_no_longer_known(pair):
    _, eth = pair
    assert said(eth.push(after=5 * S))[-1] == 1
    assert said(eth.push(after=1)) == [0, 0, 0, 0]


def test_a_leader_never_seen_is_not_known():
    eth = Stream(BookRows().features("x:ETHUSDT")).push(*CALM)
    assert said(eth) == [0, 0, 0, 0]


def test_a_leader_ahead_of_our_time_says_nothing(pair):
    btc, eth = pair
    btc.push([(1_004, 10)], [(1_006, 10)], after=S)
    assert said(eth.push()) == [0, 0, 0, 0]
    assert said(eth.push(after=S))[-1] == 1


@pytest.mark.parametrize(
    ("levels", "flags"),
    [(CALM, Flag.RESYNCING), (([(1_005, 10)], [(1_002, 10)]), Flag.VALID), (([], []), Flag.VALID)],
)
def test_a_leader_whose_book_cannot_be_trusted_says_nothing(pair, levels, flags):
    btc, eth = pair
    btc.push(*levels, flags=flags)
    assert said(eth.push()) == [0, 0, 0, 0]
    btc.push(*CALM)
    assert said(eth.push())[-1] == 1


def test_eth_follows_btc_of_its_own_venue_and_kind():
    assert leader_of("binance-usdm:ETHUSDT") == "binance-usdm:BTCUSDT"
    assert leader_of("binance-cm:ETHUSD_PERP") == "binance-cm:BTCUSD_PERP"
    assert leader_of("binance-usdm:BTCUSDT") == leader_of("binance-usdm:SOLUSDT") == ""


def test_another_venue_is_not_heard(pair):
    rows = BookRows()
    btc, eth = Stream(rows.features("x:BTCUSDT")), Stream(rows.features("y:ETHUSDT"))
    btc.push(*CALM)
    assert said(eth.push(*CALM)) == [0, 0, 0, 0]
