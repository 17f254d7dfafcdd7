"""The command line: parse, call one function, render."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from finllm.app.attack_cli import attack_command
from finllm.app.bench.cli import bench_app
from finllm.app.link_cli import link
from finllm.app.llm_cli import llm_app
from finllm.app.model_cli import model_app
from finllm.app.narrative_cli import narrative_app
from finllm.app.options import Config, Json, instant, print_json
from finllm.app.recall_cli import recall
from finllm.app.route_cli import route
from finllm.app.source_cli import ingest, source_app
from finllm.domain.errors import FinllmError, InputError

if TYPE_CHECKING:
    from finllm.app.records import Proof
    from finllm.app.settings import Settings

RUNS = Path("runs")
app = typer.Typer(
    name="finllm",
    help="Forecasts at two speeds: the edge says first, the evidence confirms, refines or retracts.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
ledger_app = typer.Typer(help="The append-only record.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
feed_app = typer.Typer(help="Market feeds.", no_args_is_help=True)
app.add_typer(feed_app, name="feed")
app.add_typer(bench_app, name="bench")
app.add_typer(llm_app, name="llm")
app.add_typer(model_app, name="model")
app.add_typer(narrative_app, name="narrative")
app.add_typer(source_app, name="source")
app.command("ingest")(ingest)
app.command("attack")(attack_command)
app.command("link")(link)
app.command("recall")(recall)
app.command("route")(route)

Run = Annotated[
    Path | None,
    typer.Option(
        "--run", help="Folder of the run. Default: the newest under ./runs.", metavar="RUN"
    ),
]


class Shape(StrEnum):
    """How a story is told."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


Venue = Annotated[
    str,
    typer.Option(
        "--venue", help="Whose messages these are, where the file does not tell.", metavar="NAME"
    ),
]

err = Console(stderr=True)
out = Console()


@app.callback(invoke_without_command=True)
def _root(
    *, show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    if show_version:
        out.print(f"finllm {version('fin-llm-inference')}", highlight=False)
        raise typer.Exit


@app.command()
def demo(
    *,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic market and newswire.")] = 7,
    minutes: Annotated[float, typer.Option(help="Simulated minutes.")] = 10.0,
    speed: Annotated[float, typer.Option(help="Times real time; 0 = as fast as possible.")] = 20.0,
    run: Annotated[
        Path | None, typer.Option("--out", help="Folder for the run.", metavar="RUN")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """See forecasts appear, refined and retracted: a synthetic market and newswire with known truth.

    Needs no key, no network and no GPU. Shows about 30 seconds of live view, then the score table
    against three baselines, then what to try next.
    """
    from finllm.app.demo import run_demo, show_demo

    settings = _settings(config)
    with _folder(run, "demo") as folder:
        result = run_demo(
            settings,
            folder,
            seed=seed,
            minutes=minutes,
            speed=speed,
            quiet=json,
            on_failure=_recording_stopped,
        )
    if json:
        print_json(result)
    else:
        show_demo(result, out)


@app.command()
def replay(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Frame tapes, lines of '<receive time> <JSON>', or captures, plain or gzip; or the "
            "folder of a run that recorded its frames.",
            metavar="[TAPE|RUN]...",
            show_default=False,
        ),
    ] = None,
    *,
    bars: Annotated[
        Path | None, typer.Option(help="Bars as CSV: minute, hour or day.", metavar="FILE")
    ] = None,
    documents: Annotated[
        Path | None, typer.Option(help="Documents as JSON lines or CSV.", metavar="FILE")
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option(help="Only this symbol's bars; repeat for more.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="Emit from this instant on; earlier input warms up.", metavar="T"
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Use nothing received at or after this.", metavar="T")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Run whose language model's answers are used; nobody is asked.", metavar="RUN"
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the run; default runs/replay-NNNN.", metavar="RUN"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Inference processes; 0 = in this one.", min=0, max=64)
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Most frames taken at a time.", min=1, max=65536)
    ] = None,
    venue: Venue = "",
    config: Config = None,
    json: Json = False,
) -> None:
    """Run the whole walk on recorded input, in virtual time, and keep the run.

    The same input gives the same digest, whatever the chunk size, hash seed or worker count.

    Example: finllm replay btc.ndjson.gz --documents news.jsonl --out runs/mine
    """
    from finllm.app.progress import replay_progress
    from finllm.app.recording import check_run_folder
    from finllm.app.replay import Inputs
    from finllm.app.replay import replay as replay_inputs
    from finllm.app.view import show_summary

    inputs = Inputs(
        tapes=tuple(tapes or ()),
        venue=venue,
        bars=bars,
        documents=documents,
        symbols=frozenset(s.upper() for one in symbol or () for s in one.split(",")),
        since=0 if since is None else instant(since, "--from"),
        answers=None if answers is None else check_run_folder(answers),
    )
    if until is not None:
        inputs = msgspec.structs.replace(inputs, until=instant(until, "--until"))
    settings = _settings(config, workers=workers, chunk=chunk)
    with _folder(run, "replay") as folder, replay_progress(err) as progress:
        summary = replay_inputs(
            inputs, settings, folder, progress=progress, on_failure=_recording_stopped
        )
    if json:
        print_json(summary)
    else:
        show_summary(summary, out)


For = Annotated[
    float | None,
    typer.Option("--for", help="End after so many seconds; else with Ctrl-C.", metavar="SECONDS"),
]


@app.command("run")
def run_command(
    *,
    config: Config = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            help="File that documents are appended to, as JSON lines; followed.", metavar="FILE"
        ),
    ] = None,
    seconds: For = None,
    name: Annotated[
        str, typer.Option(help="Under which finllm.subscribe() finds the rows.")
    ] = "edge",
    run: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the run; default runs/live-NNNN.", metavar="RUN"),
    ] = None,
    json: Json = False,
) -> None:
    """Run live: frames from the venues, forecast rows by isolated workers, documents as they come.

    The settings file says where frames come from, under feed.connections. Every input is journalled before
    it is used, so 'finllm replay RUN' gives the same digest again.

    Example: finllm run --config live.toml --documents news.jsonl
    """
    from finllm.app.feed import streams_of
    from finllm.app.progress import live_progress
    from finllm.app.run import Options, run_live
    from finllm.app.view import show_summary
    from finllm.app.warm import warm_books

    settings = _settings(config)
    streams_of(settings)  # an error in them is told before anything takes time
    warm_books(err)
    with _folder(run, "live") as folder, _until(seconds) as stop, live_progress(err) as told:
        options = Options(
            stop=stop, documents=documents, name=name, told=told, on_failure=_recording_stopped
        )
        summary = run_live(settings, folder, options)
    if json:
        print_json(summary)
    else:
        show_summary(summary, out)


