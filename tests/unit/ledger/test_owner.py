"""An owner speaks between its own tenure and its successor's, and goes on with what was left open."""

import msgspec
import pytest

from finllm.domain.errors import TamperedError
from finllm.domain.forecast import Forecast, Status
from finllm.domain.outlook import outlook_of
from finllm.domain.protocol import Action, Applied, Opinion, Outlook, Reach, Share
from finllm.ledger.owner import Owner
from finllm.ledger.shipping import Shipment
from finllm.ledger.sitelog import SiteLog
from finllm.ledger.siteview import CLOCKS_APART_NS
from finllm.ledger.store import Ledger
from finllm_lab.consistency.world import MemoryDisk
from support.ledgers import MS, T0, forecast, verdict

FIRST = forecast(0)
INSTRUMENT = FIRST.instrument
LONG = T0 + 3_600_000 * MS


class Site:
    """Some owners and the log between them; what is committed is logged and heard at once."""

    def __init__(self, *names: str) -> None:
        self.log = SiteLog()
        self.owners = {n: Owner(n, Ledger.on(MemoryDisk(n, lambda _: None))) for n in names}

    def exchange(self, *, now: int = T0, deaf: str = "") -> None:
        for name, owner in self.owners.items():
            if name != deaf:
                owner.ledger.commit()
                self.log.append(Shipment(name, tuple(owner.ledger.committed(0, 1_000))), now)
        for name, owner in self.owners.items():
            if name != deaf:
                for logged in self.log.after(owner.view.count, 1_000):
                    owner.hear(logged)

    def begin(self, name: str, epoch: int, *, deaf: str = "") -> Owner:
        owner = self.owners[name]
        owner.granted(INSTRUMENT, epoch, LONG, T0)
        self.exchange(deaf=deaf)
        return owner


def _outlook(reading: int) -> Outlook:
    """An answer's outlook, on the so manieth pack that holds the same evidence."""
    share = Share(evidence_id="e", origin="wire", ts_recv=T0, shift=(0.1,), log_scale=(0.0,))
    opinion = Opinion(
        opinion_id=f"opinion {reading}",
        since=T0 - 1,
        as_of=T0 + reading,
        ts=T0,
        half_life_ns=10**9,
        expires=LONG,
        reaches=(Reach(up_to_ns=10**12, max_shift=1.0, max_log_scale=0.7),),
        shares=(share,),
    )
    return outlook_of(INSTRUMENT, (opinion,), now=T0, version=1)


def test_an_owner_speaks_once_its_tenure_has_come_back() -> None:
    site = Site("a")
    owner = site.owners["a"]
    assert not owner.open(FIRST, T0)
    owner.granted(INSTRUMENT, 1, T0 + 10, T0)
    assert not owner.open(FIRST, T0)
    site.exchange()
    assert owner.open(FIRST, T0)
    assert not owner.speaks_for(INSTRUMENT, T0 + 10), "the lease has run out"


def test_a_successor_goes_on_with_the_version_that_stood() -> None:
    site = Site("a", "b")
    first = site.begin("a", 1)
    first.open(FIRST, T0)
    assert first.revise(verdict(FIRST), INSTRUMENT, T0) is not None
    first.adopt(_outlook(5), T0)
    site.exchange()
    second = site.begin("b", 2)
    found = second.ledger.latest(FIRST.forecast_id)
    assert found is not None
    assert (found.epoch, found.version, found.status) == (2, 2, Status.REFINED)
    assert not second.adopt(_outlook(5), T0), "it has read that already"
    assert not second.adopt(_outlook(4), T0), "and later than this"
    assert second.adopt(_outlook(6), T0)
    old = second.revise(verdict(FIRST, tag=1, base_version=2), INSTRUMENT, T0)
    assert old is not None
    assert old.applied is Applied.SUPERSEDED, "it was asked in another epoch"
    new = second.revise(verdict(found, tag=2), INSTRUMENT, T0)
    assert new is not None
    assert (new.applied, new.version) == (Applied.APPLIED, 3)
    assert not first.speaks_for(INSTRUMENT, T0)


