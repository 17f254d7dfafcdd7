"""Laws of the evaluation: truth has skill, nothing has none, and the page hides nothing."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.domain.errors import InputError
from finllm.runtime.tally import Tally
from finllm_lab.evaluation.columns import spoken_of
from finllm_lab.evaluation.latency import late_rows
from finllm_lab.evaluation.records import Evaluation
from finllm_lab.evaluation.report import evaluate, report
from finllm_lab.experiments import record
from said import T0, make_said

RESAMPLES = 200
S = 10**9


def figures(*said, past=()):
    return evaluate(said, past, resamples=RESAMPLES)


def pooled(found, horizon="1s"):
    (row,) = [
        row
        for row in found.datasets[0].rows
        if (row.instrument, row.regime, row.horizon) == ("all", "all", horizon)
    ]
    return row


def test_the_truth_is_better_than_every_baseline_and_calibrated_within_luck() -> None:
    row = pooled(figures(make_said(3_000)))
    for key in ("climatology", "ewma", "obi"):
        assert getattr(row.finding, key) == "better"
    assert row.finding_crps.climatology == "better"
    assert row.ece <= row.ece_perfect_95
    assert row.coverage_80_luck[0] <= row.coverage_80 <= row.coverage_80_luck[1]


def test_an_overconfident_voice_is_found_out_by_ece_coverage_pit_and_diagram() -> None:
    found = figures(make_said(3_000, voice="loud"))
    row = pooled(found)
    assert row.ece > 1.5 * row.ece_perfect_95
    assert row.ece_interval[0] > row.ece_perfect_95
    assert row.coverage_80 < row.coverage_80_luck[0]
    assert row.pit[0] + row.pit[5] > 0.35  # nominally 0.2
    (diagram,) = found.datasets[0].diagrams
    outside = [
        not low <= seen <= high
        for curve in diagram.curves
        for seen, low, high in zip(curve.seen, curve.low, curve.high, strict=True)
    ]
    assert sum(outside) >= len(outside) / 3


def test_a_voice_that_knows_nothing_gets_no_skill_and_is_listed_among_what_does_not_work(
    tmp_path: Path,
) -> None:
    said = [make_said(1_500, seed=seed, voice="nothing", instrument=f"binance-usdm:{name}")
            for seed, name in enumerate("AB")]  # fmt: skip
    verdict = report(
        said, tmp_path / "page.html", resamples=RESAMPLES, record_file=tmp_path / "none.jsonl"
    )
    row = pooled(verdict.evaluation)
    assert row.finding.climatology != "better"
    assert row.interval.climatology[0] < 0.01
    page = verdict.page.read_text()
    negatives = page[page.index("What it does not do") : page.index("Details:")]
    assert "binance-usdm:A against climatology: 1s" in negatives
    assert f"({100 * row.skill.climatology:+.1f} %" in negatives


def test_labels_that_are_shuffled_leave_no_skill() -> None:
    for seed in range(5):
        honest = make_said(2_000, seed=seed)
        order = np.random.default_rng(seed).permutation(2_000)
        shuffled = msgspec.structs.replace(
            honest, label=honest.label[order], return_bps=honest.return_bps[order]
        )
        row = pooled(figures(shuffled))
        assert row.finding.climatology != "better"
        assert row.interval.climatology[0] <= 0.0


def test_skill_decays_with_latency_and_a_fresh_claim_is_worth_what_the_table_says() -> None:
    found = figures(make_said(4_000, lasting=1.0))
    (decay,) = found.datasets[0].decays
    assert [step.delay_s for step in decay.steps] == [0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0]
    skills = [step.skill for step in decay.steps]
    assert all(later < sooner for sooner, later in pairwise(skills[:6]))
    assert decay.steps[0].kept == 1.0
    assert skills[0] == pytest.approx(pooled(found).skill.climatology, abs=0.02)
    assert decay.steps[2].age_s == pytest.approx(0.3)  # claims stand on the grid of 0.1 s
    assert decay.n == 4_000 - 30  # the same targets at every delay
    assert all(step.interval[0] <= step.skill <= step.interval[1] for step in decay.steps)


def test_what_the_outcomes_of_the_session_are_worth_is_told_from_what_the_edge_began_with() -> None:
    found = figures(make_said(4_000, lasting=1.0))
    (learnt,) = found.datasets[0].learnt
    assert learnt.with_all == pytest.approx(pooled(found).skill.climatology, abs=1e-9)
    assert 0.0 < learnt.without < learnt.with_all  # the toy began half as wise
    assert learnt.late is not None
    assert 0 < learnt.n_late < learnt.n == 4_000
    (short,) = figures(make_said(1_000, lasting=1.0)).datasets[0].learnt
    assert short.late is None


def test_a_late_claim_is_the_newest_that_is_old_enough_and_of_the_same_instrument() -> None:
    ts = np.array([0, 0, 10, 12, 20, 31]) * S
    stratum = np.array([0, 1, 0, 1, 0, 0])
    assert late_rows(ts, stratum, 10 * S).tolist() == [-1, -1, 0, 1, 2, 4]
    assert late_rows(ts, stratum, 0).tolist() == [0, 1, 2, 3, 4, 5]
    for delay in (1, 7 * S, 12 * S):
        late = late_rows(ts, stratum, delay)
        for row, used in enumerate(late.tolist()):
            old_enough = [
                j for j in range(6) if stratum[j] == stratum[row] and ts[j] <= ts[row] - delay
            ]
            assert used == (max(old_enough) if old_enough else -1)


def test_an_abstaining_claim_counts_as_climatology_and_stays_in_the_denominator() -> None:
    honest = make_said(1_000)
    silent = msgspec.structs.replace(honest, is_abstained=np.ones(1_000, np.bool_))
    row = pooled(figures(silent))
    assert row.n == 1_000
    assert row.skill.climatology == pytest.approx(0.0, abs=1e-12)


def test_what_cannot_be_scored_is_counted_and_what_does_not_fit_is_refused() -> None:
    honest = make_said(100)
    broken = honest.p.copy()
    broken[3, 0] = 0.9
    broken[4, 1, 0] = np.nan
    label = honest.label.copy()
    label[5] = -1
    tally = Tally()
    spoken = spoken_of([msgspec.structs.replace(honest, p=broken, label=label)], tally)
    assert len(spoken.sample) == tally.used == 97
    assert dict(tally.dropped) == {"void": 1, "not_a_distribution": 2}
    assert tally.read == 100
    assert np.array_equal(spoken.column, np.delete(honest.column, [3, 4, 5]))
    with pytest.raises(InputError, match=r"toy binance-usdm:BTCUSDT 1s.*p has the shape"):
        spoken_of([msgspec.structs.replace(honest, p=honest.p[:50])], Tally())
    with pytest.raises(InputError, match="comes twice"):
        spoken_of([honest, honest], Tally())


def test_the_order_in_which_records_are_given_is_of_no_consequence() -> None:
    said = [make_said(600, seed=1, instrument="binance-usdm:A"),
            make_said(600, seed=2, instrument="binance-usdm:B"),
            make_said(600, seed=3, instrument="us-equity:C")]  # fmt: skip
    one, other = (msgspec.json.encode(figures(*order)) for order in (said, said[::-1]))
    assert one == other


def test_data_sets_are_judged_apart_and_hours_of_the_day_add_up() -> None:
    noon = T0 - T0 % (86_400 * S) + 12 * 3_600 * S
    found = figures(
        make_said(3_000, start=noon - 150 * S),
        make_said(500, seed=2, instrument="us-equity:AIG"),
    )
    assert [one.name for one in found.datasets] == ["binance", "us"]
    hours = {row.regime: row.n for row in found.datasets[0].hours}
    assert hours == {"11:00 UTC": 1_500, "12:00 UTC": 1_500}


class _Reader(HTMLParser):
    """Checks that tags are balanced, and gathers what a browser would fetch."""

    VOID = frozenset({"meta", "br", "line", "circle", "rect", "path", "polygon", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.fetched += [v for k, v in attrs if k in {"src", "href"} and not v.startswith("#")]
        self.fetched += [tag] if tag in {"script", "link", "iframe", "img"} else []
        if "id" in named:
            self.ids.add(named["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_shows_every_figure_of_the_json(tmp_path: Path) -> None:
    said = [
        make_said(1_200, seed=seed, instrument=f"binance-usdm:<{name}>", seconds=s)
        for seed, name in enumerate(("A", "B"))
        for s in (1.0, 5.0)
    ]
    log = tmp_path / "experiments.jsonl"
    record("trial", "book", "one", file=log)
    record("trial", "book", "two", file=log)
    verdict = report(said, tmp_path / "deep" / "page.html", resamples=RESAMPLES, record_file=log)
    page = verdict.page.read_text()
    reader = _Reader()
    reader.feed(page)
    assert not reader.open
    assert not reader.fetched
    assert not re.search(r"url\(|@import|https?:", page)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= reader.ids
    assert "<A>" not in page
    assert "prefers-color-scheme:dark" in page
    assert page.count('<div class="wide"><table>') == page.count("<table>")
    found = verdict.evaluation
    assert found.trials == {"book": 2}
    assert "p x 2 trials" in page
    for row in found.datasets[0].rows:
        if row.regime == "all":
            for key in ("climatology", "ewma", "obi"):
                assert f"{100 * getattr(row.skill, key):+.1f} %" in page
    for part in ("Reliability", "Probability integral transform", "Score decay", "Is it luck?",
                 "By regime", "By time of day", "Calibration error", "Left out"):  # fmt: skip
        assert part in page
    assert msgspec.json.decode(msgspec.json.encode(found), type=Evaluation) == found


def test_the_same_input_gives_the_same_page(tmp_path: Path) -> None:
    pages = [
        report(
            [make_said(400)],
            tmp_path / f"{i}.html",
            resamples=50,
            record_file=tmp_path / "no.jsonl",
        ).page.read_bytes()
        for i in range(2)
    ]
    assert pages[0] == pages[1]


def test_nothing_to_score_gives_a_page_that_says_so(tmp_path: Path) -> None:
    for said in (
        [],
        [make_said(40, seconds=2.0)],
        [_first(make_said(40), 0), _first(make_said(40, seconds=5.0), 1)],
    ):
        verdict = report(
            said, tmp_path / "page.html", resamples=20, record_file=tmp_path / "no.jsonl"
        )
        assert verdict.exit_code == 0
        reader = _Reader()
        reader.feed(verdict.page.read_text())
        assert not reader.open
    nothing = report(
        [_first(make_said(40), 0)], tmp_path / "page.html", record_file=tmp_path / "no"
    )
    assert "Nothing could be scored." in nothing.page.read_text()


def _first(said, n):
    arrays = {
        name: getattr(said, name)[:n]
        for name in said.__struct_fields__
        if isinstance(getattr(said, name), np.ndarray)
    }
    return msgspec.structs.replace(said, **arrays)
