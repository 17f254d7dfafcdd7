"""What a question is worth, learnt online from the answers and outcomes that it is told of.

How far its answer should move forecasts, how much of that comes true, whether it comes in time, its price.

Starts as the hand-set estimate: its log is one of the inputs, with weight one, and all others begin at none.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from finllm.domain.errors import SettingsError
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.outlook import bounded
from finllm.domain.protocol import Outlook
from finllm.domain.tilt import P_FLOOR, tilt
from finllm.domain.units import NS_PER_MIN
from finllm.escalation.latency import LatencyBelief
from finllm.escalation.learnt import (
    Inputs,
    Names,
    Regression,
    Reliability,
    Threshold,
    encode,
    restore,
)

INPUTS: Final = (
    "constant", "hand-set estimate", "credibility", "novelty", "relevance", "burst", "conflict",
    "stance", "since asked", "outlook", "lean", "below speaks", "below's claim",
)  # fmt: skip
PLACES: Final = {"house": 32, "kind": 16, "regime": 4, "reasoner": 4}
"""Names of which a weight each is kept: of origins without their authors, event types, and so on."""
_PRIOR: Final = (0.0, 1.0, *(0.0,) * (11 + sum(PLACES.values())))
_DEVIATION: Final = (2.0, 0.5, *(0.7,) * 11, *(1.0,) * sum(PLACES.values()))
_USUAL_HAND: Final = 0.01
"""Nats of the hand-set estimate from which its log is counted."""
_AT: Final = (0.0, 0.5, 1.0, 2.0)
"""Half-lives of an outlook at which its claim is taken; between them it runs straight."""
_MOST_OPEN: Final = 4_096
FIRST: Final = "first"
AGAIN: Final = "again"
_SPEAKS: Final = 0.02
"""Shift or ln k from which on an outlook that stands makes the next question one that asks again."""
_LEAST_CLAIM: Final = 0.001
"""Nats from which on a cheaper reasoner is taken to say something."""
_USUAL_CLAIM: Final = 0.3
"""Nats from which the log of what it says is counted."""
_KJ: Final = 1_000.0
_J_PER_KWH: Final = 3.6e6


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """One reasoner that may be asked, and what a question costs there."""

    name: str = ""
    latency: LatencyBelief
    tokens: float = 0
    usd: float = 0.0
    energy_j: float = 0.0
    wait_ns: int = 0
    """Expected wait until its turn comes, beside its latency."""

    @property
    def p50_ns(self) -> int:
        """Return the median time to its answer, the wait included."""
        return self.wait_ns + self.latency.p50_ns

    @property
    def p95_ns(self) -> int:
        """Return the 95th percentile, the wait included."""
        return self.wait_ns + self.latency.p95_ns

    def share_within(self, duration_ns: int) -> float:
        """Return the share of answers that take at most so long, the wait included."""
        return self.latency.share_within(duration_ns - self.wait_ns)


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What money, energy and carbon are worth in nats."""

    nats_per_usd: float = 1.0
    nats_per_kj: float = 0.0
    nats_per_gco2e: float = 0.0
    gco2e_per_kwh: float = 400.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            price = getattr(self, name)
            if not 0.0 <= price < math.inf:
                raise SettingsError(
                    f"{price} is no price",
                    place=f"escalation.prices.{name}",
                    mend="Give a number from 0 up.",
                )

    def of(self, tier: Tier) -> float:
        """Return a question's price, nats."""
        carbon_g = tier.energy_j / _J_PER_KWH * self.gco2e_per_kwh
        spent = tier.usd * self.nats_per_usd + tier.energy_j / _KJ * self.nats_per_kj
        return spent + carbon_g * self.nats_per_gco2e


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """A question's worth, with its parts."""

    inputs: Inputs
    """Numbers in the order of `INPUTS`, then a one for each name of `PLACES`."""
    reasoner: str
    look: str
    """`first`, or `again` where an outlook stands."""
    claim: float
    """How far the answer is expected to move what stands, nats."""
    reliability: float
    """Share of a claim that comes true."""
    in_time: float
    """Chance that the answer comes before it is worth nothing."""
    price: float

    @property
    def gain(self) -> float:
        """Return the expected gain before its price."""
        return self.claim * self.reliability * self.in_time

    @property
    def worth(self) -> float:
        """Return the expected gain less its price, nats."""
        return self.gain - self.price

    def said(self) -> str:
        """Return the parts in words."""
        return (
            f"claim {self.claim:.3f} nats x {self.reliability:.2f} that comes true "
            f"x {self.in_time:.3f} in time, - {self.price:.4f}"
        )


class _Open(msgspec.Struct, frozen=True, kw_only=True):
    """A question whose answer is due."""

    appraisal: Appraisal
    standing: tuple[Forecast, ...]


