"""From fused bands to an opinion: what the edge is to apply to every later row, and what it rests on."""

from finllm.domain.evidence import Evidence, EvidencePack
from finllm.domain.identity import content_id
from finllm.domain.outlook import outlook_of
from finllm.domain.protocol import Citation, Opinion, Outlook, Reach, Share, Voiding
from finllm.reasoning.fusion import BandWeights
from finllm.reasoning.reasoner import admissible, left_sum

Fused = tuple[tuple[BandWeights, tuple[Citation, ...]], ...]
"""Each band with what its fusion cites, shortest band first."""


def opined(
    pack: EvidencePack,
    fused: Fused,
    *,
    half_life_ns: int,
    life_ns: int,
    now: int,
    version: int,
    voided_by: tuple[Voiding, ...],
) -> Outlook | None:
    """Return the outlook that fused bands amount to by themselves; None where nothing was read.

    One that would move nothing that matters says nothing: what was said of the same evidence before
    holds no more.

    Args:
        pack: What was read.
        fused: Every band of the fusion.
        half_life_ns: How it fades.
        life_ns: How long it lasts.
        now: When it comes into force, ns UTC.
        version: The version that it gets.
        voided_by: What ends it early.
    """
    evidence = admissible(pack)
    if not evidence:
        return None
    felt = any(is_felt(band, *sums(citations)) for band, citations in fused)
    shares = _shares(fused, evidence) if felt else ()
    opinion = Opinion(
        opinion_id=content_id("opinion", pack.pack_id, half_life_ns, life_ns, shares, voided_by),
        since=pack.since,
        as_of=pack.as_of,
        ts=now,
        half_life_ns=half_life_ns,
        expires=now + life_ns,
        reaches=tuple(
            Reach(up_to_ns=b.up_to_ns, max_shift=b.max_shift, max_log_scale=b.max_log_scale)
            for b, _ in fused
        ),
        shares=shares,
        voided_by=voided_by,
    )
    return outlook_of(pack.instrument, (opinion,), now=now, version=version)


def is_felt(band: BandWeights, shift: float, log_scale: float) -> bool:
    """Return whether a move is large enough to be worth a revision."""
    return abs(shift) >= band.least_shift or abs(log_scale) >= band.least_log_scale


def sums(citations: tuple[Citation, ...]) -> tuple[float, float]:
    """Return the shift and ln k that citations add up to."""
    return left_sum(c.shift for c in citations), left_sum(c.log_scale for c in citations)


def _shares(fused: Fused, evidence: tuple[Evidence, ...]) -> tuple[Share, ...]:
    """Return what each piece of evidence adds to each band, by evidence id."""
    bands = [{c.evidence_id: c for c in citations} for _, citations in fused]
    nothing = Citation(evidence_id="", shift=0.0, log_scale=0.0)
    return tuple(
        Share(
            evidence_id=e.evidence_id,
            origin=e.origin,
            ts_recv=e.ts_recv,
            shift=tuple(band.get(e.evidence_id, nothing).shift for band in bands),
            log_scale=tuple(band.get(e.evidence_id, nothing).log_scale for band in bands),
        )
        for e in sorted(evidence, key=lambda e: e.evidence_id)
        if any(e.evidence_id in band for band in bands)
    )
