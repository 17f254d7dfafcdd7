"""Pictures of benchmarks: what draws them, and the latency distributions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finllm.app.bench.measure import Nanoseconds
from finllm.domain.errors import InputError


def pyplot() -> Any:
    """Return what draws into files.

    Raises:
        InputError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InputError(
            "drawing needs matplotlib",
            place="--plot",
            mend="pip install 'fin-llm-inference[bench]'.",
        ) from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def check_drawable(out: Path | None) -> None:
    """Check that a picture can be drawn, if one is wanted, before anything is measured.

    Raises:
        InputError: If matplotlib is not installed, or the folder is none.
    """
    if out is None:
        return
    pyplot()
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(
            f"{out} is no file in a folder", place="--plot", mend="Name a PNG where a folder is."
        )


def plot(found: Mapping[str, Nanoseconds], out: Path) -> None:
    """Draw the share of rows that took longer than a time, a line for each distribution.

    Raises:
        InputError: If matplotlib is not installed.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 5))
    for name, latencies in found.items():
        ordered = np.sort(latencies) / 1e3
        axes.plot(ordered, 1.0 - np.arange(len(ordered)) / len(ordered), label=name)
    axes.set(xscale="log", yscale="log", xlabel="microseconds", ylabel="share of rows slower")
    axes.set_title("From frame to forecast row")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plt.close(figure)
