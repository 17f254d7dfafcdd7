"""Laws of the reasoner's double."""

from collections.abc import Callable
from typing import Any

import pytest

from finllm.domain.protocol import Action
from finllm.reasoning.reasoner import Judgement
from finllm.reasoning.scripted import ScriptedReasoner

Make = Callable[..., Any]


def test_it_plays_given_judgements_by_question(make: Make) -> None:
    said = Judgement(verdicts=(), outlook=None)
    double = ScriptedReasoner.of({"q": said})
    assert double.judge(make("question"), (), make("pack"), 0, 1) is said
    with pytest.raises(KeyError):
        ScriptedReasoner.of({}).judge(make("question"), (), make("pack"), 0, 1)


def test_it_plays_a_function(make: Make) -> None:
    heard = []

    def play(*asked: Any) -> Judgement:
        heard.append(asked)
        return Judgement(verdicts=(), outlook=None)

    question, pack = make("question"), make("pack")
    ScriptedReasoner(play, "mine").judge(question, (), pack, 3, 4)
    assert heard == [(question, (), pack, 3, 4)]


def test_a_steady_one_moves_nothing_that_it_cannot_cite(make: Make) -> None:
    double = ScriptedReasoner.steady(Action.REFINE, 0.4, 2.0)
    forecast = make("forecast")
    answer = double.judge(make("question", forecast), (forecast,), make("pack"), 0, 1)
    (verdict,) = answer.verdicts
    assert (verdict.action, verdict.shift, verdict.vol_scale) == (Action.CONFIRM, 0.0, 1.0)
    assert answer.outlook is None
