"""`finllm_lab alignment`: learn the space, score it, write it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from finllm.domain.errors import InputError
from finllm.narrative.alignment.space import SHIPPED

if TYPE_CHECKING:
    from finllm.narrative.alignment.space import AlignedSpace
    from finllm.narrative.reading.encoder import Encoder
    from finllm.narrative.reading.reader import Reader
    from finllm_lab.alignment.tapes import Dated

TAPE_WEIGHT = 0.3
"""Of a real pair beside a planted one: most tweets are behind nothing."""


def alignment(  # noqa: PLR0917 - typer reads each by name
    data: Annotated[
        Path, typer.Option("--data", help="Folder with text_price/; class A files are read.")
    ] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="Folder for the weights and their card.")] = SHIPPED,
    encoder: Annotated[str, typer.Option(help="Whose vectors the space is to take.")] = "hashing",
    cases: Annotated[int, typer.Option(help="Planted cases to learn from.", min=50)] = 1_000,
    weigh: Annotated[int, typer.Option(help="Planted cases to weigh on.", min=20)] = 120,
    headlines: Annotated[
        int, typer.Option(help="Labelled headlines to learn direction from; 0 = none.", min=0)
    ] = 2_000,
    score: Annotated[int, typer.Option(help="Planted cases to score on.", min=20)] = 200,
    score_from: Annotated[
        int,
        typer.Option(help="First seed to score on; each attempt takes seeds of its own."),
    ] = 1_000_000,
    *,
    tapes: Annotated[
        bool, typer.Option(help="Learn from the tweets' and posts' training parts as well.")
    ] = False,
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
    from finllm_lab.alignment.headlines import HEADLINES, directed
    from finllm_lab.alignment.tapes import POSTS_VAL, TWEETS_VAL, pairs_of_tape
    from finllm_lab.alignment.train import ENCODERS, build_space

    if encoder not in ENCODERS:
        raise InputError(
            f"{encoder!r} is unknown", place="--encoder", mend=f"One of {', '.join(ENCODERS)}."
        )
    reads, heads = ENCODERS[encoder]()
    ends = {"tweets": TWEETS_VAL, "posts": POSTS_VAL}
    since = dict.fromkeys(ends, 0) if tapes else ends
    parts = _tapes(data, reads, heads, since) if tapes or validate else {}
    train = {k: [one for one in v if one.ts < ends[k]] for k, v in parts.items()}
    told = directed(data / "text_labels", headlines) if headlines else []
    known = (f"{HEADLINES}: pyRis/SEntFiN (eba43610), {len(told):,} of its training rows",)
    extra = [(pairs_of_tape(one), TAPE_WEIGHT) for one in train.values()] if tapes else []
    card, examined = build_space(
        reads,
        out,
        n_cases=cases,
        n_weigh=weigh,
        n_score=score,
        score_from=score_from,
        headlines=told,
        extra=extra,
        data=known[: len(told) > 0]
        + tuple(f"{k}: {len(v):,} texts before {ends[k]}" for k, v in train.items() if tapes),
        heads=heads,
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(msgspec.json.format(msgspec.json.encode(examined), indent=2).decode())
    if validate:
        from finllm_lab.experiments import open_validation

        open_validation("alignment", f"alignment --validate, {card.version} over {card.encoder}")
        space = load_space(reads.name, out)
        val = {k: [one for one in v if one.ts >= ends[k]] for k, v in parts.items()}
        typer.echo(
            msgspec.json.format(msgspec.json.encode(tape_scores(val, space)), indent=2).decode()
        )


def _tapes(
    data: Path, encoder: "Encoder", heads: "Reader", since: dict[str, int]
) -> "dict[str, list[Dated]]":
    from finllm_lab.alignment.tapes import posts, tweets

    return {
        "tweets": tweets(data, encoder, heads, since["tweets"]),
        "posts": posts(data, encoder, heads, since["posts"]),
    }


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
