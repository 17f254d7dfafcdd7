"""A progress line for long replays: shown on a terminal only, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from finllm.app.replay import Progress as Told
from finllm.app.status import Status
from finllm.domain.units import NS_PER_S, iso
from finllm.runtime.clock import stopwatch_ns

_EVERY_NS = NS_PER_S // 10
_SELDOM_NS = 10 * NS_PER_S
_BEHIND = 1_000


@contextmanager
def live_progress(console: Console) -> Iterator[Callable[[Status], None]]:
    """Yield what a live run is to tell its status to: a line on a terminal, else one every ten seconds."""
    started = shown = stopwatch_ns()
    with console.status("connecting") as line:

        def tell(status: Status) -> None:
            nonlocal shown
            now = stopwatch_ns()
            if now - shown < (_EVERY_NS if console.is_terminal else _SELDOM_NS):
                return
            shown = now
            text = _live_line(status, (now - started) / NS_PER_S)
            if console.is_terminal:
                line.update(text)
            else:
                console.print(text, highlight=False, soft_wrap=True)

        yield tell


def _live_line(status: Status, seconds: float) -> str:
    parts = [f"{seconds:,.0f} s", f"{status.frames:,} frames", f"{status.rows:,} rows"]
    parts += [f"{status.forecasts:,} forecasts", f"{status.escalated:,} escalated"]
    parts += [f"{status.gaps:,} gaps"] if status.gaps else []
    parts += [f"[yellow]{status.unusable} books wait for a snapshot[/]"] if status.unusable else []
    parts += [f"[yellow]{status.drifted} with inputs drifted[/]"] if status.drifted else []
    parts += [f"[yellow]{status.worse} worse than climatology[/]"] if status.worse else []
    parts += [f"[yellow]{status.waiting:,} frames behind[/]"] if status.waiting > _BEHIND else []
    parts += [f"{status.downs:,} connections lost"] if status.downs else []
    if status.failed_connects:
        parts.append(f"[yellow]{status.failed_connects:,} connects failed[/]")
    parts += [f"[yellow]last: {escape(status.last_failure)}[/]"] if status.last_failure else []
    parts += [f"[yellow]{escape(note)}[/]" for note in status.notes]
    return "  ".join(parts)


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
