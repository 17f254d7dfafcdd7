"""Recorded documents: from lines of JSON or CSV to dated documents, or refusals with their reason.

A row's text is under `text`; its time under one of `ts_published_ns`, `ts_published` (ISO 8601),
`ts_ms` or `date`. A date alone means the end of that day in the row's `zone`, else in UTC. With
`ts_recv_ns` (or `ts_recv`) the row says when it was received, else that is publication plus a
declared delay. Where no language is stated, the text's own is told from it, and counted.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_MS, NS_PER_S, to_ns
from finllm.narrative.sources.rows import Row, Unusable, read_rows, row_of
from finllm.narrative.text.languages import language_of
from finllm.runtime.tally import Tally

LONGEST_TEXT: Final = 1_000_000
"""Bytes of UTF-8; a longer text is refused."""
LONGEST_NAME: Final = 200
"""Characters of an author, source, language, symbol or flag; the rest is cut off. The room's tables are keyed
by names."""
MOST_SYMBOLS: Final = 64
"""Symbols of a document; the rest are left out."""
MOST_FLAGS: Final = 32
"""Flags of a document. A row states half of them at most, readers add their own few."""
SORT_LIMIT: Final = 512_000_000
"""Characters of text that are sorted in memory, where a file gives no receive times."""
CLOCK_SKEW_NS: Final = NS_PER_MIN
"""How far ahead of ours a source's clock may be."""

_EARLIEST_NS: Final = 315_532_800 * NS_PER_S  # 1980
_LATEST_NS: Final = 4_102_444_800 * NS_PER_S  # 2100
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_REPOST = re.compile(r"RT @\w", re.IGNORECASE)
LATE_STAMPS: Final = frozenset({"date_only", "assumed_time", "assumed_zone"})
"""Flags of a stamp that is the latest that it can mean: what was received before it was published then."""
_LATEST_BY_NS: Final = NS_PER_DAY + 2 * NS_PER_HOUR
"""By how much such a stamp may lie ahead: a day, with the hours of a clock that is set back."""


def read_documents(
    path: Path | Sequence[Path],
    *,
    tally: Tally,
    delay_ns: int = 2 * NS_PER_S,
    sort_limit: int = SORT_LIMIT,
) -> Iterator[Document | Refusal]:
    """Yield a recording's documents in order of receipt, and a refusal for each unusable row.

    If the first document states when it was received, the file's order stands: a receive time before
    an earlier row's is raised to it (`clamped`). Otherwise the whole file is read and sorted.

    Args:
        path: JSON lines or CSV with a header, plain or gzip; several, each going on where the one
            before it ends, are one recording.
        tally: Counts `read`, and `dropped` with the place; who admits a document counts `used`.
        delay_ns: From publication to receipt, where a row states no receive time.
        sort_limit: Characters of text that may be held for sorting.

    Raises:
        InputError: If the file cannot be read, is neither form, or is too large to be sorted.
    """
    paths = [path] if isinstance(path, Path) else path
    rows = chain.from_iterable(read_rows(one, tally) for one in paths)
    found = _in_file_order(rows, tally, delay_ns)
    for made, is_stated in found:
        if isinstance(made, Refusal):
            yield made
        elif is_stated:
            yield made
            yield from _never_earlier(found, made.ts_recv, tally, paths[0])
        else:
            yield from _sorted(found, made, sort_limit, paths[0])


def document_of(line: bytes, *, place: str, ts_recv: int, tally: Tally) -> Document | Refusal:
    """Return a line of JSON that has just come as a document, or as a refusal.

    Args:
        line: One row, without its end.
        place: File and line.
        ts_recv: When it came, ns; a receive time of its own does not count.
        tally: Counts it as read, and as dropped if it is refused.
    """
    tally.read += 1
    try:
        row = row_of(line)
        if isinstance(row, Unusable):
            raise row
        return document_of_row(row, ts_recv, tally)
    except Unusable as why:
        tally.drop(why.reason, place)
        return Refusal(place=place, ts_recv=ts_recv, reason=why.reason, detail=why.detail)


