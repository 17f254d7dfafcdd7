"""What the narrative bench feeds the room: lines as a source sends them, made beforehand."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from finllm.app.attack.field import Field, start_of
from finllm.domain.evidence import Document
from finllm.domain.units import NS_PER_S
from finllm.narrative.reading.encoder import Encoder
from finllm.narrative.reading.features import tokens
from finllm.narrative.reading.transformer import Transformer

TOKENS: Final = 30
"""Of a headline, as its encoder counts them, with the two that frame a text."""
RUN: Final = 3
"""Words that a headline takes from one text: enough to keep phrases, too few to be a copy of it."""
ACCOUNTS: Final = 200_000
"""Behind a flood: more than any table of senders holds."""


class Sent(msgspec.Struct, frozen=True):
    """One line of JSON and when it comes."""

    line: bytes
    ts_recv: int


def token_counter(encoder: Encoder) -> Callable[[str], int]:
    """Return what counts a text's tokens: the encoder's own where it has any, else the words."""
    if isinstance(encoder, Transformer):
        return lambda text: len(encoder.tokens(text)[0])
    return lambda text: len(tokens(text))


def stream_of(field: Field) -> list[Sent]:
    """Return the field's documents as they came, with their copies."""
    return [_sent(document) for document in field.documents]


def headlines_of(field: Field, n: int, count: Callable[[str], int]) -> list[Sent]:
    """Return n headlines of `TOKENS` tokens, distinct: no two share more than a phrase.

    Each is made of runs of words of the field's texts, and carries the symbol of one instrument: cashtags
    are left out, or it would be about a dozen.
    """
    chance = field.chance("headlines")
    start, made = start_of(field), []
    texts = [[word for word in text.split() if not word.startswith("$")] for text in field.texts]
    for i in range(n):
        words: list[str] = []
        while count(" ".join(words)) < TOKENS:
            text = texts[int(chance.integers(len(texts)))]
            at = int(chance.integers(max(1, len(text) - RUN)))
            words += text[at : at + RUN]
        while count(" ".join(words)) > TOKENS and len(words) > 1:
            words.pop()
        key = field.instruments[int(chance.integers(len(field.instruments)))]
        made.append(
            _sent(
                Document(
                    document_id="",
                    source="wire",
                    ts_published=start + i * NS_PER_S,
                    ts_recv=start + i * NS_PER_S,
                    text=" ".join(words),
                    symbols=(key.partition(":")[2],),
                    author=f"desk-{int(chance.integers(500))}",
                    followers=int(chance.integers(10_000)),
                )
            )
        )
    return made


def flood_of(field: Field, n: int) -> Iterator[Sent]:
    """Yield n documents a second apart: a third are copies, a third copies with a word put in, a third new.

    They come from `ACCOUNTS` accounts, and over enough days that memory has to let go of the first.
    """
    chance = field.chance("flood")
    start = start_of(field)
    for i in range(n):
        one, other, word, account, key = chance.integers(1 << 30, size=5).tolist()
        words = field.texts[one % len(field.texts)].split()
        if i % 3 == 1:
            words.insert(word % len(words), field.words[other % len(field.words)])
        elif i % 3 == 2:
            more = field.texts[other % len(field.texts)].split()
            words = [*words[: len(words) // 2], f"no{i}", *more[len(more) // 2 :]]
        instrument = field.instruments[key % len(field.instruments)]
        yield _sent(
            Document(
                document_id="",
                source="social",
                ts_published=start + i * NS_PER_S,
                ts_recv=start + i * NS_PER_S,
                text=" ".join(words),
                symbols=(instrument.partition(":")[2],),
                author=f"user{account % ACCOUNTS}",
                followers=account % 5_000,
            )
        )


def _sent(document: Document) -> Sent:
    row = {
        "source": document.source,
        "ts_published_ns": document.ts_published,
        "text": document.text,
        "symbols": document.symbols,
        "author": document.author,
        "followers": document.followers,
        "retweet": document.is_repost,
    }
    if "lang_detected" not in document.flags:
        row["lang"] = document.lang
    return Sent(msgspec.json.encode(row), document.ts_recv)
