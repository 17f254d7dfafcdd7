"""RSS 0.9x, 1.0, 2.0 and Atom, by expat with every bound that XML lacks.

A feed may not declare entities (bombs and reads of files need that), is not followed anywhere, and what
came before a mistake in it counts. Names of HTML's entities, which many feeds use without declaring them,
are read as HTML has them.
"""

import re
from collections.abc import Iterator
from html.entities import name2codepoint
from typing import Final
from xml.parsers import expat

from finllm.narrative.sources.body import text_of
from finllm.narrative.sources.rows import Unusable
from finllm.narrative.sources.sample import sample
from finllm.narrative.sources.source import Item

DEEPEST: Final = 100
"""Elements within each other."""
LONGEST_FIELD: Final = 1_000_000
"""Characters of one item's text."""
_CHUNK: Final = 1 << 18
_ITEMS: Final = frozenset({"item", "entry"})
_FIELDS: Final = {
    "title": "title",
    "description": "text",
    "summary": "text",
    "content": "long",
    "content:encoded": "long",
    "pubdate": "published",
    "published": "published",
    "dc:date": "published",
    "updated": "updated",
    "guid": "key",
    "id": "key",
    "dc:creator": "author",
    "author": "author",
    "dc:language": "lang",
    "language": "lang",
}
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,10});")
_XML_ENTITIES: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>")


class Rss:
    """Feeds of news: RSS of any version, RDF, and Atom."""

    zone: Final = ""

    def samples(self) -> tuple[bytes, ...]:
        """Return a feed of RSS 2.0 and one of Atom."""
        return sample("rss.xml"), sample("atom.xml")

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield the feed's items.

        Raises:
            Unusable: `xml_bomb`, `too_deep`, `broken_xml`, or `no_items` if it is no feed.
        """
        text, is_mended = text_of(payload)
        text = _ENTITY.sub(_character, _DECLARATION.sub("", text.removeprefix("\ufeff"), count=1))
        walk = _Walk(("broken_encoding",) if is_mended else ())
        for start in range(0, max(1, len(text)), _CHUNK):
            yield from walk.read(text[start : start + _CHUNK], is_last=start + _CHUNK >= len(text))
        if not walk.is_feed:
            raise Unusable("no_items", "neither RSS nor Atom")


def _character(match: re.Match[str]) -> str:
    name = match.group(1)
    if name in _XML_ENTITIES or name not in name2codepoint:
        return match.group()
    return chr(name2codepoint[name])


class _Walk:
    """One feed, element by element."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        self.is_feed = False
        self._flags = flags
        self._lang = ""
        self._made: list[Item | Unusable] = []
        self._path: list[str] = []
        self._item: dict[str, str] | None = None
        self._field = ""
        self._field_depth = 0
        self._parts: list[str] = []
        self._n_chars = 0
        parser = self._parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._declare
        parser.UnparsedEntityDeclHandler = self._declare
        parser.ExternalEntityRefHandler = self._declare

    def read(self, chunk: str, *, is_last: bool) -> Iterator[Item | Unusable]:
        wrong = None
        try:
            self._parser.Parse(chunk.encode(errors="replace"), is_last)
        except expat.ExpatError as error:
            wrong = Unusable("broken_xml", str(error))
        made, self._made = self._made, []
        yield from made
        if wrong is not None:
            raise wrong

    def _declare(self, *_: object) -> int:
        raise Unusable("xml_bomb", "it declares entities")

    def _start(self, raw: str, attributes: dict[str, str]) -> None:
        name = raw.lower().removeprefix("atom:")
        self._path.append(name)
        if len(self._path) > DEEPEST:
            raise Unusable("too_deep", f"over {DEEPEST} elements within each other")
        if name in ("rss", "feed", "rdf:rdf"):
            self.is_feed = True
            self._lang = attributes.get("xml:lang", "")
        if name in _ITEMS and self._item is None:
            self._item, self._n_chars = {"lang": attributes.get("xml:lang", "")}, 0
        elif not self._field and name in _FIELDS:
            self._field, self._field_depth, self._parts = _FIELDS[name], len(self._path), []
        elif self._field:
            self._parts.append(" ")

    def _characters(self, characters: str) -> None:
        if not self._field:
            return
        self._n_chars += len(characters)
        if self._n_chars <= LONGEST_FIELD:
            self._parts.append(characters)

    def _end(self, _: str) -> None:
        name = self._path.pop()
        if self._field and len(self._path) < self._field_depth:
            self._take("".join(self._parts).strip())
            self._field = ""
        if name in _ITEMS and self._item is not None and not _ITEMS & set(self._path):
            self._made.append(self._finished(self._item))
            self._item = None

    def _take(self, value: str) -> None:
        if self._item is not None:
            self._item[self._field] = self._item.get(self._field) or value
        elif self._field == "lang":
            self._lang = self._lang or value

    def _finished(self, item: dict[str, str]) -> Item | Unusable:
        if self._n_chars > LONGEST_FIELD:
            return Unusable("too_long", f"an item of {self._n_chars:,} characters")
        return Item(
            title=item.get("title", ""),
            text=item.get("long") or item.get("text", ""),
            published=item.get("published") or item.get("updated", ""),
            key=item.get("key", ""),
            lang=(item["lang"] or self._lang)[:2].lower(),
            author=" ".join(item.get("author", "").split()),
            flags=self._flags,
        )
