"""Laws of the two-speed table on recorded text and prices, on small made-up recordings."""

import csv
import gzip
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from typer.testing import CliRunner

from finllm.audit.inforce import Stage
from finllm.audit.sample import Change, Sample
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document
from finllm.domain.market import Bar
from finllm.domain.units import NS_PER_HOUR, NS_PER_MIN, to_ns
from finllm_lab.cli import app
from finllm_lab.experiments import experiments
from finllm_lab.realised import variances
from finllm_lab.statements import released
from finllm_lab.worth.figures import Seen, line, usable
from finllm_lab.worth.ranges import predicted
from finllm_lab.worth.real import SETS, first_texts, sets_of, table
from finllm_lab.worth.words import in_words

NEW_YORK = ZoneInfo("America/New_York")
T0 = 1_400_000_000 * 10**9


def bar(
    i: int, opened: float, high: float, low: float, close: float, step: int = NS_PER_HOUR
) -> Bar:
    start = T0 + i * step
    return Bar(
        instrument="us-equity:SPY",
        ts_start=start,
        ts_recv=start + step,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=1.0,
    )


# --- what prices did ---------------------------------------------------------------------------------


def test_realised_variance_is_that_of_a_walk_night_and_day() -> None:
    rng = np.random.default_rng(1)
    bars, price = [], 100.0
    for i in range(600):
        opened = price * math.exp(rng.normal(0.0, 0.004))
        path = opened * np.exp(np.cumsum(rng.normal(0.0, 0.01 / math.sqrt(2_000), 2_000)))
        price = float(path[-1])
        high, low = max(opened, float(path.max())), min(opened, float(path.min()))
        bars.append(bar(i, opened, high, low, price))
    found = variances(bars)
    assert math.isnan(found[0])
    assert np.mean(found[1:]) == pytest.approx((0.004**2 + 0.01**2) * 1e8, rel=0.08)


def minutes(size: np.ndarray) -> list[Bar]:
    """Return bars 97 minutes apart that range by these shares and close where they open."""
    return [
        bar(i, 100.0, 100.0 * (1.0 + s), 100.0, 100.0, 97 * NS_PER_MIN) for i, s in enumerate(size)
    ]


def test_a_range_is_foreseen_from_earlier_minutes_alone() -> None:
    rng = np.random.default_rng(2)
    bars = minutes(np.exp(rng.normal(-6.0, 0.5, 200)))
    before = predicted(bars)
    changed = [*bars[:150], bar(150, 100.0, 130.0, 100.0, 100.0, 97 * NS_PER_MIN), *bars[151:]]
    after = predicted(changed)
    assert np.isfinite(before[100:]).all()
    assert (before[:151][np.isfinite(before[:151])] == after[:151][np.isfinite(after[:151])]).all()
    assert (before[152:] != after[152:]).any()


def test_what_comes_later_changes_no_range_foreseen() -> None:
    rng = np.random.default_rng(3)
    bars = minutes(np.exp(rng.normal(-6.0, 0.5, 120)))
    texts = [f"word{a} word{b}" for a, b in rng.integers(0, 30, (120, 2))]
    whole = predicted(bars, texts)
    for n in (60, 90, 119):
        assert predicted(bars[:n], texts[:n])[-1] == pytest.approx(whole[n - 1], abs=1e-9)


def test_words_that_went_with_wide_minutes_widen_the_next_that_says_them() -> None:
    rng = np.random.default_rng(4)
    is_news = rng.random(300) < 0.2
    bars = minutes(np.exp(rng.normal(-7.5, 0.3, 300) + np.where(is_news, 1.5, 0.0)))
    talk = [f"thanks {a} and {b}" for a, b in rng.integers(0, 50, (300, 2))]
    texts = ["a call on tariffs" if is_news[i] else talk[i] for i in range(300)]
    silent, told = predicted(bars), predicted(bars, texts)
    added = (told - silent)[200:]
    assert added[is_news[200:]].min() > 0.5
    assert np.abs(added[~is_news[200:]]).mean() < 0.5
    assert (predicted(bars, [""] * 300) == silent)[50:].all(), "without words nothing is added"


def test_a_change_of_level_is_caught_up_with_in_a_few_minutes() -> None:
    rng = np.random.default_rng(5)
    level = np.where(np.arange(200) < 100, -7.0, -8.5)
    missed = level - predicted(minutes(np.exp(level + rng.normal(0.0, 0.3, 200))))
    assert np.abs(missed[60:100]).mean() < 0.2
    assert np.abs(missed[130:]).mean() < 0.25


