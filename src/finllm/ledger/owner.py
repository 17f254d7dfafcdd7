"""An owner: one node's right to speak for instruments, and what it does with its ledger under it.

It speaks only once its own tenure has come back to it in the site's log: by then it has heard
everything that counts of those before it, and goes on with what they left open. Loses the right when
it hears of a higher epoch, or when the lease runs out by its own clock, which may be wrong: receivers
fence it either way. Steps down too when a word of its own does not count, so that it begins anew from
what does. Sends nothing and reads no clock.
"""

from typing import Any

import msgspec

from finllm.domain.delivery import Inbox
from finllm.domain.forecast import Forecast
from finllm.domain.outlook import joined, restated
from finllm.domain.protocol import Closing, Outlook, Revision, Verdict
from finllm.domain.revise import revised
from finllm.domain.tenure import Tenure
from finllm.ledger.sitelog import Logged
from finllm.ledger.siteview import SiteView
from finllm.ledger.store import Ledger


class _Held(msgspec.Struct, kw_only=True):
    epoch: int
    until: int
    speaks: bool = False


class Owner:
    """Speaks for the instruments whose leases it holds.

    Args:
        name: Whose ledger it is.
        ledger: This node's, new or recovered.
    """

    def __init__(self, name: str, ledger: Ledger) -> None:
        self.name, self.ledger = name, ledger
        self.view = SiteView()
        self._held: dict[str, _Held] = {}
        self._begun: dict[str, int] = {}  # the last epoch begun: one that is over never comes back
        self._outlooks: dict[str, Outlook | None] = {}
        self._came = Inbox()
        for verdict in ledger.records(Verdict):
            self._came.take(verdict.verdict_id)

    def granted(self, instrument: str, epoch: int, until: int, now: int) -> None:
        """Take a lease, or more time on one.

        Args:
            instrument: Whom to speak for.
            epoch: Of the lease.
            until: When it runs out by this node's clock, counted from when it was asked for.
            now: This node's time, ns UTC.
        """
        held = self._held.get(instrument)
        if held is not None and held.epoch == epoch:
            held.until = max(held.until, until)
        elif self._begun.get(instrument, 0) < epoch:
            self._begun[instrument] = epoch
            self._held[instrument] = _Held(epoch=epoch, until=until)
            self.ledger.append(Tenure(instrument=instrument, epoch=epoch, owner=self.name, ts=now))

    def epoch(self, instrument: str) -> int:
        """Return the epoch of the lease held on an instrument; 0 if there is none."""
        held = self._held.get(instrument)
        return 0 if held is None else held.epoch

    def speaks_for(self, instrument: str, now: int) -> bool:
        """Return whether this node may speak, as far as it knows."""
        held = self._held.get(instrument)
        return held is not None and held.speaks and now < held.until

    def hear(self, logged: Logged) -> bool:
        """Take the log's next entry; tell whether it counts."""
        counts = self.view.take(logged)
        if counts and isinstance(logged.record, Tenure):
            self._succeed(logged.record)
        elif not counts and logged.writer == self.name:
            self._yield(logged.record)
        return counts

    def open(self, forecast: Forecast, now: int) -> bool:
        """Keep a new forecast, if this node speaks for its instrument and it is new."""
        if not self.speaks_for(forecast.instrument, now):
            return False
        return self.ledger.open_forecast(forecast)

    def revise(self, verdict: Verdict, instrument: str, now: int) -> Revision | None:
        """Judge a verdict, once however often it comes; None if it is not this node's to judge.

        The revision may be published once the site's log has it and it counts.
        """
        if not self.speaks_for(instrument, now) or not self._came.take(verdict.verdict_id):
            return None
        self.ledger.append(verdict)
        return self.ledger.revise(verdict, now, revised)

    def adopt(self, outlook: Outlook, now: int) -> bool:
        """Merge an answer's outlook with what stands; tell whether another is in force now."""
        if not self.speaks_for(outlook.instrument, now):
            return False
        standing = self._outlooks.get(outlook.instrument)
        after = restated(
            standing,
            joined(() if standing is None else standing.opinions, outlook.opinions),
            instrument=outlook.instrument,
            now=now,
            version=outlook.version,
        )
        self._outlooks[outlook.instrument] = after
        if after.version == (0 if standing is None else standing.version):
            return False
        self.ledger.append(after)
        return True

    def outlook(self, instrument: str) -> Outlook | None:
        """Return the outlook last put in force, over or not."""
        return self._outlooks.get(instrument)

    def close_due(self, now: int) -> list[Closing]:
        """End every forecast whose time is over."""
        return self.ledger.close_due(now)

    def _yield(self, unheard: Any) -> None:
        """Step down if a version that was said under the tenure in force does not count."""
        said = unheard.forecast if isinstance(unheard, Revision) else unheard
        if isinstance(said, Forecast) and self.epoch(said.instrument) == said.epoch:
            del self._held[said.instrument]

    def _succeed(self, tenure: Tenure) -> None:
        """Go on with what is open if the tenure is ours; step down if it is a successor's."""
        held = self._held.get(tenure.instrument)
        if held is None or tenure.epoch < held.epoch:
            return
        if tenure.owner != self.name or tenure.epoch > held.epoch:
            del self._held[tenure.instrument]
            return
        for forecast in self.view.inherited(tenure.instrument, tenure.epoch):
            self.ledger.adopt(forecast)
        self._outlooks[tenure.instrument] = self.view.outlook(tenure.instrument)
        held.speaks = True
