"""An edge node: the protocol's own owner, ledger, gate and outbox, driven by the world's events."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from finllm.domain.delivery import Outbox
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast, Rung, Status
from finllm.domain.identity import content_id
from finllm.domain.protocol import Escalate, Outlook, Revision
from finllm.domain.tenure import Lease, Tenure
from finllm.domain.tilt import tilt
from finllm.domain.units import NS_PER_S
from finllm.escalation.gate import Gate, GateSettings
from finllm.escalation.latency import LatencyBelief, LatencySettings
from finllm.ledger.owner import Owner
from finllm.ledger.shipping import Shipment, Shipper
from finllm.ledger.sitelog import Logged
from finllm.ledger.store import Ledger
from finllm_lab.consistency.messages import Answer, LeaseRequest, Question
from finllm_lab.consistency.world import Disk, PowerCutError, World

LEASE_NS: Final = 6 * NS_PER_S
ROW_NS: Final = 5 * NS_PER_S
_HORIZONS: Final = (("15s", 15 * NS_PER_S, 1), ("60s", 60 * NS_PER_S, 3))
"""Name, length, and of how many rows one is forecast."""
_Q: Final = (-6.0, -3.0, 0.0, 3.0, 6.0)
_GATE: Final = GateSettings(horizon_factor=2.0, min_gain=0.0005)
_LATENCY: Final = LatencySettings(p50_ms=800.0, p95_ms=3_000.0)


class Site(Protocol):
    """What a node sends to."""

    def ship(self, shipment: Shipment, sender: "Node") -> None:
        """Take entries for the log."""
        ...

    def lease(self, requests: tuple[LeaseRequest, ...], sender: "Node") -> None:
        """Answer lease requests."""
        ...

    def catch_up(self, count: int, sender: "Node") -> None:
        """Send the log's entries after so many."""
        ...

    def question(self, message_id: str, question: Question, sender: "Node") -> None:
        """Take a question for a reasoner."""
        ...

    def live(self, forecast: Forecast) -> None:
        """Take a version for consumers."""
        ...

    def acknowledge(self, message_id: str) -> None:
        """Take the word that an answer has come."""
        ...

    def heard(self, where: str, logged: Logged, *, counts: bool) -> None:
        """Take a follower's word on an entry."""
        ...

    def published(self, forecast: Forecast) -> None:
        """Take note of what a node publishes."""
        ...


class Row(msgspec.Struct, frozen=True):
    """What every node's edge model says of one market row."""

    instrument: str
    seq: int
    ts: int
    p_down: float
    p_up: float


