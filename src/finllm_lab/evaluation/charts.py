"""The report's plots as SVG text: points with intervals, lines with bands, bars. No script, no network.

Colours are classes of the page's style sheet, so that a plot follows light and dark by itself. Values
outside a plot's range are drawn on its edge, as an arrow head. Knows numbers and names, no scores.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A plot's frame: where a value lies on the drawing, in pixels."""

    width: float
    height: float
    x_range: Interval
    y_range: Interval
    left: float = 44.0
    right: float = 10.0
    top: float = 10.0
    bottom: float = 26.0

    def x(self, value: float) -> float:
        """Return the abscissa of a value, kept inside the frame."""
        share = _share(value, self.x_range)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Return the ordinate of a value, kept inside the frame."""
        share = _share(value, self.y_range)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def is_inside(self, value: float) -> bool:
        """Return whether an ordinate need not be kept back."""
        return self.y_range[0] <= value <= self.y_range[1]


def _share(value: float, span: Interval) -> float:
    low, high = span
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def svg(plane: Plane, parts: Sequence[str], title: str) -> str:
    """Return a drawing with its accessible title."""
    return (
        f'<svg viewBox="0 0 {plane.width:g} {plane.height:g}" width="{plane.width:g}" '
        f'height="{plane.height:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def ticks(span: Interval, most: int = 6) -> list[float]:
    """Return at most about `most` round values inside a range."""
    low, high = span
    if high <= low:
        return [low]
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def text(x: float, y: float, words: str, anchor: str = "middle", css: str = "") -> str:
    """Return a line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{escape(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Return a straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def scale_y(plane: Plane, form: Callable[[float], str], most: int = 6) -> list[str]:
    """Return horizontal grid lines with their values; the zero line stands out."""
    parts = []
    for value in ticks(plane.y_range, most):
        y = plane.y(value)
        css = "zero" if value == 0 else "grid"
        parts.append(line(plane.left, y, plane.width - plane.right, y, css))
        parts.append(text(plane.left - 5, y + 4, form(value), "end"))
    return parts


def scale_x(plane: Plane, form: Callable[[float], str], most: int = 5) -> list[str]:
    """Return the values along the bottom."""
    foot = plane.height - plane.bottom + 15
    return [text(plane.x(value), foot, form(value)) for value in ticks(plane.x_range, most)]


def names_x(plane: Plane, names: Sequence[str]) -> list[str]:
    """Return names under the positions 0, 1, 2 ..."""
    foot = plane.height - plane.bottom + 15
    return [text(plane.x(i), foot, name) for i, name in enumerate(names)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A figure with its interval, and what a reader who points at it is told."""

    at: float
    value: float
    interval: Interval | None
    css: str
    tip: str
    is_sure: bool = True
    """A hollow dot where not."""


def whisker(plane: Plane, point: Point, shift: float = 0.0) -> str:
    """Return a dot on its interval, `shift` pixels to the right of its place."""
    x, y = plane.x(point.at) + shift, plane.y(point.value)
    parts = [f'<g class="{point.css}"><title>{escape(point.tip)}</title>']
    if point.interval is not None:
        low, high = plane.y(point.interval[0]), plane.y(point.interval[1])
        parts.append(line(x, low, x, high, "span"))
        parts += [line(x - 3, end, x + 3, end, "span") for end in (low, high)]
    if plane.is_inside(point.value):
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{"dot" if point.is_sure else "ring"}"/>'
        )
    else:
        by = 6 if point.value < plane.y_range[0] else -6
        parts.append(f'<path d="M{x - 4:.1f} {y - by:.1f}h8l-4 {by}z" class="dot"/>')
    return "".join([*parts, "</g>"])


def ribbon(
    plane: Plane, xs: Sequence[float], low: Sequence[float], high: Sequence[float], css: str
) -> str:
    """Return the area between two lines."""
    forth = [(plane.x(x), plane.y(y)) for x, y in zip(xs, high, strict=True)]
    back = [(plane.x(x), plane.y(y)) for x, y in zip(xs, low, strict=True)]
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*forth, *back[::-1]])
    return f'<polygon points="{places}" class="{css} band"/>'


def path(plane: Plane, xs: Sequence[float], ys: Sequence[float], css: str) -> str:
    """Return a line through points."""
    places = " ".join(f"{plane.x(x):.1f},{plane.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline points="{places}" class="{css} line"/>'


def bar(plane: Plane, span: Interval, value: float, tip: str) -> str:
    """Return a bar from nought to a value, with what it says to a reader who points at it."""
    left, right, top = plane.x(span[0]), plane.x(span[1]), plane.y(value)
    return (
        f'<rect x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(1.0, right - left - 1):.1f}" '
        f'height="{max(0.0, plane.y(0.0) - top):.1f}" class="bar"><title>{escape(tip)}</title></rect>'
    )


def range_of(values: Sequence[float], *, least: Interval, most: Interval) -> Interval:
    """Return a range that shows the values with some air, at least one range and at most another."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min([least[0], *known]), max([least[1], *known])
    air = 0.06 * (high - low)
    return max(most[0], low - air), min(most[1], high + air)


def percent(value: float) -> str:
    """Return a share as percent, without needless digits."""
    return f"{100.0 * value:.4g} %"


PERCENT_RANGE: Final = (-0.4, 0.8)
"""Skills beyond this are drawn on the edge."""
