"""The knowledge cut-off: texts that an encoder may have been trained on are no fair test of it."""

from datetime import UTC, datetime

from finllm.domain.errors import InputError
from finllm.domain.units import NS_PER_S, iso


def cutoff_note(encoder: str, knows_until: str, earliest: int, latest: int) -> str:
    """Return a line that says which documents an encoder may have been trained on; empty if none.

    Args:
        encoder: Its name.
        knows_until: Last month whose texts it may have been trained on, `2021-08`; empty = none.
        earliest: When the oldest document was published, ns.
        latest: When the newest was.

    Raises:
        InputError: If that is no month.
    """
    if not knows_until or earliest >= (end := _end_of(knows_until, encoder)):
        return ""
    which = "all documents were" if latest < end else "some documents were"
    return (
        f"{which} published before {encoder} stopped learning ({knows_until}), from "
        f"{iso(earliest)[:10]} on: it may have read about what came of them, so this is no fair test"
    )


def _end_of(month: str, encoder: str) -> int:
    try:
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError(
            f"{month!r} is no month", place=f"encoder {encoder}, knows_until", mend="Write 2021-08."
        ) from error
    after = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(after.timestamp()) * NS_PER_S
