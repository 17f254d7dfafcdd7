"""The small fits that baselines and calibration share: Newton and golden section as plain loops.

Compiled, allocation-light and free of BLAS, so that the same outcomes give the same bits on any
machine of the stated kind. Knows nothing of horizons or time.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.runtime.kernels import kernel

N_STEPS: Final = 25
Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]

LONGEST_STEP: Final = 2.0
"""Largest change of a parameter in one Newton step: keeps near-separable data from flying off."""
GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


@kernel
def solve(matrix: Doubles, vector: Doubles) -> None:
    """Solve a small positive definite system in place by elimination; `vector` becomes x."""
    n = vector.shape[0]
    for i in range(n):
        for j in range(i + 1, n):
            factor = matrix[j, i] / matrix[i, i]
            for k in range(i, n):
                matrix[j, k] -= factor * matrix[i, k]
            vector[j] -= factor * vector[i]
    for back in range(n):
        i = n - 1 - back
        for k in range(i + 1, n):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]


@kernel
def _step(matrix: Doubles, vector: Doubles, theta: Doubles) -> float:
    solve(matrix, vector)
    longest = 0.0
    for i in range(theta.shape[0]):
        longest = max(longest, abs(vector[i]))
    shrink = min(1.0, LONGEST_STEP / longest) if longest > 0.0 else 1.0
    for i in range(theta.shape[0]):
        theta[i] -= shrink * vector[i]
    return longest


@kernel
def _add_three_way(
    x: float, y: float, weight: float, theta: Doubles, gradient: Doubles, curve: Doubles
) -> None:
    down = math.exp(min(30.0, theta[0] + theta[1] * x))
    up = math.exp(min(30.0, theta[2] + theta[3] * x))
    total = 1.0 + down + up
    down /= total
    up /= total
    miss_down = weight * (down - (1.0 if y == 0.0 else 0.0))
    miss_up = weight * (up - (1.0 if y == 2.0 else 0.0))
    gradient[0] += miss_down
    gradient[1] += miss_down * x
    gradient[2] += miss_up
    gradient[3] += miss_up * x
    for a in range(2):
        for b in range(2):
            power = weight * (1.0 if a + b == 0 else (x if a + b == 1 else x * x))
            curve[a, b] += down * (1.0 - down) * power
            curve[2 + a, 2 + b] += up * (1.0 - up) * power
            curve[a, 2 + b] -= down * up * power
            curve[2 + a, b] -= down * up * power


@kernel
def fit_three_way(
    x: Singles, y: Singles, weight: float, prior: Doubles, strength: float, theta: Doubles
) -> None:
    """Fit log(p_down / p_flat) = t0 + t1 x and log(p_up / p_flat) = t2 + t3 x by Newton's method.

    Args:
        x: float32 [n], the one regressor.
        y: float32 [n], labels 0, 1, 2.
        weight: What one outcome counts for.
        prior: float64 [4], where the parameters are drawn to.
        strength: Outcomes that the prior is worth.
        theta: float64 [4], start and result.
    """
    n = x.shape[0]
    square = 0.0
    for i in range(n):
        square += x[i] * x[i]
    square = square / n + 1e-12
    gradient = np.empty(4)
    curve = np.empty((4, 4))
    for _ in range(N_STEPS):
        curve[:] = 0.0
        for j in range(4):
            precision = strength * 0.2 * (square if j % 2 else 1.0) + 1e-9
            gradient[j] = precision * (theta[j] - prior[j])
            curve[j, j] = precision
        for i in range(n):
            _add_three_way(np.float64(x[i]), y[i], weight, theta, gradient, curve)
        if _step(curve, gradient, theta) < 1e-7:
            break


@kernel
def fit_line(
    x: Doubles, hit: Doubles, weight: Doubles, prior: Doubles, strength: float, theta: Doubles
) -> None:
    """Fit log-odds(hit) = t0 + t1 x (or t0 x alone, if theta has one entry) by Newton's method.

    Args:
        x: float64 [n].
        hit: float64 [n], 0 or 1.
        weight: float64 [n], what each outcome counts for.
        prior: float64 [k], where the parameters are drawn to.
        strength: Outcomes that the prior is worth.
        theta: float64 [k], start and result; k is 1 or 2.
    """
    n, k = x.shape[0], theta.shape[0]
    mass, square = 1e-12, 1e-12
    for i in range(n):
        mass += weight[i]
        square += weight[i] * x[i] * x[i]
    square /= mass
    gradient = np.empty(k)
    curve = np.empty((k, k))
    for _ in range(N_STEPS):
        curve[:] = 0.0
        for j in range(k):
            precision = strength * 0.25 * (square if j == k - 1 else 1.0) + 1e-9
            gradient[j] = precision * (theta[j] - prior[j])
            curve[j, j] = precision
        for i in range(n):
            score = theta[0] + theta[1] * x[i] if k == 2 else theta[0] * x[i]
            p = 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, score))))
            miss = weight[i] * (p - hit[i])
            own = weight[i] * p * (1.0 - p)
            gradient[k - 1] += miss * x[i]
            curve[k - 1, k - 1] += own * x[i] * x[i]
            if k == 2:
                gradient[0] += miss
                curve[0, 0] += own
                curve[0, 1] += own * x[i]
                curve[1, 0] += own * x[i]
        if _step(curve, gradient, theta) < 1e-7:
            break


@kernel
def pinball(returns: Singles, quantiles: Singles, weight: Doubles, scale: float) -> float:
    """Return the weighted pinball loss of quantiles whose spread about the median is scaled.

    Args:
        returns: float32 [n].
        quantiles: float32 [n, 5], at 0.1, 0.25, 0.5, 0.75, 0.9, in the unit of the returns.
        weight: float64 [n].
        scale: Factor on each quantile's deviation from the median.
    """
    total = 0.0
    levels = (0.1, 0.25, 0.5, 0.75, 0.9)
    for i in range(returns.shape[0]):
        median = np.float64(quantiles[i, 2])
        for j in range(5):
            miss = returns[i] - (median + scale * (quantiles[i, j] - median))
            total += weight[i] * (levels[j] * miss if miss >= 0.0 else (levels[j] - 1.0) * miss)
    return total


@kernel
def fit_width(
    returns: Singles, quantiles: Singles, weight: Doubles, prior: float, strength: float
) -> float:
    """Return the scale about the median that loses least, drawn to `prior`, in [0.02, 5].

    The loss is counted in units of its own mean at the prior scale, so that `strength` reads as
    outcomes; golden-section search on the logarithm.
    """
    mass = 1e-12
    for i in range(returns.shape[0]):
        mass += weight[i]
    unit = pinball(returns, quantiles, weight, prior) / mass
    if unit <= 0.0:
        return prior
    low, high = math.log(0.02), math.log(5.0)
    centre = math.log(prior)
    for _ in range(20):
        left = high - GOLDEN * (high - low)
        right = low + GOLDEN * (high - low)
        at_left = pinball(returns, quantiles, weight, math.exp(left)) / unit
        at_right = pinball(returns, quantiles, weight, math.exp(right)) / unit
        at_left += 0.25 * strength * (left - centre) ** 2
        at_right += 0.25 * strength * (right - centre) ** 2
        if at_left <= at_right:
            high = right
        else:
            low = left
    return math.exp(0.5 * (low + high))


P_LEAST: Final = 0.02
"""Least probability of a normal law's class. Returns come in ticks, so its tails are not to be believed;
of 0.001, 0.005 and 0.02 this makes the reference strongest on the training tapes."""


@kernel
def normal_tail(band: float, deviation: float) -> float:
    """Return P(return >= band) under a zero-mean normal law, floored to leave each class 2 %."""
    if deviation <= 0.0:
        return P_LEAST
    tail = 0.5 * math.erfc(max(0.0, band) / deviation / math.sqrt(2.0))
    return min(0.5 - 0.5 * P_LEAST, max(P_LEAST, tail))


@kernel
def _class_loss(label: Singles, band: Singles, unit: Singles, scale: float) -> float:
    total = 0.0
    for i in range(label.shape[0]):
        tail = normal_tail(np.float64(band[i]), scale * unit[i])
        total -= math.log(1.0 - 2.0 * tail if label[i] == 1.0 else tail)
    return total


@kernel
def fit_deviation(
    label: Singles, band: Singles, unit: Singles, weight: float, prior: float, strength: float
) -> float:
    """Return the factor on the unit deviations that makes the labels likeliest under a normal law.

    Args:
        label: float32 [n], 0, 1, 2.
        band: float32 [n], bps.
        unit: float32 [n], standard deviation before scaling, bps.
        weight: What one outcome counts for.
        prior: Where the factor is drawn to.
        strength: Outcomes that the prior is worth.
    """
    centre = math.log(prior)
    low, high = centre - 2.0, centre + 2.0
    for _ in range(20):
        left = high - GOLDEN * (high - low)
        right = low + GOLDEN * (high - low)
        at_left = weight * _class_loss(label, band, unit, math.exp(left))
        at_right = weight * _class_loss(label, band, unit, math.exp(right))
        at_left += 0.5 * strength * (left - centre) ** 2
        at_right += 0.5 * strength * (right - centre) ** 2
        if at_left <= at_right:
            high = right
        else:
            low = left
    return math.exp(0.5 * (low + high))
