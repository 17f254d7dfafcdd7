"""Laws of the trace check: what the writer writes holds, and nothing that was tampered with does."""

import math
import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finllm.audit.revisions import check_revision
from finllm.audit.traces import LEAST_HOLDING, check_trace, struck
from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.protocol import (
    Action,
    Applied,
    Citation,
    Driver,
    Figure,
    Hypothesis,
    MemberAnswer,
    Pool,
    Term,
)
from finllm.domain.revise import revised
from finllm.domain.trace import UNFAITHFUL, Fidelity, Statement, Trace, named, not_written
from finllm.reasoning.explain import explain

S = 1_000_000_000
NOW = 100 * S
TEXT = "AAPL beats: revenue up 12 % to 94.9 bn, guidance \u201craised\u201d for 2024."


def replace(record, **changes):
    """Return a record with changes; a trace gets the id of its new content, as a careful liar's would."""
    changed = msgspec.structs.replace(record, **changes)
    return named(changed) if isinstance(record, Trace) and "trace_id" not in changes else changed


def make_claim(name="c1", **changes):
    quote = TEXT[11:38]
    made = Evidence(
        evidence_id=name,
        kind=EvidenceKind.CLAIM,
        instrument="test:A",
        ts_recv=NOW - S,
        origin="wire7",
        document_id="d1",
        span=(11, 38),
        quote=quote,
        stance=0.8,
        novelty=0.95,
        credibility=0.6,
        relevance=0.71,
        event_type="earnings_q3",
    )
    return replace(made, **changes)


def make_observation():
    return Evidence(
        evidence_id="o1",
        kind=EvidenceKind.OBSERVATION,
        instrument="test:A",
        ts_recv=NOW - S,
        origin="book",
        feature="obi_10",
        window_ns=5 * S,
        value=-0.4375,
        unit="1",
        z_score=-2.31,
    )


def make_case(make, **verdict_changes):
    """Return trace, verdict, before, pack and texts that belong together."""
    before = make.forecast("f", NOW - 2 * S, horizon_s=10.0, emitted=(0.31, 0.37, 0.32))
    pack = EvidencePack(
        pack_id="p",
        instrument="test:A",
        as_of=NOW,
        evidence=(make_claim(), make_observation(), make_claim("c2", ts_recv=NOW - 2 * S)),
        n_documents=3,
        n_copies=1,
        burst=1.5,
    )
    citations = (
        Citation(evidence_id="c1", shift=0.1234, log_scale=0.05),
        Citation(evidence_id="o1", shift=-0.02, log_scale=0.0),
    )
    changes = {"shift": 0.1034, "vol_scale": math.exp(0.05), "citations": citations}
    verdict = make.verdict(before, **(changes | verdict_changes))
    trace = explain(verdict, before, revised(before, verdict, NOW + S), pack)
    return trace, verdict, before, pack, {"d1": TEXT}


@pytest.fixture
def case(make):
    return make_case(make)


def test_what_the_writer_writes_holds(make) -> None:
    for action in Action:
        assert check_trace(*make_case(make, action=action)) == []
    assert check_trace(*make_case(make, conflict="the text leans up")) == []


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.floats(-5.0, 5.0),
    st.floats(0.05, 20.0),
    st.floats(-1.0, 1.0),
    st.floats(-1e7, 1e7),
    st.floats(0.0, 1.0),
)
def test_what_the_writer_writes_holds_for_any_figures(
    make, shift, scale, stance, value, novelty
) -> None:
    trace, verdict, before, pack, texts = make_case(make, shift=shift, vol_scale=scale)
    first, second, third = pack.evidence
    moved = (replace(first, stance=stance, novelty=novelty), replace(second, value=value), third)
    pack = replace(pack, evidence=moved)
    trace = explain(verdict, before, revised(before, verdict, NOW + S), pack)
    assert check_trace(trace, verdict, before, pack, texts) == []


def test_a_digit_of_a_unit_is_no_figure(make) -> None:
    _, verdict, before, pack, texts = make_case(make)
    first, second, third = pack.evidence
    pack = replace(pack, evidence=(first, replace(second, unit="log(1 + 1/s)"), third))
    trace = explain(verdict, before, revised(before, verdict, NOW + S), pack)
    assert any("log(1 + 1/s)" in statement.text for statement in trace.statements)
    assert check_trace(trace, verdict, before, pack, texts) == []
    place = next(i for i, s in enumerate(trace.statements) if "log(1 + 1/s)" in s.text)
    text = trace.statements[place].text
    assert check_trace(with_statement(trace, place, text=f"{text} 1"), verdict, before, pack, texts)