def test_the_first_post_within_a_minute_is_its_text() -> None:
    bars = [bar(i, 1.0, 1.0, 1.0, 1.0, NS_PER_MIN) for i in (0, 1, 5)]
    said = [(-1, "before all"), (0, "one"), (NS_PER_MIN - 1, "two"), (3 * NS_PER_MIN, "between"),
            (6 * NS_PER_MIN, "after all")]  # fmt: skip
    documents = [
        Document(document_id=text, source="posts", ts_published=T0 + at, ts_recv=T0 + at, text=text)
        for at, text in said
    ]
    assert first_texts(bars, documents) == ["one", "", ""]


@pytest.mark.parametrize(
    ("day", "wall"),
    [
        ("1994-02-04", None),
        ("2001-01-03", None),
        ("2005-09-20", time(14, 15)),
        ("2011-04-27", time(12, 30)),
        ("2012-12-12", time(12, 30)),
        ("2013-03-20", time(14, 0)),
    ],
)
def test_a_statement_is_never_known_before_its_release(day: str, wall: time | None) -> None:
    row = json.dumps({"date": day, "text": "The Committee decided to keep its target."}).encode()
    (document,) = released(row)
    at = date.fromisoformat(day)
    if wall is None:
        wall, at = time(0, 0), at + timedelta(days=1)
    release = to_ns(datetime.combine(at, wall, NEW_YORK).astimezone(UTC))
    assert document.ts_published == release
    assert document.ts_recv > release
    assert document.is_verified


def test_a_statement_whose_time_cannot_be_read_is_left_out_and_a_stated_zone_is_kept() -> None:
    rows = [
        {"ts_published": stamp, "text": "The Committee decided to keep its target."}
        for stamp in ("Tomorrow", "2014-06-18T18:00:00+00:00", "2014-06-18T14:00:00")
    ]
    kept = list(released(b"\n".join(json.dumps(row).encode() for row in rows)))
    assert {one.ts_published for one in kept} == {to_ns(datetime(2014, 6, 18, 18, tzinfo=UTC))}


@pytest.mark.parametrize("damaged", [b"", b"\xff\xfe\x00{}", b"<html></html>"])
def test_statements_that_are_none_are_refused(damaged: bytes) -> None:
    with pytest.raises(InputError, match="statements"):
        list(released(damaged))


# --- what is said of it ------------------------------------------------------------------------------


def made_sample(
    n: int, deviation: np.ndarray, revised: dict[int, float], value: np.ndarray
) -> Sample:
    """Return hourly forecasts of one instrument; `revised` gives ln k of rows, in force from their issue."""
    steps = np.arange(n, dtype=np.int64)
    ts = T0 + steps * NS_PER_HOUR
    q = deviation[:, None] * np.array([-1.28155, -0.6745, 0.0, 0.6745, 1.28155])
    p = np.tile([0.3, 0.4, 0.3], (n, 1))
    label = np.where(value > 1.0, 2, np.where(value < -1.0, 0, 1)).astype(np.int64)
    changes = {
        i: [
            Change(
                ts=int(ts[i]),
                version=2,
                is_retraction=False,
                p=(0.3, 0.4, 0.3),
                q=tuple((q[i] * math.exp(log_k)).tolist()),
            )
        ]
        for i, log_k in revised.items()
    }
    zeros = np.zeros(n, np.int64)
    return Sample(
        ids=[str(i) for i in range(n)],
        instrument=zeros,
        horizon=zeros,
        regime=zeros,
        instruments=["us-equity:SPY"],
        horizons=[("1bar", 3_600.0)],
        regimes=["calm"],
        ts_recv=ts,
        ts_emit=ts,
        valid_until=ts + NS_PER_HOUR * 4 // 5,
        horizon_ns=np.full(n, NS_PER_HOUR),
        ts_end=ts + NS_PER_HOUR,
        base=p,
        emitted=p,
        base_q=q,
        emitted_q=q,
        climatology=p,
        ewma=p,
        obi=p,
        climatology_q=q,
        ewma_q=q,
        label=label,
        return_bps=value,
        is_abstained=np.zeros(n, dtype=bool),
        changes=changes,
    )


def told(sample: Sample, variance: np.ndarray, stage: Stage = Stage.IN_FORCE):
    rows = usable(sample, variance, 0, 2**62)
    seen = Seen(sample=sample, rows=rows, variance=variance)
    return line(
        seen, stage, name=("made", "train", "gate"), notices=9, calls=3, late=0, always=None
    )


def events(seed: int, *, log_k: float):
    """Return a sample whose every fiftieth hour is three times as volatile and told as exp(log_k)."""
    rng = np.random.default_rng(seed)
    n = 4_000
    busy = np.arange(n) % 50 == 0
    true = np.where(busy, 3.0, 1.0)
    walks = rng.normal(0.0, 1.0, (n, 12))
    variance = (walks**2).mean(axis=1) * true**2
    revised = {int(i): log_k for i in np.flatnonzero(busy)}
    return made_sample(n, np.ones(n), revised, walks[:, 0] * true), variance


