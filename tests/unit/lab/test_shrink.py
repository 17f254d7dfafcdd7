"""A shrunken model's cost is that of what is served, and its loss is held against the full one."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finllm.domain.errors import InputError
from finllm.edge.artifact import MODEL_FILE, SHIPPED, read_manifest
from finllm_lab.export import write_artifact
from finllm_lab.plans import BOOK_PLAN
from finllm_lab.zoo import shrink as module
from finllm_lab.zoo.compare import Zoo
from finllm_lab.zoo.frontier import apart, draw
from finllm_lab.zoo.material import Material
from finllm_lab.zoo.parts import pooled
from finllm_lab.zoo.shrink import DYNAMIC, FULL, STUDENT, Shrunk, kind_of, shrink
from zoo_market import COLUMNS, HORIZONS, PLAN, SPEC, part_of


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> list[Shrunk]:
    parts = [part_of(seed) for seed in range(2)]
    zoo, folder = Zoo(COLUMNS, ridge=0.001), tmp_path_factory.mktemp("toy")
    shipped = read_manifest(SHIPPED["book"])
    prior = msgspec.structs.replace(shipped.priors[0], horizon=HORIZONS[0])
    manifest = msgspec.structs.replace(
        shipped, name="toy", spec_hash=SPEC.hash, columns=tuple(SPEC.columns), priors=(prior,)
    )
    write_artifact(folder, manifest, zoo.linear_graph(pooled(parts)))
    found = Material(plan=PLAN, parts=parts, columns=COLUMNS, data={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "N_ENERGY", 400)
        patch.setattr(module, "N_TIMED", 200)
        return shrink(folder, found, zoo, lambda _: None)


def test_every_variant_is_priced_and_held_against_the_full_one(shrunk: list[Shrunk]) -> None:
    by_name = {one.cost.name: one for one in shrunk}
    assert len(by_name) == 10
    assert {FULL, DYNAMIC, STUDENT, "int8 static", "pruned 50%", "columns 75%"} <= set(by_name)
    full = by_name[FULL]
    assert full.gains["1s"].skill == 0.0
    assert full.cost.way == "kernel"
    assert abs(by_name["int8 static"].gains["1s"].skill) < 0.01
    # Fewer and fewer weights cost more and more.
    lost = [by_name[f"pruned {share}%"].gains["1s"].skill for share in (25, 75)]
    assert lost[0] > lost[1]
    for one in shrunk:
        assert 0.0 < one.cost.p50_us <= one.cost.p99_us
        assert one.cost.size > 0
        assert one.cost.joules_per_million > 0.0
        assert one.cost.energy_by.startswith(("measured", "modelled"))
        assert one.cost.is_batch_invariant or one.cost.name == DYNAMIC


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_frontier_is_drawn_the_same_twice(
    shrunk: list[Shrunk], tmp_path: Path, ending: str
) -> None:
    files = [tmp_path / f"{name}.{ending}" for name in ("one", "other")]
    for file in files:
        draw(shrunk, "1s", file)
    assert files[0].stat().st_size > 1_000
    assert files[0].read_bytes() == files[1].read_bytes()


@given(st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=12), st.floats(0.1, 3.0))
def test_labels_stand_apart_in_the_order_of_their_points(wanted: list[float], least: float) -> None:
    places = apart(np.array(wanted), least)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(places[order]) >= least - 1e-9).all()
    # Nobody is moved whom nobody crowds, and a crowd stays about its middle.
    assert np.abs(apart(places, 0.99 * least) - places).max() < 1e-9
    assert places.sum() == pytest.approx(sum(wanted), abs=1e-6)


def test_a_graph_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", len(SPEC)])
    out = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(SPEC)])
    node = helper.make_node("Identity", ["rows"], ["scores"])
    model = helper.make_model(helper.make_graph([node], "g", [value], [out]))
    with pytest.raises(InputError, match="neither a linear nor a dense"):
        kind_of(model.SerializeToString(), str(tmp_path))
    shipped = onnx.load(SHIPPED["book"] / MODEL_FILE)
    assert kind_of(shipped.SerializeToString(), "") == "linear"


def test_a_model_of_other_horizons_than_the_recordings_is_refused() -> None:
    plan = msgspec.structs.replace(BOOK_PLAN, horizons=BOOK_PLAN.horizons[:2])
    found = Material(plan=plan, parts=[], columns=COLUMNS, data={})
    with pytest.raises(InputError, match="horizons are not those of the book recordings"):
        shrink(SHIPPED["book"], found, Zoo(COLUMNS), lambda _: None)
