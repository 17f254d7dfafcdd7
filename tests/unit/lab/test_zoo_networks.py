"""The zoo's networks are the same twice, are served as they were fitted, and never look ahead."""

from importlib.util import find_spec

import msgspec
import numpy as np
import onnx
import pytest

from finllm.edge.onnx import OnnxModel
from finllm_lab.zoo.compare import Zoo
from finllm_lab.zoo.graphs import claims_of, softmax
from finllm_lab.zoo.networks import N_BACK, fit_convolution, fit_dense
from finllm_lab.zoo.parts import Part
from finllm_lab.zoo.smaller import dynamic_int8, narrowed
from zoo_market import COLUMNS, HORIZONS, N_ROUNDS, QUICK, part_of

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="the zoo's extra")


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return [part_of(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo(COLUMNS, ridge=0.001, schedule=QUICK, n_rounds=N_ROUNDS)


@pytest.fixture(scope="module")
def dense(zoo: Zoo, parts: list[Part]) -> bytes:
    return zoo.dense_graph(parts)


def test_networks_are_fitted_the_same_twice_and_served_as_graphs(
    parts: list[Part], dense: bytes, zoo: Zoo
) -> None:
    assert zoo.dense_graph(parts) == dense
    rows = part_of(8).rows
    layers = fit_dense(parts, COLUMNS.odd, QUICK)
    z = np.clip((rows - layers.centre) / layers.spread, -5.0, 5.0)
    hidden = np.maximum(z @ layers.weights[0] + layers.biases[0], 0.0)
    own = softmax(hidden @ layers.weights[1] + layers.biases[1])
    assert np.abs(claims_of(dense, rows)[:, 0] - own).max() < 1e-5
    model = OnnxModel(dense, n_features=3, spec_hash="", horizons=HORIZONS, version="")
    raw = model.infer(rows)
    assert np.isfinite(raw).all()
    assert np.concatenate([model.infer(rows[i : i + 1]) for i in range(9)]).tobytes() == (
        raw[:9].tobytes()
    )


def test_the_convolution_looks_back_and_never_ahead(parts: list[Part]) -> None:
    teacher = fit_convolution(parts, COLUMNS.odd, QUICK)
    one = part_of(7, n=200)
    said = teacher.claims(one)
    rows = one.rows.copy()
    rows[100] += 3.0
    moved = teacher.claims(msgspec.structs.replace(one, rows=rows))
    changed = np.flatnonzero(np.abs(said - moved).max(axis=(1, 2)) > 1e-7)
    assert changed.min() == 100
    assert 100 < changed.max() < 100 + N_BACK


def test_half_of_the_hidden_units_can_go(dense: bytes, parts: list[Part]) -> None:
    rows = parts[0].rows
    full = claims_of(dense, rows)
    assert np.abs(claims_of(narrowed(dense, 0.0), rows) - full).max() < 1e-6
    half = narrowed(dense, 0.5)
    assert claims_of(half, rows).shape == full.shape
    held = {one.name: tuple(one.dims) for one in onnx.load_from_string(half).graph.initializer}
    assert held["dense_w0"][1] == held["dense_b0"][0] == held["dense_w1"][0] == QUICK.hidden[0] // 2


def test_a_dynamically_quantised_graph_is_not_the_same_in_a_batch(
    dense: bytes, parts: list[Part]
) -> None:
    rows, graph = parts[0].rows, dynamic_int8(dense)
    alone = claims_of(graph, rows, one_by_one=True)
    assert claims_of(graph, rows).tobytes() != alone.tobytes()
    assert claims_of(dense, rows).tobytes() == claims_of(dense, rows, one_by_one=True).tobytes()
