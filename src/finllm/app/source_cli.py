"""`finllm source` and `finllm ingest`: parse, read or check, render."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from finllm.app.options import Config, Json, print_json

if TYPE_CHECKING:
    from finllm.app.ingest import Fate, Ingested

source_app = typer.Typer(help="Sources of text.", no_args_is_help=True)


@source_app.callback()
def _root() -> None:
    """Sources of text."""


@source_app.command("check")
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="A kind that ships, a plug-in's name, package.module:Class or path/file.py:Class.",
            metavar="NAME|MODULE:CLASS",
        ),
    ],
    *,
    json: Json = False,
) -> None:
    """Hold a source to what a source promises: does it read its own samples, and bear all that is bad?

    Undated, future, huge, broken and hostile messages; the same ids twice; bounded time and memory. Names the
    line to mend; exit status 1 if a check fails.

    Example: finllm source check examples/source_plugin.py:Bulletin
    """
    from finllm.app.plugins import source_maker
    from finllm.app.view import show_checks
    from finllm.narrative.sources.check import check_source

    report = check_source(name.rpartition(":")[2], source_maker(name, "NAME"))
    if json:
        print_json(msgspec.structs.asdict(report) | {"ok": report.ok})
    else:
        show_checks(report.checks, Console())
    if not report.ok:
        raise typer.Exit(1)


def ingest(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Documents as JSON lines or CSV, one message of --kind a file, or the folder of a run.",
            metavar="[FILE|RUN]...",
            show_default=False,
        ),
    ] = None,
    *,
    kind: Annotated[
        str, typer.Option(help="What each file is one message of: rss, fomc, ...", metavar="NAME")
    ] = "",
    source: Annotated[
        list[str] | None,
        typer.Option(help="A source of the settings, asked live; repeat for more.", metavar="NAME"),
    ] = None,
    instrument: Annotated[
        list[str] | None,
        typer.Option(help="Link to this, such as us-equity:AAPL; repeat for more.", metavar="KEY"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--for", help="Ask live for so long; else each source once.", metavar="SECONDS"
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of a new run, whose journal it goes to.", metavar="RUN"),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Take documents in and say what became of each: admitted, a copy, or refused and why.

    Without files, every source of the settings is asked once. A run's own messages are read again alike.

    Example: finllm ingest --kind rss feed.xml; finllm ingest --config live.toml --source wire --for 60
    """
    from finllm.app.ingest import Ingest
    from finllm.app.ingest import ingest as take_in
    from finllm.app.settings import load_settings

    console = Console()
    asked = Ingest(
        files=tuple(files or ()),
        kind=kind,
        sources=tuple(source or ()),
        instruments=tuple(instrument or ()),
        run=run,
        stop=None if seconds is None else _after(seconds),
        told=(lambda _: None) if json else (lambda fate: _show_fate(fate, console)),
    )
    told = take_in(load_settings(config), asked)
    if json:
        print_json(told)
    else:
        _show_counts(told, console)


def _after(seconds: float) -> Callable[[], bool]:
    ends = time.monotonic() + seconds
    return lambda: time.monotonic() >= ends


_STYLES = {"admitted": "green", "copy": "dim", "refused": "red"}


def _show_fate(fate: "Fate", console: Console) -> None:
    line = Text(f"{fate.fate:<9}", _STYLES.get(fate.fate, ""))
    line.append(f" {fate.place}  ", "dim")
    line.append(" ".join(part for part in (fate.source, fate.lang, *fate.flags) if part), "cyan")
    line.append(f"  {fate.reason}" if fate.reason else "", "yellow")
    line.append(f"  {fate.text}" if fate.text else "")
    console.print(line, soft_wrap=True, highlight=False)


def _show_counts(told: "Ingested", console: Console) -> None:
    refused = sum(told.refused.values())
    console.print(
        f"[bold]{told.read:,}[/] read, {told.admitted:,} admitted, {told.copies:,} copies, "
        f"{refused:,} refused"
    )
    for what, counts in (
        ("refused", told.refused),
        ("noted", told.noted),
        ("changed", told.changed),
    ):
        if counts:
            shown = ", ".join(f"{escape(name)} {n:,}" for name, n in counts.items())
            console.print(f"  {what}: {shown}", soft_wrap=True, highlight=False)
    for name, one in told.sources.items():
        line = f"  {escape(name)}: {one.polls:,} asked, {one.bodies:,} new, {one.failures:,} failed"
        console.print(line + (f" ({escape(one.last_failure)})" if one.last_failure else ""))
