"""The report's details of one data set, section by section; no figure is left out because it is bad."""

from collections.abc import Iterable, Sequence
from html import escape

from finllm.audit.scorecard import ALL, SWITCHED, Row
from finllm_lab.evaluation.cells import (
    BASELINES,
    anchor,
    cell,
    name_cell,
    p_of_trials,
    p_value,
    percent,
    pinball_cell,
    plain_within,
    pooled,
    row_size,
    size_cell,
    skill_cell,
    table,
    within,
)
from finllm_lab.evaluation.plots import (
    coverage_chart,
    decay_chart,
    hour_chart,
    pit_chart,
    reliability_chart,
)
from finllm_lab.evaluation.records import DataSet


def details(one: DataSet, n_trials: int) -> str:
    """Return everything about one data set."""
    if not one.rows:
        return f'<h2 id="{anchor(one.name)}">{escape(one.name)}: details</h2><p>Nothing could be scored.</p>'
    return "".join(
        (
            f'<h2 id="{anchor(one.name)}">{escape(one.name)}: details</h2>',
            _significance(one, n_trials),
            _by_instrument(one, n_trials),
            _by_regime(one, n_trials),
            _by_hour(one, n_trials),
            _reliability(one),
            _calibration_error(one),
            _distribution(one),
            _pit(one),
            _latency(one),
            _learnt(one),
            _direction(one),
            _left_out(one),
        )
    )


def _significance(one: DataSet, n_trials: int) -> str:
    head = (
        "ahead",
        "against",
        "skill, 95 %",
        "Diebold-Mariano p",
        f"p x {n_trials} trial{'s' * (n_trials > 1)}",
        "n",
    )
    lines = []
    for row in pooled(one):
        for key, label in BASELINES:
            lines.append(
                (
                    name_cell(row.horizon),
                    cell(label),
                    skill_cell(row, key, n_trials, is_brief=True),
                    cell(p_value(getattr(row.p_value, key))),
                    cell(p_of_trials(row, key, n_trials)),
                    row_size(row),
                )
            )
        low_high = within(row.interval_hindsight)
        lines.append(
            (
                name_cell(row.horizon),
                cell("static climatology in hindsight"),
                cell(f"{percent(row.skill_hindsight)}<small>{low_high}</small>"),
                cell("-"),
                cell("-"),
                row_size(row),
            )
        )
    return (
        "<h3>Is it luck?</h3><p>The baselines are refitted as time goes. Climatology in hindsight is the "
        "frequencies of this very sample, which nobody could have known. The last p is multiplied by "
        "the trials that the experiment record knows of (Bonferroni); none known counts as one.</p>"
        + table(head, lines)
    )


def _grid(rows: Iterable[Row], by: str, key: str, n_trials: int) -> str:
    """Return a table of skill: one line for each value of a field, one column for each horizon."""
    cells: dict[tuple[str, str], Row] = {}
    names: dict[str, None] = {}
    horizons: dict[str, float] = {}
    for row in rows:
        name = getattr(row, by)
        names.setdefault(name)
        horizons[row.horizon] = row.horizon_s
        cells[name, row.horizon] = row
    ordered = sorted(horizons, key=lambda name: horizons[name])
    return table(
        ("", *ordered),
        (
            (
                name_cell("all together" if name == ALL else name),
                *(
                    skill_cell(cells[name, horizon], key, n_trials)
                    if (name, horizon) in cells
                    else cell("-")
                    for horizon in ordered
                ),
            )
            for name in names
        ),
    )


def _grids(rows: Sequence[Row], by: str, n_trials: int) -> str:
    return "".join(
        f"<p><b>Over {label}</b></p>{_grid(rows, by, key, n_trials)}" for key, label in BASELINES
    )


def _by_instrument(one: DataSet, n_trials: int) -> str:
    rows = [row for row in one.rows if row.regime == ALL]
    return f"<h3>By instrument</h3>{_grids(rows, 'instrument', n_trials)}"


def _by_regime(one: DataSet, n_trials: int) -> str:
    rows = [row for row in one.rows if row.instrument == ALL]
    return (
        "<h3>By regime</h3><p>At issue, all instruments; <i>switched</i> is the ten minutes after a change. "
        f"Each instrument's own are in the JSON.</p>{_grids(rows, 'regime', n_trials)}"
    )


def _by_hour(one: DataSet, n_trials: int) -> str:
    plots = []
    for row in pooled(one):
        own = [hour for hour in one.hours if hour.horizon == row.horizon]
        if len(own) > 1:
            plots.append(hour_chart(row.horizon, own, n_trials))
    drawn = f'<div class="plots">{"".join(plots)}</div>' if plots else ""
    return (
        "<h3>By time of day</h3><p>By hour, UTC; the plots show skill over climatology.</p>"
        f"{drawn}{_grids(one.hours, 'regime', n_trials)}"
    )


def _reliability(one: DataSet) -> str:
    plots = "".join(reliability_chart(diagram) for diagram in one.diagrams)
    return (
        "<h3>Reliability</h3><p>What was said against what was seen, by class, equal-mass bins. A dot "
        "outside its band is more than luck on the effective rows would show one time in twenty.</p>"
        '<p class="key"><span class="s-a">● down</span><span class="s-b">● flat</span>'
        f'<span class="s-c">● up</span></p><div class="plots">{plots}</div>'
    )


