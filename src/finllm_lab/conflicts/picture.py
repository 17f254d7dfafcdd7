"""The confusion matrix of planted conflicts as a picture, one panel a reader. Knows nothing of scoring."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finllm_lab.conflicts.planted import DRIVERS

if TYPE_CHECKING:
    from finllm_lab.conflicts.score import ConflictScore, ReaderScore


def draw(found: "ConflictScore", file: Path) -> None:
    """Draw what was planted against what was named, in counts; shade is the share of the row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(found.readers) + 1.6, 5.6), layout="constrained")
    panels = figure.subplots(1, len(found.readers), squeeze=False, sharey=True)[0]
    for axes, (name, one) in zip(panels, found.readers.items(), strict=True):
        _panel(axes, name, one)
    panels[0].set_yticks(range(len(DRIVERS)), DRIVERS, fontsize=8)
    panels[0].set_ylabel("planted")
    oracle = found.oracle
    figure.suptitle(
        f"Driver of {found.n} planted conflicts, seeds {found.seeds}; chance {found.chance:.3f}, "
        f"oracle {oracle.value:.3f} [{oracle.low:.3f}, {oracle.high:.3f}]",
        fontsize=10,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130, metadata={"Software": None})


def _panel(axes: Any, name: str, one: "ReaderScore") -> None:
    counts = np.array(one.confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row in range(len(counts)):
        for column in range(len(counts)):
            shade = "white" if shares[row, column] > 0.55 else "0.2"
            axes.text(
                column, row, counts[row, column], ha="center", va="center", color=shade, fontsize=9
            )
    axes.set_xticks(range(len(DRIVERS)), DRIVERS, fontsize=8, rotation=40, ha="right")
    axes.set_xlabel("named")
    top, share = one.top_1, one.of_oracle
    axes.set_title(
        f"read with {name}: top-1 {top.value:.3f} [{top.low:.3f}, {top.high:.3f}], "
        f"{share.value:.2f} of the oracle",
        fontsize=9,
    )
