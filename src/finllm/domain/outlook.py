"""What stands: opinions merged by the evidence that they rest on, and what ends them early. All pure.

What a piece of evidence is worth is said by the opinion on the latest pack that held its origin, or that it
could have been in: it counts once. What such an opinion has not read is added to it, each opinion faded by
its own half-life, and the sum is held to the bounds of a single one. So which answer came first makes no
difference, and an answer that comes twice none at all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from finllm.domain.evidence import EvidenceNotice
from finllm.domain.protocol import (
    Condition,
    ContraryEvidence,
    Opinion,
    Outlook,
    OutlookBand,
    PriceCross,
    RegimeChange,
    Share,
    Voiding,
)
from finllm.domain.units import NS_PER_S

Opinions = tuple[Opinion, ...]
CROSS_DEVIATIONS: Final = 3.0
"""Deviations of the price over an opinion's half-life that it may go against it."""
BELIEVED: Final = 0.5
"""Credibility from which on news can contradict an opinion."""
LEANS: Final = 0.25
"""Stance from which on it leans."""
BPS: Final = 1e4


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What of the market conditions are set and checked by, at a row."""

    mid2: int
    """Twice the mid, in ticks."""
    regime: int
    sigma_bps: float
    """Fast volatility, bps per root second; 0 where none is known."""


# --- opinions ------------------------------------------------------------------------------------


def joined(opinions: Opinions, further: Opinions) -> Opinions:
    """Return opinions together, each less what those on later packs have read.

    Commutative, associative and idempotent: what an opinion covers never changes, none is dropped, and what
    one copy of it has lost is lost to all.
    """
    left: list[Opinion] = []
    for opinion in sorted((*opinions, *further), key=_latest_first):
        if left and left[-1].opinion_id == opinion.opinion_id:
            kept = {share.evidence_id for share in opinion.shares}
            left[-1] = _less(left[-1], [s for s in left[-1].shares if s.evidence_id not in kept])
        else:
            read = [s for s in opinion.shares if any(covers(later, s) for later in left)]
            left.append(_less(opinion, read))
    return tuple(left)


def covers(opinion: Opinion, share: Share) -> bool:
    """Return whether an opinion says what evidence is worth: by its origin, or by when it was received."""
    return opinion.since < share.ts_recv <= opinion.as_of or share.origin in origins(opinion)


def without(opinions: Opinions, taken_back: Mapping[str, int]) -> Opinions:
    """Return opinions less what evidence added that has been taken back since it was read.

    Args:
        opinions: What stands.
        taken_back: Evidence id -> when, ns UTC.
    """
    return tuple(
        _less(o, [s for s in o.shares if taken_back.get(s.evidence_id, -1) >= o.as_of])
        for o in opinions
    )


def unvoided(opinions: Opinions, void: Callable[[Opinion], bool]) -> Opinions:
    """Return opinions, those emptied that are void. They keep the older ones of their origins away."""
    return tuple(_less(o, o.shares) if o.shares and void(o) else o for o in opinions)


def unexpired(opinions: Opinions, now: int) -> Opinions:
    """Return the opinions that are not over."""
    return tuple(o for o in opinions if now < o.expires)


def origins(opinion: Opinion) -> set[str]:
    """Return the origins that an opinion has ever rested on."""
    return {share.origin for share in opinion.shares} | set(opinion.spent)


def _latest_first(opinion: Opinion) -> tuple[int, str, int]:
    """Order by pack; of one opinion, that first which came into force first."""
    return -opinion.as_of, opinion.opinion_id, opinion.ts


def _less(opinion: Opinion, gone: list[Share] | tuple[Share, ...]) -> Opinion:
    """Return an opinion in which some of its evidence adds nothing any more."""
    if not gone:
        return opinion
    ids = {share.evidence_id for share in gone}
    left = tuple(s for s in opinion.shares if s.evidence_id not in ids)
    spent = origins(opinion) - {share.origin for share in left}
    return msgspec.structs.replace(opinion, shares=left, spent=tuple(sorted(spent)))


# --- conditions ----------------------------------------------------------------------------------


def armed(opinions: Opinions, market: Market, horizons_ns: Sequence[int]) -> Opinions:
    """Return opinions that come into force now, with what is needed to check what voids them.

    What cannot be checked, such as a price's way against an opinion that leans neither way, voids nothing.

    Args:
        opinions: An answer's.
        market: As they come into force.
        horizons_ns: Those that they are applied to.
    """
    return tuple(
        msgspec.structs.replace(o, conditions=_conditions(o, market, lean(o, horizons_ns)))
        for o in opinions
    )


def _conditions(opinion: Opinion, market: Market, leans: int) -> tuple[Condition, ...]:
    found: list[Condition] = []
    for name in opinion.voided_by:
        if name is Voiding.REGIME_CHANGE:
            found.append(RegimeChange(regime=market.regime))
        elif name is Voiding.CONTRARY_EVIDENCE and leans:
            found.append(ContraryEvidence(lean=leans))
        elif name is Voiding.PRICE_CROSS and leans and market.mid2 > 0 and market.sigma_bps > 0.0:
            root_s = math.sqrt(opinion.half_life_ns / NS_PER_S)
            level_bps = -leans * CROSS_DEVIATIONS * market.sigma_bps * root_s
            found.append(PriceCross(mid2=market.mid2, level_bps=level_bps))
    return tuple(found)


def lean(opinion: Opinion, horizons_ns: Sequence[int]) -> int:
    """Return 1 for an opinion that leans up where it moves these horizons most, -1 for down, else 0."""
    shifts = (_said(opinion, horizon_ns, opinion.ts)[0] for horizon_ns in horizons_ns)
    most = max(shifts, key=abs, default=0.0)
    return (most > 0.0) - (most < 0.0)


def broken_by(opinion: Opinion, market: Market) -> Voiding | None:
    """Return which of an opinion's conditions the market has met, if any."""
    for condition in opinion.conditions:
        if isinstance(condition, RegimeChange) and market.regime != condition.regime:
            return Voiding.REGIME_CHANGE
        if isinstance(condition, PriceCross):
            went_bps = (market.mid2 / condition.mid2 - 1.0) * BPS
            if went_bps * condition.level_bps > 0.0 and abs(went_bps) >= abs(condition.level_bps):
                return Voiding.PRICE_CROSS
    return None


