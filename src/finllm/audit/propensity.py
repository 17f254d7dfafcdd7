"""What asking about every notice would have gained, from what was asked and with which chance.

Of the notices that a gate refuses a few are asked by chance all the same. Each question stands for one notice
divided by the chance with which it was asked, so that the sum is without bias for all that had any.

Source:
    Horvitz & Thompson (1952).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from finllm.audit.inforce import Scored
from finllm.audit.rules import Floats
from finllm.audit.scorecard import Stage
from finllm.domain.protocol import Escalate, Hold

LEAST_EXPLORED: Final = 10
"""Questions asked by chance, with fewer of which nothing is estimated."""


@dataclass(frozen=True, slots=True)
class Chances:
    """Questions in order of time, by instrument, and the chance that each had."""

    ts: dict[str, np.ndarray]
    """[q], ns."""
    propensity: dict[str, Floats]
    """[q]"""
    explored: int
    """Asked by chance."""
    unreachable: int
    """Held without any chance of being asked: copies, what is barred, what a spent budget refuses."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A sum and its standard deviation, nats."""

    total: float
    deviation: float


def chances_of(questions: Iterable[Escalate], holds: Iterable[Hold]) -> Chances:
    """Return when each instrument was asked about and with which chance."""
    asked: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for question in questions:
        asked[question.instrument].append((question.ts, question.propensity))
    rows = {instrument: sorted(found) for instrument, found in asked.items()}
    return Chances(
        ts={key: np.array([ts for ts, _ in found]) for key, found in rows.items()},
        propensity={key: np.array([p for _, p in found]) for key, found in rows.items()},
        explored=sum(p < 1.0 for found in rows.values() for _, p in found),
        unreachable=sum(hold.propensity <= 0.0 for hold in holds),
    )


def asking_all(scored: Scored, chances: Chances) -> Estimate | None:
    """Return what asking about all would have gained over the edge; None where too little was explored.

    What a forecast gained at its issue is the latest question's before it, whose answer made the outlook;
    what it gained later is the next question's, whose verdicts revise what stands.
    """
    if chances.explored < LEAST_EXPLORED:
        return None
    sample, edge = scored.sample, scored.stages[Stage.EDGE].log
    at_issue, later = (
        edge - scored.emitted_log,
        scored.emitted_log - scored.stages[Stage.IN_FORCE].log,
    )
    total = variance = 0.0
    for code, instrument in enumerate(sample.instruments):
        if instrument not in chances.ts:
            continue
        rows = np.flatnonzero(sample.instrument == code)
        times, chance = chances.ts[instrument], chances.propensity[instrument]
        following = np.searchsorted(times, sample.ts_recv[rows], side="right")
        gain = np.zeros(len(times) + 2)
        np.add.at(gain, following, at_issue[rows])  # 0: before any question
        np.add.at(gain, following + 1, later[rows])  # the last: after all of them
        gain = gain[1:-1]
        total += float((gain / chance).sum())
        variance += float((gain**2 * (1.0 - chance) / chance**2).sum())
    return Estimate(total, variance**0.5)
