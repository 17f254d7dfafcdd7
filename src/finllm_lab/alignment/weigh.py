"""Weighing: what content, lag and name are worth beside each other, and that nothing may fit.

A conditional logit with an outside choice, by maximum likelihood, on cases told in ways that the read-out
of that case never saw; from a part of the cases the cause is taken away.

Source:
    McFadden (1974), "Conditional logit analysis of qualitative choice behavior".
"""

from typing import Final

import msgspec
import numpy as np

from finllm.narrative.alignment.space import (
    KINDS,
    LAG_EDGES,
    N_LAGS,
    MarketReadout,
    TextReadout,
    Weighing,
    fit,
    lag_bin,
    lag_factors,
    log_relevance,
    market_features,
)
from finllm_lab.alignment.cases import Array, Example

ABSENT: Final = 3
"""One case in so many has its cause taken away."""
_SMOOTHING: Final = 12.0
"""Cases of all kinds together that each kind's lags are given."""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A case in the space."""

    texts: Array
    """[n, N_AXES] of the candidates."""
    market: Array
    """[N_AXES]."""
    lags: Array
    """[n] beats."""
    names: Array
    """[n], log relevance."""
    right: int
    """Index of the cause; n = it is not among them."""


def placed(one: Example, text: TextReadout, market: MarketReadout) -> Placed:
    """Return a case in the space."""
    return Placed(
        texts=text(one.texts),
        market=market(market_features(one.window, one.ts)[None])[0],
        lags=one.lags,
        names=log_relevance(one.claims),
        right=one.right if one.right >= 0 else len(one.claims),
    )


def without_cause(found: list[Placed]) -> list[Placed]:
    """Return cases, the cause taken away from some."""
    return [
        _bereft(one) if i % ABSENT == 0 and 0 <= one.right < len(one.lags) else one
        for i, one in enumerate(found)
        if len(one.lags) > 1
    ]


def _bereft(one: Placed) -> Placed:
    keep = np.arange(len(one.lags)) != one.right
    return msgspec.structs.replace(
        one,
        texts=one.texts[keep],
        lags=one.lags[keep],
        names=one.names[keep],
        right=int(keep.sum()),
    )


def lag_ratios(found: list[Example]) -> tuple[tuple[float, ...], ...]:
    """Return the log-likelihood ratio of each lag under cause and under chance, by kind; last of any kind.

    Chance is half what the candidates' lags were and half any time alike: where no candidate came, that
    none was the cause says something.
    """
    causes = np.zeros((len(KINDS) + 1, N_LAGS))
    others = np.ones(N_LAGS)
    for one in found:
        for i, lag in enumerate(one.lags.tolist()):
            if i == one.right:
                causes[[KINDS.index(one.kind), -1], lag_bin(lag)] += 1.0
            else:
                others[lag_bin(lag)] += 1.0
    usual = (causes[-1] + 0.5) / (causes[-1] + 0.5).sum()
    by_kind = causes + _SMOOTHING * usual
    by_kind /= by_kind.sum(axis=1, keepdims=True)
    widths = np.diff(LAG_EDGES)
    ratios = np.log(by_kind / (0.5 * others / others.sum() + 0.5 * widths / widths.sum()))
    return tuple(tuple(round(float(x), 4) for x in row) for row in ratios)


def weigh(found: list[Placed], ratios: tuple[tuple[float, ...], ...]) -> Weighing:
    """Return the weights of greatest likelihood.

    Args:
        found: Cases, some without their cause.
        ratios: Of the lags.
    """
    from scipy.optimize import minimize

    table = np.array(ratios)

    def loss(w: Array) -> float:
        total = 0.0
        for one in found:
            timed = one.texts * lag_factors(table, one.lags, w[1])
            none = w[3] + np.log(len(one.lags))
            odds = np.append(w[0] * fit(timed, one.market) + w[2] * one.names, none)
            top = odds.max()
            total += top + np.log(np.exp(odds - top).sum()) - odds[one.right]
        return total / len(found) + 1e-4 * float((w * w).sum())

    best = minimize(
        loss, np.array([1.0, 1.0, 1.0, 2.0]), method="Nelder-Mead", options={"maxiter": 400}
    ).x
    content, lag, relevance, nothing = (round(float(x), 4) for x in best)
    return Weighing(content=content, lag=lag, relevance=relevance, nothing=nothing)
