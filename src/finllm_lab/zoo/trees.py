"""Gradient-boosted trees, one ensemble of three classes a horizon, and the one ONNX node that they are.

Source:
    Ke et al. (2017), "LightGBM"; ONNX operators, `ai.onnx.ml.TreeEnsembleRegressor`, version 3.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from finllm_lab.training import Sample

N_CLASSES: Final = 3
SETTINGS: Final[dict[str, Any]] = {
    "objective": "multiclass",
    "num_class": N_CLASSES,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "seed": 0,
    "verbosity": -1,
}
N_ROUNDS: Final = 80


def mirrored(sample: Sample, odd: NDArray[np.bool_]) -> Sample:
    """Return a sample and its mirror image: odd columns change sign, up and down change places."""
    sign = np.where(odd, -1.0, 1.0)
    label = np.where(sample.label >= 0, 2 - sample.label, -1)
    return Sample(
        rows=np.concatenate([sample.rows, sample.rows * sign]),
        label=np.concatenate([sample.label, label]),
        scaled=np.concatenate([sample.scaled, -sample.scaled]),
    )


def fit_trees(
    sample: Sample, odd: NDArray[np.bool_], *, n_rounds: int = N_ROUNDS
) -> list[dict[str, Any]]:
    """Return one ensemble a horizon, as LightGBM dumps it; the same sample gives the same."""
    return _boosted(mirrored(sample, odd), n_rounds)


def fit_turned_trees(
    sample: Sample, odd: NDArray[np.bool_], lead: int, *, n_rounds: int = N_ROUNDS
) -> list[dict[str, Any]]:
    """Return ensembles of rows turned so that their leading column is not negative; see `turned_nodes`."""
    return _boosted(turned(sample, odd, lead), n_rounds)


def turned(sample: Sample, odd: NDArray[np.bool_], lead: int) -> Sample:
    """Return a sample in which rows with a negative leading column are their own mirror images.

    Args:
        sample: Any.
        odd: bool [F], columns that change sign when bid and ask change places.
        lead: Index of the leading column, an odd one.
    """
    is_turned = sample.rows[:, lead] < 0.0
    sign = np.where(odd & is_turned[:, None], -1.0, 1.0)
    is_swapped = is_turned[:, None] & (sample.label >= 0)
    return Sample(
        rows=sample.rows * sign,
        label=np.where(is_swapped, 2 - sample.label, sample.label),
        scaled=np.where(is_turned[:, None], -sample.scaled, sample.scaled),
    )


def _boosted(sample: Sample, n_rounds: int) -> list[dict[str, Any]]:
    import lightgbm

    found = []
    for h in range(sample.label.shape[1]):
        known = sample.label[:, h] >= 0
        # Settings here as well: binning would take every core.
        table = lightgbm.Dataset(sample.rows[known], sample.label[known, h], params=dict(SETTINGS))
        found.append(lightgbm.train(dict(SETTINGS), table, n_rounds).dump_model())
    return found


class _Nodes:
    """The attributes of a tree ensemble, node by node."""

    def __init__(self) -> None:
        self.held: dict[str, list[Any]] = {
            name: []
            for name in (
                "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes",
                "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true",
                "target_treeids", "target_nodeids", "target_ids", "target_weights",
            )
        }  # fmt: skip
        self._n_trees = 0

    def add_tree(self, root: dict[str, Any], target: int) -> None:
        """Add one tree whose leaves speak for one target."""
        self._add(root, [0], target)
        self._n_trees += 1

    def _add(self, node: dict[str, Any], free: list[int], target: int) -> int:
        """Add a node and what hangs below it; return its number. `free` holds the next number."""
        number, held = free[0], self.held
        free[0] += 1
        held["nodes_treeids"].append(self._n_trees)
        held["nodes_nodeids"].append(number)
        row = len(held["nodes_nodeids"]) - 1
        is_leaf = "leaf_value" in node
        held["nodes_featureids"].append(0 if is_leaf else int(node["split_feature"]))
        held["nodes_values"].append(0.0 if is_leaf else _cut(node["threshold"]))
        held["nodes_modes"].append("LEAF" if is_leaf else "BRANCH_LEQ")
        held["nodes_missing_value_tracks_true"].append(0)
        held["nodes_truenodeids"].append(0)
        held["nodes_falsenodeids"].append(0)
        if is_leaf:
            held["target_treeids"].append(self._n_trees)
            held["target_nodeids"].append(number)
            held["target_ids"].append(target)
            held["target_weights"].append(float(node["leaf_value"]))
        else:
            held["nodes_truenodeids"][row] = self._add(node["left_child"], free, target)
            held["nodes_falsenodeids"][row] = self._add(node["right_child"], free, target)
        return number


def _cut(threshold: float) -> float:
    """Return the largest float32 no greater than a threshold: float32 columns are cut alike by both."""
    single = np.float32(threshold)
    if float(single) > threshold:
        single = np.nextafter(single, np.float32(-np.inf))
    return float(single)


def tree_nodes(
    ensembles: Sequence[dict[str, Any]], *, takes: str = "rows", gives: str = "logits"
) -> list[Any]:
    """Return the node from `rows` to `logits`, float32 [n, 3 H]."""
    from onnx import helper

    nodes = _Nodes()
    for h, ensemble in enumerate(ensembles):
        for i, tree in enumerate(ensemble["tree_info"]):
            nodes.add_tree(tree["tree_structure"], N_CLASSES * h + i % N_CLASSES)
    made = helper.make_node(
        "TreeEnsembleRegressor",
        [takes],
        [gives],
        domain="ai.onnx.ml",
        n_targets=N_CLASSES * len(ensembles),
        aggregate_function="SUM",
        post_transform="NONE",
        **nodes.held,
    )
    return [made]


def turned_nodes(
    ensembles: Sequence[dict[str, Any]], odd: NDArray[np.bool_], lead: int
) -> tuple[list[Any], dict[str, NDArray[np.float64]]]:
    """Return the nodes from `rows` to `logits` of trees fitted on turned rows, and their constants.

    A row whose leading column is negative is turned before the trees and its claim turned back after
    them, so that a mirrored row gets the mirrored claim to the bit, from half as many rows to fit on.
    """
    from onnx import helper

    width = N_CLASSES * len(ensembles)
    back = np.eye(width).reshape(len(ensembles), N_CLASSES, width)[:, ::-1].reshape(width, width)
    only = np.zeros((len(odd), 1))
    only[lead] = 1.0
    constants = {
        "turn_lead": only,
        "turn_sign": np.where(odd, -1.0, 1.0),
        "turn_back": back,
        "turn_nought": np.array(0.0),
    }
    nodes = [
        helper.make_node("MatMul", ["rows", "turn_lead"], ["lead"]),
        helper.make_node("Less", ["lead", "turn_nought"], ["is_turned"]),
        helper.make_node("Mul", ["rows", "turn_sign"], ["mirror"]),
        helper.make_node("Where", ["is_turned", "mirror", "rows"], ["turned"]),
        *tree_nodes(ensembles, takes="turned", gives="turned_logits"),
        helper.make_node("MatMul", ["turned_logits", "turn_back"], ["mirror_logits"]),
        helper.make_node("Where", ["is_turned", "mirror_logits", "turned_logits"], ["logits"]),
    ]
    return nodes, constants
