"""JSON lines in our own form, as `finllm.narrative.sources.documents` takes them from files."""

from collections.abc import Iterator
from typing import Any, Final

from finllm.domain.units import NS_PER_MS
from finllm.narrative.sources.fields import number, text_field, words
from finllm.narrative.sources.rows import Unusable, row_of
from finllm.narrative.sources.sample import sample
from finllm.narrative.sources.source import Item


class JsonLines:
    """A document in each line: `text`, `ts_published`, `source` and what else is known."""

    zone: Final = ""

    def samples(self) -> tuple[bytes, ...]:
        """Return three lines."""
        return (sample("rows.jsonl"),)

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield each line's document; a line that is none is refused, and the next one read."""
        for line in payload.splitlines():
            if line.strip():
                row = row_of(line)
                yield row if isinstance(row, Unusable) else item_of(row)


def item_of(row: dict[str, Any]) -> Item:
    """Return a row in our own form as an item."""
    return Item(
        title=text_field(row, "title"),
        text=text_field(row, "text"),
        published=text_field(row, "ts_published", "date"),
        published_ns=number(row, "ts_published_ns") or number(row, "ts_ms") * NS_PER_MS,
        key=text_field(row, "id"),
        outlet=text_field(row, "source"),
        lang=text_field(row, "lang"),
        symbols=words(row.get("symbols", row.get("symbol"))),
        author=text_field(row, "author"),
        followers=number(row, "followers"),
        is_repost=bool(number(row, "retweet") or row.get("is_repost")),
    )