def test_a_known_burst_that_is_told_takes_error_away_and_one_told_in_vain_adds_it() -> None:
    right = told(*events(1, log_k=math.log(3.0)))
    assert right.fired_share == pytest.approx(0.02, abs=0.001)
    assert right.vol_fired.verdict == right.vol_all.verdict == "better"
    assert right.vol_fired.value > 0.5
    assert right.log_error_fired.verdict == "better"
    wrong = told(*events(1, log_k=-1.0))
    assert wrong.vol_fired.verdict == wrong.vol_all.verdict == "worse"
    assert wrong.harm is None, "there is no gain that harm could be a share of"
    assert "| 0.000 |" not in in_words([wrong])


def test_volatility_told_rightly_leaves_direction_alone() -> None:
    found = told(*events(2, log_k=math.log(3.0)))
    assert found.direction.value == 0.0
    assert found.direction.verdict == "inconclusive"


def test_the_edge_alone_gains_and_fires_nothing() -> None:
    found = told(*events(3, log_k=1.0), stage=Stage.EDGE)
    assert (found.fired, found.vol_all.value, found.vol_fired.value) == (0, 0.0, None)
    assert found.vol_all.verdict == "inconclusive"


def test_an_edge_twice_too_wide_throughout_is_no_gain_for_anybody() -> None:
    sample, variance = events(4, log_k=math.log(3.0))
    wide = events(4, log_k=math.log(3.0))[0]
    scaled = {
        name: getattr(wide, name) * 2.0
        for name in ("base_q", "emitted_q", "climatology_q", "ewma_q")
    }
    changes = {
        i: [Change(ts=c.ts, version=2, is_retraction=False, p=c.p, q=tuple(2.0 * x for x in c.q))]
        for i, (c,) in wide.changes.items()
    }
    fields = {name: getattr(wide, name) for name in wide.__dataclass_fields__}
    doubled = Sample(**{**fields, **scaled, "changes": changes})
    assert told(doubled, variance).vol_all.value == pytest.approx(
        told(sample, variance).vol_all.value
    )


def test_an_interval_that_holds_nought_is_inconclusive_and_a_handful_has_none() -> None:
    rng = np.random.default_rng(5)
    n = 3_000
    walks = rng.normal(0.0, 1.0, (n, 12))
    variance = (walks**2).mean(axis=1)
    coin = {int(i): float(rng.choice([-0.06, 0.06])) for i in range(0, n, 40)}
    by_chance = told(made_sample(n, np.ones(n), coin, walks[:, 0]), variance)
    assert by_chance.vol_all.interval[0] < 0.0 < by_chance.vol_all.interval[1]
    assert by_chance.vol_all.verdict == "inconclusive"
    assert "?" in in_words([by_chance])
    few = told(made_sample(n, np.ones(n), {500: 1.0, 900: 1.0}, walks[:, 0]), variance)
    assert (few.vol_fired.interval, few.vol_fired.verdict) == (None, "inconclusive")


# --- the whole way -----------------------------------------------------------------------------------

