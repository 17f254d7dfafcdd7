"""Denials: what they take back, and which are believed.

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
    if not any(e.event_type in weights.retract_events for e in evidence):
        return left
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


def believed(pack: EvidencePack, weights: Weights, band: BandWeights) -> list[Evidence]:
    """Return the denials that are credible and weigh more than what they take back, latest first."""
    evidence = admissible(pack)
    credible = [
        e
        for e in evidence
        if e.event_type in weights.retract_events
        and e.credibility * e.relevance >= weights.retract_credibility
    ]
    if not credible:
        return []
    trust = trusts(evidence, pack.as_of, band.memory_ns)
    found = []
    for denial in credible:
        denied = [w for e, w in zip(evidence, trust, strict=True) if takes_back(denial, e, band)]
        if denied and alone(denial, pack.as_of, band.memory_ns) > left_sum(denied):
            found.append(denial)
    return sorted(found, key=lambda e: (-e.ts_recv, e.evidence_id))
