"""Conflicts between words and market: named hypotheses, each tested on a pack.

Each text in turn is taken for *the* news, and so is none of them. Taken so, what the price did before
and after it, how deep and how restless the book is, and what the text was read as, give the hypotheses
probabilities by a multinomial logistic model. What is said in the end is the average over the texts,
each by its share of the trust, so that no text, whatever it says, moves it by more than its own share.

The figures of a test are sums of weights times fields of the evidence; anybody can add them up. The lab
fits the model on planted conflicts. Nothing here reads a word.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.errors import ArtifactError
from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.protocol import Figure, Finding, Hypothesis, Term
from finllm.domain.units import NS_PER_S
from finllm.reasoning.fusion import held, trusts
from finllm.reasoning.reasoner import admissible, left_sum

SHIPPED: Final = Path(__file__).parent / "weights" / "conflict.json"
"""The model that comes with the package; `conflict.card.json` beside it says where it is from."""
MARKET_LAGS: Final = "market lags the news"
NEWS_LAGS: Final = "news lags the market"
PRICED_IN: Final = "priced in"
RUMOUR: Final = "false rumour"
DRAIN: Final = "hidden liquidity drain"
REGIME: Final = "regime change"
UNRELATED: Final = "unrelated"
TESTS: Final[dict[str, tuple[str, ...]]] = {
    MARKET_LAGS: ("stance", "copies", "move since"),
    NEWS_LAGS: ("stance", "move just before"),
    PRICED_IN: ("stance", "move long before"),
    RUMOUR: ("credibility", "move since"),
    DRAIN: ("depth lately", "slope lately", "thinness", "move lately"),
    REGIME: ("restlessness", "busyness", "volatility"),
    UNRELATED: ("relevance", "move lately"),
}
"""The hypotheses, and the figures that each one's test goes by first."""
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "market moves": ("move_", "ret_"),
    "market depth": ("obi", "depth", "depletion", "resilience"),
    "market restlessness": ("rv_", "sigma", "event_rate", "trade_rate", "spread"),
    "market flow": ("ofi", "mlofi", "flow"),
}
"""Sources within the market, by the beginnings of their features' names."""
_MOVE: Final = "move_"
_JUST_S: Final = 15.0
"""How long before a text the market has just moved."""
_MOST: Final = 5.0
"""Figures beyond this count as this in the model."""
_MOST_GATE: Final = 3.0


class ConflictWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model, as the lab writes it."""

    name: str
    memory_ns: int
    """Age at which a text counts half."""
    no_text: float
    """Trust of the option that none of the texts is the news."""
    gate: dict[str, float]
    """Log of what a text's trust is multiplied by, per unit of what it was read as."""
    tests: dict[str, dict[str, float]]
    """Hypothesis -> input -> log-odds per unit."""


def load_conflict(path: Path = SHIPPED) -> ConflictWeights:
    """Return the model from its JSON file.

    Raises:
        ArtifactError: If the file is missing or does not state a model of these hypotheses.
    """
    try:
        weights = msgspec.json.decode(path.read_bytes(), type=ConflictWeights)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{path}: no usable weights of hypotheses: {error}") from error
    if set(weights.tests) != set(TESTS):
        raise ArtifactError(f"{path}: its hypotheses are not {', '.join(TESTS)}")
    return weights


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A pack with one of its texts taken for the news, or none."""

    claim: Evidence | None
    trust: float
    """0 for none of the texts."""
    gate: dict[str, float]
    """What the text was read as."""
    figures: dict[str, Figure]
    inputs: dict[str, float]
    """What the model sees, bounded."""


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """An option with what the model makes of it."""

    option: Option
    mass: float
    """Trust times gate."""
    probabilities: dict[str, float]


def options(pack: EvidencePack, memory_ns: int) -> list[Option]:
    """Return a pack as seen with each of its texts in turn taken for the news; last, with none."""
    evidence = admissible(pack)
    seen = {e.feature: e for e in evidence if e.kind is EvidenceKind.OBSERVATION}
    path = _path(e for f, e in seen.items() if f.startswith(_MOVE))
    market = _market_figures(seen)
    trust = trusts(evidence, pack.as_of, memory_ns)
    found = [
        _option(e, w, (pack.as_of - e.ts_recv) / NS_PER_S, path, market)
        for e, w in zip(evidence, trust, strict=True)
        if e.kind is not EvidenceKind.OBSERVATION and w > 0.0
    ]
    return [*found, _option(None, 0.0, 0.0, path, market)]


def weigh(found: list[Option], weights: ConflictWeights) -> list[Weighed]:
    """Return what the model makes of each option."""
    return [
        Weighed(
            option=one,
            mass=_mass(one, weights),
            probabilities=_softmax(
                {name: _score(one.inputs, weights.tests[name]) for name in TESTS}
            ),
        )
        for one in found
    ]


def mixed(weighed: list[Weighed], less: str = "") -> dict[str, float]:
    """Return each hypothesis' probability over the options, less the texts of an origin."""
    kept = [w for w in weighed if w.option.claim is None or w.option.claim.origin != less]
    total = left_sum(w.mass for w in kept)
    return {name: left_sum(w.mass * w.probabilities[name] for w in kept) / total for name in TESTS}


