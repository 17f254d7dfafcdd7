"""Credibility: how far a claim is to be believed, with the reasons, from what is known by now.

A second agent beside the one that reads: it never looks at which way a text leans to decide whether it is
so. Credibility is the logistic function of a sum: the log-odds of the source's prior, and a weight times
each term, so that each reason can be read off, argued with and taken back. The lab fits the weights
(`finllm_lab credibility`); none is below nought, so no term can come to speak for what it should speak
against. The prior is a setting: how much of a wire is true, only its user can know.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from finllm.domain.errors import ArtifactError
from finllm.domain.evidence import Document, Reason
from finllm.narrative.text.canonical import Changes
from finllm.narrative.trust.campaigns import Crowd
from finllm.narrative.trust.instructions import gives_orders
from finllm.narrative.trust.reputation import chance, log_odds
from finllm.runtime.lru import LastUsed

SHIPPED: Final = Path(__file__).parent.parent / "weights" / "credibility.json"
"""The weights that come with the package; `credibility.card.json` beside it says where they are from."""
MOST_ORIGINS: Final = 7
MOST_SENDERS: Final = 65_536
UNKNOWN_CROWD: Final = 4.0
"""Accounts of next to no record behind one text within the window, from which on it is a campaign.

Chosen on recorded posts (docs/decisions/0013-copies-and-credibility.md)."""
FREE_ORIGINALITY: Final = 0.5
"""A sender that passes on no more than it says of its own is none the worse for it."""
FEW_FOLLOWERS: Final = 1_000
FEW_DOCUMENTS: Final = 5

Weight = Annotated[float, Meta(ge=0.0)]


class CredibilityWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a unit of each term moves a claim by, in log-odds, for or against it."""

    name: str
    record: Weight
    """For: per log-odds by which outcomes have raised the sender's record above its prior."""
    reach: Weight
    """Against: an author whom nobody follows; nothing where a million and more do."""
    originality: Weight
    """Against: per unit of -ln(share of what a sender wrote that had not been said before), below a half."""
    repost: Weight
    disguised: Weight
    instructions: Weight
    stale: Weight
    campaign: Weight
    """Against, where it is so."""
    verified: Weight
    """For, where it is so."""
    corroboration: Weight
    """For: per doubling of the independent origins that say so."""
    contradicted: Weight
    """Against: by a source as credible; twice that, or nothing, by one far more or less so."""
    denied: Weight
    """Against: by a source far more credible; half that by one as credible."""


def load_weights(path: Path = SHIPPED) -> CredibilityWeights:
    """Return weights from their JSON file.

    Raises:
        ArtifactError: If the file is missing or does not state weights.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=CredibilityWeights)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{path}: no usable weights of credibility: {error}") from error


class Senders:
    """How often each sender wrote, and how often what it wrote had been said before."""

    def __init__(self) -> None:
        self.counts: LastUsed[str, tuple[int, int]] = LastUsed(MOST_SENDERS)
        """By sender, its documents and the copies among them."""

    def originality(self, sender: str) -> float:
        """Return (originals + 2) / (documents + 2): 1 for a newcomer, towards 0 for a copier."""
        n, copies = self.counts.get(sender) or (0, 0)
        return (n - copies + 2) / (n + 2)

    def written(self, sender: str) -> int:
        """Return how many documents of a sender have been counted."""
        return (self.counts.get(sender) or (0, 0))[0]

    def count(self, sender: str, *, is_copy: bool) -> None:
        """Count one more document of a sender; the sender longest silent is forgotten first."""
        n, copies = self.counts.get(sender) or (0, 0)
        self.counts.put(sender, (n + 1, copies + is_copy))


def is_unknown(document: Document, n_written: int) -> bool:
    """Return whether a document's author has next to no record: few followers and few documents."""
    return (
        bool(document.author)
        and not document.is_verified
        and document.followers < FEW_FOLLOWERS
        and n_written < FEW_DOCUMENTS
    )


def is_campaign(crowd: Crowd) -> bool:
    """Return whether a crowd is a campaign's: unknown accounts, and they are most of it."""
    return crowd.unknown >= UNKNOWN_CROWD and 2.0 * crowd.unknown >= crowd.accounts


def record_reasons(prior: float, mean: float, weights: CredibilityWeights) -> list[Reason]:
    """Return what a source's prior, and what outcomes have made of its sender's record, give as reasons.

    Args:
        prior: Chance that what a source says of which nothing is known is so.
        mean: The same chance by the sender's record by now.
        weights: Of the terms.
    """
    start = log_odds(prior)
    moved = weights.record * (log_odds(mean) - start)
    found = [Reason(name="prior", log_odds=start)]
    return [*found, Reason(name="record", log_odds=moved)] if moved != 0.0 else found


def document_reasons(
    document: Document,
    text: str,
    changes: Changes,
    weights: CredibilityWeights,
    *,
    originality: float,
    is_verified: bool,
    is_stale: bool,
) -> list[Reason]:
    """Return what a document itself and its sender's manner give as reasons, whatever it claims.

    Args:
        document: As received.
        text: Its canonical text.
        changes: What canonical form took away.
        weights: Of the terms.
        originality: The sender's, up to this document, 0 to 1.
        is_verified: It came by a verified channel.
        is_stale: It, or the date written in it, is old.
    """
    # Followers on a binary log scale: none 0, a thousand 0.5, a million and more 1.
    reach = min(1.0, max(0, document.followers).bit_length() / 20)
    found = {
        "reach": -weights.reach * (1.0 - reach) if document.author else 0.0,
        "originality": weights.originality * min(0.0, math.log(originality / FREE_ORIGINALITY)),
        "repost": -weights.repost if document.is_repost else 0.0,
        "disguised": -weights.disguised if 20 * changes.disguises > len(text) else 0.0,
        "instructions": -weights.instructions if gives_orders(text) else 0.0,
        "verified": weights.verified if is_verified else 0.0,
        "stale": -weights.stale if is_stale else 0.0,
    }
    return [Reason(name=name, log_odds=odds) for name, odds in found.items() if odds != 0.0]


def credibility(reasons: Sequence[Reason]) -> float:
    """Return the chance that a claim is so, 0 to 1, from its reasons in order."""
    total = 0.0
    for reason in reasons:
        total += reason.log_odds
    return chance(total)


def said_against(credibility_against: float, credibility_of_claim: float) -> float:
    """Return how much a voice against a claim weighs, 0 to 1: half where both are believed alike."""
    return min(1.0, max(0.0, 0.5 + credibility_against - credibility_of_claim))


def corroboration(n_origins: int) -> float:
    """Return what independent origins count for: one for each doubling, up to a bound."""
    return math.log2(1 + min(MOST_ORIGINS, n_origins))
