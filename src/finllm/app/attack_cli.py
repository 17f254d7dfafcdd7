"""`finllm attack`: parse, call one function, render."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from finllm.app.options import Config, Json, print_json

if TYPE_CHECKING:
    from finllm.app.attack.field import Family, Field
    from finllm.app.attack.run import Report

_WIDTH = 20


def attack_command(
    *,
    family: Annotated[
        str, typer.Option(help="all, or names separated by commas.", metavar="NAMES")
    ] = "all",
    documents: Annotated[
        Path | None,
        typer.Option(
            help="Documents to plant attacks among. Default: the newswire.", metavar="FILE"
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Attacks per family, about.", min=10)] = 300,
    most: Annotated[int, typer.Option(help="Documents that are read.", min=100)] = 10_000,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", min=0)] = 7,
    config: Config = None,
    json: Json = False,
) -> None:
    """Attack the narrative room: which attacks are recognised, and how many honest texts are taken for one?

    Disguises, edits, syndicated copies, campaigns, floods, stale and poisoned times, orders to the reader,
    contradictions and liars; one row each, never pooled. Exit status 1 if a goal is missed.

    Example: finllm attack --family homoglyph,campaign --documents posts.jsonl
    """
    from finllm.app.attack.field import read_field
    from finllm.app.attack.run import chosen
    from finllm.app.settings import load_settings

    names = chosen(family)
    settings = load_settings(config)
    field = read_field(documents, settings=settings.narrative, seed=seed, size=size, most=most)
    report = _run(field, names, quiet=json)
    if json:
        told = msgspec.to_builtins(report) | {"ok": report.ok}
        print_json(told)
    else:
        _show(report, Console())
    if not report.ok:
        raise typer.Exit(1)


def _run(field: "Field", names: list[str], *, quiet: bool) -> "Report":
    from finllm.app.attack.run import attack

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        return attack(field, names)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("reading", total=len(names))
        begun = 0

        def begin(name: str) -> None:
            nonlocal begun
            bar.update(task, description=name, completed=begun)
            begun += 1

        return attack(field, names, on_family=begin)


def _show(report: "Report", console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("attack", "recognised", "", "goal", "taken for it", "goal", ""):
        table.add_column(heading, overflow="fold")
    for one in report.families:
        table.add_row(*_row(one))
    console.print(table)
    for one in report.families:
        if one.note:
            console.print(Text(f"{one.name}: {one.note}", "dim"))
    console.print(
        f"{report.n_documents:,} documents, {report.n_texts:,} distinct texts, seed {report.seed}",
        highlight=False,
    )


def _row(one: "Family") -> tuple[Text | str, ...]:
    full = round(_WIDTH * one.recall)
    colour = "green" if one.recall >= one.least_recall else "red"
    wrong = "green" if one.false_positives <= one.most_false else "red"
    return (
        one.name,
        Text(f"{one.recall:7.1%} of {one.n_attacks:,}", colour),
        Text("\u2588" * full + "\u2591" * (_WIDTH - full), colour),
        f"{one.least_recall:.0%}" if one.least_recall else "-",
        Text(f"{one.false_positives:.2%} of {one.n_controls:,}", wrong),
        f"{one.most_false:.1%}" if one.most_false < 1.0 else "-",
        Text("holds", "green") if one.ok else Text("misses", "bold red"),
    )
