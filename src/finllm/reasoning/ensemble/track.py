"""The track record: what each member's own refinements would have gained, from the ledger's records alone.

A member is scored by its own answer, whatever was pooled: the log score of the forecast tilted by it, less
that of the forecast as it stood when the question was asked, once the outcome is known. What it gained beyond
the embedded reasoner on the same outcomes moves its weight: most of what either says is the same, and
cancels. Gains fade with the outcomes scored since, are shrunk towards none, and move a weight within a floor
and a cap, so that nobody rules alone and nobody is past redemption. Only outcomes known before a question
count in its weights.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import Final, Self

import msgspec

from finllm.domain.forecast import Forecast, Outcome, Triple
from finllm.domain.protocol import Applied, Pool, Revision, Verdict
from finllm.domain.revise import tilted
from finllm.domain.tilt import P_FLOOR
from finllm.reasoning.embedded import EMBEDDED
from finllm.reasoning.reasoner import left_sum

HALF_LIFE: Final = 1_000.0
"""Outcomes scored later after which a gain counts half: some 150 questions about seven horizons each."""
PRIOR_N: Final = 500.0
"""Outcomes without a gain that every member is taken to have had: the seven of one question, all along one
move of the market, cannot double a weight."""
SCALE: Final = 0.01
"""Mean gain, nats, that multiplies a weight by e: as if the likelihood of a full record were that of some
hundred independent outcomes. Outcomes overlap, and few of a thousand are independent."""
MOST: Final = 4.0
"""A record multiplies a weight by at most this, and divides it by no more."""
_RATE: Final = math.log(2.0) / HALF_LIFE
COUNTED: Final = frozenset({Applied.APPLIED, Applied.SUPERSEDED})
"""Verdicts that came in time on a forecast that was open: their members are held to its outcome."""
_KEPT: Final = 5_000
"""Outcomes kept: five half-lives."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome, and what each member that had answered would have gained on it."""

    ts: int
    """When the outcome was known."""
    gains: dict[str, float]
    """Nats over the forecast as it stood."""


class TrackRecord:
    """What became of what each member said.

    Args:
        scored: What an earlier record ended with, oldest first.
    """

    def __init__(self, scored: Iterable[Scored] = ()) -> None:
        self._open: dict[str, list[tuple[Forecast, Pool]]] = {}
        self._scored: deque[Scored] = deque(scored, maxlen=_KEPT)

    @classmethod
    def of(
        cls,
        forecasts: Iterable[Forecast],
        verdicts: Iterable[Verdict],
        revisions: Iterable[Revision],
        outcomes: Iterable[Outcome],
        *,
        scored: Iterable[Scored] = (),
    ) -> Self:
        """Return the track record that a ledger's records amount to, each kind in its order.

        Args:
            forecasts: As they were opened.
            verdicts: All of them; those without a pool teach nothing.
            revisions: What became of them.
            outcomes: What became of the forecasts.
            scored: What the record began with.
        """
        record = cls(scored)
        said = {verdict.verdict_id: verdict for verdict in verdicts}
        asked = {verdict.forecast_id for verdict in said.values()}
        versions = {(f.forecast_id, f.version): f for f in forecasts if f.forecast_id in asked}
        for revision in revisions:
            if revision.applied in COUNTED:
                asked_about = versions[revision.forecast_id, revision.base_version]
                record.follow(asked_about, said[revision.verdict_id])
            if revision.forecast is not None:
                versions[revision.forecast_id, revision.version] = revision.forecast
        for outcome in outcomes:
            record.learn(outcome)
        return record

    @property
    def scored(self) -> tuple[Scored, ...]:
        """Return what is remembered, oldest first."""
        return tuple(self._scored)

    def follow(self, before: Forecast, verdict: Verdict) -> None:
        """Take in a verdict that counts on a forecast, as it stood when it was asked about."""
        if isinstance(verdict.pool, Pool):
            self._open.setdefault(before.forecast_id, []).append((before, verdict.pool))

    def learn(self, outcome: Outcome) -> None:
        """Take in what became of a forecast."""
        for before, pool in self._open.pop(outcome.forecast_id, ()):
            if outcome.label >= 0:
                self._scored.append(_scored(before, pool, outcome))

    def factors(self, names: Iterable[str], now: int) -> dict[str, float]:
        """Return by how much each member's record multiplies its weight, from outcomes known before now.

        Args:
            names: The members.
            now: Instant of the question, ns UTC.
        """
        known = (one.gains for one in reversed(self._scored) if one.ts < now)
        faded = [(math.exp(-_RATE * age), gains) for age, gains in enumerate(known)]
        return {name: _factor(name, faded) for name in names}


def _scored(before: Forecast, pool: Pool, outcome: Outcome) -> Scored:
    stood = _log(before.emitted, outcome.label)
    return Scored(
        ts=outcome.ts_resolved,
        gains={
            said.name: _log(tilted(before, said.shift, said.vol_scale)[0], outcome.label) - stood
            for said in pool.members
            if said.outcome == "answer"
        },
    )


def _log(p: Triple, label: int) -> float:
    return math.log(max(p[label], P_FLOOR))


def _factor(name: str, faded: list[tuple[float, dict[str, float]]]) -> float:
    """Return a member's factor from the gains on each outcome, each with what it still counts."""
    beyond = [(fade, gains[name] - _embedded(gains)) for fade, gains in faded if name in gains]
    gain = left_sum(fade * one for fade, one in beyond)
    mean = gain / (left_sum(fade for fade, _ in beyond) + PRIOR_N)
    return min(MOST, max(1.0 / MOST, math.exp(mean / SCALE)))


def _embedded(gains: dict[str, float]) -> float:
    """Return the embedded reasoner's gain, whichever weights it had then."""
    return next((gain for name, gain in gains.items() if name.startswith(EMBEDDED)), 0.0)