def is_contradicted(opinion: Opinion, heard: Mapping[int, int]) -> bool:
    """Return whether evidence has come against an opinion since it was formed, and that voids it.

    Args:
        opinion: As it stands.
        heard: Lean -> when credible news of it last came, ns UTC.
    """
    return any(
        isinstance(condition, ContraryEvidence) and heard.get(-condition.lean, -1) > opinion.as_of
        for condition in opinion.conditions
    )


def lean_of(news: EvidenceNotice) -> int:
    """Return 1 for credible news that is good, -1 for bad, 0 for any other."""
    if news.credibility < BELIEVED or abs(news.stance) < LEANS:
        return 0
    return 1 if news.stance > 0.0 else -1


# --- the outlook ---------------------------------------------------------------------------------


def outlook_of(
    instrument: str, opinions: Opinions, *, now: int, version: int, reason: str = ""
) -> Outlook:
    """Return what opinions come to from now on.

    Shares add up, each faded by its own half-life up to now, and a sum beyond the bounds of a single opinion
    is held to them. From then on all fade alike, as fast as their sum does at first: a slower mean would go
    on saying for minutes what the short-lived of them have ceased to.
    """
    limits = sorted({reach.up_to_ns for o in opinions for reach in o.reaches})
    said = [[_said(o, limit, now) for limit in limits] for o in opinions]
    speaks = any(o.shares for o in opinions)
    weights = [math.fsum(abs(shift) + abs(scale) for shift, scale in bands) for bands in said]
    return Outlook(
        instrument=instrument,
        version=version,
        ts=now,
        bands=tuple(
            _band(opinions, limit, [bands[i] for bands in said]) for i, limit in enumerate(limits)
        ),
        half_life_ns=_mean_half_life(opinions, weights),
        expires=max((o.expires for o in opinions if o.shares or not speaks), default=now),
        evidence_ids=tuple(sorted({s.evidence_id for o in opinions for s in o.shares})),
        opinions=opinions,
        reason=reason,
    )


def restated(
    standing: Outlook | None,
    opinions: Opinions,
    *,
    instrument: str,
    now: int,
    version: int = 0,
    reason: str = "",
) -> Outlook:
    """Return what stands once these are the opinions: a new version if they say something else.

    What has only run out ends by itself, without a new version; version 0 is never in force.

    Args:
        standing: What stood before, if anything.
        opinions: Those that count from now on.
        instrument: Instrument key.
        now: When, ns UTC.
        version: The least that a new version gets.
        reason: Why, where no answer brought it.
    """
    left = unexpired(opinions, now)
    before = () if standing is None else standing.opinions
    says = _spoken(left)
    if says == _spoken(before) or not (says or _spoken(unexpired(before, now))):
        if standing is not None:
            return msgspec.structs.replace(standing, opinions=left)
        return outlook_of(instrument, left, now=now, version=0)
    follows_on = 1 if standing is None else standing.version + 1
    return outlook_of(instrument, left, now=now, version=max(version, follows_on), reason=reason)


def _spoken(opinions: Opinions) -> list[tuple[str, tuple[Share, ...]]]:
    return [(o.opinion_id, o.shares) for o in opinions if o.shares]


def _said(opinion: Opinion, horizon_ns: int, now: int) -> tuple[float, float]:
    """Return the shift and ln k that an opinion still has for a horizon."""
    fade = math.exp(-math.log(2.0) * (now - opinion.ts) / opinion.half_life_ns)
    for i, reach in enumerate(opinion.reaches):
        if horizon_ns <= reach.up_to_ns:
            return (
                fade * math.fsum(share.shift[i] for share in opinion.shares),
                fade * math.fsum(share.log_scale[i] for share in opinion.shares),
            )
    return 0.0, 0.0


def _band(opinions: Opinions, limit_ns: int, said: list[tuple[float, float]]) -> OutlookBand:
    reaches = [
        next(reach for reach in o.reaches if limit_ns <= reach.up_to_ns)
        for o in opinions
        if limit_ns <= o.reaches[-1].up_to_ns
    ]
    shift = bounded(math.fsum(one[0] for one in said), max(reach.max_shift for reach in reaches))
    scale = bounded(
        math.fsum(one[1] for one in said), max(reach.max_log_scale for reach in reaches)
    )
    return OutlookBand(up_to_ns=limit_ns, shift=shift, vol_scale=math.exp(scale))


def _mean_half_life(opinions: Opinions, weights: list[float]) -> int:
    """Return the half-life of the mean rate of fading, weighted by what each opinion still says."""
    total = math.fsum(weights)
    if total == 0.0:
        return opinions[0].half_life_ns if opinions else 1
    rates = (w / o.half_life_ns for w, o in zip(weights, opinions, strict=True))
    return max(1, round(total / math.fsum(rates)))


def bounded(x: float, most: float) -> float:
    """Return a number held to at most `most`, either way."""
    return min(most, max(-most, x))
