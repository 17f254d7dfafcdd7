"""The token budget of a prompt: spent first on what an answer could hang on most, for each token.

What a piece of evidence is worth is the part of the bounds of a verdict that can hang on it: what the
fusion itself makes of it, and besides, of a text its trust (an answer that cites it may move by that share,
see `bounds`), of an observation how unusual it is. A figure on record is known already and moves nothing;
it is told where there is room for it, a little before what says nothing at all.

Source:
    Dantzig (1957), "Discrete-variable extremum problems": by worth per token is the knapsack's bound.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from finllm.domain.evidence import Evidence, EvidenceKind
from finllm.reasoning.fusion import BandWeights, Reading, fuse, held

BYTES_PER_TOKEN: Final = 3
"""Of JSON in a llama's or GPT's vocabulary, about: keys, figures and signs are cut finer than English prose,
at four. Fewer would be sure, and waste a third of the budget. The meter reckons by it too where an endpoint
does not count: what it sends and hears is JSON, and a price told too high is better than one told too low."""
_MOST_Z: Final = 6.0
_KNOWN: Final = 0.05
"""Worth of a figure on record, by unit of its credibility."""


class Valued(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of evidence with what it counts for."""

    evidence: Evidence
    weight: float
    """The fusion's trust, 0 to 1; 0 on what is no text."""
    worth: float
    """Part of a verdict's bounds that can hang on it, 0 or more."""


def tokens_of(line: str) -> int:
    """Return the tokens that a line of a prompt is reckoned at."""
    return -(-len(line.encode()) // BYTES_PER_TOKEN)


def valued(reading: Reading, band: BandWeights) -> tuple[Valued, ...]:
    """Return the evidence of a reading with what each piece is worth to the band's verdict, in its order."""
    shares = {c.evidence_id: c for c in fuse(reading, band)}
    out = []
    for e, trust in zip(reading.evidence, reading.trust, strict=True):
        share = shares.get(e.evidence_id)
        worth = trust + _of_itself(e)
        if share is not None:
            worth += _part(share.shift, band.max_shift) + _part(share.log_scale, band.max_log_scale)
        out.append(Valued(evidence=e, weight=trust, worth=worth))
    return tuple(out)


def spend(costs: Sequence[int], worth: Sequence[float], budget: int) -> list[int]:
    """Return which lines a budget is spent on, in their order: the most worth for each token first.

    Args:
        costs: Tokens of each line, 1 or more.
        worth: Of each line, 0 or more.
        budget: Tokens in all.
    """
    order = sorted(range(len(costs)), key=lambda i: (-worth[i] / costs[i], i))
    left, taken = budget, []
    for i in order:
        if costs[i] <= left:
            left -= costs[i]
            taken.append(i)
    return sorted(taken)


def _of_itself(e: Evidence) -> float:
    if e.kind is EvidenceKind.OBSERVATION:
        return abs(held(e.z_score, _MOST_Z)) / _MOST_Z
    return _KNOWN * e.credibility if e.kind is EvidenceKind.FACT else 0.0


def _part(x: float, bound: float) -> float:
    return abs(x) / bound if bound > 0.0 else 0.0
