"""Recalling: one question put to the memory of a run, as of an instant."""

from pathlib import Path

import msgspec

from finllm.app.reader import load_encoder
from finllm.domain.errors import InputError
from finllm.narrative.memory.asof import AsOf, Memory, Recalled, Remembered
from finllm.narrative.memory.schema import NAME
from finllm.narrative.reading.encoder import Encoder, HashingEncoder
from finllm.narrative.text.canonical import canonical_text


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked."""

    as_of: int
    instrument: str = ""
    """A key, or the end of one; empty = any."""
    about: str = ""
    """Most like this first; empty = newest first."""
    after: int | None = None
    """Only what was received after this; None = all that memory still holds."""
    limit: int = 20


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A document, with one of its claims as it stood."""

    document: Remembered
    recalled: Recalled | None = None
    """None = it made no claim."""
    similarity: float | None = None
    """Cosine with what was asked about, where anything was."""


class Recollection(msgspec.Struct, frozen=True, kw_only=True):
    """What was known."""

    question: Question
    found: tuple[Found, ...]
    encoder: str = ""
    """What compared meanings."""
    span: tuple[int, int]
    """First and last instant that this memory can be asked about."""


def recall_from(run: Path, question: Question) -> Recollection:
    """Ask the memory of a run.

    Without `after`, what has been retired is left aside: the span says from where on.

    Args:
        run: Its folder.
        question: What is asked.

    Raises:
        InputError: If there is no memory, or the question cannot be answered as of that instant.
    """
    with Memory(run / NAME) as memory:
        span = memory.span
        after = span[0] - 1 if question.after is None else question.after
        view = memory.as_of(question.as_of)
        instrument = _key(view, question.instrument)
        if question.about:
            encoder = _encoder(memory)
            found = _alike(view, encoder, question, instrument, after)
            return Recollection(question=question, found=found, encoder=encoder.name, span=span)
        return Recollection(
            question=question, found=_newest(view, question, instrument, after), span=span
        )


def _newest(view: AsOf, question: Question, instrument: str, after: int) -> tuple[Found, ...]:
    claims = view.claims(instrument=instrument, after=after, limit=question.limit)
    return tuple(
        Found(document=view.document(one.claim.document_id), recalled=one) for one in claims
    )


def _alike(
    view: AsOf, encoder: Encoder, question: Question, instrument: str, after: int
) -> tuple[Found, ...]:
    query = encoder.embed(canonical_text(question.about))
    found: list[Found] = []
    for one in view.alike(
        query, encoder.name, instrument=instrument, after=after, limit=question.limit
    ):
        claims: list[Recalled | None] = [
            claim
            for claim in view.claims_of(one.document.document_id)
            if instrument in {"", claim.claim.instrument}
        ]
        found += (
            Found(document=one.document, recalled=claim, similarity=one.similarity)
            for claim in claims or [None]
        )
    return tuple(found[: question.limit])


def _key(view: AsOf, asked: str) -> str:
    """Return the instrument that is meant by a key or the end of one.

    Raises:
        InputError: If none was watched by then, or several fit.
    """
    if not asked:
        return ""
    known = view.instruments()
    fit = [key for key in known if key.lower() == asked.lower()] or [
        key for key in known if key.rpartition(":")[2].lower() == asked.lower()
    ]
    if len(fit) != 1:
        raise InputError(
            f"{len(fit)} instruments fit it, of those watched by then: {', '.join(known) or 'none'}",
            place=f"--instrument {asked}",
            mend="Give one of these.",
        )
    return fit[0]


def _encoder(memory: Memory) -> Encoder:
    """Return the encoder that the run had; the one that knows most where it had several.

    Raises:
        InputError: If it is not installed here.
    """
    held = memory.encoders
    made = None if all(one.name == HashingEncoder.name for one in held) else load_encoder()
    for encoder in (made, HashingEncoder()):
        if encoder is not None and encoder.name in {one.name for one in held}:
            return encoder
    names = ", ".join(one.name for one in held)
    raise InputError(
        f"its vectors were made by {names}, which is not installed here",
        place="--about",
        mend="Run 'finllm narrative build' with the weights that the run had, or leave --about out.",
    )