def test_what_a_fenced_owner_writes_counts_for_nobody() -> None:
    site = Site("a", "b")
    first = site.begin("a", 1)
    first.open(FIRST, T0)
    site.exchange()
    second = site.begin("b", 2, deaf="a")
    stale = first.revise(verdict(FIRST, action=Action.RETRACT), INSTRUMENT, T0)
    assert stale is not None
    assert stale.applied is Applied.APPLIED, "as far as it knows"
    site.exchange()
    for owner in (first, second):
        standing = owner.view.get(FIRST.forecast_id)
        assert standing is not None
        assert (standing.epoch, standing.version) == (2, 1)
    assert first.epoch(INSTRUMENT) == 0


def test_a_revision_that_is_logged_after_expiry_does_not_count_and_its_owner_begins_anew() -> None:
    site = Site("a")
    owner = site.begin("a", 1)
    owner.open(FIRST, T0)
    owner.revise(verdict(FIRST), INSTRUMENT, FIRST.valid_until - 1)
    site.exchange(now=FIRST.valid_until + CLOCKS_APART_NS)
    assert owner.epoch(INSTRUMENT) == 0
    owner.granted(INSTRUMENT, 1, LONG, T0)
    assert owner.epoch(INSTRUMENT) == 0, "an epoch that is over never comes back"
    site.begin("a", 2)
    found = owner.ledger.latest(FIRST.forecast_id)
    assert found is not None
    assert (found.epoch, found.version) == (2, 1)
    owner.close_due(LONG)
    site.exchange(now=LONG)
    assert owner.view.get(FIRST.forecast_id) is None


def test_an_outlook_that_never_counted_is_not_in_force_in_a_later_tenure() -> None:
    site = Site("a", "b")
    first = site.begin("a", 1)
    site.begin("b", 2, deaf="a")
    assert first.adopt(_outlook(4), T0), "as far as it knows"
    site.exchange()
    site.begin("a", 3)
    assert first.outlook(INSTRUMENT) is None
    assert first.adopt(_outlook(1), T0)


def test_a_verdict_has_its_effect_once_even_across_a_crash() -> None:
    site = Site("a")
    owner = site.begin("a", 1)
    owner.open(FIRST, T0)
    assert owner.revise(verdict(FIRST), INSTRUMENT, T0) is not None
    assert owner.revise(verdict(FIRST), INSTRUMENT, T0) is None
    owner.ledger.commit()
    site.owners["a"] = Owner("a", Ledger.on(owner.ledger._storage))
    again = site.begin("a", 2)
    assert again.revise(verdict(FIRST), INSTRUMENT, T0) is None
    assert again.revise(verdict(FIRST, tag=1), INSTRUMENT, T0) is not None


def test_a_fork_of_a_ledger_is_refused_by_the_log() -> None:
    log = SiteLog()
    for tag in (1, 2):
        ledger = Ledger.on(MemoryDisk("a", lambda _: None))
        ledger.open_forecast(msgspec.structs.replace(FIRST, row_seq=tag))
        ledger.open_forecast(forecast(1))
        ledger.commit()
        entries = tuple(ledger.committed(0, 10))
        if tag == 1:
            log.append(Shipment("a", entries[:1]), T0)
        else:
            with pytest.raises(TamperedError, match="does not chain"):
                log.append(Shipment("a", entries), T0)


def test_a_version_of_a_successor_that_is_not_what_stood_does_not_count() -> None:
    site = Site("a", "b")
    first = site.begin("a", 1)
    first.open(FIRST, T0)
    site.exchange()
    second = site.begin("b", 2, deaf="b")
    second.ledger.adopt(msgspec.structs.replace(FIRST, epoch=2, version=7))
    site.exchange()
    standing: Forecast | None = first.view.get(FIRST.forecast_id)
    assert standing is not None
    assert (standing.epoch, standing.version) == (1, 1)
