"""The fusion: how a pack's evidence adds up to a shift and a volatility scale, share by share.

Every effect is a weight times a *measure* of the pack, and every measure is divided among the
evidence behind it, so that a verdict's figures are exactly the sum of what it cites. The lab fits
the weights on these very measures. Of a text only its numbers enter (stance, novelty, credibility,
relevance, event type); nothing here reads a word.
"""

import math
from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.errors import ArtifactError
from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.protocol import Citation, Voiding
from finllm.reasoning.reasoner import admissible, left_sum

SHIPPED: Final = Path(__file__).parent / "weights" / "fusion.json"
"""The weights that come with the package; `fusion.card.json` beside it says where they are from."""
EVENT: Final = "event:"
"""Prefix of the measures of an event type."""
SURGE: Final = "surge:"
"""Prefix of what is said of an event type beyond the usual."""
USUAL: Final = 0.25
"""Trust in texts of one event type up to which they are everyday talk: on the training tweets the next day's
volatility is as ever below it, and rises above it."""
VERIFIED: Final = "verified"
"""The reason for belief of what came by its source's own channel."""
EASE: Final = 4.0
"""Trust at which a measure that grows with it has come half the way: with more of it, one more text counts
less. Set by hand; verdicts on training packs are the nearer to those of before texts were held to their
trust the larger it is, and hardly any more from here on (lab log)."""
Slopes = dict[str, tuple[float, float]]
"""Measure -> least and most that it moves for one more unit of trust in a text. A burst's are its own. A
`release` goes by its source's verified channel alone: new words or not are no matter of trust there."""
_SLOPES: Final[Slopes] = {
    "present": (0.0, 1.0),
    "breadth": (0.0, 0.51),
    "stance": (-1.0, 1.0),
    "dispersion": (-1.0, 1.0),
    "conflict": (-1.0, 1.0),
    "observation": (0.0, 0.0),
    EVENT: (0.0, 1.0),
    SURGE: (0.0, 1.0),
    "release": (0.0, 0.0),
}
_SLOPES_ALONG: Final[Slopes] = {
    "stance": (-1.0, 1.0),
    "observation": (0.0, 0.0),
    EVENT: (-1.0, 1.0),
}


class BandWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fusion's weights for the horizons up to a limit."""

    name: str
    up_to_ns: int
    memory_ns: int
    """Age at which a piece of evidence counts half."""
    shift: dict[str, float]
    """Log-odds of up against down, per unit of a directed measure."""
    scale: dict[str, float]
    """ln k, per unit of an undirected measure."""
    max_shift: float
    max_log_scale: float
    """Bounds of the sum; beyond them all terms shrink alike."""
    least_shift: float
    least_log_scale: float
    """A forecast that is already within these of the answer is confirmed."""
    half_life_ns: int
    life_ns: int
    """How the outlook fades and ends."""
    retract_within_ns: int
    """A denial takes back what was said at most this long before it; 0 = it retracts nothing."""


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole fusion, as the lab writes it."""

    name: str
    bands: tuple[BandWeights, ...]
    """Shortest first."""
    directed: tuple[str, ...]
    """Beginnings of the names of features whose sign says up or down."""
    retract_events: tuple[str, ...]
    """Event types that take back what was said before them."""
    retract_credibility: float
    """Least credibility x relevance of such an event for a retraction."""
    voided_by: tuple[Voiding, ...]

    def band(self, reach_ns: int) -> BandWeights:
        """Return the first band that reaches a horizon; the last one beyond them all."""
        for band in self.bands:
            if reach_ns <= band.up_to_ns:
                return band
        return self.bands[-1]


def load_weights(path: Path = SHIPPED) -> Weights:
    """Return a fusion from its JSON file.

    Raises:
        ArtifactError: If the file is missing or does not state a fusion.
    """
    try:
        weights = msgspec.json.decode(path.read_bytes(), type=Weights)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{path}: no usable fusion weights: {error}") from error
    limits = [band.up_to_ns for band in weights.bands]
    if not limits or limits != sorted(set(limits)):
        raise ArtifactError(f"{path}: bands must be there and in rising order of up_to_ns")
    return weights


Shares = dict[str, list[float]]
"""Measure -> its share of each piece of evidence; the sum of a list is the measure."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one band's fusion sees in a pack."""

    evidence: tuple[Evidence, ...]
    trust: tuple[float, ...]
    """Credibility x relevance x novelty x age, shared within an origin; 0 on observations."""
    undirected: Shares
    directed: Shares
    lean: float
    """Trust x stance of the text, eased by the trust in all: above 0 for up, -4 to 4."""
    burst: float
    """Log of the burst."""
    market: float
    """What the directed observations say, -1 to 1."""


