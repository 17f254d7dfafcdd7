"""Laws of the fidelity: terms that are why agree, terms that are not do not."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from finllm.domain.protocol import Action, Citation
from finllm.domain.trace import LEAST_FIDELITY, UNFAITHFUL
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.explain import explain
from finllm.reasoning.fidelity import N_SUBSETS, Again, measure
from finllm.reasoning.scripted import ScriptedReasoner

Make = Callable[..., Any]
S = 1_000_000_000
NOW = 1_000 * 86_400 * S
replace = msgspec.structs.replace


class Additive:
    """Says the sum of what each piece of evidence is worth, and nothing else."""

    name = "additive"

    def __init__(self, worth: dict[str, float]) -> None:
        self._worth = worth

    def again(self, forecast: Any, pack: Any) -> Again:
        shift = sum(self._worth[e.evidence_id] for e in pack.evidence)
        return Again(action=Action.REFINE, shift=shift, log_scale=0.0)


WORTH = {"a": 0.3, "b": -0.2, "c": 0.05}


def case(make: Make) -> tuple[Any, Any, Any]:
    """Return a verdict whose citations are what each piece is worth, its forecast and its pack."""
    before = make("forecast")
    pack = make("pack", *(make("claim", name) for name in WORTH))
    double = ScriptedReasoner.steady(Action.REFINE, 0.1, 1.0)
    (verdict,) = double.judge(make("question", before), (before,), pack, NOW, 1).verdicts
    citations = tuple(Citation(evidence_id=n, shift=w, log_scale=0.0) for n, w in WORTH.items())
    shift = sum(WORTH.values())
    return replace(verdict, reasoner="additive", shift=shift, citations=citations), before, pack


def test_terms_that_add_up_to_what_is_said_are_faithful(make: Make) -> None:
    found = measure(Additive(WORTH), *case(make))
    assert found.agreement == pytest.approx(1.0)
    assert found.r2 == pytest.approx(1.0)
    assert (found.n_ablations, found.n_subsets, found.unmeasured) == (3, N_SUBSETS, "")
    assert not found.is_low


def test_a_verdict_whose_width_is_not_said_again_has_no_figure(make: Make) -> None:
    verdict, before, pack = case(make)
    wider = replace(verdict, vol_scale=2.0 * verdict.vol_scale)
    found = measure(Additive(WORTH), wider, before, pack)
    assert (found.agreement, found.r2) == (None, None)
    assert found.unmeasured == "additive does not say the same again"


def test_terms_of_the_wrong_sign_agree_in_nothing(make: Make) -> None:
    verdict, before, pack = case(make)
    turned = tuple(replace(c, shift=-c.shift) for c in verdict.citations)
    found = measure(Additive(WORTH), replace(verdict, citations=turned), before, pack)
    assert found.agreement == 0.0
    assert found.r2 is not None
    assert found.r2 < 0.0
    assert found.is_low


def test_terms_given_to_other_evidence_are_caught(make: Make) -> None:
    verdict, before, pack = case(make)
    a, b, c = verdict.citations
    moved = (replace(a, shift=b.shift), replace(b, shift=a.shift), c)
    found = measure(Additive(WORTH), replace(verdict, citations=moved), before, pack)
    assert found.is_low


def test_a_term_half_as_large_agrees_by_half(make: Make) -> None:
    verdict, before, pack = case(make)
    halved = tuple(replace(c, shift=c.shift / 2) for c in verdict.citations)
    found = measure(Additive(WORTH), replace(verdict, citations=halved), before, pack)
    assert found.agreement == pytest.approx(0.5)


def test_the_same_verdict_has_the_same_fidelity(make: Make) -> None:
    pack = make("pack", make("claim", "a"), make("claim", "b", stance=-0.4), burst=3.0)
    before = make("forecast")
    reasoner = EmbeddedReasoner(make("weights"))
    (verdict,) = reasoner.judge(make("question", before), (before,), pack, NOW, 1).verdicts
    found = measure(reasoner, verdict, before, pack)
    assert found == measure(reasoner, verdict, before, pack)
    assert found.agreement is not None
    assert 0.0 <= found.agreement <= 1.0


def test_asked_again_of_the_same_pack_the_reasoner_says_the_same(make: Make) -> None:
    reasoner = EmbeddedReasoner(make("weights"))
    denial = make("claim", "d", event_type="denial", stance=-0.5, ts_recv=NOW)
    rumour = make("claim", "r", event_type="rumour", ts_recv=NOW - 5 * S)
    packs = (
        make("pack"),
        make("pack", make("claim", "a"), make("observation", "o", "obi_1", -3.0)),
        make("pack", rumour, denial),
    )
    seen = set()
    for pack in packs:
        before = make("forecast")
        (verdict,) = reasoner.judge(make("question", before), (before,), pack, NOW, 1).verdicts
        again = reasoner.again(before, pack)
        assert (again.action, again.shift) == (verdict.action, verdict.shift)
        seen.add(again.action)
    assert seen == set(Action)


def test_a_retraction_hangs_on_the_denial_that_it_cites(make: Make) -> None:
    denial = make("claim", "d", event_type="denial", stance=-0.5, ts_recv=NOW)
    pack = make("pack", make("claim", "r", event_type="rumour", ts_recv=NOW - 5 * S), denial)
    before = make("forecast")
    reasoner = EmbeddedReasoner(make("weights"))
    (verdict,) = reasoner.judge(make("question", before), (before,), pack, NOW, 1).verdicts
    assert verdict.action is Action.RETRACT
    found = measure(reasoner, verdict, before, pack)
    assert (found.agreement, found.r2) == (1.0, None)
    assert "no terms" in found.unmeasured


def test_who_cannot_be_asked_again_or_says_something_else_has_no_figure(make: Make) -> None:
    verdict, before, pack = case(make)
    for reasoner, why in ((None, "cannot be asked"), (Additive(dict.fromkeys(WORTH, 1.0)), "same")):
        found = measure(reasoner, verdict, before, pack)
        assert (found.agreement, found.r2) == (None, None)
        assert why in found.unmeasured
        trace = explain(verdict, before, before, pack, found)
        assert any(found.unmeasured in s.text for s in trace.statements)
        assert UNFAITHFUL not in [s.text for s in trace.statements]


def test_a_verdict_that_cites_nothing_has_no_figure_and_says_so(make: Make) -> None:
    verdict, before, pack = case(make)
    bare = replace(verdict, citations=())
    assert measure(Additive(WORTH), bare, before, pack).unmeasured == "nothing is cited"


def test_a_figure_below_the_threshold_is_told(make: Make) -> None:
    verdict, before, pack = case(make)
    for scale in (0.1, 1.0):
        shrunk = tuple(replace(c, shift=c.shift * scale) for c in verdict.citations)
        told = replace(verdict, citations=shrunk)
        found = measure(Additive(WORTH), told, before, pack)
        assert found.agreement is not None
        texts = [s.text for s in explain(told, before, before, pack, found).statements]
        assert (UNFAITHFUL in texts) == found.is_low == (found.agreement < LEAST_FIDELITY)
