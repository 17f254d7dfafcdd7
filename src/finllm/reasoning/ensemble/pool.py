"""The pool: weights, the pooled citations, and the disagreement. Pure.

Linear in shift and ln k, so geometric in the probabilities: log(p_up / p_down) of the pool is the weighted
mean of the members', and a tilt stays a tilt. What each member may say is bounded before (`llm.bounds`), and
a weighted mean lies between those that it is of: the pool keeps their bounds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from finllm.domain.protocol import Citation, MemberAnswer, Pool
from finllm.reasoning.outlook import sums
from finllm.reasoning.reasoner import left_sum

Shares = Mapping[str, float]
"""Member -> weight in the pool; the embedded reasoner's is what is left of one."""


def shares_of(asked: Mapping[str, float], said: Mapping[str, str], own: float) -> dict[str, float]:
    """Return the weights of those that have a say; together they are less than one.

    Members that said the same are one voice: together they weigh what the weightiest would alone.

    Args:
        asked: Member -> weight, of all that were asked.
        said: Member -> name of what it said, of those that have a say.
        own: Weight of the embedded reasoner.
    """
    voices: dict[str, list[str]] = {}
    for name in sorted(said):
        voices.setdefault(said[name], []).append(name)
    heard = [max(asked[name] for name in voice) for voice in voices.values()]
    silent = [asked[name] for name in sorted(asked) if name not in said]
    total = own + left_sum(heard) + left_sum(silent)
    return {
        name: most * asked[name] / left_sum(asked[one] for one in voice) / total
        for voice, most in zip(voices.values(), heard, strict=True)
        for name in voice
    }


def left_of(shares: Shares) -> float:
    """Return what of one the shares leave to the embedded reasoner."""
    return 1.0 - left_sum(shares[name] for name in sorted(shares))


def pooled(parts: Sequence[tuple[float, tuple[Citation, ...]]]) -> tuple[Citation, ...]:
    """Return citations whose shares are the weighted sums of the parts', largest first; ties by id."""
    shift: dict[str, float] = {}
    log_scale: dict[str, float] = {}
    for weight, citations in parts:
        for c in citations:
            shift[c.evidence_id] = shift.get(c.evidence_id, 0.0) + weight * c.shift
            log_scale[c.evidence_id] = log_scale.get(c.evidence_id, 0.0) + weight * c.log_scale
    found = (Citation(evidence_id=e, shift=shift[e], log_scale=log_scale[e]) for e in shift)
    return tuple(
        sorted(
            (c for c in found if c.shift != 0.0 or c.log_scale != 0.0),
            key=lambda c: (-abs(c.shift) - abs(c.log_scale), c.evidence_id),
        )
    )


def answer_of(name: str, weight: float, citations: tuple[Citation, ...]) -> MemberAnswer:
    """Return what a member says, from what it would cite by itself."""
    shift, log_scale = sums(citations)
    return MemberAnswer(name=name, weight=weight, shift=shift, vol_scale=math.exp(log_scale))


def pool_of(members: Iterable[MemberAnswer]) -> Pool:
    """Return the pool of members, with their disagreement."""
    held = tuple(members)
    return Pool(
        members=held,
        shift_sd=_deviation([(m.weight, m.shift) for m in held]),
        log_scale_sd=_deviation([(m.weight, math.log(m.vol_scale)) for m in held]),
    )


def _deviation(weighed: list[tuple[float, float]]) -> float:
    """Return the weighted standard deviation; the weights sum to one."""
    mean = left_sum(w * x for w, x in weighed)
    return math.sqrt(left_sum(w * (x - mean) ** 2 for w, x in weighed))