def read(pack: EvidencePack, memory_ns: int, directed: tuple[str, ...]) -> Reading:
    """Return the measures of a pack with every text at its trust, whatever denies it. See `weighed`."""
    return weighed(pack, trusts(admissible(pack), pack.as_of, memory_ns), memory_ns, directed)


def weighed(
    pack: EvidencePack, trust: list[float], memory_ns: int, directed: tuple[str, ...]
) -> Reading:
    """Return the measures of a pack, each shared among its evidence.

    None moves by more than the trust that is added to a text or taken from it, times its `_SLOPES`.

    Undirected: `present` = t / (1 + 3 t) of the trust t, which carries the constant that makes usual news
    move nothing, `breadth` = ln(1 + t) less that, `burst` = log of the burst times t / (1 + t), `stance` =
    size of the directed one, `dispersion` = what leans the lighter way, `conflict` = the lesser of text and
    book where they disagree, `observation` = |z| beyond one of what was observed, summed, and for each
    event type the trust that says so, as t / (1 + t), and as a `surge` what of it is beyond `USUAL`,
    and `release` = the freshness, up to 1, of what sources told by their own verified channels.
    Directed: `stance` = sum of trust x stance over 1 + trust / 4, the same for each event type, and
    `observation`.

    Args:
        pack: The evidence.
        trust: Of each admissible piece.
        memory_ns: Half-life of what was read.
        directed: Beginnings of the names of features whose sign says up or down.
    """
    evidence = admissible(pack)
    marks = [_mark(e, directed) for e in evidence]
    total = left_sum(trust)
    said = [w * held(e.stance, 1.0) for w, e in zip(trust, evidence, strict=True)]
    leans = _eased(said, total)
    lean, market = left_sum(leans), left_sum(marks)
    text = _weights_of(trust)
    present = total / (1.0 + 3.0 * total)
    burst = math.log(_between(pack.burst, 0.25, 20.0))
    lighter = 0.5 * (left_sum(abs(one) for one in leans) - abs(lean))
    clash = min(abs(lean), abs(market)) if lean * market < 0.0 else 0.0
    undirected = {
        "present": _divided(present, text),
        "breadth": _divided(math.log1p(total) - present, text),
        "burst": _divided(burst * total / (1.0 + total), text),
        "stance": _divided(abs(lean), _weights_of(leans)),
        "dispersion": _divided(max(0.0, lighter), _weights_of(leans)),
        "conflict": _divided(clash, _weights_of(marks)),
        "observation": [_excess(e) for e in evidence],
        "release": _bounded([_fresh(e, pack.as_of, memory_ns) for e in evidence], 1.0),
    }
    along = {"stance": leans, "observation": marks}
    for event in sorted({e.event_type for e in evidence if e.event_type}):
        of_it = [w * (e.event_type == event) for w, e in zip(trust, evidence, strict=True)]
        amount = left_sum(of_it)
        undirected[EVENT + event] = [w / (1.0 + amount) for w in of_it]
        undirected[SURGE + event] = _divided(max(0.0, amount - USUAL), _weights_of(of_it))
        along[EVENT + event] = _eased(
            [one * (e.event_type == event) for one, e in zip(said, evidence, strict=True)], amount
        )
    return Reading(
        evidence=evidence,
        trust=tuple(trust),
        undirected=undirected,
        directed=along,
        lean=lean,
        burst=burst,
        market=market,
    )


def fuse(reading: Reading, band: BandWeights) -> tuple[Citation, ...]:
    """Return each piece of evidence's share of shift and ln k, largest first; ties by id.

    No text adds or takes away more than the bound times its trust: weights by which one could are shrunk
    alike. So is every term of a sum beyond the bound. What has no share is not cited.
    """
    n = len(reading.evidence)
    shift = _held_back(band.shift, _SLOPES_ALONG, band.max_shift)
    slopes = _SLOPES | {"burst": (min(0.0, reading.burst), max(0.0, reading.burst))}
    scale = _held_back(band.scale, slopes, band.max_log_scale)
    shifts = _bounded(_weighted(reading.directed, shift, n), band.max_shift)
    scales = _bounded(_weighted(reading.undirected, scale, n), band.max_log_scale)
    shares = [
        Citation(evidence_id=e.evidence_id, shift=shift, log_scale=scale)
        for e, shift, scale in zip(reading.evidence, shifts, scales, strict=True)
        if shift != 0.0 or scale != 0.0
    ]
    return tuple(sorted(shares, key=lambda c: (-abs(c.shift) - abs(c.log_scale), c.evidence_id)))


