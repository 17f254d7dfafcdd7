"""Fits the base forecast of the known worlds: two logits per horizon on what the last minutes did."""

import numpy as np
from numpy.typing import NDArray

from finllm.market.known.base import base_of, inputs, labels
from finllm.market.known.law import HORIZONS_S, LAW
from finllm.market.known.world import days

Floats = NDArray[np.float64]
SEEDS = range(701, 705)
DAYS = 3
EVERY = 6
"""Steps between rows: neighbours say nearly the same."""


def fit() -> dict[str, list[list[float]]]:
    """Return the coefficients `MOVE` and `LEAN` of `finllm.market.known.base`, by horizon."""
    columns: list[Floats] = []
    leans: list[Floats] = []
    label: list[NDArray[np.int64]] = []
    for seed in SEEDS:
        for day in days(LAW, seed, DAYS):
            fast, slow, z30, z600 = inputs(day)
            ones = np.ones_like(z30)
            columns.append(
                np.stack([ones, fast - slow, np.abs(z30), np.abs(z600)], axis=-1)[:, ::EVERY]
            )
            leans.append(np.stack([z30, z600], axis=-1)[:, ::EVERY])
            label.append(labels(day, base_of(day))[:, :, ::EVERY])
    x, lean = np.concatenate(columns), np.concatenate(leans)
    y = np.concatenate(label)
    move, up = [], []
    for h in range(len(HORIZONS_S)):
        is_open = y[:, h] >= 0
        moved = is_open & (y[:, h] != 1)
        move.append(_logit(x[is_open], (y[:, h] != 1)[is_open].astype(float)))
        up.append(_logit(lean[moved], (y[:, h] == 2)[moved].astype(float)))
    return {"MOVE": move, "LEAN": up}


def _logit(x: Floats, y: Floats) -> list[float]:
    """Return a logistic regression's coefficients by Newton's method."""
    w = np.zeros(x.shape[1])
    for _ in range(12):
        p = 1.0 / (1.0 + np.exp(-(x @ w)))
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x
        w += np.linalg.solve(hessian + 1e-6 * np.eye(len(w)), x.T @ (y - p))
    return [round(float(each), 4) for each in w]