class _Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer whose outcomes are due."""

    reasoner: str
    look: str
    before: Outlook | None


class Appraiser:
    """Appraises questions, and learns from their answers and outcomes.

    Args:
        share: Of the questions that may be asked; 1 = all that pay.
        explore: Share asked by chance.
        count_every_ns: How often an outlook's gain is counted for each horizon.
        prices: What things cost in nats.
    """

    def __init__(self, share: float, explore: float, count_every_ns: int, prices: Prices) -> None:
        self._every = count_every_ns
        self._prices = prices
        self._regression = Regression(_PRIOR, _DEVIATION)
        self._names = tuple(Names(places) for places in PLACES.values())
        self.reliability = Reliability()
        self.threshold = Threshold(share, explore)
        self._outlooks: dict[str, Outlook] = {}  # what stands
        self._own: dict[str, Outlook] = {}  # what was last answered here
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._answered: OrderedDict[tuple[str, int], _Answered] = OrderedDict()
        self._counted: dict[tuple[str, int], int] = {}  # instrument, horizon -> last issue counted

    # --- before --------------------------------------------------------------------------------

    def appraise(
        self, notice: EvidenceNotice, standing: tuple[Forecast, ...], now: int, *,
        hand: float, asked_at: int | None, tier: Tier, deadline_ns: int, below: Outlook | None = None,
    ) -> Appraisal:  # fmt: skip
        """Return what asking one reasoner about a notice is worth.

        Args:
            notice: What is new.
            standing: The instrument's latest forecasts.
            now: ns UTC.
            hand: The hand-set estimate, nats.
            asked_at: When the instrument was last asked about, if ever.
            tier: Who would be asked.
            deadline_ns: From now on, after which an answer is worth nothing.
            below: What a cheaper reasoner says that has already read the news.
        """
        house = notice.origin.partition("/")[0] or notice.event_type
        regime = standing[0].regime if standing else ""
        look = self._look(notice.instrument, now)
        inputs = (
            *self._numbers(notice, standing, now, hand, asked_at, below),
            *self._places((house, notice.event_type, regime, tier.name)),
        )
        return Appraisal(
            inputs=inputs,
            reasoner=tier.name,
            look=look,
            claim=math.exp(self._regression.log_expected(inputs)),
            reliability=self.reliability.of(tier.name, look),
            in_time=tier.share_within(deadline_ns),
            price=self._prices.of(tier),
        )

    def _places(self, names: tuple[str, ...]) -> Inputs:
        found, first = [], len(INPUTS)
        for name, known in zip(names, self._names, strict=True):
            found.append((first + known.place(name), 1.0))
            first += known.places
        return tuple(found)

    def _numbers(
        self, notice: EvidenceNotice, standing: tuple[Forecast, ...], now: int, hand: float,
        asked_at: int | None, below: Outlook | None,
    ) -> Inputs:  # fmt: skip
        since_min = 60.0 if asked_at is None else (now - asked_at) / NS_PER_MIN
        lean = 0.0
        for forecast in standing:
            lean += abs(math.log(max(forecast.base[2], P_FLOOR) / max(forecast.base[0], P_FLOOR)))
        numbers = (
            1.0,
            bounded(math.log(max(hand, 1e-9) / _USUAL_HAND), 4.0),
            _log_share(notice.credibility),
            _log_share(notice.novelty),
            _log_share(notice.relevance),
            bounded(math.log(max(notice.burst, 0.1)), 2.0),
            min(1.0, max(0.0, notice.conflict)),
            min(1.0, abs(notice.stance)),
            math.log1p(min(60.0, max(0.0, since_min))) - 2.5,
            self._stands(notice.instrument, now),
            min(2.0, lean / max(1, len(standing))),
            *self._below(notice.instrument, standing, below, now),
        )
        return tuple(enumerate(numbers))

    def _below(
        self, instrument: str, standing: tuple[Forecast, ...], below: Outlook | None, now: int
    ) -> tuple[float, float]:
        """Return whether a cheaper reasoner speaks, and how far it moves what was last said here."""
        claim = claim_of(self._own.get(instrument), standing, below, now, self._every)
        if claim <= _LEAST_CLAIM:
            return 0.0, 0.0
        return 1.0, bounded(math.log(claim / _USUAL_CLAIM), 4.0)

    def _look(self, instrument: str, now: int) -> str:
        return AGAIN if self._stands(instrument, now) > _SPEAKS else FIRST

    def _stands(self, instrument: str, now: int) -> float:
        """Return how far the standing outlook leans, over its bands."""
        outlook = self._outlooks.get(instrument)
        if outlook is None:
            return 0.0
        return max((abs(outlook.at(band.up_to_ns, now)[0]) for band in outlook.bands), default=0.0)

    # --- after ---------------------------------------------------------------------------------

    def ask(self, question_id: str, standing: tuple[Forecast, ...], appraisal: Appraisal) -> None:
        """Remember a question until its answer comes."""
        self._open[question_id] = _Open(appraisal=appraisal, standing=standing)
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)

    def stand(self, outlook: Outlook) -> None:
        """Take note of an outlook that stands, though no answer to this gate brought it."""
        self._outlooks[outlook.instrument] = outlook

    def hear(self, question_id: str, instrument: str, outlook: Outlook | None, now: int) -> None:
        """Learn from an answer that came in time: how far it moves what stands."""
        held = self._open.pop(question_id, None)
        if held is None:
            return
        before = self._outlooks.get(instrument)
        claim = claim_of(before, held.standing, outlook, now, self._every)
        if outlook is not None:
            self._outlooks[instrument] = outlook
            self._own[instrument] = outlook
            self._answered[instrument, outlook.version] = _Answered(
                reasoner=held.appraisal.reasoner,
                look=held.appraisal.look,
                before=before,
            )
            if len(self._answered) > _MOST_OPEN:
                self._answered.popitem(last=False)
        self._regression.learn(held.appraisal.inputs, held.appraisal.claim, claim)

    def learn(self, forecast: Forecast, outcome: Outcome) -> None:
        """Learn from what became of a forecast that an outlook had moved: against what stood before it."""
        answered = self._answered.get((forecast.instrument, forecast.outlook_version))
        if outcome.label < 0 or answered is None:
            return
        was = answered.before
        old = (0.0, 1.0) if was is None else was.at(forecast.horizon_ns, forecast.ts_recv)
        stood, said = _tilted(forecast, *old), forecast.emitted
        part = self._apart(forecast)
        realised = math.log(max(said[outcome.label], P_FLOOR) / max(stood[outcome.label], P_FLOOR))
        self.count(
            forecast.instrument, forecast.outlook_version, forecast.horizon_s,
            part * _entropy(said, stood), part * realised,
        )  # fmt: skip

    def _apart(self, forecast: Forecast) -> float:
        """Return the part of a forecast's time that none counted before it covers, 0 to 1."""
        series = forecast.instrument, forecast.horizon_ns
        before, self._counted[series] = self._counted.get(series), forecast.ts_recv
        if before is None:
            return 1.0
        return min(1.0, max(0, forecast.ts_recv - before) / max(1, forecast.horizon_ns))

    def count(
        self, instrument: str, version: int, horizon_s: float, claimed: float, realised: float
    ) -> None:
        """Count what forecasts claimed and realised under an outlook, over what had stood before it.

        Args:
            instrument: Key.
            version: The outlook's.
            horizon_s: Of the forecasts.
            claimed: Nats, each forecast by as much as it overlaps no other.
            realised: Likewise.
        """
        answered = self._answered.get((instrument, version))
        if answered is not None:
            self.reliability.count(answered.reasoner, answered.look, horizon_s, claimed, realised)

    @property
    def state(self) -> bytes:
        """Return what was learnt; questions that are open are no part of it."""
        return encode(self._regression, self._names, self.reliability, self.threshold)

    def restore(self, state: bytes) -> None:
        """Put back what was learnt.

        Raises:
            InputError: If the bytes are not such a state.
        """
        restore(state, self._regression, self._names, self.reliability, self.threshold)


