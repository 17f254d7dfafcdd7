"""Denials: what they take back, and when they retract.

A denial spends its trust on what it takes back: each loses the same, and only what is left of either still
speaks. So a denial, too, moves a verdict by no more than its trust. Knows nothing of what a verdict says.
"""

from finllm.domain.evidence import Evidence, EvidencePack
from finllm.reasoning.fusion import BandWeights, Weights, alone, trusts
from finllm.reasoning.reasoner import admissible, left_sum

_RUMOUR = "rumour"
_DENIED = "denied"


def settled(pack: EvidencePack, weights: Weights, band: BandWeights) -> list[float]:
    """Return the trust in each admissible piece of evidence, less what denials took back and spent on it.

    Denials are heard in the order in which they came; each takes back the latest first.
    """
    evidence = admissible(pack)
    left = trusts(evidence, pack.as_of, band.memory_ns)
    order = sorted(
        range(len(evidence)), key=lambda i: (evidence[i].ts_recv, evidence[i].evidence_id)
    )
    for at, i in enumerate(order):
        if evidence[i].event_type in weights.retract_events:
            for j in reversed(order[:at]):
                if takes_back(evidence[i], evidence[j], band):
                    spent = min(left[i], left[j])
                    left[i] -= spent
                    left[j] -= spent
    return left


def takes_back(denial: Evidence, earlier: Evidence, band: BandWeights) -> bool:
    """Return whether a denial takes back what was said shortly before it.

    A rumour, a claim that the narrative holds to be denied, or what its own origin said the other way.
    """
    age_ns = denial.ts_recv - earlier.ts_recv
    if not (0 < age_ns <= band.retract_within_ns and earlier.document_id):
        return False
    if earlier.event_type == _RUMOUR or any(r.name == _DENIED for r in earlier.reasons):
        return True
    return earlier.origin == denial.origin and earlier.stance * denial.stance < 0.0


def retracting(pack: EvidencePack, weights: Weights, band: BandWeights) -> Evidence | None:
    """Return the latest denial that retracts what was issued before it, if any.

    It is credible, takes something back, and outweighs all other texts together: what a forecast may have
    rested on beside what is taken back is then worth less than the denial.
    """
    evidence = admissible(pack)
    found = [
        denial
        for denial in evidence
        if denial.event_type in weights.retract_events
        and denial.credibility * denial.relevance >= weights.retract_credibility
        and any(takes_back(denial, earlier, band) for earlier in evidence)
        and _outweighs(denial, evidence, pack.as_of, band.memory_ns)
    ]
    return max(found, key=lambda e: (e.ts_recv, e.evidence_id), default=None)


def _outweighs(
    denial: Evidence, evidence: tuple[Evidence, ...], as_of: int, memory_ns: int
) -> bool:
    others = tuple(e for e in evidence if e.evidence_id != denial.evidence_id)
    return alone(denial, as_of, memory_ns) > left_sum(trusts(others, as_of, memory_ns))
