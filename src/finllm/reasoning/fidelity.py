"""Fidelity: is a verdict's statement of its terms why it is what it is?

The reasoner is asked again about packs from which something was left out, and what it says is held
against what the stated terms say that it would. Knows nothing of how a reasoner judges.
"""

import math
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec
import numpy as np

from finllm.domain.evidence import EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.identity import content_id
from finllm.domain.protocol import Action, Verdict
from finllm.domain.trace import Fidelity
from finllm.reasoning.conflict import without
from finllm.reasoning.reasoner import admissible, left_sum

N_SUBSETS: Final = 24
"""Random subsets of a pack that are judged; it bounds the cost."""
_SAME: Final = 1e-9


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """What a reasoner says of one forecast."""

    action: Action
    shift: float
    log_scale: float


class Repeatable(Protocol):
    """A reasoner that can be asked again, at no more cost than its own thinking."""

    @property
    def name(self) -> str:
        """Return the reasoner's id, as it stands on its verdicts."""
        ...

    def again(self, forecast: Forecast, pack: EvidencePack) -> Again:
        """Return what it would say of a forecast by another pack. Pure."""
        ...


def measure(
    reasoner: Repeatable | None, verdict: Verdict, before: Forecast, pack: EvidencePack
) -> Fidelity:
    """Return the fidelity of a verdict's terms. Pure: subsets are drawn by the verdict's id.

    Args:
        reasoner: Who gave the verdict; None where it cannot be asked again.
        verdict: What was said.
        before: Of which version.
        pack: By which evidence.
    """
    if reasoner is None:
        return Fidelity(unmeasured=f"{verdict.reasoner} cannot be asked again")
    said = reasoner.again(before, pack)
    if not _is_same(said, verdict):
        return Fidelity(unmeasured=f"{verdict.reasoner} does not say the same again")

    def ask(left: EvidencePack) -> Again:
        return reasoner.again(before, left)

    if verdict.action is Action.RETRACT:
        return _retraction(verdict, pack, ask)
    if not verdict.citations:
        return Fidelity(unmeasured="nothing is cited")
    r2 = surrogate_r2(verdict, pack, ask)
    return Fidelity(
        agreement=_agreement(verdict, pack, said, ask),
        r2=r2,
        n_ablations=len(verdict.citations),
        n_subsets=N_SUBSETS,
        unmeasured="" if r2 is not None else "no subset says anything else",
    )


def _is_same(said: Again, verdict: Verdict) -> bool:
    """Return whether a reasoner says what the verdict does: action, shift and ln k."""
    return (
        said.action is verdict.action
        and abs(said.shift - verdict.shift) <= _SAME
        and abs(math.exp(said.log_scale) - verdict.vol_scale) <= _SAME * verdict.vol_scale
    )


def _retraction(
    verdict: Verdict, pack: EvidencePack, ask: Callable[[EvidencePack], Again]
) -> Fidelity:
    """Return the fidelity of a retraction: without what it cites there should be none."""
    cited = tuple(citation.evidence_id for citation in verdict.citations)
    is_over = ask(without(pack, cited)).action is not Action.RETRACT
    why = "a retraction has no terms that add up"
    return Fidelity(agreement=float(is_over), n_ablations=1, unmeasured=why)


def _agreement(
    verdict: Verdict, pack: EvidencePack, said: Again, ask: Callable[[EvidencePack], Again]
) -> float:
    """Return how far leaving out each citation moves the verdict as its terms say, 0 to 1.

    With the term a and the move b, |a - b| is compared with the larger of |a| and |b|, over shift and ln k
    of all citations together: 1 where they are the same, 0 where none has the sign that it states.
    """
    differs = most = 0.0
    for citation in verdict.citations:
        left = ask(without(pack, (citation.evidence_id,)))
        moves = (said.shift - left.shift, said.log_scale - left.log_scale)
        for term, move in zip((citation.shift, citation.log_scale), moves, strict=True):
            larger = max(abs(term), abs(move))
            differs += min(larger, abs(term - move))
            most += larger
    return 1.0 - differs / most if most > 0.0 else 1.0


def surrogate_r2(
    verdict: Verdict, pack: EvidencePack, ask: Callable[[EvidencePack], Again]
) -> float | None:
    """Return how well the terms of what is left add up to what is said of random halves of a pack.

    1 - (sum of squared differences) / (sum of squared deviations of what is said from its mean), over shift
    and ln k together. Nothing is fitted, so that it may be below 0; None where nothing said differs.
    """
    stated, heard = [], []
    for left_out in _subsets(verdict.verdict_id, pack):
        left = ask(without(pack, left_out))
        kept = [c for c in verdict.citations if c.evidence_id not in left_out]
        stated.append((left_sum(c.shift for c in kept), left_sum(c.log_scale for c in kept)))
        heard.append((left.shift, left.log_scale))
    missed = varied = 0.0
    for side in (0, 1):
        mean = left_sum(one[side] for one in heard) / len(heard)
        varied += left_sum((one[side] - mean) ** 2 for one in heard)
        missed += left_sum((a[side] - b[side]) ** 2 for a, b in zip(stated, heard, strict=True))
    return 1.0 - missed / varied if varied > _SAME**2 else None


def _subsets(seed: str, pack: EvidencePack) -> Iterator[tuple[str, ...]]:
    """Yield what is left out of a pack: each piece with probability one half."""
    chance = np.random.default_rng(int(content_id("subsets", seed), 16))
    names = [evidence.evidence_id for evidence in admissible(pack)]
    for draws in chance.random((N_SUBSETS, len(names))).tolist():
        yield tuple(name for name, draw in zip(names, draws, strict=True) if draw < 0.5)
