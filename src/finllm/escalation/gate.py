"""The gate: which notices are worth a slow second look, about which forecasts, and until when.

Knows nothing of reasoners or outcomes. It is pure given what it was asked before: the same notices
at the same instants give the same answers.
"""

import math
from collections import deque
from typing import Final

import msgspec

from finllm.domain.errors import SettingsError
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast, Rung, Status
from finllm.domain.identity import content_id
from finllm.domain.protocol import Escalate, Hold, standing_of
from finllm.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from finllm.escalation.latency import LatencyBelief

OPEN: Final = frozenset({Status.SPECULATIVE, Status.CONFIRMED, Status.REFINED})
"""Statuses that a verdict may still change."""
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
    weight_conflict: float = 0.5
    """Share added when text and book disagree wholly."""
    few_factor: float = 4.0
    """Times `min_gain` that a question must be worth on the rung of few escalations."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsError(
                    f"{value} is not a limit",
                    place=f"escalation.{name}",
                    mend="Give a number from 0 up.",
                )


class Gate:
    """Decides, notice by notice. Learns nothing from what becomes of its answers."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
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
    ) -> Escalate | Hold:
        """Return whether to ask, about which forecasts, by when and why.

        Args:
            notice: What is new.
            standing: The instrument's latest forecasts, any horizon, any order.
            now: The instant of the decision, ns UTC; never before an earlier one.
            latency: What is believed of the reasoner's reply times.
            rung: Rung of the degradation ladder; below "few escalations" nothing is asked.

        Returns:
            `Escalate` with the forecasts that an answer can still serve (none of them, if it is
            asked for the outlook alone), or `Hold`. Either states the expected gain and the reason.
        """
        asked = self._servable(notice.instrument, standing, now, latency)
        gain = self._expected_gain(notice, asked, now, latency)
        s = self._settings
        least = s.min_gain * (s.few_factor if rung is Rung.FEW_ESCALATIONS else 1.0)
        if rung in _SILENT:
            why_not = f"the slow path rests on rung {rung}"
        else:
            why_not = self._refusal(notice, asked, gain, now, latency, least)
        if why_not:
            return Hold(
                instrument=notice.instrument,
                ts=now,
                notice_id=notice.notice_id,
                expected_gain=gain,
                reason=why_not,
            )
        self._remember(notice.instrument, asked, now, latency)
        return self._question(notice, asked, gain, now)

    def _servable(
        self, instrument: str, standing: tuple[Forecast, ...], now: int, latency: LatencyBelief
    ) -> list[Forecast]:
        """Return the forecasts that an answer can still change, shortest horizon first."""
        p95_ns = latency.p95_ns
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
        self, notice: EvidenceNotice, asked: list[Forecast], now: int, latency: LatencyBelief
    ) -> float:
        """Return the nats that an answer should gain: the notice's worth times the life served."""
        s = self._settings
        answer = now + latency.p50_ns
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
        )
        trust = _unit(notice.relevance) * _unit(notice.novelty) * _unit(notice.credibility)
        return trust * effect * (1.0 + s.weight_conflict * _unit(notice.conflict))

    def _refusal(
        self,
        notice: EvidenceNotice,
        asked: list[Forecast],
        gain: float,
        now: int,
        latency: LatencyBelief,
        least: float,
    ) -> str:
        """Return why not to ask; empty if there is no reason."""
        s = self._settings
        last = self._last.get(notice.instrument)
        while self._asked and now - self._asked[0] >= NS_PER_MIN:
            self._asked.popleft()
        if _unit(notice.novelty) <= s.copy_novelty:
            return "copy of what is known"
        if last is not None and now - last < s.min_interval_ns:
            return f"asked about it {(now - last) / NS_PER_MS:.1f} ms ago"
        if not asked and latency.p95_ns >= s.outlook_within_ns:
            return "no forecast can still be served, and an outlook would come too late"
        if gain < least:
            return f"expected gain {gain:.5f} nats is below {least:.5f}"
        if len(self._asked) >= s.budget_per_min:
            return f"budget of {s.budget_per_min} questions a minute is spent"
        return ""

    def _remember(
        self, instrument: str, asked: list[Forecast], now: int, latency: LatencyBelief
    ) -> None:
        self._last[instrument] = now
        self._asked.append(now)
        forget = now - 2 * latency.p95_ns
        self._in_flight = {key: was for key, was in self._in_flight.items() if was[2] > forget}
        for forecast in asked:
            self._in_flight[forecast.forecast_id] = (forecast.epoch, forecast.version, now)

    def _question(
        self, notice: EvidenceNotice, asked: list[Forecast], gain: float, now: int
    ) -> Escalate:
        standing = tuple(standing_of(forecast) for forecast in asked)
        latest = max((forecast.valid_until for forecast in asked), default=0)
        return Escalate(
            question_id=content_id("question", notice.notice_id, now, standing),
            instrument=notice.instrument,
            ts=now,
            notice_id=notice.notice_id,
            standing=standing,
            deadline=latest or now + self._settings.outlook_within_ns,
            expected_gain=gain,
            reason=_reason(notice, len(asked)),
        )


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
