"""The session: order of model, calibration and tilt; abstention; learning; the record."""

import math
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.errors import ArtifactError, InputError
from finllm.domain.forecast import Forecast, Outcome, Rung
from finllm.domain.market import ROW_HEAD, Flag
from finllm.domain.protocol import Outlook, OutlookBand
from finllm.domain.spec import FeatureSpec
from finllm.domain.tilt import tilt
from finllm.edge.artifact import Artifact
from finllm.edge.bank import alone
from finllm.edge.serving import entries_of
from finllm.edge.session import EdgeSession

T0 = 1_700_000_000 * 10**9
MS = 10**6
RAW = np.array([[0.3, 0.5, 0.2, -1.5, -0.6, 0.1, 0.7, 1.4]] * 3)
ROW = np.array([0.4, 2.0, 0.0, 1.0, -1.0])


class Desk:
    """A session with one row's arrays."""

    def __init__(self, artifact: Artifact) -> None:
        self.session = EdgeSession(alone(artifact), artifact.spec, "x:Y")
        self.head = np.zeros(1, dtype=ROW_HEAD)
        self.out = self.session.out
        self.entry = np.zeros(0)
        self.seq = 0

    def serve(
        self, ts: int, *, mid2: int = 20_000, flags: int = 1, raw: Any = RAW, row: Any = ROW
    ) -> np.void:
        self.seq += 1
        self.head[0] = (self.seq, ts, ts - 5, mid2, 1, flags, 1)
        entries = entries_of(self.head, row[None, :])
        self.entry = entries.view(np.float64)[0]
        self.session.observe(entries[0])
        self.session.speak(entries[0], raw, ts + 7)
        return self.out[0].copy()

    def record(self, horizon: int) -> Forecast:
        return self.session.record(self.out[0], self.entry, horizon, epoch=1, rung=Rung.FULL)

    def settle(self, forecast: Forecast, ts: int, label: int, return_bps: float = 0.0) -> None:
        self.session.learn(
            forecast,
            Outcome(
                forecast_id=forecast.forecast_id,
                instrument="x:Y",
                horizon=forecast.horizon,
                ts_resolved=ts,
                return_bps=return_bps,
                label=label,
            ),
        )


@pytest.fixture
def desk(artifact: Artifact) -> Desk:
    return Desk(artifact)


def outlook(shift: float, k: float, *, ts: int = T0, expires: int = T0 + 10**12) -> Outlook:
    return Outlook(
        instrument="x:Y",
        version=4,
        ts=ts,
        bands=(
            OutlookBand(up_to_ns=10**9, shift=shift, vol_scale=k),
            OutlookBand(up_to_ns=10**11, shift=2 * shift, vol_scale=k),
        ),
        half_life_ns=10 * 10**9,
        expires=expires,
    )


def test_a_fresh_calibration_serves_the_models_claim(desk: Desk) -> None:
    out = desk.serve(T0)
    np.testing.assert_allclose(out["base_p"], RAW[:, :3], atol=1e-12)
    scale = 2.0 * np.sqrt([[0.5], [1.0], [10.0]])
    np.testing.assert_allclose(out["base_q"], RAW[:, 3:] * scale, atol=1e-12)
    assert out["flags"] == Flag.VALID


def test_the_band_is_half_the_spread_or_four_tenths_of_sigma(desk: Desk) -> None:
    band = desk.serve(T0)["band_bps"]
    np.testing.assert_allclose(band, [0.5, 0.5, 0.4 * 2.0 * math.sqrt(10.0)])


def test_without_an_outlook_emitted_is_base_to_the_bit(desk: Desk) -> None:
    out = desk.serve(T0)
    assert out["p"].tobytes() == out["base_p"].tobytes()
    assert out["q"].tobytes() == out["base_q"].tobytes()
    assert out["outlook_version"] == 0


@settings(deadline=None, max_examples=30)
@given(shift=st.floats(-1.0, 1.0), k=st.floats(0.5, 2.0), wait_ms=st.integers(0, 60_000))
def test_the_tilt_is_the_domains_rule_at_the_time_of_emission(
    artifact: Artifact, shift: float, k: float, wait_ms: int
) -> None:
    desk, said = Desk(artifact), outlook(shift, k)
    desk.session.adopt(said)
    out = desk.serve(T0 + wait_ms * MS)
    for h, horizon in enumerate(artifact.horizons):
        p, q = out["base_p"][h].copy(), out["base_q"][h].copy()
        tilt(p, q, *said.at(horizon.ns, int(out["ts_emit"])), 1.0)
        np.testing.assert_allclose(out["p"][h], p, atol=1e-12)
        np.testing.assert_allclose(out["q"][h], q, atol=1e-9)
        assert out["p"][h].sum() == pytest.approx(1.0, abs=1e-12)
    assert out["outlook_version"] == 4


