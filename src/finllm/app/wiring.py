"""The bootstrap: builds every room's parts once, by hand, from settings."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from finllm.app.explaining import Explainer
from finllm.app.gate_state import BEGINNING, Keeper, name_of, read_state, restore
from finllm.app.pipeline import Parts, Pipeline, Road, Server
from finllm.app.reader import open_room
from finllm.app.recording import Recorder, Start
from finllm.app.records import track_record
from finllm.app.settings import EdgeSettings, ReasoningSettings, Settings, secret
from finllm.app.tiers import (
    EMBEDDED,
    ENSEMBLE,
    LLM,
    Believed,
    Step,
    TierSettings,
    believed,
    fallen,
    priced,
)
from finllm.domain.completion import Completion
from finllm.domain.errors import LedgerError
from finllm.domain.market import Frame
from finllm.domain.spec import FeatureSpec
from finllm.domain.units import NS_PER_MIN, NS_PER_MS
from finllm.edge.artifact import SHIPPED
from finllm.edge.bank import Bank, load_bank
from finllm.edge.inference import Inference, InProcess, WorkerPool
from finllm.escalation.appraise import Prices
from finllm.escalation.gate import Gate, GateSettings
from finllm.escalation.latency import LatencyModel, LatencySettings
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.book_spec import BOOK_SPEC
from finllm.ledger.store import Ledger
from finllm.market.markets import open_market
from finllm.narrative.memory.schema import NAME as MEMORY
from finllm.narrative.memory.writer import MemoryWriter
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.text.languages import language_of
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.ensemble.reasoner import EnsembleReasoner, Member
from finllm.reasoning.ensemble.track import Scored, TrackRecord
from finllm.reasoning.llm.answerer import Answerer, Journalled
from finllm.reasoning.llm.client import Client
from finllm.reasoning.llm.hedge import Hedged
from finllm.reasoning.llm.local import Local
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.reasoner import DeferredReasoner, Reasoner
from finllm.runtime.files import Bounds, replace_file
from finllm.runtime.tally import Tally

BAR_GATE_INTERVAL_NS = 5 * NS_PER_MIN
"""Least time between two questions about one instrument on bar input."""
BAR_WEIGHT_EVENT = 3.0
"""Share added on bars for a kind of news after which volatility rose on the training tapes."""
BAR_MIN_GAIN = 0.006
"""Nats from which on it is worth asking on bars: everyday talk stays below, those kinds come above."""


class Tallies(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each kind of input."""

    frames: Tally
    bars: Tally
    documents: Tally


def new_tallies() -> Tallies:
    """Return empty tallies."""
    return Tallies(frames=Tally(), bars=Tally(), documents=Tally())


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The language models that are asked, and what belongs to them."""

    llm: LlmReasoner | None = None
    ensemble: EnsembleReasoner | None = None
    locals: tuple[Local, ...] = ()
    """The models that we serve ourselves."""
    models: tuple[LlmReasoner, ...] = ()
    """Each by itself."""


class Wired(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline and what has to be read from or closed after it."""

    pipeline: Pipeline
    parts: Parts
    asked: _Asked
    """The language models, if any are asked."""
    keeper: Keeper
    """Keeps what the gates learn."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be known before anything of the run is trusted."""
        memory = self.parts.memory
        failed = memory.counts.failed if memory is not None else ""
        stopped = (f"memory has stopped: {failed}",) if failed else ()
        ensemble = self.asked.ensemble
        told = () if ensemble is None else ensemble.notes
        unkept = self.keeper.failed
        forgot = (f"what the gates learnt is not kept: {unkept}",) if unkept else ()
        fell_back = fallen(self.pipeline.tiers)
        return (*self.parts.narrative.notes, *stopped, *told, *fell_back, *forgot)

    @property
    def members(self) -> dict[str, dict[str, int]]:
        """Return by member of an ensemble how its questions ended."""
        return {} if self.asked.ensemble is None else self.asked.ensemble.counts

    @property
    def hedges(self) -> dict[str, int]:
        """Return how many second requests were sent, and how many won."""
        told = sum((model.hedges for model in self.asked.models), Counter())
        return dict(sorted(told.items()))

    @property
    def locals(self) -> tuple[Local, ...]:
        """Return the models that we serve ourselves."""
        return self.asked.locals

    def finish(self) -> None:
        """End the run, and keep what its gates have learnt."""
        self.pipeline.finish()
        self.keeper.keep()

    def close(self) -> None:
        """Close each part, whatever befalls the others; what writes to the journal before the journal."""
        with ExitStack() as closing:
            closing.callback(self.parts.bar.inference.close)
            closing.callback(self.parts.book.inference.close)
            closing.callback(self.parts.recorder.close)
            closing.callback(self.parts.ledger.close)
            if self.parts.memory is not None:
                closing.callback(self.parts.memory.close)
            for local in self.locals:
                closing.callback(local.close)
            for reasoner in (self.asked.ensemble, self.asked.llm):
                if reasoner is not None:
                    closing.callback(reasoner.close)


