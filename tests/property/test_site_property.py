"""What comes twice counts once, and the order of independent records is irrelevant."""

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings

from finllm.domain.delivery import Inbox, Outbox
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Action, Applied, Standing, Verdict, standing_of, transition
from finllm.domain.tenure import Lease, Newest, Tenure, claimed, renewed
from finllm.ledger.rows import Entry
from finllm.ledger.shipping import Shipment, Shipper
from finllm.ledger.sitelog import SiteLog
from finllm.ledger.siteview import SiteView
from finllm.ledger.store import Ledger
from finllm_lab.consistency.world import MemoryDisk
from support.ledgers import T0, forecast, revised, verdict

ANY = settings(max_examples=60, deadline=None)
ABOUT = (forecast(0), forecast(1))
VERDICTS = st.builds(
    lambda about, tag, epoch, base, action: verdict(
        ABOUT[about], tag=tag, epoch=epoch, base_version=base, action=action
    ),
    st.integers(0, 1),
    st.integers(0, 3),
    st.integers(1, 2),
    st.integers(1, 4),
    st.sampled_from(Action),
)


def fold(verdicts: list[Verdict], now: int = T0) -> dict[str, Standing]:
    standing = {one.forecast_id: standing_of(one) for one in ABOUT}
    for one in verdicts:
        before = standing[one.forecast_id]
        after, applied, _ = transition(before, one, now)
        assert after.version == before.version + (applied is Applied.APPLIED)
        standing[one.forecast_id] = after
    return standing


@ANY
@given(st.lists(VERDICTS, max_size=12))
def test_a_verdict_that_comes_twice_counts_once(verdicts: list[Verdict]) -> None:
    assert fold([one for one in verdicts for _ in range(2)]) == fold(verdicts)


@ANY
@given(st.lists(VERDICTS, max_size=12), st.data())
def test_verdicts_on_different_forecasts_commute(
    verdicts: list[Verdict], data: st.DataObject
) -> None:
    merged = interleaved(
        [[v for v in verdicts if v.forecast_id == f.forecast_id] for f in ABOUT], data
    )
    assert fold(merged) == fold(verdicts)


def interleaved(lists: list[list], data: st.DataObject) -> list:
    """Return a merge of lists that keeps the order within each."""
    rest, merged = [list(one) for one in lists], []
    while rest := [one for one in rest if one]:
        merged.append(rest[data.draw(st.integers(0, len(rest) - 1))].pop(0))
    return merged


def ledger_of(name: str, n: int, epoch: int = 1) -> list[Entry]:
    """Return the entries of a small ledger of an owner of an instrument of its own."""
    ledger = Ledger.on(MemoryDisk(name, lambda _: None))
    ledger.append(Tenure(instrument=name, epoch=epoch, owner=name, ts=T0))
    for i in range(n):
        made = msgspec.structs.replace(
            forecast(i, epoch=epoch), instrument=name, forecast_id=f"{name} {i}"
        )
        ledger.open_forecast(made)
        ledger.revise(verdict(made), T0, revised)
    ledger.commit()
    return list(ledger.committed(0, 1_000))


LEDGERS = {name: ledger_of(name, 6) for name in ("one", "two")}


PIECES = st.lists(
    st.tuples(st.sampled_from(sorted(LEDGERS)), st.integers(0, 12), st.integers(1, 8))
)


@ANY
@given(PIECES)
def test_pieces_in_any_order_and_number_make_each_ledger_once(
    pieces: list[tuple[str, int, int]],
) -> None:
    log, arrived = SiteLog(), dict.fromkeys(LEDGERS, 0)
    for name, start, length in [*pieces, *((name, 0, 100) for name in LEDGERS)]:
        piece = Shipment(name, tuple(LEDGERS[name][start : start + length]))
        count = log.append(piece, T0)
        reaches = start + len(piece.entries) if start <= arrived[name] else 0
        assert count == max(arrived[name], reaches)
        arrived[name] = count
    logged = log.after(0, 1_000)
    assert [one.seq for one in logged] == list(range(1, len(logged) + 1))
    for name, entries in LEDGERS.items():
        assert [one.entry for one in logged if one.writer == name] == entries