def make_tested(make, **changes):
    """Return a case whose verdict has tested two hypotheses and named a driver."""
    depth = Term(evidence_id="o1", field="z_score", weight=0.5)
    words = Term(evidence_id="c1", field="stance", weight=2.0)
    drain = Hypothesis(
        name="hidden liquidity drain",
        probability=0.75,
        figures=(Figure(name="thinness", value=0.445, terms=(depth, words)),),
    )
    hypotheses = (drain, Hypothesis(name="unrelated", probability=0.25))
    driver = Driver(
        source="market depth", evidence_ids=("o1",), shift=-0.02, log_scale=0.0, moved=0.5
    )
    return make_case(make, **({"hypotheses": hypotheses, "driver": driver} | changes))


def test_hypotheses_and_driver_are_stated_and_hold(make) -> None:
    case = make_tested(make, conflict="hidden liquidity drain 0.75, unrelated 0.25")
    assert check_trace(*case) == []
    said = [statement.text for statement in case[0].statements]
    assert "Hypothesis: hidden liquidity drain, supported: probability 0.750." in said
    assert "Hypothesis: hidden liquidity drain, thinness: +0.445." in said
    assert "Most hangs on market depth." in said


def test_a_tampered_figure_probability_or_driver_is_found(make) -> None:
    trace, verdict, *rest = make_tested(make)
    drain, other = verdict.hypotheses
    (figure,) = drain.figures
    first, *others = figure.terms
    tampered = (
        {"figures": (replace(figure, value=0.446),)},
        {"figures": (replace(figure, terms=(first,)),)},
        {"figures": (replace(figure, terms=(replace(first, evidence_id="c9"), *others)),)},
        {"figures": (replace(figure, terms=(replace(first, field="quote"), *others)),)},
        {"probability": 0.76},
    )
    for changes in tampered:
        changed = replace(verdict, hypotheses=(replace(drain, **changes), other))
        assert check_trace(trace, changed, *rest)
    elsewhere = replace(verdict, driver=replace(verdict.driver, evidence_ids=("c9",)))
    assert check_trace(trace, elsewhere, *rest)
    for place, statement in enumerate(trace.statements):
        if statement.field.startswith(("hypotheses", "driver")):
            wrong = with_statement(trace, place, number=statement.number + 0.01)
            assert check_trace(wrong, verdict, *rest)


def make_pooled(make, **changes):
    """Return a case whose verdict is the pool of two members, with a third that has no say."""
    members = (
        MemberAnswer(name="embedded:fitted-3", weight=0.6, shift=0.1, vol_scale=math.exp(0.1)),
        MemberAnswer(name="model-7b", weight=0.4, shift=0.2, vol_scale=math.exp(-0.1)),
        MemberAnswer(name="mute", weight=0.0, outcome="rate_limited"),
    )
    pool = Pool(members=members, shift_sd=0.1 * math.sqrt(0.24), log_scale_sd=0.2 * math.sqrt(0.24))
    said = {"shift": 0.14, "vol_scale": math.exp(0.02), "pool": pool}
    return make_case(make, **(said | changes))


def test_who_said_what_with_which_weight_is_stated_and_holds(make) -> None:
    case = make_pooled(make)
    assert check_trace(*case) == []
    said = [statement.text for statement in case[0].statements]
    assert "Reasoner model-7b, weight: 0.400." in said
    assert "Reasoner model-7b, shift: +0.2000." in said
    assert "Reasoner mute has no say: rate limited." in said
    assert "They disagree about the shift by 0.0490." in said
    retracted = make_pooled(make, action=Action.RETRACT, shift=0.0, vol_scale=1.0)
    assert check_trace(*retracted) == []


def test_a_tampered_pool_is_found(make) -> None:
    trace, verdict, *rest = make_pooled(make)
    first, second, third = verdict.pool.members
    for changes in (
        {"members": (replace(first, weight=0.5), replace(second, weight=0.5), third)},
        {"members": (replace(first, weight=0.7), second, third)},
        {"members": (replace(first, weight=1.4), replace(second, weight=-0.4), third)},
        {"members": (first, replace(second, shift=0.3), third)},
        {"members": (first, replace(second, vol_scale=1.0), third)},
        {"members": (first, replace(second, vol_scale=-1.0), third)},
        {"members": (first, replace(second, vol_scale=math.nan), third)},
        {"members": (replace(first, weight=math.nan), second, third)},
        {"shift_sd": 0.0},
        {"log_scale_sd": 0.0},
    ):
        changed = replace(verdict, pool=replace(verdict.pool, **changes))
        assert check_trace(trace, changed, *rest)
    for place, statement in enumerate(trace.statements):
        if statement.field.startswith("pool"):
            wrong = with_statement(trace, place, number=statement.number + 0.01)
            assert check_trace(wrong, verdict, *rest)