def claim_of(
    before: Outlook | None,
    standing: tuple[Forecast, ...],
    outlook: Outlook | None,
    now: int,
    every_ns: int,
) -> float:
    """Return the nats that an answer claims to gain over what stands, by as often as it is counted."""
    if outlook is None:
        return 0.0
    total = 0.0
    for forecast in standing:
        sizes = [
            _divergence(forecast, outlook, before, now + int(at * outlook.half_life_ns))
            for at in _AT
        ]
        for i in range(len(_AT) - 1):
            rows = (_AT[i + 1] - _AT[i]) * outlook.half_life_ns / every_ns
            total += 0.5 * (sizes[i] + sizes[i + 1]) * rows
    return total


def _divergence(forecast: Forecast, after: Outlook, before: Outlook | None, at: int) -> float:
    """Return the relative entropy of a forecast under one outlook to the same under another, nats."""
    new = after.at(forecast.horizon_ns, at)
    old = (0.0, 1.0) if before is None else before.at(forecast.horizon_ns, at)
    if new == old:
        return 0.0
    return _entropy(_tilted(forecast, *new), _tilted(forecast, *old))


def _entropy(said: Sequence[float], stood: Sequence[float]) -> float:
    """Return the relative entropy of one triple to another, nats."""
    total = 0.0
    for p, q in zip(said, stood, strict=True):
        total += p * math.log(max(p, P_FLOOR) / max(q, P_FLOOR))
    return total


def _tilted(forecast: Forecast, shift: float, vol_scale: float) -> list[float]:
    p, q = list(forecast.base), list(forecast.base_q)
    tilt(p, q, shift, vol_scale, forecast.tilt_c)
    return p


def _log_share(x: float) -> float:
    """Return the log of a share held to 0.05..1."""
    return math.log(min(1.0, max(0.05, x if math.isfinite(x) else 0.0)))
