"""Ways to make an ONNX graph smaller: int8, fewer weights, fewer columns and units.

They work on matrix products whose second factor is a constant, whatever the graph around them; a tree
ensemble is left as it is. Knows nothing of scores.

Source:
    Han et al. (2015), "Learning both weights and connections", for pruning by magnitude; ONNX Runtime,
    "Quantize ONNX models".
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pruned(graph: bytes, share: float) -> bytes:
    """Return a graph in which each product's smallest weights are nought.

    Args:
        graph: ONNX bytes.
        share: Of the weights of each product that are not nought already, 0 to 1.
    """
    model = _read(graph)
    for node in _products(model):
        weights = _held(model, node.input[1])
        size = np.abs(weights).reshape(-1)
        spoke = np.flatnonzero(size)
        gone = spoke[np.argsort(size[spoke], kind="stable")[: round(share * len(spoke))]]
        weights.reshape(-1)[gone] = 0.0
        _replace(model, node.input[1], weights)
    return _written(model)


def narrowed(graph: bytes, share: float) -> bytes:
    """Return a graph without each product's least inputs: hidden units go, other columns are not read.

    An input counts by the norm of its weights; a hidden unit by that of what enters it times that of what
    leaves it.

    Args:
        graph: ONNX bytes.
        share: Of the inputs of each product, 0 to 1; at least one is kept.
    """
    model = _read(graph)
    for node in list(_products(model)):
        weights = _held(model, node.input[1])
        before = _units_before(model, node)
        weight = np.linalg.norm(weights, axis=1)
        if before is not None:
            weight = weight * np.linalg.norm(_held(model, before.input[1]), axis=0)
        n_kept = max(1, round(len(weight) * (1.0 - share)))
        kept = np.sort(np.argsort(-weight, kind="stable")[:n_kept])
        _replace(model, node.input[1], weights[kept])
        if before is None:
            _gather(model, node, kept)
        else:
            _replace(model, before.input[1], _held(model, before.input[1])[:, kept])
            _replace(model, before.input[2], _held(model, before.input[2])[kept])
    return _written(model)


def static_int8(graph: bytes, rows: Array) -> bytes:
    """Return a graph whose products are int8, ranges fixed on some rows float64 [n, F]."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc] # an untyped class
        """Gives the rows once."""

        def __init__(self) -> None:
            self._left = iter([{"rows": rows.astype(np.float32)}])

        def get_next(self) -> Any:
            return next(self._left, None)

    with _files(graph) as (source, made):
        quantize_static(
            source, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["Gemm", "MatMul"],
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return made.read_bytes()


def dynamic_int8(graph: bytes) -> bytes:
    """Return a graph whose products are int8, ranges found anew in each call: to be run row by row."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _files(graph) as (source, made):
        quantize_dynamic(source, made, weight_type=QuantType.QInt8)
        return made.read_bytes()


@contextmanager
def _files(graph: bytes) -> Iterator[tuple[Path, Path]]:
    """Yield a file that holds a graph and one to be written, while the root logger holds its peace."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(
        logging.ERROR
    )  # the quantiser warns of pre-processing that these graphs do not need
    try:
        with TemporaryDirectory() as folder:
            source = Path(folder) / "source.onnx"
            source.write_bytes(graph)
            yield source, Path(folder) / "made.onnx"
    finally:
        root.setLevel(before)


def _read(graph: bytes) -> Any:
    import onnx

    return onnx.load_from_string(graph)


def _written(model: Any) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _products(model: Any) -> Iterator[Any]:
    """Yield the products by a constant matrix, in the graph's order."""
    constants = {one.name for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in {"Gemm", "MatMul"} and node.input[1] in constants:
            yield node


def _held(model: Any, name: str) -> Array:
    from onnx import numpy_helper

    [found] = [one for one in model.graph.initializer if one.name == name]
    value: Array = numpy_helper.to_array(found).astype(np.float64)
    return value


def _replace(model: Any, name: str, value: Array) -> None:
    from onnx import numpy_helper

    [found] = [one for one in model.graph.initializer if one.name == name]
    found.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def _units_before(model: Any, node: Any) -> Any:
    """Return the product whose units, bent by a ReLU, are a product's only use and input; else None."""
    made_by = {name: one for one in model.graph.node for name in one.output}
    relu = made_by.get(node.input[0])
    if relu is None or relu.op_type != "Relu":
        return None
    before = made_by.get(relu.input[0])
    users = [one for one in model.graph.node if node.input[0] in one.input]
    if before is None or before not in list(_products(model)) or len(users) != 1:
        return None
    return before if len(before.input) == 3 else None


def _gather(model: Any, node: Any, kept: NDArray[np.int64]) -> None:
    """Put a choice of columns before a product."""
    from onnx import helper, numpy_helper

    name, picked = f"{node.output[0]}_kept", f"{node.output[0]}_picked"
    model.graph.initializer.append(numpy_helper.from_array(kept.astype(np.int64), name))
    made = helper.make_node("Gather", [node.input[0], name], [picked], axis=1)
    model.graph.node.insert(list(model.graph.node).index(node), made)
    node.input[0] = picked
