"""The zoo's graphs say what its models say, twice the same; nothing looks ahead; what shrinks, shrinks."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest

from finllm_lab.export import graph_of
from finllm_lab.training import Penalty, Sample, fit_path, pool
from finllm_lab.zoo.compare import PLAIN, Zoo, compare
from finllm_lab.zoo.graphs import claims_of, softmax, with_logits
from finllm_lab.zoo.parts import Part, gain, leave_one_out, pooled, scored
from finllm_lab.zoo.smaller import dynamic_int8, narrowed, pruned, static_int8
from finllm_lab.zoo.trees import (
    SETTINGS,
    fit_trees,
    fit_turned_trees,
    mirrored,
    turned,
    turned_nodes,
)
from zoo_market import COLUMNS, HORIZONS, N_ROUNDS, QUICK, N, part_of

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
    lines = {line.model: line for line in compare(parts, HORIZONS, picked, lambda _: None)}
    assert min(line.skill for line in lines.values()) > 0.05
    assert lines[PLAIN].gain.skill == 0.0
    blend = lines["blend"].gain
    assert blend.low < blend.skill < blend.high
    # A student of a sound teacher is nearly as good as one that learnt from what happened.
    assert abs(lines["student of trees"].gain.skill) < 0.03


def test_a_claim_of_nothing_has_no_skill_and_truth_has_much(parts: list[Part]) -> None:
    [one, *_] = parts
    flat = np.full((N, 1, 3), 1.0 / 3.0)
    known = np.eye(3)[np.maximum(one.sample.label, 0)] * 0.94 + 0.02
    nothing = scored([(one, flat)], 0, HORIZONS[0])
    truth = scored([(one, known)], 0, HORIZONS[0])
    assert abs(nothing.skill) < 0.02
    assert truth.skill > 0.8
    told = gain(truth, nothing, HORIZONS[0])
    assert told.low > 0.5
    assert told.p < 1e-6


def test_no_outcome_that_is_not_known_yet_corrects_a_claim(parts: list[Part]) -> None:
    [one, *_] = parts
    claims = softmax(np.random.default_rng(3).normal(size=(N, 1, 3)))
    before = scored([(one, claims)], 0, HORIZONS[0])
    cut = N // 2
    label = one.sample.label.copy()
    label[cut:] = 2 - np.maximum(label[cut:], 0)
    other = Part(
        name="x", instrument="x:Y", ts=one.ts,
        sample=Sample(rows=one.sample.rows, label=label, scaled=one.sample.scaled),
    )  # fmt: skip
    after = scored([(other, claims)], 0, HORIZONS[0])
    early = int(one.ts[cut])
    same = before.loss[before.ts < early].tobytes() == after.loss[after.ts < early].tobytes()
    assert same
    assert before.loss[before.ts >= early].tobytes() != after.loss[after.ts >= early].tobytes()


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
