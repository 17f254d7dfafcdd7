"""Fitting the weights of credibility: logistic regression over the terms, each weight within its bounds.

Each claim counts twice, as it was made and as it stood a day later, half each. The intercept is free, and
becomes the prior: in service the prior is a setting. A second intercept, which is not served, takes up what
a day without a denial tells: standing changes by what is said, never by silence. A ridge pulls every weight
towards the one set by hand, so that a term of which little was seen stays near it; its strength is chosen
with whole wires left out. Terms depend a little on the weights and the prior of the room that found them, by
what it condemned and learnt: gather, fit, and gather again until they agree.
"""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from finllm.domain.errors import InputError
from finllm.narrative.trust.credibility import SHIPPED, CredibilityWeights
from finllm.narrative.trust.reputation import chance, log_odds
from finllm_lab.cards import Card, write_record
from finllm_lab.credibility.cases import TERMS, Case
from finllm_lab.credibility.planted import FROZEN

NAME: Final = "credibility-2"
CARD: Final = "credibility.card.json"
BY_HAND: Final = CredibilityWeights(
    name="by-hand",
    record=1.0,
    reach=1.2,
    originality=1.0,
    repost=0.7,
    disguised=1.6,
    instructions=3.5,
    stale=1.0,
    campaign=3.0,
    verified=1.5,
    corroboration=0.6,
    contradicted=1.5,
    denied=4.0,
)
"""What was set before anything was fitted."""
LEAST: Final = {
    "record": 0.75,
    "originality": 1.0,
    "disguised": 1.0,
    "instructions": 2.5,
    "campaign": 1.0,
    "denied": 3.5,
}
"""Least weights that the laws of the checker need, whatever the wires say."""
MOST: Final = {"corroboration": 1.0}
"""Greatest weights that they allow. Where one origin that bears a claim out counts for more than a verified
channel does, a denial from there is believed less than the claim, and no liar is ever found out."""
_LEAST_OF_ANY: Final = 0.05
"""No term is without any say: it can still be read off the reasons."""
RIDGES: Final = (0.0, 3.0, 30.0, 300.0)
"""Claims' worth of pull towards the weight set by hand, on a relative change of one."""
N_FOLDS: Final = 6

Floats = NDArray[np.float64]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Cases as the fit sees them, one row a case and instant."""

    x: Floats
    """[n, len(TERMS)]."""
    y: Floats
    """[n], 1 where the claim is so."""
    later: Floats
    """[n], 1 for a claim as it stood later."""
    tape: NDArray[np.int64]
    """[n]."""


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """Weights, and the prior at which they are calibrated on what they were fitted on."""

    weights: dict[str, float]
    prior: float
    silence: float
    """Log-odds that a day has added, whatever was said in it."""


def table(cases: list[Case]) -> Table:
    """Return cases as they were made, and below them as they stood later."""
    both = [one.made for one in cases] + [one.later for one in cases]
    return Table(
        x=np.array([[one.terms.get(term, 0.0) for term in TERMS] for one in both]),
        y=np.array([float(case.is_true) for case in cases] * 2),
        later=np.repeat([0.0, 1.0], len(cases)),
        tape=np.array([case.tape for case in cases] * 2),
    )


def fit(data: Table, ridge: float) -> Fitted:
    """Return the most likely weights within their bounds, under a ridge."""
    hand = np.array([getattr(BY_HAND, term) for term in TERMS])

    def objective(theta: Floats) -> tuple[float, Floats]:
        eta = theta[0] + theta[1] * data.later + data.x @ theta[2:]
        apart = (theta[2:] - hand) / hand
        loss = 0.5 * float((np.logaddexp(0.0, eta) - data.y * eta).sum())
        slope = 0.5 * (1.0 / (1.0 + np.exp(-eta)) - data.y)
        of_terms = data.x.T @ slope + ridge * apart / hand
        gradient = np.concatenate([[slope.sum(), slope @ data.later], of_terms])
        return loss + 0.5 * ridge * float(apart @ apart), gradient

    bounds_of = [(LEAST.get(term, _LEAST_OF_ANY), MOST.get(term)) for term in TERMS]
    start = np.concatenate([[0.0, 0.0], hand])
    bounds = [(None, None), (None, None), *bounds_of]
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2_000}
    ).x
    weights = {term: round(float(w), 4) for term, w in zip(TERMS, found[2:], strict=True)}
    prior, silence = round(chance(float(found[0])), 4), round(float(found[1]), 4)
    return Fitted(weights=weights, prior=prior, silence=silence)


def predicted(data: Table, model: Fitted) -> Floats:
    """Return each row's credibility, [n]."""
    w = np.array([model.weights[term] for term in TERMS])
    eta = log_odds(model.prior) + model.silence * data.later + data.x @ w
    return np.asarray(1.0 / (1.0 + np.exp(-eta)))


