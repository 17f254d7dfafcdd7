"""What a model costs and what is lost as it is made smaller: size, time, energy, skill.

Cost is measured on the artifact's own graph, alone on one core, through the fastest way there is for each
variant. What is lost is measured on training sessions left out: the same kind of model is fitted on
the others, made smaller the same way, and held against its full self.
"""

import resource
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import MODEL_FILE, WEIGHTS_FILE, Manifest, load_artifact
from finllm.edge.check import row_us
from finllm.edge.model import EdgeModel
from finllm_lab.export import write_artifact, write_graph
from finllm_lab.zoo.compare import Zoo
from finllm_lab.zoo.graphs import claims_of
from finllm_lab.zoo.material import Material
from finllm_lab.zoo.parts import Claims, Gain, Part, gain, pooled, scores
from finllm_lab.zoo.smaller import dynamic_int8, narrowed, pruned, static_int8

Array = NDArray[np.float64]
Make = Callable[[bytes], bytes]
Say = Callable[[str], None]

FULL: Final = "full"
DYNAMIC: Final = "int8 dynamic"
STUDENT: Final = "distilled"
SHARES: Final = (0.25, 0.5, 0.75)
LINEAR, DENSE = "linear", "dense"
WATTS: Final = 10.0
"""Of one busy core, where the machine does not say: a server's 150 to 300 W over its 16 to 32 cores."""
RAPL: Final = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
N_CALIBRATE: Final = 2_000
N_ENERGY: Final = 5_000
N_TURNS: Final = 5
"""Whoever else runs here makes a turn dearer, never cheaper."""
N_TIMED: Final = 3_000


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant costs."""

    name: str
    way: str
    """`kernel` or `onnx runtime`."""
    size: int
    """Bytes of the file that is served."""
    p50_us: float
    """Of one row alone, the least of some turns; so is `p99_us`."""
    p99_us: float
    joules_per_million: float
    """Joules a million rows."""
    energy_by: str
    """How the energy was found."""
    is_batch_invariant: bool
    """Whether rows get the same bits alone and together; if not, it must be run row by row."""


class Shrunk(msgspec.Struct, frozen=True, kw_only=True):
    """One variant: its cost, and by horizon what it gains (below nought: loses) against the full model."""

    cost: Cost
    gains: dict[str, Gain]


def kind_of(graph: bytes, place: str) -> str:
    """Return whether a graph is the pooled linear network or the zoo's dense one.

    Raises:
        InputError: If it is neither: then nothing here could be fitted anew without a session.
    """
    import onnx

    names = {one.name for one in onnx.load_from_string(graph).graph.initializer}
    if "dense_w0" in names:
        return DENSE
    if "order" not in names and "weights" in names:
        return LINEAR
    raise InputError(
        "it is neither a linear nor a dense network of this workshop",
        place=place,
        mend="Give an artifact of finllm_lab train book or finllm_lab train heavier --model dense.",
    )


def variants(rows: Array) -> dict[str, Make]:
    """Return the ways to make a graph smaller, the full one first.

    Args:
        rows: float64 [n, F], on which static int8 fixes its ranges.
    """
    chosen = rows[:: max(1, len(rows) // N_CALIBRATE)]
    made: dict[str, Make] = {
        FULL: lambda graph: graph,
        "int8 static": lambda graph: static_int8(graph, chosen),
        DYNAMIC: dynamic_int8,
    }
    for share in SHARES:
        made[f"pruned {share:.0%}"] = partial(pruned, share=share)
        made[f"columns {share:.0%}"] = partial(narrowed, share=share)
    return made


def shrink(folder: Path, found: Material, zoo: Zoo, say: Say) -> list[Shrunk]:
    """Return what an artifact's variants cost and lose.

    Args:
        folder: Of the artifact.
        found: Training sessions.
        zoo: Fits the same kind of model anew.
        say: Told what is being done.

    Raises:
        ArtifactError: If it cannot be loaded.
        InputError: If it is no kind that is known here, or speaks of other horizons.
    """
    spec = found.plan.spec
    artifact = load_artifact(folder, spec=spec)
    if artifact.horizons != found.plan.horizons:
        raise InputError(
            f"its horizons are not those of the {found.plan.name} recordings",
            place=str(folder),
            mend="Say which recordings it was trained on: --on book or --on ticks.",
        )
    graph = (folder / MODEL_FILE).read_bytes()
    kind = kind_of(graph, str(folder))
    sample = pooled(found.parts)
    made = variants(sample.rows)
    gains = _gains(kind, found, zoo, say)
    graphs = {name: make(graph) for name, make in made.items()}
    graphs[STUDENT] = zoo.student_graph(found.parts, kind)
    costs = _costs(graphs, artifact.manifest, spec, sample.rows, say)
    return [Shrunk(cost=cost, gains=gains[cost.name]) for cost in costs]


def _gains(kind: str, found: Material, zoo: Zoo, say: Say) -> dict[str, dict[str, Gain]]:
    """Return each variant's gain by horizon on the sessions left out."""

    def fit_all(left_out: str, fit_on: Sequence[Part]) -> dict[str, Claims]:
        say(f"fitting, leaving {left_out} out")
        sample = pooled(fit_on)
        full = zoo.linear_graph(sample) if kind == LINEAR else zoo.dense_graph(fit_on)
        graphs = {name: make(full) for name, make in variants(sample.rows).items()}
        graphs[STUDENT] = zoo.student_graph(fit_on, kind)
        return {name: _claims(graph, alone=name == DYNAMIC) for name, graph in graphs.items()}

    made = scores(found.parts, found.plan, fit_all)
    return {
        name: {
            horizon.name: gain(one, full, horizon)
            for horizon, one, full in zip(found.plan.horizons, own, made[FULL], strict=True)
        }
        for name, own in made.items()
    }


