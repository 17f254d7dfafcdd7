"""Laws of the trace: every number and quote in it can be looked up."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finllm.domain.protocol import Action
from finllm.domain.revise import revised
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.explain import explain
from finllm.reasoning.scripted import ScriptedReasoner

Make = Callable[..., Any]
S = 1_000_000_000
NOW = 1_000 * 86_400 * S
UNIT = st.floats(0.0, 1.0)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def lookup(statement: Any, verdict: Any, before: Any, after: Any, pack: Any) -> float:
    """Return the number that a statement claims to state, from the record it names."""
    if statement.field.startswith(("before.", "after.")):
        when, name = statement.field.split(".")
        forecast = before if when == "before" else after
        if name == "width_bps":
            return forecast.emitted_q[3] - forecast.emitted_q[1]
        return forecast.emitted[("p_down", "p_flat", "p_up").index(name)]
    if not statement.evidence_id:
        found = verdict
        for name in statement.field.split("."):
            is_one_of = isinstance(found, tuple)
            found = next(o for o in found if o.name == name) if is_one_of else getattr(found, name)
        return found
    if statement.field.startswith("share."):
        (share,) = [c for c in verdict.citations if c.evidence_id == statement.evidence_id]
        return getattr(share, statement.field.removeprefix("share."))
    (evidence,) = [e for e in pack.evidence if e.evidence_id == statement.evidence_id]
    return getattr(evidence, statement.field)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.floats(-1.0, 1.0), UNIT, UNIT, UNIT, st.text(max_size=40)), max_size=6),
    st.floats(-6.0, 6.0),
    st.floats(0.2, 9.0),
)
def test_every_number_and_quote_resolves(
    make: Make, claims: list[tuple[float, float, float, float, str]], z: float, burst: float
) -> None:
    evidence = [
        make("claim", f"c{i}", stance=a, novelty=b, credibility=c, relevance=d, quote=text)
        for i, (a, b, c, d, text) in enumerate(claims)
    ]
    pack = make("pack", *evidence, make("observation", "o", "obi_1", z), burst=burst)
    before = make("forecast")
    reasoner = EmbeddedReasoner(make("weights"))
    (verdict,) = reasoner.judge(make("question", before), (before,), pack, NOW + S, 1).verdicts
    after = revised(before, verdict, NOW + S)
    trace = explain(verdict, before, after, pack)
    quotes = {e.evidence_id: e.quote for e in evidence}
    for statement in trace.statements:
        if statement.number is not None:
            rest = statement.text.replace("obi_1", "")
            (shown,) = NUMBER.findall(rest)
            assert float(shown) == statement.number
            actual = lookup(statement, verdict, before, after, pack)
            decimals = len(shown.partition("e")[0].partition(".")[2])
            assert abs(actual - statement.number) <= 0.5 * 10.0**-decimals * (1 + 1e-9)
        if statement.quote:
            assert statement.quote == quotes[statement.evidence_id]
            assert statement.quote in statement.text
    cited = [s.evidence_id for s in trace.statements if s.field == "share.shift"]
    assert cited == [c.evidence_id for c in verdict.citations]
    assert {s.evidence_id for s in trace.statements} <= {"", *cited}


def test_the_largest_share_comes_first(make: Make) -> None:
    pack = make("pack", make("claim", "small", stance=0.1), make("claim", "large", stance=0.9))
    before = make("forecast")
    reasoner = EmbeddedReasoner(make("weights"))
    (verdict,) = reasoner.judge(make("question", before), (before,), pack, NOW, 1).verdicts
    trace = explain(verdict, before, revised(before, verdict, NOW), pack)
    sizes = [abs(c.shift) + abs(c.log_scale) for c in verdict.citations]
    assert sizes == sorted(sizes, reverse=True)
    told = [s.evidence_id for s in trace.statements if s.evidence_id]
    assert told.index("large") < told.index("small")


def test_a_citation_outside_the_pack_is_struck(make: Make) -> None:
    before = make("forecast")
    full = make("pack", make("claim", "a"))
    double = ScriptedReasoner.steady(Action.REFINE, 0.2, 1.1)
    (verdict,) = double.judge(make("question", before), (before,), full, NOW, 1).verdicts
    trace = explain(verdict, before, revised(before, verdict, NOW), make("pack"))
    assert not [s for s in trace.statements if s.evidence_id]


def test_the_same_revision_has_the_same_trace(make: Make) -> None:
    before, pack = make("forecast"), make("pack", make("claim", "a"))
    double = ScriptedReasoner.steady(Action.RETRACT)
    (verdict,) = double.judge(make("question", before), (before,), pack, NOW, 1).verdicts
    after = revised(before, verdict, NOW)
    assert explain(verdict, before, after, pack) == explain(verdict, before, after, pack)
    later = msgspec.structs.replace(after, version=9)
    assert (
        explain(verdict, before, later, pack).trace_id
        != explain(verdict, before, after, pack).trace_id
    )
