"""The demo: a synthetic market and newswire with known truth, walked live at an accelerated clock."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import msgspec
from rich.console import Console

from finllm.app.live import LiveView
from finllm.app.records import score_run
from finllm.app.replay import Summary, summarise, write_summary
from finllm.app.settings import Settings
from finllm.app.wiring import Tallies, Wired, new_tallies, wire
from finllm.audit.report import render
from finllm.audit.scorecard import Scores
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from finllm.market.synthetic import SyntheticMarket, SyntheticTape, generate
from finllm.runtime.clock import Clock, WallClock, stopwatch_ns

_STEP_NS = 50 * NS_PER_MS
"""Simulated time taken at once, so that the view moves smoothly."""


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo did, how it scored, and forecasts worth a look."""

    summary: Summary
    scores: Scores
    refined: str
    """Id of the forecast that a refinement moved most; empty if none was."""
    retracted: str
    """Id of the first retracted forecast; empty if none was."""
    truths: dict[str, int]
    """What was planted, by kind."""


def run_demo(
    settings: Settings,
    run: Path,
    *,
    seed: int,
    minutes: float,
    speed: float,
    quiet: bool,
    clock: Clock | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> DemoResult:
    """Walk the synthetic market live and score it.

    Args:
        settings: All settings.
        run: An empty folder for the run.
        seed: Seed of the market and the newswire.
        minutes: Simulated minutes.
        speed: Times real time; 0 = as fast as it goes. Where no terminal looks on, it is 0.
        quiet: Show nothing.
        clock: What paces the demo; the machine's own when None.
        on_failure: Told once if recording has to stop.
    """
    console = Console(quiet=quiet)
    tape = generate(SyntheticMarket(seed=seed, duration_s=minutes * NS_PER_MIN / NS_PER_S))
    tallies = new_tallies()
    wired = wire(settings, run, tallies, keep_frames=True, on_failure=on_failure)
    view = LiveView(console)
    wired.pipeline.emission.watchers.append(view.watch)
    pace = speed if console.is_terminal and not quiet else 0.0
    started = stopwatch_ns()
    try:
        with view if console.is_terminal else nullcontext():
            span = _drive(wired, tape, view, pace, tallies, clock or WallClock())
        wired.finish()
    finally:
        wired.close()
    summary = summarise(wired, tallies, run, span, stopwatch_ns() - started)
    summary = write_summary(run, summary, on_failure)
    (run / "truth.json").write_bytes(msgspec.json.encode(tape.truths))
    return DemoResult(
        summary=summary,
        scores=score_run(run),
        refined=view.most_refined,
        retracted=view.first_retracted,
        truths=_count(tape),
    )


def _drive(
    wired: Wired, tape: SyntheticTape, view: LiveView, speed: float, tallies: Tallies, clock: Clock
) -> tuple[int, int]:
    documents = tape.documents()
    for document in documents:
        wired.parts.documents.read += 1
        wired.pipeline.expect(document, document.ts_recv)
    first = last = 0
    began = clock.now()
    chunk: list[Frame] = []
    for frame in tape.frames():
        tallies.frames.read += 1
        first = first or frame.ts_recv
        if chunk and (
            frame.ts_recv - chunk[0].ts_recv >= _STEP_NS or len(chunk) == wired.parts.chunk
        ):
            _take(wired, chunk, view)
            chunk = []
            if speed > 0:
                clock.sleep(int((frame.ts_recv - first) / speed) - (clock.now() - began))
        chunk.append(frame)
        last = frame.ts_recv
    _take(wired, chunk, view)
    wired.parts.market.finish()
    return first, last


def _take(wired: Wired, chunk: list[Frame], view: LiveView) -> None:
    wired.pipeline.feed(chunk)
    view.tick(wired.pipeline.now)


def _count(tape: SyntheticTape) -> dict[str, int]:
    counts: dict[str, int] = {}
    for truth in tape.truths:
        counts[truth.kind] = counts.get(truth.kind, 0) + 1
    return dict(sorted(counts.items()))


def show_demo(result: DemoResult, console: Console) -> None:
    """Print the score table and what to try next."""
    planted = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in result.truths.items())
    console.print(f"\nPlanted and known: {planted}.", highlight=False)
    console.print(render(result.scores))
    run = result.summary.run
    console.print("\n[bold]Try next[/]")
    if result.refined:
        _hint(console, f"finllm explain {result.refined[:12]} --run {run}", "why it was refined")
    if result.retracted:
        _hint(
            console, f"finllm explain {result.retracted[:12]} --run {run}", "why it was retracted"
        )
    _hint(console, f"finllm verify-trace --all {run}", "prove every trace from the records")
    _hint(console, f"finllm ledger verify {run}", "check the record itself")
    _hint(console, "finllm replay YOUR.ndjson.gz --documents YOUR.jsonl", "your own recordings")


def _hint(console: Console, command: str, why: str) -> None:
    console.print(f"  {command:<66} [dim]{why}[/]", highlight=False, soft_wrap=True)
