"""A bank: chosen by what was observed of a row, checked whole, swapped between two rows."""

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_toys import COLUMNS, manifest_of, network_of, spec_of
from finllm.domain.errors import ArtifactError
from finllm.domain.forecast import Forecast, Outcome, Rung
from finllm.domain.instrument import Horizon
from finllm.domain.market import ROW_HEAD
from finllm.edge.artifact import Manifest
from finllm.edge.bank import Bank, BankManifest, load_bank, read_bank, write_bank
from finllm.edge.inference import InProcess, WorkerPool
from finllm.edge.regime import NAMES
from finllm.edge.resolved import MOVE
from finllm.edge.serving import REGIME, SWITCHES, entries_of
from finllm.edge.session import EdgeSession
from finllm_lab.export import graph_of, write_artifact

SPEC = spec_of(*COLUMNS)
T0, MS = 1_700_000_000 * 10**9, 10**6


def member(folder: Path, seed: int, **change: object) -> Manifest:
    manifest = msgspec.structs.replace(manifest_of(SPEC), **change)
    return write_artifact(folder, manifest, graph_of(network_of(SPEC, seed)))


def bank_in(root: Path, *, widen: float = 2.0, first_seed: int = 1) -> Path:
    learning = msgspec.structs.replace(manifest_of(SPEC).learning, widen=widen, widen_n=2.0)
    for k, name in enumerate(("wide", "calm", "stressed")):
        member(root / name, first_seed + k, learning=learning)
    members = {"calm": "calm", "stressed": "stressed"}
    write_bank(root, BankManifest(name="toy", members=members, fallback="wide"))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bank_in(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def bank(folder: Path) -> Bank:
    return load_bank(folder, spec=SPEC)


class Desk:
    """A session whose rows are given their regime and switches."""

    def __init__(self, bank: Bank) -> None:
        self.bank, self.session, self.seq = bank, EdgeSession(bank, SPEC, "x:Y"), 0
        self.entry = np.zeros(0)

    def serve(self, ts: int, regime: int, switches: int) -> np.void:
        self.seq += 1
        head = np.array([(self.seq, ts, ts, 20_000, 1, 1, 1)], dtype=ROW_HEAD)
        row = np.array([[0.4, 2.0, 0.3, 1.0, -1.0]])
        entry = entries_of(head, row)[0]
        entry[REGIME], entry[SWITCHES] = regime, switches
        self.entry = entry.view(np.float64)
        raw = self.bank.infer(row, entry[REGIME : REGIME + 1])
        return self.session.speak(entry, raw[0], ts)[0].copy()

    def record(self, horizon: int = 0) -> Forecast:
        out = self.session.out[0]
        return self.session.record(out, self.entry, horizon, epoch=1, rung=Rung.FULL)

    def settle(self, forecast: Forecast, ts: int, label: int = 1) -> None:
        self.session.learn(
            forecast,
            Outcome(
                forecast_id=forecast.forecast_id, instrument="x:Y", horizon=forecast.horizon,
                ts_resolved=ts, return_bps=0.0, label=label,
            ),
        )  # fmt: skip


def test_each_regime_is_served_by_its_member_and_the_rest_by_the_fallback(bank: Bank) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5))
    raw = bank.infer(rows, np.array([0, 1, 2]))
    names = [bank.artifacts[number].folder.name for number in bank.by_regime]
    assert names == ["calm", "wide", "stressed"]
    for k, number in enumerate(bank.by_regime):
        alone = bank.artifacts[number].model.infer(rows[k : k + 1])
        assert raw[k].tobytes() == alone[0].tobytes()
    assert len({raw[k].tobytes() for k in range(3)}) == 3


@settings(deadline=None, max_examples=30)
@given(regimes=st.lists(st.integers(0, 2), min_size=0, max_size=40), seed=st.integers(0, 9))
def test_a_claim_depends_on_its_own_row_and_regime_alone(
    bank: Bank, regimes: list[int], seed: int
) -> None:
    rows = np.random.default_rng(seed).normal(size=(len(regimes), 5))
    chosen = np.array(regimes, dtype=np.int64)
    together = bank.infer(rows, chosen)
    for i in range(len(rows)):
        single = bank.infer(rows[i : i + 1], chosen[i : i + 1])
        assert together[i].tobytes() == single[0].tobytes()


