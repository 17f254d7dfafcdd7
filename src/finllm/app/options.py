"""Options that several commands share, and what they make of them."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from finllm.domain.errors import InputError
from finllm.domain.units import parse_instant

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file; every key has a default.", metavar="FILE"),
]


def print_json(record: object) -> None:
    """Print a record on standard output, as one line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")


def instant(text: str, option: str) -> int:
    """Return the instant that an option gives, ns.

    Raises:
        InputError: If it is none.
    """
    try:
        return parse_instant(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is no instant",
            place=option,
            mend="Write 2024-08-08T23:58:00Z, or epoch nanoseconds.",
        ) from error
