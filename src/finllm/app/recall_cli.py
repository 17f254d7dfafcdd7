"""`finllm recall`: parse, ask memory as of an instant, render."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from finllm.app.options import instant, print_json
from finllm.domain.errors import InputError
from finllm.domain.units import iso

if TYPE_CHECKING:
    from finllm.app.recalled import Found, Recollection

_MOST_SHOWN: Final = 200
"""Characters of what was said."""


def recall(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    *,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", help="Required: tell what was known at this instant.", metavar="TIME"
        ),
    ] = None,
    instrument: Annotated[
        str, typer.Option(help="Only claims about it: its key, or the end of it.", metavar="X")
    ] = "",
    about: Annotated[
        str, typer.Option(help="Most like this text first, instead of newest first.")
    ] = "",
    after: Annotated[
        str | None, typer.Option(help="Only what was received after this instant.", metavar="T")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 20,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Tell what a run knew at an instant: claims, how far each was believed then, and how it stood.

    Nothing received later has any part in it, nor what became of a claim later. The same question gives
    the same answer for ever, or is refused: before the instant is over, and once its answer is retired.

    Example: finllm recall runs/mine --as-of 2024-08-08T23:58:00Z --about "withdrawals halted"
    """
    from finllm.app.recalled import Question, recall_from

    if as_of is None:
        raise InputError(
            "no instant is named, and memory tells only what was known at one",
            place="--as-of",
            mend="Write --as-of 2024-08-08T23:58:00Z, or epoch nanoseconds.",
        )
    asked = Question(
        as_of=instant(as_of, "--as-of"),
        instrument=instrument,
        about=about,
        after=None if after is None else instant(after, "--after"),
        limit=limit,
    )
    told = recall_from(run, asked)
    if json:
        print_json(told)
    else:
        _show(told, Console())


def _show(told: "Recollection", out: Console) -> None:
    asked = told.question
    order = f"most like {asked.about!r}, by {told.encoder}" if asked.about else "newest first"
    out.print(Text(f"known as of {iso(asked.as_of)}, {order}", style="italic"))
    for one in told.found:
        out.print(_heading(one), soft_wrap=True)
        text = one.document.text if one.recalled is None else one.recalled.claim.quote
        out.print(Padding(Text(text[:_MOST_SHOWN]), (0, 0, 0, 4)))
    if not told.found:
        out.print("Nothing was known of that by then.")
    reach = " to ".join(iso(ts)[:19] + "Z" for ts in told.span)
    out.print(f"{len(told.found):,} told; this memory can be asked as of {reach}.", highlight=False)


def _heading(one: "Found") -> Text:
    """Return when and by whom a thing was said, of what, and how far it was believed then."""
    document, recalled = one.document, one.recalled
    parts = [(iso(document.ts_recv)[:23], "bold")]
    if one.similarity is not None:
        parts.append((f"like {one.similarity:.2f}", "cyan"))
    if recalled is None:
        parts.append(("a copy" if document.copy_of else "about no instrument", "dim"))
    else:
        claim = recalled.claim
        parts.append((claim.instrument.rpartition(":")[2], "bold"))
        parts.append((f"believed {claim.credibility:.2f}", "" if recalled.is_visible else "dim"))
        if recalled.state is not None:
            since = iso(recalled.since)[:19]
            parts.append((f"{recalled.state} since {since}: {recalled.reason}", "yellow"))
    source = f"{document.source}/{document.author}" if document.author else document.source
    parts.append((source, ""))
    return Text("  ").join(Text(*part) for part in parts)
