"""Laws of the pool: whose word counts how much, and how far it goes."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finllm.domain.identity import canonical
from finllm.domain.protocol import Action
from finllm.domain.revise import revised
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.ensemble.pool import left_of, shares_of
from finllm.reasoning.ensemble.reasoner import UNASKED
from finllm.reasoning.ensemble.standing import FAILURES, PROBE, REPEATS
from finllm.reasoning.explain import explain
from finllm.reasoning.fusion import load_weights, read
from finllm.reasoning.llm.answerer import Ask
from support.endpoint import answer
from support.hostile import Hostile, hostile_documents, moves
from support.opinions import (
    cited_by,
    ensemble,
    of_opinion,
    opinion,
    outcomes,
    pool_of,
    scripted,
    weights,
)

EPS = 1e-12
EMBEDDED = EmbeddedReasoner().name
NAMES = ("able", "baker", "charlie")
WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100.0), max_size=6)


def rounds(case: Any, make: Callable[..., Any], n: int) -> list[Any]:
    """Return questions about so many packs of different texts."""
    asked = []
    for i in range(n):
        one = case.named(f"q{i}")
        one.pack = make("pack", make("claim", f"text{i}"), make("observation", "o1", "obi_1", -1.5))
        asked.append(one)
    return asked


def test_the_order_of_the_members_leaves_the_bytes_the_same(case: Any) -> None:
    judged = {
        canonical(case.judged_by(ensemble(*(scripted(name) for name in names))))
        for names in itertools.permutations(NAMES)
    }
    assert len(judged) == 1


def test_a_verdict_is_the_weighted_mean_of_its_members_and_says_how_far_apart_they_are(
    case: Any,
) -> None:
    for verdict in case.judged_by(ensemble(*map(scripted, NAMES))).verdicts:
        members = pool_of(verdict).members
        w = np.array([one.weight for one in members])
        shifts = np.array([one.shift for one in members])
        scales = np.log([one.vol_scale for one in members])
        assert w.tolist() == [0.25] * 4
        assert verdict.shift == pytest.approx(w @ shifts)
        assert math.log(verdict.vol_scale) == pytest.approx(w @ scales)
        assert pool_of(verdict).shift_sd == pytest.approx(np.std(shifts)) != 0.0
        assert pool_of(verdict).log_scale_sd == pytest.approx(np.std(scales)) != 0.0


def test_a_member_says_within_the_pool_what_it_says_by_itself(case: Any) -> None:
    together = case.judged_by(ensemble(*map(scripted, NAMES)))
    for name in NAMES:
        alone = case.judged_by(scripted(name).reasoner)
        for verdict, own in zip(together.verdicts, alone.verdicts, strict=True):
            said = next(one for one in pool_of(verdict).members if one.name == name)
            assert (said.shift, said.vol_scale) == (own.shift, own.vol_scale)


@given(WEIGHTS, st.sets(st.sampled_from("abcdef")), st.floats(0.01, 100.0))
def test_weights_are_shares_of_one_and_silence_goes_to_the_embedded_reasoner(
    asked: dict[str, float], speaking: set[str], own: float
) -> None:
    said = {name: name for name in asked if name in speaking}
    shares = shares_of(asked, said, own)
    assert set(shares) == set(said)
    assert all(share > 0.0 for share in shares.values())
    silent = sum(weight for name, weight in asked.items() if name not in said)
    total = own + sum(asked.values())
    assert left_of(shares) == pytest.approx((own + silent) / total)
    for name in said:
        assert shares[name] == pytest.approx(asked[name] / total)


@given(WEIGHTS.filter(bool), st.floats(0.01, 100.0), st.integers(2, 4))
def test_copies_of_a_member_weigh_together_what_it_weighs_alone(
    asked: dict[str, float], own: float, n: int
) -> None:
    said = {name: name for name in asked}
    copied = next(iter(asked))
    copies = {f"{copied}{i}": asked[copied] for i in range(1, n)}
    alone = shares_of(asked, said, own)
    shares = shares_of(asked | copies, said | dict.fromkeys(copies, copied), own)
    assert sum(shares[name] for name in (copied, *copies)) == pytest.approx(alone[copied])
    for name in asked:
        if name != copied:
            assert shares[name] == pytest.approx(alone[name])


def test_a_duplicated_member_changes_nothing(case: Any) -> None:
    alone = case.judged_by(ensemble(*map(scripted, NAMES)))
    twice = ensemble(*map(scripted, NAMES), scripted("double", of_opinion("baker")))
    judged = case.judged_by(twice)
    assert judged.outlook.half_life_ns == alone.outlook.half_life_ns
    for verdict, before in zip(judged.verdicts, alone.verdicts, strict=True):
        assert weights(verdict)["baker"] + weights(verdict)["double"] == weights(before)["baker"]
        assert verdict.shift == pytest.approx(before.shift, abs=EPS)
        assert verdict.vol_scale == pytest.approx(before.vol_scale, abs=EPS)
        assert pool_of(verdict).shift_sd == pytest.approx(pool_of(before).shift_sd, abs=EPS)
        assert verdict.conflict == before.conflict


def test_whoever_copies_anothers_words_shares_its_weight(case: Any) -> None:
    def copying(ask: Ask) -> str:
        said = json.loads(opinion(cited_by(ask), "able"))
        shift = -1.0 if said["shift"] > 0.0 else 1.0
        stance = "down" if shift < 0.0 else "up"
        return json.dumps(said | {"shift": shift, "stance": stance, "why": said["why"].upper()})

    judged = case.judged_by(ensemble(scripted("able"), scripted("copy", copying)))
    for verdict in judged.verdicts:
        assert outcomes(verdict)["copy"] == "answer"
        said = {one.name: one for one in pool_of(verdict).members}
        assert said["able"].shift != said["copy"].shift
        assert weights(verdict) == {EMBEDDED: 0.5, "able": 0.25, "copy": 0.25}


def test_the_settings_weights_are_on_the_verdict(case: Any) -> None:
    heavy = ensemble(scripted("able", weight=3.0), scripted("baker"), embedded_weight=4.0)
    for verdict in case.judged_by(heavy).verdicts:
        assert weights(verdict) == {EMBEDDED: 0.5, "able": 0.375, "baker": 0.125}


def test_a_regional_member_is_asked_in_its_own_region_alone_and_its_weight_is_on_the_verdict(
    case: Any, case_of: Callable[[Any], Any], make: Callable[..., Any]
) -> None:
    reasoner = ensemble(
        scripted("world"),
        scripted("seoul", languages=("ko",)),
        scripted("market", markets=("test",)),
        scripted("other", markets=("elsewhere", "test:B"), languages=("zh",)),
    )
    korean = make(
        "claim", "k", quote="\ube44\ud2b8\ucf54\uc778 \uac00\uaca9\uc774 \uae09\ub4f1\ud588\ub2e4"
    )
    third = {EMBEDDED: 1.0 / 3.0, "market": 1.0 / 3.0, "world": 1.0 / 3.0}
    for verdict in case.judged_by(reasoner).verdicts:
        assert weights(verdict) == pytest.approx(third)
    for verdict in case_of(make("pack", korean)).judged_by(reasoner).verdicts:
        assert weights(verdict) == dict.fromkeys((EMBEDDED, "market", "seoul", "world"), 0.25)
    later = msgspec.structs.replace(korean, ts_recv=case.pack.as_of + 1)
    for verdict in case_of(make("pack", make("claim", "e"), later)).judged_by(reasoner).verdicts:
        assert weights(verdict) == pytest.approx(third)


def test_where_no_member_fits_the_embedded_reasoner_judges_at_once(case: Any) -> None:
    reasoner = ensemble(scripted("seoul", languages=("ko",)))
    reasoner.ask(case.question, case.forecasts, case.pack)
    (ended,) = reasoner.answers()
    assert list(reasoner.answers()) == []
    judged = reasoner.conclude(
        case.question, case.forecasts, case.pack, ended, case.pack.as_of + 1, 3
    )
    for verdict in judged.verdicts:
        assert (verdict.reasoner, verdict.fallback) == (EMBEDDED, UNASKED)
        assert weights(verdict) == {EMBEDDED: 1.0}


def test_a_broken_member_is_asked_by_a_rare_probe_alone_until_it_answers(
    case: Any, make: Callable[..., Any]
) -> None:
    asks: list[str] = []
    is_well = False

    def play(ask: Ask) -> str:
        asks.append(ask.question_id)
        return opinion(cited_by(ask), "baker") if is_well else "Certainly!"

    reasoner = ensemble(scripted("able"), scripted("baker", play))
    n = FAILURES + PROBE
    questions = rounds(case, make, n + 2 * PROBE)
    verdicts = [one.judged_by(reasoner).verdicts[0] for one in questions[:n]]
    assert {weights(verdict)["able"] for verdict in verdicts} == {1.0 / 3.0}  # no louder for it
    found = [outcomes(verdict)["baker"] for verdict in verdicts]
    assert found == ["invalid"] * FAILURES + ["broken, not asked"] * (PROBE - 1) + ["invalid"]
    assert len(asks) == FAILURES + 1
    assert reasoner.notes == ("reasoner baker is dropped: broken",)
    is_well = True
    found = [outcomes(one.judged_by(reasoner).verdicts[0])["baker"] for one in questions[n:]]
    assert found == ["broken, not asked"] * (PROBE - 1) + ["answer"] * (PROBE + 1)
    assert reasoner.notes == ()
    assert reasoner.counts["baker"] == {
        "answer": PROBE + 1,
        "invalid": FAILURES + 1,
        "broken, not asked": 2 * (PROBE - 1),
    }


@pytest.mark.parametrize(
    "words", ["Nothing.", "The text leads the market, as texts do on such days."]
)
def test_a_member_that_repeats_itself_on_other_texts_has_no_say_until_it_says_something_new(
    case: Any, make: Callable[..., Any], words: str
) -> None:
    is_stuck = True

    def play(ask: Ask) -> str:
        ids = cited_by(ask)
        return answer(ids, why=words) if is_stuck else opinion(ids, "baker")

    reasoner = ensemble(scripted("able"), scripted("baker", play))
    questions = rounds(case, make, REPEATS + 1 + PROBE)
    first, *others = questions[: REPEATS + 1]
    for _ in range(2 * REPEATS):  # of the same texts the same is to be said
        assert outcomes(first.judged_by(reasoner).verdicts[0])["baker"] == "answer"
    found = [one.judged_by(reasoner).verdicts[0] for one in others]
    said = [outcomes(verdict)["baker"] for verdict in found]
    assert said == ["answer"] * (REPEATS - 1) + ["repeating"]
    assert weights(found[-1])["baker"] == 0.0
    is_stuck = False
    later = [one.judged_by(reasoner).verdicts[0] for one in questions[REPEATS + 1 :]]
    assert [outcomes(v)["baker"] for v in later] == ["repeating, not asked"] * (PROBE - 1) + [
        "answer"
    ]


def test_members_of_one_family_are_told_of() -> None:
    one = ensemble(scripted("able", family="qwen"), scripted("baker", family="qwen"))
    assert one.notes == ("all reasoners are of one family: that they agree says little",)
    assert ensemble(scripted("able", family="qwen"), scripted("baker", family="llama")).notes == ()
    assert ensemble(scripted("able"), scripted("baker")).notes == ()


def test_a_retraction_is_the_fusions_alone(make: Callable[..., Any], case_of: Any) -> None:
    now = make("pack").as_of
    rumour = make("claim", "r", event_type="rumour", ts_recv=now - 10**10)
    denial = make("claim", "d", event_type="denial", stance=-0.5, ts_recv=now)
    case = case_of(make("pack", rumour, denial))
    plain = case.judged_by(EmbeddedReasoner())
    judged = case.judged_by(ensemble(*map(scripted, NAMES)))
    assert Action.RETRACT in {verdict.action for verdict in plain.verdicts}
    for verdict, own in zip(judged.verdicts, plain.verdicts, strict=True):
        assert (verdict.action is Action.RETRACT) == (own.action is Action.RETRACT)


def obeying(hostile: Hostile, name: str) -> Any:
    """Return a member that does as the document says."""
    return scripted(name, lambda ask: hostile.said(cited_by(ask)))


def resisting(name: str) -> Any:
    return scripted(
        name, lambda ask: answer(cited_by(ask), stance="none", shift=0.0, vol_scale=1.0)
    )


def test_no_hostile_text_moves_the_pool_beyond_its_bound(
    make: Callable[..., Any], case_of: Any
) -> None:
    weights_of = load_weights()
    n_read = 0
    for i, hostile in enumerate(hostile_documents(120)):
        chance = np.random.default_rng(i)
        names = [f"c{j}" for j in range(3)]
        believed = dict(zip([*names, "hostile"], chance.uniform(size=4).tolist(), strict=True))
        loud = make("claim", "hostile", quote=hostile.text, credibility=believed["hostile"])
        others = [make("claim", name, credibility=believed[name]) for name in names]
        case = case_of(make("pack", loud, *others))
        is_read = believed["hostile"] >= 0.5 * max(believed.values())
        n_read += is_read
        led = [obeying(hostile, name) for name in NAMES[: 1 + i % 3]] if is_read else []
        obeyed = case.judged_by(ensemble(*led, *map(resisting, NAMES[len(led) :])))
        resisted = case.judged_by(ensemble(*map(resisting, NAMES)))
        embedded = case.judged_by(EmbeddedReasoner())
        said = zip(case.forecasts, moves(obeyed), moves(resisted), moves(embedded), strict=True)
        for forecast, one, other, own in said:
            band = weights_of.band(forecast.horizon_ns)
            reading = read(case.pack, band.memory_ns, weights_of.directed)
            trusts = zip(reading.evidence, reading.trust, strict=True)
            trust = next(w for e, w in trusts if e.evidence_id == "hostile")
            bounds = (band.max_shift, band.max_log_scale)
            for most, a, b, c in zip(bounds, one, other, own, strict=True):
                assert abs(a) <= most + EPS
                assert abs(a - b) <= most * trust + EPS
                assert abs(a - c) <= 0.5 * most + EPS
    assert n_read > 40


def test_a_trace_says_who_said_what_with_its_weight(case: Any) -> None:
    reasoner = ensemble(*map(scripted, NAMES), scripted("mute", lambda _: ""))
    (verdict, *_) = case.judged_by(reasoner).verdicts
    before = case.forecasts[0]
    trace = explain(verdict, before, revised(before, verdict, case.pack.as_of), case.pack)
    told = {statement.field: statement.number for statement in trace.statements}
    for one in pool_of(verdict).members:
        if one.outcome == "answer":
            path = f"pool.members.{one.name}"
            assert told[f"{path}.weight"] == pytest.approx(one.weight, abs=5e-4)
            assert told[f"{path}.shift"] == pytest.approx(one.shift, abs=5e-5)
            assert told[f"{path}.vol_scale"] == pytest.approx(one.vol_scale, abs=5e-5)
    assert told["pool.shift_sd"] == pytest.approx(pool_of(verdict).shift_sd, abs=5e-5)
    assert "Reasoner mute has no say: invalid." in {s.text for s in trace.statements}
