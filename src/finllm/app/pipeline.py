"""The walk: from a frame, a bar or a document to forecasts, verdicts and revisions, in one order.

A frame is decoded and applied to its book (`market`), pushed through the features (`features`), and
its row is forecast (`edge`). On a grid the row becomes forecast records, which the ledger opens. A
document is admitted (`narrative`); what is new in it is put to the gate (`escalation`); an escalated
question gets its evidence gathered (`narrative`) and is judged (`reasoning`); when the answer's time
has come, the ledger revises the forecasts asked about, and the edge adopts the outlook. Outcomes flow
back to the edge and to the gate between two rows. Why a forecast was revised is written later, one trace
at a time, and not at all while the slow path is behind.

Rows of a chunk are inferred together, because a row's inference depends on nothing but the row.
Everything else happens row by row in the order of receive times, so that the size of a chunk or the
number of workers cannot change one emitted byte.
"""

import heapq
from collections import Counter
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.emission import Emission
from finllm.app.explaining import MOST_WAITING, Explainer, Explaining, Untold
from finllm.app.lane import Facts, Lane
from finllm.app.recording import SERVED, Recorder, Traces
from finllm.app.tiers import Step, silent
from finllm.control.ladder import Measures, rung
from finllm.domain.completion import Completion
from finllm.domain.errors import InputError
from finllm.domain.evidence import (
    Document,
    EvidenceNotice,
    EvidencePack,
    Quarantine,
    QuarantineState,
    Refusal,
)
from finllm.domain.forecast import Forecast, Outcome, Rung
from finllm.domain.identity import content_id
from finllm.domain.instrument import Horizon
from finllm.domain.market import ROW_HEAD, Bar, Frame, Gap
from finllm.domain.protocol import Escalate, Outlook, Revision, Verdict
from finllm.domain.revise import revised
from finllm.domain.spec import FeatureSpec
from finllm.domain.units import iso
from finllm.edge.bank import Bank
from finllm.edge.drift import Fit
from finllm.edge.inference import Inference
from finllm.edge.isolated import Served
from finllm.edge.serving import REGIME, ROW, entry_words
from finllm.escalation.gate import Gate, conflict_of
from finllm.escalation.watch import Alarm, Watch
from finllm.features.bars import BarFeatures, MarketLead
from finllm.features.book import BookFeatures, BookRows
from finllm.ledger.store import Ledger
from finllm.market.markets import Books
from finllm.narrative.memory.writer import MemoryWriter
from finllm.narrative.room import Narrative
from finllm.narrative.text.canonical import canonical_text
from finllm.reasoning.ensemble.track import COUNTED, TrackRecord
from finllm.reasoning.reasoner import DeferredReasoner, Judgement
from finllm.runtime.tally import Tally

LEAD = "us-equity:SPY"
"""The instrument whose bars feed the market columns of the others."""
_EPOCH = 1
_FOREVER = 2**62
_DOCUMENT, _REPLY = 0, 1
N_HEAD = ROW_HEAD.itemsize // 8


