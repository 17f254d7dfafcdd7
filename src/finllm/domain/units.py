"""Units of time and of return, and the reading of a written date. Nothing here reads a clock."""

from datetime import UTC, datetime
from typing import Final

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
NS_PER_MIN: Final = 60 * NS_PER_S
NS_PER_HOUR: Final = 3_600 * NS_PER_S
NS_PER_DAY: Final = 86_400 * NS_PER_S
BPS: Final = 1e4
"""Basis points in one: a return of 0.01 is 100 bps."""


def seconds(duration_ns: int) -> float:
    """Return a duration in seconds."""
    return duration_ns / NS_PER_S


def to_ns(moment: datetime) -> int:
    """Return an aware datetime as integer nanoseconds since the Unix epoch, UTC.

    Raises:
        ValueError: If the datetime carries no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; write it with one, such as ...Z")
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S + delta.microseconds * NS_PER_US


def iso(ts_ns: int) -> str:
    """Return nanoseconds since the Unix epoch as ISO 8601 in UTC, to the microsecond."""
    whole, rest = divmod(ts_ns, NS_PER_S)
    stamp = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{rest // NS_PER_US:06d}Z"


def parse_instant(text: str) -> int:
    """Return an instant written as ISO 8601 or as integer epoch nanoseconds, in nanoseconds.

    A date or time without a zone is taken as UTC.

    Raises:
        ValueError: If the text is neither.
    """
    if text.isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    return to_ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
