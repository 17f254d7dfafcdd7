"""`finllm route`: parse, ask the gate and nobody else, render."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from finllm.app.options import Config, Json, print_json
from finllm.domain.errors import InputError
from finllm.domain.units import NS_PER_S, iso

if TYPE_CHECKING:
    from finllm.app.routed import Route, Routed


def route(
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run. Default: a known world.", metavar="[RUN]"),
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Required: nothing is asked of any reasoner.")
    ] = False,
    learn: Annotated[
        bool | None,
        typer.Option("--learn/--by-hand", help="Which estimate. Default: as the settings say."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the known world, where no run is named.")] = 1,
    limit: Annotated[int, typer.Option(help="At most so many notices.", min=1)] = 1_000,
    config: Config = None,
    json: Json = False,
) -> None:
    """Tell for each question, tier by tier, the gate's estimate, the deadline, who would be asked and why.

    Nothing is asked, so answers teach nothing: a gate that learns keeps the
    estimate that it starts with, and a higher tier's is asked as if the one
    below had said nothing. The level from which a gate asks and the credit of
    its share move from question to question. No file is written.

    Over a RUN the settings of --config and FINLLM_* count, else the defaults:
    not those that the run was made with. Its gates begin with what the file of
    escalation.state holds. In a known world the tiers are three simulated
    reasoners, each behind a gate of its own, and of the settings the section
    escalation alone counts, without its state: no tier, and no reasoning.

    Estimates come in two kinds of nats, which are not to be compared. By hand
    each forecast that stands counts once, and the outlook as one more ("nats
    counted once"). Learnt they are summed over every forecast while the answer
    lasts, less the price ("nats in all").

    Example: finllm route --dry-run runs/demo-0001 --learn
    """
    from finllm.app.routed import route_run, route_world
    from finllm.app.settings import load_settings

    if not dry_run:
        raise InputError(
            "asks in earnest only within a run", place="route", mend="Write --dry-run."
        )
    settings = load_settings(config)
    if learn is not None:
        escalation = msgspec.structs.replace(settings.escalation, learn=learn)
        settings = msgspec.structs.replace(settings, escalation=escalation)
    found = route_world(seed, settings, limit) if run is None else route_run(run, settings, limit)
    if json:
        print_json(found)
    else:
        _show(found, Console())


def _show(found: "Route", console: Console) -> None:
    for one in found.questions:
        console.print(_line(one), highlight=False, markup=False, emoji=False, soft_wrap=True)
    by = "learnt" if found.learns else "set by hand"
    console.print(
        f"{found.source}: {found.escalated:,} would be asked, {found.held:,} held; estimate {by}; "
        f"asked of {_by_tier(found)}",
        highlight=False,
        soft_wrap=True,
    )


def _by_tier(found: "Route") -> str:
    """Return how many questions each tier would be asked."""
    asked = Counter(one.tier for one in found.questions if one.escalates)
    return ", ".join(f"{tier} {asked[tier]:,}" for tier in found.tiers)


def _line(one: "Routed") -> str:
    gain = f"{one.expected_gain:.5f} nats {'in all' if one.is_learnt else 'counted once'}"
    head = f"{iso(one.ts)} {one.instrument} {one.event_type}: {gain}"
    if not one.escalates:
        return f"{head}; hold {one.tier}: {one.reason}"
    left_s = (one.deadline - one.ts) / NS_PER_S
    return f"{head}; ask {one.tier} within {left_s:.1f} s: {one.reason}"
