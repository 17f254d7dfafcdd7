"""Statements of the Federal Open Market Committee: the Board's page, or rows of date and text.

A page says when it was for release. A row's date alone is timed by the calendar rule: 14:15 New York time
from 1995, 12:30 on the days of 2011 and 2012 with a press conference, 14:00 from 20 March 2013; before 1995
and on days without a scheduled meeting the hour varied, so there the date counts as the end of that day.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Final

from finllm.narrative.sources.body import text_of
from finllm.narrative.sources.fields import text_field
from finllm.narrative.sources.rows import Unusable, row_of
from finllm.narrative.sources.sample import sample
from finllm.narrative.sources.source import Item
from finllm.narrative.text.canonical import canonical_text

NEW_YORK: Final = "America/New_York"
FIRST_RULED: Final = date(1995, 1, 1)
SINCE_14_00: Final = date(2013, 3, 20)
PRESS_DAYS: Final = frozenset(
    map(
        date.fromisoformat,
        [
            "2011-04-27",
            "2011-06-22",
            "2011-11-02",
            "2012-01-25",
            "2012-04-25",
            "2012-06-20",
            "2012-09-13",
            "2012-12-12",
        ],
    )
)
"""Days on which the statement came at 12:30, before a press conference."""
UNSCHEDULED: Final = frozenset(
    map(
        date.fromisoformat,
        [
            "1998-10-15",
            "2001-01-03",
            "2001-04-18",
            "2001-09-17",
            "2007-08-10",
            "2007-08-17",
            "2008-01-22",
            "2008-03-11",
            "2008-10-08",
            "2010-05-09",
            "2020-03-03",
            "2020-03-15",
            "2020-03-19",
            "2020-03-23",
            "2020-03-31",
        ],
    )
)
"""Days of statements between meetings."""
_RELEASE = re.compile(
    r"(?:for\s+release\s+at|for\s+immediate\s+release\s+at|released?\s+at)\s+"
    r"(\d{1,2})(?::(\d{2}))?\s*([ap])\.?\s?m\.?\s*(?:\(?\s*([ECMP][SD]?T|eastern)\b)?",
    re.IGNORECASE,
)
_MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DATE = re.compile(rf"\b({'|'.join(_MONTHS)})\s+(\d{{1,2}}),\s+(\d{{4}})\b", re.IGNORECASE)
_TITLES: Final = (
    re.compile(
        r"<h3[^>]{0,200}class=\"title\"[^>]{0,200}>(.{1,300}?)</h3>", re.IGNORECASE | re.DOTALL
    ),
    re.compile(r"<title[^>]{0,200}>(.{1,300}?)</title>", re.IGNORECASE | re.DOTALL),
)
_START = re.compile(
    r"<(?:div|article)[^>]{0,300}\bid=\"(?:article|content)\"[^>]{0,300}>", re.IGNORECASE
)
MOST_PAGE: Final = 100_000
"""Characters of a page that are read."""
_HEAD_CHARS: Final = 4_000
"""Date and hour stand within so many characters of a page's text."""


class Fomc:
    """The Committee's statements."""

    zone: Final = NEW_YORK

    def samples(self) -> tuple[bytes, ...]:
        """Return a page, and rows of date and text."""
        return sample("fomc.html"), sample("fomc.jsonl")

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield a page's statement, or the statement of each row.

        Raises:
            Unusable: If it is neither.
        """
        if payload.lstrip()[:1] == b"{":
            for line in payload.splitlines():
                if line.strip():
                    row = row_of(line)
                    yield row if isinstance(row, Unusable) else _row(row)
        else:
            yield _page(payload)


def release_of(day: date) -> str:
    """Return when a statement of a day was released, by the calendar rule: ISO 8601, New York time."""
    is_ruled = day >= FIRST_RULED and day not in UNSCHEDULED and day.weekday() < 5
    if not is_ruled:
        return day.isoformat()
    hour = (
        time(12, 30) if day in PRESS_DAYS else time(14, 0) if day >= SINCE_14_00 else time(14, 15)
    )
    return datetime.combine(day, hour).isoformat()


def _row(row: dict[str, object]) -> Item | Unusable:
    stated = text_field(row, "ts_published", "release_time")
    if stated:
        published = stated
    else:
        try:
            published = release_of(date.fromisoformat(text_field(row, "date").strip()[:10]))
        except ValueError:
            return Unusable("undated", "date is not an ISO 8601 date")
    flags = ("assumed_time",) if not stated and "T" in published else ()
    return _statement(text_field(row, "title"), text_field(row, "text"), published, flags)


def _page(payload: bytes) -> Item:
    page, is_mended = text_of(payload)
    page = page[:MOST_PAGE]
    title = next((found for pattern in _TITLES if (found := pattern.search(page))), None)
    start = _START.search(page)
    text = canonical_text(page[start.end() if start else 0 :])
    head = text[:_HEAD_CHARS]
    dated, timed = _DATE.search(head), _RELEASE.search(head)
    if dated is None:
        raise Unusable("undated", "no date such as January 31, 2024")
    published, flags = _when(dated, timed)
    named = canonical_text(title[1]) if title else ""
    flags += ("broken_encoding",) if is_mended else ()
    end = timed.end() if timed else dated.end()
    return _statement(named, text[end:].strip(), published, flags)


def _when(dated: re.Match[str], timed: re.Match[str] | None) -> tuple[str, tuple[str, ...]]:
    month = next(i for i, name in enumerate(_MONTHS, 1) if name.lower() == dated[1].lower())
    try:
        day = date(int(dated[3]), month, int(dated[2]))
    except ValueError:
        raise Unusable("undated", f"{dated.group()} is no day") from None
    if timed is None:
        published = release_of(day)
        return published, ("assumed_time",) if "T" in published else ()
    hour = int(timed[1]) % 12 + (12 if timed[3].lower() == "p" else 0)
    minute = int(timed[2] or 0)
    if minute >= 60:
        raise Unusable("undated", f"{timed.group()} is no time")
    return datetime.combine(day, time(hour, minute)).isoformat(), ()


def _statement(title: str, text: str, published: str, flags: tuple[str, ...]) -> Item:
    return Item(
        title=title or "FOMC statement",
        text=text,
        published=published,
        key=published,
        lang="en",
        author="Federal Open Market Committee",
        flags=flags,
    )
