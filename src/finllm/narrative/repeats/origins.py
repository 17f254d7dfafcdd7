"""Origins: who first said what a document says, so that corroboration counts voices, not echoes.

A document may name the source that it passes on: a byline, a wire's dateline, `RT @name`, `via name`,
`according to name`. Outlets of one owner are one origin. What is said of several copies of one text is
settled by `copies`: they have the origin of the first.
"""

import re
from typing import Final

from finllm.domain.evidence import Document

WIRES: Final[dict[str, str]] = {
    "reuters": "reuters",
    "thomson reuters": "reuters",
    "ap": "associated press",
    "associated press": "associated press",
    "afp": "afp",
    "agence france-presse": "afp",
    "dpa": "dpa",
    "ani": "ani",
    "pti": "pti",
    "ians": "ians",
    "xinhua": "xinhua",
    "kyodo": "kyodo",
    "yonhap": "yonhap",
    "efe": "efe",
    "bloomberg": "bloomberg",
    "bloomberg news": "bloomberg",
    "dow jones": "dow jones",
    "dow jones newswires": "dow jones",
    "wall street journal": "dow jones",
    "the wall street journal": "dow jones",
    "wsj": "dow jones",
    "marketwatch": "dow jones",
    "barron's": "dow jones",
    "cnbc": "cnbc",
    "financial times": "financial times",
    "the financial times": "financial times",
    "ft": "financial times",
    "new york times": "new york times",
    "the new york times": "new york times",
    "nikkei": "nikkei",
    "prnewswire": "pr newswire",
    "pr newswire": "pr newswire",
    "business wire": "business wire",
    "businesswire": "business wire",
    "globenewswire": "globe newswire",
    "globe newswire": "globe newswire",
    "accesswire": "accesswire",
    "marketwired": "marketwired",
}
"""Names by which texts call agencies and papers, and the origin that each stands for."""

_NAME = r"[A-Z][\w&.'\u2019-]*(?:\s+(?:[A-Z][\w&.'\u2019-]*|of|the)){0,3}"
_DATELINE = re.compile(
    r"^.{0,80}?[(/]\s*([A-Za-z][\w .&'-]{1,30}?)\s*[)/]\s*(?:--?|\u2013|\u2014|:|/)", re.DOTALL
)
_REPOST = re.compile(r"^\s*(?:RT|MT|QT)\s*:?\s*@(\w{1,40})", re.IGNORECASE)
_BYLINE = re.compile(r"(?:--?|\u2013|\u2014|\|)\s*(?:by\s+)?([A-Z][\w&.' ]{1,30}?)\s*$")
_VIA = re.compile(r"\b(?:via|h/t|hat tip|source:|credit:)\s+@?(" + _NAME + r"|\w{2,40})")
_SAYS = re.compile(
    r"\b(?:[Aa]ccording to|[Cc]iting|[Rr]eported by|as reported by|[Pp]er)\s+(?:a report (?:by|from|in)\s+)?("
    + _NAME
    + r")"
    r"|(" + _NAME + r")\s+(?:reports?|reported)\b"
)
_NOBODY: Final = frozenset({"user", "me", "us", "others", "sources"})
"""Names that stand for nobody: records of posts often have their handles replaced by `@user`."""
_HEAD: Final = 300
"""Characters at either end of a text in which a source is looked for."""


def sender_of(document: Document) -> str:
    """Return the name of whoever sent a document: its author where it has one, at its source."""
    return f"{document.source}/{document.author}" if document.author else document.source


def named_source(text: str) -> str:
    """Return the source that a canonical text names as its own, in lower case; empty if none.

    A handle is returned with its `@`. An agency is found by any of its names; other names only where
    the text passes on a handle or says that it is `via` somebody.
    """
    repost = _REPOST.match(text)
    if repost is not None and repost.group(1).lower() not in _NOBODY:
        return f"@{repost.group(1).lower()}"
    head, tail = text[:_HEAD], text[-_HEAD:]
    for pattern, part in ((_DATELINE, head), (_BYLINE, tail), (_SAYS, head)):
        found = pattern.search(part)
        if found is not None:
            name = next(group for group in found.groups() if group).strip().lower()
            if name in WIRES:
                return WIRES[name]
    via = _VIA.search(tail)
    if via is not None:
        name = via.group(1).strip().lower()
        if name not in _NOBODY:
            return WIRES.get(name, f"@{name}")
    return ""


class Origins:
    """Names the origin of a document that is no copy.

    Args:
        owners: By outlet, agency or sender, who owns it.
    """

    def __init__(self, owners: dict[str, str]) -> None:
        self._owners = {name.lower(): owner for name, owner in owners.items()}

    def of(self, document: Document, text: str) -> str:
        """Return the origin of a document: the owner of the source that it names, else of its sender."""
        named = named_source(text)
        if named.startswith("@"):
            named = f"{document.source}/{named[1:]}"
        return self.owner(named or sender_of(document), document.source if not named else "")

    def owner(self, name: str, source: str = "") -> str:
        """Return who owns a sender or, failing that, its source; the name itself if nobody is known to."""
        for one in (name, source):
            if one and one.lower() in self._owners:
                return self._owners[one.lower()]
        return name
