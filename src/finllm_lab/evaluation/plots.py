"""The report's plots: what each shows, and what a reader who points at a mark is told."""

from collections.abc import Sequence
from html import escape
from typing import Final

from finllm.audit.calibration import share_by_luck
from finllm.audit.scorecard import Finding, Row
from finllm_lab.evaluation import charts
from finllm_lab.evaluation.cells import BASELINES, percent, told, within
from finllm_lab.evaluation.charts import Plane, Point
from finllm_lab.evaluation.records import Decay, Diagram

_LEVEL_MASS: Final = (0.1, 0.15, 0.25, 0.25, 0.15, 0.1)
_SERIES: Final = ("s-a", "s-b", "s-c")


def skill_chart(name: str, rows: Sequence[Row], n_trials: int) -> str:
    """Return skill by horizon over the three baselines, with intervals."""
    ends = [
        value
        for row in rows
        for key, _ in BASELINES
        for value in (getattr(row.interval, key) or (getattr(row.skill, key) or 0.0,))
    ]
    plane = Plane(
        width=max(300.0, 52.0 * len(rows) + 62),
        height=270,
        x_range=(-0.5, len(rows) - 0.5),
        y_range=charts.range_of(ends, least=(-0.02, 0.05), most=charts.PERCENT_RANGE),
        left=52,
    )
    parts = [
        *charts.scale_y(plane, charts.percent),
        *charts.names_x(plane, [r.horizon for r in rows]),
    ]
    for i, row in enumerate(rows):
        for k, (key, label) in enumerate(BASELINES):
            skill = getattr(row.skill, key)
            if skill is not None:
                point = Point(
                    at=i,
                    value=skill,
                    interval=getattr(row.interval, key),
                    css=_SERIES[k],
                    tip=f"{row.horizon} over {label}: {told(row, key, n_trials)}",
                    is_sure=getattr(row.finding, key) is not Finding.INCONCLUSIVE,
                )
                parts.append(charts.whisker(plane, point, (k - 1) * 11.0))
    key = "".join(
        f'<span class="{css}">● over {label}</span>'
        for css, (_, label) in zip(_SERIES, BASELINES, strict=True)
    )
    drawn = charts.svg(plane, parts, f"{name}: skill by horizon with 95 % intervals")
    return (
        f'<figure>{drawn}<figcaption class="key">{key}<br>Skill with 95 % intervals; a hollow dot is '
        "inconclusive, an arrow head lies outside.</figcaption></figure>"
    )


def hour_chart(name: str, rows: Sequence[Row], n_trials: int) -> str:
    """Return one horizon's skill over climatology by hour of the day."""
    ends = [
        end for row in rows for end in (row.interval.climatology or (row.skill.climatology or 0.0,))
    ]
    plane = Plane(
        width=max(190.0, 34.0 * len(rows) + 60),
        height=150,
        x_range=(-0.5, len(rows) - 0.5),
        y_range=charts.range_of(ends, least=(-0.02, 0.05), most=charts.PERCENT_RANGE),
        top=22,
    )
    parts = [
        charts.text(plane.left, 14, name, "start", "name"),
        *charts.scale_y(plane, charts.percent, 4),
        *charts.names_x(plane, [row.regime[:2] for row in rows]),
    ]
    for i, row in enumerate(rows):
        if row.skill.climatology is not None:
            point = Point(
                at=i,
                value=row.skill.climatology,
                interval=row.interval.climatology,
                css="s-a",
                tip=f"{row.regime}: {told(row, 'climatology', n_trials)}",
                is_sure=row.finding.climatology is not Finding.INCONCLUSIVE,
            )
            parts.append(charts.whisker(plane, point))
    drawn = charts.svg(plane, parts, f"{name}: skill over climatology by hour of the day")
    return f"<figure>{drawn}</figure>"


def reliability_chart(diagram: Diagram) -> str:
    """Return one horizon's reliability diagram with consistency bands."""
    plane = Plane(
        width=236, height=236, x_range=(0.0, 1.0), y_range=(0.0, 1.0), left=40, right=24, top=22
    )
    parts = [
        charts.text(plane.left, 14, diagram.horizon, "start", "name"),
        charts.text(
            plane.width - plane.right, 14, f"n {diagram.n:,}, eff. {diagram.n_eff:,}", "end"
        ),
        *charts.scale_y(plane, charts.percent, 5),
        *charts.scale_x(plane, charts.percent, 4),
        charts.line(plane.x(0), plane.y(0), plane.x(1), plane.y(1), "diagonal"),
    ]
    for css, curve in zip(_SERIES, diagram.curves, strict=True):
        parts.append(f'<g class="{css}">')
        parts.append(charts.ribbon(plane, curve.said, curve.low, curve.high, ""))
        parts.append(charts.path(plane, curve.said, curve.seen, ""))
        bins = zip(curve.said, curve.seen, curve.count, curve.low, curve.high, strict=True)
        for said, seen, count, low, high in bins:
            tip = f"{curve.name}: said {said:.1%}, seen {seen:.1%}, luck {low:.1%} to {high:.1%}, n {count:,}"
            css_dot = "dot" if not low <= seen <= high else "ring"
            parts.append(
                f'<circle cx="{plane.x(said):.1f}" cy="{plane.y(seen):.1f}" r="2.6" class="{css_dot}">'
                f"<title>{escape(tip)}</title></circle>"
            )
        parts.append("</g>")
    drawn = charts.svg(plane, parts, f"{diagram.horizon}: reliability of down, flat and up")
    return f"<figure>{drawn}</figure>"


