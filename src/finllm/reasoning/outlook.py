"""From fused bands to an outlook: the standing opinion that the edge applies to every later row."""

import math

from finllm.domain.protocol import Citation, Outlook, OutlookBand
from finllm.reasoning.fusion import BandWeights
from finllm.reasoning.reasoner import left_sum

Fused = tuple[tuple[BandWeights, tuple[Citation, ...]], ...]
"""Each band with what its fusion cites, shortest band first."""


def outlook_of(
    instrument: str,
    fused: Fused,
    *,
    reach_ns: int,
    now: int,
    version: int,
    voided_by: tuple[str, ...],
) -> Outlook | None:
    """Return the outlook that fused bands amount to; None where it would move nothing that matters.

    Args:
        instrument: Instrument key.
        fused: Every band of the fusion.
        reach_ns: The shortest horizon asked about: its band says how the outlook fades.
        now: When it comes into force, ns UTC.
        version: The version that it gets.
        voided_by: Conditions that end it early.
    """
    if not any(is_felt(band, *sums(citations)) for band, citations in fused):
        return None
    lasting = next((band for band, _ in fused if reach_ns <= band.up_to_ns), fused[-1][0])
    return Outlook(
        instrument=instrument,
        version=version,
        ts=now,
        bands=tuple(_band(band, citations) for band, citations in fused),
        half_life_ns=lasting.half_life_ns,
        expires=now + lasting.life_ns,
        voided_by=voided_by,
        evidence_ids=_cited(fused),
    )


def withdrawn(
    instrument: str, bands: tuple[BandWeights, ...], *, now: int, version: int, because: str
) -> Outlook:
    """Return an outlook that says nothing, to replace one whose evidence no longer holds."""
    return Outlook(
        instrument=instrument,
        version=version,
        ts=now,
        bands=tuple(OutlookBand(up_to_ns=b.up_to_ns, shift=0.0, vol_scale=1.0) for b in bands),
        half_life_ns=bands[0].half_life_ns,
        expires=now + bands[-1].life_ns,
        evidence_ids=(because,),
    )


def is_felt(band: BandWeights, shift: float, log_scale: float) -> bool:
    """Return whether a move is large enough to be worth a revision."""
    return abs(shift) >= band.least_shift or abs(log_scale) >= band.least_log_scale


def sums(citations: tuple[Citation, ...]) -> tuple[float, float]:
    """Return the shift and ln k that citations add up to."""
    return left_sum(c.shift for c in citations), left_sum(c.log_scale for c in citations)


def _band(band: BandWeights, citations: tuple[Citation, ...]) -> OutlookBand:
    shift, log_scale = sums(citations)
    return OutlookBand(up_to_ns=band.up_to_ns, shift=shift, vol_scale=math.exp(log_scale))


def _cited(fused: Fused) -> tuple[str, ...]:
    return tuple(sorted({c.evidence_id for _, citations in fused for c in citations}))
