"""The invariants, checked after every event by plain bookkeeping that shares only records with the protocol.

It reads what is written on every disk, what the log holds, who was granted what, and what consumers are
shown; it says by itself which version of which forecast stands, and stops the run at the first difference.
"""

import math
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, NoReturn

import msgspec

from finllm.domain.forecast import Forecast, Status
from finllm.domain.protocol import (
    Action,
    Applied,
    Closing,
    Opinion,
    Outlook,
    Revision,
    Share,
    Verdict,
)
from finllm.domain.tenure import Lease, Tenure
from finllm.domain.units import NS_PER_S
from finllm.ledger.kinds import decode
from finllm.ledger.rows import Entry
from finllm.ledger.sitelog import Logged
from finllm_lab.consistency.arithmetic import adds_up, carries, says

_STATUS: Final = {
    Action.CONFIRM: Status.CONFIRMED,
    Action.REFINE: Status.REFINED,
    Action.RETRACT: Status.RETRACTED,
}
_OPEN: Final = {Status.SPECULATIVE, Status.CONFIRMED, Status.REFINED}
_ENDED: Final = {Status.RETRACTED: Status.EXPIRED}
_REVISED: Final = (
    *("version", "base_version", "status", "ts_emit", "cost"),
    *("emitted", "emitted_q", "outlook_version"),
)
"""Fields of a forecast that a verdict changes."""
_CLOCKS_APART_NS: Final = 2 * NS_PER_S
_GENESIS: Final = sha256(b"finllm ledger, format 1").digest()


