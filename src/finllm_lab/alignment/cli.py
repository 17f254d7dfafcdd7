"""`finllm_lab alignment`: learn the space, score it, write it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finllm.domain.errors import InputError
from finllm.narrative.alignment.space import SHIPPED
from finllm_lab.cards import readable
from finllm_lab.options import say

if TYPE_CHECKING:
    from finllm.narrative.alignment.space import AlignedSpace
    from finllm_lab.alignment.tapes import Dated


def alignment(  # noqa: PLR0917 - typer reads each by name
    data: Annotated[
        Path, typer.Option("--data", help="Folder with text_price/; class A files are read.")
    ] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="Folder for the weights and their card.")] = SHIPPED,
    encoder: Annotated[str, typer.Option(help="Whose vectors the space is to take.")] = "hashing",
    lines: Annotated[
        int, typer.Option(help="Times that each way of telling an event is told.", min=4)
    ] = 40,
    markets: Annotated[int, typer.Option(help="Markets to learn traces from.", min=500)] = 4_000,
    weigh: Annotated[int, typer.Option(help="Planted cases to weigh on.", min=20)] = 320,
    score: Annotated[int, typer.Option(help="Planted cases to score on.", min=20)] = 200,
    score_from: Annotated[
        int,
        typer.Option(help="First seed to score on; each attempt takes seeds of its own."),
    ] = 1_000_000,
    *,
    validate: Annotated[
        bool,
        typer.Option(
            "--validate",
            help="Open the validation part of tweets and posts, on record; print scores.",
        ),
    ] = False,
) -> None:
    """Learn the space that joins news and moves, and score it on seeds and phrases it never saw.

    Planted causes are synthetic; the generator is frozen. With --validate also real tweets beside
    hourly bars (from 2015-08-01) and posts beside SPY's minutes (from 2025-06-15), against words alone.

    Example: finllm_lab alignment --encoder hashing --out models/space
    """
    from finllm.narrative.alignment.space import load_space
    from finllm_lab.alignment.train import ENCODERS, build_space

    if encoder not in ENCODERS:
        raise InputError(
            f"{encoder!r} is unknown", place="--encoder", mend=f"One of {', '.join(ENCODERS)}."
        )
    reads, heads = ENCODERS[encoder]()
    card, examined = build_space(
        reads,
        out,
        heads=heads,
        n_lines=lines,
        n_markets=markets,
        n_weigh=weigh,
        n_score=score,
        score_from=score_from,
        say=say,
    )
    typer.echo(readable(examined))
    if validate:
        from finllm_lab.alignment.tapes import posts, tweets
        from finllm_lab.experiments import open_validation

        open_validation("alignment", f"alignment --validate, {card.version} over {card.encoder}")
        space = load_space(reads.name, out)
        val = {"tweets": tweets(data, reads, heads), "posts": posts(data, reads, heads)}
        typer.echo(readable(tape_scores(val, space)))


def tape_scores(parts: "dict[str, list[Dated]]", space: "AlignedSpace") -> dict[str, object]:
    """Return the space's and the baseline's scores on real texts, by tape."""
    from finllm_lab.alignment.tapes import fits, score_tape, words_fit

    return {
        name: {
            "space": score_tape(found, fits(found, space)),
            "words": score_tape(found, words_fit(found)),
        }
        for name, found in parts.items()
    }
