"""The zoo's graphs say what its models say, twice the same; nothing looks ahead; what shrinks, shrinks."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.edge.artifact import Manifest, load_artifact
from finllm_lab.edge import manifest_of, priors_for
from finllm_lab.export import graph_of, write_artifact
from finllm_lab.training import Penalty, Sample, fit_path, pool
from finllm_lab.walk import walk
from finllm_lab.zoo.compare import PLAIN, Zoo, compare
from finllm_lab.zoo.graphs import claims_of, softmax, with_logits
from finllm_lab.zoo.parts import (
    Part,
    gain,
    leave_one_out,
    parts_of,
    pooled,
    said_of,
    scored,
    scores,
)
from finllm_lab.zoo.smaller import dynamic_int8, narrowed, pruned, static_int8
from finllm_lab.zoo.trees import (
    SETTINGS,
    fit_trees,
    fit_turned_trees,
    mirrored,
    turned,
    turned_nodes,
)
from zoo_market import COLUMNS, HORIZONS, N_ROUNDS, PLAN, QUICK, SPEC, N, part_of

needs_trees = pytest.mark.skipif(find_spec("lightgbm") is None, reason="the zoo's extra")


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return [part_of(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo(COLUMNS, ridge=0.001, schedule=QUICK, n_rounds=N_ROUNDS)


@pytest.fixture(scope="module")
def linear(zoo: Zoo, parts: list[Part]) -> bytes:
    return zoo.linear_graph(pooled(parts))


def test_what_is_left_out_is_left_out_whole() -> None:
    parts = [part_of(0, "a", 9), part_of(1, "b", 9), part_of(2, "a", 9)]
    for name, fit_on, left in leave_one_out(parts):
        assert {part.name for part in left} == {name}
        assert not {id(p) for p in fit_on} & {id(p) for p in left}
        assert len(fit_on) + len(left) == 3


@needs_trees
def test_every_model_beats_class_frequencies_on_a_session_that_it_never_saw(
    zoo: Zoo, parts: list[Part]
) -> None:
    picked = {name: zoo.fits[name] for name in (PLAIN, "trees", "blend", "student of trees")}
    lines = {line.model: line for line in compare(parts, PLAN, picked, lambda _: None)}
    assert min(line.skill for line in lines.values()) > 0.05
    assert lines[PLAIN].gain.skill == 0.0
    blend = lines["blend"].gain
    assert blend.low < blend.skill < blend.high
    # A student of a sound teacher is nearly as good as one that learnt from what happened.
    assert abs(lines["student of trees"].gain.skill) < 0.03


def manifest_on(parts: Sequence[Part]) -> Manifest:
    return manifest_of(PLAN, priors_for(PLAN, [(part.session, part.targets) for part in parts]))


def test_the_logistic_is_scored_as_the_walk_of_its_artifact(
    zoo: Zoo, parts: list[Part], tmp_path: Path
) -> None:
    [ours] = scores(parts, PLAN, lambda _, fit_on: {PLAIN: zoo.logistic(fit_on)})[PLAIN]
    walks = []
    for name, fit_on, left in leave_one_out(parts):
        write_artifact(tmp_path / name, manifest_on(fit_on), zoo.linear_graph(pooled(fit_on)))
        artifact = load_artifact(tmp_path / name, spec=SPEC)
        walks += [said for part in left for said in walk(part.session, artifact, PLAN.grid_ns)]
    ts = np.concatenate([said.ts for said in walks])
    losses = np.concatenate([said.log_loss() for said in walks])
    assert ours.ts.tobytes() == ts.tobytes()
    np.testing.assert_allclose(ours.loss, losses[:, 0], rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours.reference, losses[:, 1], rtol=0, atol=1e-12)


def test_priors_are_counted_on_what_was_fitted_alone(parts: list[Part]) -> None:
    """A day on which everything moves up tells nothing of itself to the reference that it is held against."""
    [day, *others] = parts
    heads = day.session.heads.copy()
    heads["mid2"] = 2_000_000 + 500 * np.arange(len(heads))
    [rising] = parts_of([msgspec.structs.replace(day.session, heads=heads)], PLAN)
    flat = np.full((N, 1, 3), 1.0 / 3.0)
    made = scores([rising, *others], PLAN, lambda *_: {"flat": lambda part: flat[: len(part.ts)]})
    [own] = said_of(rising, flat[: len(rising.ts)], manifest_on(others))
    first = made["flat"][0].reference[:1]
    assert first.tobytes() == own.log_loss()[:1, 1].tobytes()
    assert np.exp(-first[0]) == pytest.approx(manifest_on(others).priors[0].climatology[2])


def test_a_claim_of_nothing_has_no_skill_and_truth_has_much(parts: list[Part]) -> None:
    [one, *others] = parts
    flat = np.full((len(one.ts), 1, 3), 1.0 / 3.0)
    known = np.eye(3)[np.maximum(one.targets.label, 0)] * 0.94 + 0.02
    manifest = manifest_on(others)
    nothing, truth = (scored(said_of(one, claims, manifest)) for claims in (flat, known))
    assert abs(nothing.skill) < 0.02
    assert truth.skill > 0.8
    told = gain(truth, nothing, HORIZONS[0])
    assert told.low > 0.5
    assert told.p < 1e-6


def test_no_outcome_that_is_not_known_yet_corrects_a_claim(parts: list[Part]) -> None:
    [one, *others] = parts
    claims = softmax(np.random.default_rng(3).normal(size=(len(one.ts), 1, 3)))
    heads, cut = one.session.heads.copy(), N // 2
    heads["mid2"][cut:] = 2 * heads["mid2"][cut] - heads["mid2"][cut:]
    [other] = parts_of([msgspec.structs.replace(one.session, heads=heads)], PLAN)
    manifest = manifest_on(others)
    before, after = (scored(said_of(part, claims, manifest)) for part in (one, other))
    is_early = before.ts < int(heads["ts_recv"][cut])
    assert before.loss[is_early].tobytes() == after.loss[is_early].tobytes()
    assert before.loss[~is_early].tobytes() != after.loss[~is_early].tobytes()


def test_a_part_that_is_cut_keeps_each_row_with_what_became_of_it() -> None:
    part = part_of(6)
    one, other = part.cut(slice(0, 300)), part.cut(slice(300, None))
    assert len(one.ts) + len(other.ts) == len(part.ts)
    for name in ("rows", "label", "scaled"):
        halves = [getattr(half.sample, name) for half in (one, other)]
        assert np.concatenate(halves).tobytes() == getattr(part.sample, name).tobytes()
    assert (other.ts > one.ts[-1]).all()


@needs_trees
def test_the_tree_graph_says_what_the_trees_say(zoo: Zoo, parts: list[Part]) -> None:
    import lightgbm

    sample = pooled(parts)
    [ensemble] = fit_trees(sample, COLUMNS.odd, n_rounds=N_ROUNDS)
    assert (
        ensemble == fit_trees(sample, COLUMNS.odd, n_rounds=N_ROUNDS)[0]
    )  # training twice gives the same
    graph = zoo.tree_graph(parts)
    fresh = part_of(9).sample.rows
    both = mirrored(sample, COLUMNS.odd)
    known = both.label[:, 0] >= 0
    table = lightgbm.Dataset(both.rows[known], both.label[known, 0], params=dict(SETTINGS))
    own = lightgbm.train(dict(SETTINGS), table, N_ROUNDS).predict(fresh, num_threads=1)
    assert np.abs(claims_of(graph, fresh)[:, 0] - own).max() < 1e-5


@needs_trees
def test_a_mirrored_row_gets_the_mirrored_claim_of_turned_trees(
    linear: bytes, parts: list[Part]
) -> None:
    import lightgbm

    sample, odd = pooled(parts), COLUMNS.odd
    ensembles = fit_turned_trees(sample, odd, 0, n_rounds=N_ROUNDS)
    graph = with_logits(linear, *turned_nodes(ensembles, odd, 0))
    fresh = part_of(9).sample
    claims = claims_of(graph, fresh.rows)[:, 0]
    mirror = claims_of(graph, fresh.rows * np.where(odd, -1.0, 1.0))[:, 0]
    assert np.abs(claims - mirror[:, ::-1]).max() < 1e-15
    assert np.ptp(claims[:, 2] - claims[:, 0]) > 0.3  # they do speak of direction
    # Turned back, they are what LightGBM itself says of turned rows.
    own, known = turned(sample, odd, 0), sample.label[:, 0] >= 0
    table = lightgbm.Dataset(own.rows[known], own.label[known, 0], params=dict(SETTINGS))
    said = lightgbm.train(dict(SETTINGS), table, N_ROUNDS).predict(
        turned(fresh, odd, 0).rows, num_threads=1
    )
    is_turned = fresh.rows[:, :1] < 0.0
    assert np.abs(np.where(is_turned, said[:, ::-1], said) - claims).max() < 1e-5


def test_turning_twice_is_turning_once() -> None:
    once = turned(part_of(4).sample, COLUMNS.odd, 0)
    twice = turned(once, COLUMNS.odd, 0)
    assert (once.rows[:, 0] >= 0.0).all()
    assert once.rows.tobytes() == twice.rows.tobytes()
    assert once.label.tobytes() == twice.label.tobytes()
    assert once.scaled.tobytes() == twice.scaled.tobytes()


def test_soft_labels_that_are_the_labels_teach_the_same() -> None:
    sample = part_of(4).sample
    soft = np.eye(3)[np.maximum(sample.label, 0)]
    taught = Sample(rows=sample.rows, label=sample.label, scaled=sample.scaled, soft=soft)
    graphs = [
        graph_of(fit_path(one, (Penalty(0.01),), COLUMNS).network([(0,)], [(0,)]))
        for one in (sample, taught)
    ]
    assert graphs[0] == graphs[1]
    with pytest.raises(ValueError, match="every session"):
        pool([sample, taught])


def test_a_share_of_nought_changes_nothing_and_a_share_takes_its_part(
    linear: bytes, parts: list[Part]
) -> None:
    graph, rows = linear, parts[0].sample.rows
    full = claims_of(graph, rows)
    for make in (pruned, narrowed):
        assert np.abs(claims_of(make(graph, 0.0), rows) - full).max() < 1e-6
    assert abs(_nonzero(pruned(graph, 0.5)) - 0.5 * _nonzero(graph)) <= 2
    half = narrowed(graph, 0.5)
    assert _nonzero(half) < 0.8 * _nonzero(graph)
    assert claims_of(half, rows).shape == full.shape


def _nonzero(graph: bytes) -> int:
    import onnx
    from onnx import numpy_helper

    held = onnx.load_from_string(graph).graph.initializer
    return sum(
        int(np.count_nonzero(numpy_helper.to_array(one))) for one in held if len(one.dims) == 2
    )


@pytest.mark.parametrize("way", ["static", "dynamic"])
def test_int8_is_near_the_full_model(way: str, linear: bytes, parts: list[Part]) -> None:
    graph, rows = linear, parts[0].sample.rows
    makes: dict[str, Callable[[], bytes]] = {
        "static": lambda: static_int8(graph, rows),
        "dynamic": lambda: dynamic_int8(graph),
    }
    small = makes[way]()
    assert small != graph
    full, said = claims_of(graph, rows), claims_of(small, rows, one_by_one=way == "dynamic")
    assert 0.0 < np.abs(said - full).max() < 0.1
