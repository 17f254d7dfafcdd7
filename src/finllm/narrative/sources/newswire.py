"""Messages of a newswire's WebSocket: a headline in JSON, or a list of them, among words on the connection.

The names of fields differ from wire to wire; those of the common ones are known here.
"""

from collections.abc import Iterator
from typing import Any, Final

from finllm.narrative.sources.fields import at, json_of, number, text_field, words
from finllm.narrative.sources.rows import Unusable
from finllm.narrative.sources.sample import sample
from finllm.narrative.sources.source import Item
from finllm.narrative.sources.stamps import instant_field

MOST_WRAPPED: Final = 4
"""Envelopes around the headlines that are opened."""
_ENVELOPES: Final = (
    "data",
    "news",
    "articles",
    "items",
    "results",
    "payload",
    "message",
    "content",
)
_HEADLINES: Final = ("headline", "title")
_TEXTS: Final = ("body", "text", "content", "summary", "description", "teaser")
_TIMES: Final = (
    "published_at", "publishedAt", "published", "created_at", "createdAt", "created",
    "ts_published", "datetime", "time", "timestamp", "date", "updated_at",
)  # fmt: skip


class Newswire:
    """Headlines as newswires push them."""

    zone: Final = ""

    def samples(self) -> tuple[bytes, ...]:
        """Return a list of headlines, and one in an envelope."""
        return sample("newswire.json"), sample("newswire_envelope.json")

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield the headlines of a message; a greeting or a heartbeat has none.

        Raises:
            Unusable: `broken_json` or `not_utf8`.
        """
        for row in _rows(json_of(payload)):
            yield _item(row)


def _rows(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects that are headlines, out of their envelopes."""
    if isinstance(value, list):
        for one in value:
            yield from _rows(one, depth)
    elif isinstance(value, dict):
        if text_field(value, *_HEADLINES) or _has_text(value):
            yield value
        elif depth < MOST_WRAPPED:
            for name in _ENVELOPES:
                if isinstance(value.get(name), dict | list):
                    yield from _rows(value[name], depth + 1)


def _has_text(row: dict[str, Any]) -> bool:
    """Return whether a row without a headline is a text all the same: it is dated and longer than a word."""
    return bool(text_field(row, *_TEXTS)) and any(name in row for name in _TIMES)


def _item(row: dict[str, Any]) -> Item:
    published, published_ns = instant_field(row, *_TIMES)
    source = row.get("source")
    return Item(
        title=text_field(row, *_HEADLINES),
        text=text_field(row, *_TEXTS),
        published=published,
        published_ns=published_ns,
        key=text_field(row, "id", "uuid", "guid", "news_id"),
        outlet=text_field(row, "source", "publisher", "provider")
        or text_field(source, "name", "id"),
        lang=text_field(row, "language", "lang")[:2].lower(),
        symbols=words(row.get("symbols") or row.get("tickers") or at(row, "stocks")),
        author=text_field(row, "author") or ", ".join(words(row.get("authors"))),
        followers=number(row, "followers"),
    )