@app.command()
def record(
    *,
    config: Config = None,
    seconds: For = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the recording; default runs/record-NNNN.", metavar="RUN"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Keep the venues' frames as tapes, snapshots included, and forecast nothing.

    Example: finllm record --config live.toml --for 3600 --out runs/monday; finllm replay runs/monday
    """
    from finllm.app.progress import live_progress
    from finllm.app.record import record_live
    from finllm.app.view import show_recorded

    settings = _settings(config)
    with _folder(run, "record") as folder, _until(seconds) as stop, live_progress(err) as told:
        recorded = record_live(
            settings, folder, stop=stop, told=told, on_failure=_recording_stopped
        )
    if json:
        print_json(recorded)
    else:
        show_recorded(recorded, out)


@app.command()
def score(
    run: Annotated[Path | None, typer.Argument(help="Folder of the run.", metavar="[RUN]")] = None,
    *,
    json: Json = False,
) -> None:
    """Score a run: proper scores, skill against three baselines, calibration, refinement ledger.

    Scores are losses: lower is better. Skill is 1 - score / baseline score: above 0 is better than the
    baseline. Intervals are 95 %, by block bootstrap.
    """
    from finllm.app.recording import newest_run
    from finllm.app.records import score_run
    from finllm.audit.report import render

    scores = score_run(run or newest_run(RUNS))
    if json:
        print_json(scores)
    else:
        out.print(render(scores))


@app.command()
def explain(
    forecast_id: Annotated[str, typer.Argument(help="A forecast's id, or the start of it.")],
    *,
    shape: Annotated[
        Shape, typer.Option("--format", help="text, one JSON object, or one page of HTML.")
    ] = Shape.TEXT,
    run: Run = None,
    json: Json = False,
) -> None:
    """Tell one forecast's story: what was said when, what changed it, on which evidence; does it hold.

    Example: finllm explain 35bc7942bebb --format html > why.html
    """
    from finllm.app.recording import newest_run
    from finllm.app.records import story
    from finllm.app.story_page import page
    from finllm.app.view import show_story

    told = story(run or newest_run(RUNS), forecast_id)
    if json or shape is Shape.JSON:
        print_json(told)
    elif shape is Shape.HTML:
        sys.stdout.buffer.write(page(told).encode())
    else:
        show_story(told, out)


@app.command("verify-trace")
def verify_trace(
    forecast_id: Annotated[
        str, typer.Argument(help="A forecast's id, or the start of it.", show_default=False)
    ] = "",
    *,
    every: Annotated[
        Path | None, typer.Option("--all", help="Every trace of this run.", metavar="RUN")
    ] = None,
    run: Run = None,
    json: Json = False,
) -> None:
    """Prove traces from the records alone: numbers, quotes, citations, tilt and transition."""
    from finllm.app.recording import newest_run
    from finllm.app.records import verify_traces

    if not forecast_id and every is None:
        raise InputError(
            "no forecast is named", place="verify-trace", mend="Give an ID or --all RUN."
        )
    proof = verify_traces(every or run or newest_run(RUNS), forecast_id)
    _show_proof(proof, "traces", json=json)


@ledger_app.command("verify")
def ledger_verify(
    run: Annotated[Path | None, typer.Argument(help="Folder of the run.", metavar="[RUN]")] = None,
    *,
    json: Json = False,
) -> None:
    """Check every record against the hash chain, and the chain against its head kept apart."""
    from finllm.app.recording import newest_run
    from finllm.app.records import verify_ledger

    _show_proof(verify_ledger(run or newest_run(RUNS)), "records", json=json)


@feed_app.command("check")
def feed_check(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Tapes or captures of one feed; those of a feed merge.", metavar="FILE..."
        ),
    ],
    *,
    venue: Venue = "",
    json: Json = False,
) -> None:
    """Decode a recording and hold it to its venue's word: numbers, checksums, best bid and offer.

    Passes or fails, and names the line to mend.
    """
    from finllm.app.view import show_feed
    from finllm.market.check import check_feed

    report = check_feed(files, venue)
    if json:
        print_json(report)
    else:
        show_feed(report, out)
    if not report.ok:
        raise typer.Exit(1)


@feed_app.command("simulate")
def feed_simulate(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Tapes of Binance with snapshots, plain or gzip; a synthetic market if none is named.",
            metavar="[TAPE]...",
            show_default=False,
        ),
    ] = None,
    *,
    port: Annotated[
        int, typer.Option(help="Where to listen on 127.0.0.1; 0 = any free one.", min=0, max=65535)
    ] = 9443,
    speed: Annotated[float, typer.Option(help="Times the recorded pace.", min=0.01)] = 1.0,
    fault_every: Annotated[
        float, typer.Option(help="Seconds between faults put in on purpose; 0 = none.", min=0.0)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the faults' order.")] = 7,
    seconds: For = None,
) -> None:
    """Be an exchange: play tapes over a real socket as Binance sends them, to try 'finllm run' on.

    Prints the settings to run with. Faults: lost, doubled, swapped, cut and withheld frames, bursts, late
    and stale snapshots, new numbering, a clock that jumps, a connection that breaks.
    """
    from finllm.app.exchange import Exchange, synthetic_tapes

    with (
        _until(seconds) as stop,
        synthetic_tapes(seed) if not tapes else nullcontext(tapes) as played,
        Exchange(played, port=port, speed=speed, fault_every_s=fault_every, seed=seed) as exchange,
    ):
        out.print(exchange.settings(), highlight=False, markup=False)
        while not stop() and not exchange.done.wait(0.2):
            pass
    err.print(f"{exchange.n_sent:,} frames sent, {len(exchange.faults)} faults", highlight=False)


@app.command()
def warm(*, json: Json = False) -> None:
    """Compile the kernels for this machine, so that the first forecast does not wait for it."""
    from finllm.app.warm import warm_up

    took = warm_up(err)
    if json:
        print_json(took)


def _show_proof(proof: "Proof", what: str, *, json: bool) -> None:
    if json:
        print_json(proof)
    else:
        from finllm.app.view import show_proof

        show_proof(proof, what, out)
    if not proof.ok:
        raise typer.Exit(1)


def _settings(
    path: Path | None, *, workers: int | None = None, chunk: int | None = None
) -> "Settings":
    from finllm.app.settings import load_settings

    settings = load_settings(path)
    given = {k: v for k, v in (("workers", workers), ("chunk", chunk)) if v is not None}
    return msgspec.structs.replace(settings, edge=msgspec.structs.replace(settings.edge, **given))


@contextmanager
def _until(seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether to stop: after a time, or once somebody has asked by Ctrl-C or SIGTERM."""
    asked = threading.Event()
    ends: list[float] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda *_: asked.set()) for one in signals}

    def stop() -> bool:
        if seconds is not None and not ends:
            ends.append(time.monotonic() + seconds)
        return asked.is_set() or (bool(ends) and time.monotonic() >= ends[0])

    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _folder(run: Path | None, prefix: str) -> Iterator[Path]:
    """Yield a new folder for a run; if nothing is written into it, it is taken away again."""
    from finllm.app.recording import new_run_folder

    try:
        if run is not None and run.exists() and any(run.iterdir()):
            raise InputError("is not empty", place=str(run), mend="Name a new folder for the run.")
        folder = new_run_folder(RUNS, prefix) if run is None else run
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot hold a run ({error.strerror or error})",
            place=str(run or RUNS),
            mend="Name a new folder for the run with --out.",
        ) from error
    try:
        yield folder
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def _recording_stopped(why: str) -> None:
    err.print(
        f"[bold red]Recording has stopped:[/] {escape(why)}. Forecasts go on; nothing more is kept."
    )


def main() -> None:
    """Run the command line; errors that teach go to standard error with exit status 2."""
    try:
        app()
    except FinllmError as error:
        err.print(
            f"[bold red]{type(error).__name__}[/] {escape(str(error))}",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
