"""Whether a member is still asked: what its last exchanges say of it.

One that fails, is late, or says what it has said before of other texts, several times in a row is dropped. It
is then asked about every sixteenth question only, until it answers with something new. Nothing here reads a
clock: who is asked follows from the exchanges before, so that a replay asks the same.
"""

import re
from collections import Counter, deque
from typing import Final

from finllm.domain.completion import End
from finllm.domain.identity import content_id
from finllm.reasoning.llm.answer import Answer

FAILURES: Final = 3
"""In a row, with which a member counts as broken."""
REPEATS: Final = 3
"""In a row, with which it counts as repeating itself."""
PROBE: Final = 16
"""Of a dropped member's questions, the one that it is asked."""
BROKEN: Final = "broken"
LATE: Final = "late"
"""It had its turn, and was given up because the others had long answered."""
REPEATING: Final = "repeating"
SPARED: Final = ", not asked"
"""After either, where the member was spared the question."""
ANSWER: Final = str(End.ANSWER)
_OURS: Final = frozenset({str(End.SHED), str(End.CANCELLED)})
"""Ends that say nothing of a member."""
_REMEMBERED: Final = 8
"""Answers that a later one is compared with."""
_LEAST_WORDS: Final = 40
"""Characters from which words alone tell a copy; shorter ones may fall together by chance."""


def words_of(answer: Answer) -> str:
    """Return a name for what an answer says: two of the same name are copies, whatever they cite."""
    words = " ".join(re.findall(r"\w+", answer.why.casefold()))
    if len(words) >= _LEAST_WORDS:
        return content_id(words)
    return content_id(words, answer.shift, answer.vol_scale, answer.half_life_s, answer.agreement)


class Standing:
    """One member's standing."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Questions by how they ended, those that it was spared included."""
        self._failures = self._lates = self._repeats = self._spared = 0
        self._said: deque[str] = deque(maxlen=_REMEMBERED)
        self._texts: tuple[str, ...] | None = None

    @property
    def dropped(self) -> str:
        """Return why the member is dropped; empty if it is not."""
        if self._failures >= FAILURES:
            return LATE if self._lates >= FAILURES else BROKEN
        return REPEATING if self._repeats >= REPEATS else ""

    def turn(self) -> str:
        """Return the outcome if the member is spared the question at hand; empty if it is to be asked."""
        if not self.dropped:
            return ""
        self._spared += 1
        if self._spared % PROBE == 0:
            return ""
        outcome = self.dropped + SPARED
        self.counts[outcome] += 1
        return outcome

    def failed(self, end: End) -> str:
        """Take in an exchange without an answer that holds; return its outcome."""
        if str(end) not in _OURS:
            self._failures += 1
            self._lates = 0
        self.counts[str(end)] += 1
        return str(end)

    def late(self) -> str:
        """Take in an exchange that was given up for taking too long; return its outcome."""
        self._failures += 1
        self._lates += 1
        self.counts[LATE] += 1
        return LATE

    def answered(self, answer: Answer, texts: tuple[str, ...]) -> str:
        """Take in an answer to a pack of these texts; return its outcome: it counts, or repeats itself."""
        self._failures = self._lates = 0
        said = words_of(answer)
        if texts != self._texts:  # the same texts may well be answered alike
            self._repeats = self._repeats + 1 if said in self._said else 0
            self._said.append(said)
            self._texts = texts
        outcome = self.dropped or ANSWER
        self.counts[outcome] += 1
        return outcome
