"""`finllm_lab credibility`: gather claims of known truth, fit the weights of credibility, score them."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from finllm_lab.cards import readable, write_record

credibility = typer.Typer(
    help="Credibility on wires of which it is known what is true.", no_args_is_help=True
)
Cases = Annotated[Path, typer.Option("--cases", help="File that `credibility gather` wrote.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="File of weights. Default: those that ship.")
]


@credibility.command("by-hand")
def by_hand(out: Annotated[Path, typer.Option("--out", help="File to write.")]) -> None:
    """Write the weights that were set by hand before any were fitted, to compare with."""
    from finllm_lab.credibility.fit import BY_HAND

    write_record(out, BY_HAND)


@credibility.command("gather")
def gather(
    out: Annotated[Path, typer.Option("--out", help="File to write, JSON lines.")],
    prior: Annotated[float, typer.Option(help="Of a source of which nothing is known.")] = 0.6,
    first: Annotated[int, typer.Option(help="Seed of the first wire.")] = 3001,
    wires: Annotated[int, typer.Option(help="How many wires, of 20 days each.", min=1)] = 16,
    shift: Annotated[
        float, typer.Option(help="Log-odds by which senders are more truthful than usual.")
    ] = 0.0,
    weights: Weights = None,
) -> None:
    """Gather the claims that the room makes of wires of known truth, with the terms of each.

    Seeds 3001 to 3016 are fitted on; 7001 to 7012, 8001 to 8006 and 9001 to 9012 have been scored on.

    Example: finllm_lab credibility gather --first 9101 --wires 12 --out /tmp/unseen.jsonl
    """
    from finllm_lab.credibility.cases import served, write_cases
    from finllm_lab.credibility.planted import Wire

    made = (Wire(seed, shift=shift) for seed in range(first, first + wires))
    for seed in write_cases(out, made, served(prior, weights)):
        typer.echo(f"wire {seed}", err=True)


@credibility.command("fit")
def fit(
    cases: Cases,
    out: Annotated[Path | None, typer.Option("--out", help="Default: the package.")] = None,
) -> None:
    """Fit the weights on gathered claims, write them with their card and print the card."""
    from finllm.narrative.trust.credibility import SHIPPED
    from finllm_lab.credibility.cases import read_cases
    from finllm_lab.credibility.fit import build

    card = build(read_cases(cases), out or SHIPPED.parent)
    typer.echo(readable(card))


@credibility.command("score")
def score(
    cases: Cases,
    against: Annotated[
        list[Path],
        typer.Option(
            "--against",
            help="The same wires, gathered otherwise; named by its file. Repeatable.",
        ),
    ],
    plot: Annotated[Path, typer.Option("--plot", help="Picture to write.")] = Path(
        "docs/pictures/credibility.png"
    ),
) -> None:
    """Score gathered claims of unseen seeds, on record; draw how reliable the first two are.

    Example: finllm_lab credibility score --cases /tmp/fitted.jsonl --against "/tmp/by hand.jsonl"
    """
    from finllm.narrative.trust.credibility import SHIPPED
    from finllm_lab.credibility.cases import read_cases
    from finllm_lab.credibility.fit import CARD, CredibilityCard
    from finllm_lab.credibility.picture import draw
    from finllm_lab.credibility.score import score as score_cases
    from finllm_lab.experiments import record

    card = msgspec.json.decode((SHIPPED.parent / CARD).read_bytes(), type=CredibilityCard)
    gathered = {file.stem: read_cases(file) for file in (cases, *against)}
    reports = {name: score_cases(found, card.share_true) for name, found in gathered.items()}
    tapes = [case.tape for case in gathered[cases.stem]]
    seeds = f"{min(tapes)} to {max(tapes)}"
    shown = list(gathered)[:2]
    draw({name: (gathered[name], reports[name]) for name in shown}, seeds, plot)
    figures = {k: v for name, one in reports.items() for k, v in one.figures(name).items()}
    record(
        "trial", "credibility", f"claims of known truth, {card.name}, seeds {seeds}", scores=figures
    )
    typer.echo(readable(reports))


@credibility.command("recorded")
def recorded(
    data: Annotated[Path, typer.Option("--data", help="Folder that holds misinformation/.")] = Path(
        "../shared/data"
    ),
) -> None:
    """Show how far credibility tells recorded true claims from false ones before anybody replies.

    Training part only. Nothing but the text is known of them, so hardly at all.
    """
    from finllm_lab.credibility.recorded import separation

    found = separation(data)
    typer.echo(readable(found))
