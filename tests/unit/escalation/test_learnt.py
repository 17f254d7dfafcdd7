"""Laws of the gate that learns."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from asking import MS, NOW, S, belief, forecast, notice
from finllm.domain.errors import InputError, SettingsError
from finllm.domain.forecast import Forecast, Outcome, Rung
from finllm.domain.protocol import Escalate, Hold, Outlook, OutlookBand
from finllm.domain.revise import tilted
from finllm.escalation.appraise import Appraiser, Prices, Tier, claim_of
from finllm.escalation.gate import Gate, GateSettings, conflict_of
from finllm.escalation.learnt import Names, Regression, Reliability, State, Threshold

MIN = 60 * S


def learning(**changes: Any) -> Gate:
    return Gate(GateSettings(learn=True, **changes))


LEARNT = msgspec.msgpack.decode(Appraiser(0.2, 0.02, 10 * S, Prices()).state, type=State)


def outlook(version: int, shift: float, now: int) -> Outlook:
    return Outlook(
        instrument="test:A",
        version=version,
        ts=now,
        bands=(OutlookBand(up_to_ns=MIN, shift=shift, vol_scale=1.0),),
        half_life_ns=MIN,
        expires=now + 4 * MIN,
    )


def ask(
    gate: Gate,
    number: int,
    now: int,
    below: Outlook | None = None,
    rung: Rung = Rung.FULL,
    **changes: Any,
) -> Escalate | Hold:
    told = notice(notice_id=f"n{number}", ts_recv=now, **changes)
    standing = (msgspec.structs.replace(forecast(60.0), ts_recv=now, valid_until=now + 48 * S),)
    return gate.decide(told, standing, now, belief(), rung, below=below)


def came_true(version: int, ts: int, *, right: bool) -> tuple[Forecast, Outcome]:
    """Return a forecast of 10 s that an outlook leans up, and what became of it."""
    said = forecast(10.0, outlook_version=version, emitted=(0.2, 0.4, 0.4))
    told = Outcome(
        forecast_id=said.forecast_id, instrument="test:A", horizon="10s", ts_resolved=ts + 10 * S,
        return_bps=0.0, label=2 if right else 0,
    )  # fmt: skip
    return msgspec.structs.replace(said, ts_recv=ts), told


def live(gate: Gate, n: int, *, shift_of: dict[str, float]) -> list[tuple[str, Escalate | Hold]]:
    """Let a gate live through n notices of two houses, whose answers shift by what their house is worth."""
    found = []
    for number in range(n):
        now = NOW + number * 10 * MIN
        house = "loud" if number % 2 else "sound"
        answer = ask(gate, number, now, origin=f"{house}/writer{number % 7}")
        found.append((house, answer))
        if isinstance(answer, Escalate):
            gate.hear(answer, outlook(number + 1, shift_of[house], now + S), now + S)
    return found


def test_it_comes_to_ask_where_answers_move_something() -> None:
    asked = [
        house
        for house, answer in live(learning(), 600, shift_of={"sound": 0.8, "loud": 0.0})[300:]
        if isinstance(answer, Escalate) and answer.propensity == 1.0
    ]
    assert asked.count("sound") > 10 * max(1, asked.count("loud"))


def test_it_starts_in_the_order_of_the_hand_set_estimate() -> None:
    told = [
        notice(notice_id=str(i), relevance=r, credibility=c, burst=b)
        for i, (r, c, b) in enumerate(
            [(0.2, 0.3, 1.0), (0.5, 0.5, 1.0), (0.9, 0.9, 1.0), (1.0, 1.0, 9.0)]
        )
    ]
    standing = (forecast(60.0),)
    by_hand = [Gate().decide(one, standing, NOW, belief()).expected_gain for one in told]
    learnt = [learning().decide(one, standing, NOW, belief()).expected_gain for one in told]
    assert np.argsort(by_hand).tolist() == np.argsort(learnt).tolist()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_it_never_asks_more_than_its_share(share: float) -> None:
    found = live(learning(call_share=share), 400, shift_of={"sound": 0.5, "loud": 0.5})
    asked = [isinstance(answer, Escalate) for _, answer in found]
    assert all(sum(asked[: n + 1]) <= 2.0 + share * (n + 1) for n in range(len(asked)))
    assert sum(asked) > 0.25 * share * len(asked)


def test_the_same_history_gives_the_same_decisions_and_the_same_bytes() -> None:
    one, two = learning(), learning()
    shift_of = {"sound": 0.6, "loud": 0.1}
    assert live(one, 120, shift_of=shift_of) == live(two, 120, shift_of=shift_of)
    assert one.appraiser is not None
    assert two.appraiser is not None
    assert one.appraiser.state == two.appraiser.state


def test_what_was_learnt_outlives_the_process() -> None:
    one, two = learning(), learning()
    live(one, 120, shift_of={"sound": 0.6, "loud": 0.0})
    assert one.appraiser is not None
    assert two.appraiser is not None
    two.appraiser.restore(one.appraiser.state)
    assert two.appraiser.state == one.appraiser.state
    with pytest.raises(InputError):
        two.appraiser.restore(b"nonsense")


@pytest.mark.parametrize(
    "damage",
    [
        {"n": -5},
        {"level": math.nan},
        {"weights": [math.nan] * len(LEARNT.weights)},
        {"spread": [[math.inf] * len(row) for row in LEARNT.spread]},
        {"spread": [row[1:] for row in LEARNT.spread]},
        {"names": [[f"house {n}" for n in range(40)], *LEARNT.names[1:]]},
        {"names": [["one", "one"], *LEARNT.names[1:]]},
        {"reliability": [("m", -50.0, 1.0)]},
        {"reliability": [("m", 1.0, math.nan)]},
    ],
)
def test_a_state_that_no_gate_can_have_written_is_refused(damage: dict[str, Any]) -> None:
    gate = learning()
    assert gate.appraiser is not None
    before = gate.appraiser.state
    with pytest.raises(InputError, match="gate's state"):
        gate.appraiser.restore(msgspec.msgpack.encode(msgspec.structs.replace(LEARNT, **damage)))
    assert gate.appraiser.state == before


def test_what_is_refused_stays_measured_and_says_with_what_chance() -> None:
    found = live(learning(explore=0.1), 400, shift_of={"sound": 0.8, "loud": 0.0})
    by_chance = [a for _, a in found if isinstance(a, Escalate) and a.propensity < 1.0]
    assert 5 <= len(by_chance) <= 80
    assert all(a.propensity == 0.1 and a.reason.startswith("by chance") for a in by_chance)
    refused = [a for _, a in found if isinstance(a, Hold) and "asked from" in a.reason]
    assert all(a.propensity == 0.1 for a in refused)


@pytest.mark.parametrize(("explore", "share"), [(0.3, 0.2), (0.0, 1.5)])
def test_shares_that_cannot_be_are_refused(explore: float, share: float) -> None:
    with pytest.raises(SettingsError):
        GateSettings(learn=True, explore=explore, call_share=share)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_on_the_rung_of_few_escalations_it_goes_on_asking_less(share: float) -> None:
    def share_asked(rung: Rung) -> float:
        gate, rng, asked = learning(call_share=share, explore=0.0), np.random.default_rng(2), 0
        for number in range(1_000):
            now = NOW + number * 10 * MIN
            answer = ask(gate, number, now, rung=rung, relevance=float(rng.beta(0.5, 2.0)))
            if isinstance(answer, Escalate):
                asked += number >= 500
                gate.hear(answer, outlook(number + 1, 0.02, now + S), now + S)
        return asked / 500

    assert share_asked(Rung.FEW_ESCALATIONS) < 0.5 * share_asked(Rung.FULL)


def test_a_copy_is_not_asked_about_by_chance_either() -> None:
    gate = learning(explore=1.0, call_share=1.0)
    answer = ask(gate, 0, NOW, novelty=0.0)
    assert isinstance(answer, Hold)
    assert answer.propensity == 0.0


def test_claims_that_do_not_come_true_lower_the_estimate() -> None:
    def after(right: bool) -> float:
        gate = learning(call_share=1.0, min_gain=0.0)
        for number in range(60):
            now = NOW + number * 10 * MIN
            question = ask(gate, number, now)
            assert isinstance(question, Escalate)
            gate.hear(question, outlook(number + 1, 0.8, now + S), now + S)
            for step in range(12):
                gate.learn(*came_true(number + 1, now + step * 10 * S, right=right))
        return ask(gate, 99, NOW + 100 * 10 * MIN).expected_gain

    assert after(right=False) < 0.3 * after(right=True)


def test_a_claim_counts_once_however_often_the_same_seconds_are_forecast() -> None:
    def counted(every_ns: int) -> tuple[float, float]:
        gate = learning(call_share=1.0, min_gain=0.0)
        question = ask(gate, 0, NOW)
        assert isinstance(question, Escalate)
        assert gate.appraiser is not None
        gate.hear(question, outlook(1, 0.8, NOW), NOW)
        for ts in range(NOW, NOW + MIN, every_ns):
            gate.learn(*came_true(1, ts, right=True))
        return gate.appraiser.reliability.sums[question.tier]

    assert counted(S // 10) == pytest.approx(counted(10 * S), rel=0.2)
    assert counted(20 * S) == pytest.approx([x / 2 for x in counted(10 * S)])


def test_once_an_outlook_has_ended_the_next_look_is_a_first_one() -> None:
    gate = learning(call_share=1.0, min_gain=0.0)
    assert gate.appraiser is not None
    question = ask(gate, 0, NOW)
    assert isinstance(question, Escalate)

    def look() -> str:
        tier = Tier(name="embedded", latency=belief())
        assert gate.appraiser is not None
        return gate.appraiser.appraise(
            notice(), (), NOW + S, hand=0.01, asked_at=NOW, tier=tier, deadline_ns=MIN
        ).look

    gate.hear(question, outlook(1, 0.8, NOW), NOW)
    assert look() == "again"
    gate.stand(outlook(2, 0.0, NOW))
    assert look() == "first"


def test_a_price_is_taken_off_and_a_slow_reasoner_is_worth_less() -> None:
    told, standing = notice(), (forecast(60.0),)
    quick, slow = belief(), belief(p95_ms=240_000.0)
    gate = learning(prices=Prices(nats_per_usd=0.1))
    worth = {
        name: gate.decide(told, standing, NOW, quick, tiers=(tier,)).expected_gain
        for name, tier in {
            "free": Tier(latency=quick),
            "dear": Tier(latency=quick, usd=5.0),
            "slow": Tier(latency=slow),
        }.items()
        if (gate := learning(prices=Prices(nats_per_usd=0.1))) is not None
    }
    assert worth["dear"] == pytest.approx(worth["free"] - 0.5)
    assert worth["slow"] < worth["free"]


def test_a_price_is_of_money_energy_and_carbon_together() -> None:
    prices = Prices(nats_per_usd=2.0, nats_per_kj=0.001, nats_per_gco2e=0.01, gco2e_per_kwh=300.0)
    tier = Tier(latency=belief(), usd=0.05, energy_j=1.8e6)  # half a kilowatt-hour
    assert prices.of(tier) == pytest.approx(2.0 * 0.05 + 0.001 * 1_800.0 + 0.01 * 150.0)


def test_what_waits_its_turn_is_in_time_as_one_that_has_so_much_less_of_it() -> None:
    at_once, queued = Tier(latency=belief()), Tier(latency=belief(), wait_ns=30 * S)
    for left_ns in (30 * S, 30 * S + 5 * MS, 30 * S + 40 * MS, 31 * S):
        assert queued.share_within(left_ns) == at_once.share_within(left_ns - 30 * S)
    assert queued.share_within(30 * S) == 0.0


def test_a_claim_is_what_the_forecasts_of_its_time_claim_together() -> None:
    said, standing = outlook(1, 0.8, NOW), (forecast(60.0),)
    p = np.array(standing[0].base)
    rows = 0.0
    for ts in range(NOW, said.expires, 10 * S):
        tilted_p, _ = tilted(standing[0], *said.at(MIN, ts))
        rows += float((np.array(tilted_p) * np.log(np.array(tilted_p) / p)).sum())
    assert claim_of(None, standing, said, NOW, 10 * S) == pytest.approx(rows, rel=0.12)


def test_a_void_outcome_teaches_nothing() -> None:
    gate = learning(call_share=1.0, min_gain=0.0)
    question = ask(gate, 0, NOW)
    assert isinstance(question, Escalate)
    assert gate.appraiser is not None
    gate.hear(question, outlook(1, 0.8, NOW), NOW)
    said, told = came_true(1, NOW, right=True)
    gate.learn(said, msgspec.structs.replace(told, label=-1))
    assert gate.appraiser.reliability.sums == {}


def test_it_comes_to_heed_what_a_cheaper_reasoner_says() -> None:
    gate = learning()
    asked = []
    for number in range(600):
        now = NOW + number * 10 * MIN
        speaks = number % 3 == 0
        below = outlook(0, 0.6 if speaks else 0.0, now)
        answer = ask(gate, number, now, below=below)
        if isinstance(answer, Escalate):
            gate.hear(answer, outlook(number + 1, 0.8 if speaks else 0.0, now + S), now + S)
            if number >= 300 and answer.propensity == 1.0:
                asked.append(speaks)
    assert len(asked) > 30
    assert sum(asked) > 0.9 * len(asked)


def test_what_another_reasoner_put_in_force_is_what_the_next_answer_is_held_against() -> None:
    one, other = learning(call_share=1.0), learning(call_share=1.0)
    for gate in (one, other):
        question = ask(gate, 1, NOW)
        assert isinstance(question, Escalate)
        if gate is other:
            gate.stand(outlook(7, 0.8, NOW))
        gate.hear(question, outlook(7, 0.8, NOW), NOW)
    again = [ask(gate, 2, NOW + MIN) for gate in (one, other)]
    assert again[0].expected_gain > again[1].expected_gain


def test_of_several_reasoners_the_one_worth_most_is_asked() -> None:
    tiers = (Tier(name="dear", latency=belief(), usd=9.0), Tier(name="cheap", latency=belief()))
    answer = learning(call_share=1.0).decide(
        notice(), (forecast(60.0),), NOW, belief(), tiers=tiers
    )
    assert isinstance(answer, Escalate)
    assert answer.tier == "cheap"


def test_a_text_against_the_move_is_in_conflict_and_one_with_it_is_not() -> None:
    assert conflict_of(0.8, -3.0) > 0.5
    assert conflict_of(0.8, 3.0) == 0.0
    assert conflict_of(0.0, -3.0) == 0.0


def test_the_regression_finds_what_it_was_made_with() -> None:
    rng = np.random.default_rng(3)
    truth = (0.5, 1.0, -0.7)
    learner = Regression((0.0, 0.0, 0.0), (2.0, 1.0, 1.0))
    for _ in range(4_000):
        x = tuple(enumerate((1.0, *rng.normal(size=2).tolist())))
        mean = float(np.exp(sum(truth[i] * v for i, v in x)))
        claim = mean * float(rng.gamma(0.5, 2.0))
        learner.learn(x, float(np.exp(learner.log_expected(x))), claim)
    assert learner.weights == pytest.approx(truth, abs=0.15)


def test_a_flood_of_names_shares_one_place() -> None:
    names = Names(4)
    assert [names.place(name) for name in "abcdeab"] == [0, 1, 2, 3, 3, 0, 1]


def test_reliability_is_shrunk_from_coarse_to_fine() -> None:
    record = Reliability(prior=0.8, weight=10.0)
    assert record.of("r", "first") == pytest.approx(0.8)
    record.count("r", "first", 30.0, 1_000.0, 500.0)
    assert record.of("r", "first") == pytest.approx(0.5, abs=0.01)
    assert record.of("r", "again") == pytest.approx(record.of("r"))


def test_a_few_unlucky_answers_do_not_shut_the_gate_and_many_do() -> None:
    record = Reliability(prior=0.8, weight=10.0)
    record.count("r", "first", 30.0, 10.0, -30.0)
    assert record.of("r", "first") > 0.05
    record.count("r", "first", 30.0, 10_000.0, -5_000.0)
    assert 0.0 < record.of("r", "first") < 0.01


def test_the_threshold_follows_its_quantile() -> None:
    rng = np.random.default_rng(1)
    threshold = Threshold(0.2, 0.0)
    passed = []
    for _ in range(5_000):
        passed.append(threshold.passes(float(np.exp(rng.normal()))) and threshold.can_spend)
        threshold.credit -= passed[-1]
    assert np.mean(passed[1_000:]) == pytest.approx(0.2, abs=0.02)
