"""A second reader's door: another agent, such as an LLM, may be asked what it makes of a claim.

It is handed the text as material between marks that the text cannot contain, and may answer by a fixed
schema only; anything else counts as no answer. Its say is bounded: it moves a credibility and releases
nothing. No reader is configured by default, since a reader's answers have to be journalled before a run
with one can be replayed.
"""

from enum import StrEnum
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from finllm.domain.identity import content_id
from finllm.narrative.trust.instructions import gives_orders

MOST_LOG_ODDS: Final = 1.5
"""How far a reader may move a claim either way."""
LONGEST_ANSWER: Final = 512
"""Bytes; a longer answer is none."""


class Finding(StrEnum):
    """What a reader makes of a claim."""

    SUPPORTS = "supports"
    DOUBTS = "doubts"
    CANNOT_TELL = "cannot_tell"


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The only thing that a reader may say."""

    finding: Finding
    confidence: Annotated[float, Meta(ge=0.0, le=1.0)]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader is asked about."""

    instrument: str
    claim: str
    """The quote, between `opening` and `closing`: material, never an instruction."""
    opening: str
    closing: str
    known: tuple[str, ...]
    """Quotes of what independent origins said before it, newest first, each within its own marks."""
    looks_like_orders: bool
    """The claim reads like instructions to its reader."""


class SecondReader(Protocol):
    """Another agent that judges claims."""

    @property
    def name(self) -> str:
        """Name with version, for the evidence."""
        ...

    def read(self, question: Question) -> bytes:
        """Return an `Answer` as JSON."""
        ...


class ScriptedReader:
    """A reader that gives prepared answers in turn, for tests; the last one again and again."""

    name: Final = "scripted/1"

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.asked: list[Question] = []

    def read(self, question: Question) -> bytes:
        """Return the next answer."""
        self.asked.append(question)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def question_of(instrument: str, claim: str, known: tuple[str, ...]) -> Question:
    """Return the question about a claim, with marks that none of the texts contains."""
    mark = content_id(instrument, claim, known)[:16]
    while any(mark in text for text in (claim, *known)):
        mark = content_id("again", mark)[:16]
    opening, closing = f"<<{mark}", f"{mark}>>"
    return Question(
        instrument=instrument,
        claim=f"{opening} {claim} {closing}",
        opening=opening,
        closing=closing,
        known=tuple(f"{opening} {text} {closing}" for text in known),
        looks_like_orders=gives_orders(claim),
    )


def log_odds_of(answer: bytes) -> float | None:
    """Return what an answer adds to a claim's log-odds; None where it is not one."""
    if len(answer) > LONGEST_ANSWER:
        return None
    try:
        said = msgspec.json.decode(answer, type=Answer)
    except msgspec.DecodeError:
        return None
    way = {Finding.SUPPORTS: 1.0, Finding.DOUBTS: -1.0, Finding.CANNOT_TELL: 0.0}[said.finding]
    return way * said.confidence * MOST_LOG_ODDS