def is_testable(pack: EvidencePack) -> bool:
    """Return whether a pack says how the price moved: without it there is nothing to hold words against."""
    return any(
        e.kind is EvidenceKind.OBSERVATION and e.feature.startswith(_MOVE) for e in admissible(pack)
    )


def hypotheses(weighed: list[Weighed]) -> tuple[Hypothesis, ...]:
    """Return the hypotheses, most probable first, with the figures of the option that weighs most."""
    probabilities = mixed(weighed)
    figures = max(weighed, key=lambda w: w.mass).option.figures
    ranked = sorted(TESTS, key=lambda name: -probabilities[name])
    return tuple(
        Hypothesis(
            name=name,
            probability=probabilities[name],
            figures=tuple(figures[f] for f in TESTS[name] if f in figures),
        )
        for name in ranked
    )


def distance(one: dict[str, float], other: dict[str, float]) -> float:
    """Return the total variation between two sets of probabilities, 0 to 1."""
    return 0.5 * left_sum(abs(one[name] - other[name]) for name in TESTS)


def without(pack: EvidencePack, evidence_ids: tuple[str, ...]) -> EvidencePack:
    """Return a pack less some of its evidence."""
    left = tuple(e for e in pack.evidence if e.evidence_id not in evidence_ids)
    return msgspec.structs.replace(pack, evidence=left)


def clause(tested: tuple[Hypothesis, ...]) -> str:
    """Return the hypotheses that are not rejected in words; empty if there is nothing to explain."""
    if not tested or tested[0].name == UNRELATED:
        return ""
    sides = (f"{h.name} {h.probability:.2f}" for h in tested if h.finding is not Finding.REJECTED)
    return ", ".join(sides)


# --- the figures -------------------------------------------------------------------------------------

_Path = list[tuple[float, Evidence]]
"""Windows in seconds with the move over each, shortest first."""


def _path(moves: Iterable[Evidence]) -> _Path:
    found = {e.window_ns / NS_PER_S: e for e in moves if e.window_ns > 0}
    return sorted(found.items(), key=lambda one: one[0])


def _option(
    claim: Evidence | None, trust: float, age_s: float, path: _Path, market: dict[str, Figure]
) -> Option:
    figures = dict(market)
    gate: dict[str, float] = {}
    if claim is not None:
        for name, field in _CLAIM.items():
            figures[name] = _figure(name, [(claim, field, 1.0)])
        figures |= _around(age_s, path)
        gate = _read_as(claim)
    return Option(
        claim=claim,
        trust=trust,
        gate=gate,
        figures=figures,
        inputs=_inputs(figures, gate, age_s),
    )


_CLAIM: Final = {
    "stance": "stance",
    "credibility": "credibility",
    "relevance": "relevance",
    "copies": "n_copies",
}


def _read_as(claim: Evidence) -> dict[str, float]:
    event = claim.event_type
    return {
        "rumour": float(event == "rumour"),
        "denial": float(event == "denial"),
        "event": float(event not in {"", "other", "rumour", "denial"}),
        "copies": math.log1p(min(3, max(0, claim.n_copies))),
        "size": abs(held(claim.stance, 1.0)),
    }


def _around(age_s: float, path: _Path) -> dict[str, Figure]:
    """Return the moves since, just before and long before an instant, in usual deviations of each span."""
    reach = path[-1][0] if path else 0.0
    now, said = 0.0, min(age_s, reach)
    just = min(said + _JUST_S, reach)
    spans = {
        "move since": (now, said),
        "move just before": (said, just),
        "move long before": (just, reach),
    }
    return {name: _move(name, late, early, path) for name, (late, early) in spans.items()}


def _move(name: str, late_s: float, early_s: float, path: _Path) -> Figure:
    """Return the move from one age to a smaller one, over its usual size; from z-scores of whole windows."""
    scale = 1.0 / math.sqrt(max(1.0, early_s - late_s))
    terms = [(e, "z_score", scale * w) for e, w in _at(early_s, path)]
    terms += [(e, "z_score", -scale * w) for e, w in _at(late_s, path)]
    return _figure(name, terms)


