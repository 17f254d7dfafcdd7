"""The frontier of a shrunken model as a plot: time against skill lost, with energy and bytes beside.

Knows nothing of how anything was measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from finllm_lab.zoo.shrink import Shrunk

Array = NDArray[np.float64]
LABEL_SHARE: Final = 0.045
"""Of the plot's height, between two labels."""


def draw(shrunk: "Sequence[Shrunk]", horizon: str, file: Path) -> None:
    """Draw microseconds against skill lost at one horizon, joules as colour, bytes in words."""
    from matplotlib import rc_context
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots()
    us = np.array([one.cost.p50_us for one in shrunk])
    gains = [one.gains[horizon] for one in shrunk]
    lost = 100.0 * np.array([gain.skill for gain in gains])
    reach = np.abs(100.0 * np.array([(gain.low, gain.high) for gain in gains]).T - lost)
    joules = np.array([one.cost.joules_per_million for one in shrunk])
    axes.axhline(0.0, color="0.5", linewidth=0.8, zorder=0)
    axes.errorbar(us, lost, yerr=np.nan_to_num(reach), fmt="none", ecolor="0.75", capsize=2)
    _scale(axes, us, horizon)
    norm = Normalize(joules.min(), joules.max())
    names = [f"{one.cost.name}, {one.cost.size / 1000:.1f} kB" for one in shrunk]
    ways = sorted({one.cost.way for one in shrunk})
    for way, marker in zip(ways, "os", strict=False):
        own = [i for i, one in enumerate(shrunk) if one.cost.way == way]
        axes.scatter(
            us[own], lost[own], c=joules[own], norm=norm, marker=marker, edgecolors="0.3", label=way,
            zorder=3,
        )  # fmt: skip
        _label(axes, us[own], lost[own], [names[i] for i in own])
    axes.legend(loc="lower right", fontsize=8)
    by = shrunk[0].cost.energy_by
    figure.colorbar(ScalarMappable(norm), ax=axes, label=f"joules a million rows ({by})")
    with rc_context({"svg.hashsalt": "frontier"}):  # the same figures give the same bytes
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _scale(axes: Any, us: Array, horizon: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(0.7 * us.min(), 3.5 * us.max())
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("p50 of one row alone, microseconds (log)")
    axes.set_ylabel(f"skill at {horizon} against the full model, points, 95 %")
    axes.set_title("Training sessions left out in turn; labels say what is served", fontsize=10)


def _label(axes: Any, x: Array, y: Array, names: Sequence[str]) -> None:
    """Write the names of some points in a column to the right of them all."""
    low, high = axes.get_ylim()
    for i, place in enumerate(apart(y, LABEL_SHARE * (high - low)).tolist()):
        axes.annotate(
            names[i],
            (x[i], y[i]),
            xytext=(1.2 * x.max(), place),
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5},
        )


def apart(wanted: Array, least: float) -> Array:
    """Return places at least so far apart, in the same order and as near as can be to those wanted."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(wanted, kind="stable")
    room = least * np.arange(len(wanted))
    placed = np.empty(len(wanted))
    placed[order] = isotonic_regression(wanted[order] - room).x + room
    return placed
