"""The Committee's recorded statements as documents, each known only after its release.

The hour is the calendar rule's (`finllm.narrative.sources.fomc`); a day on which the hour varied counts as
over. They are the Board's own words, so their channel counts as verified.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from finllm.domain.errors import InputError
from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_S, to_ns
from finllm.narrative.sources.fomc import NEW_YORK, Fomc
from finllm.narrative.sources.rows import Unusable

SOURCE: Final = "federalreserve.gov"
DELAY_NS: Final = 2 * NS_PER_S
"""From release to receipt, as declared for recorded documents."""


def released(rows: bytes) -> Iterator[Document]:
    """Yield the statements of JSON lines of date and text, in their order; unusable rows are left out.

    Raises:
        InputError: If these are no such lines.
    """
    if rows.lstrip()[:1] != b"{":
        raise InputError(
            f"begins with {rows[:8]!r}",
            place="statements",
            mend="Lay JSON lines of `date` and `text` there.",
        )
    for item in Fomc().parse(rows):
        if isinstance(item, Unusable):
            continue
        try:
            published = _instant(item.published)
        except ValueError:
            continue
        yield Document(
            document_id=content_id(SOURCE, published, item.text),
            source=SOURCE,
            ts_published=published,
            ts_recv=published + DELAY_NS,
            lang=item.lang,
            text=item.text,
            author=item.author,
            flags=item.flags,
            is_verified=True,
        )


def _instant(stamp: str) -> int:
    """Return a time, of New York where it names no zone, in ns UTC; a date alone is the end of that day."""
    zone = ZoneInfo(NEW_YORK)
    if "T" in stamp:
        moment = datetime.fromisoformat(stamp)
        return to_ns((moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC))
    following = date.fromisoformat(stamp) + timedelta(days=1)
    return to_ns(datetime.combine(following, datetime.min.time(), zone).astimezone(UTC))
