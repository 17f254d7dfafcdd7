"""`finllm_lab worth`: what the law of the known worlds is fitted to, its base forecast, its hardness."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

worth = typer.Typer(
    help="Known worlds, in which asking is worth a known gain.", no_args_is_help=True
)


@worth.command("measure")
def measure(
    data: Annotated[Path, typer.Option("--data", help="Folder with orderbook/ and text_price/.")],
) -> None:
    """Measure volatility, jumps and documents on training tapes: what the law is fitted to."""
    from finllm_lab.worth.tapes import measure as measured

    _print(measured(data))


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


def _print(record: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(record), indent=2).decode())
