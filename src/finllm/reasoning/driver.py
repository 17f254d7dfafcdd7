"""The driver: the source without which a reasoner would have said something else.

Found by leaving out one source after another and judging again. Knows nothing of how one judges.
"""

from collections.abc import Iterable

import msgspec

from finllm.domain.evidence import EvidenceKind, EvidencePack
from finllm.domain.protocol import Driver
from finllm.reasoning.conflict import GROUPS, distance
from finllm.reasoning.reasoner import admissible, left_sum

MOST_TEXTS = 6
"""Origins of texts that are left out in turn: the heaviest ones. It bounds the cost."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What is left out together."""

    name: str
    evidence_ids: tuple[str, ...]
    is_text: bool


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a reasoner says of one band and of the hypotheses."""

    shift: float
    log_scale: float
    probabilities: dict[str, float]
    """Empty where they were not tested."""


def sources_of(pack: EvidencePack, trust: dict[str, float]) -> list[Source]:
    """Return the sources of a pack: origins of texts, heaviest first, then parts of the market.

    Args:
        pack: The evidence.
        trust: Of each text, by evidence id.
    """
    origins: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    for e in admissible(pack):
        if e.kind is not EvidenceKind.OBSERVATION:
            origins.setdefault(e.origin, []).append(e.evidence_id)
            continue
        for name, beginnings in GROUPS.items():
            if e.feature.startswith(beginnings):
                parts.setdefault(name, []).append(e.evidence_id)
    weights = {o: left_sum(trust.get(i, 0.0) for i in ids) for o, ids in origins.items()}
    heaviest = sorted(origins, key=lambda o: (-weights[o], o))[:MOST_TEXTS]
    texts = [Source(name=o, evidence_ids=tuple(origins[o]), is_text=True) for o in heaviest]
    market = [Source(name=n, evidence_ids=tuple(parts[n]), is_text=False) for n in sorted(parts)]
    return [*texts, *market]


def driver_of(said: Said, without: Iterable[tuple[Source, Said]]) -> Driver | None:
    """Return the source that moves most when it is left out; None where none moves anything.

    Moved is the sum of the changes of shift and ln k and of the total variation of the hypotheses.
    """
    found = [_driver(said, source, left) for source, left in without]
    best = max(found, key=_size, default=None)
    return best if best is not None and _size(best) > 0.0 else None


def _driver(said: Said, source: Source, left: Said) -> Driver:
    is_tested = bool(said.probabilities and left.probabilities)
    return Driver(
        source=source.name,
        evidence_ids=source.evidence_ids,
        shift=said.shift - left.shift,
        log_scale=said.log_scale - left.log_scale,
        moved=distance(said.probabilities, left.probabilities) if is_tested else 0.0,
    )


def _size(driver: Driver) -> float:
    return abs(driver.shift) + abs(driver.log_scale) + driver.moved
