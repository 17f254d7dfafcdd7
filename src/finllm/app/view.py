"""What a person sees: summaries, stories and proofs as text. Renders; decides nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from finllm.app.records import Proof, Story
from finllm.domain.checks import Check
from finllm.domain.forecast import Forecast, Triple
from finllm.domain.trace import Trace
from finllm.domain.units import NS_PER_MS, iso

if TYPE_CHECKING:
    from finllm.app.record import Recorded
    from finllm.app.replay import Documents, Intake, Live, Summary
    from finllm.market.check import FeedReport

_LABELS = ("down", "flat", "up")
_COLOURS = ("red", "white", "green")


def show_checks(checks: Sequence[Check], console: Console) -> None:
    """Print what was found promise by promise, and whether all hold."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for one in checks:
        verdict = Text("holds", "green") if one.ok else Text("fails", "bold red")
        table.add_row(
            verdict, one.name, Text(f"{one.figure}. {one.mend}" if one.mend else one.figure)
        )
    console.print(table)
    console.print("[green]pass[/]" if all(one.ok for one in checks) else "[bold red]fail[/]")


def bar(p: Triple, width: int = 24) -> Text:
    """Return probabilities as one coloured bar: red down, white flat, green up."""
    down, up = round(p[0] * width), round(p[2] * width)
    text = Text()
    for n, colour in zip((down, max(0, width - down - up), up), _COLOURS, strict=True):
        text.append("█" * n, style=colour if colour != "white" else "grey50")
    return text


def numbers(p: Triple) -> str:
    """Return probabilities as `down 0.31  flat 0.40  up 0.29`."""
    return "  ".join(f"{name} {value:.3f}" for name, value in zip(_LABELS, p, strict=True))


def show_summary(summary: "Summary", console: Console) -> None:
    """Print what a replay read, dropped, served and said."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    documents = summary.documents
    for name, text in _input_rows(summary):
        table.add_row(name, text)
    if summary.book_checks.done:
        equal, done = summary.book_checks.equal, summary.book_checks.done
        table.add_row("book checks", f"{equal:,} of {done:,} equal to the venue's own touch")
    table.add_row("gaps", f"{summary.gaps:,}")
    table.add_row("forecasts", f"{summary.forecasts:,} records from {summary.rows:,} rows")
    for name, text in _said_rows(summary):
        table.add_row(name, text)
    table.add_row("speed", f"{summary.speed_x:,.0f} x real time ({summary.wall_s:.1f} s)")
    for name, text in [*_live_rows(summary.live), *_member_rows(summary.members)]:
        table.add_row(name, text)
    if borne := _counts(summary.incidents):
        table.add_row("borne", borne)
    table.add_row("recording", summary.recording)
    table.add_row("digest", summary.digest)
    table.add_row("run", summary.run)
    console.print(table)
    for note in summary.notes:
        console.print(f"  note: {escape(note)}", highlight=False, style="yellow")
    for name, place in {**summary.frames.places, **summary.bars.places, **documents.places}.items():
        console.print(f"  first [bold]{escape(name)}[/]: {escape(place)}", highlight=False)
    console.print(f"\nNext: finllm score {summary.run}", highlight=False)


def show_recorded(recorded: "Recorded", console: Console) -> None:
    """Print what a recording took in."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    dropped = "".join(f"; dropped {n:,} {why}" for why, n in recorded.dropped.items())
    table.add_row("frames", f"{recorded.frames:,} kept, {recorded.used:,} used{dropped}")
    table.add_row("instruments", ", ".join(recorded.instruments) or "none")
    table.add_row("gaps", f"{recorded.gaps:,}")
    table.add_row("feed", _counts(recorded.feed))
    table.add_row("recording", recorded.recording)
    table.add_row("run", recorded.run)
    console.print(table)
    console.print(f"\nNext: finllm replay {recorded.run}", highlight=False)


def _intake(intake: "Intake") -> str:
    parts = [f"{intake.read:,} read, {intake.used:,} used"]
    parts += [f"dropped {n:,} {why}" for why, n in intake.dropped.items()]
    parts += [f"noted {n:,} {what}" for what, n in intake.noted.items()]
    return "; ".join(parts)


def _input_rows(summary: "Summary") -> list[tuple[str, str]]:
    market = (("frames", summary.frames), ("bars", summary.bars))
    rows = [(name, _intake(intake)) for name, intake in market if intake.read]
    if summary.documents.read:
        rows.append(("documents", _documents(summary.documents)))
        rows += [("memory", _counts(one)) for one in (summary.memory,) if one is not None]
    return rows


def _said_rows(summary: "Summary") -> list[tuple[str, str]]:
    r = summary.revisions
    revised = (
        f"{r.applied:,} applied, {r.superseded:,} superseded, {r.late:,} late, {r.refused:,} refused; "
        f"gate: {summary.escalated:,} escalated, {summary.held:,} held"
    )
    rows = [("revisions", revised)]
    if traces := _counts(summary.traces):
        rows.append(("traces", traces))
    for key, offset in summary.clock_offset_ms.items():
        rows.append(("clock", f"source {key}: ours less the venue's {offset:+,.1f} ms (median)"))
    return rows


def _live_rows(live: "Live | None") -> list[tuple[str, str]]:
    if live is None:
        return []
    served = (
        f"{live.handed_over:,} rows handed over, {live.served:,} served, "
        f"{live.conflated:,} replaced by newer ones; {live.overrun:,} overrun, "
        f"{live.late_horizons:,} horizons over before their row came back, "
        f"{live.worker_falls:,} workers lost"
    )
    return [("feed", _counts(live.feed)), ("workers", served)]


