"""`finllm_lab conflicts`: gather packs of planted conflicts, fit the model of hypotheses, score it."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from finllm_lab.cards import readable

conflicts = typer.Typer(
    help="Conflicts between words and market whose driver is known.", no_args_is_help=True
)
Packs = Annotated[Path, typer.Option("--packs", help="File that `conflicts gather` wrote.")]


@conflicts.command("gather")
def gather(
    out: Annotated[Path, typer.Option("--out", help="File to write, JSON lines.")],
    first: Annotated[int, typer.Option(help="Seed of the first tape.")] = 5001,
    tapes: Annotated[int, typer.Option(help="How many tapes, of 20 conflicts each.", min=1)] = 40,
    *,
    oracle: Annotated[bool, typer.Option("--oracle", help="Ask the oracle as well.")] = False,
) -> None:
    """Gather the packs of planted conflicts, read by words alone and with the encoder if it is installed.

    Seeds 5001 to 5040 are fitted on, 9001 to 9016 scored on.

    Example: finllm_lab conflicts gather --first 9001 --tapes 16 --oracle --out /tmp/unseen.jsonl
    """
    from finllm.app.reader import load_encoder, load_reader
    from finllm.narrative.reading.reader import words_only
    from finllm_lab.conflicts.packs import cases

    readers = {"words": words_only()}
    if load_encoder() is not None:
        readers["encoder"] = load_reader()
    with out.open("wb") as file:
        for seed in range(first, first + tapes):
            for case in cases(seed, readers, ask_oracle=oracle):
                file.write(msgspec.json.encode(case) + b"\n")
            file.flush()
            typer.echo(f"tape {seed}", err=True)


@conflicts.command("fit")
def fit(
    packs: Packs,
    out: Annotated[Path | None, typer.Option("--out", help="Default: the package.")] = None,
) -> None:
    """Fit the model on gathered packs, write it with its card and print the card."""
    from finllm.reasoning.conflict import SHIPPED
    from finllm_lab.conflicts.fit import build
    from finllm_lab.conflicts.packs import read_cases

    card = build(read_cases(packs), out or SHIPPED.parent)
    typer.echo(readable(card))


@conflicts.command("score")
def score(
    packs: Packs,
    plot: Annotated[Path, typer.Option("--plot", help="Picture to write.")] = Path(
        "docs/pictures/conflicts.png"
    ),
) -> None:
    """Score the shipped model on gathered packs of unseen seeds, on record; draw the confusion matrix."""
    from finllm_lab.conflicts.packs import read_cases
    from finllm_lab.conflicts.picture import draw
    from finllm_lab.conflicts.score import score_cases
    from finllm_lab.experiments import record

    found = score_cases(read_cases(packs))
    draw(found, plot)
    record(
        "trial",
        "conflicts",
        f"driver of planted conflicts, {found.model}, seeds {found.seeds}",
        scores=found.figures(),
    )
    typer.echo(readable(found))