def with_statement(trace, place, **changes):
    statements = list(trace.statements)
    statements[place] = replace(statements[place], **changes)
    return replace(trace, statements=tuple(statements))


def test_any_changed_number_is_found(case) -> None:
    trace, *rest = case
    numbered = [i for i, s in enumerate(trace.statements) if s.number is not None]
    assert len(numbered) >= 15
    for place in numbered:
        said = trace.statements[place]
        for number in (said.number + 0.01, -said.number - 0.01, math.nan):
            assert check_trace(with_statement(trace, place, number=number), *rest)


def test_any_changed_digit_in_the_text_is_found(case) -> None:
    trace, *rest = case
    rng = random.Random(1)  # noqa: S311 - a choice of digits, seeded
    tried = 0
    for place, said in enumerate(trace.statements):
        if said.number is None:
            continue
        digits = [
            i
            for i, c in enumerate(said.text)
            if c.isdigit() and "obi_10" not in said.text[i - 6 : i + 2]
        ]
        for i in digits:
            other = rng.choice([d for d in "0123456789" if d != said.text[i]])
            text = said.text[:i] + other + said.text[i + 1 :]
            assert check_trace(with_statement(trace, place, text=text), *rest), text
            tried += 1
    assert tried >= 60


def test_a_consistent_lie_is_found(case) -> None:
    """Text and number agree with each other, and not with the evidence."""
    trace, *rest = case
    for place, said in enumerate(trace.statements):
        if said.number is None or said.number == 0.0:
            continue
        shown = next(w for w in said.text.rstrip(".").split() if _is_number(w))
        lie = f"{float(shown) * 2:+.4f}"
        told = said.text.replace(shown, lie)
        assert check_trace(with_statement(trace, place, text=told, number=float(lie)), *rest), told


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def test_an_extra_number_is_found(case) -> None:
    trace, *rest = case
    for place, said in enumerate(trace.statements):
        assert check_trace(with_statement(trace, place, text=said.text + " About 7 more."), *rest)
    assert check_trace(replace(trace, headline=trace.headline + ", 7.5 % sure"), *rest)


def test_a_number_moved_to_another_field_or_evidence_is_found(case) -> None:
    trace, *rest = case
    for place, said in enumerate(trace.statements):
        if not said.number:  # a zero is equal to every other zero
            continue
        for field in ("novelty", "burst", "__class__", "no_such", "before.p_none", "", "span"):
            if field != said.field:
                assert check_trace(with_statement(trace, place, field=field), *rest)
        if said.evidence_id:
            assert check_trace(with_statement(trace, place, evidence_id="o9"), *rest)
    (stance,) = [i for i, s in enumerate(trace.statements) if s.field == "stance"]
    assert check_trace(with_statement(trace, stance, evidence_id="o1"), *rest)


@pytest.mark.parametrize("written", ["1e400", "-1e999", "7e" + "9" * 5_000])
def test_a_number_beyond_all_numbers_is_found(case, written: str) -> None:
    trace, *rest = case
    for place, said in enumerate(trace.statements):
        told = f"{said.text} About {written} more."
        assert check_trace(with_statement(trace, place, text=told), *rest)


def test_an_altered_quote_is_found(case) -> None:
    trace, *rest = case
    (place,) = [i for i, s in enumerate(trace.statements) if s.quote]
    said = trace.statements[place]
    for quote in (said.quote.replace("12", "21"), said.quote + ".", said.quote.upper(), TEXT):
        both = with_statement(trace, place, quote=quote, text=said.text.replace(said.quote, quote))
        assert check_trace(both, *rest)
        assert check_trace(with_statement(trace, place, quote=quote), *rest)
        only_text = said.text.replace(said.quote, quote)
        assert check_trace(with_statement(trace, place, text=only_text), *rest)
    assert check_trace(with_statement(trace, place, evidence_id=""), *rest)


def test_an_unlisted_quote_is_found(case) -> None:
    trace, *rest = case
    invented = Statement(text="wire7: \u201cbankrupt\u201d", evidence_id="c1")
    assert check_trace(replace(trace, statements=(*trace.statements, invented)), *rest)
    assert check_trace(replace(trace, headline='it said "bankrupt"'), *rest)


