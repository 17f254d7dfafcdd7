"""Standing: the claims made so far about one instrument, and how each stands in the light of later ones.

A claim that is confirmed, denied, contradicted or seen to be part of a campaign changes its standing from
that moment on, by a dated record. Nothing is taken back from before: a pack as of an earlier instant applies
only the records of that time.
"""

from collections import OrderedDict
from typing import Final

import msgspec
import numpy as np

from finllm.domain.evidence import Evidence, Quarantine, QuarantineState, Reason
from finllm.domain.identity import content_id
from finllm.narrative.repeats.nearness import Overlaps, overlaps
from finllm.narrative.repeats.words import MOST_WORDS, Codes, Frequencies
from finllm.narrative.trust.credibility import credibility
from finllm.narrative.trust.facts import Fact

MOST_HELD: Final = 128
"""Claims per instrument whose standing can still change."""


class Held(msgspec.Struct, eq=False):
    """A claim with what its standing rests on."""

    claim: Evidence
    sender: str
    cluster: int
    facts: tuple[Fact, ...]
    """Figures that it states."""
    reasons: list[Reason]
    state: QuarantineState | None
    """None = nothing has changed it."""
    why: str = ""
    n_confirmed: int = 0
    is_settled: bool = False
    """An outcome has been counted for its sender."""
    row: int = 0
    is_visible: bool = True
    """Packs hold it now."""

    @property
    def credibility(self) -> float:
        """Return how far it is believed by now."""
        return credibility(self.reasons)


class Standings:
    """The last claims about one instrument."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._samples = np.zeros((MOST_HELD, MOST_WORDS), dtype=np.uint32)
        self._lengths = np.zeros(MOST_HELD, dtype=np.int32)
        self._n = 0

    def __len__(self) -> int:
        """Return how many claims are held."""
        return len(self._held)

    def hold(self, held: Held, sample: Codes) -> Held | None:
        """Hold one more claim, by the words of its text; return the one that gave way."""
        before = self._held.pop(held.claim.evidence_id, None)
        held.row = self._n % MOST_HELD
        self._n += 1
        self._samples[held.row, : len(sample)] = sample
        self._lengths[held.row] = len(sample)
        self._held[held.claim.evidence_id] = held
        return self._held.popitem(last=False)[1] if len(self._held) > MOST_HELD else before

    def since(self, ts: int) -> list[Held]:
        """Return the claims received after an instant, oldest first."""
        return [held for held in self._held.values() if held.claim.ts_recv > ts]

    def of(self, evidence_id: str) -> Held | None:
        """Return a claim that is still held."""
        return self._held.get(evidence_id)

    def overlaps(self, sample: Codes, held: list[Held], frequencies: Frequencies) -> Overlaps:
        """Return what a text's words share with each of some claims'."""
        rows = np.array([one.row for one in held], dtype=np.int64)
        return overlaps(sample, rows, self._samples, self._lengths, frequencies)


def changed(
    held: Held, state: QuarantineState, reason: str, *, ts: int, because: str
) -> Quarantine:
    """Change a claim's standing and return the record of it."""
    was_visible = held.is_visible
    held.state, held.why = state, reason
    if state is not QuarantineState.CONDEMNED:
        held.is_visible = state is QuarantineState.RELEASED
    claim = held.claim
    return Quarantine(
        quarantine_id=content_id("quarantine", claim.evidence_id, ts, str(state), reason, because),
        evidence_id=claim.evidence_id,
        instrument=claim.instrument,
        document_id=claim.document_id,
        ts=ts,
        state=state,
        reason=reason,
        because=because,
        was_visible=was_visible,
        credibility=held.credibility,
        reasons=tuple(held.reasons),
    )