@ANY
@given(st.data())
def test_the_order_of_independent_owners_is_irrelevant(data: st.DataObject) -> None:
    views = []
    for merged in (
        [(name, e) for name, entries in LEDGERS.items() for e in entries],
        interleaved([[(name, e) for e in entries] for name, entries in LEDGERS.items()], data),
    ):
        log, view = SiteLog(), SiteView()
        for name, entry in merged:
            log.append(Shipment(name, (entry,)), T0)
        assert all(view.take(one) for one in log.after(0, 1_000))
        views.append(list(view))
    assert views[0] == views[1]
    assert len(views[0]) == 12
    assert all(one.version == 2 for one in views[0])


@ANY
@given(st.lists(st.booleans(), max_size=40), st.data())
def test_what_is_sent_arrives_however_much_is_lost(lost: list[bool], data: st.DataObject) -> None:
    disk = MemoryDisk("one", lambda _: None)
    ledger = Ledger.on(disk)
    ledger.append(Tenure(instrument="one", epoch=1, owner="one", ts=T0))
    for i in range(12):
        ledger.open_forecast(forecast(i))
    ledger.commit()
    shipper, log, now = Shipper("one", ledger, resend_ns=10, most=3), SiteLog(), 0
    for is_lost in [*lost, *[False] * 20]:
        now += data.draw(st.integers(1, 20))
        shipment = shipper.due(now)
        if shipment is not None and not is_lost:
            shipper.acknowledged(log.append(shipment, now))
    now += 100
    while (shipment := shipper.due(now)) is not None:
        shipper.acknowledged(log.append(shipment, now))
        now += 100
    assert len(log) == 13


@ANY
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.booleans(),
            st.integers(0, 6),
            st.integers(0, 8),
            st.booleans(),
        )
    )
)
def test_an_epoch_has_one_holder_whatever_is_asked(asked: list[tuple]) -> None:
    lease, now, holders = Lease(instrument="x"), 0, {0: ""}
    for holder, is_claim, epoch, wait, is_twice in asked:
        now += wait
        rule = claimed if is_claim else renewed
        before, lease = lease, rule(lease, holder, epoch, now, 5)
        assert lease.epoch in (before.epoch, before.epoch + 1)
        assert holders.setdefault(lease.epoch, lease.holder) == lease.holder
        assert lease.until >= before.until
        if is_twice:
            assert rule(lease, holder, epoch, now, 5) == lease


@ANY
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1))
def test_what_is_shown_never_goes_back_and_ends_with_the_newest(
    said: list[tuple[int, int]],
) -> None:
    live, settled = Newest(), Newest()
    shown: list[tuple[int, int]] = []
    for epoch, version in said:
        made: Forecast = msgspec.structs.replace(forecast(0, epoch=epoch), version=version)
        settled.settle(made)
        if live.take(made):
            shown.append((epoch, version))
    assert shown == sorted(set(shown))
    for newest in (live, settled):
        found = newest.get(forecast(0).forecast_id)
        assert found is not None
        assert (found.epoch, found.version) == max(said)


def test_a_consumer_remembers_a_bounded_number() -> None:
    newest = Newest(kept=3)
    for i in range(5):
        assert newest.take(forecast(i))
    kept = [newest.get(forecast(i).forecast_id) is not None for i in range(5)]
    assert kept == [False, False, True, True, True]


@ANY
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_a_message_is_sent_until_it_is_acknowledged_or_worth_nothing(
    steps: list[tuple[int, bool]],
) -> None:
    outbox: Outbox[str] = Outbox(2, 8)
    inbox = Inbox()
    outbox.put("id", "message", 60)
    now, effects, arrived = 0, 0, False
    for wait, is_lost in steps:
        now += wait
        for message_id, message in outbox.due(now):
            assert message == "message"
            assert now < 60
            assert not arrived
            if not is_lost:
                effects += inbox.take(message_id) + inbox.take(message_id)
                outbox.acknowledged(message_id)
                arrived = True
    assert effects == arrived
    assert outbox.due(now + 60) == []
    assert len(outbox) == 0
