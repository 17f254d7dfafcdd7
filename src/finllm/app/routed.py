"""What the gate would do, and why, without doing it: over a run's notices, or a day of a known world.

Nothing is asked, so answers teach nothing: each question is appraised by what the gate knows at its start.
The level from which a gate that learns asks, and the credit of its share, move from question to question.
"""

import heapq
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from finllm.app.records import open_ledger
from finllm.app.settings import Settings
from finllm.app.tiers import Believed, Spending, silent
from finllm.app.wiring import cascade, open_gates
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Cost, Forecast
from finllm.domain.protocol import Escalate, Hold, Revision
from finllm.escalation.gate import Gate
from finllm.escalation.latency import LatencyBelief, LatencySettings
from finllm.features.bar_spec import BAR_SPEC
from finllm.ledger.reader import LedgerReader
from finllm.market.known.minds import Mind

Question = tuple[EvidenceNotice, tuple[Forecast, ...], int]
"""A notice, the forecasts that stood, and when."""
_Said = tuple[int, int, Forecast | Escalate | Hold]


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """One question and what the gate would do."""

    ts: int
    instrument: str
    event_type: str
    notice_id: str
    escalates: bool
    expected_gain: float
    """Nats. By hand each forecast that stands counts once, and the outlook as one more; learnt it is the sum
    over every forecast while the answer lasts, less the price."""
    is_learnt: bool
    """Whether its estimate is learnt, or set by hand."""
    deadline: int
    """An answer after it is worth nothing, ns UTC; 0 where nothing is asked."""
    tier: str
    """Who would be asked, or is not."""
    n_asked: int
    """Forecasts that an answer could still change."""
    propensity: float
    reason: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """All questions; of a cascade each tier's is one."""

    source: str
    learns: bool
    tiers: tuple[str, ...]
    escalated: int
    held: int
    questions: list[Routed]


def route_run(run: Path, settings: Settings, most: int) -> Route:
    """Return what the gate would do with the notices of a run, tier by tier.

    Raises:
        InputError: If the folder holds no run, or what the gates had learnt cannot be used.
    """
    steps = cascade(settings)
    with open_ledger(run) as ledger:
        bars = {
            (forecast.instrument, forecast.horizon_ns)
            for forecast in ledger.records(Forecast)
            if forecast.spec_hash == BAR_SPEC.hash
        }
        of_bars = {instrument for instrument, _ in bars}
        gates = open_gates(settings, run, None, min((ns for _, ns in bars), default=0))
        found = [
            one
            for notice, standing, now in islice(_questions(ledger), most)
            for one in _climbed(
                gates.bar if notice.instrument in of_bars else gates.book,
                notice, standing, now, steps,
            )
        ]  # fmt: skip
    return _told(str(run), gates.book[-1], tuple(step.name for step in steps), found)


def _climbed(
    gates: tuple[Gate, ...], notice: EvidenceNotice, standing: tuple[Forecast, ...], now: int,
    steps: tuple[Believed, ...],
) -> Iterator[Routed]:  # fmt: skip
    """Yield what the gate would do tier by tier, up to the first that it holds; nobody has answered below."""
    below = None
    for step, gate in zip(steps, gates, strict=True):
        tier = step.asked(0)
        answer = (
            gate.begin(notice, standing, now, tier)
            if step.is_free
            else gate.decide(notice, standing, now, tier.latency, tiers=(tier,), below=below)
        )
        yield _routed(notice, answer, now, is_learnt=gate.appraiser is not None)
        if isinstance(answer, Hold):
            return
        below = silent(notice.instrument, now)


def route_world(seed: int, settings: Settings, most: int) -> Route:
    """Return what the gates would do on the first day of a known world, simulated reasoner by reasoner.

    Of the settings `escalation` counts, but for what was kept: that was learnt of others.

    Raises:
        InputError: If the seed is none.
    """
    from finllm.app.bench.known import check_seed, read_world, standing_at
    from finllm.market.known.law import LAW
    from finllm.market.known.minds import MINDS

    check_seed(seed, "--seed")
    read = next(read_world(LAW, seed, 1))
    steps = tuple(_simulated(mind, is_free=mind is MINDS[0]) for mind in MINDS)
    learn = settings.escalation.learn
    gates = tuple(
        Gate(msgspec.structs.replace(settings.escalation, learn=learn and not step.is_free))
        for step in steps
    )
    asked = ((o.notice, o) for o in read.occasions if o.notice is not None)
    found = [
        one
        for notice, o in islice(asked, most)
        for one in _climbed(gates, notice, standing_at(read, o.instrument, o.ts), o.ts, steps)
    ]
    return _told(f"known world {seed}", gates[-1], tuple(step.name for step in steps), found)


def _simulated(mind: Mind, *, is_free: bool) -> Believed:
    """Return a simulated reasoner as the gate knows it."""
    latency = LatencySettings(p50_ms=mind.p50_s * 1e3, p95_ms=mind.p95_s * 1e3)
    return Believed(
        name=mind.name,
        assumed=latency,
        latency=LatencyBelief(latency),
        spending=Spending(Cost(tokens=mind.tokens, usd=mind.usd, energy_j=mind.energy_j)),
        slots=mind.slots,
        is_free=is_free,
    )


def _told(source: str, gate: Gate, tiers: tuple[str, ...], found: list[Routed]) -> Route:
    escalated = sum(one.escalates for one in found)
    return Route(
        source=source,
        learns=gate.appraiser is not None,
        tiers=tiers,
        escalated=escalated,
        held=len(found) - escalated,
        questions=found,
    )


def _routed(
    notice: EvidenceNotice, answer: Escalate | Hold, now: int, *, is_learnt: bool
) -> Routed:
    asked = answer if isinstance(answer, Escalate) else None
    return Routed(
        ts=now,
        instrument=notice.instrument,
        event_type=notice.event_type,
        notice_id=notice.notice_id,
        escalates=asked is not None,
        expected_gain=answer.expected_gain,
        is_learnt=is_learnt,
        deadline=asked.deadline if asked else 0,
        tier=answer.tier,
        n_asked=len(asked.standing) if asked else 0,
        propensity=answer.propensity,
        reason=answer.reason,
    )


def _questions(ledger: LedgerReader) -> Iterator[Question]:
    """Yield what the gate was asked about in a run, with the forecasts that stood, in order of time."""
    notices = {notice.notice_id: notice for notice in ledger.records(EvidenceNotice)}
    standing: dict[str, dict[int, Forecast]] = {}
    said: Iterator[_Said] = heapq.merge(
        ((f.ts_emit, 0, f) for f in ledger.records(Forecast)),
        ((r.ts, 0, r.forecast) for r in ledger.records(Revision) if r.forecast is not None),
        ((each.ts, 1, each) for each in ledger.records(Escalate)),
        ((each.ts, 1, each) for each in ledger.records(Hold)),
        key=lambda each: each[:2],
    )
    for ts, _, what in said:
        if isinstance(what, Forecast):
            standing.setdefault(what.instrument, {})[what.horizon_ns] = what
        elif what.notice_id in notices:
            notice = notices.pop(what.notice_id)  # a further tier's answer is no further question
            of = standing.get(what.instrument, {})
            yield (
                notice,
                tuple(f for _, f in sorted(of.items()) if f.valid_until > ts),
                ts,
            )
