"""`finllm model`: parse, check, render."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from finllm.app.options import Json, print_json

model_app = typer.Typer(help="Models that the edge serves.", no_args_is_help=True)


@model_app.callback()
def _root() -> None:
    """Models that the edge serves."""


@model_app.command("check")
def check(
    folder: Annotated[
        Path, typer.Argument(help="With manifest.json and model.onnx.", metavar="FOLDER")
    ],
    *,
    max_us: Annotated[
        float, typer.Option(help="Median microseconds that one row may take.", min=0.0)
    ] = 50.0,
    max_kb: Annotated[float, typer.Option(help="Kilobytes that it may take.", min=0.0)] = 2_000.0,
    seed: Annotated[int, typer.Option(help="Seed of the rows that it is asked about.")] = 0,
    json: Json = False,
) -> None:
    """Hold one's own model to what a model promises: does it load, say the same twice, stay quick?

    Manifest, calibration, card, hashes, feature spec and signature; parity between runtimes, determinism,
    batch invariance, NaN in and NaN out; speed and size. Exit status 1 if a check fails.

    Example: finllm model check models/mine --max-us 10
    """
    from finllm.app.view import show_checks
    from finllm.edge.check import Limits, check_model
    from finllm.features.bar_spec import BAR_SPEC
    from finllm.features.book_spec import BOOK_SPEC

    limits = Limits(us=max_us, kb=max_kb)
    report = check_model(folder, (BOOK_SPEC, BAR_SPEC), limits=limits, seed=seed)
    if json:
        told = msgspec.structs.asdict(report) | {"ok": report.ok}
        print_json(told)
    else:
        show_checks(report.checks, Console())
    if not report.ok:
        raise typer.Exit(1)