class _Alarm:
    """Passes on the first of several reasons for which recording stops."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell

    def ring(self, why: str) -> None:
        """Tell, unless it has been told."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(why)


def _bank(edge: EdgeSettings, name: str, spec: FeatureSpec) -> tuple[Path, Bank]:
    """Return where the models of one kind of input are, and the models."""
    folder = edge.book_artifact if name == "book" else edge.bar_artifact
    path = Path(folder) if folder else SHIPPED[name]
    return path, load_bank(path, spec=spec, provider=edge.provider)


def _road(
    edge: EdgeSettings,
    path: Path,
    bank: Bank,
    spec: FeatureSpec,
    gates: tuple[Gate, ...],
    grid_ns: int,
) -> Road:
    inference: Inference = (
        WorkerPool(path, edge.workers, provider=edge.provider) if edge.workers else InProcess(bank)
    )
    return Road(bank=bank, spec=spec, inference=inference, grid_ns=grid_ns, gates=gates)


def wire(
    settings: Settings,
    run: Path,
    tallies: Tallies,
    *,
    keep_frames: bool,
    venues: Sequence[str] = (),
    emit_from: int = 0,
    context: frozenset[str] = frozenset(),
    reasoner: Reasoner | None = None,
    answers: Mapping[str, Completion] | None = None,
    scored: Iterable[Scored] = (),
    learnt: bytes | None = None,
    defer: bool = False,
    serve_by: Callable[[Bank], Server] | None = None,
    place_of: Callable[[Frame], str] | None = None,
    bounds: Bounds | None = None,
    on_commit: Callable[[int, str], None] | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> Wired:
    """Build a pipeline that writes to a run's folder.

    Args:
        settings: All settings.
        run: The run's folder; its ledger must not exist yet.
        tallies: Counters shared with whoever reads the inputs.
        keep_frames: Keep raw frames in the journal (they come from no tape).
        venues: The venue of each frame source, by source index; none stands for Binance.
        emit_from: Instant in ns before which inputs only warm the state up.
        context: Instruments that feed features but are not forecast.
        reasoner: The slow path's only reasoner; when None the tiers of the settings.
        answers: What the language model answered in the run that is replayed, by question id; it is not
            asked again.
        scored: What the track record of its ensemble began with.
        learnt: What its gates began with; what they learn now is not kept. When None, both are as the
            settings say.
        defer: Ask the language model without waiting, and hear it at each tick.
        serve_by: Makes what serves the rows of books from their bank; they are served in the
            pipeline, each at once, when None.
        place_of: Says where a frame stands; by its source and receive time when None.
        bounds: How the recording is cut up, and how much of it is kept.
        on_commit: Told (count, hash) after each group of records is synced.
        on_failure: Told once if recording has to stop.

    Raises:
        ArtifactError: If a model does not fit.
        LedgerError: If the run's folder holds a ledger already, or cannot be written.
        InputError: If it holds a recording or a memory already, there is no run to go on from, or what the
            gates had learnt cannot be used.
        SettingsError: If the variable that holds the language model's key is not set, or its file cannot be
            served.
    """
    edge, grid_ns = settings.edge, settings.record.grid_ms * NS_PER_MS
    alarm = _Alarm(on_failure)
    if reasoner is not None:
        settings = msgspec.structs.replace(settings, reasoning=ReasoningSettings(), tier=())
    who, tiers = _in_turn(settings)
    books, bars = _bank(edge, "book", BOOK_SPEC), _bank(edge, "bar", BAR_SPEC)
    gates = open_gates(settings, run, learnt, min(horizon.ns for horizon in bars[1].horizons))
    keys = {one: secret(one.api_key_env) for one in _endpoints(who)} if answers is None else {}
    if who.member and who.ensemble.after and answers is None:
        scored = track_record(Path(who.ensemble.after)).scored
    track = TrackRecord(scored)
    with ExitStack() as undo:
        book = _road(edge, *books, BOOK_SPEC, gates.book, grid_ns)
        undo.callback(book.inference.close)
        bar = _road(edge, *bars, BAR_SPEC, gates.bar, grid_ns)
        undo.callback(bar.inference.close)
        recorder = _recorder(run, gates.learnt, keep_frames=keep_frames, alarm=alarm, bounds=bounds)
        undo.callback(recorder.close)
        ledger = Ledger.create(
            run / "ledger",
            group=settings.ledger.group,
            before_commit=recorder.flush,
            on_commit=on_commit,
            on_failure=alarm.ring,
            max_bytes=settings.ledger.max_mb * 1_000_000 or None,
        )
        undo.callback(ledger.close)
        memory = (
            MemoryWriter.create(run / MEMORY, settings.memory, HashingEncoder())
            if settings.memory.keep
            else None
        )
        if memory is not None:
            undo.callback(memory.close)
        models = _Models(keys, recorder, answers, undo, settings.escalation.prices)
        asked = _asked(who, models, track)
        undo.pop_all()
    server = None if serve_by is None else serve_by(book.bank)
    recorder.start(
        Start(
            venues=tuple(venues),
            served_by="" if server is None else book.bank.version,
            llm=who.llm if who.llm.is_on else None,
            members=who.member,
            ensemble=who.ensemble,
            scored=track.scored,
            tiers=tiers,
            gates=name_of(gates.learnt),
        )
    )
    parts = Parts(
        market=open_market(venues, tallies.frames, place_of),
        book=book,
        bar=bar,
        narrative=open_room(settings.narrative, memory),
        tiers=(
            _steps(settings, asked, defer=defer)
            if reasoner is None
            else (_step(believed(reasoner.name, settings.latency), reasoner),)
        ),
        ledger=ledger,
        recorder=recorder,
        bars=tallies.bars,
        documents=tallies.documents,
        explainer=Explainer() if settings.reasoning.explain else None,
        chunk=edge.chunk,
        emit_from=emit_from,
        context=context,
        memory=memory,
        server=server,
        track=None if asked.ensemble is None else track,
    )
    return Wired(pipeline=Pipeline(parts), parts=parts, asked=asked, keeper=gates.keeper)


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """The gates of both roads, one for each tier, and what they had learnt before."""

    book: tuple[Gate, ...]
    bar: tuple[Gate, ...]
    learnt: bytes
    keeper: Keeper


def _gates_of(settings: Settings, gate: GateSettings) -> tuple[Gate, ...]:
    """Return a gate for each tier.

    Args:
        settings: All settings.
        gate: What all gates have in common.
    """
    return tuple(
        Gate(tier.gate(gate, is_free=known.is_free))
        for tier, known in zip(settings.tiers, cascade(settings), strict=True)
    )


def _for_bars(gate: GateSettings, shortest_ns: int) -> GateSettings:
    """Return what gates of bars have in common: fewer questions, and an outlook alone has longer.

    What is set by hand keeps its word: only limits that stand at their defaults are the bars' own.

    Args:
        gate: What all gates have in common.
        shortest_ns: The shortest horizon, as long as which an outlook alone may take, and once in which what
            it gains is counted.
    """
    usual = GateSettings().min_gain
    return msgspec.structs.replace(
        gate,
        min_interval_ns=BAR_GATE_INTERVAL_NS,
        outlook_within_ns=max(gate.outlook_within_ns, shortest_ns),
        count_every_ns=max(gate.count_every_ns, shortest_ns),
        weight_event=gate.weight_event or BAR_WEIGHT_EVENT,
        min_gain=BAR_MIN_GAIN if gate.min_gain == usual else gate.min_gain,
    )


def open_gates(
    settings: Settings, run: Path, learnt: bytes | None, shortest_bar_ns: int = 0
) -> Gates:
    """Return the gates, which go on from what a run began with, or else from the file of the settings.

    Args:
        settings: All settings.
        run: Folder of the run, for whoever must mend what it began with.
        learnt: What it began with; None = as the settings say.
        shortest_bar_ns: The shortest horizon of bars.

    Raises:
        InputError: If what they had learnt cannot be used.
    """
    gate = settings.escalation
    if gate.market_events is None:
        has_llm = any(tier.reasoner != EMBEDDED for tier in settings.tiers)
        gate = msgspec.structs.replace(gate, market_events=has_llm)
    book = _gates_of(settings, gate)
    bar = _gates_of(settings, _for_bars(gate, shortest_bar_ns))
    names = [known.name for known in cascade(settings)]
    by_name = {
        f"{road}/{name}": one
        for road, gates in (("book", book), ("bar", bar))
        for name, one in zip(names, gates, strict=True)
    }
    path = Path(gate.state) if gate.learn and gate.state and learnt is None else None
    held = (b"" if path is None else read_state(path)) if learnt is None else learnt
    kept = restore(by_name, held, path or run / BEGINNING) if held else {}
    return Gates(book=book, bar=bar, learnt=held, keeper=Keeper(path, by_name, kept))


def _in_turn(settings: Settings) -> tuple[ReasoningSettings, tuple[TierSettings, ...]]:
    """Return the settings of whom the tiers ask, and the tiers."""
    kinds = {tier.reasoner for tier in settings.tiers}
    who = settings.reasoning
    if LLM not in kinds:
        who = msgspec.structs.replace(who, llm=LlmSettings())
    if ENSEMBLE not in kinds:
        who = msgspec.structs.replace(who, member=())
    return who, settings.tiers


def cascade(settings: Settings) -> tuple[Believed, ...]:
    """Return the tiers as the gate knows them."""
    who, is_alone = settings.reasoning, len(settings.tiers) == 1
    made = []
    for tier in settings.tiers:
        latency = tier.latency(settings.latency)
        if tier.reasoner == LLM:
            made.append(believed(f"{LLM}:{who.llm.model_name}", latency, (who.llm,)))
        elif tier.reasoner == ENSEMBLE:
            made.append(believed(ENSEMBLE, latency, who.member))
        elif is_alone:
            made.append(believed(EMBEDDED, latency))
        else:
            made.append(believed(EMBEDDED, tier.latency(LatencySettings()), is_free=True))
    return tuple(made)


def _steps(settings: Settings, asked: _Asked, *, defer: bool) -> tuple[Step, ...]:
    """Return the tiers, wired."""
    models = {LLM: asked.llm, ENSEMBLE: asked.ensemble}
    made = []
    for tier, known in zip(settings.tiers, cascade(settings), strict=True):
        model = models.get(tier.reasoner)
        made.append(_step(known, model or EmbeddedReasoner(), model if defer else None))
    return tuple(made)


def _step(known: Believed, reasoner: Reasoner, deferred: DeferredReasoner | None = None) -> Step:
    return Step(
        believed=known,
        latency=LatencyModel(known.assumed),
        reasoner=reasoner,
        deferred=deferred,
    )


def _endpoints(settings: ReasoningSettings) -> tuple[LlmSettings, ...]:
    """Return the language models that are asked."""
    return (*((settings.llm,) if settings.llm.is_on else ()), *settings.member)


class _Models:
    """Makes what asks each language model: a client that is started, or a journal in its place.

    Args:
        keys: By endpoint.
        recorder: The journal of this run.
        answers: What was answered in the run that is replayed; nobody is asked again.
        undo: Closes what is started here, should the start fail.
        prices: What things cost in nats.
    """

    def __init__(
        self,
        keys: Mapping[LlmSettings, str],
        recorder: Recorder,
        answers: Mapping[str, Completion] | None,
        undo: ExitStack,
        prices: Prices,
    ) -> None:
        self._keys, self._recorder, self._answers, self._undo = keys, recorder, answers, undo
        self._prices = prices
        self.locals: list[Local] = []
        self.reasoners: list[LlmReasoner] = []

    def open(self, settings: LlmSettings) -> LlmReasoner:
        """Return a language model's reasoner.

        Raises:
            SettingsError: If its file cannot be served.
        """
        answerer = self._client(settings) if self._answers is None else Journalled(self._answers)
        reasoner = LlmReasoner(settings, answerer, on_completion=self._recorder.completion)
        self.reasoners.append(reasoner)
        return reasoner

    def _client(self, settings: LlmSettings) -> Answerer:
        """Return what asks an endpoint, or several of one model where there are."""
        first = self._endpoint(settings)
        if not settings.also:
            return first
        key = self._keys[settings]
        others = [
            self._undo.enter_context(Client(settings, key=key, url=address))
            for address in settings.also
        ]
        return Hedged((first, *others), self._prices.of(priced(settings)))

    def _endpoint(self, settings: LlmSettings) -> Client:
        socket = ""
        if settings.gguf:
            local = self._undo.enter_context(Local(settings))
            self.locals.append(local)
            socket = local.socket
        return self._undo.enter_context(Client(settings, key=self._keys[settings], socket=socket))


def _asked(settings: ReasoningSettings, models: _Models, track: TrackRecord) -> _Asked:
    """Return the language models of the settings: a single one, an ensemble, both or none."""
    llm = models.open(settings.llm) if settings.llm.is_on else None
    members = [Member(settings=one, reasoner=models.open(one)) for one in settings.member]
    ensemble = (
        EnsembleReasoner(settings.ensemble, members, track, language_of=language_of)
        if members
        else None
    )
    return _Asked(
        llm=llm,
        ensemble=ensemble,
        locals=tuple(models.locals),
        models=tuple(models.reasoners),
    )


def _recorder(
    run: Path, learnt: bytes, *, keep_frames: bool, alarm: _Alarm, bounds: Bounds | None
) -> Recorder:
    try:
        recorder = Recorder(run, keep_frames=keep_frames, on_failure=alarm.ring, bounds=bounds)
        if learnt:
            replace_file(run / BEGINNING, learnt)
        return recorder
    except OSError as why:
        raise LedgerError(f"{run} cannot be written: {why.strerror or why}") from why


@contextmanager
def open_pipeline(
    run: Path,
    settings: Settings | None = None,
    *,
    keep_frames: bool = True,
    venues: Sequence[str] = (),
    bounds: Bounds | None = None,
) -> Iterator[Pipeline]:
    """Open a pipeline for one's own event loop; on leaving, everything is committed and closed.

    Args:
        run: Folder for the run's ledger and journal; made if it is missing.
        settings: The defaults when None.
        keep_frames: Journal raw frames and documents, so that the run can be replayed; they are
            handed to the operating system before they are used.
        venues: The venue of each frame source, by source index; none stands for Binance.
        bounds: How that recording is cut up, and how much of it is kept.
    """
    run.mkdir(parents=True, exist_ok=True)
    wired = wire(
        settings or Settings(),
        run,
        new_tallies(),
        keep_frames=keep_frames,
        venues=venues,
        bounds=bounds,
    )
    try:
        yield wired.pipeline
        wired.finish()
    finally:
        wired.close()
