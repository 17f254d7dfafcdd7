"""ONNX graphs of the zoo's models, and what they say of rows.

Every graph takes `rows` float32 [n, F] and gives `scores` float32 [n, 8 H], as the edge serves them. The
zoo's models have logits of their own; their quantiles are those of the pooled linear network.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.edge.linear import CLIP

Array = NDArray[np.float64]
ML_OPSET: Final = 3
RAW_WIDTH: Final = 8
N_CLASSES: Final = 3


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """A small network of dense layers, ReLU between, over standardised and clipped columns."""

    centre: Array
    """float64 [F]."""
    spread: Array
    """float64 [F]."""
    weights: tuple[Array, ...]
    """float64 [in, out] each."""
    biases: tuple[Array, ...]


def layers_nodes(layers: Layers) -> tuple[list[Any], dict[str, Array]]:
    """Return the nodes from `rows` to `logits`, and their constants."""
    from onnx import helper

    constants: dict[str, Array] = {
        "dense_centre": layers.centre,
        "dense_gain": 1.0 / layers.spread,
        "dense_low": np.array(-CLIP),
        "dense_high": np.array(CLIP),
    }
    nodes = [
        helper.make_node("Sub", ["rows", "dense_centre"], ["dense_moved"]),
        helper.make_node("Mul", ["dense_moved", "dense_gain"], ["dense_scaled"]),
        helper.make_node("Clip", ["dense_scaled", "dense_low", "dense_high"], ["dense_0"]),
    ]
    n = len(layers.weights)
    for i, (weights, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        constants[f"dense_w{i}"], constants[f"dense_b{i}"] = weights, bias
        last = i == n - 1
        out = "logits" if last else f"dense_sum{i}"
        names = [f"dense_{i}", f"dense_w{i}", f"dense_b{i}"]
        nodes.append(helper.make_node("Gemm", names, [out], name=f"dense_gemm{i}"))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"dense_{i + 1}"]))
    return nodes, constants


def with_logits(linear: bytes, nodes: Sequence[Any], constants: dict[str, Array]) -> bytes:
    """Return a linear network's graph whose logits are those of other nodes instead.

    Args:
        linear: The graph that gives the quantiles.
        nodes: From `rows` to `logits` float32 [n, 3 H]; no name of theirs may stand in `linear`.
        constants: Their float32 initialisers.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(linear)
    graph = model.graph
    width = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    n_horizons = width // RAW_WIDTH
    for node in graph.node:
        for i, name in enumerate(node.output):
            node.output[i] = "linear_scores" if name == "scores" else name
    own = np.arange(n_horizons * N_CLASSES).reshape(n_horizons, N_CLASSES)
    old = np.arange(width).reshape(n_horizons, RAW_WIDTH)[:, N_CLASSES:] + own.size
    order = np.concatenate([own, old], axis=1).reshape(-1).astype(np.int64)
    graph.node.extend(nodes)
    graph.node.extend(
        [
            helper.make_node("Concat", ["logits", "linear_scores"], ["both"], axis=1),
            helper.make_node("Gather", ["both", "order"], ["scores"], axis=1),
        ]
    )
    held = [(value.astype(np.float32), name) for name, value in constants.items()]
    graph.initializer.extend(numpy_helper.from_array(value, name) for value, name in held)
    graph.initializer.append(numpy_helper.from_array(order, "order"))
    if any(node.domain == "ai.onnx.ml" for node in nodes):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
    return bytes(model.SerializeToString(deterministic=True))


def session_of(graph: bytes) -> Any:
    """Return an ONNX Runtime session of a graph: one thread, no spinning, as the edge opens it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def claims_of(graph: bytes, rows: Array, *, one_by_one: bool = False) -> Array:
    """Return a graph's class probabilities, float64 [n, H, 3].

    Args:
        graph: The ONNX bytes.
        rows: float64 [n, F].
        one_by_one: Whether each row is asked alone, as a dynamically quantised graph must be.
    """
    session, single = session_of(graph), rows.astype(np.float32)
    step = 1 if one_by_one else max(1, len(single))
    scores = np.concatenate(
        [session.run(None, {"rows": single[i : i + step]})[0] for i in range(0, len(single), step)]
    )
    logits = scores.reshape(len(rows), -1, RAW_WIDTH)[..., :N_CLASSES].astype(np.float64)
    return softmax(logits)


def softmax(logits: Array) -> Array:
    """Return probabilities over the last axis."""
    lifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = lifted / lifted.sum(axis=-1, keepdims=True)
    return shares
