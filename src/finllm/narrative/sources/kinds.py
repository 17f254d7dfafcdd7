"""The kinds of source that ship, by the name that the settings give them."""

from typing import Final

from finllm.narrative.sources.fomc import Fomc
from finllm.narrative.sources.jsonl import JsonLines
from finllm.narrative.sources.newswire import Newswire
from finllm.narrative.sources.rss import Rss
from finllm.narrative.sources.sec import SecSearch, SecSubmissions
from finllm.narrative.sources.social import Social
from finllm.narrative.sources.source import Source

KINDS: Final[dict[str, type[Source]]] = {
    "fomc": Fomc,
    "jsonl": JsonLines,
    "newswire": Newswire,
    "rss": Rss,
    "sec-search": SecSearch,
    "sec-submissions": SecSubmissions,
    "social": Social,
}
