"""The tilt: how a standing outlook moves a forecast. One pure rule.

Written in the subset of Python that numba compiles, so that the edge's kernel *is* this function and
there is no second copy to keep in step.
"""

import math
from typing import Any, Final

LOGISTIC_IQR: Final = 2.0 * math.log(3.0)
"""Interquartile range of a logistic law of scale one."""
P_FLOOR: Final = 1e-9
"""Probabilities are kept at least this far from 0, so that log-odds exist."""


def tilt(  # noqa: PLR0917 - a kernel of the edge's
    p: Any, q: Any, s: float, k: float, c: float, p_at: int = 0, q_at: int = 0
) -> None:
    """Tilt one horizon's forecast in place. The identity at (s, k) = (0, 1).

    log(p_up / p_down) += s with p_flat held; then the log-odds of a move += c ln k with that ratio
    held; each quantile's deviation from the median is scaled by k, and the centre moves by s times
    the logistic scale (interquartile range / 2 ln 3) that the quantiles show: under a logistic law of
    location m and scale b the log-odds of up against down are m / b.

    Args:
        p: float64 [3], p_down, p_flat, p_up; sums to one before and after.
        q: float64 [5], return quantiles in bps at 0.1, 0.25, 0.5, 0.75, 0.9; ordered before and after.
        s: Shift of log(p_up / p_down).
        k: Volatility scale, above zero.
        c: What ln k is worth in log-odds of a move; from the model's artifact.
        p_at: Where in p the three begin: to a kernel an offset costs nothing, a slice much.
        q_at: Where in q the five begin.
    """
    if s == 0.0 and k == 1.0:
        return
    down = max(p[p_at], P_FLOOR)
    flat = max(p[p_at + 1], P_FLOOR)
    up = max(p[p_at + 2], P_FLOOR)
    up_share = 1.0 / (1.0 + math.exp(-(math.log(up / down) + s)))
    move = 1.0 / (1.0 + math.exp(-(math.log((up + down) / flat) + c * math.log(k))))
    p[p_at] = move * (1.0 - up_share)
    p[p_at + 2] = move * up_share
    p[p_at + 1] = 1.0 - p[p_at] - p[p_at + 2]
    median = q[q_at + 2]
    centre = median + s * (q[q_at + 3] - q[q_at + 1]) / LOGISTIC_IQR
    for i in range(q_at, q_at + 5):
        q[i] = centre + (q[i] - median) * k
