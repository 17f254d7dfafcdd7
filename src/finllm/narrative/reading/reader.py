"""The reader: what a document says of an instrument that it names, by the head that fits it best.

Which head is asked depends on the language and on whether the text is a post or the news; packs differ in
the heads they have, and where none fits nothing is claimed. A long document is read by its strongest
sentence, so that reading costs the same whatever its length.
"""

from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.evidence import Document
from finllm.narrative.reading.heads import Answer, Heads, Pack
from finllm.narrative.text.languages import language_of

SHIPPED: Final = Path(__file__).parent.parent / "weights" / "heads"
NOTHING: Final = "none"
"""Stands for a head where there is none for a language."""
IS_LONG: Final = 600
"""Characters; a longer text is read by its strongest sentence."""
POLICY: Final = "fomc"
TRIAGE: Final = "claims"
POLICY_EVENT: Final = "macro"
_NEWS: Final = ("sentfin", "semeval2017", "phrasebank", "fiqa")
_POSTS: Final = ("stockemotions", "fiqa", "surge", "sentfin")
_ENGLISH: Final = "en"
_DIGITS: Final = 4

Span = tuple[int, int]


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says of one instrument."""

    stance: float
    """p_bullish - p_bearish, -1 to +1."""
    hawkishness: float = 0.0
    """p_hawkish - p_dovish of words on monetary policy, -1 to +1; 0 where nothing is said of it."""
    check_worthiness: float = 0.0
    """Probability that a fact check would not find it true; for triage only."""
    by: str
    """Encoder and heads that answered, with their versions."""


class Reader:
    """Heads put to documents. For one caller at a time.

    Args:
        heads: A pack in service.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._regional: dict[str, str] = {}
        for name, task in sorted(heads.card.tasks.items()):
            if task.language != _ENGLISH:
                self._regional.setdefault(task.language, name)

    @property
    def name(self) -> str:
        """Return the encoder's name and the pack's, with their versions."""
        return self._heads.name

    @property
    def knows_until(self) -> str:
        """Return the last month whose texts the encoder may have been trained on; empty without one."""
        return self._heads.knows_until

    def judge(
        self,
        document: Document,
        text: str,
        *,
        names: tuple[Span, ...],
        quote: Span,
        event_type: str,
    ) -> Judged:
        """Return what a document says of an instrument.

        Args:
            document: For its language and for whether it is a post.
            text: Its canonical text.
            names: Where it names the instrument.
            quote: The sentence that says most about the instrument.
            event_type: What kind of event it tells of.
        """
        start, end = quote if len(text) > IS_LONG else (0, len(text))
        read = text[start:end]
        name = next(((a - start, b - start) for a, b in names if start <= a and b <= end), None)
        task = self._task_for(document, read)
        if not task:
            return Judged(stance=0.0, by=NOTHING)
        tasks = [task]
        if self._heads.card.tasks[task].language == _ENGLISH:
            tasks += [POLICY] * (event_type == POLICY_EVENT) + [TRIAGE]
        asked = [one for one in tasks if one in self._heads.card.tasks]
        # One reading serves them all: the stance's own, as that is what matters most.
        at = name if self._heads.card.tasks[task].asks == "name" else None
        said = {answer.task: answer for answer in self._heads.judge_all(asked, read, at)}
        return Judged(
            stance=_between(said[task]),
            hawkishness=_between(said[POLICY]) if POLICY in said else 0.0,
            check_worthiness=round(1.0 - said[TRIAGE].p[-1], _DIGITS) if TRIAGE in said else 0.0,
            by=said[task].by,
        )

    def stance(self, text: str, names: tuple[Span, ...] = ()) -> float:
        """Return the stance of a piece of English news, -1 to +1; 0 if the pack has no head for it."""
        task = self._first_of(_NEWS)
        return _between(self._heads.judge(task, text, names[0] if names else None)) if task else 0.0

    def _task_for(self, document: Document, text: str) -> str:
        """Return the task that tells a document's stance; empty if the pack has none for it."""
        language = document.lang[:2].lower() or language_of(text) or _ENGLISH
        if language != _ENGLISH:
            return self._regional.get(language, "")
        return self._first_of(_POSTS if _is_post(document, text) else _NEWS)

    def _first_of(self, tasks: tuple[str, ...]) -> str:
        """Return the first of some tasks that the pack has; empty if it has none."""
        return next((one for one in tasks if one in self._heads.card.tasks), "")


def _is_post(document: Document, text: str) -> bool:
    return document.followers > 0 or (bool(document.author) and any(m in text for m in "$@#"))


def _between(answer: Answer) -> float:
    """Return how far an answer leans to its last class from its first; fewer digits hold anywhere."""
    return round(answer.p[-1] - answer.p[0], _DIGITS)


def words_only(folder: Path = SHIPPED) -> Reader:
    """Return a reader that needs no encoder.

    Raises:
        ArtifactError: If the pack is damaged.
    """
    return Reader(Heads(Pack(folder), None))
