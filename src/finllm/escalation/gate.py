"""The gate: which notices are worth a slow second look, about which forecasts, and until when.

Knows nothing of reasoners. It is pure given what it was asked and told before: the same notices, answers
and outcomes at the same instants give the same decisions. Its estimate is set by hand or, with `learn`,
starts there and follows what answers and outcomes teach (`appraise`).
"""

import math
from collections import deque
from typing import Final

import msgspec

from finllm.domain.errors import SettingsError
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast, Outcome, Rung, Status
from finllm.domain.identity import content_id
from finllm.domain.protocol import Escalate, Hold, Outlook, standing_of
from finllm.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from finllm.escalation.appraise import Appraisal, Appraiser, Prices, Tier
from finllm.escalation.latency import LatencyBelief
from finllm.escalation.watch import Watch

OPEN: Final = frozenset({Status.SPECULATIVE, Status.CONFIRMED, Status.REFINED})
"""Statuses that a verdict may still change."""
EVENTFUL: Final = frozenset({"earnings", "macro"})
"""Kinds after which volatility rose on the training tapes: results, and what the Committee decides."""
_SILENT: Final = frozenset({Rung.EDGE_ONLY, Rung.LAST_VALID})


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gate's limits, and the first coefficients of its estimate.

    The coefficients are set by hand, in nats of log score: a refinement that is right near an event
    gains 0.01 to 0.03 nats on the recordings, and events (bursts) earn where stance hardly does.
    """

    min_interval_ns: int = 100 * NS_PER_MS
    """Least time between two questions about one instrument."""
    budget_per_min: int = 60
    """Questions in any minute, over all instruments."""
    free_per_min: int = 600
    """The same of a cascade's first tier, which costs nothing but time: some 5 ms each."""
    min_gain: float = 0.002
    """Expected gain below which it is not worth asking, nats."""
    horizon_factor: float = 10.0
    """Horizons under this many reply p95 are not refined one by one; they get the outlook."""
    copy_novelty: float = 0.02
    """Novelty at or below which a notice is a copy and never escalates."""
    outlook_within_ns: int = 60 * NS_PER_S
    """Deadline of a question asked for the outlook alone."""
    gain_forecast: float = 0.02
    """Nats on one forecast with its whole life ahead, for a perfect notice."""
    gain_outlook: float = 0.02
    """Nats that later rows gain from the outlook, for a perfect notice."""
    weight_plain: float = 0.25
    """Share of that for a notice with neither stance nor burst."""
    weight_stance: float = 0.25
    """Share of that per unit of absolute stance."""
    weight_burst: float = 0.5
    """Share of that per e-fold of burst above the usual rate, up to two."""
    weight_event: float = 0.0
    """Share added for a kind of event in `EVENTFUL`."""
    weight_conflict: float = 0.5
    """Share added when text and book disagree wholly."""
    few_factor: float = 4.0
    """Times `min_gain`, and when learning times what is usually asked from, that a question must be worth on
    the rung of few escalations; at least 1."""
    market_events: bool | None = None
    """Ask about what the market itself flags as well: a switch of regime, a drained book, a sudden move.
    None = where a language model is asked: without a text the embedded reasoner has nothing to say."""
    market_z: float = 4.0
    """Deviations from which a drain or a move is flagged."""
    learn: bool = False
    """Learn the estimate from answers and outcomes; the coefficients above are where it starts."""
    call_share: float = 0.2
    """Share of the notices that may be asked about, when learning; 1 = whatever pays."""
    explore: float = 0.02
    """Share asked by chance, when learning, so that what is refused stays measured."""
    count_every_ns: int = 10 * NS_PER_S
    """How often an outlook's gain is counted for each horizon, when learning."""
    prices: Prices = Prices()
    """What a question's price is in nats, when learning."""
    state: str = ""
    """File in which what was learnt is kept from one run to the next; empty = each begins afresh."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None or isinstance(value, Prices | str):
                continue
            if not (math.isfinite(value) and value >= 0):
                raise SettingsError(
                    f"{value} is not a limit",
                    place=f"escalation.{name}",
                    mend="Give a number from 0 up.",
                )
        if self.count_every_ns < 1:
            raise SettingsError(
                "nothing is counted never",
                place="escalation.count_every_ns",
                mend="Give a number from 1 up.",
            )
        if not self.explore <= self.call_share <= 1.0:
            raise SettingsError(
                f"explores {self.explore} of the notices and asks about {self.call_share}",
                place="escalation.call_share",
                mend="Give 0 <= explore <= call_share <= 1.",
            )


class _Option(msgspec.Struct, frozen=True, kw_only=True):
    """One reasoner that might be asked."""

    tier: Tier
    asked: list[Forecast]
    gain: float
    appraisal: Appraisal | None = None
    is_beyond: bool = False
    """A tier below has answered."""


class Gate:
    """Decides, notice by notice.

    Args:
        settings: Its limits, and whether it learns.
    """

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        s = self._settings
        self.appraiser = (
            Appraiser(s.call_share, s.explore, s.count_every_ns, s.prices) if s.learn else None
        )
        """What it has learnt; None if it does not learn."""
        self._last: dict[str, int] = {}  # instrument -> when it was last asked about
        self._asked: deque[int] = deque()  # instants of the questions of the last minute
        self._in_flight: dict[str, tuple[int, int, int]] = {}  # id -> epoch, version, asked at

    def decide(
        self,
        notice: EvidenceNotice,
        standing: tuple[Forecast, ...],
        now: int,
        latency: LatencyBelief,
        rung: Rung = Rung.FULL,
        *,
        tiers: tuple[Tier, ...] = (),
        below: Outlook | None = None,
    ) -> Escalate | Hold:
        """Return whether to ask, about which forecasts, by when and why.

        Args:
            notice: What is new.
            standing: The instrument's latest forecasts, any horizon, any order.
            now: The instant of the decision, ns UTC; never before an earlier one.
            latency: What is believed of the reasoner's reply times.
            rung: Rung of the degradation ladder; below "few escalations" nothing is asked.
            tiers: The reasoners to choose from; none = the one with that latency.
            below: What a cheaper reasoner says that has already read the news.

        Returns:
            `Escalate` with the forecasts that an answer can still serve (none of them, if it is
            asked for the outlook alone), or `Hold`. Either states the expected gain and the reason.
        """
        choice = tiers or (Tier(latency=latency),)
        options = [self._option(notice, standing, now, tier, below) for tier in choice]
        option = max(options, key=lambda one: one.gain)
        bar = self._bar(notice, option, now, rung)
        if bar:
            return _hold(notice, now, option, bar)
        if self.appraiser is None or option.appraisal is None:
            return self._by_hand(notice, option, now, rung)
        return self._by_learning(notice, standing, option, now, rung)

    def begin(
        self,
        notice: EvidenceNotice,
        standing: tuple[Forecast, ...],
        now: int,
        tier: Tier,
        rung: Rung = Rung.FULL,
    ) -> Escalate | Hold:
        """Return whether to ask a cascade's first tier, which costs nothing: about all that is not barred.

        Learns nothing. Arguments as for `decide`.
        """
        option = self._by_hand_option(notice, standing, now, tier)
        bar = self._bar(notice, option, now, rung)
        if bar:
            return _hold(notice, now, option, bar)
        if len(self._asked) >= self._settings.free_per_min:
            spent = f"{self._settings.free_per_min} questions of this minute are answered"
            return _hold(notice, now, option, spent)
        self._last[notice.instrument] = now
        self._asked.append(now)
        return self._question(notice, option, now, 1.0)

    def watch(self) -> Watch | None:
        """Return what watches one instrument for what the market itself flags, if that is asked about."""
        return Watch(self._settings.market_z) if self._settings.market_events else None

    def hear(self, question: Escalate, outlook: Outlook | None, now: int) -> None:
        """Learn from an answer that came in time.

        Args:
            question: What was asked.
            outlook: What was answered; None if nothing was.
            now: When it came, ns UTC.
        """
        if self.appraiser is not None:
            self.appraiser.hear(question.question_id, question.instrument, outlook, now)

    def stand(self, outlook: Outlook) -> None:
        """Take note of an outlook that another has put in force, or that is left of one that has ended."""
        if self.appraiser is not None:
            self.appraiser.stand(outlook)

    def learn(self, forecast: Forecast, outcome: Outcome) -> None:
        """Learn from what became of a forecast."""
        if self.appraiser is not None:
            self.appraiser.learn(forecast, outcome)

    def _by_hand_option(
        self, notice: EvidenceNotice, standing: tuple[Forecast, ...], now: int, tier: Tier
    ) -> _Option:
        """Return what one reasoner could be asked, and what that is worth by the coefficients."""
        asked = self._servable(notice.instrument, standing, now, tier)
        return _Option(tier=tier, asked=asked, gain=self._expected_gain(notice, asked, now, tier))

    def _option(
        self,
        notice: EvidenceNotice,
        standing: tuple[Forecast, ...],
        now: int,
        tier: Tier,
        below: Outlook | None,
    ) -> _Option:
        """Return what one reasoner could be asked, and what that is worth."""
        option = self._by_hand_option(notice, standing, now, tier)
        option = msgspec.structs.replace(option, is_beyond=below is not None)
        if self.appraiser is None:
            return option
        appraisal = self.appraiser.appraise(
            notice,
            standing,
            now,
            hand=option.gain,
            asked_at=self._last.get(notice.instrument),
            tier=tier,
            deadline_ns=self._settings.outlook_within_ns,
            below=below,
        )
        return msgspec.structs.replace(option, gain=appraisal.worth, appraisal=appraisal)

    def _by_hand(
        self, notice: EvidenceNotice, option: _Option, now: int, rung: Rung
    ) -> Escalate | Hold:
        s = self._settings
        least = s.min_gain * self._few(rung)
        if option.gain < least:
            why = f"expected gain {option.gain:.5f} nats is below {least:.5f}"
            return _hold(notice, now, option, why)
        if len(self._asked) >= s.budget_per_min:
            return _hold(notice, now, option, self._spent)
        return self._ask(notice, option, now)

    def _by_learning(
        self, notice: EvidenceNotice, standing: tuple[Forecast, ...], option: _Option, now: int,
        rung: Rung,
    ) -> Escalate | Hold:  # fmt: skip
        s, learnt, appraisal = self._settings, self.appraiser, option.appraisal
        assert learnt is not None and appraisal is not None  # noqa: S101, PT018 - `decide` has looked
        few = self._few(rung)
        is_worth_it = learnt.threshold.passes(option.gain, few) and option.gain >= few * s.min_gain
        is_explored = _chance(notice.notice_id) < s.explore
        can_ask = learnt.threshold.can_spend and len(self._asked) < s.budget_per_min
        if can_ask and (is_worth_it or is_explored):
            propensity = 1.0 if is_worth_it else s.explore
            question = self._ask(notice, option, now, propensity)
            learnt.threshold.credit -= 1.0
            learnt.ask(question.question_id, standing, appraisal)
            return question
        if not can_ask:
            spent = self._spent if learnt.threshold.can_spend else self._share_spent
            return _hold(notice, now, option, spent)
        why = f"{appraisal.said()}; asked from {math.exp(learnt.threshold.level):.3f} nats on"
        return _hold(notice, now, option, why, s.explore)

    def _few(self, rung: Rung) -> float:
        """Return how many times as much a question must be worth on a rung."""
        return max(1.0, self._settings.few_factor) if rung is Rung.FEW_ESCALATIONS else 1.0

    @property
    def _spent(self) -> str:
        return f"budget of {self._settings.budget_per_min} questions a minute is spent"

    @property
    def _share_spent(self) -> str:
        return f"share of {self._settings.call_share:.0%} of the notices is spent"

    def _ask(
        self, notice: EvidenceNotice, option: _Option, now: int, propensity: float = 1.0
    ) -> Escalate:
        self._remember(notice.instrument, option.asked, now, option.tier)
        return self._question(notice, option, now, propensity)

    def _servable(
        self, instrument: str, standing: tuple[Forecast, ...], now: int, tier: Tier
    ) -> list[Forecast]:
        """Return the forecasts that an answer can still change, shortest horizon first."""
        p95_ns = tier.p95_ns
        least_ns = self._settings.horizon_factor * p95_ns
        kept = [
            forecast
            for forecast in standing
            if forecast.instrument == instrument
            and forecast.status in OPEN
            and forecast.horizon_ns >= least_ns
            and forecast.valid_until > now + p95_ns
            and not self._is_in_flight(forecast, now, p95_ns)
        ]
        return sorted(kept, key=lambda f: (f.horizon_ns, f.forecast_id))

    def _is_in_flight(self, forecast: Forecast, now: int, p95_ns: int) -> bool:
        """Return whether this very version was asked about and its answer is still due."""
        asked = self._in_flight.get(forecast.forecast_id)
        if asked is None:
            return False
        epoch, version, ts = asked
        return (epoch, version) == (forecast.epoch, forecast.version) and now <= ts + p95_ns

    def _expected_gain(
        self, notice: EvidenceNotice, asked: list[Forecast], now: int, tier: Tier
    ) -> float:
        """Return the nats that an answer should gain: the notice's worth times the life served."""
        s = self._settings
        answer = now + tier.p50_ns
        lives = s.gain_outlook
        for forecast in asked:
            life_ns = max(1, forecast.valid_until - forecast.ts_recv)
            lives += s.gain_forecast * _unit((forecast.valid_until - answer) / life_ns)
        return lives * self._worth(notice)

    def _worth(self, notice: EvidenceNotice) -> float:
        """Return how much a notice promises, from 0 for a copy up."""
        s = self._settings
        effect = (
            s.weight_plain
            + s.weight_stance * _unit(abs(notice.stance))
            + s.weight_burst * min(2.0, math.log(max(1.0, _finite(notice.burst))))
            + s.weight_event * (notice.event_type in EVENTFUL)
        )
        trust = _unit(notice.relevance) * _unit(notice.novelty) * _unit(notice.credibility)
        return trust * effect * (1.0 + s.weight_conflict * _unit(notice.conflict))

    def _bar(self, notice: EvidenceNotice, option: _Option, now: int, rung: Rung) -> str:
        """Return why a question is out of the question, whatever it is worth; empty if it is not."""
        s = self._settings
        if rung in _SILENT:
            return f"the slow path rests on rung {rung}"
        last = self._last.get(notice.instrument)
        while self._asked and now - self._asked[0] >= NS_PER_MIN:
            self._asked.popleft()
        if _unit(notice.novelty) <= s.copy_novelty:
            return "copy of what is known"
        if last is not None and now - last < s.min_interval_ns:
            return f"asked about it {(now - last) / NS_PER_MS:.1f} ms ago"
        if not option.asked and option.tier.p95_ns >= s.outlook_within_ns:
            return "no forecast can still be served, and an outlook would come too late"
        return ""

    def _remember(self, instrument: str, asked: list[Forecast], now: int, tier: Tier) -> None:
        self._last[instrument] = now
        self._asked.append(now)
        forget = now - 2 * tier.p95_ns
        self._in_flight = {key: was for key, was in self._in_flight.items() if was[2] > forget}
        for forecast in asked:
            self._in_flight[forecast.forecast_id] = (forecast.epoch, forecast.version, now)

    def _question(
        self, notice: EvidenceNotice, option: _Option, now: int, propensity: float
    ) -> Escalate:
        standing = tuple(standing_of(forecast) for forecast in option.asked)
        latest = max((forecast.valid_until for forecast in option.asked), default=0)
        beyond = (option.tier.name,) if option.is_beyond else ()
        reason = _reason(notice, len(option.asked))
        if option.appraisal is not None:
            by = "by chance: " if propensity < 1.0 else ""
            reason = f"{by}{option.appraisal.said()}; {reason}"
        return Escalate(
            question_id=content_id("question", notice.notice_id, now, standing, *beyond),
            instrument=notice.instrument,
            ts=now,
            notice_id=notice.notice_id,
            standing=standing,
            deadline=latest or now + self._settings.outlook_within_ns,
            expected_gain=option.gain,
            reason=reason,
            tier=option.tier.name,
            propensity=propensity,
        )


