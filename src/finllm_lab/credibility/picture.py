"""Reliability as a picture: what was said against what was so, one panel an instant."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from finllm_lab.credibility.cases import Case
from finllm_lab.credibility.score import BINS, Report, Score

INK: Final = "#1d2330"
SOFT: Final = "#5d6677"
RULE: Final = "#d9dee7"
BLUE: Final = "#2f6fd0"
BROWN: Final = "#c2701c"
"""These colours are those of the evaluation's page."""
_LEAST: Final = 20
"""Claims in a bin that is drawn."""

Floats = NDArray[np.float64]


def draw(ways: dict[str, tuple[list[Case], Report]], seeds: str, file: Path) -> None:
    """Draw each way of weighing, as claims were made and a day later.

    Args:
        ways: Name -> its cases and their report, the one that is served first.
        seeds: Of the wires, for the title.
        file: PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 6.4), layout="constrained")
    rows = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
    for column, (name, title) in enumerate(
        (("made", "as claims are made"), ("later", "a day later"))
    ):
        for (way, (cases, report)), colour in zip(ways.items(), (BLUE, BROWN), strict=False):
            p = np.array([getattr(case, name).credibility for case in cases])
            y = np.array([float(case.is_true) for case in cases])
            _reliability(rows[0, column], p, y, colour, _label(way, getattr(report, name)))
            rows[1, column].hist(p, bins=40, range=(0, 1), histtype="step", color=colour)
        _dress(rows[0, column], rows[1, column], title)
    n = sum(len(cases) for cases, _ in list(ways.values())[:1])
    figure.suptitle(
        f"Credibility of {n:,} claims of known truth, wires {seeds}", fontsize=11, color=INK
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130, metadata={"Software": None})


def _label(way: str, one: Score) -> str:
    most = one.ece_perfect.high
    return f"{way}: Brier {one.brier.value:.3f}, calibration error {one.ece:.3f} (perfect: up to {most:.3f})"


def _reliability(axes: Any, p: Floats, y: Floats, colour: str, label: str) -> None:
    place = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    n = np.bincount(place, minlength=BINS)
    there = n >= _LEAST
    said = np.bincount(place, p, minlength=BINS)[there] / n[there]
    so = np.bincount(place, y, minlength=BINS)[there] / n[there]
    spread = 1.96 * np.sqrt(np.maximum(so * (1.0 - so), 1e-4) / n[there])
    axes.errorbar(
        said, so, yerr=spread, color=colour, marker="o", markersize=4, linewidth=1.4, label=label
    )


def _dress(top: Any, bottom: Any, title: str) -> None:
    top.plot((0, 1), (0, 1), color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    top.set_title(title, fontsize=10, color=INK)
    top.set_ylabel("share that was so", color=SOFT)
    top.set_ylim(-0.02, 1.02)
    top.legend(fontsize=8, frameon=False, loc="lower right", labelcolor=INK)
    bottom.set_xlabel("credibility", color=SOFT)
    bottom.set_ylabel("claims", color=SOFT)
    for axes in (top, bottom):
        axes.grid(color=RULE, linewidth=0.7)
        axes.tick_params(colors=SOFT, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(RULE)