def test_workers_choose_the_member_as_the_process_does(bank: Bank, folder: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(31, 5))
    regimes = np.arange(31) % 3
    with WorkerPool(folder, 1) as pool:
        pool.warm()
        assert pool.infer(rows, regimes).tobytes() == InProcess(bank).infer(rows, regimes).tobytes()


def test_a_folder_with_one_artifact_is_a_bank_of_one(tmp_path: Path) -> None:
    manifest = member(tmp_path / "one", 5)
    bank = load_bank(tmp_path / "one", spec=SPEC)
    assert (bank.version, bank.by_regime) == (manifest.version, (0, 0, 0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"priors": manifest_of(SPEC).priors[:2]}, "horizons differs"),
        ({"baseline_column": "a"}, "baseline_column differs"),
        ({"spec_hash": "other"}, "spec_hash differs"),
        (
            {"regime": msgspec.structs.replace(manifest_of(SPEC).regime, confirm=0.8)},
            "regime differs",
        ),
    ],
)
def test_members_that_differ_in_what_they_must_share_are_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    folder = bank_in(tmp_path)
    priors = change.pop("priors", None)
    if priors is not None:
        graph = graph_of(network_of(SPEC, 2))
        write_artifact(
            folder / "calm", msgspec.structs.replace(manifest_of(SPEC), priors=priors), graph
        )
    else:
        member(folder / "calm", 2, **change)
    with pytest.raises(ArtifactError, match=said):
        read_bank(folder)


def test_an_unknown_regime_and_a_missing_member_are_refused(tmp_path: Path) -> None:
    folder = bank_in(tmp_path)
    with pytest.raises(ArtifactError, match="no regime is called"):
        write_bank(folder, BankManifest(name="x", members={"wild": "calm"}, fallback="wide"))
    with pytest.raises(ArtifactError, match="manifest"):
        write_bank(folder, BankManifest(name="x", members={"calm": "gone"}, fallback="wide"))


def test_a_record_names_the_regime_and_the_member_that_spoke(bank: Bank) -> None:
    desk = Desk(bank)
    for regime in (0, 1, 2, 0):
        desk.serve(T0, regime, 0)
        made = desk.record()
        wanted = bank.artifacts[bank.by_regime[regime]].version
        assert (made.regime, made.model_version) == (NAMES[regime], wanted)


def test_an_outcome_teaches_the_member_that_spoke(bank: Bank) -> None:
    """Whichever regime holds when it resolves."""
    desk, quiet = Desk(bank), Desk(bank)
    for i in range(600):
        ts = T0 + i * 100 * MS
        for one, settles in ((desk, True), (quiet, False)):
            one.serve(ts, 0, 0)
            made = one.record()
            one.serve(ts, 2, 0)
            if settles:
                one.settle(made, ts + 600 * MS, label=2)
    assert desk.serve(T0, 0, 0)["base_p"][0][2] > quiet.serve(T0, 0, 0)["base_p"][0][2] + 0.2
    taught, untaught = (one.serve(T0, 2, 0)["base_p"][0] for one in (desk, quiet))
    np.testing.assert_allclose(taught, untaught)


def test_after_a_switch_widths_grow_and_outcomes_earn_them_back(bank: Bank) -> None:
    desk = Desk(bank)
    plain = desk.serve(T0, 0, 0)
    wide = desk.serve(T0, 0, 1)
    span = lambda row: row["base_q"][0][4] - row["base_q"][0][0]  # noqa: E731
    assert span(wide) == pytest.approx(2.0 * span(plain))
    flat = plain["base_p"][0] - 0.5 * (plain["base_p"][0] - [0.2, 0.6, 0.2])
    np.testing.assert_allclose(wide["base_p"][0], flat, atol=1e-12)
    spans = []
    for i in range(180):  # refits are due after 20 s: none here
        ts = T0 + i * 100 * MS
        spans.append(span(desk.serve(ts, 0, 1)))
        desk.settle(desk.record(), ts + 600 * MS)
    assert all(after <= before + 1e-12 for before, after in pairwise(spans))
    assert spans[-1] < 1.1 * span(plain)
    assert span(desk.serve(T0, 0, 2)) == pytest.approx(2.0 * span(plain))