class Road(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of market input becomes forecasts: its bank of models, its grid and its gates."""

    bank: Bank
    spec: FeatureSpec
    inference: Inference
    grid_ns: int
    gates: tuple[Gate, ...]
    """One for each tier."""


class Server(Protocol):
    """Serves rows somewhere else: what it says of them comes back by `Pipeline.take`."""

    def put(self, key: int, entry: NDArray[np.int64]) -> None:
        """Take an instrument's newest row, int64 [9 + F]; a newer one may replace it unserved."""
        ...

    def set_parameters(self, key: int, parameters: NDArray[np.int64]) -> None:
        """Put an instrument's parameters in force from the next row that is served."""
        ...


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline is wired from."""

    market: Books
    book: Road
    bar: Road
    narrative: Narrative
    tiers: tuple[Step, ...]
    """Who is asked in turn, cheapest first; at least one."""
    ledger: Ledger
    recorder: Recorder
    bars: Tally
    documents: Tally
    explainer: Explainer | None
    """Writes traces; None writes none."""
    chunk: int
    emit_from: int
    """Nothing is emitted for inputs received before this instant; they warm the state up."""
    context: frozenset[str]
    """Instruments that feed others' features but are not forecast."""
    memory: MemoryWriter | None = None
    """What the room keeps beyond this process, if anything."""
    server: Server | None = None
    """Serves the rows of books; None serves every row here, at once."""
    track: TrackRecord | None = None
    """Of an ensemble: told of its verdicts and of what became of the forecasts."""


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and all that it is asked with."""

    notice: EvidenceNotice
    question: Escalate
    number: int
    """Of the tier."""
    forecasts: tuple[Forecast, ...]
    pack: EvidencePack
    outlook_version: int


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    asked: _Asked
    judgement: Judgement
    queued_ns: int = 0
    """How long the question waited for its turn."""


class _Open(msgspec.Struct, kw_only=True):
    """A question that a deferred reasoner thinks about."""

    asked: _Asked
    unrevised: set[str]
    """Of the forecasts asked about, those that still stand as they did."""


class Pipeline:
    """One process's walk over all its instruments.

    Args:
        parts: The rooms, wired.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.emission = Emission()
        self.lanes: list[Lane] = []
        self.counts: Counter[str] = Counter()
        self.now = 0
        self._by_key: dict[str, Lane] = {}
        self._watches: dict[str, Watch] = {}
        self._book_lanes: list[Lane] = []
        self._book_features: list[BookFeatures] = []
        self._book_rows = BookRows()
        self._bar_lanes: dict[str, Lane] = {}
        self._bar_features: dict[str, BarFeatures] = {}
        self._lead = MarketLead(LEAD)
        self._agenda: list[tuple[int, int, int, Document | Refusal | _Reply]] = []
        self._order = 0
        self._waiting = 0
        self.tiers = {step.name: Counter[str]() for step in parts.tiers}
        """By tier, how often it was escalated to, held, answered, fell_back, late or cancelled."""
        self._explaining = (
            None if parts.explainer is None else Explaining(parts.explainer, self._text)
        )
        self._open: dict[str, _Open] = {}
        self._rung = Rung.FULL
        self._gaps: list[tuple[int, Gap]] = []
        self._head = np.zeros(1, dtype=ROW_HEAD)

    # --- doors -------------------------------------------------------------------------------

    def push(self, frame: Frame) -> NDArray[np.void] | None:
        """Take one frame; return its forecast row, shape [1], or None if it made none.

        The row is reused by the instrument's next row: copy what is to be kept.
        """
        return self.feed([frame])

    @property
    def book_horizons(self) -> tuple[Horizon, ...]:
        """Return the horizons of a forecast row made from frames, in its order."""
        return self._parts.book.bank.horizons

    def feed(self, chunk: list[Frame]) -> NDArray[np.void] | None:
        """Take frames in order of receipt, at most `chunk` of them; return the last forecast row.

        A frame of some venues makes several rows; a batch that they fill is served before the next row.
        """
        parts = self._parts
        parts.recorder.frames(chunk)
        batch = _Batch(parts.book, len(chunk))
        for frame in chunk:
            index = parts.market.push(frame)
            if parts.market.gaps:
                self._hear_gaps(batch)
            if index < 0:
                continue
            if not parts.market.is_single:
                batch = self._rows_of_frame(index, batch)
                continue
            while index >= len(self._book_lanes):
                self._add_book_lane()
            view = parts.market.view(index)
            self._book_features[index].push(view, batch.rows[batch.n], self._head)
            batch.add(self._book_lanes[index], self._head)
        served = self._serve(batch)
        self._tell_gaps(batch.n)
        if chunk:
            self.advance(chunk[-1].ts_recv)
        return served

    def _rows_of_frame(self, index: int, batch: "_Batch") -> "_Batch":
        """Take all rows of a frame, the first at hand; return the batch that the last one is in."""
        market = self._parts.market
        while index >= 0:
            if batch.n == len(batch.rows):
                self._serve(batch)
                self._tell_gaps(batch.n)
                batch = _Batch(batch.road, len(batch.rows))
            while index >= len(self._book_lanes):
                self._add_book_lane()
            self._book_features[index].push(market.view(index), batch.rows[batch.n], self._head)
            batch.add(self._book_lanes[index], self._head)
            index = market.more()
            if market.gaps:
                self._hear_gaps(batch)
        return batch

    def _hear_gaps(self, batch: "_Batch") -> None:
        """Keep the gaps that came with a row in front of it."""
        market = self._parts.market
        self._gaps += ((batch.n, gap) for gap in market.gaps)
        market.gaps.clear()

    def feed_bars(self, chunk: list[Bar]) -> None:
        """Take bars in order of receipt, at most `chunk` of them."""
        parts = self._parts
        batch = _Batch(parts.bar, len(chunk))
        parts.recorder.bars(chunk)
        for bar in chunk:
            lane = self._bar_lane(bar.instrument)
            refused = self._bar_features[bar.instrument].push(bar, batch.rows[batch.n], self._head)
            if refused:
                parts.bars.withdraw(refused, f"{bar.instrument} at {iso(bar.ts_start)}")
            if lane is not None:
                batch.add(lane, self._head)
        self._serve(batch)
        if chunk:
            self.advance(chunk[-1].ts_recv)

    def expect(self, document: Document | Refusal, ts: int) -> None:
        """Put a document, or the record of one that could not be read, on the agenda for `ts`."""
        self._put(ts, _DOCUMENT, document)

    def advance(self, now: int) -> None:
        """Let time pass: whatever is due by `now` happens, in order.

        With a server nothing happens but by `tick`: a chunk of frames is one event of the schedule.
        """
        if self._parts.server is None:
            self.tick(now)
        self.now = max(self.now, now)

    def tick(self, now: int) -> None:
        """Let what is due by `now` happen, in order; time does not pass beyond it.

        With a server one trace is written at most, and last: a tick is over soon.
        """
        self._hear(now)
        is_live = self._parts.server is not None
        while self._agenda and self._agenda[0][0] <= now:
            if not is_live:
                self._tell_why(self._agenda[0][0] - 1)
            self._happen(heapq.heappop(self._agenda))
        self._tell_why(now, most=1 if is_live else MOST_WAITING)

    def tell(self, document: Document | Refusal) -> None:
        """Take a document at once, or the record of one that could not be read."""
        self._happen((document.ts_recv, _DOCUMENT, 0, document))

    def answer(self, question_id: str, came: int) -> None:
        """Let the answer to a question come now, whenever it was due: a replay of what happened.

        Raises:
            InputError: If no such question is open.
        """
        if question_id in self._open:
            deferred = self._parts.tiers[self._open[question_id].asked.number].deferred
            if deferred is not None:
                self._conclude(deferred, deferred.recorded(question_id), came)
            return
        for i, (_, _, _, event) in enumerate(self._agenda):
            if isinstance(event, _Reply) and event.asked.question.question_id == question_id:
                del self._agenda[i]
                heapq.heapify(self._agenda)
                self._happen((came, _REPLY, 0, event))
                return
        raise InputError(
            f"holds an answer to {question_id}, which was never asked",
            place="journal",
            mend="Replay the whole run, with the version that recorded it.",
        )

    def explain(self, verdict_id: str) -> None:
        """Let the trace of a verdict be written now, whenever it was due: a replay of what happened.

        One that does not wait is passed over: whether traces are written is for this run to say.
        """
        if self._explaining is not None and self._explaining.is_next(verdict_id):
            self._tell_why(_FOREVER, most=1)

    def _happen(self, what: tuple[int, int, int, Document | Refusal | _Reply]) -> None:
        ts, _, _, event = what
        self.now = max(self.now, ts)
        if isinstance(event, _Reply):
            self._answer(event)
            self._go_on(event)
        elif isinstance(event, Refusal):
            self._parts.recorder.refusal(event)
            self._append(event)
        else:
            self._admit(event)

    def commit(self) -> None:
        """Sync the records of the group that is open, so that a quiet market does not leave it so."""
        self._parts.ledger.commit()
        if self._parts.memory is not None:
            self._parts.memory.rest(self.now)

    def drain(self, until: int) -> None:
        """Let time pass to the last thing on the agenda, at most until an instant."""
        while self._agenda and self._agenda[0][0] < until:
            self.tick(self._agenda[0][0])

    def finish(self) -> None:
        """End the run: whatever is still open is said to be so, then the ledger's head is recorded.

        A question whose answer has not come is journalled as cancelled; a target that has not been
        reached gets a void outcome; a document that was expected later is counted as dropped; a trace that
        waits is written.
        """
        for _, _, _, event in sorted(self._agenda):
            if isinstance(event, _Reply):
                self._cancelled(event.asked)
            elif isinstance(event, Document):
                self._parts.documents.drop("after_market", event.document_id)
        self._agenda.clear()
        for held in list(self._open.values()):
            self._give_up(held.asked)
        self._tell_why(_FOREVER)
        for lane in self.lanes:
            self._settled(lane.abandon(self.now))
        for closing in self._parts.ledger.close_due(self.now):
            self.emission.record(self.now, closing)
        self._parts.ledger.commit()
        head = self._parts.ledger.head
        self._parts.recorder.head(head.count, head.hash)
        if self._parts.memory is not None:
            self._parts.memory.settle(self.now)

    @property
    def traces(self) -> Traces:
        """Return what became of the traces."""
        return Traces() if self._explaining is None else self._explaining.traces

    @property
    def feature_restarts(self) -> int:
        """Return how often the windows of a book started afresh, first starts not counted."""
        return sum(features.restarts for features in self._book_features)

    @property
    def clock_steps_back(self) -> int:
        """Return how often a book's view was older than the one before it."""
        return sum(features.clock_steps_back for features in self._book_features)

    @property
    def fits(self) -> Counter[Fit]:
        """Return how many instruments' models fit, and how many do not in which way."""
        return Counter(lane.session.fit for lane in self.lanes)

    # --- the fast path -----------------------------------------------------------------------

    def _add_book_lane(self) -> None:
        key = self._parts.market.instruments[len(self._book_lanes)].key
        self._book_features.append(self._book_rows.features(key))
        self._book_lanes.append(self._add_lane(key, self._parts.book))

    def _bar_lane(self, key: str) -> Lane | None:
        if key not in self._bar_features:
            self._bar_features[key] = BarFeatures(self._lead)
            if key not in self._parts.context:
                self._bar_lanes[key] = self._add_lane(key, self._parts.bar)
        return self._bar_lanes.get(key)

    def _add_lane(self, key: str, road: Road) -> Lane:
        lane = Lane(len(self.lanes), key, road.bank, road.spec, road.grid_ns)
        self.lanes.append(lane)
        watch = road.gates[0].watch()
        if watch is not None:
            self._watches[key] = watch
        return lane

    def _serve(self, batch: "_Batch") -> NDArray[np.void] | None:
        n = batch.n
        if n == 0:
            return None
        heads = np.array(batch.facts, dtype=ROW_HEAD)
        is_bar = batch.road is self._parts.bar
        if self._parts.server is not None and not is_bar:
            self._hand_over(batch, heads, self._parts.server)
            return None
        # The regime chooses the member, so every row is observed first; what is said of a row still
        # depends on no later one.
        for i, lane in enumerate(batch.lanes):
            lane.session.observe(batch.entries[i])
        raw = batch.road.inference.infer(batch.rows[:n], batch.entries[:n, REGIME])
        served = []
        for i, (lane, facts) in enumerate(zip(batch.lanes, batch.facts, strict=True)):
            if self._gaps:
                self._tell_gaps(i)
            self.advance(facts.ts_recv)
            self._settled(lane.settle_bar(heads[i]) if is_bar else lane.settle(facts.ts_recv))
            self._in_force(lane.watch(facts, batch.entries[i], self.now))
            lane.forecast(facts, heads[i], batch.entries[i], batch.entries_f[i], raw[i])
            state = lane.state()
            self._emit_row(lane, state)
            version = int(lane.session.parameters[0])
            served.append((lane.index, facts.seq, facts.ts_recv, state[2], state[3], version))
        self._parts.recorder.rows(np.array(served, dtype=SERVED))
        return batch.lanes[-1].out

    def _hand_over(self, batch: "_Batch", heads: NDArray[np.void], server: Server) -> None:
        """Observe every row, and hand it to the server with the parameters in force."""
        for i, (lane, facts) in enumerate(zip(batch.lanes, batch.facts, strict=True)):
            if self._gaps:
                self._tell_gaps(i)
            self.now = max(self.now, facts.ts_recv)
            self._settled(lane.settle(facts.ts_recv))
            lane.observe(heads[i], batch.entries[i])
            self._in_force(lane.watch(facts, batch.entries[i], self.now))
            self._tell_server(lane)
            server.put(lane.index, batch.entries[i])

    def _tell_server(self, lane: Lane) -> None:
        """Put an instrument's parameters in force at the server, if it serves it and they are new."""
        server, parameters = self._parts.server, lane.session.parameters
        if server is None or lane.instrument in self._bar_lanes or lane.told == parameters[0]:
            return
        server.set_parameters(lane.index, parameters)
        lane.told = int(parameters[0])

    def take(self, served: Served) -> None:
        """Take rows that the server has served, in its order; they are journalled first."""
        rows = served.rows
        facts = np.empty(len(rows), dtype=SERVED)
        facts["lane"], facts["parameters"] = served.key, served.parameters
        for name in ("seq", "ts_emit", "calibration_version", "outlook_version"):
            facts[name] = rows[name]
        self._parts.recorder.rows(facts)
        for i, key in enumerate(served.key.tolist()):
            lane = self.lanes[key]
            self.now = max(self.now, int(rows["ts_emit"][i]))
            lane.take(rows[i : i + 1], served.entries[i])
            self._emit_row(lane, lane.state())

    def _tell_gaps(self, before_row: int) -> None:
        while self._gaps and self._gaps[0][0] <= before_row:
            _, gap = self._gaps.pop(0)
            self.advance(gap.ts_recv)
            self._append(gap)
            self.counts["gaps"] += 1

    def _settled(self, settled: list[tuple[Forecast, Outcome]]) -> None:
        for forecast, outcome in settled:
            if self._parts.track is not None:
                self._parts.track.learn(outcome)
            for gate in self._gates_of(forecast.instrument):
                gate.learn(forecast, outcome)
            if forecast.ts_emit >= self._parts.emit_from:
                self._append(outcome)

    def _emit_row(self, lane: Lane, state: list[int]) -> None:
        if lane.instrument not in self._by_key:
            self._by_key[lane.instrument] = lane
            self._parts.narrative.watch(lane.instrument, now=self.now)
        is_live = self.now >= self._parts.emit_from
        if is_live:
            self.emission.row(self.now, lane.out)
        if not lane.is_due(state):
            return
        for forecast in lane.records(_EPOCH, self._next_rung()):
            if is_live and self._parts.ledger.open_forecast(forecast):
                self.emission.record(self.now, forecast)
                self.counts["forecasts"] += 1
        for closing in self._parts.ledger.close_due(self.now):
            self.emission.record(self.now, closing)
        self._look(lane)

    def _look(self, lane: Lane) -> None:
        """Put what the market itself flags at a row to the gate."""
        watch, ts = self._watches.get(lane.instrument), lane.facts.ts_recv
        alarm = None if watch is None else watch.see(lane.signs(), ts)
        if alarm is not None:
            self._notify(flagged(alarm, lane.instrument, ts))

    def _next_rung(self) -> Rung:
        is_recording = self._parts.recorder.failed is None
        self._rung = rung(Measures(backlog=self._waiting, recording_ok=is_recording), self._rung)
        return self._rung

    # --- the slow path -----------------------------------------------------------------------

    def _put(self, ts: int, kind: int, event: Document | Refusal | _Reply) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (ts, kind, self._order, event))

    def _append(self, record: msgspec.Struct) -> None:
        if self.now >= self._parts.emit_from:
            self._parts.ledger.append(record)
            self.emission.record(self.now, record)

    def _keep(self, document: Document) -> None:
        """Keep a document that packs may cite later, also while the state is only being warmed up."""
        self._parts.ledger.append(document)
        if self.now >= self._parts.emit_from:
            self.emission.record(self.now, document)

    def _admit(self, document: Document) -> None:
        parts = self._parts
        parts.recorder.document(document)
        admission = parts.narrative.admit(document, self.now)
        if admission.refusal is not None:
            parts.documents.drop(admission.refusal.reason, admission.refusal.place)
            self._append(admission.refusal)
            return
        parts.documents.used += 1
        if admission.notices or admission.quarantines:
            self._keep(document)
        for change in admission.quarantines:
            self._append(change)
            self._take_back(change)
        for notice in admission.notices:
            watch, lane = self._watches.get(notice.instrument), self._by_key[notice.instrument]
            if watch is not None:
                watch.tell(self.now)
            self._in_force(lane.outlook.contradict(notice, self.now))
            conflict = conflict_of(notice.stance, lane.move_z())
            self._notify(msgspec.structs.replace(notice, conflict=conflict))

    def _take_back(self, change: Quarantine) -> None:
        """Withdraw from the outlook what rests on a claim that is held back or condemned."""
        if change.state is not QuarantineState.RELEASED:
            lane, gone = self._by_key[change.instrument], {change.evidence_id: change.ts}
            self._in_force(lane.outlook.take_back(gone, str(change.state), self.now))

    def _notify(self, notice: EvidenceNotice) -> None:
        if self.now < self._parts.emit_from:
            return
        self._append(notice)
        if not notice.origin:
            self.counts["flagged"] += 1
        self._climb(notice, 0, None)

    def _climb(self, notice: EvidenceNotice, number: int, below: Outlook | None) -> None:
        """Ask the gate whether a tier is worth asking, given what the one below has said; ask it if so."""
        lane, gate = self._by_key[notice.instrument], self._gates_of(notice.instrument)[number]
        step, rung_now = self._parts.tiers[number], self._next_rung()
        n_open = sum(held.asked.number == number for held in self._open.values())
        tier, standing = step.believed.asked(n_open), lane.asked_about(self.now)
        answer = (
            gate.begin(notice, standing, self.now, tier, rung_now)
            if step.believed.is_free
            else gate.decide(
                notice, standing, self.now, tier.latency, rung_now, tiers=(tier,), below=below
            )
        )
        self._append(answer)
        self._parts.recorder.choice(answer)
        what = "escalated" if isinstance(answer, Escalate) else "held"
        self.counts[what] += 1
        self.tiers[step.name][what] += 1
        if isinstance(answer, Escalate):
            wanted = {s.forecast_id for s in answer.standing}
            lane.outlook_version += 1
            asked = _Asked(
                notice=notice,
                question=answer,
                number=number,
                forecasts=tuple(f for f in standing if f.forecast_id in wanted),
                pack=self._parts.narrative.gather(lane.instrument, self.now, lane.observations()),
                outlook_version=lane.outlook_version,
            )
            self._ask(step, asked)

    def _go_on(self, reply: _Reply) -> None:
        """Take in what an answer cost, and climb to the next tier."""
        asked, now = reply.asked, self.now
        step, is_late = self._parts.tiers[asked.number], now > asked.question.deadline
        step.believed.spending.observe(reply.judgement)
        end = "fell_back" if reply.judgement.fallback else "late" if is_late else "answered"
        self.tiers[step.name][end] += 1
        if asked.number + 1 < len(self._parts.tiers):
            outlook = None if is_late else reply.judgement.outlook
            said = outlook or silent(asked.notice.instrument, now)
            self._climb(asked.notice, asked.number + 1, said)

    def _gates_of(self, instrument: str) -> tuple[Gate, ...]:
        return (self._parts.bar if instrument in self._bar_lanes else self._parts.book).gates

    def _tell_gates(self, reply: _Reply, outlook: Outlook | None) -> None:
        """Tell the gate of a tier what it has answered, and those of all others what stands.

        Of a fallback a tier's own gate learns nothing but what stands: it is no answer of that tier's.
        """
        asked = reply.asked
        for number, gate in enumerate(self._gates_of(asked.notice.instrument)):
            if number == asked.number and not reply.judgement.fallback:
                gate.hear(asked.question, outlook, self.now)
            elif outlook is not None:
                gate.stand(outlook)

    def _ask(self, step: Step, asked: _Asked) -> None:
        question = asked.question
        self._waiting += 1
        if step.deferred is not None:
            step.deferred.ask(question, asked.forecasts, asked.pack)
            self._append(asked.pack)
            self._open[question.question_id] = _Open(
                asked=asked, unrevised={forecast.forecast_id for forecast in asked.forecasts}
            )
            return
        came = self.now + step.latency.draw(question.question_id)
        judgement = step.reasoner.judge(
            question, asked.forecasts, asked.pack, came, asked.outlook_version
        )
        self._append(asked.pack)
        self._put(came, _REPLY, _Reply(asked=asked, judgement=judgement))

    def _hear(self, now: int) -> None:
        """Take what deferred reasoners have answered; each exchange has been journalled."""
        for step in self._parts.tiers:
            if step.deferred is not None:
                for completion in step.deferred.answers():
                    if completion.question_id in self._open:
                        self._conclude(step.deferred, completion, now)

    def _conclude(self, deferred: DeferredReasoner, completion: Completion, came: int) -> None:
        asked = self._open.pop(completion.question_id).asked
        now = max(self.now, came)
        judgement = deferred.conclude(
            asked.question, asked.forecasts, asked.pack, completion, now, asked.outlook_version
        )
        reply = _Reply(asked=asked, judgement=judgement, queued_ns=completion.queued_ns)
        self._happen((now, _REPLY, 0, reply))

    def _supersede(self, forecast_id: str) -> None:
        """Give up the questions of which nothing that was asked about still stands as it did."""
        for held in list(self._open.values()):
            if forecast_id in held.unrevised:
                held.unrevised.remove(forecast_id)
                if not held.unrevised:
                    self._give_up(held.asked)

    def _give_up(self, asked: _Asked) -> None:
        """Cancel a question. A replay comes to do so at the same place."""
        question_id = asked.question.question_id
        del self._open[question_id]
        self._cancelled(asked)
        deferred = self._parts.tiers[asked.number].deferred
        if deferred is not None:
            deferred.cancel(question_id)

    def _cancelled(self, asked: _Asked) -> None:
        """Say that no answer to a question will be heard."""
        question = asked.question
        self._waiting -= 1
        self.counts["cancelled"] += 1
        self.tiers[self._parts.tiers[asked.number].name]["cancelled"] += 1
        self._parts.recorder.reply(question.question_id, question.ts, self.now, "cancelled")

    def _answer(self, reply: _Reply) -> None:
        parts, asked, question = self._parts, reply.asked, reply.asked.question
        self._waiting -= 1
        latency = parts.tiers[asked.number].believed.latency
        took_ns = self.now - question.ts - reply.queued_ns
        # That nothing came tells no more than that an answer takes no less.
        if not reply.judgement.fallback or took_ns > latency.p50_ns:
            latency.observe(took_ns)
        is_late = self.now > question.deadline
        end = "late" if is_late else "answer"
        parts.recorder.reply(question.question_id, question.ts, self.now, end)
        lane = self._by_key[question.instrument]
        verdicts = reply.judgement.verdicts
        for verdict in verdicts:
            self._append(verdict)
        revisions = [parts.ledger.revise(verdict, self.now, revised) for verdict in verdicts]
        parts.ledger.commit()  # a revision is published only once it is synced
        for before, verdict, revision in zip(asked.forecasts, verdicts, revisions, strict=True):
            if parts.track is not None and revision.applied in COUNTED:
                parts.track.follow(before, verdict)
            self._publish(lane, before, verdict, revision, asked.pack)
        if not is_late:
            said = reply.judgement.outlook
            put = None if said is None else self._take_outlook(lane, said, asked.pack.as_of)
            self._tell_gates(reply, put)

    def _publish(
        self,
        lane: Lane,
        before: Forecast,
        verdict: Verdict,
        revision: Revision,
        pack: EvidencePack,
    ) -> None:
        self.emission.record(self.now, revision)
        self.counts[str(revision.applied)] += 1
        if revision.forecast is None:
            return
        lane.revise(revision.forecast)
        self._supersede(revision.forecast_id)
        untold = Untold(verdict=verdict, before=before, after=revision.forecast, pack=pack)
        if self._explaining is not None:
            dropped = self._explaining.put_off(untold, self.now)
            if dropped is not None:
                self._append(dropped)

    def _tell_why(self, by: int, most: int = MOST_WAITING) -> None:
        """Write the traces that are due by an instant. Time does not pass by it."""
        if self._explaining is None:
            return
        for _ in range(most):
            trace = self._explaining.tell(by, self._rung)
            if trace is None:
                return
            self._parts.recorder.trace(trace.verdict_id)
            self._append(trace)

    def _text(self, document_id: str) -> str:
        """Return a canonical text, from the ledger where the room has retired it; empty if there is none."""
        try:
            return self._parts.narrative.text(document_id)
        except InputError:
            document = self._parts.ledger.find(Document, document_id)
            return "" if document is None else canonical_text(document.text)

    def _take_outlook(self, lane: Lane, said: Outlook, as_of: int) -> Outlook | None:
        """Take in an answer's outlook; return what is in force if that is new."""
        taken_back = self._parts.narrative.taken_back(lane.instrument, as_of, self.now)
        heard = lane.outlook.hear(said, lane.market, taken_back, self.now)
        return self._in_force(heard)

    def _in_force(self, outlook: Outlook | None) -> Outlook | None:
        """Record an outlook that has come into force, if one has, and return it."""
        if outlook is not None:
            self._append(outlook)
            self._tell_server(self._by_key[outlook.instrument])
            self.counts["outlooks"] += 1
            if outlook.reason:
                for gate in self._gates_of(outlook.instrument):
                    gate.stand(outlook)
        return outlook