def nats(p: Floats, y: Floats) -> float:
    """Return the mean log loss."""
    held = np.clip(p, 1e-9, 1.0 - 1e-9)
    return float(-(y * np.log(held) + (1.0 - y) * np.log(1.0 - held)).mean())


# --- what ships --------------------------------------------------------------------------------------


class CredibilityCard(Card, frozen=True, kw_only=True):
    """What the weights of credibility are and where they are from."""

    assumed: str
    since_fit: str = ""
    """What of the room that found the terms is no longer so; empty when just fitted."""
    n_cases: int
    share_true: float
    prior: float
    """At which the weights are calibrated on these wires; in service the prior is a setting."""
    silence: float
    """Log-odds that a day added; not served."""
    by_hand: dict[str, float]
    least: dict[str, float]
    most: dict[str, float]
    share: dict[str, float]
    """Term -> share of the rows that have it."""
    tried: dict[str, float]
    """Ridge -> nats a row, whole wires left out."""
    command: str


def build(cases: list[Case], out: Path) -> CredibilityCard:
    """Choose the ridge with whole wires left out, fit on all cases, and write weights and card.

    Raises:
        InputError: If there are too few wires to leave any out.
    """
    tapes = sorted({case.tape for case in cases})
    if len(tapes) < N_FOLDS:
        raise InputError(
            f"{len(tapes)} wires", place="--cases", mend=f"Gather {N_FOLDS} or more in a row."
        )
    data = table(cases)
    tried = {ridge: _left_out(data, ridge) for ridge in RIDGES}
    model = fit(data, min(tried, key=lambda ridge: tried[ridge]))
    card = CredibilityCard(
        artifact=SHIPPED.name,
        name=NAME,
        licence="Apache-2.0",
        generator=FROZEN,
        sources=(f"finllm_lab.credibility.planted (own), seeds {tapes[0]} to {tapes[-1]}",),
        method=(__doc__ or "").strip(),
        assumed="How truthful senders of each kind are, and what orders, disguises, reach and old news tell, "
        "is the law of the wires, not a count of the world.",
        n_cases=len(cases),
        share_true=round(float(data.y.mean()), 4),
        prior=model.prior,
        silence=model.silence,
        by_hand={term: getattr(BY_HAND, term) for term in TERMS},
        least=LEAST,
        most=MOST,
        share={
            term: round(float(s), 4)
            for term, s in zip(TERMS, (data.x != 0.0).mean(axis=0), strict=True)
        },
        tried={f"{ridge:g}": round(loss, 5) for ridge, loss in tried.items()},
        command="finllm_lab credibility gather --out FILE; finllm_lab credibility fit --cases FILE",
    )
    out.mkdir(parents=True, exist_ok=True)
    write_record(out / SHIPPED.name, CredibilityWeights(name=NAME, **model.weights))
    write_record(out / CARD, card)
    return card


def _left_out(data: Table, ridge: float) -> float:
    """Return the nats a row of models that never saw its wire."""
    p = np.zeros(len(data.y))
    for fold in range(N_FOLDS):
        out = data.tape % N_FOLDS == fold
        parts = {name: getattr(data, name)[~out] for name in data.__struct_fields__}
        kept = Table(**parts)
        p[out] = predicted(data, fit(kept, ridge))[out]
    return nats(p, data.y)
