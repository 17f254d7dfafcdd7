"""`finllm llm`: parse, probe, render."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finllm.app.options import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finllm.reasoning.ensemble.settings import MemberSettings
    from finllm.reasoning.llm.probe import EndpointReport
    from finllm.reasoning.llm.settings import LlmSettings

llm_app = typer.Typer(help="Language models that the slow path asks.", no_args_is_help=True)


@llm_app.callback()
def _root() -> None:
    """Language models that the slow path asks."""


@llm_app.command("check")
def check(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL|FILE]",
            help="Such as http://localhost:8000/v1 or model.gguf; the settings' own if left out.",
        ),
    ] = None,
    *,
    model: Annotated[
        str, typer.Option(help="As the endpoint calls it; the settings' own if left out.")
    ] = "",
    api_key_env: Annotated[
        str, typer.Option(help="Name of the environment variable that holds the key.")
    ] = "",
    n: Annotated[
        int, typer.Option("--number", "-n", help="Answers to time.", min=2, max=1_000)
    ] = 10,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file with a table reasoning.llm.", metavar="FILE"),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Find out what an endpoint can do: schema, speed, prefixes, hanging up, the same answer twice.

    A model's file in GGUF is served by a llama.cpp of our own (extra `llm`). Says which horizons it is
    quick enough for. With members of an ensemble in the settings and no address, each is checked in turn.
    Exit status 1 if one cannot be asked at all.

    Example: finllm llm check http://localhost:8000/v1 --model qwen3-8b
    """
    from finllm.app.settings import load_settings
    from finllm.domain.errors import SettingsError

    reasoning = load_settings(config).reasoning
    if reasoning.member and url is None and not model:
        _check_members(reasoning.member, n, json=json)
        return
    held = reasoning.llm
    is_file = url is not None and url.endswith(".gguf")
    settings = msgspec.structs.replace(
        held,
        base_url=held.base_url if url is None else "" if is_file else url,
        gguf=held.gguf if url is None else url if is_file else "",
        model=model or held.model,
        api_key_env=api_key_env or held.api_key_env,
    )
    if not settings.is_on:
        raise SettingsError("names no endpoint", place="llm check", mend="Give its address.")
    report = _probed(settings, n)
    if json:
        _write(_told(report))
    else:
        _show(report, Console())
    if not report.ok:
        raise typer.Exit(1)


def _check_members(members: "Sequence[MemberSettings]", n: int, *, json: bool) -> None:
    """Check each member of an ensemble, one after the other."""
    console = Console()
    reports = {}
    for member in members:
        report = reports[member.name] = _probed(member, n)
        if not json:
            parts = (member.provider, member.family, *member.languages, *member.markets)
            about = ", ".join(part for part in parts if part)
            console.print(Text(f"{member.name}: {about or 'asked about everything'}", "bold"))
            _show(report, console)
    ok = all(report.ok for report in reports.values())
    if json:
        _write({"ok": ok, "members": {name: _told(report) for name, report in reports.items()}})
    if not ok:
        raise typer.Exit(1)


def _probed(settings: "LlmSettings", n: int) -> "EndpointReport":
    """Return what was found out about an endpoint, or about a model's file served for it."""
    from finllm.app.settings import secret
    from finllm.edge.artifact import SHIPPED
    from finllm.edge.bank import read_bank
    from finllm.reasoning.llm.local import Local
    from finllm.reasoning.llm.probe import probe

    horizons = [one for name in SHIPPED for one in read_bank(SHIPPED[name]).horizons]
    key = secret(settings.api_key_env)
    with Local(settings) if settings.gguf else nullcontext() as local:
        socket = "" if local is None else local.socket
        return probe(settings, key=key, horizons=horizons, n=n, socket=socket)


def _told(report: "EndpointReport") -> dict[str, Any]:
    return msgspec.structs.asdict(report) | {"ok": report.ok}


def _write(told: dict[str, Any]) -> None:
    """Write one JSON object; what was never measured has no number: msgspec writes null for infinity."""
    print_json(told)


def _show(report: "EndpointReport", console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for one in report.checks:
        bad = Text("fails", "bold red") if one.is_needed else Text("no", "yellow")
        table.add_row(
            Text("yes", "green") if one.ok else bad,
            one.name,
            Text(f"{one.figure}. {one.mend}" if one.mend else one.figure),
        )
    console.print(table)
    served = ", ".join(report.horizons) or "none of the models' own; they get the outlook alone"
    from_s = f" from {report.least_horizon_s:,.1f} s on" if math.isfinite(report.p95_ms) else ""
    console.print(f"horizons{from_s}: {served}", highlight=False)
    console.print("[green]pass[/]" if report.ok else "[bold red]fail[/]")
