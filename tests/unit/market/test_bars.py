"""Bars: when each is known, which are dropped, and how splits are carried."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finllm.domain.errors import InputError
from finllm.domain.units import NS_PER_MIN, to_ns
from finllm.market.bars import read_bars
from finllm.runtime.tally import Tally

SHARED = Path(__file__).parents[3] / ".." / "shared"
HOURLY = SHARED / "data" / "text_price" / "us_bars_hourly_to_201509.csv.gz"

HOURS = "symbol,bar_start_ny,open,high,low,close,volume"
DAYS = "symbol,date,open,high,low,close,adj_close,volume"
OWN = "instrument,ts_start,ts_recv,open,high,low,close,volume"


def read(path, text, **options):
    path.write_text(text)
    tally = Tally()
    bars = list(read_bars(path, tally=tally, **options))
    assert tally.read == tally.used + sum(tally.dropped.values())
    assert tally.used == len(bars)
    return bars, tally


def utc(text):
    return to_ns(datetime.fromisoformat(text).replace(tzinfo=UTC))


def test_the_first_hour_starts_at_half_past_nine_and_each_is_known_at_its_end(tmp_path):
    text = f"{HOURS}\nAAPL,2014-01-06 09:00,1,2,1,2,5\nAAPL,2014-01-06 10:00,1,2,1,2,5\n"
    bars, _ = read(tmp_path / "h.csv", text)
    assert bars[0].instrument == "us-equity:AAPL"
    assert (bars[0].ts_start, bars[0].ts_recv) == (
        utc("2014-01-06T14:30:00"),
        utc("2014-01-06T15:00:00"),
    )
    assert bars[1].ts_start == bars[0].ts_recv


def test_summer_time_moves_the_bars(tmp_path):
    text = f"{HOURS}\nSPY,2014-03-07 15:00,1,2,1,2,5\nSPY,2014-03-10 15:00,1,2,1,2,5\n"
    bars, _ = read(tmp_path / "h.csv", text)
    assert [bar.ts_recv for bar in bars] == [utc("2014-03-07T21:00:00"), utc("2014-03-10T20:00:00")]


def test_a_day_is_known_at_four_in_new_york(tmp_path):
    bars, _ = read(tmp_path / "d.csv", f"{DAYS}\nAAPL,2014-07-01,1,2,1,2,1.5,5\n")
    assert bars[0].ts_recv == utc("2014-07-01T20:00:00")
    assert bars[0].close == 2.0


@pytest.mark.parametrize("column", ["ts_start_ns", "ts_ms"])
def test_a_minute_is_known_at_its_end_wherever_in_it_the_stamp_lies(tmp_path, column):
    start = utc("2014-01-06T15:00:00")
    stamp = start + 17_000_000_000
    stamp = stamp if column.endswith("ns") else stamp // 1_000_000
    header = f"symbol,{column},open,high,low,close,volume"
    bars, _ = read(tmp_path / "m.csv", f"{header}\nSPY,{stamp},1,2,1,2,5\n")
    assert (bars[0].ts_start, bars[0].ts_recv) == (start, start + NS_PER_MIN)


def test_posts_give_the_bars_around_them_once_each(tmp_path):
    header = "ts_ms,text,post_price,bar_open,bar_high,bar_low,bar_close,bar_volume"
    text = f'{header}\n1737486906903,"a ""b"",\nc",9,1,2,1,2,5\n1737486916903,d,9,1,2,1,2,5\n'
    bars, tally = read(tmp_path / "p.csv", text)
    assert [bar.instrument for bar in bars] == ["us-equity:SPY"]
    assert tally.dropped == {"duplicate": 1}


def test_our_own_form_is_taken_as_it_is(tmp_path):
    bars, _ = read(tmp_path / "o.csv", f"{OWN}\nsynthetic:XYZ,100,200,1,2,1,2,5\n")
    assert (bars[0].instrument, bars[0].ts_start, bars[0].ts_recv) == ("synthetic:XYZ", 100, 200)


def test_bars_come_by_receive_time_then_instrument(tmp_path):
    rows = ["b:B,1,30,1,2,1,2,5", "a:A,1,30,1,2,1,2,5", "a:A,1,20,1,2,1,2,5"]
    bars, tally = read(tmp_path / "o.csv", "\n".join([OWN, *rows]))
    assert [(bar.ts_recv, bar.instrument) for bar in bars] == [
        (20, "a:A"),
        (30, "a:A"),
        (30, "b:B"),
    ]
    assert tally.noted["out_of_order"] == 1


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("nan,2,1,2,5", "non_finite"),
        ("1,inf,1,2,5", "non_finite"),
        ("1,2,-1,2,5", "negative"),
        ("1,2,0,2,5", "negative"),
        ("1,2,1,2,-5", "negative"),
        ("3,2,1,2,5", "inconsistent"),
        ("1,2,1.5,2,5", "inconsistent"),
        ("1,x,1,2,5", "malformed_line"),
        ("1,2", "malformed_line"),
    ],
)
def test_impossible_rows_are_dropped_with_their_line(tmp_path, cells, reason):
    path = tmp_path / "h.csv"
    good = "AAPL,2014-01-06 10:00,1,2,1,2,5"
    bars, tally = read(path, f"{HOURS}\nAAPL,2014-01-06 09:00,{cells}\n{good}\n")
    assert len(bars) == 1
    assert tally.dropped == {reason: 1}
    assert tally.first_place[reason] == f"{path}:2"


def test_of_two_bars_for_one_hour_the_first_stands(tmp_path):
    rows = ["AAPL,2014-01-06 10:00,1,2,1,2,5", "AAPL,2014-01-06 10:00,1,3,1,3,5"]
    bars, tally = read(tmp_path / "h.csv", "\n".join([HOURS, *rows]))
    assert [bar.close for bar in bars] == [2.0]
    assert tally.dropped == {"duplicate": 1}


def test_only_the_symbols_asked_for_are_kept(tmp_path):
    rows = ["AAPL,2014-01-06 10:00,1,2,1,2,5", "SPY,2014-01-06 10:00,1,3,1,3,5"]
    bars, tally = read(tmp_path / "h.csv", "\n".join([HOURS, *rows]), symbols=frozenset({"spy"}))
    assert [bar.instrument for bar in bars] == ["us-equity:SPY"]
    assert tally.dropped == {"not_asked_for": 1}


def split_file(folder, text):
    (folder / "split_factors").mkdir(exist_ok=True)
    (folder / "split_factors" / "aapl.csv").write_text(text)


SPLIT_DAY = "20140103,0.9,0.25,80\n20140606,0.9,0.5,80\n20501231,1,1,0"


def test_a_split_leaves_no_jump_and_is_not_known_before_it_happens(tmp_path):
    split_file(tmp_path, SPLIT_DAY)
    rows = [
        "AAPL,2014-01-03 15:00,100,100,100,100,10",
        "AAPL,2014-01-06 09:00,50,50,50,50,20",
        "AAPL,2014-06-09 09:00,25,25,25,25,40",
    ]
    text = "\n".join([HOURS, *rows])
    bars, _ = read(tmp_path / "h.csv", text)
    assert [bar.close for bar in bars] == [100.0, 100.0, 100.0]
    assert [bar.volume for bar in bars] == [10.0, 10.0, 10.0]
    early, _ = read(tmp_path / "h.csv", "\n".join([HOURS, *rows[:2]]))
    assert early == bars[:2]  # tomorrow's split changes nothing of today


def test_a_split_that_is_still_to_come_in_the_factor_file_changes_nothing(tmp_path):
    split_file(tmp_path, SPLIT_DAY)
    text = f"{HOURS}\nAAPL,2014-01-06 10:00,50,50,50,50,20\n"
    with_split, _ = read(tmp_path / "h.csv", text)
    split_file(tmp_path, "20501231,1,1,0")
    assert read(tmp_path / "h.csv", text)[0] == with_split


def test_missing_factors_are_noted_and_broken_ones_name_their_line(tmp_path):
    text = f"{HOURS}\nAAPL,2014-01-06 10:00,50,50,50,50,20\n"
    _, tally = read(tmp_path / "h.csv", text)
    assert tally.noted["no_split_factors"] == 1
    split_file(tmp_path, "20140103,0.9,0.25,80\nrubbish")
    with pytest.raises(InputError, match=r"aapl\.csv:2"):
        read(tmp_path / "h.csv", text)


def test_an_unknown_header_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="bar_start_ny"):
        read(tmp_path / "x.csv", "time,price\n1,2\n")
    with pytest.raises(InputError, match="bar_start_ny"):
        read(tmp_path / "empty.csv", "")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        list(read_bars(tmp_path / "nowhere.csv", tally=Tally()))


def test_gzip_is_read_alike(tmp_path):
    path = tmp_path / "h.csv.gz"
    path.write_bytes(gzip.compress(f"{HOURS}\nAAPL,2014-01-06 10:00,1,2,1,2,5\n".encode()))
    assert len(list(read_bars(path, tally=Tally()))) == 1


@pytest.mark.skipif(not HOURLY.is_file(), reason=f"hourly bars not found at {HOURLY}")
def test_the_recorded_split_of_apple_leaves_no_jump():
    tally = Tally()
    bars = list(read_bars(HOURLY, tally=tally, symbols=frozenset({"AAPL"})))
    assert tally.read == 155_797
    assert set(tally.dropped) == {"not_asked_for"}
    around = [
        bar for bar in bars if utc("2014-06-06T13:00") < bar.ts_start < utc("2014-06-10T00:00")
    ]
    closes = [bar.close for bar in around]
    assert len(around) == 14
    assert max(closes) / min(closes) < 1.03  # seven for one on 9 June
