"""What an artifact believes before the first outcome of the day, counted on the training tapes.

Climatology, the logistic baseline's start, the EWMA's scale and the tilt's c, per horizon. Knows
nothing of the network.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS
from finllm.domain.instrument import Horizon
from finllm.edge.artifact import FLAT_SIZES, MOVE_SIZES, HorizonPrior, RegimeRule, Sizes
from finllm.edge.fitting import fit_deviation, fit_three_way
from finllm.edge.sizes import KNOTS
from finllm_lab.labels import Targets
from finllm_lab.tapes import Session
from finllm_lab.walk import followed

P_LEAST: Final = 0.005


def priors_of(
    horizons: Sequence[Horizon],
    found: Sequence[tuple[Session, Targets]],
    *,
    baseline_column: int,
    rule: RegimeRule,
    is_mirrored: bool,
) -> tuple[HorizonPrior, ...]:
    """Return the prior of each horizon over all sessions.

    Args:
        horizons: Shortest first.
        found: Sessions with their targets.
        baseline_column: Column of the logistic baseline.
        rule: Time constants of the EWMA.
        is_mirrored: Whether up and down are treated alike.
    """
    column = np.concatenate([s.rows_at(t.at)[:, baseline_column] for s, t in found])
    ewma = np.concatenate([followed(s.heads, rule)[0][t.at] for s, t in found])
    label = np.concatenate([t.label for _, t in found])
    scaled = np.concatenate([t.scaled for _, t in found])
    band = np.concatenate([t.band_bps for _, t in found])
    size = np.abs(np.concatenate([t.return_bps for _, t in found]))
    priors = []
    for h, horizon in enumerate(horizons):
        known = label[:, h] >= 0
        y, x, r = label[known, h], column[known], scaled[known, h]
        y_known, bands = y, size[known, h] / np.maximum(band[known, h], 1e-9)
        if is_mirrored:
            y, x, r = np.concatenate([y, 2 - y]), np.concatenate([x, -x]), np.concatenate([r, -r])
        unit = ewma[known] * math.sqrt(horizon.nominal_s)
        priors.append(
            HorizonPrior(
                horizon=horizon,
                tilt_c=_tilt_c(label[known, h], np.abs(scaled[known, h]), band[known, h]),
                climatology=_frequencies(y),
                climatology_q=_quantiles(r),
                move_sizes=_sizes(bands[y_known != 1], MOVE_SIZES),
                flat_sizes=(0.0, *_sizes(bands[y_known == 1], FLAT_SIZES)[1:]),
                baseline_logit=_logit(x, y),
                ewma_scale=_ewma_scale(label[known, h], band[known, h], unit),
            )
        )
    return tuple(priors)


def _round(value: float) -> float:
    return round(float(value), 4)


def _frequencies(label: NDArray[np.int64]) -> tuple[float, float, float]:
    counts = [max(P_LEAST, float(np.mean(label == which))) for which in range(3)]
    down, up = _round(counts[0] / sum(counts)), _round(counts[2] / sum(counts))
    return down, 1.0 - down - up, up


def _quantiles(scaled: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    a, b, c, d, e = (_round(q) for q in np.quantile(scaled, LEVELS))
    return a, b, c, d, e


def _sizes(bands: NDArray[np.float64], otherwise: Sizes) -> Sizes:
    """Return sizes at `KNOTS`, in half-widths of the band; another law where there are none."""
    if not len(bands):
        return otherwise
    a, b, c, d, e, f, g, h = (_round(q) for q in np.quantile(bands, KNOTS))
    return a, b, c, d, e, f, g, h


def _ewma_scale(
    label: NDArray[np.int64], band: NDArray[np.float64], unit: NDArray[np.float64]
) -> float:
    """Return the likeliest factor on the EWMA; searched again from where a search ended."""
    scale = 1.0
    for _ in range(3):  # one search spans a factor of e^2 a side; short horizons need more
        scale = fit_deviation(
            label.astype(np.float32),
            band.astype(np.float32),
            unit.astype(np.float32),
            1.0,
            scale,
            1.0,
        )
    return _round(scale)


def _logit(x: NDArray[np.float64], y: NDArray[np.int64]) -> tuple[float, float, float, float]:
    theta = np.zeros(4)
    fit_three_way(x.astype(np.float32), y.astype(np.float32), 1.0, np.zeros(4), 1.0, theta)
    a, b, c, d = (_round(value) for value in theta)
    return a, b, c, d


def _tilt_c(
    label: NDArray[np.int64], size: NDArray[np.float64], band: NDArray[np.float64]
) -> float:
    """Return d log-odds(move) / d ln k at k = 1, from the empirical law of absolute returns.

    Scaling returns by k is dividing the band by k: the slope is read off between k = 0.8 and 1.25.
    Half-spread bands on ticks are coarse, so the slope is kept between 0.3 and 3.
    """
    if not len(label) or not float(np.max(size)) > 0.0 or not float(np.max(band)) > 0.0:
        return 1.0
    share = min(0.98, max(0.02, float(np.mean(label != 1))))
    edge = float(np.quantile(size, 1.0 - share))
    odds = []
    for k in (0.8, 1.25):
        p = min(0.995, max(0.005, float(np.mean(size * k >= max(edge, 1e-9)))))
        odds.append(math.log(p / (1.0 - p)))
    return _round(min(3.0, max(0.3, (odds[1] - odds[0]) / math.log(1.25 / 0.8))))
