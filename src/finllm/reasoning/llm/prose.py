"""A model's own words, less every sentence that shows what the cited evidence does not bear out."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from finllm.domain.evidence import Evidence
from finllm.domain.free_words import stated_by, unproven


def checked(prose: str, cited: Sequence[Evidence]) -> tuple[str, tuple[str, ...]]:
    """Return a model's words on one line, and the sentences that were struck.

    A sentence is struck if it shows a number other than a field of the cited evidence by that field's name,
    a number in words or in other digits, an address, a quote that is no exact span of a cited one, or
    letters that are not Latin, of which nothing here could be checked.

    Args:
        prose: As the model wrote it.
        cited: The evidence that it cites.
    """
    stated = [one for evidence in cited for one in stated_by(evidence)]
    quotes = [evidence.quote for evidence in cited]
    names = [evidence.feature for evidence in cited]
    kept, struck = [], []
    for sentence in _sentences(prose):
        if unproven(sentence, stated, quotes, names):
            struck.append(sentence)
        else:
            kept.append(sentence)
    return " ".join(kept), tuple(struck)


def _sentences(prose: str) -> Iterator[str]:
    plain = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in prose)
    # Not within a number, and not where a sentence has no blank after it in Latin script.
    for part in re.split(r"(?<=[.!?;])\s+|(?<=[\u3002\uff01\uff1f])", " ".join(plain.split())):
        if part.strip():
            yield part.strip()