def _at(age_s: float, path: _Path) -> list[tuple[Evidence, float]]:
    """Return the weights of the windows' z-scores that give the move since an age, between two of them."""
    before_s, before = 0.0, None
    for window_s, e in path:
        if age_s <= window_s:
            share = (age_s - before_s) / (window_s - before_s)
            found = [(e, share * math.sqrt(window_s))]
            if before is not None:
                found.append((before, (1.0 - share) * math.sqrt(before_s)))
            return [(e, w) for e, w in found if w != 0.0]
        before_s, before = window_s, e
    return [] if before is None else [(before, math.sqrt(before_s))]


_MARKET: Final[dict[str, tuple[tuple[str, str, float], ...]]] = {
    "depth": (("obi_10", "z_score", 1.0),),
    "depth now": (("obi_10", "value", 3.0),),
    "touch": (("obi_1", "z_score", 1.0),),
    "depth lately": (("obi_10_lately", "z_score", 1.0),),
    "slope lately": (("depth_slope_skew_lately", "z_score", 1.0),),
    "level": (("depth_slope_skew_lately", "value", 1.0),),
    "thinness": (("depth_slope_lately", "z_score", -1.0),),
    "slope": (("depth_slope_skew", "z_score", 1.0),),
    "slope now": (("depth_slope_skew", "value", 1.0),),
    "depletion": (("depletion_10s", "z_score", 1.0),),
    "move lately": (("move_10s", "z_score", 1.0),),
    "move of a minute": (("move_60s", "z_score", 1.0),),
    "restlessness": (("rv_10s", "value", 1.0), ("rv_60s", "value", -1.0)),
    "unrest": (("rv_60s", "z_score", 1.0),),
    "busyness": (("event_rate_2s", "z_score", 1.0),),
    "volatility": (("sigma", "z_score", 1.0),),
    "spread": (("spread_rel", "z_score", 1.0),),
}
"""Figure -> features, fields and weights of the observations that it is the sum of."""


def _market_figures(seen: dict[str, Evidence]) -> dict[str, Figure]:
    return {
        name: _figure(name, [(seen[f], field, weight) for f, field, weight in parts])
        for name, parts in _MARKET.items()
        if all(f in seen for f, _, _ in parts)
    }


def _figure(name: str, terms: list[tuple[Evidence, str, float]]) -> Figure:
    # A z-score that is no number counts as nothing, and is then no term.
    kept = [(e, f, w) for e, f, w in terms if math.isfinite(getattr(e, f))]
    return Figure(
        name=name,
        value=left_sum(w * getattr(e, f) for e, f, w in kept),
        terms=tuple(Term(evidence_id=e.evidence_id, field=f, weight=w) for e, f, w in kept),
    )


# --- the model ---------------------------------------------------------------------------------------


def _inputs(figures: dict[str, Figure], gate: dict[str, float], age_s: float) -> dict[str, float]:
    """Return what the model sees: each figure and its size, and how the moves go with text and depth."""
    values = {name: held(f.value, _MOST) for name, f in figures.items()}
    found = {"text" if gate else "no text": 1.0, "age": min(age_s, 30.0) / 10.0}
    for name, value in values.items():
        if name in _SIGNED:
            found[f"size of {name}"] = abs(value)
        else:
            found[name] = value
    found |= {f"read as {name}": value for name, value in gate.items() if name != "size"}
    stance = values.get("stance", 0.0)
    for name in ("move since", "move just before", "move long before"):
        found[f"{name} along the text"] = stance * values.get(name, 0.0)
    for name in ("depth lately", "slope lately"):
        lately = math.tanh(0.5 * values.get("move lately", 0.0))
        found[f"{name} along the move"] = values.get(name, 0.0) * lately
    return found


_SIGNED: Final = frozenset(
    {
        *("stance", "move since", "move just before", "move long before"),
        *("depth lately", "slope lately", "level"),
        *("depth", "depth now", "touch", "slope", "slope now", "move lately", "move of a minute"),
    }
)
"""Figures whose sign says only up or down."""


def _mass(option: Option, weights: ConflictWeights) -> float:
    if option.claim is None:
        return weights.no_text
    gate = left_sum(weights.gate.get(name, 0.0) * x for name, x in sorted(option.gate.items()))
    return option.trust * math.exp(held(gate, _MOST_GATE))


def _score(inputs: dict[str, float], weights: dict[str, float]) -> float:
    total, given = 0.0, inputs.get  # a plain loop: a generator took a fifth of a verdict
    for name, weight in weights.items():
        total += weight * given(name, 0.0)
    return total


def _softmax(scores: dict[str, float]) -> dict[str, float]:
    most = max(scores.values())
    odds = {name: math.exp(score - most) for name, score in scores.items()}
    total = left_sum(odds.values())
    return {name: odd / total for name, odd in odds.items()}