def test_a_claim_that_was_widened_is_learnt_from_as_it_was_before(bank: Bank) -> None:
    """The raw claim is read back exactly, so widening does not bias what calibration learns."""
    desk, plain = Desk(bank), Desk(bank)
    learnt = []
    for one, switches in ((desk, 1), (plain, 0)):
        one.serve(T0, 0, switches)
        one.settle(one.record(), T0 + 600 * MS)
        ring, n, _ = one.session._resolved.ring(0)
        assert n == 1
        learnt.append(ring[0])
    np.testing.assert_allclose(learnt[0], learnt[1], rtol=1e-6)
    assert learnt[0][MOVE] != 0.0


def test_a_live_swap_falls_between_two_rows_and_no_row_is_dropped_or_served_by_halves(
    bank: Bank, tmp_path: Path
) -> None:
    """Every row is served, each by a member of the one bank or of the other, before and after."""
    other = load_bank(bank_in(tmp_path, first_seed=11), spec=SPEC)
    desk, served = Desk(bank), []
    for i in range(200):
        if i == 100:
            desk.bank = other
            desk.session.swap(other)
        regime = i % 3
        out = desk.serve(T0 + i * 100 * MS, regime, 0)
        made = desk.record()
        member_of = (bank if i < 100 else other).artifacts
        chosen = member_of[bank.by_regime[regime]]
        served.append(int(out["seq"]))
        assert made.model_version == chosen.version
        row = desk.entry[None, -5:]
        np.testing.assert_allclose(out["base_p"], chosen.model.infer(row)[0][:, :3], atol=1e-12)
    assert served == list(range(1, 201))


def test_what_was_issued_before_a_swap_teaches_the_member_that_spoke(
    bank: Bank, tmp_path: Path
) -> None:
    other = load_bank(bank_in(tmp_path, first_seed=11), spec=SPEC)
    desk = Desk(bank)
    made = []
    for i in range(300):
        desk.serve(T0 + i * 100 * MS, 0, 0)
        made.append(desk.record())
    desk.session.swap(other)
    for i, forecast in enumerate(made):
        desk.settle(forecast, T0 + 10**9 + i * 100 * MS, label=2)
    assert desk.session.n_unmatched == 0
    desk.bank = other
    fresh = Desk(other).serve(T0, 0, 0)["base_p"][0]
    np.testing.assert_allclose(desk.serve(T0, 0, 0)["base_p"][0], fresh, atol=1e-12)


def test_a_member_that_both_banks_hold_keeps_its_calibration(bank: Bank) -> None:
    desk = Desk(bank)
    for i in range(600):
        ts = T0 + i * 100 * MS
        desk.serve(ts, 0, 0)
        desk.settle(desk.record(), ts + 600 * MS, label=2)
    before = desk.serve(T0, 0, 0)["base_p"].copy()
    desk.session.swap(load_bank(bank.folder, spec=SPEC))
    assert desk.serve(T0, 0, 0)["base_p"].tobytes() == before.tobytes()


def test_a_bank_that_does_not_fit_is_refused_and_changes_nothing(
    bank: Bank, tmp_path: Path
) -> None:
    short = manifest_of(SPEC).priors[0].horizon
    longer = Horizon(name="2s", ns=2 * short.ns, nominal_s=2.0, band="sigma")
    priors = tuple(
        msgspec.structs.replace(p, horizon=longer) if k == 1 else p
        for k, p in enumerate(manifest_of(SPEC).priors)
    )
    member(tmp_path / "other", 3, priors=priors)
    desk = Desk(bank)
    before = desk.serve(T0, 0, 0)
    with pytest.raises(ArtifactError, match="another horizons"):
        desk.session.swap(load_bank(tmp_path / "other", spec=SPEC))
    assert desk.serve(T0, 0, 0)["base_p"].tobytes() == before["base_p"].tobytes()