def test_a_shifted_span_or_another_document_is_found(case) -> None:
    trace, verdict, before, pack, texts = case
    for span in ((10, 37), (12, 39), (11, 37), (-50, -23), (11, 10_000), (38, 11)):
        moved = replace(pack, evidence=(make_claim(span=span), *pack.evidence[1:]))
        assert check_trace(trace, verdict, before, moved, texts), span
    assert check_trace(trace, verdict, before, pack, {})
    assert check_trace(trace, verdict, before, pack, {"d1": TEXT.replace("revenue", "Revenue")})


def test_a_citation_outside_the_pack_is_found(case) -> None:
    trace, verdict, before, pack, texts = case
    without = replace(pack, evidence=pack.evidence[1:])
    assert check_trace(trace, verdict, before, without, texts)
    stray = Citation(evidence_id="c9", shift=0.0, log_scale=0.0)
    cited = replace(verdict, citations=(*verdict.citations, stray))
    assert check_trace(trace, cited, before, pack, texts)


def test_evidence_from_after_the_as_of_time_is_found(case) -> None:
    trace, verdict, before, pack, texts = case
    early = replace(make_claim(), ts_recv=pack.as_of + 1)
    poisoned = replace(pack, evidence=(early, *pack.evidence[1:]))
    assert check_trace(trace, verdict, before, poisoned, texts)
    assert check_trace(trace, verdict, before, replace(pack, as_of=trace.ts + 1), texts)


def test_a_trace_about_something_else_is_found(case) -> None:
    trace, verdict, before, pack, texts = case
    for changes in ({"verdict_id": "x"}, {"forecast_id": "x"}, {"version": 3}):
        assert check_trace(replace(trace, **changes), verdict, before, pack, texts)
    assert check_trace(trace, verdict, before, replace(pack, instrument="test:B"), texts)
    assert check_trace(trace, replace(verdict, shift=0.2), before, pack, texts)
    assert check_trace(trace, verdict, replace(before, emitted=(0.2, 0.4, 0.4)), pack, texts)