def _claims(graph: bytes, *, alone: bool) -> Claims:
    return lambda part: claims_of(graph, part.rows, one_by_one=alone)


def _costs(
    graphs: Mapping[str, bytes], manifest: Manifest, spec: FeatureSpec, rows: Array, say: Say
) -> list[Cost]:
    """Measure every graph in turn, and that some times: a bad moment then meets each of them once."""
    served = {name: _served(graph, manifest, spec) for name, graph in graphs.items()}
    few = rows[:: max(1, len(rows) // 500)]
    turns = np.empty((N_TURNS, len(served), 3))
    for turn in range(N_TURNS):
        say(f"measuring, turn {turn + 1} of {N_TURNS}")
        for i, (model, _) in enumerate(served.values()):
            turns[turn, i] = *row_us(model.infer, few, N_TIMED), _joules(model, few)
    by = f"modelled: CPU seconds x {WATTS:g} W a core"
    if _counter() is not None:
        by = "measured: RAPL, package 0, others included"
    costs = []
    for (name, (model, file)), (p50, p99, joules) in zip(
        served.items(), turns.min(axis=0).tolist(), strict=True
    ):
        alone = np.concatenate([model.infer(few[i : i + 1]) for i in range(len(few))])
        cost = Cost(
            name=name,
            way="kernel" if file.name == WEIGHTS_FILE else "onnx runtime",
            size=file.n_bytes,
            p50_us=p50,
            p99_us=p99,
            joules_per_million=joules,
            energy_by=by,
            is_batch_invariant=alone.tobytes() == model.infer(few).tobytes(),
        )
        costs.append(cost)
    return costs


class _File(msgspec.Struct, frozen=True):
    """What is served."""

    name: str
    n_bytes: int


def _served(graph: bytes, manifest: Manifest, spec: FeatureSpec) -> tuple[EdgeModel, _File]:
    """Return a graph as the edge would load it, the fastest way that it has."""
    with TemporaryDirectory() as held:
        folder, name = Path(held), MODEL_FILE
        if _is_plain(graph):
            write_artifact(folder, manifest, graph)
            name = WEIGHTS_FILE
        else:
            write_graph(folder, manifest, graph)
        model = load_artifact(folder, spec=spec).model
        return model, _File(name, (folder / name).stat().st_size)


def _is_plain(graph: bytes) -> bool:
    """Return whether a graph is the pooled linear network as it was exported: then it has a kernel."""
    import onnx

    held = onnx.load_from_string(graph).graph
    names = {one.name for one in held.initializer}
    ops = {node.op_type for node in held.node}
    return {"centre", "weights"} <= names and not ops & {
        "Gather", "QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear",
    }  # fmt: skip


def _joules(model: EdgeModel, rows: Array) -> float:
    """Return joules a million rows, each alone."""
    singles = [rows[i : i + 1] for i in range(len(rows))]
    before, started = _counter(), _cpu_s()
    for i in range(N_ENERGY):
        model.infer(singles[i % len(singles)])
    used, after = WATTS * (_cpu_s() - started), _counter()
    if before is not None and after is not None:
        # A counter that went round says nothing: another turn will be the least.
        used = (after - before) * 1e-6 if after > before else np.inf
    return used * 1e6 / N_ENERGY


def _counter() -> int | None:
    """Return the processor's energy counter, microjoules; None where it cannot be read."""
    try:
        return int(RAPL.read_text())
    except (OSError, ValueError):
        return None


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
