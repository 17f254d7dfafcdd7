"""What stands for one instrument: hears answers and news, watches the market, and tells the edge at once."""

from collections.abc import Mapping
from typing import Final

from finllm.domain.evidence import EvidenceNotice
from finllm.domain.outlook import (
    Market,
    Opinions,
    armed,
    broken_by,
    is_contradicted,
    joined,
    lean_of,
    restated,
    unvoided,
    without,
)
from finllm.domain.protocol import Outlook, PriceCross, RegimeChange, Voiding
from finllm.edge.session import EdgeSession

NEVER: Final = 2**63


class StandingOutlook:
    """The outlook of one instrument. Each method returns what it has put in force, if that is new.

    Args:
        session: The instrument's edge, which applies it from the next row on.
    """

    def __init__(self, session: EdgeSession) -> None:
        self._session = session
        self._outlook: Outlook | None = None
        """In force, over, or never in force, which is version 0."""
        self._news: dict[int, int] = {}
        """Lean -> when credible news of it last came."""
        self._is_watched, self._until = False, NEVER
        """Whether rows can end anything, and when time next does."""

    def hear(
        self, said: Outlook, market: Market, taken_back: Mapping[str, int], now: int
    ) -> Outlook | None:
        """Take in an answer's outlook beside what stands.

        Args:
            said: The answer's own.
            market: The row last served.
            taken_back: Evidence id -> when it was taken back, since the answer's pack was gathered.
            now: The present instant, ns UTC.
        """
        horizons_ns = [horizon.ns for horizon in self._session.horizons]
        together = joined(self._opinions, armed(said.opinions, market, horizons_ns))
        left = self._uncontradicted(without(together, taken_back))
        return self._restate(left, now, version=said.version)

    def take_back(self, taken_back: Mapping[str, int], reason: str, now: int) -> Outlook | None:
        """Let evidence add nothing any more.

        Args:
            taken_back: Evidence id -> when it was taken back.
            reason: Why.
            now: The present instant, ns UTC.
        """
        return self._restate(without(self._opinions, taken_back), now, reason=reason)

    def contradict(self, news: EvidenceNotice, now: int) -> Outlook | None:
        """Let news end what it is contrary to."""
        lean = lean_of(news)
        if lean == 0:
            return None
        self._news[lean] = now
        left = self._uncontradicted(self._opinions)
        return self._restate(left, now, reason=Voiding.CONTRARY_EVIDENCE)

    def is_due(self, now: int) -> bool:
        """Return whether a row has anything to check."""
        return self._is_watched or now >= self._until

    def watch(self, market: Market | None, now: int) -> Outlook | None:
        """Check what stands against a row that is about to be served.

        Args:
            market: The row; None if it is not good.
            now: The present instant, ns UTC.
        """
        left = self._opinions
        reasons = {Voiding.TIME} if any(now >= one.expires for one in left) else set()
        if market is not None:
            broken = {one.opinion_id: broken_by(one, market) for one in left if one.shares}
            left = unvoided(left, lambda one: broken[one.opinion_id] is not None)
            reasons |= {reason for reason in broken.values() if reason is not None}
        return self._restate(left, now, reason=", ".join(sorted(reasons))) if reasons else None

    @property
    def _opinions(self) -> Opinions:
        return () if self._outlook is None else self._outlook.opinions

    def _uncontradicted(self, opinions: Opinions) -> Opinions:
        return unvoided(opinions, lambda one: is_contradicted(one, self._news))

    def _restate(
        self, opinions: Opinions, now: int, *, version: int = 0, reason: str = ""
    ) -> Outlook | None:
        """Let opinions stand; put what they come to in force from the next row on if it is new."""
        before = 0 if self._outlook is None else self._outlook.version
        after = restated(
            self._outlook,
            opinions,
            instrument=self._session.instrument,
            now=now,
            version=version,
            reason=reason,
        )
        self._outlook = after
        self._until = min((one.expires for one in after.opinions), default=NEVER)
        self._is_watched = any(
            isinstance(condition, PriceCross | RegimeChange)
            for one in after.opinions
            for condition in (one.conditions if one.shares else ())
        )
        if after.version == before:
            return None
        self._session.adopt(after)
        return after
