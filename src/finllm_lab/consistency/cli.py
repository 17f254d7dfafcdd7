"""`finllm_lab consistency`: the protocol under fire, seed by seed."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from finllm.app.options import print_json

if TYPE_CHECKING:
    from finllm_lab.consistency.campaign import Campaign
    from finllm_lab.consistency.simulate import Result


def consistency(
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 200,
    first: Annotated[int, typer.Option(help="The first of them.", min=0)] = 0,
    minutes: Annotated[
        float, typer.Option(help="Virtual minutes under fire, each.", min=0.5, max=1_440.0)
    ] = 10.0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    fire: Annotated[
        float, typer.Option(help="Times the usual rates of faults.", min=0.0, max=100.0)
    ] = 1.0,
    without: Annotated[
        list[str] | None, typer.Option(help="A kind of fault to leave out.", metavar="KIND")
    ] = None,
    *,
    twice: Annotated[
        bool, typer.Option("--twice", help="Run each seed again; the trace must be the same.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Run the first seed alone and print its timeline.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run the protocol in a simulated world that delays, repeats, reorders, cuts, skews, freezes and crashes.

    Exits 1 if an invariant is violated or a second trace differs.

    Example: finllm_lab consistency --seeds 10000 --jobs 2
    """
    from finllm.domain.errors import SettingsError
    from finllm_lab.consistency.chance import KINDS

    left_out = frozenset(without or ())
    if unknown := left_out - set(KINDS):
        raise SettingsError(
            f"no such kind: {', '.join(sorted(unknown))}",
            place="--without",
            mend=f"Kinds are {', '.join(KINDS)}.",
        )
    if replay:
        _replay(first, minutes, fire, left_out)
    elif left_out:
        raise SettingsError(
            "kinds are left out of one seed only", place="--without", mend="Add --replay."
        )
    else:
        _campaign((first, seeds, minutes, jobs), fire, twice=twice, json=json)


def _replay(seed: int, minutes: float, fire: float, without: frozenset[str]) -> None:
    from finllm_lab.consistency.simulate import simulate

    result = simulate(seed, minutes, without, tell=typer.echo, fire=fire)
    typer.echo(f"trace {result.trace_hash}, {result.checked} entries")
    if result.violation:
        typer.echo(f"violated: {result.violation}")
        raise typer.Exit(1)


def _campaign(plan: tuple[int, int, float, int], fire: float, *, twice: bool, json: bool) -> None:
    from finllm_lab.consistency.campaign import campaign

    with typer.progressbar(length=plan[1], label="seeds", file=sys.stderr) as bar:

        def told(result: "Result") -> None:
            if result.violation:
                typer.echo(f"\nseed {result.seed}: {result.violation}", err=True)
            bar.update(1)

        found = campaign(*plan, fire=fire, twice=twice, told=told)
    for result in found.failed[:1]:
        _explain(result)
    if json:
        print_json(found)
    else:
        _show(found)
    if found.violations or found.differing:
        raise typer.Exit(1)


def _explain(result: "Result") -> None:
    """Show a failing seed's last lines, and the shortest way to see it again."""
    from finllm_lab.consistency.chance import KINDS
    from finllm_lab.consistency.simulate import needed

    typer.echo("\n".join(result.timeline), err=True)
    kinds = needed(result.seed, result.minutes, result.fire)
    left_out = "".join(f" --without '{kind}'" for kind in KINDS if kind not in kinds)
    typer.echo(f"violated: {result.violation}", err=True)
    typer.echo(f"it takes: {', '.join(kinds) or 'no fault at all'}", err=True)
    plan = f"--first {result.seed} --minutes {result.minutes:g} --fire {result.fire:g}"
    typer.echo(f"finllm_lab consistency {plan} --replay{left_out}", err=True)


def _show(found: "Campaign") -> None:
    typer.echo(
        f"{found.seeds} seeds of {found.minutes:g} minutes: {found.violations} violations,"
        f" {found.checked} entries checked, trace {found.trace_hash}"
    )
    for kind, n in found.happened.items():
        typer.echo(f"  {kind:20s} {n:9d}  {n / found.seeds:8.1f} a seed")
    if found.differing:
        typer.echo(f"another trace the second time: seeds {list(found.differing)}")
