"""A model check finds each way in which a model breaks its word, and passes one that keeps it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from finllm.app.cli import app
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import (
    FLAT_SIZES,
    MOVE_SIZES,
    SHIPPED,
    Card,
    Manifest,
    read_manifest,
    version_of,
)
from finllm.edge.check import Limits, ModelReport, check_model
from finllm_lab.export import write_graph

FULL_CARD = Card(
    data=("toy",), licence_class="A", splits="none", scores=("none",), limits=("a toy",)
)


def edited(folder: Path, **changes: object) -> Manifest:
    manifest = msgspec.structs.replace(read_manifest(folder), **changes)
    manifest = msgspec.structs.replace(manifest, version=version_of(manifest))
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return manifest


def failed(report: ModelReport) -> list[str]:
    return [check.name for check in report.checks if not check.ok]


def own(folder: Path, spec: FeatureSpec, change: Callable[[str], list[onnx.NodeProto]]) -> None:
    """Replace the artifact's graph by one of a person's own: a product, then `change`d."""
    manifest = read_manifest(folder)
    width = 8 * len(manifest.horizons)
    weights = np.random.default_rng(0).normal(0.0, 0.1, (len(spec), width)).astype(np.float32)
    bound = np.array(5.0, dtype=np.float32)
    nodes = [
        helper.make_node("Clip", ["rows", "low", "high"], ["clipped"]),
        helper.make_node("MatMul", ["clipped", "weights"], ["lines"]),
        *change("lines"),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", len(spec)])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", width])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(-bound, "low"),
            numpy_helper.from_array(bound, "high"),
            numpy_helper.from_array(np.array(1e-3, dtype=np.float32), "little"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    write_graph(folder, manifest, model.SerializeToString())


def as_it_is(name: str) -> list[onnx.NodeProto]:
    return [helper.make_node("Identity", [name], ["scores"])]


def by_the_batch(name: str) -> list[onnx.NodeProto]:
    """Every claim leans a little on the whole batch."""
    return [
        helper.make_node("ReduceMean", [name], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["mean", "little"], ["lean"]),
        helper.make_node("Add", [name, "lean"], ["scores"]),
    ]


def by_chance(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("RandomNormalLike", [name], ["noise"], scale=1e-3),
        helper.make_node("Add", [name, "noise"], ["scores"]),
    ]


def unclipped(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["rows", "weights"], ["loose"]),
        helper.make_node("Mul", ["loose", "loose"], ["scores"]),
    ]


@pytest.fixture
def whole(folder: Path) -> Path:
    edited(folder, card=FULL_CARD)
    return folder


def test_a_sound_model_passes_through_its_kernel_and_as_a_graph(
    whole: Path, spec: FeatureSpec
) -> None:
    report = check_model(whole, (spec,), limits=Limits(us=1e6))
    assert failed(report) == []
    assert report.spec == "toy"
    own(whole, spec, as_it_is)
    report = check_model(whole, (spec,), limits=Limits(us=1e6))
    assert failed(report) == []
    assert len(report.checks) == 11


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (by_the_batch, {"determinism", "batch invariance", "NaN in, NaN out"}),
        (by_chance, {"determinism", "batch invariance", "NaN in, NaN out"}),
        (unclipped, {"wild rows"}),
    ],
)
def test_what_a_graph_does_wrong_is_found(
    whole: Path,
    spec: FeatureSpec,
    change: Callable[[str], list[onnx.NodeProto]],
    broken: set[str],
) -> None:
    own(whole, spec, change)
    report = check_model(whole, (spec,), limits=Limits(us=1e6))
    assert set(failed(report)) == broken
    assert all(check.mend for check in report.checks if not check.ok)


def test_a_changed_file_and_another_spec_keep_it_from_loading(
    whole: Path, spec: FeatureSpec
) -> None:
    other = FeatureSpec(name="toy", version=2, features=spec.features[::-1])
    report = check_model(whole, (other,))
    assert (failed(report), report.spec) == (["loads"], "")
    graph = whole / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    report = check_model(whole, (spec,))
    assert failed(report) == ["loads"]
    assert "sha256" in report.checks[-1].figure


def test_an_empty_card_and_a_broken_calibration_are_named(folder: Path, spec: FeatureSpec) -> None:
    first, *rest = read_manifest(folder).priors
    bent = msgspec.structs.replace(first, climatology=(0.5, 0.6, 0.2), ewma_scale=0.0)
    edited(folder, priors=(bent, *rest))
    report = check_model(folder, (spec,), limits=Limits(us=1e6))
    assert failed(report) == ["calibration", "card"]
    [calibration] = [check for check in report.checks if check.name == "calibration"]
    assert "climatology (0.5, 0.6, 0.2)" in calibration.figure
    assert "ewma_scale" in calibration.figure


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"trust_p": 1.7}, "trust_p 1.7"),
        ({"trust_q": -0.1}, "trust_q -0.1"),
        ({"move_sizes": (3.0, *MOVE_SIZES[1:])}, "move_sizes"),
        ({"flat_sizes": (*FLAT_SIZES[:-1], 2.0)}, "flat_sizes"),
        ({"horizon": "ticks"}, "band 'ticks'"),
    ],
)
def test_a_prior_that_would_serve_no_distribution_is_named(
    folder: Path, spec: FeatureSpec, change: dict[str, object], named: str
) -> None:
    first, *rest = read_manifest(folder).priors
    if "horizon" in change:
        change = {"horizon": msgspec.structs.replace(first.horizon, band=change["horizon"])}
    edited(folder, priors=(msgspec.structs.replace(first, **change), *rest))
    report = check_model(folder, (spec,), limits=Limits(us=1e6))
    [calibration] = [check for check in report.checks if check.name == "calibration"]
    assert not calibration.ok
    assert named in calibration.figure


def test_a_graph_of_a_fixed_batch_is_refused_with_the_mend(folder: Path, spec: FeatureSpec) -> None:
    own(folder, spec, as_it_is)
    graph = onnx.load(folder / "model.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    write_graph(folder, read_manifest(folder), graph.SerializeToString())
    report = check_model(folder, (spec,), limits=Limits(us=1e6))
    [loads] = [check for check in report.checks if check.name == "loads"]
    assert not loads.ok
    assert "dynamic_axes" in loads.figure


def test_weights_of_other_numbers_break_parity(whole: Path, spec: FeatureSpec) -> None:
    weights = whole / "weights.npy"
    table = np.load(weights)
    table[-1] += 1e-3
    np.save(weights, table)
    from finllm_lab.manifest import hash_of

    edited(whole, weights_sha256=hash_of(weights))
    assert failed(check_model(whole, (spec,), limits=Limits(us=1e6))) == ["parity"]


def test_what_costs_too_much_fails_and_no_manifest_is_told(whole: Path, spec: FeatureSpec) -> None:
    report = check_model(whole, (spec,), limits=Limits(us=1e-3, kb=0.1))
    assert failed(report) == ["speed", "size"]
    (whole / "manifest.json").unlink()
    assert failed(check_model(whole, (spec,))) == ["manifest"]


@pytest.mark.parametrize("name", ["book", "bar"])
def test_the_shipped_models_pass_by_the_command(name: str) -> None:
    found = CliRunner().invoke(
        app, ["model", "check", str(SHIPPED[name]), "--json", "--max-us", "1000"]
    )
    told = msgspec.json.decode(found.stdout)
    assert told["ok"] is (found.exit_code == 0) is True, told
    assert told["spec"] == name


def test_a_failing_check_fails_the_command(folder: Path) -> None:
    found = CliRunner().invoke(app, ["model", "check", str(folder)])
    assert found.exit_code == 1
    assert "other features" in " ".join(found.stdout.split())
