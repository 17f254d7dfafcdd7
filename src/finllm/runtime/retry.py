"""When a server says to come back: the one reading of `Retry-After`."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from finllm.domain.units import NS_PER_HOUR, NS_PER_S

LONGEST_NS: Final = NS_PER_HOUR


def retry_after_ns(text: str, now: int) -> int | None:
    """Return for how long a Retry-After header says to wait, ns, at most an hour; None if it does not say.

    Source:
        RFC 9110, section 10.2.3: seconds, or a date.
    """
    text = text.strip()
    if text.isdecimal():
        return min(int(text[:9]) * NS_PER_S, LONGEST_NS)
    try:
        moment = parsedate_to_datetime(text)
        until = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
    return min(max(0, until * NS_PER_S - now), LONGEST_NS)