@pytest.mark.parametrize("ts", [T0 - 8, T0 + 10**12 - 7])
def test_an_outlook_is_in_force_only_between_its_start_and_its_end(desk: Desk, ts: int) -> None:
    desk.session.adopt(outlook(1.0, 2.0))
    out = desk.serve(ts)
    assert out["outlook_version"] == 0
    assert out["p"].tobytes() == out["base_p"].tobytes()


def test_a_withdrawn_outlook_leaves_no_trace(desk: Desk) -> None:
    before = desk.serve(T0)
    desk.session.adopt(outlook(1.0, 2.0))
    desk.serve(T0)
    desk.session.adopt(None)
    after = desk.serve(T0)
    assert after["p"].tobytes() == before["p"].tobytes()


def test_an_outlook_on_another_instrument_is_refused(desk: Desk) -> None:
    with pytest.raises(InputError, match="was handed to x:Y"):
        desk.session.adopt(msgspec.structs.replace(outlook(1.0, 1.0), instrument="x:Z"))


@pytest.mark.parametrize(
    "change",
    [
        {"flags": int(Flag.RESYNCING)},
        {"flags": int(Flag.VALID | Flag.STALE)},
        {"flags": int(Flag.WARMING)},
        {"mid2": 0},
        {"raw": np.full((3, 8), np.nan)},
        {"row": np.array([0.4, np.nan, 0.0, 1.0, -1.0])},
    ],
)
def test_a_row_that_cannot_be_trusted_is_served_climatology(
    desk: Desk, change: dict[str, Any]
) -> None:
    desk.session.adopt(outlook(1.0, 2.0))
    desk.serve(T0 - 100 * MS)
    out = desk.serve(T0, **change)
    assert out["flags"] & Flag.ABSTAINED
    np.testing.assert_allclose(out["base_p"], [(0.2, 0.6, 0.2)] * 3)
    assert out["p"].tobytes() == out["base_p"].tobytes()
    assert out["outlook_version"] == 0
    for field in ("base_q", "q", "band_bps"):
        assert np.isfinite(out[field]).all()


def test_an_unverified_stream_is_served_by_the_model(desk: Desk) -> None:
    out = desk.serve(T0, flags=int(Flag.VALID | Flag.UNVERIFIED))
    assert out["flags"] == Flag.VALID | Flag.UNVERIFIED
    np.testing.assert_allclose(out["base_p"], RAW[:, :3], atol=1e-12)


def test_a_record_says_what_its_row_says(desk: Desk) -> None:
    desk.session.adopt(outlook(0.3, 1.2))
    out = desk.serve(T0)
    forecast = desk.record(1)
    assert forecast.base == tuple(out["base_p"][1])
    assert forecast.emitted == tuple(out["p"][1])
    assert forecast.emitted_q == tuple(out["q"][1])
    assert (forecast.horizon, forecast.version, forecast.outlook_version) == ("1s", 1, 4)
    assert forecast.valid_until == T0 + 7 + 800 * MS
    assert forecast.reference is not None
    assert forecast.reference.climatology == (0.2, 0.6, 0.2)
    assert forecast.reference.obi[2] > forecast.reference.obi[0]


def test_a_late_emission_is_valid_only_up_to_the_target(desk: Desk) -> None:
    desk.serve(T0)
    desk.out["ts_emit"] = T0 + 900 * MS
    assert desk.record(1).valid_until == T0 + 10**9


def test_an_id_names_row_horizon_and_versions(desk: Desk) -> None:
    desk.serve(T0)
    ids = {desk.record(h).forecast_id for h in (0, 1, 2)}
    desk.serve(T0 + 1)
    ids.add(desk.record(0).forecast_id)
    assert len(ids) == 4


def _run(desk: Desk, n: int, label: Any, return_bps: Any = lambda _: 0.0) -> None:
    for i in range(n):
        ts = T0 + i * 100 * MS
        desk.serve(ts)
        desk.settle(desk.record(0), ts + 600 * MS, label(i), return_bps(i))


def test_nothing_is_learnt_before_the_refit_is_due(desk: Desk) -> None:
    first = desk.serve(T0)
    _run(desk, 190, lambda _: 1)
    assert desk.session.calibration_version == 0
    assert desk.serve(T0)["base_p"].tobytes() == first["base_p"].tobytes()


