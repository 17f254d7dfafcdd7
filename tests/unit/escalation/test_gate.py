"""Laws of the gate."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asking import MS, NOW, S, belief, forecast, notice
from finllm.domain.errors import SettingsError
from finllm.domain.forecast import Rung, Status
from finllm.domain.protocol import Escalate, Hold
from finllm.escalation.appraise import Prices
from finllm.escalation.gate import Gate, GateSettings


def test_relevant_news_escalates_about_what_an_answer_can_still_serve() -> None:
    answer = Gate().decide(notice(), (forecast(60.0), forecast(10.0)), NOW, belief())
    assert isinstance(answer, Escalate)
    assert [s.forecast_id for s in answer.standing] == ["f-10.0-0.0", "f-60.0-0.0"]
    assert answer.deadline == NOW + 48 * S
    assert answer.expected_gain > 0


def test_a_horizon_under_ten_replies_gets_only_the_outlook() -> None:
    answer = Gate().decide(notice(), (forecast(1.0), forecast(60.0)), NOW, belief(p95_ms=200.0))
    assert isinstance(answer, Escalate)
    assert [s.forecast_id for s in answer.standing] == ["f-60.0-0.0"]


def test_a_forecast_that_would_expire_before_the_answer_is_left_out() -> None:
    old = forecast(10.0, age_s=7.99)
    answer = Gate().decide(notice(), (old, forecast(60.0)), NOW, belief())
    assert isinstance(answer, Escalate)
    assert [s.forecast_id for s in answer.standing] == ["f-60.0-0.0"]


@pytest.mark.parametrize("status", [Status.RETRACTED, Status.FINAL, Status.EXPIRED])
def test_a_closed_forecast_is_never_asked_about(status: Status) -> None:
    answer = Gate().decide(notice(), (forecast(status=status),), NOW, belief())
    assert isinstance(answer, Escalate)
    assert answer.standing == ()


def test_with_nothing_left_to_serve_it_may_ask_for_the_outlook_alone() -> None:
    answer = Gate().decide(notice(), (forecast(0.1),), NOW, belief(p95_ms=2000.0))
    assert isinstance(answer, Escalate)
    assert answer.standing == ()
    assert answer.deadline == NOW + GateSettings().outlook_within_ns


def test_an_outlook_that_would_come_too_late_is_not_asked_for() -> None:
    settings_ = GateSettings(outlook_within_ns=S)
    answer = Gate(settings_).decide(notice(), (), NOW, belief(p95_ms=2000.0))
    assert isinstance(answer, Hold)


def test_copies_never_escalate() -> None:
    eager = GateSettings(min_gain=0.0)
    for novelty in (0.0, 0.01, -1.0, float("nan")):
        answer = Gate(eager).decide(notice(novelty=novelty), (forecast(),), NOW, belief())
        assert isinstance(answer, Hold)
        assert "copy" in answer.reason


@pytest.mark.parametrize("field", ["relevance", "credibility"])
def test_what_is_irrelevant_or_not_believed_is_held(field: str) -> None:
    answer = Gate().decide(notice(**{field: 0.0}), (forecast(),), NOW, belief())
    assert isinstance(answer, Hold)
    assert answer.expected_gain == 0.0


def test_an_instrument_is_asked_about_at_most_once_an_interval() -> None:
    gate = Gate()
    other = notice(instrument="test:B")
    assert isinstance(gate.decide(notice(), (forecast(),), NOW, belief()), Escalate)
    assert isinstance(gate.decide(notice(), (forecast(),), NOW + 99 * MS, belief()), Hold)
    assert isinstance(gate.decide(other, (), NOW + 99 * MS, belief()), Escalate)
    assert isinstance(gate.decide(notice(), (forecast(),), NOW + 100 * MS, belief()), Escalate)


def test_a_hold_does_not_use_up_the_interval() -> None:
    gate = Gate()
    assert isinstance(gate.decide(notice(relevance=0.0), (forecast(),), NOW, belief()), Hold)
    assert isinstance(gate.decide(notice(), (forecast(),), NOW, belief()), Escalate)


def test_the_budget_holds_over_any_minute() -> None:
    gate = Gate(GateSettings(budget_per_min=5, min_interval_ns=0))
    times = [NOW + i * 2 * S for i in range(60)]
    asked = [t for t in times if isinstance(gate.decide(notice(), (), t, belief()), Escalate)]
    assert asked[:5] == times[:5]
    for start in times:
        assert sum(start <= t < start + 60 * S for t in asked) <= 5
    assert len(asked) >= 10


def test_a_version_whose_answer_is_still_due_is_not_asked_about_again() -> None:
    gate = Gate(GateSettings(min_interval_ns=0))
    first = gate.decide(notice(), (forecast(),), NOW, belief())
    soon = gate.decide(notice(), (forecast(),), NOW + 5 * MS, belief())
    newer = gate.decide(notice(), (forecast(version=2),), NOW + 6 * MS, belief())
    later = gate.decide(notice(), (forecast(),), NOW + 60 * MS, belief())
    answers = [first, soon, newer, later]
    assert all(isinstance(a, Escalate) for a in answers)
    assert [len(a.standing) for a in answers if isinstance(a, Escalate)] == [1, 0, 1, 1]


UNIT = st.floats(0.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(UNIT, UNIT, UNIT, UNIT, st.floats(0.1, 50.0), st.floats(0.0, 0.5))
def test_a_better_notice_never_promises_less(
    relevance: float, novelty: float, credibility: float, stance: float, burst: float, more: float
) -> None:
    about = {
        "relevance": relevance,
        "novelty": novelty,
        "credibility": credibility,
        "stance": stance,
        "burst": burst,
    }
    plain = Gate().decide(notice(**about), (forecast(),), NOW, belief()).expected_gain
    for field, value in about.items():
        better = notice(**(about | {field: value + more}))
        gain = Gate().decide(better, (forecast(),), NOW, belief()).expected_gain
        assert gain >= plain


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * S), UNIT, UNIT, st.sampled_from(["test:A", "test:B"]))),
    st.lists(st.floats(0.05, 120.0), max_size=4),
)
def test_the_same_questions_get_the_same_answers_and_no_answer_comes_after_its_deadline(
    asked: list[tuple[int, float, float, str]], horizons: list[float]
) -> None:
    one, two = Gate(), Gate()
    standing = tuple(forecast(h, forecast_id=f"{i}") for i, h in enumerate(horizons))
    told, now = belief(), NOW
    for step, novelty, relevance, instrument in asked:
        now += step
        about = notice(novelty=novelty, relevance=relevance, instrument=instrument)
        answer = one.decide(about, standing, now, told)
        assert answer == two.decide(about, standing[::-1], now, told)
        if isinstance(answer, Escalate):
            assert answer.deadline > now + told.p95_ns
            assert all(s.valid_until <= answer.deadline for s in answer.standing)
            assert all(s.valid_until > now + told.p95_ns for s in answer.standing)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["relevance", "novelty", "credibility", "stance", "burst"])
def test_a_notice_that_is_not_a_number_never_breaks_the_gate(field: str, bad: float) -> None:
    answer = Gate().decide(notice(**{field: bad}), (forecast(),), NOW, belief())
    assert 0.0 <= answer.expected_gain < 1.0


def test_a_setting_below_zero_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"escalation\.min_gain"):
        GateSettings(min_gain=-1.0)


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        (GateSettings, {"count_every_ns": 0}),
        (GateSettings, {"call_share": float("nan")}),
        (Prices, {"nats_per_usd": float("nan")}),
        (Prices, {"nats_per_gco2e": float("inf")}),
        (Prices, {"gco2e_per_kwh": -1.0}),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name(
    section: Any, wrong: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        section(**wrong)


@pytest.mark.parametrize("rung", [Rung.EDGE_ONLY, Rung.LAST_VALID])
def test_nothing_is_asked_where_the_slow_path_rests(rung: Rung) -> None:
    answer = Gate().decide(notice(), (forecast(),), NOW, belief(), rung)
    assert isinstance(answer, Hold)
    assert str(rung) in answer.reason


def test_on_the_rung_of_few_escalations_only_what_is_worth_more_is_asked() -> None:
    full = Gate().decide(notice(), (forecast(),), NOW, belief())
    assert isinstance(full, Escalate)
    for share, kind in ((0.9, Escalate), (1.1, Hold)):
        few = GateSettings(min_gain=full.expected_gain * share / 4.0)
        answer = Gate(few).decide(notice(), (forecast(),), NOW, belief(), Rung.FEW_ESCALATIONS)
        assert isinstance(answer, kind)