def test_a_revision_that_the_rules_give_holds(make) -> None:
    before = make.forecast(emitted=(0.2, 0.3, 0.5), base=(0.3, 0.4, 0.3))
    for action in Action:
        verdict = make.verdict(before, action, vol_scale=1.3)
        assert check_revision(make.revision(before, verdict, S // 2), before, verdict) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 3},
        {"base_version": 0},
        {"ts": 900_000_000},  # after expiry: it should have been late
        {"verdict_id": "x"},
        {"forecast_id": "x"},
        {"applied": Applied.LATE},
        {"forecast": None},
    ],
)
def test_a_revision_that_breaks_the_rule_is_found(make, changes) -> None:
    before = make.forecast()
    verdict = make.verdict(before)
    revision = make.revision(before, verdict, S // 2)
    assert check_revision(replace(revision, **changes), before, verdict)


@pytest.mark.parametrize(
    "changes",
    [
        {"emitted": (0.3, 0.3, 0.4)},
        {"emitted_q": (-2.0, -1.0, 0.0, 1.0, 2.1)},
        {"base": (0.3, 0.4, 0.3)},
        {"valid_until": 10 * S},
        {"version": 4},
        {"status": "confirmed"},
        {"reference": None},
        {"ts_emit": 1},
    ],
)
def test_a_new_version_with_any_other_field_is_found(make, changes) -> None:
    before = make.forecast()
    verdict = make.verdict(before)
    revision = make.revision(before, verdict, S // 2)
    wrong = replace(revision, forecast=replace(revision.forecast, **changes))
    assert check_revision(wrong, before, verdict)


def test_a_revision_on_a_version_that_did_not_stand_is_found(make) -> None:
    before = make.forecast()
    verdict = make.verdict(before)
    one = make.revision(before, verdict, S // 4)
    again = make.revision(one.forecast, verdict, S // 2)
    assert check_revision(again, one.forecast, verdict)
    refused = replace(again, applied=Applied.SUPERSEDED, version=2, base_version=1, forecast=None)
    assert check_revision(refused, one.forecast, verdict) == []


def test_an_id_that_is_not_the_contents_is_found(case) -> None:
    trace, *rest = case
    assert check_trace(replace(trace, trace_id="0" * 32), *rest)
    assert check_trace(msgspec.structs.replace(trace, headline="test:A 10s confirmed"), *rest)


def lies(trace, n):
    """Return a trace in which n of the numbered statements say twice their number and one more."""
    statements = list(trace.statements)
    numbered = [i for i, s in enumerate(statements) if s.number is not None]
    for i in numbered[:n]:
        said = statements[i]
        lie = 2.0 * said.number + 1.0
        statements[i] = replace(said, number=lie, text=f"It is {lie!r}.")
    return replace(trace, statements=tuple(statements))


def test_what_does_not_hold_is_struck_with_its_reason_and_the_rest_stands(case) -> None:
    trace, *rest = case
    told = struck(lies(trace, 1), *rest)
    (one,) = [s for s in told.statements if s.struck]
    assert "as displayed" in one.struck
    assert told.refused == ""
    assert check_trace(told, *rest) == []
    assert check_trace(lies(trace, 1), *rest)  # the same, and nothing struck


def test_a_mark_that_is_taken_away_added_or_reworded_is_found(case) -> None:
    trace, *rest = case
    told = struck(lies(trace, 1), *rest)
    for place, statement in enumerate(told.statements):
        for mark in ("", "for no reason"):
            if mark != statement.struck:
                assert check_trace(with_statement(told, place, struck=mark), *rest)


def test_a_trace_of_which_too_little_holds_is_refused(case) -> None:
    trace, *rest = case
    most = int((1.0 - LEAST_HOLDING) * len(trace.statements))
    assert struck(lies(trace, most), *rest).refused == ""
    told = struck(lies(trace, most + 1), *rest)
    assert told.refused == f"{most + 1} of {len(trace.statements)} statements do not hold"
    assert check_trace(told, *rest) == []
    assert check_trace(replace(told, refused=""), *rest)
    assert check_trace(replace(trace, refused="at will"), *rest)


def test_a_trace_of_a_verdict_that_cites_outside_the_pack_is_refused(case) -> None:
    trace, verdict, *rest = case
    stray = Citation(evidence_id="c9", shift=0.0, log_scale=0.0)
    cited = replace(verdict, citations=(*verdict.citations, stray))
    assert "c9" in struck(trace, cited, *rest).refused


def test_a_share_left_out_or_out_of_order_is_found(case) -> None:
    trace, *rest = case
    first, second = (i for i, s in enumerate(trace.statements) if s.field == "share.shift")
    statements = list(trace.statements)
    swapped = [*statements[:first], *statements[second:], *statements[first:second]]
    assert check_trace(replace(trace, statements=tuple(swapped)), *rest)
    del statements[second]
    assert check_trace(replace(trace, statements=tuple(statements)), *rest)


def test_a_low_fidelity_is_told_and_nothing_else_is(make) -> None:
    trace, verdict, before, pack, texts = make_case(make)
    after = revised(before, verdict, NOW + S)
    low = Fidelity(agreement=0.3, r2=0.9, n_ablations=2, n_subsets=9)
    told = explain(verdict, before, after, pack, low)
    assert UNFAITHFUL in [s.text for s in told.statements]
    assert check_trace(told, verdict, before, pack, texts) == []
    silent = tuple(s for s in told.statements if s.text != UNFAITHFUL)
    assert check_trace(replace(told, statements=silent), verdict, before, pack, texts)
    boast = Fidelity(agreement=0.9, r2=0.9, n_ablations=2, n_subsets=9)
    assert check_trace(replace(told, fidelity=boast), verdict, before, pack, texts)
    said = (Statement(text=UNFAITHFUL), *trace.statements)
    assert check_trace(replace(trace, statements=said), verdict, before, pack, texts)


def test_a_trace_that_was_not_written_says_nothing_else(case) -> None:
    trace, verdict, *rest = case
    dropped = not_written(trace.forecast_id, trace.verdict_id, trace.version, trace.ts, "no time")
    assert check_trace(dropped, verdict, *rest) == []
    assert check_trace(replace(dropped, statements=trace.statements), verdict, *rest)
    assert check_trace(replace(dropped, verdict_id="x"), verdict, *rest)


@pytest.mark.parametrize(
    "words", ["volume rose by 17 points", 'the firm says "bankrupt"', "it stands at 17 to 4"]
)
def test_a_models_words_that_no_record_bears_out_are_struck_alone(make, words) -> None:
    drafted, *rest = make_case(make, conflict=words)
    told = struck(drafted, *rest)
    (one,) = [s for s in told.statements if s.struck]
    assert one.text == f"Conflict: {words}."
    assert told.refused == ""
    assert check_trace(told, *rest) == []
    assert words not in told.headline
