"""Cells and words of the report: one figure, never without its interval, n, effective n and blocks."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from finllm.audit.scorecard import ALL, Finding, Interval, Row
from finllm_lab.evaluation.records import DataSet

BASELINES: Final = (
    ("climatology", "climatology"),
    ("ewma", "EWMA"),
    ("obi", "OBI"),
)
_SIGN: Final = {Finding.BETTER: "▲", Finding.WORSE: "▼", Finding.INCONCLUSIVE: "●"}
SIGNIFICANT: Final = 0.05


def pooled(one: DataSet) -> list[Row]:
    """Return the rows of all instruments and regimes together, a horizon each."""
    return [row for row in one.rows if row.instrument == ALL and row.regime == ALL]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a box of its own that scrolls."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def name_cell(words: str) -> str:
    """Return a line's first cell."""
    return f"<td><b>{escape(words)}</b></td>"


def cell(markup: str, css: str = "", tip: str = "") -> str:
    """Return a cell; `tip` is shown to a reader who points at it."""
    named = f' class="{css}"' if css else ""
    told = f' title="{escape(tip)}"' if tip else ""
    return f"<td{named}{told}>{markup}</td>"


def skill_cell(row: Row, key: str, n_trials: int, *, is_brief: bool = False) -> str:
    """Return a skill with its sign, interval and, unless brief, what it stands on."""
    skill = getattr(row.skill, key)
    if skill is None:
        return cell("-")
    finding = getattr(row.finding, key)
    small = f"<small>{within(getattr(row.interval, key))}</small>"
    if not is_brief:
        mark = " ~" if row.tentative else ""
        small += (
            f"<small>{row.n:,} / {row.n_eff:,}; {row.n_blocks} x {row.block_s:.3g} s{mark}</small>"
        )
    sign = _sign(row, key, n_trials)
    css = f"{finding} hint" if row.tentative else str(finding)
    return cell(f"<b>{sign} {percent(skill)}</b>{small}", css, told(row, key, n_trials))


def _sign(row: Row, key: str, n_trials: int) -> str:
    finding, p = getattr(row.finding, key), getattr(row.p_value, key)
    if finding is not Finding.INCONCLUSIVE and p * n_trials >= SIGNIFICANT:
        return "△" if finding is Finding.BETTER else "▽"
    return _SIGN[finding]


def pinball_cell(row: Row, key: str) -> str:
    """Return a skill in pinball loss with its sign and interval."""
    skill = getattr(row.skill_crps, key)
    if skill is None:
        return cell("-")
    finding = getattr(row.finding_crps, key)
    tip = f"p = {p_value(getattr(row.p_value_crps, key))}"
    small = f"<small>{within(getattr(row.interval_crps, key))}</small>"
    words = f"<b>{_SIGN[finding]} {percent(skill)}</b>{small}"
    return cell(words, f"{finding} hint" if row.tentative else str(finding), tip)


def told(row: Row, key: str, n_trials: int) -> str:
    """Return a skill in words: interval, finding, p, and what it stands on."""
    skill, span = getattr(row.skill, key), getattr(row.interval, key)
    return (
        f"{percent(skill)} {within(span)}, {getattr(row.finding, key)}, "
        f"p = {p_value(getattr(row.p_value, key))}, times {n_trials} trials "
        f"{p_of_trials(row, key, n_trials)}; "
        f"n {row.n:,}, effective {row.n_eff:,}, {row.n_blocks} blocks of {row.block_s:.3g} s"
        f"{', tentative' if row.tentative else ''}"
    )


def size_cell(n: int, n_eff: int, n_blocks: int, block_s: float, *, tentative: bool) -> str:
    """Return what a figure stands on: n, effective n, blocks and their length."""
    mark = " ~" if tentative else ""
    return cell(f"{n:,}<small>eff. {n_eff:,}; {n_blocks} x {block_s:.3g} s{mark}</small>")


def row_size(row: Row) -> str:
    """Return what a row's figures stand on."""
    return size_cell(row.n, row.n_eff, row.n_blocks, row.block_s, tentative=row.tentative)


def percent(value: float | None) -> str:
    """Return a share as signed percent."""
    return "-" if value is None else f"{100.0 * value:+.1f} %"


def within(span: Interval | None) -> str:
    """Return an interval of shares, in percent."""
    return "no interval" if span is None else f"[{100.0 * span[0]:.1f}, {100.0 * span[1]:.1f}]"


def plain_within(span: Interval | None) -> str:
    """Return an interval."""
    return "no interval" if span is None else f"[{span[0]:.3f}, {span[1]:.3f}]"


def p_value(value: float | None) -> str:
    """Return a p-value as people write it."""
    if value is None:
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def p_of_trials(row: Row, key: str, n_trials: int) -> str:
    """Return a skill's p-value times the number of trials (Bonferroni)."""
    value = getattr(row.p_value, key)
    return p_value(None if value is None else min(1.0, value * n_trials))


def anchor(name: str) -> str:
    """Return the name under which a data set's details are found."""
    return "set-" + "".join(c if c.isalnum() else "-" for c in name)
