"""Members of ensembles: models that have an opinion of their own on every pack, and who asks them."""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from finllm.domain.completion import Completion
from finllm.domain.protocol import Pool, Verdict
from finllm.narrative.text.languages import language_of
from finllm.reasoning.ensemble.reasoner import EnsembleReasoner, Member
from finllm.reasoning.ensemble.settings import EnsembleSettings, MemberSettings
from finllm.reasoning.ensemble.track import TrackRecord
from finllm.reasoning.llm.answerer import Answerer, Ask, Journalled
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.reasoner import LlmReasoner
from support.endpoint import Endpoint, Play, Request, answer
from support.scripted import Scripted

Journal = Callable[[Completion], None]


def opinion(ids: list[str], salt: str) -> str:
    """Return an answer whose figures and words follow from the pack and from who is asked."""
    seed = hashlib.sha256(" ".join([salt, *ids]).encode()).digest()
    shift = round(seed[0] / 128.0 - 1.0, 3)
    letters = "".join(chr(ord("a") + byte % 26) for byte in seed[1:21])
    return answer(
        ids,
        stance="up" if shift > 0 else "down" if shift < 0 else "none",
        shift=shift,
        vol_scale=round(0.6 + seed[21] / 256.0, 3),
        why=f"The words of {letters} lead, and the market has not followed them yet.",
        citations=ids[:8],
    )


def opining(salt: str) -> Play:
    """Return what plays an endpoint with an opinion."""

    async def play(request: Request) -> None:
        request.say(opinion(request.ids, salt))

    return play


def cited_by(ask: Ask) -> list[str]:
    """Return the evidence that an answer may cite."""
    found: list[str] = ask.schema["properties"]["citations"].get("items", {}).get("enum", [])
    return found


def of_opinion(salt: str) -> Callable[[Ask], str]:
    return lambda ask: opinion(cited_by(ask), salt)


def member(
    name: str, answerer: Answerer, *, journal: Journal = lambda _: None, **changes: Any
) -> Member:
    """Return a member who asks an answerer."""
    held = {"base_url": "http://127.0.0.1:9/v1", "model": "tiny", "retry_s": 0.01} | changes
    settings = MemberSettings(name=name, **held)
    return Member(
        settings=settings, reasoner=LlmReasoner(settings, answerer, on_completion=journal)
    )


def scripted(name: str, play: Callable[[Ask], str] | None = None, **changes: Any) -> Member:
    """Return a member who answers at once, by default with an opinion of its own."""
    return member(name, Scripted(play or of_opinion(name)), **changes)


def ensemble(
    *members: Member, track: TrackRecord | None = None, **settings: Any
) -> EnsembleReasoner:
    return EnsembleReasoner(
        EnsembleSettings(**settings), members, track or TrackRecord(), language_of=language_of
    )


def at_endpoints(
    plays: dict[str, Play], stack: ExitStack, journal: Journal = lambda _: None, **changes: Any
) -> tuple[list[Member], dict[str, Endpoint]]:
    """Return members by name, each with a client and an endpoint on loopback that plays what it is told."""
    members, endpoints = [], {}
    for name, play in plays.items():
        endpoints[name] = stack.enter_context(Endpoint(play))
        told = {"base_url": endpoints[name].url, "deadline_s": 60.0} | changes
        settings = member(name, Journalled({}), **told).settings
        client = stack.enter_context(Client(settings))
        members.append(member(name, client, journal=journal, **told))
    return members, endpoints


def pool_of(verdict: Verdict) -> Pool:
    assert isinstance(verdict.pool, Pool)
    return verdict.pool


def outcomes(verdict: Verdict) -> dict[str, str]:
    """Return by member how its exchange ended."""
    return {one.name: one.outcome for one in pool_of(verdict).members}


def weights(verdict: Verdict) -> dict[str, float]:
    return {one.name: one.weight for one in pool_of(verdict).members}
