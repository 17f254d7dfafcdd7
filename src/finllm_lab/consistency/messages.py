"""What travels between the tiers."""

import msgspec

from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Escalate, Outlook, Verdict


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """An escalation on its way to a reasoner."""

    asked: Escalate
    forecasts: tuple[Forecast, ...]
    outlook_version: int
    asker: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A reasoner's judgement on its way back."""

    answer_id: str
    question: Question
    verdicts: tuple[Verdict, ...]
    outlook: Outlook | None
    ts: int
    """When it was given, by the reasoner's clock."""


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A claim on a lease, or a wish for more time on it."""

    instrument: str
    holder: str
    epoch: int
    """The epoch held, or the one that a claim builds on."""
    is_claim: bool
    sent: int
    """By the asker's clock."""
