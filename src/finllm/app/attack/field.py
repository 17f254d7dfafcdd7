"""The field that attacks are planted in: honest documents, and a room that has read them."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_S
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.narrative.reading.reader import Reader, words_only
from finllm.narrative.repeats.copies import read_for_copies
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm.narrative.sources.documents import read_documents
from finllm.narrative.text.canonical import canonical_text
from finllm.runtime.tally import Tally

MOST_INSTRUMENTS: Final = 100
SYNTHETIC_S: Final = 6 * 3_600.0
LEAST_WORDS: Final = 5
DIFFERENT: Final = 0.6
"""Two texts are different for sure if a longest-common-run match of their words is below this.

A judge of its own: difflib's ratio knows nothing of hashes or weights. Source: Ratcliff & Metzener (1988)."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """How one family of attacks fared."""

    name: str
    recall: float
    """Share of the attacks that were recognised."""
    n_attacks: int
    false_positives: float
    """Share of the honest controls that were taken for this attack."""
    n_controls: int
    least_recall: float = 0.0
    """The goal; 0 = there is none."""
    most_false: float = 1.0
    note: str = ""

    @property
    def ok(self) -> bool:
        """Return whether the goals are met."""
        return self.recall >= self.least_recall and self.false_positives <= self.most_false


class Field:
    """Honest documents, distinct texts of them, and rooms to read them.

    Args:
        documents: In order of receipt.
        instruments: What the rooms watch.
        settings: The rooms' own.
        seed: Of everything that is drawn.
        size: Attacks per family, about.
    """

    def __init__(
        self,
        documents: list[Document],
        instruments: tuple[str, ...],
        *,
        settings: NarrativeSettings,
        seed: int,
        size: int,
    ) -> None:
        self.documents = documents
        self.instruments = instruments
        self.settings = settings
        self.seed = seed
        self.size = size
        self._reader: Reader = words_only()
        self.texts = _distinct(documents)
        self.words = [word for text in self.texts for word in text.split()]

    def chance(self, family: str) -> np.random.Generator:
        """Return a family's own stream, whatever other families have drawn."""
        return np.random.default_rng([self.seed, *family.encode()])

    def room(self) -> Narrative:
        """Return an empty room that watches the instruments."""
        made = Narrative(settings=self.settings, reader=self._reader)
        for key in self.instruments:
            made.watch(key)
        return made

    def halves(self, family: str) -> tuple[list[str], list[str]]:
        """Return distinct texts for the room to know, and others that it does not, `size` of each at most."""
        order = self.chance(family).permutation(len(self.texts)).tolist()
        half = min(self.size, len(order) // 2)
        return [self.texts[i] for i in order[:half]], [
            self.texts[i] for i in order[half : 2 * half]
        ]


def document(text: str, ts: int, **fields: object) -> Document:
    """Return a document received as soon as it was published, by `wire` unless stated."""
    given = {"source": "wire", "ts_published": ts, "ts_recv": ts, "text": text, **fields}
    named = content_id(given["source"], given.get("author", ""), ts, text)
    return msgspec.convert({"document_id": named, **given}, Document)


def are_different(a: str, b: str) -> bool:
    """Return whether two texts are different for sure."""
    one, other = a.casefold().split(), b.casefold().split()
    return SequenceMatcher(None, one, other, autojunk=False).ratio() < DIFFERENT


def read_field(
    path: Path | None, *, settings: NarrativeSettings, seed: int, size: int, most: int
) -> Field:
    """Return the field of a file's documents; of the synthetic newswire without one.

    Args:
        path: Documents as JSON lines or CSV.
        settings: The rooms' own.
        seed: Of everything that is drawn, the newswire included.
        size: Attacks per family, about.
        most: Documents that are read.

    Raises:
        InputError: If the file cannot be read.
    """
    if path is None:
        tape = generate(SyntheticMarket(seed=seed, duration_s=SYNTHETIC_S, noise_per_min=8.0))
        keys = tuple(each.key for each in tape.instruments)
        found = [d for _, d in zip(range(most), tape.documents(), strict=False)]
        return Field(found, keys, settings=settings, seed=seed, size=size)
    found = []
    for made in read_documents(path, tally=Tally()):
        if isinstance(made, Document):
            found.append(made)
            if len(found) >= most:
                break
    return Field(found, _instruments(found), settings=settings, seed=seed, size=size)


def _instruments(documents: Iterable[Document]) -> tuple[str, ...]:
    """Return the symbols that documents carry most often, as US stocks; SPY where they carry none."""
    seen: dict[str, int] = {}
    for one in documents:
        for symbol in one.symbols:
            seen[symbol] = seen.get(symbol, 0) + 1
    names = sorted(seen, key=lambda name: (-seen[name], name))[:MOST_INSTRUMENTS]
    return tuple(f"us-equity:{name}" for name in names) or ("us-equity:SPY",)


def _distinct(documents: list[Document]) -> list[str]:
    """Return canonical texts of some words, none the same as another once normalised."""
    seen: set[str] = set()
    found = []
    for one in documents:
        text = canonical_text(one.text)
        key = read_for_copies(text).key
        if len(key.split()) >= LEAST_WORDS and key not in seen:
            seen.add(key)
            found.append(text)
    return found


def start_of(field: Field) -> int:
    """Return an instant after the last document, in ns."""
    return (field.documents[-1].ts_recv if field.documents else 0) + NS_PER_S
