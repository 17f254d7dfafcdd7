"""Laws of questions: no field of a verdict or pack changes by itself, and the three belong together."""

from typing import Any

import msgspec
import pytest

from finllm.audit.questions import check_judged, check_question
from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack, Reason, named_pack
from finllm.domain.protocol import Action, Voiding, named_verdict, standing_of

replace = msgspec.structs.replace
CLAIM = Evidence(
    evidence_id="c1", kind=EvidenceKind.CLAIM, instrument="test:A", ts_recv=5, origin="wire"
)


@pytest.fixture
def case(make: Any) -> tuple[Any, Any, Any, Any]:
    """Return a question, a verdict, the version that it is about, and a pack that belong together."""
    before = make.forecast()
    question = replace(make.question("q", ts=10), standing=(standing_of(before),))
    pack = EvidencePack(
        pack_id="",
        instrument="test:A",
        as_of=10,
        evidence=(CLAIM,),
        n_documents=1,
        n_copies=0,
        burst=1.0,
    )
    return question, named_verdict(make.verdict(before)), before, named_pack(pack)


def changed(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, float | int):
        return value + 1
    return f"{value}x" if isinstance(value, str) else (Voiding.TIME,)


def test_what_belongs_together_holds(case: Any) -> None:
    assert check_question(*case) == []


@pytest.mark.parametrize(
    "field", ["action", "conflict", "cost", "driver", "fallback", "hypotheses", "voided_by", "pool"]
)
def test_any_field_of_a_verdict_changed_by_itself_is_found(case: Any, field: str) -> None:
    question, verdict, before, pack = case
    lie = Action.RETRACT if field == "action" else changed(getattr(verdict, field))
    told = check_question(question, replace(verdict, **{field: lie}), before, pack)
    assert any("id of verdict" in why for why in told)


@pytest.mark.parametrize("field", ["n_documents", "n_copies", "burst", "n_quarantined", "since"])
def test_any_count_of_a_pack_changed_by_itself_is_found(case: Any, field: str) -> None:
    question, verdict, before, pack = case
    lie = replace(pack, **{field: changed(getattr(pack, field))})
    assert any("id of pack" in why for why in check_question(question, verdict, before, lie))


@pytest.mark.parametrize(
    "lie",
    [
        {"reasons": (Reason(name="record", log_odds=1.0),)},
        {"hawkishness": 0.1},
        {"n_copies": 1},
        {"ts_recv": 4},
        {"encoder": "another"},
    ],
)
def test_any_field_of_evidence_changed_by_itself_is_found(case: Any, lie: Any) -> None:
    question, verdict, before, pack = case
    false = replace(pack, evidence=(replace(CLAIM, **lie),))
    assert any("id of pack" in why for why in check_question(question, verdict, before, false))


def test_what_belongs_to_another_question_is_found(case: Any, make: Any) -> None:
    question, verdict, before, pack = case
    for other in ({"question_id": "other"}, {"ts": 11}, {"instrument": "test:B"}, {"standing": ()}):
        assert check_question(replace(question, **other), verdict, before, pack)
    assert check_question(question, verdict, replace(before, version=2), pack)


def test_a_verdict_that_its_reasoner_does_not_give_is_found_though_its_id_fits(case: Any) -> None:
    _, verdict, _, _ = case
    assert check_judged(verdict, verdict) == []
    asked = named_verdict(replace(verdict, fallback="timeout", verdict_id=""))
    assert check_judged(asked, verdict) == []
    near = replace(verdict, shift=verdict.shift + 1e-12)
    assert check_judged(near, verdict) == []
    lie = named_verdict(replace(verdict, voided_by=(Voiding.TIME,)))
    assert check_judged(lie, verdict) == [
        f"voided_by of the verdict is not what {verdict.reasoner} says of its pack"
    ]
