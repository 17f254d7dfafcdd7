"""Options that several of the lab's commands share, and how they tell how far they are."""

from pathlib import Path
from typing import Annotated, Final

import typer

Data = Annotated[Path, typer.Option("--data", help="Folder with orderbook/ and text_price/.")]
DATA: Final = Path("../shared/data")


def say(line: str) -> None:
    """Print a line on standard error."""
    typer.echo(line, err=True)
