"""Settings that ask language models at endpoints on loopback, whose words are partly false."""

from contextlib import ExitStack
from itertools import cycle
from typing import Final

from finllm.app.settings import ReasoningSettings, Settings
from finllm.app.tiers import TierSettings
from finllm.reasoning.ensemble.settings import EnsembleSettings, MemberSettings
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Endpoint, Play, Request
from support.opinions import opinion

FALSE: Final = (
    "Losses of $1 bn and 0 revenue.",
    "Rates fall by 1%.",
    "A dozen banks failed, and a quarter of all deposits fled.",
    "He said 'sell everything now'.",
    "Visit pump.example for more.",
    "The default probability is 1.",
    "The index dropped 0.6 points.",
)
"""What no evidence bears out, however many figures it has."""


def boasting(salt: str) -> Play:
    """Return what plays an endpoint with an opinion, and one false sentence after the other."""
    turns = cycle(FALSE)

    async def play(request: Request) -> None:
        said = opinion(request.ids, salt)
        request.say(said.replace('"why": "', f'"why": "{next(turns)} '))

    return play


def asking_one(stack: ExitStack) -> Settings:
    """Return settings by which a language model is asked."""
    url = stack.enter_context(Endpoint(boasting("one"))).url
    llm = LlmSettings(base_url=url, model="tiny", deadline_s=20.0, retry_s=0.01)
    return Settings(reasoning=ReasoningSettings(llm=llm), tier=(TierSettings(reasoner="llm"),))


def asking_several(stack: ExitStack) -> Settings:
    """Return settings by which an ensemble of two is asked."""
    members = tuple(
        MemberSettings(
            name=name,
            base_url=stack.enter_context(Endpoint(boasting(name))).url,
            model="tiny",
            retry_s=0.01,
        )
        for name in ("able", "baker")
    )
    ensemble = EnsembleSettings(deadline_s=20.0)
    return Settings(
        reasoning=ReasoningSettings(member=members, ensemble=ensemble),
        tier=(TierSettings(reasoner="ensemble"),),
    )
