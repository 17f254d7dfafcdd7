"""Made-up forecasts, questions and packs for the reasoning room, and reasoners that ask about them."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Escalate, Voiding, standing_of
from finllm.reasoning.fusion import BandWeights, Weights
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.reasoner import Judgement
from support import forecasts
from support.forecasts import S

DAY = 86_400 * S
NOW = 1_000 * DAY


def _forecast(horizon_s: float = 10.0, *, issued: int = NOW - S, **changes: Any) -> Forecast:
    return forecasts.forecast(horizon_s, issued=issued, **changes)


def _claim(name: str, **changes: Any) -> Evidence:
    quote = changes.pop("quote", f"words of {name}")
    made = Evidence(
        evidence_id=name,
        kind=EvidenceKind.CLAIM,
        instrument="test:A",
        ts_recv=NOW - 2 * S,
        origin=f"origin of {name}",
        document_id=f"document of {name}",
        span=(0, len(quote)),
        quote=quote,
        stance=0.5,
        novelty=1.0,
        credibility=0.8,
        relevance=0.9,
    )
    return msgspec.structs.replace(made, **changes)


def _observation(name: str, feature: str, z_score: float, **changes: Any) -> Evidence:
    made = Evidence(
        evidence_id=name,
        kind=EvidenceKind.OBSERVATION,
        instrument="test:A",
        ts_recv=NOW,
        origin="market",
        feature=feature,
        window_ns=S,
        value=0.25,
        unit="1",
        z_score=z_score,
    )
    return msgspec.structs.replace(made, **changes)


def _pack(*evidence: Evidence, burst: float = 1.0) -> EvidencePack:
    return EvidencePack(
        pack_id="p",
        instrument="test:A",
        as_of=NOW,
        evidence=evidence,
        n_documents=len(evidence),
        n_copies=0,
        burst=burst,
    )


def _question(*about: Forecast, deadline_s: float = 30.0) -> Escalate:
    return Escalate(
        question_id="q",
        instrument="test:A",
        ts=NOW,
        notice_id="n",
        standing=tuple(map(standing_of, about)),
        deadline=NOW + int(deadline_s * S),
        expected_gain=0.01,
        reason="test",
    )


def _weights(**changes: Any) -> Weights:
    """Round numbers with every measure in use, whatever the shipped weights say."""
    scale = {
        "breadth": 0.1,
        "burst": 0.2,
        "stance": 0.3,
        "dispersion": 0.1,
        "conflict": 0.2,
        "observation": 0.02,
        "event:earnings": 0.4,
    }
    shift = {"stance": 0.5, "event:earnings": 0.3, "observation": 0.1}
    band = BandWeights(
        name="book",
        up_to_ns=60 * S,
        memory_ns=20 * S,
        shift=shift,
        scale=scale,
        max_shift=0.5,
        max_log_scale=0.6,
        least_shift=0.02,
        least_log_scale=0.02,
        half_life_ns=10 * S,
        life_ns=60 * S,
        retract_within_ns=80 * S,
    )
    bar = msgspec.structs.replace(
        band, name="bar", up_to_ns=9_000 * DAY, memory_ns=DAY // 2, shift={}, half_life_ns=DAY // 4
    )
    made = Weights(
        name="test-1",
        bands=(band, msgspec.structs.replace(bar, life_ns=3 * DAY)),
        directed=("obi", "ofi", "ret"),
        retract_events=("denial",),
        retract_credibility=0.3,
        voided_by=(Voiding.CONTRARY_EVIDENCE, Voiding.TIME),
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def make() -> Callable[..., Any]:
    """Return `make(what, ...)`, which makes a forecast, claim, observation, pack and so on."""
    makers: dict[str, Callable[..., Any]] = {
        "forecast": _forecast,
        "claim": _claim,
        "observation": _observation,
        "pack": _pack,
        "question": _question,
        "weights": _weights,
    }

    def made(what: str, *args: Any, **changes: Any) -> Any:
        return makers[what](*args, **changes)

    return made


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
