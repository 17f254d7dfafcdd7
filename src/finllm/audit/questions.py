"""Questions checked from records alone: that a verdict and its pack are whole, and belong to one question.

A verdict's and a pack's id name all of their content, so that no field of either can change by itself.
"""

from collections.abc import Iterator
from typing import Final

from finllm.audit.numbers import same
from finllm.domain.evidence import EvidencePack, named_pack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Escalate, Verdict, named_verdict

_OF_THE_EXCHANGE: Final = frozenset({"verdict_id", "cost", "fallback", "pool"})
"""What stands on a verdict because somebody else was asked, and not because of its pack."""


def check_question(
    question: Escalate, verdict: Verdict, before: Forecast, pack: EvidencePack
) -> list[str]:
    """Return what does not hold in a question, its pack and one of its verdicts; empty = all holds. Pure.

    Args:
        question: The gate's question.
        verdict: An answer to it.
        before: The version that the verdict is about.
        pack: What was gathered for it.
    """
    return [*_check_ids(verdict, pack), *_check_links(question, verdict, before, pack)]


def _check_ids(verdict: Verdict, pack: EvidencePack) -> Iterator[str]:
    if named_verdict(verdict) != verdict:
        yield f"the id of verdict {verdict.verdict_id} is not what its content gives"
    if named_pack(pack) != pack:
        yield f"the id of pack {pack.pack_id} is not what its content gives"


def _check_links(
    question: Escalate, verdict: Verdict, before: Forecast, pack: EvidencePack
) -> Iterator[str]:
    if verdict.question_id != question.question_id:
        yield f"the verdict answers {verdict.question_id}, not {question.question_id}"
    if (pack.instrument, pack.as_of) != (question.instrument, question.ts):
        yield "the pack is not of the question's instrument and instant"
    asked = {(one.forecast_id, one.version) for one in question.standing}
    if (before.forecast_id, before.version) not in asked:
        yield f"version {before.version} of {before.forecast_id} was not asked about"


def check_judged(verdict: Verdict, again: Verdict) -> list[str]:
    """Return in which fields a verdict is not what its reasoner says of the same records. Pure."""
    return [
        f"{name} of the verdict is not what {verdict.reasoner} says of its pack"
        for name in Verdict.__struct_fields__
        if name not in _OF_THE_EXCHANGE and not same(getattr(verdict, name), getattr(again, name))
    ]