def _member_rows(members: dict[str, dict[str, int]]) -> list[tuple[str, str]]:
    return [
        (name, ", ".join(f"{n:,} {end}" for end, n in ends.items()) or "never asked")
        for name, ends in members.items()
    ]


def _documents(documents: "Documents") -> str:
    refused = ", ".join(f"{n:,} {why}" for why, n in documents.refused.items())
    parts = [f"{documents.read:,} read, {documents.admitted:,} admitted"]
    parts.append(f"refused: {refused or 'none'}")
    parts += [f"noted {n:,} {what}" for what, n in documents.noted.items()]
    return "; ".join(parts)


def _counts(record: msgspec.Struct) -> str:
    """Return a record of counts as text, those that are not zero."""
    counts = msgspec.structs.asdict(record)
    numbers = {what.replace("_", " "): n for what, n in counts.items() if isinstance(n, int) and n}
    return ", ".join(f"{n:,} {what}" for what, n in numbers.items())


def show_proof(proof: Proof, what: str, console: Console) -> None:
    """Print whether a check holds, and the first failures."""
    if proof.ok:
        console.print(f"[green]holds[/]: {proof.checked:,} {what} checked")
    else:
        n = len(proof.failures)
        console.print(f"[bold red]does not hold[/]: {n:,} failures in {proof.checked:,} {what}")
    for failure in proof.failures[:20]:
        console.print(f"  {escape(failure.id)}: {escape(failure.why)}", highlight=False)
    for note in proof.notes:
        console.print(f"  note: {escape(note)}", highlight=False, style="dim")


def show_story(story: Story, console: Console) -> None:
    """Print one forecast's versions in order, each with its why."""
    first = story.first
    console.print(
        f"[bold]{escape(first.instrument)}[/] {first.horizon} ahead, issued {iso(first.ts_emit)}, "
        f"valid until {iso(first.valid_until)}",
        highlight=False,
    )
    console.print(
        f"flat band ±{first.band_bps:.4f} bps, regime {first.regime}, model {first.model_version}, "
        f"row {first.row_seq}, id {first.forecast_id}",
        highlight=False,
        style="dim",
    )
    _version(first, "version 1, the edge's", console)
    verdicts = {v.verdict_id: v for v in story.verdicts}
    traces = {t.verdict_id: t for t in story.traces}
    for revision in story.revisions:
        after = f"+{(revision.ts - first.ts_emit) / NS_PER_MS:,.1f} ms"
        verdict = verdicts.get(revision.verdict_id)
        action = verdict.action if verdict else "a verdict that is missing from the ledger"
        if revision.forecast is None:
            console.print(f"{after}: {action} was {revision.applied}: {revision.reason}")
            continue
        _version(revision.forecast, f"version {revision.version}, {after}: {action}", console)
        trace = traces.get(revision.verdict_id)
        if trace is not None:
            _why(trace, console)
    _ending(story, console)
    show_proof(story.proof, "revisions", console)


def _why(trace: Trace, console: Console) -> None:
    if trace.headline:
        console.print(f"  [italic]{escape(trace.headline)}[/]", highlight=False)
    if trace.refused:
        console.print(f"  [bold red]refused[/]: {escape(trace.refused)}", highlight=False)
    for statement in trace.statements:
        said = escape(statement.text)
        if statement.struck:
            said = f"[strike]{said}[/] [yellow]struck: {escape(statement.struck)}[/]"
        console.print(f"   - {said}", highlight=False)


def _version(forecast: Forecast, title: str, console: Console) -> None:
    line = Text(f"{title:<44} ")
    line.append_text(bar(forecast.emitted))
    line.append(f"  {numbers(forecast.emitted)}")
    console.print(line, soft_wrap=True)


def _ending(story: Story, console: Console) -> None:
    if story.closing is not None:
        console.print(
            f"ended as [bold]{story.closing.status}[/] at version {story.closing.version}"
        )
    outcome = story.outcome
    if outcome is None:
        console.print("outcome: not resolved in this run")
    elif outcome.label < 0:
        console.print(f"outcome: void, {outcome.void}")
    else:
        console.print(
            f"outcome: [bold]{_LABELS[outcome.label]}[/], {outcome.return_bps:+.3f} bps, "
            f"known at {iso(outcome.ts_resolved)}",
            highlight=False,
        )


def show_feed(report: "FeedReport", console: Console) -> None:
    """Print what a feed's check found, the verdict last."""
    frames = report.frames
    dropped = ", ".join(f"{n:,} {why}" for why, n in frames.dropped.items())
    console.print(f"{frames.read:,} messages, {frames.used:,} used; dropped: {dropped or 'none'}")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("instrument", "tick", "lot", "rows", "touches", "checksums", "gaps", "rule"):
        table.add_column(name, justify="left" if name in {"instrument", "rule"} else "right")
    for stream in report.streams:
        table.add_row(
            stream.instrument,
            f"{stream.tick_size:g}",
            f"{stream.lot_size:g}",
            f"{sum(stream.rows.values()):,}",
            f"{stream.touches.equal:,}/{stream.touches.done:,}",
            f"{stream.checksums.equal:,}/{stream.checksums.done:,}",
            f"{stream.gaps:,}",
            "none" if stream.is_unverified else "held",
        )
    console.print(table)
    for complaint in report.complaints:
        console.print(
            Text(f"{complaint.what} x {complaint.count:,} at {complaint.place}. {complaint.mend}"),
            soft_wrap=True,
        )
    console.print("[green]pass[/]" if report.ok else "[bold red]fail[/]")
