"""Boiler-plate: sentences that stand under every text of their kind and say nothing of their own.

Safe-harbour statements, disclaimers, calls to click or subscribe, bylines of agencies, copyright. The first
sentence is never taken for it, and a text that is nothing else stays as it is: it is the reader who judges.
"""

import re
from typing import Final

LONGEST_SENTENCE: Final = 2_000
"""Characters; a longer sentence is no boiler-plate of this kind."""
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+(?=[\s\"')\]]|$)[\"')\]]*|[.!?]+|\n+|$)\s*")
_SIGNS = re.compile(
    r"\bclick (?:here|below|(?:on )?the link)\b"
    r"|\b(?:read|learn|see) more\b\s*(?:here|at|on|about|about this|:|>|\u00bb|\u2192|\.|$)"
    r"|\b(?:continue|keep) reading\b|\bto read the (?:full|rest|whole)\b"
    r"|\b(?:subscribe|sign up)\b[^.!?]{0,60}\b(?:newsletter|alerts?|updates?|free|today|now|here|channel)\b"
    r"|\bunsubscribe\b|\bfollow us\b|\bjoin (?:our|us on|the) (?:telegram|discord|newsletter|channel)\b"
    r"|\ball rights reserved\b|\u00a9|\bcopyright (?:\(c\)|\d{4})"
    r"|\bnot (?:\w+ ){0,4}?(?:investment|financial|trading|legal) advice\b"
    r"|\bfor (?:informational|information|educational) purposes only\b"
    r"|\b(?:views|opinions) expressed (?:here|in this|by the author|are those of)\b"
    r"|\bpast performance (?:is|does|may) not\b|\bdo your own (?:research|due diligence)\b"
    r"|\bprivate securities litigation reform act\b|\bsafe[ -]harbou?r (?:provisions?|statements?)\b"
    r"|\bforward[- ]looking statements?\b"
    r"|\bundertakes? no (?:obligation|duty) to (?:publicly )?(?:update|revise)\b"
    r"|\b(?:could|may|might) differ materially from\b"
    r"|\bview (?:the )?original (?:content|release|source)\b|\bsent from my \w+"
    r"|\b(?:cookie|privacy) policy\b|\bterms (?:of (?:use|service)|and conditions) apply\b"
    r"|^\W{0,3}(?:(?:additional )?(?:reporting|writing|editing)|compiled) by [A-Z]"
    r"|\bour standards: the thomson reuters trust principles\b"
    r"|\bthis (?:article|content|story|press release) (?:was|is|has been) (?:provided|generated|originally "
    r"published|syndicated|produced) \b|^\W{0,3}source:? [A-Z][\w .,&-]{0,60}$",
    re.IGNORECASE,
)
_KEYS: Final = tuple(
    """click| more|reading|to read the|subscri|sign up|follow us|join |rights reserved
    |\u00a9|copyright| advice
    |purposes only|expressed|past performance|your own|litigation|safe harb|safe-harb|forward|obligation to
    |duty to|differ materially|original|sent from|policy|terms|ing by |compiled by|trust principles
    |this article|this content|this story|this press release|source|cautionary|disclaimer|disclosure
    |legal notice|contact|important""".replace("\n    ", "").split("|")
)
"""Every sign holds one of these in lower case: looking for them first is some fifty times quicker."""
_HEADING = re.compile(
    r"\W{0,3}(?:cautionary (?:note|statement)|(?:note|statement)?s? ?(?:regarding|on|about|concerning)? ?"
    r"forward[- ]looking statements?|safe[ -]harbou?r|disclaimer|disclosures?:|legal notice|media contacts?|"
    r"investor (?:relations )?contacts?|important (?:notice|information|disclosure))",
    re.IGNORECASE,
)
_HEADING_CHARS: Final = 120
"""A heading at most so long stands over the paragraph after it."""
_CJK_KEYS: Final = (
    "\u514d\u8d23\u58f0\u660e",  # disclaimer
    "\u4ec5\u4f9b\u53c2\u8003",  # for reference only
    "\u4e0d\u6784\u6210\u6295\u8d44\u5efa\u8bae",  # no investment advice
    "\u70b9\u51fb\u67e5\u770b",  # click to see
    "\ubb34\ub2e8\uc804\uc7ac",  # reproduction without leave, Korean
    "\ubb34\ub2e8 \uc804\uc7ac",
    "\uc7ac\ubc30\ud3ec",  # redistribution
    "\u7121\u65ad\u8ee2\u8f09",  # reproduction without leave, Japanese
)
_CJK_SENTENCE = re.compile("[^\u3002\uff01\uff1f!?\n]+[\u3002\uff01\uff1f!?\n]*")
_HAS_WORD = re.compile(r"\w\w")


def without_boilerplate(text: str) -> tuple[str, int]:
    """Return a tidied text without its boiler-plate, and how many sentences and paragraphs went.

    Args:
        text: Paragraphs apart by a blank line; white space otherwise single.
    """
    has_cjk = not text.isascii() and any(key in text for key in _CJK_KEYS)
    if not has_cjk and not _may_be(text):
        return text, 0
    first = _SENTENCE.match(text)
    head = text[: first.end()] if first else ""
    kept: list[str] = []
    n = 0
    is_under = False
    for i, paragraph in enumerate(text[len(head) :].split("\n\n")):
        stands_alone = i > 0 or head.endswith("\n\n")
        if is_under or (stands_alone and _HEADING.match(paragraph)):
            is_under = not is_under and len(paragraph) <= _HEADING_CHARS
            n += 1
            continue
        left, gone = _sentences(paragraph)
        n += gone
        kept.append(left)
    rest = head + "\n\n".join(part for part in kept if part.strip())
    if n == 0 or _HAS_WORD.search(rest) is None:
        return text, 0
    return rest.strip(), n


def _may_be(text: str) -> bool:
    lower = text.lower()
    return any(key in lower for key in _KEYS)


def _sentences(paragraph: str) -> tuple[str, int]:
    kept, n = [], 0
    for match in _SENTENCE.finditer(paragraph):
        sentence = match.group()
        if len(sentence) <= LONGEST_SENTENCE and _may_be(sentence) and _SIGNS.search(sentence):
            n += 1
        elif sentence:
            kept.append(sentence)
    left = "".join(kept)
    if not paragraph.isascii():
        parts = _CJK_SENTENCE.findall(left)
        said = [part for part in parts if not any(key in part for key in _CJK_KEYS)]
        if len(said) < len(parts):
            n, left = n + len(parts) - len(said), "".join(said)
    return left.rstrip(), n