def document_of_row(row: Row, ts_recv: int, tally: Tally) -> Document:
    """Return a row that has just come as a document; a receive time of its own does not count.

    Raises:
        Unusable: If it makes none.
    """
    return _document({**row, "ts_recv_ns": ts_recv}, 0, tally)[0]


def published_of(row: Row) -> int:
    """Return when a row says that it was published, ns; a date alone is the end of that day.

    Raises:
        Unusable: If it does not say.
    """
    return _published(row)[0]


def _sorted(
    found: Iterator[tuple[Document | Refusal, bool]], first: Document, limit: int, path: Path
) -> list[Document | Refusal]:
    """Return everything by receive time; a refusal stays behind the document it follows."""
    held: list[Document | Refusal] = [first]
    n_chars = len(first.text)
    for made, _ in found:
        held.append(made)
        n_chars += 200 + (len(made.text) if isinstance(made, Document) else 0)
        if n_chars > limit:
            raise InputError(
                f"over {limit:,} characters of documents without receive times",
                place=str(path),
                mend="Give each row a ts_recv_ns in increasing order, or split the file by time.",
            )
    return sorted(held, key=lambda made: made.ts_recv)


def _never_earlier(
    found: Iterator[tuple[Document | Refusal, bool]], high: int, tally: Tally, path: Path
) -> Iterator[Document | Refusal]:
    for made, _ in found:
        if isinstance(made, Document) and made.ts_recv < high:
            tally.note("clamped", f"{path.name}: document {made.document_id}")
            yield msgspec.structs.replace(made, ts_recv=high)
            continue
        high = max(high, made.ts_recv)
        yield made


def _in_file_order(
    rows: Iterator[tuple[str, Row | Unusable]], tally: Tally, delay_ns: int
) -> Iterator[tuple[Document | Refusal, bool]]:
    """Yield each row's document or refusal, and whether the row stated its receive time."""
    latest = 0
    for place, row in rows:
        tally.read += 1
        try:
            if isinstance(row, Unusable):
                raise row
            document, is_stated = _document(row, delay_ns, tally)
        except Unusable as why:
            tally.drop(why.reason, place)
            yield (
                Refusal(place=place, ts_recv=latest, reason=why.reason, detail=why.detail),
                False,
            )
        else:
            latest = document.ts_recv
            yield document, is_stated


def _document(row: Row, delay_ns: int, tally: Tally) -> tuple[Document, bool]:
    """Return a row's document and whether the row stated its receive time."""
    text = _text(row)
    stated, flags = _published(row)
    flags = (*_flags(row), *flags)
    received = _received(row)
    published = stated
    if received is not None and stated > received and LATE_STAMPS.intersection(flags):
        published = received if stated - received <= _LATEST_BY_NS else stated
    if received is not None and published > received + CLOCK_SKEW_NS:
        raise Unusable("future", f"published {published - received} ns after it was received")
    source = _name(row, "source") or _usual_source(row)
    lang = _name(row, "lang")
    if not lang:
        lang = language_of(text)
        if lang:
            flags = (*flags, "lang_detected")
            tally.noted["lang_detected"] += 1
    document = Document(
        document_id=content_id(source, published, text),
        source=source,
        ts_published=published,
        ts_recv=published + delay_ns if received is None else received,
        lang=lang,
        text=text,
        symbols=_symbols(row),
        author=_name(row, "author"),
        followers=max(0, _whole(row, "followers") or 0),
        is_repost=bool(_whole(row, "retweet")) or _REPOST.match(text) is not None,
        flags=tuple(dict.fromkeys(flags)),
        is_verified=bool(_whole(row, "verified")),
    )
    return document, received is not None


