"""Credibility: how far a claim is to be believed, with the reasons, from what is known by now.

A second agent beside the one that reads: it never looks at which way a text leans to decide whether it is
so. Reasons are independent log-odds; credibility is the logistic function of their sum, so that each
reason can be read off, argued with and taken back. The weights below are set, not fitted, except
`UNKNOWN_CROWD`, chosen on recorded posts (docs/decisions/0013-copies-and-credibility.md).
"""

import math
from collections.abc import Sequence
from typing import Final

from finllm.domain.evidence import Document, Reason
from finllm.narrative.text.canonical import Changes
from finllm.narrative.trust.campaigns import Crowd
from finllm.narrative.trust.instructions import gives_orders
from finllm.narrative.trust.reputation import chance
from finllm.runtime.lru import LastUsed

REACH: Final = -1.2
"""Of an author whom nobody follows; none of a million followers and more."""
ORIGINALITY: Final = 1.0
"""Per unit of ln(share of what a sender wrote that had not been said before)."""
REPOST: Final = -0.7
DISGUISED: Final = -1.6
INSTRUCTING: Final = -3.5
VERIFIED: Final = 1.5
CAMPAIGN: Final = -3.0
STALE: Final = -1.0
CORROBORATED: Final = 0.6
"""Per doubling of the independent origins that say so."""
MOST_ORIGINS: Final = 7
CONTRADICTED: Final = -1.5
"""By a source as credible; twice that, or nothing, by one far more or less so."""
DENIED: Final = -4.0
MOST_SENDERS: Final = 65_536
UNKNOWN_CROWD: Final = 4.0
"""Accounts of next to no record behind one text within the window, from which on it is a campaign."""
FEW_FOLLOWERS: Final = 1_000
FEW_DOCUMENTS: Final = 5


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


def document_reasons(
    document: Document,
    text: str,
    changes: Changes,
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
        originality: The sender's, up to this document, 0 to 1.
        is_verified: It came by a verified channel.
        is_stale: It, or the date written in it, is old.
    """
    # Followers on a binary log scale: none 0, a thousand 0.5, a million and more 1.
    reach = min(1.0, max(0, document.followers).bit_length() / 20)
    found = {
        "reach": REACH * (1.0 - reach) if document.author else 0.0,
        "originality": ORIGINALITY * math.log(originality),
        "repost": REPOST if document.is_repost else 0.0,
        "disguised": DISGUISED if 20 * changes.disguises > len(text) else 0.0,
        "instructions": INSTRUCTING if gives_orders(text) else 0.0,
        "verified": VERIFIED if is_verified else 0.0,
        "stale": STALE if is_stale else 0.0,
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
    """Return the log-odds that independent origins add; each doubling adds the same, up to a bound."""
    return CORROBORATED * math.log2(1 + min(MOST_ORIGINS, n_origins))
