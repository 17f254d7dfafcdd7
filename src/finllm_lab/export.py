"""From fitted numbers to an artifact folder: an ONNX graph, a manifest, and nothing that varies.

The graph is standardise, clip, bend (a feature and its absolute value), one fp32 Gemm, a dead zone for
the quantiles (most short returns are exactly nought). The same
numbers give the same bytes, so training twice gives the same hash. Knows nothing of how the numbers
came about.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from finllm.edge.artifact import (
    FORMAT,
    MANIFEST_FILE,
    MODEL_FILE,
    WEIGHTS_FILE,
    Manifest,
    read_manifest,
    version_of,
)
from finllm.edge.linear import CLIP, Network, packed
from finllm_lab.cards import write_record

OPSET: Final = 17


def graph_of(network: Network) -> bytes:
    """Return a network as ONNX bytes: `rows` float32 [n, F] to `scores` float32 [n, 8 H]."""
    from onnx import TensorProto, helper, numpy_helper

    n_features, width = len(network.centre), len(network.bias)
    constants = {
        "centre": network.centre,
        "gain": 1.0 / network.spread,
        "low": np.array(-CLIP),
        "high": np.array(CLIP),
        "weights": network.weights,
        "bias": network.bias,
        "dead_zone": network.dead_zone,
        "nought": np.array(0.0),
    }
    nodes = [
        helper.make_node("Sub", ["rows", "centre"], ["moved"]),
        helper.make_node("Mul", ["moved", "gain"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["z"]),
        helper.make_node("Abs", ["z"], ["size"]),
        helper.make_node("Concat", ["z", "size"], ["bent"], axis=1),
        helper.make_node("Gemm", ["bent", "weights", "bias"], ["lines"]),
        helper.make_node("Abs", ["lines"], ["height"]),
        helper.make_node("Greater", ["height", "dead_zone"], ["speaks"]),
        helper.make_node("Where", ["speaks", "lines", "nought"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "edge",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", n_features])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    model: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    model.producer_name = ""
    model.producer_version = ""
    return bytes(model.SerializeToString(deterministic=True))


def network_of(graph: bytes) -> Network:
    """Return the network that `graph_of` wrote, to float32."""
    import onnx
    from onnx import numpy_helper

    held = {
        one.name: numpy_helper.to_array(one).astype(np.float64)
        for one in onnx.load_from_string(graph).graph.initializer
    }
    return Network(
        centre=held["centre"],
        spread=1.0 / held["gain"],
        weights=held["weights"],
        bias=held["bias"],
        dead_zone=held["dead_zone"],
    )


def write_artifact(folder: Path, manifest: Manifest, graph: bytes) -> Manifest:
    """Write `model.onnx`, its numbers as `weights.npy`, and `manifest.json`; fill in what is hashed.

    Returns:
        The manifest as written.
    """
    return write_graph(folder, manifest, graph, packed(network_of(graph)))


def write_graph(folder: Path, manifest: Manifest, graph: bytes, weights: bytes = b"") -> Manifest:
    """Write an artifact of any graph; without weights for the kernel ONNX Runtime serves it.

    Returns:
        The manifest as written.
    """
    complete = msgspec.structs.replace(
        manifest,
        format=FORMAT,
        model_sha256=sha256(graph).hexdigest(),
        weights_sha256=sha256(weights).hexdigest() if weights else "",
        version="",
    )
    complete = msgspec.structs.replace(complete, version=version_of(complete))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(graph)
    if weights:
        (folder / WEIGHTS_FILE).write_bytes(weights)
    else:
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    _write_manifest(folder, complete)
    return complete


def put_scores(folder: Path, scores: tuple[str, ...]) -> Manifest:
    """Write figures into an artifact's card, whatever serves it; nothing else of it changes.

    Returns:
        The manifest as written.

    Raises:
        ArtifactError: If there is no manifest to read.
    """
    manifest = read_manifest(folder)
    card = msgspec.structs.replace(manifest.card, scores=scores)
    complete = msgspec.structs.replace(manifest, card=card)
    _write_manifest(folder, complete)
    return complete


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_record(folder / MANIFEST_FILE, manifest, indent=1)
