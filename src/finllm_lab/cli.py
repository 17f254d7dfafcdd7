"""The workshop's command line: parse, call one function, render. One sub-command per module."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from finllm.domain.errors import FinllmError
from finllm_lab.alignment.cli import alignment
from finllm_lab.conflicts.cli import conflicts
from finllm_lab.consistency.cli import consistency
from finllm_lab.credibility.cli import credibility
from finllm_lab.evaluation.cli import evaluate
from finllm_lab.heads.cli import narrative
from finllm_lab.options import DATA, Data, say
from finllm_lab.reasoner import reasoner
from finllm_lab.regimes.commands import regimes
from finllm_lab.worth.cli import worth
from finllm_lab.zoo.cli import heavier, shrink, zoo

app = typer.Typer(
    name="finllm_lab",
    help="The workshop: build what finllm serves, from recorded tapes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train = typer.Typer(help="Fit a shipped model and write it.", no_args_is_help=True)
app.add_typer(train, name="train")
app.add_typer(regimes, name="regimes")
app.add_typer(conflicts, name="conflicts")
app.add_typer(credibility, name="credibility")
app.add_typer(worth, name="worth")
train.command("reasoner")(reasoner)
app.command("evaluate")(evaluate)
app.command("narrative")(narrative)
app.command("alignment")(alignment)
train.command("heavier")(heavier)
app.command("consistency")(consistency)
app.command("zoo")(zoo)
app.command("shrink")(shrink)

Out = Annotated[Path | None, typer.Option("--out", help="Folder to write. Default: the package.")]
Validate = Annotated[
    bool,
    typer.Option(
        "--validate", help="Open the validation part, on record; put its scores on the card."
    ),
]


@train.command("book")
def book(data: Data = DATA, out: Out = None) -> None:
    """Fit the order-book model (0.1 s to 30 s) on the Binance tapes of 2023-04 and 2024-07.

    What is decided is decided by leaving one recording out. The same tapes give the same artifact.
    """
    from finllm.edge.artifact import SHIPPED
    from finllm_lab import edge

    folder = out or SHIPPED["book"]
    manifest = edge.build(edge.book_build(data), folder, say)
    typer.echo(f"{manifest.version} in {folder}")


@train.command("stock")
def stock(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    data: Data = DATA,
    model: Annotated[
        Literal["linear", "trees"],
        typer.Option(help="What speaks for the classes; quantiles are linear."),
    ] = "linear",
) -> None:
    """Fit the model of US stocks (1 s to 60 s) on AIG and BAC of 7 to 9 October 2013.

    Penalties and trust are chosen by leaving the last day out. The same days give the same artifact. Trees
    need the `zoo` extra, are heavier and better.

    Example: finllm_lab train stock --model trees --out models/stock
    """
    from finllm_lab import edge

    material = edge.stock_build(data)
    manifest = edge.build(material, out, say)
    if model == "trees":
        from finllm_lab.zoo.stock import with_trees

        manifest = with_trees(material, out, say)
    typer.echo(f"{manifest.version} in {out}")


@train.command("bar")
def bar(data: Data = DATA, out: Out = None, *, validate: Validate = False) -> None:
    """Fit the hourly-bar model (1 bar, 1 day) on five US names to the end of 2014.

    Penalties are chosen on January to July 2015. The same bars give the same artifact.
    """
    from finllm.edge.artifact import SHIPPED, load_artifact
    from finllm_lab import edge
    from finllm_lab.experiments import open_validation
    from finllm_lab.export import put_scores
    from finllm_lab.plans import BAR_PLAN

    folder = out or SHIPPED["bar"]
    manifest = edge.build(edge.bar_build(data), folder, say)
    if validate:
        open_validation("bar", f"train bar --validate, {manifest.version}")
        artifact = load_artifact(folder, spec=BAR_PLAN.spec)
        scores = edge.score_lines(
            artifact, edge.bar_validation(data), 0, since=edge.BAR_VALIDATION_FROM
        )
        manifest = put_scores(folder, scores)
        typer.echo("\n".join(scores))
    typer.echo(f"{manifest.version} in {folder}")


@train.command("day")
def day(data: Data = DATA, out: Out = None) -> None:
    """Fit the daily-bar model (one day ahead) on 88 US names to June 2014.

    Penalties are chosen on July 2014 to July 2015. The same bars give the same artifact.
    """
    from finllm.edge.artifact import DAY
    from finllm_lab import edge

    folder = out or DAY
    manifest = edge.build(edge.day_build(data), folder, say)
    typer.echo(f"{manifest.version} in {folder}")


@app.command("recordings")
def recordings(
    data: Data = DATA,
    *,
    count: Annotated[
        bool,
        typer.Option("--count", help="Count anew what the Binance tapes hold (minutes)."),
    ] = False,
) -> None:
    """Check that every recording is the one that was entered, and show what is known of it.

    A changed file is refused by name. Outcomes are counted on training recordings only.
    """
    from finllm_lab import manifest
    from finllm_lab.counting import count_tapes

    known = manifest.recordings()
    with typer.progressbar(sorted(known), label="checking", file=sys.stderr) as paths:
        for path in paths:
            manifest.checked(data, path)
    if count:
        manifest.write(known := count_tapes(data, known, say))
    for path, entry in sorted(known.items()):
        typer.echo(f"{path}  class {entry.licence}, {entry.use}, {entry.starts} to {entry.ends}")
        for instrument, held in entry.instruments.items():
            flat = {name: shares[1] for name, shares in held.classes.items()}
            typer.echo(
                f"  {instrument}: {held.rows} rows, {held.grid} grid points,"
                f" {held.repeated:.1%} near copies, regimes {held.regimes}, flat {flat or 'not looked at'}"
            )


@app.command("bank")
def bank(data: Data = DATA) -> None:
    """Compare a bank with the best single model: on unseen synthetic regimes, and tape by tape. JSON lines.

    The synthetic part also says how well calibrated the ten minutes after a switch are, with and
    without widening. The tapes are those of the training part, one left out at a time.
    """
    import msgspec

    from finllm_lab import banks
    from finllm_lab.regimes.law import load_law
    from finllm_lab.tapes import BOOK_TAPES, book_sessions, tape_paths

    law = load_law()
    typer.echo(msgspec.json.encode(banks.compare(law, 0.97)).decode())
    tapes = [tape for tape in BOOK_TAPES if tape.use == "train"]
    sessions = [s for t in tapes for s in book_sessions(t.name, tape_paths(data, t))]
    for found in banks.on_tapes(sessions, (law.small, law.large)):
        typer.echo(msgspec.json.encode(found).decode())


@app.command("drift")
def drift(data: Data = DATA) -> None:
    """Show how far each book feature drifts from the first recording (2023) to the later ones.

    For each column: the shift of its mean in the first one's deviations, and the ratio of deviations.
    """
    from finllm.features.book_spec import BOOK_SPEC
    from finllm_lab.drift import drifts
    from finllm_lab.tapes import BOOK_TAPES, book_sessions, tape_paths

    first, *later = (
        session
        for tape in BOOK_TAPES
        for session in book_sessions(tape.name, tape_paths(data, tape))
    )
    for session in later:
        typer.echo(f"{session.name} {session.instrument}")
        for found in drifts(first, session, BOOK_SPEC):
            typer.echo(f"  {found.column:20s} {found.shift:7.2f} x{found.stretch:.2f}")


def main() -> None:
    """Run the workshop's command line."""
    try:
        app()
    except FinllmError as error:
        typer.echo(f"finllm_lab: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
