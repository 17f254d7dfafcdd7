"""The two-speed table in words: one line a set and policy, `?` where a figure is inconclusive."""

from collections.abc import Sequence
from typing import Final

from finllm_lab.worth.figures import INCONCLUSIVE, Figure, Line

HEAD: Final = (
    *("set", "part", "policy", "rows", "n_eff", "calls", "share", "fired"),
    *("vol fired", "vol all", "of always", "up/down", "classes", "harm", "late", "R2 range"),
)


def in_words(lines: Sequence[Line]) -> str:
    """Return the table as text in columns of a Markdown table."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(_cells(line) for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cells(line: Line) -> tuple[str, ...]:
    of_always = "-" if line.share_of_always is None else f"{line.share_of_always:.2f}"
    return (
        line.set,
        line.part,
        line.policy,
        f"{line.rows:,}",
        f"{line.n_eff:,}",
        f"{line.calls:,} of {line.notices:,}",
        f"{line.call_share:.1%}",
        f"{line.fired:,} ({line.fired_share:.1%})",
        _percent(line.vol_fired),
        _percent(line.vol_all),
        of_always,
        _nats(line.direction),
        _nats(line.classes),
        "-" if line.harm is None else f"{line.harm:.3f}",
        str(line.late),
        "-" if line.range_r2 is None else _plain(line.range_r2),
    )


def _percent(figure: Figure) -> str:
    return _said(figure, 100.0, 1)


def _nats(figure: Figure) -> str:
    return _said(figure, 1.0, 5)


def _plain(figure: Figure) -> str:
    return _said(figure, 1.0, 3)


def _said(figure: Figure, unit: float, places: int) -> str:
    if figure.value is None:
        return "-"
    mark = " ?" if figure.verdict == INCONCLUSIVE else ""
    said = f"{unit * figure.value:.{places}f}"
    if figure.interval is None:
        return f"{said}{mark}"
    low, high = (f"{unit * bound:.{places}f}" for bound in figure.interval)
    return f"{said} [{low}, {high}]{mark}"
