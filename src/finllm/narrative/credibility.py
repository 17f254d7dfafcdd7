"""Credibility, first version: how far a document is to be believed, from what is known of its sender.

A product of plain factors, each documented here, none fitted: the source's prior, the author's reach
and record of repeating others, reposting, disguises in the text, and text that gives orders to a
reader (prompt injection). It reads nothing that arrived later than the document.
"""

import re
from collections import OrderedDict
from typing import Final

from finllm.domain.evidence import Document
from finllm.narrative.canonical import Changes

REPOST: Final = 0.7
DISGUISED: Final = 0.4
INSTRUCTING: Final = 0.1
MOST_SENDERS: Final = 65_536

_ORDERS = re.compile(
    r"(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+|the\s+|your\s+)*"
    r"(?:previous|prior|above|earlier|preceding|system)\b"
    r"|\b(?:system|developer)\s+(?:prompt|message|override)\b|<\|?\s*(?:im_start|system|assistant)"
    r"|\byou\s+are\s+(?:now\s+)?(?:an?\s+)?(?:ai|assistant|language\s+model|gpt|llm|chatbot)\b"
    r"|\b(?:as\s+an?|dear)\s+(?:ai|language\s+model|assistant|llm)\b"
    r"|\b(?:respond|reply|answer|output)\s+(?:only\s+)?with\b|\bset\s+(?:the\s+)?(?:shift|confidence|"
    r"probability|verdict)\b|\[/?inst\]|###\s*(?:instruction|system)",
    re.IGNORECASE,
)


def gives_orders(text: str) -> bool:
    """Return whether a text reads like instructions to whoever, or whatever, reads it."""
    return _ORDERS.search(text) is not None


class Senders:
    """How often each sender wrote, and how often what it wrote had been said before."""

    def __init__(self) -> None:
        self._record: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def originality(self, sender: str) -> float:
        """Return (originals + 2) / (documents + 2): 1 for a newcomer, towards 0 for a copier."""
        n, copies = self._record.get(sender, (0, 0))
        return (n - copies + 2) / (n + 2)

    def count(self, sender: str, *, is_copy: bool) -> None:
        """Count one more document of a sender; the sender longest silent is forgotten first."""
        n, copies = self._record.pop(sender, (0, 0))
        self._record[sender] = (n + 1, copies + is_copy)
        if len(self._record) > MOST_SENDERS:
            self._record.popitem(last=False)


def credibility(
    document: Document, text: str, changes: Changes, *, prior: float, originality: float
) -> float:
    """Return how far a document is to be believed, 0 to 1.

    Args:
        document: As received.
        text: Its canonical text.
        changes: What canonical form took away.
        prior: The source's.
        originality: The sender's, up to this document.
    """
    belief = prior * originality
    if document.author:
        # Followers on a binary log scale: none 0.5, a thousand 0.75, a million and more 1.
        belief *= 0.5 + 0.5 * min(1.0, max(0, document.followers).bit_length() / 20)
    if document.is_repost:
        belief *= REPOST
    if 20 * changes.disguises > len(text):
        belief *= DISGUISED
    if gives_orders(text):
        belief *= INSTRUCTING
    return min(1.0, max(0.0, belief))