def trusts(evidence: tuple[Evidence, ...], as_of: int, memory_ns: int) -> list[float]:
    """Return each text's trust, 0 to 1; an origin's texts share what its best one would have alone.

    Each slice of that is shared alike by the texts whose own weight reaches it. So all that a text adds
    and takes from the others is together no more than its own weight.
    """
    trust = [0.0] * len(evidence)
    by_origin: dict[str, list[tuple[float, int]]] = {}
    for i, e in enumerate(evidence):
        if (weight := alone(e, as_of, memory_ns)) > 0.0:
            by_origin.setdefault(e.origin, []).append((weight, i))
    for texts in by_origin.values():
        share = below = 0.0
        for reached_by, (weight, i) in zip(range(len(texts), 0, -1), sorted(texts), strict=True):
            share += (weight - below) / reached_by
            trust[i], below = share, weight
    return trust


def alone(e: Evidence, as_of: int, memory_ns: int) -> float:
    """Return the weight that a text has by itself: credibility x relevance x novelty x age, 0 to 1."""
    if e.kind is EvidenceKind.OBSERVATION:
        return 0.0
    age = _age(e, as_of, memory_ns)
    return _unit(e.credibility) * _unit(e.relevance) * _unit(e.novelty) * age


def _age(e: Evidence, as_of: int, memory_ns: int) -> float:
    return math.exp(-math.log(2.0) * (as_of - e.ts_recv) / memory_ns)


def _fresh(e: Evidence, as_of: int, memory_ns: int) -> float:
    """Return how fresh a claim is that came by its source's verified channel; 0 for anything else."""
    is_told = e.kind is EvidenceKind.CLAIM and any(r.name == VERIFIED for r in e.reasons)
    return _age(e, as_of, memory_ns) if is_told else 0.0


def _mark(e: Evidence, directed: tuple[str, ...]) -> float:
    """Return a directed observation as a number from -1 to 1; 0 for anything else."""
    if e.kind is not EvidenceKind.OBSERVATION or not e.feature.startswith(directed):
        return 0.0
    return math.tanh(held(e.z_score, 6.0) / 3.0)


def _excess(e: Evidence) -> float:
    """Return how far an observation is beyond one standard deviation, up to 5."""
    if e.kind is not EvidenceKind.OBSERVATION:
        return 0.0
    return max(0.0, abs(held(e.z_score, 6.0)) - 1.0)


def _weighted(shares: Shares, weights: dict[str, float], n: int) -> list[float]:
    terms = [0.0] * n
    for measure in sorted(shares):
        weight = weights.get(measure, 0.0)
        if weight != 0.0:
            for i, share in enumerate(shares[measure]):
                terms[i] += weight * share
    return terms


def _held_back(weights: dict[str, float], slopes: Slopes, most: float) -> dict[str, float]:
    """Return weights, shrunk alike so that no text adds or takes away more than `most` times its trust."""
    up, down = {"": 0.0}, {"": 0.0}  # by event type, of which a text has one or none
    for measure, weight in sorted(weights.items()):
        kind, colon, event = measure.partition(":")
        low, high = slopes.get(kind + colon, (0.0, 0.0))
        up[event] = up.get(event, 0.0) + max(weight * low, weight * high)
        down[event] = down.get(event, 0.0) + min(weight * low, weight * high)
    shared_up, shared_down = up.pop(""), down.pop("")
    reach = max(
        shared_up + max(up.values(), default=0.0), -shared_down - min(down.values(), default=0.0)
    )
    if reach <= most:
        return weights
    return {measure: weight * (most / reach) for measure, weight in weights.items()}


def _bounded(terms: list[float], most: float) -> list[float]:
    total = abs(left_sum(terms))
    return terms if total <= most else [term * (most / total) for term in terms]


def _weights_of(terms: list[float]) -> list[float]:
    """Return the sizes of terms as weights that sum to one; all zero if the terms are."""
    total = left_sum(abs(term) for term in terms)
    return [abs(term) / total if total > 0.0 else 0.0 for term in terms]


def _eased(terms: list[float], trust: float) -> list[float]:
    """Return terms of so much trust in all, fewer of which count in full the more there are."""
    return [term / (1.0 + trust / EASE) for term in terms]


def _divided(amount: float, weights: list[float]) -> list[float]:
    """Return an amount divided by weights that sum to one; nothing if they are all zero."""
    return [w * amount for w in weights]


def _between(x: float, low: float, high: float) -> float:
    return min(high, max(low, x)) if math.isfinite(x) else 1.0


def held(x: float, most: float) -> float:
    """Return x held to -most..most; what is not a number counts as 0."""
    if -most <= x <= most:
        return x
    return math.copysign(most, x) if math.isfinite(x) else 0.0


def _unit(x: float) -> float:
    return max(0.0, held(x, 1.0))
