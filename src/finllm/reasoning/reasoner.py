"""What a reasoner is: a forecast and its evidence in, a verdict that cites them and an outlook out.

A reasoner is pure: it sees only what it is handed, and of that nothing received after the pack's
as-of instant. Text in the evidence is never obeyed, whatever it says.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from finllm.domain.completion import Completion
from finllm.domain.evidence import Evidence, EvidencePack
from finllm.domain.forecast import Cost, Forecast
from finllm.domain.protocol import (
    Action,
    Citation,
    Escalate,
    Outlook,
    Verdict,
    Voiding,
    named_verdict,
)


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A reasoner's whole answer to one question."""

    verdicts: tuple[Verdict, ...]
    """One per forecast, in the order in which they were handed in."""
    outlook: Outlook | None
    """Its opinion by itself, on all that it read; None leaves what stands alone."""
    fallback: str = ""
    """Why another spoke in its place, as on the verdicts; empty = it had its own say."""


class Reasoner(Protocol):
    """Anything that answers a question of the gate. `tests/laws` holds what each must keep."""

    @property
    def name(self) -> str:
        """Return the reasoner's id with its version, as it stands on every verdict."""
        ...

    def judge(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Return a verdict on each forecast, and the outlook.

        Args:
            question: The gate's question.
            forecasts: The forecasts asked about, as they stand; none, for the outlook alone.
            pack: What may be cited.
            now: The instant of the answer, ns UTC.
            outlook_version: The version that its outlook gets, unless what stands has come further.
        """
        ...


class DeferredReasoner(Reasoner, Protocol):
    """A reasoner that thinks in real time, elsewhere: asked now, heard later, concluded from the record.

    Whoever derives from it judges by asking, waiting and concluding.
    """

    def judge(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Ask, wait for as long as the question's deadline allows, and conclude. See `Reasoner`."""
        self.ask(question, forecasts, pack)
        completion = self.recorded(question.question_id)
        return self.conclude(question, forecasts, pack, completion, now, outlook_version)

    def ask(self, question: Escalate, forecasts: tuple[Forecast, ...], pack: EvidencePack) -> None:
        """Ask without waiting."""
        ...

    def answers(self) -> Iterator[Completion]:
        """Yield what has come since the last look, each journalled already; never waits."""
        ...

    def recorded(self, question_id: str) -> Completion:
        """Return the end of a question that was asked, waiting for it if need be."""
        ...

    def conclude(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        completion: Completion,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Return what an exchange amounts to. Pure; see `judge`."""
        ...

    def cancel(self, question_id: str) -> None:
        """Give a question up: nothing goes on for it."""
        ...

    def close(self) -> None:
        """Give everything up, and journal how it ended."""
        ...


def admissible(pack: EvidencePack) -> tuple[Evidence, ...]:
    """Return the pack's evidence that was received by its as-of instant, in its order."""
    return tuple(evidence for evidence in pack.evidence if evidence.ts_recv <= pack.as_of)


def verdict_of(
    question: Escalate,
    forecast: Forecast,
    *,
    reasoner: str,
    action: Action,
    citations: tuple[Citation, ...] = (),
    conflict: str = "",
    voided_by: tuple[Voiding, ...] = (),
    cost: Cost | None = None,
) -> Verdict:
    """Return a verdict whose shift and ln k are exactly what its citations add up to."""
    shift = left_sum(citation.shift for citation in citations)
    log_scale = left_sum(citation.log_scale for citation in citations)
    return named_verdict(
        Verdict(
            verdict_id="",
            question_id=question.question_id,
            forecast_id=forecast.forecast_id,
            epoch=forecast.epoch,
            base_version=forecast.version,
            reasoner=reasoner,
            action=action,
            shift=shift,
            vol_scale=math.exp(log_scale),
            citations=citations,
            conflict=conflict,
            voided_by=voided_by,
            cost=cost or Cost(),
        )
    )


def amended(verdict: Verdict, **changes: object) -> Verdict:
    """Return a verdict with changes, under the id of its new content."""
    return named_verdict(msgspec.structs.replace(verdict, **changes))


def left_sum(numbers: Iterable[float]) -> float:
    """Return the sum from left to right."""
    total = 0.0
    for number in numbers:
        total += number
    return total
