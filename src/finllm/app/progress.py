"""A progress line for long replays: shown on a terminal only, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from finllm.app.replay import Progress as Told
from finllm.domain.units import NS_PER_S, iso
from finllm.runtime.clock import stopwatch_ns

_EVERY_NS = NS_PER_S // 10


@contextmanager
def replay_progress(console: Console) -> Iterator[Told | None]:
    """Yield what a replay is to tell its progress to, or None where nobody is looking."""
    if not console.is_terminal:
        yield None
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("reading", total=None)
        started = shown = stopwatch_ns()

        def tell(taken: int, first: int, last: int) -> None:
            nonlocal shown
            now = stopwatch_ns()
            if now - shown < _EVERY_NS:
                return
            shown = now
            speed = (last - first) / (now - started)
            bar.update(
                task, description=f"{taken:,} inputs  at {iso(last)}  {speed:,.0f} x real time"
            )

        yield tell