NAMES = ("AAPL", "BAC", "IBM")
WORDS = (
    "beats estimates as quarterly profit of {0} cents tops the street",
    "earnings call: revenue up {0} percent in the quarter, shares move after hours",
    "reports results, eps of 1.{0} against expectations",
    "q3 profit jumps by {0} million, analysts had seen less",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three names' daily bars, whose every fortieth night jumps after words of results, and other talk."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "text_price").mkdir()
    rng = np.random.default_rng(7)
    days = [date(2014, 10, 1) + timedelta(days=i) for i in range(330)]
    days = [day for day in days if day.weekday() < 5]
    bars, tweets = [], []
    for shift, name in enumerate(NAMES):
        price = 100.0
        for i, day in enumerate(days):
            is_busy = (i + 7 * shift) % 40 == 0
            opened = price * math.exp(rng.normal(0.0, 0.05 if is_busy else 0.003))
            path = opened * np.exp(np.cumsum(rng.normal(0.0, 0.01 / 10.0, 100)))
            price = float(path[-1])
            high, low = max(opened, float(path.max())), min(opened, float(path.min()))
            bars.append([name, day.isoformat(), opened, high, low, price, price, 1e6])
            after_close = datetime.combine(days[i - 1], time(16, 20), NEW_YORK)
            for k, words in enumerate(WORDS if is_busy and i else ()):
                own = " ".join("".join(rng.choice(list("bdfklmnoprstuvae"), 7)) for _ in range(9))
                said = f"${name} {words.format(int(rng.integers(10, 99)))}: {own}"
                tweets.append((after_close + timedelta(minutes=9 * k), name, said))
            chat = datetime.combine(day, time(11, int(rng.integers(60))), NEW_YORK)
            tweets.append((chat, name, f"${name} chart {int(rng.integers(10_000))} looks quiet"))
    with gzip.open(folder / "text_price/stock_prices_daily_made.csv.gz", "wt") as out:
        rows = csv.writer(out)
        rows.writerow(["symbol", "date", "open", "high", "low", "close", "adj_close", "volume"])
        rows.writerows(bars)
    with gzip.open(folder / "text_price/stock_tweets_made.jsonl.gz", "wt") as out:
        for n, (at, name, text) in enumerate(sorted(tweets)):
            row = {"ts_ms": to_ns(at.astimezone(UTC)) // 10**6, "symbol": name, "text": text}
            out.write(json.dumps({**row, "author": n % 60, "followers": 900, "lang": "en"}) + "\n")
    return folder


def test_the_served_walk_tells_volatility_after_results_and_asks_less_than_always(
    data: Path,
) -> None:
    (one,) = sets_of(["tweets-daily"])
    edge, gate, always, chance = table(data, one, "train")
    assert [row.policy for row in (edge, gate, always, chance)] == [
        "edge only", "gate", "always", "random"
    ]  # fmt: skip
    assert len({(row.rows, row.notices) for row in (edge, gate, always, chance)}) == 1
    assert (edge.calls, edge.fired, edge.late) == (0, 0, 0)
    assert 0 < gate.calls < always.calls
    assert 0.0 < gate.fired_share < 0.2
    assert gate.vol_all.value > 0.0
    assert gate.vol_fired.value > 0.1
    assert gate.direction.value == pytest.approx(0.0, abs=1e-9)
    assert gate.vol_all.value > chance.vol_all.value


def test_the_words_of_posts_are_read_by_the_other_lines_and_not_by_the_edge(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(8)
    (tmp_path / "text_price").mkdir()
    with (tmp_path / "text_price/posts_spy_made.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        prices = ("open", "high", "low", "close", "volume")
        rows.writerow(["ts_ms", "text", *(f"bar_{name}" for name in prices)])
        for i in range(400):
            day = date(2024, 12, 2) + timedelta(days=7 * (i // 20) + i % 5)
            at = datetime.combine(day, time(10 + i // 5 % 4, 7 + i % 5), NEW_YORK)
            is_news = rng.random() < 0.25
            size = 5e-4 * math.exp(rng.normal(1.5 if is_news else 0.0, 0.3))
            text = "A great call on tariffs" if is_news else f"Thank you {rng.integers(90)}"
            stamp = to_ns(at.astimezone(UTC)) // 10**6 + 20_000
            rows.writerow([stamp, text, 600.0, 600.0 * (1.0 + size), 600.0, 600.0, 1e5])
    edge, *others = table(tmp_path, sets_of(["posts"])[0], "train")
    assert edge.range_r2.value < 0.2
    for one in others:
        assert one.range_r2.value > 0.5
        assert one.range_r2.verdict == "better"


def test_a_part_without_recordings_is_refused_by_name(data: Path) -> None:
    (one,) = sets_of(["tweets-daily"])
    with pytest.raises(InputError, match="received before it"):
        table(data, one, "later")
    with pytest.raises(InputError, match="no such file"):
        table(data, sets_of(["fomc"])[0], "train")
    with pytest.raises(InputError, match="no such set"):
        sets_of(["tweets-weekly"])


def test_parts_follow_one_another_and_no_day_is_in_two() -> None:
    for one in SETS:
        spans = [one.spans[part] for part in ("train", "val", "later")]
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(edges)
        assert spans[0][1] == spans[1][0]
        assert spans[1][1] == spans[2][0]


def test_the_validation_part_is_counted_before_anything_is_read(tmp_path: Path) -> None:
    record = tmp_path / "experiments.jsonl"
    record.touch()
    words = ["worth", "real", "--data", str(tmp_path), "--set", "fomc", "--part", "val"]
    CliRunner().invoke(app, [*words, "--record", str(record)])
    assert experiments(record) == [], "there was nothing to open"
    (tmp_path / "text_price").mkdir()
    (tmp_path / "text_price/fomc_statements_made.jsonl").touch()
    with gzip.open(tmp_path / "text_price/us_bars_hourly_made.csv.gz", "wt") as out:
        out.write("symbol,bar_start_ny,open,high,low,close,volume\n")
    for _ in range(4):
        CliRunner().invoke(app, [*words, "--record", str(record)])
    opened = [(one.kind, one.family) for one in experiments(record)]
    assert opened == [("opening", "real")] * 3


def test_tapes_that_are_not_there_are_named(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["worth", "measure", "--data", str(tmp_path)])
    assert isinstance(ran.exception, InputError)
    assert str(tmp_path) in str(ran.exception)
