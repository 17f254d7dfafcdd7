"""How far an answer may move a verdict: as far as the embedded reasoner may, times the credibility behind it.

The embedded reasoner's figures for a band are E. An answer asks for another figure; what it gets is E + D,

    |D| <= (bound / 2) x min(1, least weight of a text whose words the model read, sum of the weights cited)

where `bound` is the band's own (`max_shift`, `max_log_scale`) and a weight is the fusion's trust in a text:
credibility x relevance x novelty x age, shared within an origin. An observation is our own and weighs 1.
So any two answers to one pack, an honest one and one by a model that obeys a text in it, differ by at most
the bound times the weight of that very text, because the model has read it; and the sum stays within the
band's bound.
"""

from collections.abc import Iterable, Sequence

from finllm.domain.evidence import EvidenceKind
from finllm.domain.protocol import Citation
from finllm.reasoning.fusion import BandWeights, Reading
from finllm.reasoning.outlook import sums
from finllm.reasoning.reasoner import left_sum


def room(reading: Reading, read: Iterable[str], cited: Sequence[str]) -> tuple[float, list[float]]:
    """Return what part of half the bound an answer may use, 0 to 1, and the weight of each citation.

    Args:
        reading: What the band's fusion sees; evidence that was taken back is not in it and weighs nothing.
        read: Evidence whose words the model read.
        cited: Evidence that its answer rests on.
    """
    trust = {e.evidence_id: w for e, w in zip(reading.evidence, reading.trust, strict=True)}
    own = {e.evidence_id for e in reading.evidence if e.kind is EvidenceKind.OBSERVATION}
    weights = [1.0 if name in own else trust.get(name, 0.0) for name in cited]
    lightest = min((trust.get(name, 0.0) for name in read), default=1.0)
    return max(0.0, min(1.0, lightest, left_sum(weights))), weights


def moved(
    citations: tuple[Citation, ...],
    wanted: tuple[float, float],
    band: BandWeights,
    reading: Reading,
    *,
    read: Iterable[str],
    cited: Sequence[str],
) -> tuple[Citation, ...]:
    """Return the embedded reasoner's citations moved towards an answer, as far as it may.

    Args:
        citations: The embedded reasoner's.
        wanted: The answer's shift and ln k.
        band: Of the horizon.
        reading: What the band's fusion sees.
        read: Evidence whose words the model read.
        cited: Evidence that its answer rests on; it shares the move by weight.
    """
    part, weights = room(reading, read, cited)
    total = left_sum(weights)
    if total <= 0.0:
        return citations
    shift, log_scale = sums(citations)
    steps = (
        _step(shift, wanted[0], band.max_shift, part),
        _step(log_scale, wanted[1], band.max_log_scale, part),
    )
    shares = {c.evidence_id: (c.shift, c.log_scale) for c in citations}
    for name, weight in zip(cited, weights, strict=True):
        had = shares.get(name, (0.0, 0.0))
        shares[name] = (had[0] + steps[0] * weight / total, had[1] + steps[1] * weight / total)
    found = [
        Citation(evidence_id=name, shift=share[0], log_scale=share[1])
        for name, share in shares.items()
        if share != (0.0, 0.0)
    ]
    return tuple(sorted(found, key=lambda c: (-abs(c.shift) - abs(c.log_scale), c.evidence_id)))


def _step(has: float, wanted: float, bound: float, part: float) -> float:
    most = 0.5 * bound * part
    step = min(most, max(-most, wanted - has))
    return min(bound, max(-bound, has + step)) - has
