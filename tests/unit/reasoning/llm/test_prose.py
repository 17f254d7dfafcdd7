"""Every number and quote in a model's words is the cited evidence's, or its sentence is struck."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from finllm.audit.traces import check_trace
from finllm.domain.protocol import Action
from finllm.domain.revise import revised
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.explain import explain
from finllm.reasoning.llm.prose import checked
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from support.asked import FALSE
from support.endpoint import answer
from support.scripted import Scripted

STRUCK = (
    "It rose by 5 percent.",
    "It rose by five.",
    "It rose by \u0665.",
    "It rose by \u4e94.",
    "It rose by \u2164.",
    'They said "we beat everything".',
    "They said \u00abwe beat\u00bb.",
    "See https://pump.example for why.",
    "Write to a@b.example now.",
    "\u5e02\u573a\u4f1a\u4e0a\u6da8\u3002",
    "It is 1e400 large.",
    'An odd quote " stands alone.',
    *FALSE,
    "It lost 0.50 today.",
    "Its stance is 0.50 bn.",
)


@pytest.mark.parametrize("sentence", STRUCK)
def test_what_is_not_the_evidences_is_struck(sentence: str, make: Callable[..., Any]) -> None:
    cited = [make("claim", "c1")]
    kept, struck = checked(f"The text leads. {sentence} The book lags.", cited)
    assert kept == "The text leads. The book lags."
    assert struck == (sentence,)


def test_what_is_the_evidences_stays(make: Callable[..., Any]) -> None:
    cited = [
        make("claim", "c1", quote="we beat everything"),
        make("observation", "o", "obi", -1.52),
    ]
    said = "Stance is 0.50 at z -1.5; obi 0.25. They said \u201cwe beat everything\u201d."
    assert checked(said, cited) == (said, ())


@given(st.text(max_size=120))
def test_no_figure_is_left_without_its_evidence(text: str) -> None:
    kept, _ = checked(text, [])
    assert not any(c.isnumeric() for c in kept)
    assert "\n" not in kept


@pytest.mark.parametrize("agreement", ["agree", "unclear"])
def test_a_model_that_sees_no_conflict_states_none(agreement: str, case: Any) -> None:
    said = Scripted(lambda _: answer(["c1"], agreement=agreement, why="Both point up. It is 9."))
    judged = case.judged_by(LlmReasoner(LlmSettings(model="tiny"), said))
    own = case.judged_by(EmbeddedReasoner())
    assert [v.conflict for v in judged.verdicts] == [v.conflict for v in own.verdicts]
    assert [v.struck for v in judged.verdicts] == [UNSET] * len(case.forecasts)


def test_a_conflict_is_a_clause_and_what_does_not_hold_of_it_is_kept_apart(case: Any) -> None:
    why = "The text leads. It went 17 points. The book lags."
    said = Scripted(lambda _: answer(["c1"], agreement="conflict", why=why))
    before = case.forecasts[0]
    verdict = case.judged_by(LlmReasoner(LlmSettings(model="tiny"), said)).verdicts[0]
    assert verdict.conflict == "The text leads. The book lags"
    assert verdict.struck == ("It went 17 points.",)
    after = revised(before, verdict, case.question.ts + 1)
    first = explain(verdict, before, after, case.pack).statements[0]
    assert first.text == "Conflict: The text leads. The book lags."


def test_a_trace_says_that_another_reasoner_answered(case: Any) -> None:
    verdict = case.judged_by(
        LlmReasoner(LlmSettings(model="qwen-7b"), Scripted(lambda _: ""))
    ).verdicts[0]
    before = case.forecasts[0]
    after = revised(before, verdict, case.question.ts + 1)
    trace = explain(verdict, before, after, case.pack)
    said = [s.text for s in trace.statements if "in place of the language model" in s.text]
    assert said == [f"{verdict.reasoner} answers in place of the language model: invalid."]
    texts = {e.document_id: e.quote for e in case.pack.evidence}
    assert check_trace(trace, verdict, before, case.pack, texts) == []


WORDS = (
    "The text leads at stance 0.50.",
    "It went 17 points.",
    'The firm says "words of c1".',
    'It says "words of c9".',
    "Volatility doubled to 3.",
)


@pytest.mark.parametrize("why", WORDS)
def test_a_trace_of_a_models_words_passes_the_audit(why: str, case: Any) -> None:
    told = Scripted(lambda _: answer(["c1", "o1"], citations=["c1", "o1"], why=why))
    verdict = case.judged_by(LlmReasoner(LlmSettings(model="qwen-7b"), told)).verdicts[0]
    assert verdict.fallback == ""
    assert verdict.action in {Action.REFINE, Action.CONFIRM}
    before = case.forecasts[0]
    after = revised(before, verdict, case.question.ts + 1)
    trace = explain(verdict, before, after, case.pack)
    texts = {e.document_id: e.quote for e in case.pack.evidence}
    assert check_trace(trace, verdict, before, case.pack, texts) == []
