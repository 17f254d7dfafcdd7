"""Scores on a terminal: skill and how sure it is, the refinement ledger, what it means."""

from collections.abc import Iterable

from rich.console import Group
from rich.table import Table
from rich.text import Text

from finllm.audit.scorecard import ALL, Finding, Interval, Refinement, Row, Scores, Stage

_STYLE = {Finding.BETTER: "green", Finding.WORSE: "red", Finding.INCONCLUSIVE: "dim"}


def render(scores: Scores) -> Group:
    """Return the renderables of a score report, for any rich console of 80 columns or more."""
    parts: list[Table | Text] = []
    if scores.rows:
        parts.append(skill_table(scores.rows))
    else:
        parts.append(Text("No forecast could be scored.", style="bold"))
    parts += [refinement_table(scores.refinement), Text("\n".join(in_words(scores)))]
    return Group(*parts)


def skill_table(rows: Iterable[Row]) -> Table:
    """Return one line for each instrument and horizon, all regimes together."""
    table = Table(title="Skill in log score, % (95 % interval); above zero is better", expand=False)
    table.add_column("instrument", overflow="fold")
    for name in ("horizon", "n_eff\nof n", "edge vs\nclimatology", "in force vs\nclimatology"):
        table.add_column(name, justify="right")
    table.add_column("in force vs\nOBI", justify="right")
    table.add_column("ECE\n(perfect)", justify="right")
    edge = {}
    rows = [row for row in rows if row.regime == ALL]
    is_alone = len({row.instrument for row in rows}) <= 2  # pooling one instrument says it twice
    for row in rows:
        if is_alone and row.instrument == ALL:
            continue
        where = (row.instrument, row.horizon, row.horizon_s)
        if row.stage is Stage.EDGE:
            edge[where] = row
        elif row.stage is Stage.IN_FORCE:
            table.add_row(*_line(edge[where], row))
    return table


def _line(edge: Row, row: Row) -> tuple[str | Text, ...]:
    mark = " ~" if row.tentative else ""
    return (
        row.instrument.replace(":", ":\n", 1),
        row.horizon,
        f"{row.n_eff:,}{mark}\n{row.n:,}",
        _skill(edge.skill.climatology, edge.interval.climatology, edge.finding.climatology),
        _skill(row.skill.climatology, row.interval.climatology, row.finding.climatology),
        _skill(row.skill.obi, row.interval.obi, row.finding.obi),
        f"{row.ece:.3f}\n({row.ece_perfect:.3f})",
    )


def _skill(skill: float | None, interval: Interval | None, finding: Finding) -> Text:
    if skill is None:
        return Text("-")
    span = "" if interval is None else f"\n[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return Text(f"{100 * skill:+.1f}{span}", style=_STYLE[finding])


def refinement_table(refinement: Refinement) -> Table:
    """Return the refinement ledger as a table of two columns."""
    table = Table(title="Refinement: what second thoughts were worth", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in _refinement_lines(refinement):
        table.add_row(name, value)
    return table


def _refinement_lines(r: Refinement) -> Iterable[tuple[str, str]]:
    span = "" if r.interval is None else f" [{r.interval[0]:.5f}, {r.interval[1]:.5f}]"
    yield "gain over edge only, nats per forecast", f"{r.gain:+.5f}{span}"
    yield "  from the outlook / from verdicts", f"{r.gain_outlook:+.5f} / {r.gain_verdicts:+.5f}"
    yield "harm (negative block means)", f"{r.harm:.5f}"
    yield "questions asked", f"{r.calls:,} of {r.calls + r.holds:,} ({r.call_share:.1%})"
    yield "share of the always-asking gain", _optional(r.share_of_always, "{:.0%}")
    if r.gain_if_all_asked is not None:
        yield (
            f"gain had all been asked (from {r.explored:,} asked by chance)",
            f"{r.gain_if_all_asked:+.5f} +- {r.gain_if_all_asked_sd:.5f}",
        )
    yield "forecasts touched, of those scored", f"{r.touched:,} of {r.n:,}"
    yield (
        "verdicts applied / superseded / late / refused",
        f"{r.applied:,} / {r.superseded:,} / {r.late:,} / {r.refused:,}",
    )
    yield (
        f"retractions that were right, of {r.retracted:,}",
        _optional(r.retraction_precision, "{:.0%}"),
    )
    yield "gain per 1,000 tokens, nats", _optional(r.gain_per_1000_tokens, "{:+.4f}")
    yield f"gain per joule ({r.energy_method}), nats", _optional(r.gain_per_joule, "{:+.4f}")


def _optional(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def in_words(scores: Scores) -> list[str]:
    """Return what the figures come to, a sentence each."""
    words = [
        _against_climatology(row)
        for row in scores.rows
        if row.instrument == ALL and row.regime == ALL and row.stage is Stage.IN_FORCE
    ]
    words.append(_on_refinement(scores.refinement))
    intake = scores.intake
    words.append(f"{intake.scored:,} of {intake.forecasts:,} forecasts scored{_left_out(scores)}.")
    if any(row.tentative for row in scores.rows):
        words.append("~ fewer than 20 independent blocks of time: a hint, not a result.")
    words += [f"Worth a look: {what}, {n:,} times." for what, n in intake.noted.items()]
    return words


def _against_climatology(row: Row) -> str:
    said = {
        Finding.BETTER: "better than",
        Finding.WORSE: "worse than",
        Finding.INCONCLUSIVE: "inconclusive against",
    }
    hint = " (tentative)" if row.tentative else ""
    return (
        f"{row.horizon}, all instruments{hint}: {said[row.finding.climatology]} climatology, "
        f"{said[row.finding.obi]} OBI alone, on about {row.n_eff:,} independent forecasts."
    )


def _on_refinement(refinement: Refinement) -> str:
    if refinement.gain_sum == 0.0 and refinement.harm == 0.0:
        return "Refinement: nothing that stood differed from the edge alone."
    said = {
        Finding.BETTER: "second thoughts gained",
        Finding.WORSE: "second thoughts harmed",
        Finding.INCONCLUSIVE: "inconclusive",
    }
    hint = " (tentative)" if refinement.tentative else ""
    return f"Refinement: {said[refinement.finding]}{hint}."


def _left_out(scores: Scores) -> str:
    excluded = scores.intake.excluded
    if not excluded:
        return ""
    return "; left out: " + ", ".join(f"{n:,} {why}" for why, n in excluded.items())