def _flags(row: Row) -> tuple[str, ...]:
    value = row.get("flags")
    if not isinstance(value, list | tuple):
        return ()
    return tuple(flag[:LONGEST_NAME] for flag in value[: MOST_FLAGS // 2] if isinstance(flag, str))


def _usual_source(row: Row) -> str:
    """Name rows without a source by their shape, so that renaming a file changes no id."""
    if "symbol" in row and "author" in row:
        return "tweets"
    return "statements" if "date" in row else "posts"


def _text(row: Row) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise Unusable("empty_text")
    if len(text) > LONGEST_TEXT or _n_bytes(text) > LONGEST_TEXT:
        raise Unusable("too_long", f"text over {LONGEST_TEXT:,} bytes")
    return text


def _n_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise Unusable("not_utf8", str(error)) from None


def _name(row: Row, field: str) -> str:
    value = row.get(field)
    if value is None or isinstance(value, bool):
        return ""
    if not isinstance(value, str | int):
        raise Unusable("bad_field", f"{field} is neither text nor a whole number")
    name = str(value)[:LONGEST_NAME]
    _n_bytes(name)
    return name


def _symbols(row: Row) -> tuple[str, ...]:
    value = row.get("symbols", row.get("symbol"))
    if isinstance(value, str):
        value = re.split(r"[,;\s]+", value[: MOST_SYMBOLS * LONGEST_NAME])
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(symbol, str) for symbol in value):
        raise Unusable("bad_field", "symbols is not a list of texts")
    names = (symbol.strip()[:LONGEST_NAME] for symbol in value[:MOST_SYMBOLS])
    kept = tuple(name for name in names if name)
    _n_bytes("".join(kept))
    return kept


def _whole(row: Row, field: str) -> int | None:
    """Return a field as an integer, None if it is absent. Digits as text count: CSV has no numbers."""
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = int(value[:32])
        except ValueError:
            raise Unusable("bad_field", f"{field} is not a whole number") from None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise Unusable("bad_field", f"{field} is not a whole number of 64 bits")
    return int(value)


def _published(row: Row) -> tuple[int, tuple[str, ...]]:
    """Return when a row was published, and what is to be said of that."""
    for field, unit_ns in (("ts_published_ns", 1), ("ts_ms", NS_PER_MS)):
        value = _whole(row, field)
        if value is not None:
            return _plausible(value * unit_ns, field), ()
    for field in ("ts_published", "date"):
        value = row.get(field)
        if isinstance(value, str) and value.strip():
            ts, flag = _instant(value.strip(), _zone(row), field)
            is_said = not flag or (flag == "no_zone" and row.get("zone") is not None)
            return _plausible(ts, field), () if is_said else (flag,)
    raise Unusable("undated", "none of ts_published_ns, ts_published, ts_ms, date")


def _received(row: Row) -> int | None:
    value = _whole(row, "ts_recv_ns")
    if value is not None:
        return _plausible(value, "ts_recv_ns")
    stamp = row.get("ts_recv")
    if isinstance(stamp, str) and stamp.strip():
        return _plausible(_instant(stamp.strip(), _zone(row), "ts_recv")[0], "ts_recv")
    return None


def _plausible(ts: int, field: str) -> int:
    if not _EARLIEST_NS <= ts <= _LATEST_NS:
        raise Unusable("implausible_time", f"{field} is not between 1980 and 2100: wrong unit?")
    return ts


def _zone(row: Row) -> tzinfo:
    name = row.get("zone")
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        raise Unusable("bad_field", "zone is not an IANA time zone") from None


def _instant(stamp: str, zone: tzinfo, field: str) -> tuple[int, str]:
    """Return a written time in ns, and `date_only` or `no_zone`; a date alone is the end of that day."""
    try:
        moment = _moment(stamp)
        if _DATE.fullmatch(stamp):
            return to_ns((moment + timedelta(days=1)).replace(tzinfo=zone)), "date_only"
        if moment.tzinfo is not None:
            return to_ns(moment), ""
        return to_ns(moment.replace(tzinfo=zone)), "no_zone"
    except (ValueError, OverflowError):
        raise Unusable("undated", f"{field} is neither an ISO 8601 nor an RFC 2822 time") from None


def _moment(stamp: str) -> datetime:
    try:
        return datetime.fromisoformat(stamp)
    except ValueError:
        return parsedate_to_datetime(stamp[:LONGEST_NAME])
