"""`finllm bench`: parse, measure, render."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from finllm.app.options import Config, Json, print_json
from finllm.domain.errors import InputError

if TYPE_CHECKING:
    from finllm.app.bench.edge import EdgeFigures
    from finllm.app.bench.interference import Beside
    from finllm.app.bench.measure import Quiet
    from finllm.app.bench.narrative import NarrativeFigures
    from finllm.app.bench.protocol import ProtocolFigures
    from finllm.app.bench.reasoning import ReasoningFigures

bench_app = typer.Typer(help="How fast it is here, on the real path.", no_args_is_help=True)


@bench_app.command("edge")
def edge(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Frame tapes. Default: the synthetic market.",
            metavar="[TAPE]...",
            show_default=False,
        ),
    ] = None,
    *,
    seconds: Annotated[
        float, typer.Option(help="Seconds of tape measured at 1 x real time.")
    ] = 20.0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the distributions into this PNG.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """From a frame to a forecast row: by stage, in one process, through a worker, beside its peers.

    Leave the machine alone. Takes about four times the seconds of tape and a minute. Peers that are not
    installed are left out: pip install 'fin-llm-inference[bench]' brings them.
    """
    from finllm.app.bench import edge as bench
    from finllm.app.bench.plot import check_drawable
    from finllm.app.bench.plot import plot as draw

    check_drawable(plot)
    console = Console(stderr=True)
    with console.status("starting") as status:
        figures, found = bench.bench_edge(
            bench.Plan(tapes=tuple(tapes or ()), seconds=seconds),
            status.update,
            lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False),
        )
    if plot is not None:
        draw(found, plot)
    if json:
        print_json(figures)
        return
    _show(figures, Console())


def _show(figures: "EdgeFigures", console: Console) -> None:
    table = Table(
        "microseconds", "p50", "p99", "p99.9", "max", "rows", title="frame to forecast row"
    )
    shown = {
        **figures.stages_us,
        "in process": figures.in_process_us,
        **figures.paced,
        **{f"{load.instruments} instruments": load.service_us for load in figures.by_instruments},
    }
    for name, spread in shown.items():
        cells = (spread.p50, spread.p99, spread.p999, spread.max)
        table.add_row(name, *(f"{cell:,.1f}" for cell in cells), f"{spread.n:,}")
    console.print(table)
    _show_peers(figures, console)
    flat = figures.flat_out
    console.print(
        f"flat out {figures.frames_per_s:,.0f} frames/s in process; "
        f"{flat.frames_per_s:,.0f} frames/s through a worker, {flat.conflated_share:.1%} conflated; "
        f"with {figures.by_instruments[-1].instruments} instruments "
        f"{figures.by_instruments[-1].frames_per_s:,.0f} frames/s"
    )
    _show_quiet(figures.quiet, console)


def _show_quiet(looks: "dict[str, Quiet]", console: Console) -> None:
    for when, quiet in looks.items():
        console.print(
            f"the machine {when}: {quiet.lost_share:.1%} of the time lost to others, "
            f"{quiet.longest_us:,.0f} us at a time at most"
        )


def _show_peers(figures: "EdgeFigures", console: Console) -> None:
    table = Table(
        "microseconds", "against", "p50", "p99", "ours p50", "ours p99", "p50, times ours", "target",
        title="peers on the same frames, with the same model, in turns with ours",
    )  # fmt: skip
    for name, peer in figures.peers.items():
        cells = (peer.p50, peer.p99, peer.ours_p50, peer.ours_p99, peer.ratio_p50, peer.target)
        table.add_row(name, peer.against, *(f"{cell:,.1f}" for cell in cells))
    console.print(table)
    for name, facts in figures.context.items():
        stated = ", ".join(f"{key} {value}" for key, value in facts.items())
        console.print(f"for scale, {name}: {stated}")


@bench_app.command("narrative")
def narrative(
    *,
    documents: Annotated[
        Path | None,
        typer.Option(
            help="The stream, and whose words headlines are made of. Default: the newswire.",
            metavar="FILE",
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help="auto: installed weights if there are any; hashing: none; or a folder of weights."
        ),
    ] = "auto",
    headlines: Annotated[int, typer.Option(help="Distinct headlines.", min=100)] = 1_000,
    most: Annotated[int, typer.Option(help="Documents of the stream.", min=100)] = 5_000,
    edge_pairs: Annotated[
        int, typer.Option(help="Pairs of edge runs, beside a busy room and alone; 0 = none.", min=0)
    ] = 10,
    flood: Annotated[
        int, typer.Option(help="Documents to hold memory against, such as 1000000.", min=0)
    ] = 0,
    config: Config = None,
    json: Json = False,
) -> None:
    """From a line to its notices: distinct headlines, a stream with copies, by stage, beside the edge.

    One document at a time, on one thread. Leave the machine alone; takes some three minutes.

    Example: finllm bench narrative --documents posts.jsonl --flood 1000000 --json
    """
    from finllm.app.bench.narrative import Plan, bench_narrative
    from finllm.app.settings import load_settings

    plan = Plan(
        documents=documents,
        settings=load_settings(config).narrative,
        encoder=encoder,
        headlines=headlines,
        most=most,
        edge_pairs=edge_pairs,
        flood=flood,
    )
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("starting", total=None)
        figures = bench_narrative(
            plan,
            lambda said: bar.update(task, description=said),
            lambda lines: bar.track(lines, total=flood, task_id=task),
        )
    if json:
        print_json(figures)
        return
    _show_narrative(figures, Console())


def _show_narrative(figures: "NarrativeFigures", console: Console) -> None:
    targets = figures.targets
    table = Table(
        "", "n", "copies", "per s", "low to high", "goal", "per CPU s", "p50 ms", "p99 ms", "goal",
        title=f"line to notices, one at a time, read by {figures.encoder}",
    )  # fmt: skip
    for name, one in (("headlines", figures.headlines), ("stream", figures.stream)):
        table.add_row(
            name,
            f"{one.documents:,}",
            f"{one.copies:,}",
            f"{one.per_s:,.0f}",
            f"{one.per_s_low:,.0f} - {one.per_s_high:,.0f}",
            f"{targets[f'{name}_per_s']:.0f}",
            f"{one.cpu_per_s:,.0f}",
            f"{one.latency_us.p50 / 1e3:.2f}",
            f"{one.latency_us.p99 / 1e3:.2f}",
            f"{targets['p99_ms']:.0f}",
        )
    console.print(table)
    for name, one in (("headlines", figures.headlines), ("stream", figures.stream)):
        shares = ", ".join(f"{stage} {share:.1%}" for stage, share in one.stages.items())
        console.print(f"time of the {name} by module: {shares}", highlight=False)
    if figures.edge is not None:
        _show_beside(figures.edge, "the room", targets, console)
    if figures.flood is not None:
        flood = figures.flood
        console.print(
            f"flood of {flood.documents:,} in {flood.seconds:,.0f} s: {flood.rss_mb[0]:,.0f} MB before, "
            f"{max(flood.rss_mb):,.0f} at most, {flood.grown_since_full:+.1%} since every table that "
            f"fills was full, at {flood.full_after:,}",
            highlight=False,
        )
        filled = (f"{name} {one.n:,} of {one.most:,}" for name, one in flood.tables.items())
        console.print(f"held at the end: {', '.join(filled)}", highlight=False)
    _show_quiet(figures.quiet, console)


def _show_beside(edge: "Beside", what: str, targets: dict[str, float], console: Console) -> None:
    load = ", ".join(f"{per_s:,.0f} {kind}/s" for kind, per_s in edge.load_per_s.items())
    alone, beside = edge.alone_us, edge.beside_us
    for name, ratio, (low, high), us in (
        ("p50", edge.ratio_p50, edge.ratio_p50_range, (alone.p50, beside.p50)),
        ("p99", edge.ratio_p99, edge.ratio_p99_range, (alone.p99, beside.p99)),
    ):
        console.print(
            f"edge {name} beside {what} at {load}: "
            f"x {ratio:.3f} (<= {targets[f'edge_{name}_ratio']}), "
            f"{low:.2f} to {high:.2f} over {len(edge.pairs)} pairs; "
            f"{us[0]:,.1f} us alone, {us[1]:,.1f} beside it",
            highlight=False,
        )


@bench_app.command("reasoning")
def reasoning(
    *,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="Run whose questions are asked again. Default: a synthetic market is walked.",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Minutes of the synthetic market.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Its seed.")] = 31,
    most: Annotated[int, typer.Option(help="Verdicts.", min=20)] = 1_000,
    config: Config = None,
    json: Json = False,
) -> None:
    """From a question with its pack to a verdict, and to its trace: the embedded reasoner, on one thread.

    Also whether the same pack gives the same bytes, and how often leaving out what is cited moves a verdict
    more than leaving out as much of what is not.

    Example: finllm bench reasoning --run runs/demo-0001 --json
    """
    from finllm.app.bench.reasoning import Plan, bench_reasoning
    from finllm.app.settings import load_settings

    console = Console(stderr=True)
    plan = Plan(run=run, settings=load_settings(config), minutes=minutes, seed=seed, most=most)
    with console.status("starting") as status:
        figures = bench_reasoning(plan, status.update)
    if json:
        print_json(figures)
        return
    _show_reasoning(figures, Console())


def _show_reasoning(figures: "ReasoningFigures", console: Console) -> None:
    targets = figures.targets
    table = Table("milliseconds", "p50", "p99", "max", "n", title=figures.reasoner)
    shown = {
        f"a verdict (p50 <= {targets['verdict_p50_ms']:g})": figures.verdict_us,
        "the same, of processor time": figures.verdict_cpu_us,
        "and its document read": figures.read_and_verdict_us,
        "and its document read, of processor time": figures.read_and_verdict_cpu_us,
        "and its trace": figures.explained_us,
    }
    for one in figures.by_pieces:
        told = f"up to {one.most} pieces" if one.most else "more pieces"
        shown |= {f"a verdict, {told}": one.verdict_us, f"and its trace, {told}": one.explained_us}
    for name, spread in shown.items():
        if spread is not None:
            cells = (f"{us / 1e3:.2f}" for us in (spread.p50, spread.p99, spread.max))
            table.add_row(name, *cells, f"{spread.n:,}")
    console.print(table)
    ablation = figures.ablation
    low, high = ablation.interval
    console.print(
        f"{figures.differing} of {figures.verdicts:,} verdicts differ when asked again; leaving out what is "
        f"cited moves more in {ablation.share:.1%} [{low:.1%}, {high:.1%}] of {ablation.cases:,} cases "
        f"(>= {targets['cited_moves_more']:.0%}), by {ablation.cited_p50:.4f} against "
        f"{ablation.uncited_p50:.4f} (medians)",
        highlight=False,
    )
    _show_quiet(figures.quiet, console)


@bench_app.command("protocol")
def protocol(
    *,
    seeds: Annotated[
        str, typer.Option(help="Seeds of the worlds, such as 811,812.", metavar="LIST")
    ] = "811,812",
    days: Annotated[int, typer.Option(help="Days of each world.", min=1)] = 2,
    warm_days: Annotated[
        int, typer.Option(help="Days of another world in which the gate learns before.", min=0)
    ] = 2,
    reasoner: Annotated[
        str, typer.Option(help="Simulated: embedded, small or ensemble.")
    ] = "ensemble",
    moved_days: Annotated[
        int, typer.Option(help="Days of each world with a parameter moved; 0 = none.", min=0)
    ] = 0,
    edge_pairs: Annotated[
        int,
        typer.Option(
            help="Pairs of edge runs, beside a busy slow path and alone; 0 = none.", min=0
        ),
    ] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curve into this PNG.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """What asking is worth: the gate and other policies in worlds of which everything is known.

    The reasoner is simulated: nothing is said here of a language model's judgement. A budget is the share
    that a policy may take: of the calls, a cascade's of the tokens; gain is a share of always asking's. Takes
    some 15 s a day of a world. Leave the machine alone for pairs of edge runs, which take half a minute each.

    Example: finllm bench protocol --seeds 811 --days 1 --warm-days 1 --json
    """
    from finllm.app.bench import protocol as bench
    from finllm.app.bench.plot import check_drawable

    check_drawable(plot)
    try:
        chosen = tuple(int(seed) for seed in seeds.split(","))
    except ValueError as error:
        raise InputError(
            f"{seeds!r} is no list of seeds", place="--seeds", mend="Write 811,812."
        ) from error
    plan = bench.Plan(
        seeds=chosen,
        days=days,
        warm_days=warm_days,
        mind=reasoner,
        moved_days=moved_days,
        edge_pairs=edge_pairs,
    )
    console = Console(stderr=True)
    with console.status("starting") as status:
        figures = bench.bench_protocol(plan, status.update)
    if plot is not None:
        bench.plot(figures, plot)
    if json:
        print_json(figures)
        return
    _show_protocol(figures, Console())


def _show_protocol(figures: "ProtocolFigures", console: Console) -> None:
    console.print(_curve(figures))
    decide = figures.stages["decide"]
    console.print(
        f"{figures.n_eff:,} independent forecasts; a decision takes {decide.p50:.0f} us "
        f"(p99 {decide.p99:.0f})",
        highlight=False,
    )
    for one in figures.moved:
        console.print(
            f"{one.policy}, {one.parameter} x {one.factor}: {one.gain_share:.1%} of the gain "
            f"at {one.call_share:.1%} of the calls, {one.token_share:.1%} of the tokens",
            highlight=False,
        )
    if figures.edge_beside is not None:
        _show_beside(figures.edge_beside, "the slow path", figures.targets, console)
        _show_quiet(figures.quiet, console)
    console.print(_at_main_budget(figures), highlight=False)


def _curve(figures: "ProtocolFigures") -> Table:
    """Return the curve as a table of at most 80 columns, ruled off by budget."""
    table = Table(
        title=f"{figures.forecasts:,} forecasts, {figures.documents:,} documents; "
        f"reasoner {figures.reasoner} ({figures.judgement})",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("budget", justify="right")
    table.add_column("policy")
    for name in ("calls", "tokens", "gain", "harm", "outlook", "late", "p"):
        table.add_column(name, justify="right")
    budgets = [point.budget for point in figures.curve]
    for point, following in zip(figures.curve, [*budgets[1:], None], strict=True):
        table.add_row(
            "-" if point.budget is None else f"{point.budget:.0%}",
            point.policy,
            f"{point.call_share:.1%}",
            f"{point.token_share:.1%}",
            f"{point.gain_share:.1%}",
            f"{point.harm_share:.1%}",
            f"{point.outlook_share:.1%}",
            f"{point.late}",
            "-" if point.p_value is None else f"{point.p_value:.1e}",
            end_section=following != point.budget,
        )
    return table


def _at_main_budget(figures: "ProtocolFigures") -> str:
    """Return what the gate, and the cascade where there is one, reach at the budget that is reported."""
    from finllm.app.bench.protocol import CASCADE, GATE, MAIN

    said = [
        f"the {point.policy} {point.gain_share:.1%} and {point.oracle_share:.1%}"
        for point in figures.curve
        if point.budget == MAIN and point.policy in (GATE, CASCADE)
    ]
    return f"of always asking's gain and the oracle's, at a budget of {MAIN:.0%}: {', '.join(said)}"