def _hold(
    notice: EvidenceNotice, now: int, option: _Option, reason: str, propensity: float = 0.0
) -> Hold:
    return Hold(
        instrument=notice.instrument,
        ts=now,
        notice_id=notice.notice_id,
        expected_gain=option.gain,
        reason=reason,
        tier=option.tier.name,
        propensity=propensity,
    )


def _chance(notice_id: str) -> float:
    """Return a number in [0, 1) that belongs to a notice: a replay draws the same."""
    return int(content_id("explore", notice_id)[:13], 16) / 16.0**13


def _reason(notice: EvidenceNotice, n_asked: int) -> str:
    what = notice.event_type or "evidence"
    about = f"{n_asked} forecasts and the outlook" if n_asked else "the outlook alone"
    return (
        f"{what}: relevance {notice.relevance:.2f}, novelty {notice.novelty:.2f}, "
        f"credibility {notice.credibility:.2f}, stance {notice.stance:+.2f}, "
        f"burst {notice.burst:.1f}; for {about}"
    )


def conflict_of(stance: float, move_z: float) -> float:
    """Return how far a text and what the market has just done disagree, 0 to 1.

    Args:
        stance: Of the text, -1 bearish to +1 bullish.
        move_z: The last move, in deviations.
    """
    return _unit(-_finite(stance) * math.tanh(_finite(move_z) / 2.0))


def _finite(x: float) -> float:
    return x if math.isfinite(x) else 0.0


def _unit(x: float) -> float:
    """Return x held to 0..1; what is not a number counts as 0."""
    return min(1.0, max(0.0, _finite(x)))
