"""The two-speed protocol: questions, verdicts, outlooks, revisions, and the pure transition rule."""

import math
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from finllm.domain.forecast import Cost, Forecast, Status
from finllm.domain.identity import content_id


class Action(StrEnum):
    """What a verdict says about a forecast."""

    CONFIRM = "confirm"
    REFINE = "refine"
    RETRACT = "retract"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a forecast that the transition rule needs."""

    forecast_id: str
    epoch: int
    version: int
    status: Status
    valid_until: int


def standing_of(forecast: Forecast) -> Standing:
    """Return the part of a forecast that the transition rule needs."""
    return Standing(
        forecast_id=forecast.forecast_id,
        epoch=forecast.epoch,
        version=forecast.version,
        status=forecast.status,
        valid_until=forecast.valid_until,
    )


class Escalate(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's yes: ask the slow path about these standing forecasts."""

    question_id: str
    instrument: str
    ts: int
    notice_id: str
    standing: tuple[Standing, ...]
    """The forecasts asked about, shortest horizon first."""
    deadline: int
    """An answer after this is worth nothing."""
    expected_gain: float
    """Nats of log score, over all forecasts asked about and the outlook."""
    reason: str
    tier: str = ""
    """Which reasoner is asked."""
    propensity: float = 1.0
    """Chance with which it was asked: below one, it was asked to learn what is refused."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's no."""

    instrument: str
    ts: int
    notice_id: str
    expected_gain: float
    reason: str
    tier: str = ""
    """Which reasoner is not asked."""
    propensity: float = 0.0
    """Chance with which it would have been asked nevertheless, to learn what is refused."""


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """One term of a verdict and the evidence behind it."""

    evidence_id: str
    shift: float
    """Its share of the verdict's shift."""
    log_scale: float
    """Its share of ln k."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One summand of a figure."""

    evidence_id: str
    field: str
    """Of the evidence, such as `z_score`."""
    weight: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number that a test went by: the sum of its terms' weights times their evidence's fields."""

    name: str
    value: float
    terms: tuple[Term, ...]


class Finding(StrEnum):
    """What a test says of a hypothesis."""

    SUPPORTED = "supported"
    OPEN = "open"
    REJECTED = "rejected"


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which words and market may hang together, tested on a pack."""

    name: str
    """Such as `market lags the news`."""
    probability: float
    """Of this hypothesis against the others that were tested."""
    figures: tuple[Figure, ...] = ()

    @property
    def finding(self) -> Finding:
        """Return `supported` from one half on, `rejected` below a twentieth, else `open`."""
        if self.probability >= 0.5:
            return Finding.SUPPORTED
        return Finding.OPEN if self.probability >= 0.05 else Finding.REJECTED


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """The source without which a reasoner would have said something else, more than without any other."""

    source: str
    """A text's origin, or `market` and what of it was left out."""
    evidence_ids: tuple[str, ...]
    shift: float
    """What its evidence adds to the shift: with it less without it."""
    log_scale: float
    """The same for ln k."""
    moved: float
    """Probability that leaving it out moves from some hypotheses to others, 0 to 1."""


class MemberAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one member of an ensemble would have said by itself, within its bounds."""

    name: str
    weight: float
    """Its share of the pool; 0 where it has no say."""
    shift: float = 0.0
    vol_scale: float = 1.0
    outcome: str = "answer"
    """Else why it has no say: how its exchange ended, `repeating`, or why it was dropped and not asked."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """What the members of an ensemble say, and how far apart they are.

    The pooled shift and ln k are the weighted means of the members'; a retraction is not pooled.
    """

    members: tuple[MemberAnswer, ...]
    """The embedded reasoner first, which also has the weight of those without a say; then by name."""
    shift_sd: float
    """The disagreement: weighted standard deviation of the shifts."""
    log_scale_sd: float
    """The same of ln k."""


class Voiding(StrEnum):
    """What ends an opinion before it has faded, where it says so."""

    CONTRARY_EVIDENCE = "contrary_evidence"
    """Credible news that leans the other way."""
    PRICE_CROSS = "price_cross"
    """The price goes further against it than chance would have it."""
    REGIME_CHANGE = "regime_change"
    """Another regime than the one in which it came into force."""
    TIME = "time"
    """Its own end, which every opinion has."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The slow path's answer about one forecast, relative to its base."""

    verdict_id: str
    question_id: str
    forecast_id: str
    epoch: int
    base_version: int
    reasoner: str
    action: Action
    shift: float
    """Added to log(p_up / p_down) of the base; replaces the outlook's."""
    vol_scale: float
    """Scale of the base's deviations, k above zero; replaces the outlook's."""
    citations: tuple[Citation, ...]
    conflict: str = ""
    """The conflict between signals, explained in a clause; empty if there is none."""
    voided_by: tuple[Voiding, ...] = ()
    cost: Cost = Cost()
    fallback: str = ""
    """Why this reasoner answers in place of the language model that was asked, such as `timeout`; empty if
    it is the one that was asked."""
    hypotheses: tuple[Hypothesis, ...] = ()
    """How words and market may hang together, most probable first; empty where it was not tested."""
    driver: Driver | None = None
    """Found by leaving out one source after another; None where no source changes anything."""
    pool: Pool | UnsetType = UNSET
    """Of an ensemble; any other verdict has no such field, down to its bytes."""
    struck: tuple[str, ...] | UnsetType = UNSET
    """Sentences that a language model wrote of the conflict and that do not hold, not to be shown as true; a
    verdict without any has no such field."""


def named_verdict(verdict: Verdict) -> Verdict:
    """Return a verdict under the id that the whole of its content gives it."""
    content = msgspec.structs.replace(verdict, verdict_id="")
    return msgspec.structs.replace(verdict, verdict_id=content_id("verdict", content))


class PriceCross(msgspec.Struct, frozen=True, kw_only=True, tag="price_cross"):
    """An opinion is void once the price has gone so far from where it was."""

    mid2: int
    """Twice the mid, in ticks, when the opinion came into force."""
    level_bps: float
    """Return from there, bps: below 0 for an opinion that leans up, above 0 for one that leans down."""


class RegimeChange(msgspec.Struct, frozen=True, kw_only=True, tag="regime_change"):
    """An opinion is void in any other regime."""

    regime: int
    """Number of the regime in which it came into force."""


class ContraryEvidence(msgspec.Struct, frozen=True, kw_only=True, tag="contrary_evidence"):
    """An opinion is void once credible news of the other lean has come after it was formed."""

    lean: int
    """Of the opinion: 1 up, -1 down."""


Condition = PriceCross | RegimeChange | ContraryEvidence


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """The horizons up to a limit, and how far they may be moved."""

    up_to_ns: int
    max_shift: float
    max_log_scale: float


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one piece of evidence adds to an opinion."""

    evidence_id: str
    origin: str
    ts_recv: int
    """When the evidence was received."""
    shift: tuple[float, ...]
    """By reach."""
    log_scale: tuple[float, ...]
    """ln k, by reach."""


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer made of a pack, less what later ones have read and what has been taken back."""

    opinion_id: str
    since: int
    as_of: int
    """Of the pack. All that was received after the one and up to the other it has read, or the room had left
    out as worth less; of two opinions on one thing, that on the later pack counts."""
    ts: int
    """When it came into force; it fades from then on."""
    half_life_ns: int
    expires: int
    """In force strictly before this instant."""
    reaches: tuple[Reach, ...]
    """Shortest first; the first that reaches a horizon applies."""
    shares: tuple[Share, ...] = ()
    """By evidence id."""
    spent: tuple[str, ...] = ()
    """Further origins that it rested on, and that add nothing any more; in order."""
    voided_by: tuple[Voiding, ...] = ()
    conditions: tuple[Condition, ...] = ()
    """The same, with what is needed to check them; known once it is in force."""


