"""From messages as they came to dated documents and refusals. One reader for each source of a run.

A reader remembers what its source has shown already, so that a feed asked again yields only what is new;
what it yields depends on the messages in their order and on nothing else, so reading the same messages
again gives the same documents.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from finllm.domain.evidence import Document, Refusal
from finllm.domain.identity import content_id
from finllm.narrative.sources.body import MOST_BYTES, unpacked
from finllm.narrative.sources.clock import SourceClock
from finllm.narrative.sources.documents import document_of_row, published_of
from finllm.narrative.sources.rows import Row, Unusable
from finllm.narrative.sources.source import Item, Source
from finllm.runtime.tally import Tally

MOST_ITEMS: Final = 5_000
"""Items of one message that are read; more are counted as one refusal."""
MOST_REMEMBERED: Final = 50_000
"""Documents that are recognised when they are shown again; the longest unseen is forgotten first."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a source, as it came: a body or a frame of a socket."""

    source: str
    """Name of the source in the settings."""
    ts_recv: int
    """When it came, ns UTC."""
    payload: bytes
    """Empty where `refused` says why it was not kept."""
    refused: str = ""
    """Why its body was not taken, such as `too_long`; empty if it was."""


class SourceReader:
    """Reads one source's messages in the order in which they came.

    Args:
        name: The source's name: first part of its documents' `source`.
        source: What takes its messages apart.
        zone: Instead of the source's own zone for times that state none.
        most_bytes: Bytes of one message, unpacked.
        tally: Counts what is read, refused and noticed; shared by the sources of a run.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        tally: Tally,
        *,
        zone: str = "",
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.name = name
        self.clock = SourceClock()
        self._source, self._tally = source, tally
        self._zone = zone or source.zone
        self._most_bytes = most_bytes
        self._seen: OrderedDict[str, str] = OrderedDict()
        self._n_messages = 0

    def read(self, message: Message) -> Iterator[Document | Refusal]:
        """Yield what is new in a message, and a refusal for each part that cannot be used."""
        self._n_messages += 1
        place = f"{self.name}: message {self._n_messages}"
        if message.refused:
            yield self._refused(message, place, Unusable(message.refused))
            return
        for number, item in enumerate(self._items(message.payload), start=1):
            where = f"{place}, item {number}"
            made = item if isinstance(item, Unusable) else self._document(item, message.ts_recv)
            if isinstance(made, Document):
                self._tally.read += 1
                yield made
            elif made is not None:
                yield self._refused(message, where, made)

    def _items(self, payload: bytes) -> Iterator[Item | Unusable]:
        try:
            found = self._source.parse(unpacked(payload, self._most_bytes))
            for number, item in enumerate(found):
                if number == MOST_ITEMS:
                    yield Unusable("too_many", f"over {MOST_ITEMS:,} items in one message")
                    return
                yield item
        except Unusable as why:
            yield why
        except Exception as error:  # noqa: BLE001 - a plug-in's mistake is one message lost, and told
            yield Unusable("source_failed", f"{type(error).__name__}: {error}"[:300])

    def _refused(self, message: Message, place: str, why: Unusable) -> Refusal:
        self._tally.read += 1
        self._tally.drop(why.reason, place)
        return Refusal(place=place, ts_recv=message.ts_recv, reason=why.reason, detail=why.detail)

    def _document(self, item: Item, ts_recv: int) -> Document | Unusable | None:
        """Return an item's document, why it makes none, or None if it has been shown before."""
        try:
            row = self._row(item)
            # A named item is the same while its text is: some feeds stamp everything anew each time.
            stamp = () if item.key else (item.published, item.published_ns)
            what = content_id(row["text"], *stamp)
        except UnicodeEncodeError as error:
            return Unusable("not_utf8", str(error)[:300])
        except (TypeError, AttributeError, ValueError) as error:  # not what an item holds
            return Unusable("bad_field", str(error)[:300])
        return self._made(row, what, f"key {item.key}" if item.key else what, ts_recv)

    def _made(self, row: Row, what: str, key: str, ts_recv: int) -> Document | Unusable | None:
        before = self._seen.get(key)
        if before == what:
            self._seen.move_to_end(key)
            self._tally.note("shown_again", self.name)
            return None
        try:
            document = document_of_row(row, ts_recv, self._tally)
        except Unusable as why:
            return self._unusable(row, what, ts_recv, why)
        self._remember(key, what)
        return self._flagged(document, is_edited=before is not None)

    def _unusable(self, row: Row, what: str, ts_recv: int, why: Unusable) -> Unusable | None:
        """Return why an item is refused, once: a feed shows the same item for days."""
        if why.reason == "future":
            self.clock.observe(ts_recv, published_of(row))
            if self.clock.is_mis_zoned:
                self._tally.note("mis_zoned", self.name)
        if f"refused {what}" in self._seen:
            self._tally.note("refused_again", self.name)
            return None
        self._remember(f"refused {what}", why.reason)
        return why

    def _remember(self, key: str, what: str) -> None:
        self._seen[key] = what
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)

    def _flagged(self, document: Document, *, is_edited: bool) -> Document:
        """Take in a document's delay; flag it if its stamps look mis-zoned, or if it is an edit."""
        if (
            self._n_messages > 1 and not is_edited
        ):  # the first message holds what was there long before
            self.clock.observe(document.ts_recv, document.ts_published)
        flags = [*document.flags]
        flags += ["edited"] if is_edited else []
        flags += ["mis_zoned"] if self.clock.is_mis_zoned else []
        for flag in flags:
            if flag != "lang_detected":  # has been counted
                self._tally.note(flag, self.name)
        return msgspec.structs.replace(document, flags=tuple(flags))

    def _row(self, item: Item) -> Row:
        """Return an item as a row of our own form."""
        title, text = item.title.strip(), item.text.strip()
        if title and not text.startswith(title):
            text = f"{title}\n\n{text}" if text else title
        row: Row = {
            "text": text,
            "source": f"{self.name}/{item.outlet}" if item.outlet else self.name,
            "lang": item.lang,
            "symbols": list(item.symbols),
            "author": item.author,
            "followers": item.followers,
            "retweet": int(item.is_repost),
            "flags": item.flags,
        }
        if self._zone:
            row["zone"] = self._zone
        if item.published_ns:
            row["ts_published_ns"] = item.published_ns
        else:
            row["ts_published"] = item.published
        return row