def test_calibration_follows_the_frequencies_and_the_version_counts_refits(desk: Desk) -> None:
    _run(desk, 1_000, lambda i: 2 if i % 11 == 0 else 1)  # out of step with the thinning
    assert desk.session.calibration_version == 4
    out = desk.serve(T0)
    assert out["calibration_version"] == 4
    assert out["base_p"][0][1] == pytest.approx(10 / 11, abs=0.03)
    np.testing.assert_allclose(out["base_p"][2], RAW[2, :3], atol=1e-9)  # nothing resolved there


def test_climatology_follows_the_labels(desk: Desk) -> None:
    _run(desk, 1_000, lambda i: 0 if i % 4 == 0 else 1)
    reference = desk.record(0).reference
    assert reference is not None
    assert reference.climatology[0] == pytest.approx(0.25, abs=0.02)
    assert sum(reference.climatology) == pytest.approx(1.0)
    out = desk.serve(T0, flags=int(Flag.STALE))
    assert out["base_p"][0][0] == pytest.approx(0.25, abs=0.02)


def test_widths_follow_the_returns(desk: Desk) -> None:
    rng = np.random.default_rng(3)
    wide = (rng.normal(0.0, 2.0 * 2.0 * math.sqrt(0.5), 1_000)).tolist()
    narrow = desk.serve(T0)["base_q"][0]
    _run(desk, 1_000, lambda _: 1, wide.__getitem__)
    q = desk.serve(T0)["base_q"][0]
    ratio = (q[4] - q[0]) / (narrow[4] - narrow[0])
    assert 1.5 < ratio < 2.2
    said = desk.record(0).reference
    assert said is not None
    assert said.climatology_q[4] == pytest.approx(1.2816 * 2.83, rel=0.15)


def test_learning_takes_no_notice_of_the_outlook(artifact: Artifact) -> None:
    plain, tilted = Desk(artifact), Desk(artifact)
    tilted.session.adopt(outlook(1.0, 2.0))
    for desk in (plain, tilted):
        _run(desk, 700, lambda i: i % 3)
    a, b = plain.serve(T0), tilted.serve(T0)
    assert a["base_p"].tobytes() == b["base_p"].tobytes()
    assert a["base_q"].tobytes() == b["base_q"].tobytes()
    assert a["p"].tobytes() != b["p"].tobytes()


def test_a_claim_made_under_an_older_calibration_is_read_back_into_raw_terms(
    artifact: Artifact,
) -> None:
    # Labels drawn from one fixed law: the parameters must settle, not chase their own tail.
    rng = np.random.default_rng(5)
    labels = rng.choice(3, size=4_000, p=[0.1, 0.8, 0.1]).tolist()
    desk = Desk(artifact)
    _run(desk, 4_000, labels.__getitem__)
    assert desk.serve(T0)["base_p"][0][1] == pytest.approx(np.mean(np.array(labels) == 1), abs=0.02)


def test_void_outcomes_and_abstentions_teach_nothing(desk: Desk) -> None:
    desk.serve(T0)
    desk.settle(desk.record(0), T0 + 10**9, -1)
    desk.serve(T0, flags=int(Flag.STALE))
    desk.settle(desk.record(0), T0 + 10**9, 1)
    assert desk.session.n_unmatched == 2


def test_the_same_inputs_give_the_same_bytes(artifact: Artifact) -> None:
    outs = []
    for _ in range(2):
        desk = Desk(artifact)
        _run(desk, 500, lambda i: i % 3, lambda i: float(i % 7) - 3.0)
        outs.append(desk.serve(T0 + 10**12).tobytes())
    assert outs[0] == outs[1]


def test_a_spec_that_the_artifact_does_not_read_is_refused(
    artifact: Artifact, spec: FeatureSpec
) -> None:
    other = FeatureSpec(name="toy", version=2, features=spec.features)
    with pytest.raises(ArtifactError, match="reads spec"):
        EdgeSession(alone(artifact), other, "x:Y")


def test_a_storm_is_called_stressed_and_the_calm_after_it_is_not(desk: Desk) -> None:
    rng = np.random.default_rng(1)
    mid2, seen = 20_000, []
    for i in range(3_000):
        calm = i < 1_200 or i >= 1_800
        mid2 += int(rng.integers(-1, 2)) * (1 if calm else 12)
        desk.serve(T0 + i * 100 * MS, mid2=mid2)
        seen.append(desk.session.regime)
    assert "stressed" in seen[1_200:1_300]
    assert seen[1_100:1_200].count("stressed") == 0
    assert seen[-1] != "stressed"
    changes = sum(a != b for a, b in pairwise(seen))
    assert changes < 20