def coverage_chart(rows: Sequence[Row]) -> str:
    """Return the coverage of 80 % intervals by horizon beside what luck allows."""
    values = [
        v for row in rows for v in (row.coverage_80, row.coverage_80_spread, *row.coverage_80_luck)
    ]
    plane = Plane(
        width=max(320.0, 70.0 * len(rows) + 60),
        height=180,
        x_range=(-0.5, len(rows) - 0.5),
        y_range=charts.range_of(values, least=(0.75, 0.85), most=(0.0, 1.0)),
        left=52,
    )
    parts = [
        *charts.scale_y(plane, charts.percent),
        *charts.names_x(plane, [r.horizon for r in rows]),
    ]
    for i, row in enumerate(rows):
        low, high = row.coverage_80_luck
        parts.append(
            f'<g class="s-mid">{charts.ribbon(plane, (i - 0.25, i + 0.25), (low, low), (high, high), "")}</g>'
        )
        for value, css, shift in (
            (row.coverage_80, "s-a", -7.0),
            (row.coverage_80_spread, "s-b", 7.0),
        ):
            tip = f"{row.horizon}: {value:.1%}, luck allows {low:.1%} to {high:.1%}"
            point = Point(
                at=i, value=value, interval=None, css=css, tip=tip, is_sure=not low <= value <= high
            )
            parts.append(charts.whisker(plane, point, shift))
    drawn = charts.svg(plane, parts, "Coverage of 80 % intervals by horizon")
    return (
        f'<figure>{drawn}<figcaption class="key"><span class="s-a">● coverage</span>'
        '<span class="s-b">● ties spread</span><span>grey: what luck allows; a full dot lies outside</span>'
        "</figcaption></figure>"
    )


def pit_chart(row: Row) -> str:
    """Return one horizon's PIT histogram with what luck allows."""
    ratios = [share / mass for share, mass in zip(row.pit, _LEVEL_MASS, strict=True)]
    plane = Plane(
        width=200,
        height=150,
        x_range=(0.0, 1.0),
        y_range=(0.0, max(2.0, min(4.0, 1.1 * max(ratios)))),
        left=32,
        right=22,
        top=22,
    )
    parts = [
        charts.text(plane.left, 14, row.horizon, "start", "name"),
        charts.text(plane.width - plane.right, 14, f"eff. {row.n_eff:,}", "end"),
        *charts.scale_y(plane, lambda value: f"{value:g}", 4),
        *charts.scale_x(plane, charts.percent, 3),
    ]
    start = 0.0
    for share, mass, ratio in zip(row.pit, _LEVEL_MASS, ratios, strict=True):
        low, high = (float(end) / mass for end in share_by_luck(mass, row.n_eff))
        tip = f"{share:.1%} of outcomes, nominally {mass:.0%}, luck {low * mass:.1%} to {high * mass:.1%}"
        parts.append(charts.bar(plane, (start, start + mass), ratio, tip))
        luck = charts.ribbon(plane, (start, start + mass), (low, low), (high, high), "")
        parts.append(f'<g class="s-mid">{luck}</g>')
        start += mass
    parts.append(charts.line(plane.x(0), plane.y(1), plane.x(1), plane.y(1), "diagonal"))
    return f"<figure>{charts.svg(plane, parts, f'{row.horizon}: PIT histogram')}</figure>"


def decay_chart(decay: Decay) -> str:
    """Return one horizon's skill by the age of the claim that is used."""
    spans = [step.interval or (step.skill, step.skill) for step in decay.steps]
    xs = [step.age_s for step in decay.steps]
    plane = Plane(
        width=224,
        right=22,
        height=160,
        x_range=(0.0, max(xs) or 1.0),
        y_range=charts.range_of(
            [end for span in spans for end in span], least=(-0.02, 0.03), most=charts.PERCENT_RANGE
        ),
        top=22,
    )
    skills = [step.skill for step in decay.steps]
    parts = [
        charts.text(plane.left, 14, decay.horizon, "start", "name"),
        *charts.scale_y(plane, charts.percent, 4),
        *charts.scale_x(plane, lambda value: f"{value:g} s", 3),
        '<g class="s-a">',
        charts.ribbon(plane, xs, [span[0] for span in spans], [span[1] for span in spans], ""),
        charts.path(plane, xs, skills, ""),
    ]
    for step, x in zip(decay.steps, xs, strict=True):
        tip = f"{step.age_s:.3g} s late: {percent(step.skill)} {within(step.interval)}"
        parts.append(
            f'<circle cx="{plane.x(x):.1f}" cy="{plane.y(step.skill):.1f}" r="3" class="dot">'
            f"<title>{escape(tip)}</title></circle>"
        )
    parts.append("</g>")
    return f"<figure>{charts.svg(plane, parts, f'{decay.horizon}: skill by latency')}</figure>"