class Node:
    """One node: its clock, its disk, and as long as it is up its owner and what goes with it.

    Args:
        name: Its name and its ledger's.
        world: Where it lives.
        site: What it sends to.
        disk: What outlives it.
        instruments: Those it may speak for.
    """

    def __init__(
        self, name: str, world: World, site: Site, disk: Disk, instruments: tuple[str, ...]
    ) -> None:
        self.name, self.disk = name, disk
        self.offset = 0
        """This node's clock less the world's, ns."""
        self.is_up = False
        self._world, self._site, self._instruments = world, site, instruments
        self._life = 0
        self._queue: list[tuple[int, Callable[..., None], tuple[Any, ...]]] | None = None

    # --- its life ----------------------------------------------------------------------------

    def boot(self) -> None:
        """Start, with what the disk holds."""
        self._life += 1
        self.is_up = True
        self._latest = 0
        self.ledger = Ledger.on(self.disk.opened())
        self.owner = Owner(self.name, self.ledger)
        self._shipper = Shipper(self.name, self.ledger, resend_ns=NS_PER_S)
        self._gate, self._belief = Gate(_GATE), LatencyBelief(_LATENCY)
        self._questions: Outbox[Question] = Outbox(NS_PER_S, 8 * NS_PER_S)
        self._asked: dict[str, Escalate] = {}
        self._asked_version: dict[str, int] = {}
        self._epochs: dict[str, int] = dict.fromkeys(self._instruments, 0)
        self._world.note(self.name, "starts, entries on disk:", self.ledger.head.count)
        stagger = self._world.chance.between("stagger", 0.0, NS_PER_S)
        for period, timer in (
            (2 * NS_PER_S, self._ask_leases),
            (NS_PER_S // 2, self._pump),
            (2 * NS_PER_S, self._ask_entries),
        ):
            self._world.after(stagger, self._tick, self._life, period, timer)

    def crash(self, down_ns: float) -> None:
        """Stop at once and start again after a while."""
        if not self.is_up:
            return
        self._world.note(self.name, "crashes")
        self.is_up = False
        self._queue = None
        self._life += 1
        self._world.after(down_ns, self.boot)

    def pause(self, ns: float, lag_ns: float) -> None:
        """Freeze; what comes meanwhile waits. The clock then lags for a while, as one resumed does."""
        if not self.is_up or self._queue is not None:
            return
        self._world.note(self.name, "freezes")
        self._queue = []
        self._world.after(ns, self._wake, self._life, int(ns), lag_ns)

    def step_clock(self, ns: int) -> None:
        """Let the clock jump."""
        self.offset += ns
        self._world.note(self.name, "clock jumps by s:", ns / NS_PER_S)

    def take(self, call: Callable[..., None], *args: Any) -> None:
        """Let something happen here, unless the node is down; when it wakes, if it is frozen."""
        if not self.is_up:
            return
        if self._queue is not None:
            self._queue.append((self._life, call, args))
            return
        try:
            call(*args)
        except PowerCutError as place:
            self._world.note(self.name, "write is cut", place)
            self.crash(self._world.chance.between("crash length", 1.0, 40.0) * NS_PER_S)

    def clock(self) -> int:
        """Return what this node's clock says."""
        return self._world.now + self.offset

    def _now(self) -> int:
        """Return the time as this node goes by: its clock, never back."""
        self._latest = max(self._latest, self.clock())
        return self._latest

    def _wake(self, life: int, frozen_ns: int, lag_ns: float) -> None:
        if life != self._life or self._queue is None:
            return
        self.step_clock(-frozen_ns)
        self._world.after(lag_ns, self.step_clock, frozen_ns)
        waiting, self._queue = self._queue, None
        self._world.note(self.name, "wakes to", len(waiting), "events")
        for born, call, args in waiting:
            if born == self._life:
                self.take(call, *args)

    def _tick(self, life: int, period: int, timer: Callable[[], None]) -> None:
        if life == self._life:
            self._world.after(period, self._tick, life, period, timer)
            self.take(timer)

    # --- leases and the log ------------------------------------------------------------------

    def _holder(self) -> str:
        return f"{self.name}#{self._life}"

    def _ask_leases(self) -> None:
        now = self._now()
        requests = []
        for instrument in self._instruments:
            held = self.owner.epoch(instrument)
            requests.append(
                LeaseRequest(
                    instrument=instrument,
                    holder=self._holder(),
                    epoch=held or self._epochs[instrument],
                    is_claim=not held,
                    sent=now,
                )
            )
        self._world.send(self.name, "site", self._site.lease, tuple(requests), self)

    def leased(self, answers: tuple[tuple[LeaseRequest, Lease], ...]) -> None:
        """Take the answers to lease requests."""
        for request, lease in answers:
            self._epochs[lease.instrument] = max(self._epochs[lease.instrument], lease.epoch)
            if lease.holder == self._holder():
                until = request.sent + LEASE_NS
                self.owner.granted(lease.instrument, lease.epoch, until, self._now())
        self._flush()

    def _pump(self) -> None:
        now = self._now()
        self.owner.close_due(now)
        self._flush()
        for message_id, question in self._questions.due(now):
            self._world.send(self.name, "cloud", self._site.question, message_id, question, self)

    def _flush(self) -> None:
        """Commit, and send what is committed."""
        self.ledger.commit()
        shipment = self._shipper.due(self._now())
        if shipment is not None:
            self._world.send(self.name, "site", self._site.ship, shipment, self)

    def shipped(self, count: int) -> None:
        """Take the log's word that it has so many entries of this node."""
        self._shipper.acknowledged(count)

    def _ask_entries(self) -> None:
        self._world.send(self.name, "site", self._site.catch_up, self.owner.view.count, self)

    def hear(self, entries: Sequence[Logged]) -> None:
        """Take entries of the log; what does not follow is asked for again in time."""
        for logged in entries:
            if logged.seq == self.owner.view.count + 1:
                self._heard(logged, counts=self.owner.hear(logged))
        self._flush()

    def _heard(self, logged: Logged, *, counts: bool) -> None:
        self._site.heard(self.name, logged, counts=counts)
        if logged.writer != self.name:
            return
        record = logged.record
        if isinstance(record, Tenure) and self.owner.epoch(record.instrument) == record.epoch:
            self._world.note(self.name, "speaks for", record.instrument, record.epoch)
        if counts and isinstance(record, Revision) and record.forecast is not None:
            self._publish(record.forecast)

    def _publish(self, forecast: Forecast) -> None:
        self._site.published(forecast)
        self._world.send(self.name, "shop", self._site.live, forecast)

    # --- the protocol ------------------------------------------------------------------------

    def row(self, row: Row) -> None:
        """Make the forecasts of a row, if this node speaks for its instrument."""
        now = self._now()
        if self.owner.speaks_for(row.instrument, now):
            for horizon, ns, every in _HORIZONS:
                if row.seq % every == 0:
                    forecast = self._forecast(row, horizon, ns, now)
                    if self.owner.open(forecast, now):
                        said = f"{forecast.forecast_id[:8]} {forecast.epoch}.1"
                        self._world.note(self.name, "opens", said, horizon)
                        self._publish(forecast)
        self.owner.close_due(now)
        self._flush()

    def _forecast(self, row: Row, horizon: str, ns: int, now: int) -> Forecast:
        outlook = self.owner.outlook(row.instrument)
        base = (row.p_down, 1.0 - row.p_down - row.p_up, row.p_up)
        p, q = list(base), list(_Q)
        if outlook is not None:
            tilt(p, q, *outlook.at(ns, now), 0.7)
        return Forecast(
            forecast_id=content_id(row.instrument, horizon, row.seq),
            instrument=row.instrument,
            horizon=horizon,
            horizon_ns=ns,
            horizon_s=ns / NS_PER_S,
            ts_event=row.ts,
            ts_recv=now,
            ts_emit=now,
            valid_until=now + ns * 4 // 5,
            epoch=self.owner.epoch(row.instrument),
            version=1,
            base_version=0,
            base=base,
            emitted=(p[0], p[1], p[2]),
            base_q=_Q,
            emitted_q=(q[0], q[1], q[2], q[3], q[4]),
            band_bps=1.0,
            regime="calm",
            model_version="simulated",
            calibration_version=0,
            outlook_version=0 if outlook is None else outlook.version,
            spec_hash="simulated",
            row_seq=row.seq,
            status=Status.SPECULATIVE,
            flags=1,
            rung=Rung.FULL,
            tilt_c=0.7,
        )

    def notice(self, notice: EvidenceNotice) -> None:
        """Put a notice to the gate, if this node speaks for its instrument."""
        now, instrument = self._now(), notice.instrument
        if not self.owner.speaks_for(instrument, now):
            return
        epoch = self.owner.epoch(instrument)
        standing = tuple(
            f for f in self.ledger.standing if f.instrument == instrument and f.epoch == epoch
        )
        answer = self._gate.decide(notice, standing, now, self._belief)
        self.ledger.append(answer)
        if isinstance(answer, Escalate):
            self._ask(answer, standing, now)
        self._flush()

    def _ask(self, asked: Escalate, standing: tuple[Forecast, ...], now: int) -> None:
        wanted = {one.forecast_id for one in asked.standing}
        outlook = self.owner.view.outlook(asked.instrument)
        version = 1 + max(
            self._asked_version.get(asked.instrument, 0), 0 if outlook is None else outlook.version
        )
        self._asked_version[asked.instrument] = version
        self._asked[asked.question_id] = asked
        question = Question(
            asked=asked,
            forecasts=tuple(f for f in standing if f.forecast_id in wanted),
            outlook_version=version,
            asker=self.name,
        )
        self._questions.put(asked.question_id, question, asked.deadline)
        for message_id, due in self._questions.due(now):
            self._world.send(self.name, "cloud", self._site.question, message_id, due, self)

    def question_taken(self, message_id: str) -> None:
        """Take the word that a question has come."""
        self._questions.acknowledged(message_id)

    def answer(self, answer: Answer) -> None:
        """Take an answer: revise what it is about, adopt its outlook, acknowledge it."""
        now, asked = self._now(), answer.question.asked
        self._world.send(self.name, "cloud", self._site.acknowledge, answer.answer_id)
        for verdict in answer.verdicts:
            revision = self.owner.revise(verdict, asked.instrument, now)
            if revision is not None:
                self._world.chance.happened[f"verdict {revision.applied}"] += 1
                said = f"{revision.forecast_id[:8]} {verdict.epoch}.{revision.version}"
                self._world.note(self.name, f"verdict {revision.applied}", said, verdict.action)
        if asked.question_id in self._asked:
            self._belief.observe(now - asked.ts)
            self._take_outlook(answer.outlook, asked, now)
        self._flush()

    def _take_outlook(self, outlook: Outlook | None, asked: Escalate, now: int) -> None:
        if outlook is not None and now <= asked.deadline and self.owner.adopt(outlook, now):
            self._world.chance.happened["outlook adopted"] += 1
