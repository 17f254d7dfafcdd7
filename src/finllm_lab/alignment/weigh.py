"""Weighing: what content, lag and name are worth beside each other, and that nothing may fit.

A conditional logit with an outside choice, by maximum likelihood, on cases whose phrases the networks
never saw; from a part of the cases the cause is taken away.

Source:
    McFadden (1974), "Conditional logit analysis of qualitative choice behavior".
"""

from typing import Final

import msgspec
import numpy as np

from finllm.narrative.alignment.space import (
    LAG_EDGES,
    N_LAGS,
    Projection,
    Weighing,
    lag_bin,
    market_features,
)
from finllm.narrative.reading.claims import EVENT_TYPES
from finllm_lab.alignment.cases import Array, Example

ABSENT: Final = 3
"""One case in so many has its cause taken away."""
_SMOOTHING: Final = 8.0
"""Cases of all kinds together that each kind's lags are given."""


def without_cause(found: list[Example]) -> list[Example]:
    """Return cases, the cause taken away from some; index -1 then."""
    out = []
    for i, one in enumerate(found):
        if i % ABSENT or one.right < 0:
            out.append(one)
            continue
        keep = np.arange(len(one.claims)) != one.right
        out.append(
            msgspec.structs.replace(
                one,
                texts=one.texts[keep],
                claims=tuple(c for c, k in zip(one.claims, keep, strict=True) if k),
                lags=one.lags[keep],
                right=-1,
            )
        )
    return out


def lag_ratios(found: list[Example]) -> tuple[tuple[float, ...], ...]:
    """Return the log-likelihood ratio of each lag under cause and under chance, by kind as read.

    Chance is half what the candidates' lags were and half any time alike: where no candidate came, that
    none was the cause says something.
    """
    causes = np.zeros((len(EVENT_TYPES), N_LAGS))
    others = np.ones(N_LAGS)
    for one in found:
        for i, (claim, lag) in enumerate(zip(one.claims, one.lags, strict=True)):
            if i == one.right:
                causes[EVENT_TYPES.index(claim.event_type), lag_bin(lag)] += 1.0
            else:
                others[lag_bin(lag)] += 1.0
    usual = (causes.sum(axis=0) + 0.5) / (causes.sum() + 0.5 * N_LAGS)
    by_kind = causes + _SMOOTHING * usual
    by_kind /= by_kind.sum(axis=1, keepdims=True)
    widths = np.diff(LAG_EDGES)
    ratios = np.log(by_kind / (0.5 * others / others.sum() + 0.5 * widths / widths.sum()))
    return tuple(tuple(round(float(x), 4) for x in row) for row in ratios)


def cosines(one: Example, text: Projection, market: Projection) -> Array:
    """Return how well each candidate's content fits the (first) window, [n]."""
    window, ts = one.windows[0]
    return np.asarray(text(one.texts) @ market(market_features(window, ts)[None])[0])


def weigh(
    found: list[Example],
    networks: tuple[Projection, Projection],
    ratios: tuple[tuple[float, ...], ...],
) -> Weighing:
    """Return the weights of greatest likelihood.

    Args:
        found: Cases, some without their cause.
        networks: The text's and the market's.
        ratios: Of the lags.
    """
    from scipy.optimize import minimize

    given = [_columns(one, networks, ratios) for one in found if len(one.claims)]

    def loss(w: Array) -> float:
        total = 0.0
        for x, right in given:
            odds = np.append(x @ w[:3], w[3])
            top = odds.max()
            total += top + np.log(np.exp(odds - top).sum()) - odds[right]
        return total / len(given) + 1e-4 * float((w * w).sum())

    best = minimize(
        loss, np.array([5.0, 1.0, 1.0, 5.0]), method="Nelder-Mead", options={"maxiter": 600}
    ).x
    content, lag, relevance, nothing = (round(float(x), 4) for x in best)
    return Weighing(content=content, lag=lag, relevance=relevance, nothing=nothing)


def _columns(
    one: Example,
    networks: tuple[Projection, Projection],
    ratios: tuple[tuple[float, ...], ...],
) -> tuple[Array, int]:
    lags = [
        ratios[EVENT_TYPES.index(claim.event_type)][lag_bin(lag)]
        for claim, lag in zip(one.claims, one.lags, strict=True)
    ]
    names = np.log(np.maximum([claim.relevance for claim in one.claims], 1e-3))
    x = np.stack([cosines(one, *networks), np.array(lags), names], axis=1)
    return x, one.right if one.right >= 0 else len(x)