def flagged(alarm: Alarm, instrument: str, ts: int) -> EvidenceNotice:
    """Return what the market itself flags as a notice of its own: relevant, and new."""
    return EvidenceNotice(
        notice_id=content_id("flag", instrument, alarm.kind, ts),
        instrument=instrument,
        ts_recv=ts,
        evidence_id=content_id(alarm.kind, instrument, ts),
        relevance=1.0,
        novelty=1.0,
        credibility=alarm.credibility,
        stance=alarm.lean,
        burst=1.0,
        event_type=alarm.kind,
    )


class _Batch:
    """The rows of one chunk, on their way to one inference."""

    def __init__(self, road: Road, size: int) -> None:
        self.road = road
        self.entries = np.empty((size, entry_words(len(road.spec))), dtype=np.int64)
        self.entries_f = self.entries.view(np.float64)
        self.rows = self.entries_f[:, ROW:]
        self.lanes: list[Lane] = []
        self.facts: list[Facts] = []
        self.n = 0

    def add(self, lane: Lane, head: NDArray[np.void]) -> None:
        """Take the row just written at `n`, and its head, shape [1]."""
        self.lanes.append(lane)
        self.facts.append(Facts(*head.item()))
        self.entries[self.n, :N_HEAD] = head.view(np.int64)
        self.n += 1