class OutlookBand(msgspec.Struct, frozen=True, kw_only=True):
    """An outlook's effect on horizons up to a limit."""

    up_to_ns: int
    shift: float
    vol_scale: float


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """The slow path's standing opinions together, applied by the edge to every later row until they decay.

    Bands, half-life and end are what the opinions come to at `ts`; see `domain.outlook`.
    """

    instrument: str
    version: int
    ts: int
    """When it came into force."""
    bands: tuple[OutlookBand, ...]
    """Shortest first; the first band that reaches a horizon applies."""
    half_life_ns: int
    expires: int
    """In force strictly before this instant."""
    evidence_ids: tuple[str, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    """On the latest pack first; those that say nothing any more keep older ones from coming back."""
    reason: str = ""
    """Why this version, where no answer brought it: what ended an opinion, or took evidence from it."""

    def at(self, horizon_ns: int, now: int) -> tuple[float, float]:
        """Return (shift, volatility scale) for a horizon at an instant; (0, 1) once it is over."""
        if not self.ts <= now < self.expires:
            return 0.0, 1.0
        fade = math.exp(-math.log(2.0) * (now - self.ts) / self.half_life_ns)
        for band in self.bands:
            if horizon_ns <= band.up_to_ns:
                return band.shift * fade, math.exp(math.log(band.vol_scale) * fade)
        return 0.0, 1.0


def follows(outlook: Outlook, in_force: int) -> bool:
    """Return whether an outlook replaces the version that was last put in force: only a newer one does."""
    return outlook.version > in_force


class Applied(StrEnum):
    """What became of a verdict."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    LATE = "late"
    REFUSED = "refused"


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's record of what a verdict did."""

    forecast_id: str
    verdict_id: str
    ts: int
    version: int
    """The version that stands after it."""
    base_version: int
    applied: Applied
    reason: str
    forecast: Forecast | None = None
    """The new version, when applied."""


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast's end: the version standing at `valid_until`."""

    forecast_id: str
    ts: int
    version: int
    status: Status
    """`final`, or `expired` if none was standing."""


_TO_STATUS = {
    Action.CONFIRM: Status.CONFIRMED,
    Action.REFINE: Status.REFINED,
    Action.RETRACT: Status.RETRACTED,
}
_OPEN = frozenset({Status.SPECULATIVE, Status.CONFIRMED, Status.REFINED})


MOST_SHIFT: Final = 50.0
"""Of a verdict that can be applied: what is beyond says nothing more, and its exponential overflows."""
MOST_LOG_SCALE: Final = 10.0
"""The same of ln k."""


def _is_usable(verdict: Verdict) -> bool:
    k = verdict.vol_scale
    return (
        abs(verdict.shift) <= MOST_SHIFT
        and 0.0 < k < math.inf
        and abs(math.log(k)) <= MOST_LOG_SCALE
    )


def transition(standing: Standing, verdict: Verdict, now: int) -> tuple[Standing, Applied, str]:
    """Return the standing after a verdict, what became of the verdict, and why. Pure.

    A verdict applies if and only if it arrives before `valid_until`, its epoch and base version are
    the standing ones, the forecast is open, and its numbers are usable. Anything else leaves the
    standing exactly as it was.
    """
    if now >= standing.valid_until:
        return standing, Applied.LATE, f"arrived {now - standing.valid_until} ns after expiry"
    if (verdict.epoch, verdict.base_version) != (standing.epoch, standing.version):
        asked = f"{verdict.epoch}.{verdict.base_version}"
        return (
            standing,
            Applied.SUPERSEDED,
            f"based on {asked}, {standing.epoch}.{standing.version} stands",
        )
    if standing.status not in _OPEN:
        return standing, Applied.REFUSED, f"forecast is {standing.status}"
    if not _is_usable(verdict):
        return standing, Applied.REFUSED, "shift or volatility scale is not usable"
    after = msgspec.structs.replace(
        standing, version=standing.version + 1, status=_TO_STATUS[verdict.action]
    )
    return after, Applied.APPLIED, str(verdict.action)


def close(standing: Standing, now: int) -> Closing:
    """Return a forecast's closing record. Pure; the caller closes at or after `valid_until`."""
    ended = Status.FINAL if standing.status in _OPEN else Status.EXPIRED
    return Closing(forecast_id=standing.forecast_id, ts=now, version=standing.version, status=ended)
