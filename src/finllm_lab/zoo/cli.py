"""The zoo's commands: parse, call one function, render."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from finllm.app.options import print_json
from finllm.domain.units import NS_PER_MS
from finllm_lab.options import DATA, Data, say

if TYPE_CHECKING:
    from finllm_lab.zoo.compare import Line
    from finllm_lab.zoo.shrink import Shrunk


def zoo(
    *,
    data: Data = DATA,
    on: Annotated[
        str, typer.Option(help="`book`: the Binance tapes; `ticks`: AIG and BAC.")
    ] = "book",
    models: Annotated[
        str,
        typer.Option(help="Names, comma between; empty = all. The plain logistic is always one."),
    ] = "",
    grid_ms: Annotated[
        int, typer.Option(help="Milliseconds between two grid points.", min=1)
    ] = 200,
    ridge: Annotated[float, typer.Option(help="Of the linear fits.")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Of the networks.")] = 6,
    cache: Annotated[bool, typer.Option(help="Whether sessions once built are kept.")] = True,
    note: Annotated[
        bool, typer.Option("--record", help="Enter each trial in docs/experiments.jsonl.")
    ] = False,
) -> None:
    """Fit boosted trees, small networks and students, and hold them against the plain logistic.

    Each training session is left out in turn; nothing else is read. Skill is what the edge would show with
    a model's claims, over its climatology; gain is against the logistic, with its 95 % interval by blocks of
    time.

    Example: finllm_lab zoo --on ticks --models trees,blend --grid-ms 2000
    """
    from finllm_lab.zoo.compare import PLAIN, Zoo, compare
    from finllm_lab.zoo.material import Asked, material
    from finllm_lab.zoo.networks import Schedule

    asked = Asked(on=on, grid_ns=grid_ms * NS_PER_MS, is_cached=cache)
    found = material(data, asked)
    fits = Zoo(found.columns, ridge=ridge, schedule=Schedule(n_epochs=epochs)).fits
    wanted = [name.strip() for name in models.split(",") if name.strip()] or list(fits)
    unknown = [name for name in wanted if name not in fits]
    if unknown:
        raise typer.BadParameter(f"no model is called {unknown[0]!r}; known: {', '.join(fits)}")
    picked = {name: fit for name, fit in fits.items() if name == PLAIN or name in wanted}
    lines = compare(found.parts, found.plan, picked, say)
    for line in lines:
        typer.echo(_rendered(line))
    if note:
        config = {"on": on, "grid_ms": grid_ms, "ridge": ridge, "epochs": epochs}
        _record(on, lines, config, found.data)


def _rendered(line: "Line") -> str:
    gain = line.gain
    return (
        f"{line.horizon:>5} {line.model:22s} n={line.n:6d} skill {100 * line.skill:6.2f} %"
        f" gain {100 * gain.skill:6.2f}"
        f" [{100 * gain.low:.2f}, {100 * gain.high:.2f}] p={gain.p:.3f} of {gain.n_blocks} blocks"
    )


def _record(on: str, lines: "list[Line]", config: dict[str, Any], data: dict[str, str]) -> None:
    from finllm_lab.experiments import record

    for name in dict.fromkeys(line.model for line in lines):
        own = [line for line in lines if line.model == name]
        scores = {f"skill {line.horizon}": round(line.skill, 5) for line in own}
        scores |= {f"gain {line.horizon}": round(line.gain.skill, 5) for line in own}
        what = f"zoo: {name}, each training session left out in turn"
        record("trial", on, what, config=config, data=data, scores=scores)
    sys.stderr.write(f"{len(lines)} scores entered\n")


def heavier(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    model: Annotated[str, typer.Option(help="`trees` or `dense`.")] = "trees",
    data: Data = DATA,
    grid_ms: Annotated[
        int, typer.Option(help="Milliseconds between two grid points.", min=1)
    ] = 200,
    ridge: Annotated[float, typer.Option(help="Of the linear quantiles.")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Of the network.")] = 6,
) -> None:
    """Fit a heavier order-book model on all training tapes and write it as an artifact.

    Priors and calibration are those of the shipped book model, whose tapes are the same.

    Example: finllm_lab train heavier --model dense --out models/dense; finllm model check models/dense
    """
    from finllm.edge.artifact import SHIPPED, read_manifest
    from finllm_lab.export import write_graph
    from finllm_lab.zoo.compare import Zoo
    from finllm_lab.zoo.material import Asked, material
    from finllm_lab.zoo.networks import Schedule

    found = material(data, Asked(grid_ns=grid_ms * NS_PER_MS))
    zoo_of = Zoo(found.columns, ridge=ridge, schedule=Schedule(n_epochs=epochs))
    graphs = {"trees": zoo_of.tree_graph, "dense": zoo_of.dense_graph}
    if model not in graphs:
        raise typer.BadParameter(f"{model!r} cannot be served; known: {', '.join(graphs)}")
    shipped = read_manifest(SHIPPED["book"])
    card = msgspec.structs.replace(
        shipped.card,
        scores=("not scored on the validation part; docs/lab-log.md says what leaving out showed",),
        limits=(*shipped.card.limits[:2], f"{model}: chosen for nothing but comparison"),
    )
    manifest = msgspec.structs.replace(shipped, name=f"book-{model}", card=card)
    made = write_graph(out, manifest, graphs[model](found.parts))
    typer.echo(f"{made.version} in {out}")


def shrink(
    artifact: Annotated[Path, typer.Argument(help="Folder of the artifact.", metavar="ARTIFACT")],
    *,
    data: Data = DATA,
    on: Annotated[
        str, typer.Option(help="`book`: the Binance tapes; `ticks`: AIG and BAC.")
    ] = "book",
    grid_ms: Annotated[
        int, typer.Option(help="Milliseconds between two grid points.", min=1)
    ] = 200,
    ridge: Annotated[float, typer.Option(help="Of the linear fits.")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Of the networks.")] = 6,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the frontier into this SVG or PNG.", metavar="FILE")
    ] = None,
    at: Annotated[str, typer.Option(help="Horizon of the plot.")] = "1s",
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a variant on standard output.")
    ] = False,
) -> None:
    """Make a linear or dense order-book model smaller in every way known here, and show the price.

    int8 (static, dynamic), pruning by magnitude and by columns, distillation: bytes, microseconds of a row
    alone, joules, and the skill lost on training sessions left out, with its 95 % interval.

    Example: finllm_lab shrink src/finllm/edge/artifacts/book --plot frontier.svg
    """
    from finllm_lab.zoo.compare import Zoo
    from finllm_lab.zoo.frontier import draw
    from finllm_lab.zoo.material import Asked, material
    from finllm_lab.zoo.networks import Schedule
    from finllm_lab.zoo.shrink import shrink as measure

    found = material(data, Asked(on=on, grid_ns=grid_ms * NS_PER_MS))
    known = [horizon.name for horizon in found.plan.horizons]
    if plot is not None and at not in known:
        raise typer.BadParameter(f"--at {at}: no such horizon; known: {', '.join(known)}")
    zoo_of = Zoo(found.columns, ridge=ridge, schedule=Schedule(n_epochs=epochs))
    shrunk = measure(artifact, found, zoo_of, say)
    for one in shrunk:
        if json:
            print_json(one)
        else:
            typer.echo(_priced(one))
    if plot is not None:
        draw(shrunk, at, plot)


def _priced(one: "Shrunk") -> str:
    cost = one.cost
    batch = "" if cost.is_batch_invariant else "; one row at a time only"
    lost = ", ".join(
        f"{name} {100 * gain.skill:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"
        for name, gain in one.gains.items()
    )
    return (
        f"{cost.name:14s} {cost.way:12s} {cost.size:7d} B  p50 {cost.p50_us:6.1f} p99 {cost.p99_us:7.1f} us"
        f"  {cost.joules_per_million:7.1f} J/M rows ({cost.energy_by}){batch}\n    skill {lost}"
    )
