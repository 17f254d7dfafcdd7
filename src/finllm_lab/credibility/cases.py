"""What the very room that serves makes of a wire: each claim's terms, as made and as it stands later."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from finllm.app.reader import open_room
from finllm.domain.errors import InputError
from finllm.domain.evidence import Evidence, Quarantine, Reason
from finllm.domain.units import NS_PER_DAY
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm.narrative.trust.credibility import SHIPPED, CredibilityWeights, load_weights
from finllm_lab.credibility.planted import Told, Wire

TERMS: Final = tuple(f for f in CredibilityWeights.__struct_fields__ if f != "name")
_SAME_TERM: Final = {"vouched": "corroboration", "confirmed": "corroboration"}
LATER_NS: Final = NS_PER_DAY
"""After a claim, when its standing is looked at again."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a claim is believed at one instant, and on what."""

    credibility: float
    terms: dict[str, float]
    """Term -> how much of it, signed: its log-odds over its weight."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One claim of known truth."""

    tape: int
    story: int
    kind: str
    is_true: bool
    is_denial: bool
    made: Standing
    """When it was received."""
    later: Standing
    held_back: str
    """Why it was held back when it was received; empty if it was not."""
    is_held_back_later: bool


def served(prior: float, weights: Path | None = None) -> NarrativeSettings:
    """Return the settings of a room that reads by words alone, for speed: only opposed stances differ.

    Args:
        prior: Credibility of a source of which nothing is known.
        weights: File of weights; None = those that ship.
    """
    file = str(weights) if weights is not None else ""
    return NarrativeSettings(encoder="hashing", prior=prior, credibility=file)


class _Listener:
    """Keeps each claim that a room makes of a wire, and every change of its standing."""

    def __init__(self, room: Narrative) -> None:
        self._room = room
        self.made: dict[str, tuple[Told, Evidence | Quarantine, str]] = {}
        """By evidence id: what was told, the claim as it was made, and why it was held back, if it was."""
        self.changed: dict[str, list[Quarantine]] = {}

    def tell(self, told: Told) -> None:
        """Let the room take in one document."""
        document = told.document
        admission = self._room.admit(document, document.ts_recv)
        for change in admission.quarantines:
            self.changed.setdefault(change.evidence_id, []).append(change)
            if change.document_id == change.because == document.document_id:
                self.made.setdefault(change.evidence_id, (told, change, change.reason))
        for notice in admission.notices:
            if notice.evidence_id not in self.made:
                pack = self._room.gather(notice.instrument, document.ts_recv)
                found = next(e for e in pack.evidence if e.evidence_id == notice.evidence_id)
                self.made[found.evidence_id] = (told, found, "")


def cases(wire: Wire, settings: NarrativeSettings) -> Iterator[Case]:
    """Yield a case for each claim that a room makes of a wire's documents, chatter left out.

    Raises:
        InputError: If a weight is 0, so that how much of its term there is cannot be read off the reasons.
    """
    weights = load_weights(Path(settings.credibility) if settings.credibility else SHIPPED)
    mute = [term for term in TERMS if getattr(weights, term) == 0.0]
    if mute:
        raise InputError(
            f"{', '.join(mute)}: a weight of 0 hides how much of the term there is",
            place=settings.credibility,
            mend="Give it a little, such as 0.05.",
        )
    room = open_room(settings)
    for instrument in wire.instruments:
        room.watch(instrument)
    listener = _Listener(room)
    for told in wire.told:
        listener.tell(told)
    for name, (told, first, held_back) in listener.made.items():
        until = told.document.ts_recv + LATER_NS
        later = [c for c in listener.changed.get(name, []) if c.ts <= until]
        if told.kind:
            yield Case(
                tape=wire.seed,
                story=told.story,
                kind=told.kind,
                is_true=told.is_true,
                is_denial=told.is_denial,
                made=_standing(first, weights),
                later=_standing(later[-1] if later else first, weights),
                held_back=held_back,
                is_held_back_later=_is_held_back(later),
            )


def _is_held_back(changes: Sequence[Quarantine]) -> bool:
    if not changes:
        return False
    last = changes[-1]
    return last.state == "quarantined" or (last.state == "condemned" and not last.was_visible)


def _standing(of: Evidence | Quarantine, weights: CredibilityWeights) -> Standing:
    return Standing(credibility=of.credibility, terms=terms_of(of.reasons, weights))


def terms_of(reasons: Sequence[Reason], weights: CredibilityWeights) -> dict[str, float]:
    """Return how much of each term stands in reasons, the prior none of them; no weight may be 0."""
    found: dict[str, float] = {}
    for reason in reasons:
        term = _SAME_TERM.get(reason.name, reason.name)
        if term in TERMS:
            weight = getattr(weights, term)
            found[term] = found.get(term, 0.0) + reason.log_odds / weight
    return found


def write_cases(file: Path, wires: Iterable[Wire], settings: NarrativeSettings) -> Iterator[int]:
    """Write the cases of wires as JSON lines, yielding each seed when it is done."""
    with file.open("wb") as out:
        for wire in wires:
            for case in cases(wire, settings):
                out.write(msgspec.json.encode(case) + b"\n")
            yield wire.seed


def read_cases(file: Path) -> list[Case]:
    """Return gathered cases.

    Raises:
        InputError: If there are none, or the file holds something else.
    """
    try:
        found = [msgspec.json.decode(line, type=Case) for line in file.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            str(error), place=str(file), mend="Write it with `finllm_lab credibility gather`."
        ) from error
    if not found:
        raise InputError("no cases", place=str(file), mend="Gather some wires.")
    return found
