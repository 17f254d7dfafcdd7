"""The fit finds what is there, nothing where nothing is, and the same twice."""

from pathlib import Path

import numpy as np
import pytest

from edge_toys import prior_network
from finllm.domain.spec import Feature, FeatureSpec
from finllm.edge.artifact import load_artifact
from finllm.edge.linear import Network
from finllm.edge.onnx import OnnxModel
from finllm_lab.edge import Build, Trial, build, labelled, score_lines
from finllm_lab.export import graph_of
from finllm_lab.labels import BOOK_HORIZONS
from finllm_lab.plans import BOOK_PLAN, Plan
from finllm_lab.training import PRIOR_ONLY, Penalty, Sample, columns_of, fit_path
from lab_sessions import session_of

SPEC = FeatureSpec(
    name="toy",
    version=1,
    features=tuple(
        Feature(name=name, unit="1", source="toy") for name in ("obi_1", "sigma", "log_spread")
    ),
)
COLUMNS = columns_of(SPEC, is_mirrored=True, core=("obi_1",))


def _sample(n: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3))
    scaled = 0.5 * rows[:, :1] + np.exp(0.4 * rows[:, 2:]) * rng.normal(size=(n, 1))
    label = np.where(scaled > 0.4, 2, np.where(scaled < -0.4, 0, 1))
    return Sample(rows=rows, label=label, scaled=scaled)


def _served(network: Network, rows: np.ndarray) -> np.ndarray:
    model = OnnxModel(
        graph_of(network), n_features=3, spec_hash="", horizons=BOOK_HORIZONS[:1], version=""
    )
    return model.infer(rows)[:, 0]


def _log_loss(p: np.ndarray, label: np.ndarray) -> float:
    return float(-np.mean(np.log(p[np.arange(len(p)), label])))


def test_only_signed_columns_change_sign() -> None:
    assert COLUMNS.odd.tolist() == [True, False, False]
    assert not columns_of(SPEC, is_mirrored=False, core=()).odd.any()


def test_an_unread_column_moves_no_claim() -> None:
    unread = columns_of(SPEC, is_mirrored=True, core=("obi_1",), unread=("log_spread",))
    sample = _sample(4_000, 0)
    path = fit_path(sample, (PRIOR_ONLY, Penalty(0.001)), unread)
    fresh = _sample(50, 1).rows
    other = fresh.copy()
    other[:, 2] += 3.0
    network = path.network([(1,)], [(1,)])
    assert np.array_equal(_served(network, fresh), _served(network, other))
    assert not np.array_equal(
        _served(network, fresh), _served(network, fresh + np.array([1.0, 0.0, 0.0]))
    )


def test_a_fit_beats_climatology_on_rows_that_it_never_saw() -> None:
    path = fit_path(_sample(8_000, 0), (PRIOR_ONLY, Penalty(0.001)), COLUMNS)
    fresh = _sample(8_000, 1)
    raw = _served(path.network([(1,)], [(1,)]), fresh.rows)
    flat = _served(path.network([(0,)], [(0,)]), fresh.rows)
    label, y = fresh.label[:, 0], fresh.scaled[:, 0]
    assert _log_loss(raw[:, :3], label) < 0.93 * _log_loss(flat[:, :3], label)
    for j, level in enumerate((0.1, 0.25, 0.5, 0.75, 0.9)):
        assert np.mean(y <= raw[:, 3 + j]) == pytest.approx(level, abs=0.03)
    assert np.ptp(flat, axis=0).max() < 1e-6


def test_labels_that_mean_nothing_teach_nothing() -> None:
    rng = np.random.default_rng(5)
    sample = _sample(4_000, 2)
    shuffled = Sample(
        rows=sample.rows, label=rng.permutation(sample.label), scaled=rng.permutation(sample.scaled)
    )
    path = fit_path(shuffled, (PRIOR_ONLY, Penalty(0.01)), COLUMNS)
    fresh = _sample(4_000, 3)
    label = rng.permutation(fresh.label[:, 0])
    said = _log_loss(_served(path.network([(1,)], [(1,)]), fresh.rows)[:, :3], label)
    prior = _log_loss(_served(path.network([(0,)], [(0,)]), fresh.rows)[:, :3], label)
    assert said > prior - 0.001


def test_where_only_the_core_may_speak_no_other_column_does() -> None:
    network = fit_path(_sample(3_000, 0), (Penalty(0.01, is_core=True),), COLUMNS).network(
        [(0,)], [(0,)]
    )
    weights = network.weights.reshape(2, 3, -1)
    assert np.abs(weights[:, 0]).max() > 0.01
    assert not weights[:, 1:].any()


def test_a_mirrored_book_gets_the_mirrored_claim() -> None:
    network = fit_path(_sample(3_000, 0), (Penalty(0.01),), COLUMNS).network([(0,)], [(0,)])
    rows = _sample(50, 9).rows
    mirrored = rows * np.array([-1.0, 1.0, 1.0])
    a, b = _served(network, rows), _served(network, mirrored)
    np.testing.assert_allclose(a[:, :3], b[:, 2::-1], atol=1e-5)
    np.testing.assert_allclose(a[:, 3:], -b[:, :2:-1], atol=1e-4)


def test_scores_within_the_dead_zone_are_nought() -> None:
    network = prior_network(3, np.array([(0.2, 0.6, 0.2)]), np.array([(-0.2, -0.1, 0, 0.1, 0.2)]))
    zone = network.dead_zone.copy()
    zone[3:] = 0.15
    quiet = Network(
        centre=network.centre,
        spread=network.spread,
        weights=network.weights,
        bias=network.bias,
        dead_zone=zone,
    )
    claim = _served(quiet, np.zeros((1, 3)))[0]
    np.testing.assert_allclose(claim, (0.2, 0.6, 0.2, -0.2, 0, 0, 0, 0.2), atol=1e-6)


def _plan() -> Plan:
    import msgspec

    return msgspec.structs.replace(
        BOOK_PLAN, name="toy", spec=SPEC, horizons=BOOK_HORIZONS[2:4], baseline_column="obi_1"
    )


def _toy_session(seed: int):  # type: ignore[no-untyped-def]
    import msgspec

    session = session_of(500, seed)
    rows = np.stack([session.rows[:, 0], session.rows[:, 1], session.rows[:, 0]], axis=1)
    return msgspec.structs.replace(session, rows=rows, name=str(seed))


def test_training_twice_gives_the_same_artifact_and_it_can_be_scored(tmp_path: Path) -> None:
    plan = _plan()
    sessions = [_toy_session(seed) for seed in (1, 2)]
    fit = labelled(plan, sessions)
    trials = (Trial(fit=fit[:1], compare=(sessions[1],)),)
    material = Build(plan=plan, fit=fit, trials=trials, files=("toy",))
    said: list[str] = []
    first = build(material, tmp_path / "a", said.append)
    second = build(material, tmp_path / "b", said.append)
    assert first == second
    for name in ("model.onnx", "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    artifact = load_artifact(tmp_path / "a", spec=SPEC)
    lines = score_lines(artifact, sessions[1:], plan.grid_ns)
    assert len(lines) == 4
    assert any(line.startswith("pooled 1s n=") for line in lines)
