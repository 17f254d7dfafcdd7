"""The live terminal view: forecasts as they appear, and what the slow path makes of them."""

from collections import Counter, deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from finllm.app.view import bar
from finllm.domain.evidence import Document, Refusal
from finllm.domain.forecast import Forecast, Status
from finllm.domain.market import Flag, Gap
from finllm.domain.protocol import Escalate, Hold, Outlook, Revision
from finllm.domain.units import NS_PER_S

_REFRESH_PER_S = 12
_MARK = {
    Status.SPECULATIVE: ("speculative", "dim"),
    Status.CONFIRMED: ("confirmed", "cyan"),
    Status.REFINED: ("refined", "bold yellow"),
    Status.RETRACTED: ("retracted", "bold red"),
}


def _moved(revision: Revision, before: Forecast) -> float:
    after = revision.forecast
    if after is None:
        return 0.0
    return sum(abs(a - b) for a, b in zip(after.emitted, before.emitted, strict=True))


class LiveView:
    """Watches a pipeline's emission. Draws only when entered as a context.

    Args:
        console: Where to draw; where it is no terminal, revisions are printed as plain lines.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=_REFRESH_PER_S, transient=True)
        self._is_live = False
        self._latest: dict[tuple[str, int], Forecast] = {}
        self._firsts: dict[str, Forecast] = {}
        self._outlooks: dict[str, Outlook] = {}
        self._news: deque[Text] = deque(maxlen=14)
        self._counts: Counter[str] = Counter()
        self._start = 0
        self._largest = 0.0
        self.most_refined = ""
        self.first_retracted = ""

    def __enter__(self) -> Self:
        """Start drawing."""
        self._is_live = True
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing."""
        self._is_live = False
        self._live.__exit__(kind, error, trace)

    def watch(self, ts: int, record: object) -> None:
        """Take one emitted record, or a row's bytes."""
        self._start = self._start or ts
        if isinstance(record, bytes):
            self._counts["rows"] += 1
        elif isinstance(record, Forecast):
            self._counts["forecasts"] += 1
            self._latest[record.instrument, record.horizon_ns] = record
            self._firsts[record.forecast_id] = record
        elif isinstance(record, Revision):
            self._revision(ts, record)
        else:
            self._other(ts, record)

    def _revision(self, ts: int, revision: Revision) -> None:
        self._counts[str(revision.applied)] += 1
        after = revision.forecast
        if after is None:
            return
        before = self._firsts[revision.forecast_id]
        self._counts[str(after.status)] += 1
        self._latest[after.instrument, after.horizon_ns] = after
        moved = _moved(revision, before)
        if after.status is Status.RETRACTED:
            self.first_retracted = self.first_retracted or revision.forecast_id
        elif after.status is Status.REFINED and moved > self._largest:
            self._largest, self.most_refined = moved, revision.forecast_id
        if after.status is not Status.CONFIRMED:
            name, style = _MARK[after.status]
            text = f"{after.instrument} {after.horizon}: up {before.emitted[2]:.2f} -> {after.emitted[2]:.2f}"
            self._say(
                ts, name, style, f"{text}, flat {before.emitted[1]:.2f} -> {after.emitted[1]:.2f}"
            )

    def _other(self, ts: int, record: object) -> None:
        if isinstance(record, Document):
            self._counts["documents"] += 1
            self._say(ts, "news", "blue", f"{record.source}: {record.text[:90]}")
        elif isinstance(record, Escalate):
            self._counts["escalated"] += 1
            self._say(ts, "escalate", "magenta", record.reason[:100])
        elif isinstance(record, Hold):
            self._counts["held"] += 1
        elif isinstance(record, Outlook):
            self._outlooks[record.instrument] = record
        elif isinstance(record, Gap):
            self._counts["gaps"] += 1
            self._say(ts, "gap", "red", f"{record.instrument}: {record.reason}; resyncing")
        elif isinstance(record, Refusal):
            self._counts["refused documents"] += 1

    def _say(self, ts: int, name: str, style: str, text: str) -> None:
        line = Text(f"{(ts - self._start) / NS_PER_S:7.1f} s  ")
        line.append(f"{name:<10}", style=style)
        line.append(text)
        self._news.append(line)
        if not self._is_live and name in {"refined", "retracted", "gap"}:
            self._console.print(line, soft_wrap=True, highlight=False)

    def tick(self, now: int) -> None:
        """Redraw, if drawing."""
        if self._is_live:
            self._live.update(self._picture(now))

    def _picture(self, now: int) -> Group:
        seconds = (now - self._start) / NS_PER_S if self._start else 0.0
        counts = "   ".join(f"[bold]{n:,}[/] {escape(what)}" for what, n in self._counts.items())
        news = Text("\n").join(self._news)
        news.no_wrap, news.overflow = True, "ellipsis"
        return Group(
            Panel(
                self._table(now), title=f"forecasts, {seconds:,.0f} s simulated", border_style="dim"
            ),
            Panel(news, title="what the slow path does", border_style="dim", height=16),
            Text.from_markup(counts),
        )

    def _table(self, now: int) -> Table:
        table = Table(box=None, expand=True, padding=(0, 1))
        for name in (
            "instrument",
            "ahead",
            "down / flat / up",
            "p(up)",
            "status",
            "regime",
            "outlook",
        ):
            table.add_column(name)
        for (instrument, horizon_ns), forecast in sorted(self._latest.items()):
            name, style = _MARK.get(forecast.status, ("", ""))
            flags = "" if forecast.flags & Flag.VALID else " (abstains)"
            table.add_row(
                instrument, forecast.horizon, bar(forecast.emitted), f"{forecast.emitted[2]:.2f}",
                Text(name + flags, style=style), forecast.regime,
                self._outlook(instrument, horizon_ns, now),
            )  # fmt: skip
        return table

    def _outlook(self, instrument: str, horizon_ns: int, now: int) -> Text:
        outlook = self._outlooks.get(instrument)
        if outlook is None:
            return Text("none", style="dim")
        shift, scale = outlook.at(horizon_ns, now)
        if (shift, scale) == (0.0, 1.0):
            return Text("faded", style="dim")
        return Text(f"shift {shift:+.2f}  volatility x {scale:.2f}", style="yellow")
