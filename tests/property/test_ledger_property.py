"""Whatever is opened, revised, closed and lost in a crash: the ledger keeps its promises."""

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Action, Applied, Closing, Revision, Verdict
from finllm.ledger import rows
from finllm.ledger.store import Ledger
from finllm.ledger.verify import verify
from support.ledgers import MS, T0, forecast, revised, verdict


def told(ledger: Ledger) -> list[Forecast | Revision | Closing]:
    """Return what the ledger holds about forecasts, in order."""
    entries = list(rows.entries(ledger._storage.connection)) + ledger._pending
    kinds = {kind.__name__: kind for kind in (Forecast, Revision, Closing)}
    return [msgspec.msgpack.decode(e[4], type=kinds[e[1]]) for e in entries if e[1] in kinds]


def fold(records: list[Forecast | Revision | Closing]) -> dict[str, Forecast]:
    """Say by itself which version of which forecast stands."""
    standing: dict[str, Forecast] = {}
    for record in records:
        if isinstance(record, Forecast):
            standing[record.forecast_id] = record
        elif isinstance(record, Closing):
            del standing[record.forecast_id]
        elif record.applied is Applied.APPLIED:
            assert record.forecast is not None
            before = standing[record.forecast_id]
            assert record.forecast.version == before.version + 1, "versions only grow, by one"
            assert record.forecast.base_version == before.version, "a stale base never applies"
            assert record.ts < before.valid_until, "nothing is applied after expiry"
            standing[record.forecast_id] = record.forecast
        else:
            assert record.forecast is None
    return standing


class LedgerMachine(RuleBasedStateMachine):
    """Opens, revises, closes and crashes in any order."""

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        shm = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
        self.work = tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None)
        self.folder = Path(self.work.name) / "0"
        self.now = T0
        self.lives = 0
        self.tag = 0

    @initialize(group=st.sampled_from([1, 3, 50]))
    def create(self, group: int) -> None:
        self.group = group
        self.ledger = Ledger.create(self.folder, group=group)

    @rule(target=opened, i=st.integers(0, 30), epoch=st.integers(1, 2), life=st.integers(1, 20))
    def open(self, i: int, epoch: int, life: int) -> Forecast:
        made = forecast(i, epoch=epoch)
        made = msgspec.structs.replace(made, valid_until=self.now + life * MS)
        before = self.ledger.latest(made.forecast_id)
        self.ledger.open_forecast(made)
        if before is not None and before.epoch >= epoch:
            assert self.ledger.latest(made.forecast_id) == before
        return made

    @rule(
        about=opened,
        epoch=st.integers(1, 2),
        base=st.integers(1, 4),
        action=st.sampled_from(Action),
        shift=st.sampled_from([0.0, 0.5, float("nan")]),
    )
    def revise(self, about: Forecast, epoch: int, base: int, action: Action, shift: float) -> None:
        self.tag += 1
        answer: Verdict = verdict(
            about, tag=self.tag, action=action, epoch=epoch, base_version=base, shift=shift
        )
        before = self.ledger.latest(about.forecast_id)
        revision = self.ledger.revise(answer, self.now, revised)
        after = self.ledger.latest(about.forecast_id)
        if revision.applied is Applied.APPLIED:
            assert before is not None
            assert self.now < before.valid_until
            assert (before.epoch, before.version) == (epoch, base)
            assert after == revision.forecast
        else:
            assert after == before

    @rule(ms=st.integers(0, 15))
    def wait(self, ms: int) -> None:
        self.now += ms * MS

    @rule()
    def close_due(self) -> None:
        before = {one.forecast_id: one for one in self.ledger.standing}
        closings = self.ledger.close_due(self.now)
        keys = [(before[c.forecast_id].valid_until, c.forecast_id) for c in closings]
        assert keys == sorted(keys)
        assert all(until <= self.now for until, _ in keys)
        assert all(one.valid_until > self.now for one in self.ledger.standing)

    @rule()
    def commit(self) -> None:
        self.ledger.commit()

    @rule()
    def reopen(self) -> None:
        before = list(self.ledger.standing)
        self.ledger.close()
        self.ledger = Ledger.open(self.folder, group=self.group)
        assert list(self.ledger.standing) == before

    @rule()
    def crash(self) -> None:
        """Take the files as they are now, without closing, and go on with those."""
        before = told(self.ledger)
        acknowledged = self.ledger.head.count
        self.lives += 1
        folder = Path(self.work.name) / str(self.lives)
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("*-shm"))
        self.ledger._pending.clear()
        self.ledger.close()
        self.folder = folder
        self.ledger = Ledger.open(folder, group=self.group)
        after = told(self.ledger)
        assert after == before[: len(after)]
        assert self.ledger.head.count >= acknowledged

    @invariant()
    def the_view_is_what_the_records_say(self) -> None:
        if hasattr(self, "ledger"):
            standing = fold(told(self.ledger))
            assert {one.forecast_id: one for one in self.ledger.standing} == standing

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            assert verify(self.folder).ok
        self.work.cleanup()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