def _calibration_error(one: DataSet) -> str:
    rows = [row for row in one.rows if row.instrument == ALL]
    head = ("ahead", "regime", "ECE, 95 %", "perfect forecaster: mean / 95 %", "beyond luck", "n")
    lines = []
    for row in sorted(rows, key=lambda row: row.horizon_s):
        is_off = row.ece > row.ece_perfect_95
        lines.append(
            (
                name_cell(row.horizon),
                cell("all together" if row.regime == ALL else row.regime),
                cell(
                    f"<b>{row.ece:.4f}</b><small>{plain_within(row.ece_interval)}</small>",
                    "off" if is_off else "",
                ),
                cell(f"{row.ece_perfect:.4f} / {row.ece_perfect_95:.4f}"),
                cell(f"{'▼ ' if is_off else ''}{row.ece - row.ece_perfect:+.4f}"),
                row_size(row),
            )
        )
    return (
        "<h3>Calibration error</h3><p>Beside what a perfect forecaster would show on as many independent "
        f"rows. <i>{SWITCHED}</i>: the ten minutes after a change of regime. Resampling adds to an ECE, "
        "so the interval is mirrored at the figure and may lie below it.</p>" + table(head, lines)
    )


def _distribution(one: DataSet) -> str:
    head = (
        "ahead", "pinball skill over climatology", "over EWMA", "80 % interval covers", "luck allows",
        "ties spread", "mean width", "n",
    )  # fmt: skip
    rows = pooled(one)
    lines = []
    for row in rows:
        low, high = row.coverage_80_luck
        is_off = not low <= row.coverage_80 <= high
        lines.append(
            (
                name_cell(row.horizon),
                pinball_cell(row, "climatology"),
                pinball_cell(row, "ewma"),
                cell(f"<b>{row.coverage_80:.1%}</b>", "off" if is_off else ""),
                cell(f"{low:.1%} to {high:.1%}"),
                cell(f"{row.coverage_80_spread:.1%}"),
                cell(f"{row.width_80_bps:.3g} bps"),
                row_size(row),
            )
        )
    return (
        "<h3>Return quantiles</h3><p>Coverage counts an outcome on an end as covered, so that where most "
        "returns are exactly nought it must exceed 80 %; <i>ties spread</i> shares such outcomes out. "
        "What luck allows is binomial at the effective n.</p>"
        f"{table(head, lines)}{coverage_chart(rows)}"
    )


def _pit(one: DataSet) -> str:
    plots = "".join(pit_chart(row) for row in pooled(one))
    return (
        "<h3>Probability integral transform</h3><p>Share of outcomes in each cell that the quantiles cut, "
        "over the cell's nominal mass: 1 everywhere is right; the band is what luck allows on the effective "
        "rows. A hump says that intervals are too wide, a bowl that they are too narrow.</p>"
        f'<div class="plots">{plots}</div>'
    )


def _latency(one: DataSet) -> str:
    head = (
        "ahead",
        "used late by",
        "mean age",
        "skill over climatology, 95 %",
        "of the fresh lead",
        "n",
    )
    lines = [
        (
            name_cell(decay.horizon),
            cell(f"{step.delay_s:g} s"),
            cell(f"{step.age_s:.3g} s"),
            cell(f"{percent(step.skill)}<small>{within(step.interval)}</small>"),
            cell("-" if step.kept is None else f"{step.kept:.0%}"),
            size_cell(
                decay.n, decay.n_eff, decay.n_blocks, decay.block_s, tentative=decay.tentative
            ),
        )
        for decay in one.decays
        for step in decay.steps
    ]
    plots = "".join(decay_chart(decay) for decay in one.decays)
    return (
        "<h3>Score decay with latency</h3><p>The newest claim at least so old, scored on the outcome of the "
        "grid point at which it is used, against the climatology known then. Claims stand on the grid only, "
        f'so the mean age is stated.</p><div class="plots">{plots}</div>{table(head, lines)}'
    )


def _learnt(one: DataSet) -> str:
    lines = (
        (
            name_cell(at.horizon),
            cell(percent(at.without)),
            cell(percent(at.with_all)),
            cell("-" if at.late is None else f"{percent(at.late)}<small>n {at.n_late:,}</small>"),
        )
        for at in one.learnt
    )
    return (
        "<h3>What the outcomes of the session are worth</h3><p>Log skill over climatology, which learns in "
        "every column; no intervals.</p>"
        + table(("ahead", "edge learns nothing", "edge learns", "after two minutes"), lines)
    )


def _direction(one: DataSet) -> str:
    head = ("ahead", "AUC", "baseline column", "lead, 95 %", "moves", "n eff.", "blocks")
    lines = [
        (
            name_cell(found.horizon),
            cell(f"{found.auc:.3f}"),
            cell(f"{found.reference:.3f}"),
            cell(f"{found.lead:+.3f}<small>{plain_within(found.interval)}</small>"),
            size_cell(
                found.n, found.n_eff, found.n_blocks, found.block_s, tentative=found.tentative
            ),
        )
        for found in one.directions
    ]
    return (
        "<h3>Direction</h3><p>Up against down among moves by p up - p down, pairs within an instrument of a "
        f"session.</p>{table(head, lines)}"
    )


def _left_out(one: DataSet) -> str:
    lost = [f"{n:,} {why.replace('_', ' ')}" for why, n in one.intake.excluded.items()]
    noted = [f"{n:,} {why.replace('_', ' ')}" for why, n in one.intake.noted.items()]
    parts = [f"{one.intake.scored:,} of {one.intake.forecasts:,} forecasts scored"]
    parts.append(f"left out: {', '.join(lost) or 'none'}")
    parts.append(f"worth a look: {', '.join(noted) or 'nothing'}")
    return f"<h3>Left out</h3><p>{escape('; '.join(parts))}.</p>"
