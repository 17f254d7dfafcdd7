"""What asking about every notice would have gained, from what was asked and with which chance.

Of the notices that a gate refuses a few are asked by chance all the same. Each notice answers for the
forecasts up to the next one, as it would if all were asked: one that was asked stands for itself divided by
its chance, and one that was held for nothing, whatever an earlier answer still gains in its time. So the sum
is without bias for all that had any chance, but for the seconds in which an answer is awaited and an earlier
one stands.

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
    """Notices that could be asked about in order of time, by instrument, and the chance that each had."""

    ts: dict[str, np.ndarray]
    """[q], ns."""
    propensity: dict[str, Floats]
    """[q]; 0 where it was held."""
    explored: int
    """Questions asked by chance."""
    unreachable: int
    """Held without any chance of being asked: copies, what is barred, what a spent budget refuses."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A sum and its standard deviation, nats."""

    total: float
    deviation: float


def chances_of(questions: Iterable[Escalate], holds: Iterable[Hold]) -> Chances:
    """Return when each instrument could be asked about, and with which chance it was, tier upon tier.

    All tiers go by one draw for each notice, so the chance that all were asked is that of the least likely.
    """
    asked, held = list(questions), list(holds)
    found: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    reachable: list[Escalate | Hold] = [*asked, *(hold for hold in held if hold.propensity > 0.0)]
    for one in reachable:
        ts, chance = found[one.instrument].get(one.notice_id, (0, 1.0))
        so_far = min(chance, one.propensity) if isinstance(one, Escalate) else 0.0
        found[one.instrument][one.notice_id] = max(ts, one.ts), so_far
    rows = {instrument: sorted(notices.values()) for instrument, notices in found.items()}
    return Chances(
        ts={key: np.array([ts for ts, _ in notices]) for key, notices in rows.items()},
        propensity={key: np.array([p for _, p in notices]) for key, notices in rows.items()},
        explored=sum(question.propensity < 1.0 for question in asked),
        unreachable=sum(hold.propensity <= 0.0 for hold in held),
    )


def asking_all(scored: Scored, chances: Chances) -> Estimate | None:
    """Return what asking about all would have gained over the edge; None where too little was explored.

    What a forecast gained at its issue is the latest notice's before it, whose answer made the outlook; what
    it gained later is the next notice's, whose verdicts revise what stands.
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
        # What is flagged at a row is asked about that row: it comes after it.
        following = np.searchsorted(times, sample.ts_recv[rows], side="left")
        gain = np.zeros(len(times) + 2)
        np.add.at(gain, following, at_issue[rows])  # 0: before any notice
        np.add.at(gain, following + 1, later[rows])  # the last: after all of them
        is_asked = chance > 0.0
        gain, chance = gain[1:-1][is_asked], chance[is_asked]
        total += float((gain / chance).sum())
        variance += float((gain**2 * (1.0 - chance) / chance**2).sum())
    return Estimate(total, variance**0.5)
