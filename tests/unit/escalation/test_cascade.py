"""Laws of a gate that is asked tier by tier."""

from typing import Any

import msgspec
import pytest

from asking import MS, NOW, S, belief, forecast, notice
from finllm.domain.forecast import Rung
from finllm.domain.protocol import Escalate, Hold, Outlook, OutlookBand
from finllm.escalation.appraise import INPUTS, Prices, Tier
from finllm.escalation.gate import Gate, GateSettings

FREE = Tier(name="embedded", latency=belief(5.0))
DEAR = Tier(name="llm:m", latency=belief(200.0))


def outlook(version: int, shift: float) -> Outlook:
    return Outlook(
        instrument="test:A",
        version=version,
        ts=NOW,
        bands=(OutlookBand(up_to_ns=60 * S, shift=shift, vol_scale=1.0),),
        half_life_ns=60 * S,
        expires=NOW + 240 * S,
    )


def silent() -> Outlook:
    return msgspec.structs.replace(outlook(0, 0.0), bands=(), half_life_ns=1, expires=NOW)


def climb(gate: Gate, below: Outlook, now: int = NOW, tier: Tier = DEAR) -> Escalate | Hold:
    return gate.decide(notice(), (forecast(60.0),), now, tier.latency, tiers=(tier,), below=below)


def learning(**changes: Any) -> Gate:
    return Gate(GateSettings(learn=True, call_share=1.0, explore=0.0, min_gain=0.0, **changes))


def test_the_first_tier_is_asked_whatever_it_is_worth_unless_it_is_barred() -> None:
    gate = Gate(GateSettings(min_gain=99.0, budget_per_min=0))
    for number in range(100):
        now = NOW + number * S
        standing = (forecast(60.0),)
        assert isinstance(gate.begin(notice(relevance=0.0), standing, now, FREE), Escalate)
        assert isinstance(gate.begin(notice(), standing, now + 99 * MS, FREE), Hold)
        assert isinstance(gate.begin(notice(novelty=0.0), standing, now + 200 * MS, FREE), Hold)
        silent_rung = gate.begin(notice(), standing, now + 300 * MS, FREE, Rung.EDGE_ONLY)
        assert isinstance(silent_rung, Hold)


def test_a_flood_is_answered_at_a_bounded_rate() -> None:
    gate = Gate()
    found = [
        gate.begin(notice(instrument=f"test:{i}"), (), NOW + i * MS, FREE) for i in range(1_000)
    ]
    assert sum(isinstance(one, Escalate) for one in found) == GateSettings().free_per_min
    assert isinstance(gate.begin(notice(), (), NOW + 61 * S, FREE), Escalate)


def test_a_tier_has_a_budget_of_its_own() -> None:
    gate = Gate(GateSettings(budget_per_min=1))
    beyond = climb(gate, outlook(1, 0.2), NOW + 5 * MS)
    assert isinstance(beyond, Escalate)
    assert beyond.tier == DEAR.name
    spent = climb(gate, outlook(2, 0.2), NOW + S)
    assert isinstance(spent, Hold)
    assert (spent.tier, spent.reason) == (DEAR.name, "budget of 1 questions a minute is spent")


def test_questions_of_two_tiers_have_ids_of_their_own() -> None:
    first = Gate().begin(notice(), (forecast(60.0),), NOW, FREE)
    beyond = climb(Gate(), silent())
    assert isinstance(first, Escalate)
    assert isinstance(beyond, Escalate)
    assert first.question_id != beyond.question_id


def inputs_of(gate: Gate, below: Outlook | None) -> dict[str, float]:
    assert gate.appraiser is not None
    appraisal = gate.appraiser.appraise(
        notice(), (forecast(60.0),), NOW,
        hand=0.01, asked_at=None, tier=DEAR, deadline_ns=60 * S, below=below,
    )  # fmt: skip
    return {INPUTS[i]: x for i, x in appraisal.inputs if i < len(INPUTS)}


def test_a_tier_is_appraised_by_how_far_the_one_below_moves_what_stood() -> None:
    far, near = inputs_of(learning(), outlook(1, 0.8)), inputs_of(learning(), outlook(1, 0.2))
    assert far["below speaks"] == near["below speaks"] == 1.0
    assert far["below's claim"] > near["below's claim"]
    for quiet in (None, silent()):
        assert inputs_of(learning(), quiet)["below speaks"] == 0.0


def taught(below: Outlook, answer: Outlook | None) -> bytes:
    """Return what a gate has learnt from an answer to a tier's question."""
    gate = learning()
    if below.bands:
        gate.stand(below)
    question = climb(gate, below)
    assert isinstance(question, Escalate)
    gate.hear(question, answer, NOW + S)
    assert gate.appraiser is not None
    return gate.appraiser.state


def test_a_tiers_claim_is_counted_beyond_the_one_below() -> None:
    said, again = outlook(1, 0.5), outlook(2, 0.5)
    assert taught(said, again) == taught(said, None)  # to say what is said already claims nothing
    assert taught(said, outlook(2, -0.5)) != taught(said, None)
    assert taught(silent(), again) != taught(silent(), None)


def test_a_queue_takes_from_the_chance_to_be_in_time() -> None:
    busy = msgspec.structs.replace(DEAR, wait_ns=59_900 * MS)
    gate = learning()
    free, queued = climb(gate, silent()), climb(gate, silent(), NOW + S, busy)
    assert queued.expected_gain < free.expected_gain
    assert isinstance(free, Escalate)
    assert [s.forecast_id for s in free.standing] == ["f-60.0-0.0"]
    assert not isinstance(queued, Escalate) or queued.standing == ()


def test_a_dear_tier_is_worth_less_by_its_price() -> None:
    prices = Prices(nats_per_usd=1.0, nats_per_gco2e=0.01, gco2e_per_kwh=400.0)
    costly = msgspec.structs.replace(DEAR, usd=0.003, energy_j=9_000.0)
    cheap = climb(learning(prices=prices), silent())
    dear = climb(learning(prices=prices), silent(), tier=costly)
    assert cheap.expected_gain - dear.expected_gain == pytest.approx(0.013)
