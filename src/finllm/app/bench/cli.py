"""`finllm bench`: parse, measure, render."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from finllm.app.bench.edge import EdgeFigures

bench_app = typer.Typer(help="How fast it is here, on the real path.", no_args_is_help=True)


@bench_app.command("edge")
def edge(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Frame tapes. Default: the synthetic market.",
            metavar="[TAPE]...",
            show_default=False,
        ),
    ] = None,
    *,
    seconds: Annotated[
        float, typer.Option(help="Seconds of tape measured at 1 x real time.")
    ] = 20.0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the distributions into this PNG.", metavar="FILE")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """From a frame to a forecast row: by stage, in one process, through a worker, beside its peers.

    Leave the machine alone. Takes about four times the seconds of tape and a minute. Peers that are not
    installed are left out: pip install 'fin-llm-inference[bench]' brings them.
    """
    from finllm.app.bench import edge as bench
    from finllm.app.bench.plot import plot as draw

    console = Console(stderr=True)
    with console.status("starting") as status:
        figures, found = bench.bench_edge(
            bench.Plan(tapes=tuple(tapes or ()), seconds=seconds),
            status.update,
            lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False),
        )
    if plot is not None:
        draw(found, plot)
    if json:
        sys.stdout.buffer.write(msgspec.json.encode(figures) + b"\n")
        return
    _show(figures, Console())


def _show(figures: "EdgeFigures", console: Console) -> None:
    table = Table(
        "microseconds", "p50", "p99", "p99.9", "max", "rows", title="frame to forecast row"
    )
    shown = {
        **figures.stages_us,
        "in process": figures.in_process_us,
        **figures.paced,
        **{f"{load.instruments} instruments": load.service_us for load in figures.by_instruments},
    }
    for name, spread in shown.items():
        cells = (spread.p50, spread.p99, spread.p999, spread.max)
        table.add_row(name, *(f"{cell:,.1f}" for cell in cells), f"{spread.n:,}")
    console.print(table)
    _show_peers(figures, console)
    flat = figures.flat_out
    console.print(
        f"flat out {figures.frames_per_s:,.0f} frames/s in process; "
        f"{flat.frames_per_s:,.0f} frames/s through a worker, {flat.conflated_share:.1%} conflated; "
        f"with {figures.by_instruments[-1].instruments} instruments "
        f"{figures.by_instruments[-1].frames_per_s:,.0f} frames/s"
    )
    for when, quiet in figures.quiet.items():
        console.print(
            f"the machine {when}: {quiet.lost_share:.1%} of the time lost to others, "
            f"{quiet.longest_us:,.0f} us at a time at most"
        )


def _show_peers(figures: "EdgeFigures", console: Console) -> None:
    table = Table(
        "microseconds", "against", "p50", "p99", "ours p50", "ours p99", "p50, times ours", "target",
        title="peers on the same frames, with the same model, in turns with ours",
    )  # fmt: skip
    for name, peer in figures.peers.items():
        cells = (peer.p50, peer.p99, peer.ours_p50, peer.ours_p99, peer.ratio_p50, peer.target)
        table.add_row(name, peer.against, *(f"{cell:,.1f}" for cell in cells))
    console.print(table)
    for name, facts in figures.context.items():
        stated = ", ".join(f"{key} {value}" for key, value in facts.items())
        console.print(f"for scale, {name}: {stated}")
