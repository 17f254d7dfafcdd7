"""Stale text: what is passed off as news although it, or the date written in it, is old.

A date is taken for the text's own only where it stands at the beginning or after a dateline's place, since
texts speak of many days. What was first seen long ago is known from `copies` and the long memory here.
"""

import re
from typing import Final

from finllm.domain.units import NS_PER_DAY, parse_instant
from finllm.runtime.lru import LastUsed

_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        ("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july",
         "aug august", "sep sept september", "oct october", "nov november", "dec december"), 1,
    )
    for name in names.split()
}  # fmt: skip
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WRITTEN = re.compile(
    rf"\b(?:(?P<m1>{_MONTH})\.?\s+(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y1>(?:19|20)\d\d)"
    rf"|(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\s+(?P<m2>{_MONTH})\.?,?\s+(?P<y2>(?:19|20)\d\d)"
    r"|(?P<y3>(?:19|20)\d\d)-(?P<m3>\d\d)-(?P<d3>\d\d))\b",
    re.IGNORECASE,
)
_DATELINE: Final = 60
"""Characters at a text's beginning in which a date is its own."""


def written_date_ns(text: str) -> int | None:
    """Return the end of the day, in ns UTC, that stands at a text's beginning; None if none does."""
    found = _WRITTEN.search(text[:_DATELINE])
    if found is None:
        return None
    year, month, day = next(
        (found[f"y{i}"], found[f"m{i}"], found[f"d{i}"]) for i in "123" if found[f"y{i}"]
    )
    number = _MONTHS.get(month.lower().rstrip("."), 0) or int(month if month.isdigit() else 0)
    try:
        return parse_instant(f"{year}-{number:02d}-{int(day):02d}T00:00:00Z") + NS_PER_DAY
    except ValueError:
        return None


class FirstSeen:
    """When exact texts were first seen: a longer memory than that of copies, of fixed size.

    Args:
        capacity: Texts remembered.
    """

    def __init__(self, capacity: int) -> None:
        self.ts: LastUsed[bytes, int] = LastUsed(capacity)

    def seen(self, name: bytes, now: int) -> int:
        """Return when a text was first seen, now if it is new; the one longest unseen is forgotten first."""
        known = self.ts.get(name)
        ts = now if known is None else known
        self.ts.put(name, ts)
        return ts
