"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file; every key has a default.", metavar="FILE"),
]
