"""The bootstrap: builds every room's parts once, by hand, from settings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from finllm.app.pipeline import Parts, Pipeline, Road
from finllm.app.recording import Recorder
from finllm.app.settings import Settings
from finllm.domain.spec import FeatureSpec
from finllm.domain.units import NS_PER_MIN, NS_PER_MS
from finllm.edge.artifact import SHIPPED, load_artifact
from finllm.edge.inference import Inference, InProcess, WorkerPool
from finllm.escalation.gate import Gate
from finllm.escalation.latency import LatencyBelief, LatencyModel
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.book_spec import BOOK_SPEC
from finllm.ledger.store import Ledger
from finllm.market.markets import open_market
from finllm.narrative.room import Narrative
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.reasoner import Reasoner
from finllm.runtime.tally import Tally

BAR_GATE_INTERVAL_NS = 5 * NS_PER_MIN
"""Least time between two questions about one instrument on bar input."""


class Tallies(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each kind of input."""

    frames: Tally
    bars: Tally
    documents: Tally


def new_tallies() -> Tallies:
    """Return empty tallies."""
    return Tallies(frames=Tally(), bars=Tally(), documents=Tally())


class Wired(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline and what has to be read from or closed after it."""

    pipeline: Pipeline
    parts: Parts

    def close(self) -> None:
        """Close the ledger, the journal and the workers."""
        self.parts.ledger.close()
        self.parts.recorder.close()
        self.parts.book.inference.close()
        self.parts.bar.inference.close()


def _road(
    folder: str, name: str, spec: FeatureSpec, gate: Gate, *, workers: int, grid_ns: int
) -> Road:
    path = Path(folder) if folder else SHIPPED[name]
    artifact = load_artifact(path, spec=spec)
    inference: Inference = WorkerPool(path, workers) if workers else InProcess(artifact)
    return Road(artifact=artifact, spec=spec, inference=inference, grid_ns=grid_ns, gate=gate)


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
        reasoner: The slow path's reasoner; the embedded one when None.
        on_commit: Told (count, hash) after each group of records is synced.
        on_failure: Told once if recording has to stop.
    """
    grid_ns = settings.record.grid_ms * NS_PER_MS
    book_gate = Gate(settings.escalation)
    bar_gate = Gate(
        msgspec.structs.replace(settings.escalation, min_interval_ns=BAR_GATE_INTERVAL_NS)
    )
    edge = settings.edge
    parts = Parts(
        market=open_market(venues, tallies.frames),
        book=_road(
            edge.book_artifact, "book", BOOK_SPEC, book_gate, workers=edge.workers, grid_ns=grid_ns
        ),
        bar=_road(
            edge.bar_artifact, "bar", BAR_SPEC, bar_gate, workers=edge.workers, grid_ns=grid_ns
        ),
        narrative=Narrative(settings=settings.narrative),
        reasoner=reasoner or EmbeddedReasoner(),
        latency=LatencyModel(settings.latency),
        belief=LatencyBelief(settings.latency),
        ledger=Ledger.create(
            run / "ledger",
            group=settings.ledger.group,
            on_commit=on_commit,
            on_failure=on_failure,
            max_bytes=settings.ledger.max_mb * 1_000_000 or None,
        ),
        recorder=Recorder(run, keep_frames=keep_frames, on_failure=on_failure),
        documents=tallies.documents,
        explain=settings.reasoning.explain,
        chunk=edge.chunk,
        emit_from=emit_from,
        context=context,
    )
    return Wired(pipeline=Pipeline(parts), parts=parts)


@contextmanager
def open_pipeline(
    run: Path,
    settings: Settings | None = None,
    *,
    keep_frames: bool = True,
    venues: Sequence[str] = (),
) -> Iterator[Pipeline]:
    """Open a pipeline for one's own event loop; on leaving, everything is committed and closed.

    Args:
        run: Folder for the run's ledger and journal; made if it is missing.
        settings: The defaults when None.
        keep_frames: Journal raw frames and documents, so that the run can be replayed.
        venues: The venue of each frame source, by source index; none stands for Binance.
    """
    run.mkdir(parents=True, exist_ok=True)
    wired = wire(settings or Settings(), run, new_tallies(), keep_frames=keep_frames, venues=venues)
    try:
        yield wired.pipeline
        wired.pipeline.finish()
    finally:
        wired.close()
