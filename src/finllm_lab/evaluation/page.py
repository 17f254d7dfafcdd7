"""The report as one page of HTML: a first look of ten seconds, then everything, negative results included.

Self-contained: style and plots are inline, nothing is fetched, no script runs. Colour never speaks alone:
every judgement also has a sign. Knows how to show figures, not how they come about.
"""

from html import escape

from finllm.audit.scorecard import ALL, Finding
from finllm_lab.evaluation.cells import (
    BASELINES,
    anchor,
    name_cell,
    percent,
    pooled,
    row_size,
    skill_cell,
    table,
    within,
)
from finllm_lab.evaluation.details import details
from finllm_lab.evaluation.plots import skill_chart
from finllm_lab.evaluation.records import Alarm, DataSet, Evaluation, Hunt
from finllm_lab.evaluation.style import STYLE


def page(found: Evaluation) -> str:
    """Return the whole page."""
    links = "".join(
        f'<a href="#{anchor(one.name)}">{escape(one.name)}</a>' for one in found.datasets
    )
    parts = [
        f"<h1>{escape(found.title)}</h1>",
        _banner(found),
        *(_first_look(one, found.n_trials) for one in found.datasets),
        _negatives(found),
        f'<nav>Details: {links}<a href="#record">record</a><a href="#reading">how to read</a></nav>',
        *(details(one, found.n_trials) for one in found.datasets),
        _record(found),
        _reading(found),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(found.title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _banner(found: Evaluation) -> str:
    parts = [_alarm(one) for one in found.alarms if one.stands]
    parts += [
        f'<div class="waived">Alarm waived. {escape(one.what)}<br>Because: {escape(one.waiver)}</div>'
        for one in found.alarms
        if not one.stands
    ]
    if not found.alarms:
        parts.append(f'<div class="quiet">No leak alarm. {_hunted(found)}</div>')
    if found.unchecked:
        listed = "; ".join(escape(one) for one in found.unchecked)
        parts.append(f'<p class="soft">Alarms not looked at: {listed}.</p>')
    return "".join(parts)


def _hunted(found: Evaluation) -> str:
    if not found.hunts:
        return "No hunt for look-ahead was made in this run (<code>--hunt</code>)."
    return f"{len(found.hunts)} hunts for look-ahead found nothing."


def _alarm(one: Alarm) -> str:
    way = (
        "It cannot be waived: mend what looks ahead."
        if one.kind == "look_ahead"
        else "Hunt with <code>finllm_lab evaluate --hunt</code>. If it is no leak, log why: "
        f"<code>finllm_lab evaluate --waive '{escape(one.dataset)}=the reason'</code>."
    )
    return (
        f'<div class="alarm"><strong>Leak alarm: the evaluation stops here.</strong> '
        f"{escape(one.what)}<br>{way} Until then no figure below is to be used.</div>"
    )


def _first_look(one: DataSet, n_trials: int) -> str:
    rows = pooled(one)
    about = f"{', '.join(one.instruments)}; sessions {', '.join(one.sessions)}; model {', '.join(one.models)}"
    head = (
        f"<h2>{escape(one.name)}: skill in log score, all instruments</h2>"
        f'<p class="soft">{escape(about)}<br>{escape(one.starts[:19])} to {escape(one.ends[:19])} UTC; '
        f"{one.intake.scored:,} of {one.intake.forecasts:,} forecasts scored</p>"
    )
    if not rows:
        return head + "<p>Nothing could be scored.</p>"
    overview = table(
        ("ahead", *(f"over {label}" for _, label in BASELINES), "n"),
        (
            (
                name_cell(row.horizon),
                *(skill_cell(row, name, n_trials, is_brief=True) for name, _ in BASELINES),
                row_size(row),
            )
            for row in rows
        ),
    )
    return f'{head}<div class="first">{overview}{skill_chart(one.name, rows, n_trials)}</div>'


def _negatives(found: Evaluation) -> str:
    lines = [line for one in found.datasets for line in _negatives_of(one)]
    listed = "".join(f"<li>{line}</li>" for line in lines) or "<li>Nothing of the kind.</li>"
    return (
        "<h2>What it does not do</h2><p>Every comparison of all instruments together, and of each instrument "
        f"with climatology, that is not better at 95 %:</p><ul>{listed}</ul>"
    )


def _negatives_of(one: DataSet) -> list[str]:
    lines = []
    for row in pooled(one):
        for word in (Finding.WORSE, Finding.INCONCLUSIVE):
            names = [
                f"{label} ({percent(getattr(row.skill, key))} {within(getattr(row.interval, key))})"
                for key, label in BASELINES
                if getattr(row.finding, key) is word
            ]
            if names:
                said = "worse than" if word is Finding.WORSE else "inconclusive against"
                hint = ", tentative" if row.tentative else ""
                lines.append(
                    f"{escape(one.name)} {escape(row.horizon)}{hint}: {said} {', '.join(names)}"
                )
    for name in one.instruments if len(one.instruments) > 1 else ():
        missed = [
            f"{escape(row.horizon)} {row.finding.climatology} ({percent(row.skill.climatology)} "
            f"{within(row.interval.climatology)})"
            for row in one.rows
            if row.instrument == name
            and row.regime == ALL
            and row.finding.climatology is not Finding.BETTER
        ]
        if missed:
            lines.append(f"{escape(name)} against climatology: {', '.join(missed)}")
    return lines


def _record(found: Evaluation) -> str:
    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{escape(name)} {n}" for name, n in counts.items()) or "none"

    hunts = "".join(_hunt(one) for one in found.hunts) or "<p>None was made.</p>"
    return (
        f'<h2 id="record">The record</h2><p>Trials known to the experiment record: {listed(found.trials)}. '
        f"Openings of the validation part: {listed(found.openings)}.</p><h3>Hunts for look-ahead</h3>{hunts}"
    )


def _hunt(one: Hunt) -> str:
    faults = "".join(
        f"<li>{escape(f.where)} at {escape(f.cut)}, row {f.row}: "
        f"{escape(', '.join(f.columns) or 'presence')}</li>"
        for f in one.faults
    )
    return (
        f"<p>{escape(one.dataset)}: {escape(one.what)}, {one.records:,} records cut at {one.cuts} places, "
        f"{one.compared:,} rows compared bit for bit: "
        f"<b>{one.n_faults or 'no'}</b> fault{'' if one.n_faults == 1 else 's'}.</p><ul>{faults}</ul>"
    )


def _reading(found: Evaluation) -> str:
    listed = "".join(f"<li>{escape(line)}</li>" for line in found.conventions)
    return (
        '<h2 id="reading">How to read this</h2><p>▲ better, ▼ worse, ● inconclusive, each by interval and '
        "Diebold-Mariano together; △ and ▽ no longer so once p is multiplied by the number of trials; "
        "~ fewer than 20 blocks of time: a hint, not a result. Small print of a cell: 95 % interval; "
        "n / effective n; blocks and their length. Climatology: frequencies so far. EWMA: a normal law of "
        "mean nought on an exponentially weighted volatility. OBI: a logistic on touch imbalance alone (on "
        f"bars on the last return alone).</p><ul>{listed}</ul>"
    )
