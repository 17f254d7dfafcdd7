"""Faults planted in the protocol, one at a time, by putting another function in a real one's place.

A checker that finds nothing is worth what it would find: each of these must be found.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import msgspec

from finllm.domain import delivery, tenure
from finllm.domain.forecast import Forecast, Status
from finllm.domain.outlook import Opinions, restated
from finllm.domain.protocol import (
    Action,
    Applied,
    Closing,
    Outlook,
    Standing,
    Verdict,
    close,
    transition,
)
from finllm.domain.revise import revised
from finllm.domain.tenure import Fence, Lease, Tenure
from finllm.ledger import owner, sitelog, siteview, store
from finllm.ledger.owner import Owner
from finllm.ledger.rows import Entry
from finllm.ledger.shipping import Shipper
from finllm.ledger.sitelog import Logged
from finllm.ledger.siteview import SiteView
from finllm.ledger.store import Ledger
from finllm_lab.consistency import services
from finllm_lab.consistency.messages import Answer
from finllm_lab.consistency.node import Node

Place = tuple[Any, str, Any]
"""Where, under which name, what instead."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have one fault in the protocol for as long as this lasts."""
    with ExitStack() as undo:
        for where, what, instead in FAULTS[name]:
            undo.callback(setattr, where, what, getattr(where, what))
            setattr(where, what, instead)
        yield


Judged = tuple[Standing, Applied, str]


def _no_expiry(standing: Standing, verdict: Verdict, now: int) -> Judged:
    return transition(standing, verdict, min(now, standing.valid_until - 1))


def _expiry_included(standing: Standing, verdict: Verdict, now: int) -> Judged:
    return transition(standing, verdict, now - (now == standing.valid_until))


def _same_version(standing: Standing, verdict: Verdict, now: int) -> Judged:
    after, applied, reason = transition(standing, verdict, now)
    return msgspec.structs.replace(after, version=standing.version), applied, reason


def _any_epoch(standing: Standing, verdict: Verdict, now: int) -> Judged:
    return transition(standing, msgspec.structs.replace(verdict, epoch=standing.epoch), now)


def _any_base(standing: Standing, verdict: Verdict, now: int) -> Judged:
    rebased = msgspec.structs.replace(verdict, base_version=standing.version)
    return transition(standing, rebased, now)


def _over_retraction(standing: Standing, verdict: Verdict, now: int) -> Judged:
    if standing.status is Status.RETRACTED:
        standing = msgspec.structs.replace(standing, status=Status.REFINED)
    return transition(standing, verdict, now)


def _always(*_: object) -> bool:
    return True


def _arrival_decides(_standing: Opinions, new: Opinions) -> Opinions:
    return new


def _all_counted(standing: Opinions, new: Opinions) -> Opinions:
    return (*new, *standing)


def _sender_clock(self: Node, answer: Answer) -> None:
    """Go by what the answer says of the time."""
    self._now = lambda: answer.ts
    _ANSWER(self, answer)
    del self._now


def _skips_the_tail(self: Ledger, head: Any) -> None:
    """Go on from the acknowledged hash, as if nothing had been stored beyond it."""
    _RECOVER(self, head)
    self._hash = bytes.fromhex(head.hash)


def _sent_is_arrived(self: Shipper, now: int) -> Any:
    shipment = _DUE(self, now)
    self._arrived = self._sent
    return shipment


def _no_fence(self: Fence, _owner: str, _instrument: str, _epoch: int | None = None) -> bool:
    return self is not None


def _granted_to_all(lease: Lease, holder: str, expected: int, now: int, ttl_ns: int) -> Lease:
    """Grant whatever epoch is claimed next, without comparing."""
    return msgspec.structs.replace(lease, holder=holder, epoch=expected + 1, until=now + ttl_ns)


def _granted_early(self: Owner, instrument: str, epoch: int, until: int, now: int) -> None:
    """Go on with what is open as far as it has been heard, not up to the own tenure."""
    before = self.epoch(instrument)
    _GRANTED(self, instrument, epoch, until, now)
    if before < self.epoch(instrument):
        for forecast in self.view.inherited(instrument, epoch):
            self.ledger.adopt(forecast)
        outlook = self.view.outlook(instrument)
        if outlook is not None:
            self._outlooks[instrument] = outlook
        self._held[instrument].speaks = True


def _granted_again(self: Owner, instrument: str, epoch: int, until: int, now: int) -> None:
    """Take a lease whose epoch is over for a new one."""
    self._begun.clear()
    _GRANTED(self, instrument, epoch, until, now)


def _keeps_its_outlook(self: Owner, tenure: Tenure) -> None:
    """Go on with an outlook of one's own where the log has none that counts."""
    mine = self.outlook(tenure.instrument)
    _SUCCEED(self, tenure)
    if self.view.outlook(tenure.instrument) is None:
        self._outlooks[tenure.instrument] = mine


def _nothing_inherited(_view: SiteView, _instrument: str, _epoch: int) -> list[Forecast]:
    return []


def _published_at_once(self: Node, answer: Answer) -> None:
    """Publish what the ledger will say before it is committed and logged."""
    write = self.ledger._write

    def tell(record: Any) -> None:
        write(record)
        made = getattr(record, "forecast", None)
        if made is not None:
            self._publish(made)

    self.ledger._write = tell
    _ANSWER(self, answer)
    del self.ledger._write


def _accepts_again(entry: Entry, count: int) -> bool:
    return entry[0] <= count + 1


