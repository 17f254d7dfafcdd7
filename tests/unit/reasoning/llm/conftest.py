"""A question about one pack, and reasoners that ask somebody about it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from finllm.domain.evidence import EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Escalate
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.reasoner import Judgement

S = 1_000_000_000


class Case:
    """A question, its forecasts and its pack."""

    def __init__(self, make: Callable[..., Any], pack: EvidencePack | None = None) -> None:
        self.forecasts: tuple[Forecast, ...] = (make("forecast", 10.0), make("forecast", 60.0))
        self.pack: EvidencePack = pack or make(
            "pack",
            make("claim", "c1", event_type="earnings"),
            make("claim", "c2", stance=-0.6, credibility=0.7, origin="blog"),
            make("observation", "o1", "obi_1", -1.5),
        )
        self.question: Escalate = make("question", *self.forecasts)

    def named(self, question_id: str, **changes: Any) -> "Case":
        """Return the case under another question id."""
        case = object.__new__(Case)
        case.forecasts, case.pack = self.forecasts, self.pack
        case.question = msgspec.structs.replace(self.question, question_id=question_id, **changes)
        return case

    def judged_by(self, reasoner: Any) -> Judgement:
        judgement: Judgement = reasoner.judge(
            self.question, self.forecasts, self.pack, self.pack.as_of + S, 3
        )
        return judgement


@pytest.fixture
def case(make: Callable[..., Any]) -> Case:
    return Case(make)


@pytest.fixture
def case_of(make: Callable[..., Any]) -> Callable[[EvidencePack], Case]:
    return lambda pack: Case(make, pack)


@pytest.fixture
def llm_settings() -> Callable[..., LlmSettings]:
    def made(url: str = "http://127.0.0.1:9/v1", **changes: Any) -> LlmSettings:
        return LlmSettings(**{"base_url": url, "model": "tiny", "retry_s": 0.01} | changes)

    return made
