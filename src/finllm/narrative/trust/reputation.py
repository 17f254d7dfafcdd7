"""Reputation: how often what a sender said turned out to be so, as known by now.

A Beta distribution per sender, and one per sender and topic that starts from the sender's mean. Outcomes
(confirmed, denied, contradicted) fade with age, and only so many count: neither a long record of trifles
nor a single prolific sender can run away. Nothing but outcomes changes it: writing much is no merit.

Source:
    Josang & Ismail (2002), "The Beta reputation system", sections 3 (forgetting) and 4.
"""

import math
from typing import Final

import msgspec

from finllm.domain.units import NS_PER_DAY
from finllm.runtime.lru import LastUsed

HALF_LIFE_NS: Final = 60 * NS_PER_DAY
STRENGTH: Final = 4.0
"""Outcomes that a prior is worth."""
MOST_OUTCOMES: Final = 60.0
"""Outcomes that a record is worth at most; older ones give way in proportion."""
MOST_SENDERS: Final = 65_536
LEAST: Final = 0.005
"""No record is so bad, or so good (one less this), that nothing could change it."""


class _Record(msgspec.Struct):
    ts: int
    so: float = 0.0
    not_so: float = 0.0

    def count(self, now: int, so: float, not_so: float) -> None:
        keep = 0.5 ** (max(0, now - self.ts) / HALF_LIFE_NS)
        self.ts = max(self.ts, now)
        self.so, self.not_so = self.so * keep + so, self.not_so * keep + not_so
        most = MOST_OUTCOMES / max(MOST_OUTCOMES, self.so + self.not_so)
        self.so, self.not_so = self.so * most, self.not_so * most

    def mean(self, now: int, prior: float) -> float:
        keep = 0.5 ** (max(0, now - self.ts) / HALF_LIFE_NS)
        so, not_so = self.so * keep, self.not_so * keep
        mean: float = (STRENGTH * prior + so) / (STRENGTH + so + not_so)
        return mean


class Reputation:
    """The records of all senders; the sender longest without an outcome is forgotten first."""

    def __init__(self) -> None:
        self.records: LastUsed[tuple[str, str], _Record] = LastUsed(MOST_SENDERS)

    def mean(self, sender: str, topic: str, prior: float, now: int) -> float:
        """Return the chance that what a sender says on a topic is so, `LEAST` to 1 - `LEAST`."""
        for key in ((sender, ""), (sender, topic)):
            record = self.records.get(key)
            if record is not None:
                prior = record.mean(now, prior)
        return min(1.0 - LEAST, max(LEAST, prior))

    def learn(
        self, sender: str, topic: str, now: int, *, so: float = 0.0, not_so: float = 0.0
    ) -> None:
        """Count an outcome of something that a sender said, by how sure it is, 0 to 1."""
        for key in ((sender, ""), (sender, topic)):
            record = self.records.get(key) or _Record(ts=now)
            record.count(now, so, not_so)
            self.records.put(key, record)


def log_odds(p: float) -> float:
    """Return ln(p / (1 - p)) of a chance strictly between 0 and 1."""
    return math.log(p / (1.0 - p))


def chance(odds: float) -> float:
    """Return the chance of log-odds, 0 to 1."""
    if odds >= 0.0:
        return 1.0 / (1.0 + math.exp(-odds))
    grown = math.exp(odds)
    return grown / (1.0 + grown)
