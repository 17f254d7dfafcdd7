"""An edge model that stands in an ONNX file and runs in ONNX Runtime, on one thread.

The graph takes `rows` float32 [n, F] and gives `scores` float32 [n, 8 H]: for each horizon three
logits, then five quantiles in units of sigma * sqrt(horizon). It standardises its own input. Use
fp32 Gemm, MatMul, Conv or trees: dynamically quantised graphs answer otherwise in a batch than
alone. It runs on the CPU unless another provider is asked for; those are untested here, for want of a
GPU, and sum in other orders, so that a digest holds on one provider only.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError
from finllm.domain.instrument import Horizon
from finllm.edge.model import RAW_WIDTH, finish, narrow

CPU: Final = "cpu"
PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        CPU: ("CPUExecutionProvider",),
        "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
        "tensorrt": (
            "TensorrtExecutionProvider",
            "CUDAExecutionProvider",
            "CPUExecutionProvider",
        ),
    }
)
"""What ONNX Runtime calls each provider; the later ones run what the first cannot."""
N_WARM = 20
"""Calls at load, so that the first forecast does not pay for lazy allocation."""


class OnnxModel:
    """A network served by ONNX Runtime: one thread, no spinning, warm. For one caller at a time.

    Args:
        graph: The ONNX file's bytes.
        n_features: Columns of a row.
        spec_hash: Hash of the feature spec that it reads.
        horizons: Horizons served, in the order of the graph's output.
        version: Name and content hash.
        provider: Where it runs, one of `PROVIDERS`.
        is_optimised: Whether ONNX Runtime may rewrite the graph; it may not where one is checked
            against the other.

    Raises:
        ArtifactError: If the file is no graph, its input or output has another shape, or the provider
            is not there.
    """

    def __init__(
        self,
        graph: bytes,
        *,
        n_features: int,
        spec_hash: str,
        horizons: tuple[Horizon, ...],
        version: str,
        provider: str = CPU,
        is_optimised: bool = True,
    ) -> None:
        self.spec_hash = spec_hash
        self.horizons = horizons
        self.version = version
        self._n_features = n_features
        self._session = _open(graph, provider, is_optimised=is_optimised)
        _check(self._session, n_features, RAW_WIDTH * len(horizons))
        # One row's buffers, bound once: half the cost of `run` (tests/benchmarks/test_edge_speed.py).
        self._row = np.zeros((1, n_features), dtype=np.float32)
        self._scores = np.zeros((1, len(horizons), RAW_WIDTH), dtype=np.float32)
        self._binding = _bind(self._session, self._row, self._scores)
        try:
            for n in (1, 2):
                for _ in range(N_WARM):
                    self.infer(np.zeros((n, n_features)))
        except Exception as error:
            raise ArtifactError(f"ONNX Runtime cannot run the graph: {error}") from error

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw claims, float64 [n, H, 8], for rows float64 [n, F]. See `EdgeModel`."""
        if rows.ndim != 2 or rows.shape[1] != self._n_features:
            raise ArtifactError(
                f"rows have shape {rows.shape}, the model reads [n, {self._n_features}]"
            )
        raw = np.empty((len(rows), len(self.horizons), RAW_WIDTH))
        if len(rows) == 1:
            narrow(rows, self._row)
            self._session.run_with_iobinding(self._binding)
            finish(self._row, self._scores, raw)
        elif len(rows):
            single = np.empty(rows.shape, dtype=np.float32)
            narrow(rows, single)
            (scores,) = self._session.run(None, {"rows": single})
            finish(single, scores.reshape(raw.shape), raw)
        return raw


def _open(graph: bytes, provider: str, *, is_optimised: bool) -> Any:
    import onnxruntime

    wanted, found = PROVIDERS[provider], onnxruntime.get_available_providers()
    if wanted[0] not in found:
        raise ArtifactError(_not_there(provider, f"this ONNX Runtime has {', '.join(found)}"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    if not is_optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=list(wanted))
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime cannot load the graph: {error}") from error
    # Where a driver or a library is missing it falls back without a word.
    if (served := session.get_providers()[0]) != wanted[0]:
        raise ArtifactError(_not_there(provider, f"it could not start and fell back to {served}"))
    return session


def _not_there(provider: str, why: str) -> str:
    return (
        f"no model can run on {provider}: {why}; install onnxruntime-gpu in place of onnxruntime"
        " with the driver it asks for, or set edge.provider to auto"
    )


def _bind(session: Any, row: NDArray[np.float32], scores: NDArray[np.float32]) -> Any:
    binding = session.io_binding()
    width = (1, scores.size)
    binding.bind_input("rows", "cpu", 0, np.float32, row.shape, row.ctypes.data)
    name = session.get_outputs()[0].name
    binding.bind_output(name, "cpu", 0, np.float32, width, scores.ctypes.data)
    return binding


def _check(session: Any, n_features: int, width: int) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [i.name for i in inputs] != ["rows"] or len(outputs) != 1:
        raise ArtifactError("the graph must have one input named 'rows' and one output")
    if inputs[0].type != "tensor(float)" or outputs[0].type != "tensor(float)":
        raise ArtifactError("the graph's input and output must be float32")
    if isinstance(inputs[0].shape[0], int):
        raise ArtifactError(
            f"the graph takes exactly {inputs[0].shape[0]} rows at once; export it with a batch axis that"
            " is left open (dynamic_axes)"
        )
    if inputs[0].shape[-1] != n_features:
        raise ArtifactError(
            f"the graph reads {inputs[0].shape[-1]} columns, the spec has {n_features}"
        )
    if outputs[0].shape[-1] != width:
        raise ArtifactError(f"the graph gives {outputs[0].shape[-1]} numbers a row, not {width}")
