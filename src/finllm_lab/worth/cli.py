"""`finllm_lab worth`: what the known worlds are fitted to and how hard they are, and real text and prices."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from finllm.domain.errors import InputError
from finllm_lab.cards import readable
from finllm_lab.experiments import FILE, open_validation

worth = typer.Typer(
    help="What asking is worth: in known worlds, and on real text and prices.", no_args_is_help=True
)


@worth.command("measure")
def measure(
    data: Annotated[Path, typer.Option("--data", help="Folder with orderbook/ and text_price/.")],
) -> None:
    """Measure volatility, jumps and documents on training tapes: what the law is fitted to."""
    from finllm_lab.worth.tapes import measure as measured

    try:
        found = measured(data)
    except FileNotFoundError as error:
        raise InputError(
            str(error),
            place="--data",
            mend="Point it at the folder with orderbook/ and text_price/.",
        ) from error
    _print(found)


@worth.command("base")
def base() -> None:
    """Fit the base forecast on seeds 701 to 704 and print its coefficients."""
    from finllm_lab.worth.base import fit

    _print(fit())


@worth.command("hardness")
def hardness() -> None:
    """Measure how hard the worlds are: what words tell, what asking about any document reaches."""
    from finllm_lab.worth.hardness import measure as measured

    _print(measured())


@worth.command("real")
def real(
    data: Annotated[Path, typer.Option("--data", help="Folder that holds text_price/.")],
    one: Annotated[
        list[str] | None,
        typer.Option("--set", help="tweets-hourly, tweets-daily, posts or fomc. Default: all."),
    ] = None,
    part: Annotated[
        Literal["train", "val", "later"],
        typer.Option(
            help="`later` is whatever the files hold after validation; `val` is counted, and refused after "
            "three openings, which this project's own record has had."
        ),
    ] = "train",
    record: Annotated[Path, typer.Option("--record", help="The experiment record.")] = FILE,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Score what asking is worth on real text and prices: the served pipeline, set by set.

    One line a set and policy: rows, calls, where it spoke, what it took off the edge's volatility error there
    and over all rows, and direction apart. `?` = inconclusive.

    Example: finllm_lab worth real --data FOLDER --set fomc --part later
    """
    from finllm_lab.worth.real import VALIDATE, ready, sets_of, table
    from finllm_lab.worth.words import in_words

    wanted = sets_of(one or [])
    ready(data, wanted)
    if part == VALIDATE:
        names = ", ".join(each.name for each in wanted)
        open_validation("real", f"worth real, {names}", file=record)
    lines = [line for each in wanted for line in table(data, each, part)]
    if as_json:
        _print(lines)
    else:
        typer.echo(in_words(lines))


def _print(record: object) -> None:
    typer.echo(readable(record))