class InvariantError(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


class _Ledger:
    """One ledger as its disk holds it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.hash = _GENESIS
        self.open: dict[str, Forecast] = {}
        self.last_epoch: dict[str, int] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.judged: set[str] = set()
        self.n_logged = 0


class Checker:
    """Told of everything; raises `InvariantError` at the first thing that must not be.

    Args:
        clock_of: Returns what a node's clock says now, ns UTC.
    """

    def __init__(self, clock_of: Callable[[str], int]) -> None:
        self.ledgers: defaultdict[str, _Ledger] = defaultdict(_Ledger)
        self.final: dict[str, Forecast] = {}
        """The authoritative version of each forecast."""
        self.n_checked = 0
        self._clock_of = clock_of
        self._grants: dict[tuple[str, int], str] = {}
        self._tenures: dict[str, Tenure] = {}
        self._closed: set[str] = set()
        self._outlooks: dict[str, Outlook] = {}
        self._counts: list[bool] = []
        self._said: set[tuple[str, int, int]] = set()
        self._shown: dict[str, Forecast] = {}

    # --- what each node writes ---------------------------------------------------------------

    def stored(self, writer: str, group: Sequence[Entry]) -> None:
        """Check a group that a node has just put on its disk."""
        ledger = self.ledgers[writer]
        for entry in group:
            self.n_checked += 1
            seq, kind, entry_id, ts, body, stored = entry
            name, about = kind.encode(), entry_id.encode()
            fixed = struct.pack("<32sqqII", ledger.hash, seq, ts, len(name), len(about))
            if sha256(fixed + name + about + body).digest() != stored:
                _fail("the chain is whole", f"entry {seq} of {writer}")
            if seq != len(ledger.entries) + 1:
                _fail("entries have no holes", f"entry {seq} of {writer}")
            ledger.hash = stored
            ledger.entries.append(entry)
            self._written(writer, ledger, decode(kind, body))

    def _written(self, writer: str, ledger: _Ledger, record: Any) -> None:
        if isinstance(record, Forecast):
            self._opened(ledger, record)
        elif isinstance(record, Verdict):
            ledger.verdicts[record.verdict_id] = record
        elif isinstance(record, Revision):
            self._revised(writer, ledger, record)
        elif isinstance(record, Closing):
            self._ended(writer, ledger, record)

    def _opened(self, ledger: _Ledger, forecast: Forecast) -> None:
        known = ledger.last_epoch.get(forecast.forecast_id)
        if known is not None and known >= forecast.epoch:
            _fail("a forecast opens once in an epoch", _name(forecast))
        if forecast.version == 1 and (
            forecast.status is not Status.SPECULATIVE or forecast.base_version != 0
        ):
            _fail("version 1 is speculative", _name(forecast))
        ledger.last_epoch[forecast.forecast_id] = forecast.epoch
        ledger.open[forecast.forecast_id] = forecast

    def _revised(self, writer: str, ledger: _Ledger, revision: Revision) -> None:
        if revision.verdict_id in ledger.judged:
            _fail("a verdict has its effect once", revision.verdict_id)
        ledger.judged.add(revision.verdict_id)
        verdict = ledger.verdicts.get(revision.verdict_id)
        if verdict is None:
            _fail("no revision without its verdict", revision.verdict_id)
        if revision.ts < self._clock_of(writer):
            _fail("nothing is backdated", f"{revision.ts} on {_of(revision)}")
        if revision.applied is Applied.APPLIED:
            self._applied(ledger, revision, verdict)
            return
        if revision.forecast is not None:
            _fail("what is not applied changes nothing", _of(revision))
        before = ledger.open.get(revision.forecast_id)
        if before is not None and revision.applied is not _due(before, verdict, revision.ts):
            _fail("a verdict is turned away for its own reason", _of(revision))

    def _applied(self, ledger: _Ledger, revision: Revision, verdict: Verdict) -> None:
        before, after = ledger.open.get(revision.forecast_id), revision.forecast
        if before is None or after is None:
            _fail("only an open forecast is revised", _of(revision))
        p = after.emitted
        held = {
            "nothing is applied after expiry": revision.ts < before.valid_until,
            "a verdict applies to its own forecast": verdict.forecast_id == before.forecast_id,
            "a verdict applies in its own epoch": verdict.epoch == before.epoch == after.epoch,
            "a verdict applies to the standing version": verdict.base_version == before.version,
            "versions grow one by one": after.version == revision.version == before.version + 1,
            "a version says what it was made from": after.base_version == before.version,
            "what is withdrawn stays so": before.status is not Status.RETRACTED,
            "the status is the verdict's": after.status is _STATUS[verdict.action],
            "what no verdict is about stays": before
            == msgspec.structs.replace(after, **{name: getattr(before, name) for name in _REVISED}),
            "a version is dated when it is made": after.ts_emit == revision.ts,
            "a version says what its verdict says": says(before, verdict, after),
            "a version costs what its verdict cost": after.cost.tokens
            == before.cost.tokens + verdict.cost.tokens,
            "probabilities sum to one": all(map(math.isfinite, p)) and abs(sum(p) - 1.0) < 1e-9,
        }
        for invariant, holds in held.items():
            if not holds:
                _fail(invariant, _of(revision))
        ledger.open[revision.forecast_id] = after

    def _ended(self, writer: str, ledger: _Ledger, closing: Closing) -> None:
        before = ledger.open.pop(closing.forecast_id, None)
        if before is None:
            _fail("a forecast ends once", closing.forecast_id)
        if closing.ts < self._clock_of(writer):
            _fail("nothing is backdated", f"{closing.ts} on the end of {_name(before)}")
        if closing.ts < before.valid_until:
            _fail("a forecast ends at its expiry", _name(before))
        if (closing.version, closing.status) != (
            before.version,
            _ENDED.get(before.status, Status.FINAL),
        ):
            _fail("what ends is what stood", _name(before))

    # --- the common order --------------------------------------------------------------------

    def granted(self, lease: Lease) -> None:
        """Check that no epoch is granted twice."""
        key = lease.instrument, lease.epoch
        if key in self._grants:
            _fail("an epoch has one holder", f"{key} to {self._grants[key]} and {lease.holder}")
        self._grants[key] = lease.holder.split("#")[0]

    def logged(self, logged: Logged) -> None:
        """Check an entry of the log, and say by ourselves whether it counts."""
        ledger = self.ledgers[logged.writer]
        if ledger.n_logged >= len(ledger.entries) or (
            ledger.entries[ledger.n_logged] != logged.entry
        ):
            _fail("each entry is logged once, in order", f"{logged.writer} {logged.entry[:3]}")
        ledger.n_logged += 1
        self._counts.append(self._counted(logged, logged.record))

    def _counted(self, logged: Logged, record: Any) -> bool:
        writer = logged.writer
        if isinstance(record, Tenure):
            return self._began(writer, record)
        if isinstance(record, Forecast):
            return self._stands(writer, record)
        if isinstance(record, Revision | Closing):
            return self._changes(logged, record)
        if isinstance(record, Outlook):
            return self._overlooks(writer, record)
        return True

    def _began(self, writer: str, tenure: Tenure) -> bool:
        if self._grants.get((tenure.instrument, tenure.epoch)) != writer:
            _fail("a tenure was granted", f"{tenure.instrument} {tenure.epoch} {writer}")
        standing = self._tenures.get(tenure.instrument)
        if standing is not None and standing.epoch >= tenure.epoch:
            return False
        self._tenures[tenure.instrument] = tenure
        return True

    def _speaks(self, writer: str, instrument: str, epoch: int) -> bool:
        tenure = self._tenures.get(instrument)
        return tenure is not None and (tenure.owner, tenure.epoch) == (writer, epoch)

    def _stands(self, writer: str, forecast: Forecast) -> bool:
        if not self._speaks(writer, forecast.instrument, forecast.epoch):
            return False
        before = self.final.get(forecast.forecast_id)
        if before is None:
            if forecast.version != 1:
                _fail("no version is lost", f"{_name(forecast)} follows on nothing")
            self._carries(forecast)
        elif forecast.forecast_id in self._closed:
            _fail("what has ended stays so", _name(forecast))
        elif before != msgspec.structs.replace(forecast, epoch=before.epoch):
            _fail("no version is lost", f"{_name(forecast)} follows on {_name(before)}")
        self._say(forecast)
        return True

    def _carries(self, forecast: Forecast) -> None:
        outlook = self._outlooks.get(forecast.instrument)
        counts = 0 if outlook is None else outlook.version
        if forecast.outlook_version != counts:
            carried = f"{_name(forecast)}: {forecast.outlook_version}, {counts} counts"
            _fail("a forecast carries the outlook that counts", carried)
        if not carries(forecast, outlook):
            _fail("a forecast is moved as its outlook says", _name(forecast))

    def _changes(self, logged: Logged, record: Revision | Closing) -> bool:
        before = self.final.get(record.forecast_id)
        if before is None or record.forecast_id in self._closed:
            return False
        if not self._speaks(logged.writer, before.instrument, before.epoch):
            return False
        if isinstance(record, Closing):
            if record.version != before.version:
                return False
            self._closed.add(record.forecast_id)
        elif record.forecast is not None:
            if logged.ts >= before.valid_until + _CLOCKS_APART_NS:
                return False
            if record.forecast.version != before.version + 1:
                _fail("versions grow one by one", _name(record.forecast))
            self._say(record.forecast)
        return True

    def _say(self, forecast: Forecast) -> None:
        key = forecast.forecast_id, forecast.epoch, forecast.version
        if key in self._said:
            _fail("one version of one number in an epoch", _name(forecast))
        self._said.add(key)
        self.final[forecast.forecast_id] = forecast

    def _overlooks(self, writer: str, outlook: Outlook) -> bool:
        tenure = self._tenures.get(outlook.instrument)
        if tenure is None or tenure.owner != writer:
            return False
        before = self._outlooks.get(outlook.instrument)
        if before is not None and outlook.version <= before.version:
            return False
        if not adds_up(outlook):
            _fail("an outlook is what its opinions come to", _named(outlook))
        self._merges(before, outlook)
        self._outlooks[outlook.instrument] = outlook
        return True

    @staticmethod
    def _merges(before: Outlook | None, outlook: Outlook) -> None:
        """Check that evidence counts once, by the latest pack, and is lost by time or a later one only."""
        said = [(one, share) for one in outlook.opinions for share in one.shares]
        if any(_has_read(later, one, share) for one, share in said for later in outlook.opinions):
            _fail("evidence counts once", _named(outlook))
        left = {(one.opinion_id, share) for one, share in said}
        for one in () if before is None else before.opinions:
            if one.expires <= outlook.ts:
                continue
            for share in one.shares:
                read = any(_has_read(later, one, share) for later in outlook.opinions)
                if not read and (one.opinion_id, share) not in left:
                    _fail("no evidence is lost", f"{share.origin} in {_named(outlook)}")

    # --- those who follow it -----------------------------------------------------------------

    def heard(self, where: str, logged: Logged, *, counts: bool) -> None:
        """Check that a follower takes an entry as we do."""
        if counts is not self._counts[logged.seq - 1]:
            said = "counts" if counts else "does not count"
            _fail("all followers agree", f"{where}: {logged.entry[:3]} of {logged.writer} {said}")

    def published(self, forecast: Forecast) -> None:
        """Check that a version beyond the first is published only once it stands for good."""
        key = forecast.forecast_id, forecast.epoch, forecast.version
        if forecast.version > 1 and key not in self._said:
            _fail("no revision is published before it is kept", _name(forecast))

    def shown(self, forecast: Forecast) -> None:
        """Check that a consumer never sees an older version after a newer one."""
        before = self._shown.get(forecast.forecast_id)
        if before is not None and (forecast.epoch, forecast.version) <= (
            before.epoch,
            before.version,
        ):
            _fail("no version regresses", f"{_name(forecast)} after {_name(before)}")
        self._shown[forecast.forecast_id] = forecast

    # --- the end -----------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Check that everything written has arrived, ended and is shown, once faults are over."""
        for writer, ledger in self.ledgers.items():
            if ledger.n_logged != len(ledger.entries):
                left = len(ledger.entries) - ledger.n_logged
                _fail("nothing written is lost", f"{left} entries of {writer}")
        for forecast_id, forecast in self.final.items():
            if forecast_id not in self._closed:
                _fail("every forecast ends", _name(forecast))
            if self._shown.get(forecast_id) != forecast:
                _fail("consumers end with what stands", _name(forecast))

    def followed(self, where: str, count: int) -> None:
        """Check that a follower has heard everything."""
        if count != len(self._counts):
            _fail("followers catch up", f"{where}: {count} of {len(self._counts)}")

    def reread(self, writer: str, entries: Sequence[Entry]) -> None:
        """Check that a disk holds, to the last byte, what was written."""
        if list(entries) != self.ledgers[writer].entries:
            _fail("a disk holds what was written", writer)


def _fail(invariant: str, detail: str) -> NoReturn:
    raise InvariantError(invariant, detail)


def _due(before: Forecast, verdict: Verdict, ts: int) -> Applied:
    """Return what is to become of a verdict on an open forecast."""
    if ts >= before.valid_until:
        return Applied.LATE
    if (verdict.epoch, verdict.base_version) != (before.epoch, before.version):
        return Applied.SUPERSEDED
    usable = math.isfinite(verdict.shift) and 0.0 < verdict.vol_scale < math.inf
    return Applied.APPLIED if usable and before.status in _OPEN else Applied.REFUSED


def _name(forecast: Forecast) -> str:
    return f"{forecast.forecast_id[:8]} {forecast.epoch}.{forecast.version}"


def _of(revision: Revision) -> str:
    return f"{revision.forecast_id[:8]} to version {revision.version}: {revision.reason}"


def _named(outlook: Outlook) -> str:
    return f"{outlook.instrument} {outlook.version}"


def _has_read(later: Opinion, one: Opinion, share: Share) -> bool:
    """Return whether an opinion on a later pack has read what another rests on."""
    names = {*later.spent, *(own.origin for own in later.shares)}
    in_window = later.since < share.ts_recv <= later.as_of
    is_later = (later.as_of, one.opinion_id) > (one.as_of, later.opinion_id)
    return is_later and (in_window or share.origin in names)