def _hears_anything(self: Node, entries: Sequence[Logged]) -> None:
    """Take the log's entries as they come, holes and repeats included."""
    for logged in entries:
        self._heard(logged, counts=self.owner.hear(logged))
    self._flush()


def _late_is_superseded(standing: Standing, verdict: Verdict, now: int) -> Judged:
    after, applied, reason = transition(standing, verdict, now)
    return after, Applied.SUPERSEDED if applied is Applied.LATE else applied, reason


def _other_sign(forecast: Forecast, verdict: Verdict, now: int) -> Forecast:
    return revised(forecast, msgspec.structs.replace(verdict, shift=-verdict.shift), now)


def _confirms_the_base(forecast: Forecast, verdict: Verdict, now: int) -> Forecast:
    after = revised(forecast, verdict, now)
    if verdict.action is not Action.CONFIRM:
        return after
    return msgspec.structs.replace(after, emitted=after.base, emitted_q=after.base_q)


def _withdrawn_in_name_only(forecast: Forecast, verdict: Verdict, now: int) -> Forecast:
    after = revised(forecast, verdict, now)
    if verdict.action is not Action.RETRACT:
        return after
    return msgspec.structs.replace(after, emitted=forecast.emitted, emitted_q=forecast.emitted_q)


def _revised_but(**changes: Callable[[Forecast], Any]) -> Callable[..., Forecast]:
    """Return the revision rule with fields of the new version set from the one before."""

    def rule(forecast: Forecast, verdict: Verdict, now: int) -> Forecast:
        wrong = {name: of(forecast) for name, of in changes.items()}
        return msgspec.structs.replace(revised(forecast, verdict, now), **wrong)

    return rule


def _counted_double(*args: Any, **named: Any) -> Outlook:
    after = restated(*args, **named)
    bands = (msgspec.structs.replace(band, shift=2.0 * band.shift) for band in after.bands)
    return msgspec.structs.replace(after, bands=tuple(bands))


def _fades_slower(*args: Any, **named: Any) -> Outlook:
    after = restated(*args, **named)
    return msgspec.structs.replace(after, half_life_ns=5 * after.half_life_ns)


def _beyond_its_end(self: Outlook, horizon_ns: int, now: int) -> tuple[float, float]:
    return _AT(msgspec.structs.replace(self, expires=2**62), horizon_ns, now)


def _end_backdated(standing: Standing, _now: int) -> Closing:
    return close(standing, standing.valid_until)


_AT: Final = Outlook.at
_RECOVER: Final = Ledger._recover
_DUE: Final = Shipper.due
_GRANTED: Final = Owner.granted
_ANSWER: Final = Node.answer
_SUCCEED: Final = Owner._succeed


def _rule(instead: Callable[..., Judged]) -> tuple[Place, ...]:
    return ((store, "transition", instead),)


FAULTS: Final[dict[str, tuple[Place, ...]]] = {
    "expiry unchecked": _rule(_no_expiry),
    "expiry included": _rule(_expiry_included),
    "version not bumped": _rule(_same_version),
    "epoch ignored": _rule(_any_epoch),
    "base version unchecked": _rule(_any_base),
    "retraction overwritten": _rule(_over_retraction),
    "late taken for superseded": _rule(_late_is_superseded),
    "refined the other way": ((owner, "revised", _other_sign),),
    "confirmed, and changed": ((owner, "revised", _confirms_the_base),),
    "withdrawn in name only": ((owner, "revised", _withdrawn_in_name_only),),
    "cost forgotten": ((owner, "revised", _revised_but(cost=lambda f: f.cost)),),
    "version backdated": ((owner, "revised", _revised_but(ts_emit=lambda f: f.ts_emit)),),
    "band moved": ((owner, "revised", _revised_but(band_bps=lambda f: 2.0 * f.band_bps)),),
    "end backdated": ((store, "close", _end_backdated),),
    "outlook counted double": ((owner, "restated", _counted_double),),
    "outlook fades slower": ((owner, "restated", _fades_slower),),
    "outlook beyond its end": ((Outlook, "at", _beyond_its_end),),
    "duplicate verdict judged twice": ((delivery.Inbox, "take", _always),),
    "sender's clock trusted": ((Node, "answer", _sender_clock),),
    "arrival decides on the outlook": ((owner, "joined", _arrival_decides),),
    "evidence counted twice": ((owner, "joined", _all_counted),),
    "chain skips what a crash left": ((Ledger, "_recover", _skips_the_tail),),
    "sent taken for arrived": ((Shipper, "due", _sent_is_arrived),),
    "resend not idempotent": ((sitelog, "is_next", _accepts_again),),
    "late in the log counts": ((siteview, "is_in_time", _always),),
    "no fence": ((Fence, "admits", _no_fence),),
    "lease without compare-and-set": ((services, "claimed", _granted_to_all),),
    "succession before catching up": ((Owner, "granted", _granted_early),),
    "ended epoch comes back": ((Owner, "granted", _granted_again),),
    "uncounted outlook kept": ((Owner, "_succeed", _keeps_its_outlook),),
    "nothing inherited": ((SiteView, "inherited", _nothing_inherited),),
    "published before it is kept": ((Node, "answer", _published_at_once),),
    "older version shown": ((tenure, "is_newer", _always),),
    "holes in the log not noticed": ((Node, "hear", _hears_anything),),
}
"""Each fault with what it replaces."""
