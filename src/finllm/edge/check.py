"""Whether a model may serve: every promise of an artifact held to what its files do.

Each check gives a figure and, where it fails, the mend. The first ones read files; those that need the
model running follow only if it loads. Knows no market and needs no recording: rows are drawn at random,
for what is asked is whether the model is sound, not whether it is right.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.checks import Check
from finllm.domain.errors import ArtifactError
from finllm.domain.label import BANDS
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import (
    MODEL_FILE,
    Artifact,
    HorizonPrior,
    Manifest,
    load_artifact,
    open_model,
    read_manifest,
)
from finllm.edge.model import N_CLASSES, EdgeModel
from finllm.edge.onnx import CPU, OnnxModel
from finllm.runtime.clock import stopwatch_ns

TOLERANCE: Final = 1e-5
"""Two runtimes may differ by this, absolutely below one and relatively above."""
EDGE_SHARE: Final = 1e-3
"""Share of claims that may stand on the edge of a dead zone, where one runtime says nought."""
N_ROWS: Final = 512
BATCHES: Final = (1, 2, 3, 7, 64, N_ROWS)
N_TIMED: Final = 5_000
N_WARM: Final = 500
SCALES: Final = (0.1, 1.0, 3.0)
WILD: Final = 1e30
LICENCES: Final = frozenset("ANU")

Rows = NDArray[np.float64]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a model may cost."""

    us: float = 50.0
    """Median microseconds of one row, alone, through its own fastest way."""
    kb: float = 2_000.0
    """All its files, kilobytes of 1,000 bytes."""


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one artifact."""

    folder: str
    version: str
    spec: str
    """Name of the feature spec that it reads; empty if it reads none that is known."""
    checks: list[Check]

    @property
    def ok(self) -> bool:
        """Return whether every check holds."""
        return all(check.ok for check in self.checks)


def check_model(
    folder: Path, specs: Sequence[FeatureSpec], *, limits: Limits | None = None, seed: int = 0
) -> ModelReport:
    """Hold an artifact to its promises; what keeps it from loading ends the list.

    Args:
        folder: With `manifest.json` and `model.onnx`.
        specs: Feature specs that rows are made of here.
        limits: What it may cost.
        seed: Of the rows that it is asked about.
    """
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        mend = "Copy the manifest of a shipped artifact beside model.onnx and change it."
        failed = Check(name="manifest", ok=False, figure=str(error), mend=mend)
        return ModelReport(folder=str(folder), version="", spec="", checks=[failed])
    spec = _spec_of(manifest, specs)
    checks = [
        Check(name="manifest", ok=True, figure=f"format {manifest.format}, {manifest.version}"),
        _calibration(manifest),
        _card(manifest),
    ]
    try:
        artifact = load_artifact(folder, spec=spec)
        graph = open_model(folder, manifest, provider=CPU)
    except ArtifactError as error:
        mend = "Rebuild it on this version's features, and write the manifest after the files."
        checks.append(Check(name="loads", ok=False, figure=str(error), mend=mend))
    else:
        figure = (
            f"{len(spec)} columns of {spec.name} v{spec.version}, {len(graph.horizons)} horizons"
        )
        checks.append(Check(name="loads", ok=True, figure=f"hashes, spec and signature: {figure}"))
        checks += _running(artifact, graph, limits or Limits(), np.random.default_rng(seed))
    known = spec.name if manifest.spec_hash == spec.hash else ""
    return ModelReport(folder=str(folder), version=manifest.version, spec=known, checks=checks)


def _spec_of(manifest: Manifest, specs: Sequence[FeatureSpec]) -> FeatureSpec:
    """Return the spec that a manifest means: by hash, else the one that shares most columns."""
    columns = set(manifest.columns)
    return max(specs, key=lambda s: (s.hash == manifest.spec_hash, len(columns & set(s.columns))))


# -- what the manifest says --------------------------------------------------------------------------


def _calibration(manifest: Manifest) -> Check:
    faults = [
        f"{prior.horizon.name}: {fault}"
        for prior in manifest.priors
        for fault in (*_faults(prior), *_pooled_faults(prior))
    ]
    learning = manifest.learning
    if min(learning.refit_ns, learning.grid_s, learning.prior_n, learning.baseline_prior_n) <= 0:
        faults.append("learning: refit_ns, grid_s, prior_n and baseline_prior_n must be above 0")
    if not (learning.widen >= 1.0 and learning.widen_n > 0.0 and learning.half_life_n >= 0.0):
        faults.append("learning: widen must be 1 or more, widen_n above 0, half_life_n 0 or more")
    if len(manifest.inputs) not in {0, len(manifest.columns)}:
        faults.append(f"inputs: {len(manifest.inputs)} for {len(manifest.columns)} columns")
    return Check(
        name="calibration",
        ok=not faults,
        figure="; ".join(faults) or f"sound at {len(manifest.priors)} horizons",
        mend="State each horizon's prior as fitted on the training part." if faults else "",
    )


def _faults(prior: HorizonPrior) -> Iterator[str]:
    p, q = np.array(prior.climatology), np.array(prior.climatology_q)
    if not ((p > 0.0).all() and abs(p.sum() - 1.0) < 1e-6):
        yield f"climatology {prior.climatology} is no distribution"
    if not (np.isfinite(q).all() and (np.diff(q) >= 0.0).all()):
        yield f"climatology_q {prior.climatology_q} is not ordered"
    for name in ("ewma_scale", "move_scale", "direction_scale", "width_scale"):
        if not 0.0 < getattr(prior, name) < np.inf:
            yield f"{name} {getattr(prior, name)} is not above 0"
    if not np.isfinite([prior.tilt_c, prior.move_offset, *prior.baseline_logit]).all():
        yield "tilt_c, move_offset or baseline_logit is not finite"
    if prior.horizon.band not in BANDS:
        yield f"band {prior.horizon.band!r} is none of {', '.join(BANDS)}"


def _pooled_faults(prior: HorizonPrior) -> Iterator[str]:
    """Yield what is wrong with how a claim is pooled, and with the sizes that its classes imply."""
    for name in ("trust_p", "trust_q"):
        if not 0.0 <= getattr(prior, name) <= 1.0:
            yield f"{name} {getattr(prior, name)} is no share"
    moves, flats = np.array(prior.move_sizes), np.array(prior.flat_sizes)
    if not ((np.diff(moves) >= 0.0).all() and moves[0] >= 0.99 and np.isfinite(moves).all()):
        yield f"move_sizes {prior.move_sizes} do not rise from the band, 1"
    if not ((np.diff(flats) >= 0.0).all() and flats[0] == 0.0 and flats[-1] <= 1.01):
        yield f"flat_sizes {prior.flat_sizes} do not rise from 0 to the band, 1, at most"


def _card(manifest: Manifest) -> Check:
    empty = [name for name in manifest.card.__struct_fields__ if not getattr(manifest.card, name)]
    if manifest.card.licence_class not in LICENCES:
        empty.append(f"licence_class (one of {', '.join(sorted(LICENCES))})")
    return Check(
        name="card",
        ok=not empty,
        figure=f"not stated: {', '.join(empty)}" if empty else "complete",
        mend="State it in the manifest's card: who takes the model must be able to read it."
        if empty
        else "",
    )


# -- what the model does -----------------------------------------------------------------------------


def _running(
    artifact: Artifact, graph: EdgeModel, limits: Limits, rng: np.random.Generator
) -> list[Check]:
    width = len(artifact.spec)
    rows = rng.normal(size=(N_ROWS, width)) * rng.choice(SCALES, size=(N_ROWS, 1))
    model, order = artifact.model, rng.permutation(N_ROWS)
    return [
        _parity(artifact, graph, rows),
        _same("determinism", "the same rows again, and in another order", model, rows, order),
        _batches(model, rows),
        _nan(model, rows),
        _wild(model, rng.standard_t(2, (N_ROWS, width)) * WILD),
        _speed(model, rows, limits),
        _size(artifact.folder, limits),
    ]


def _parity(artifact: Artifact, graph: EdgeModel, rows: Rows) -> Check:
    manifest = artifact.manifest
    ways = "compiled kernel against ONNX Runtime"
    other = graph
    if not manifest.weights_sha256:
        ways = "ONNX Runtime against itself without rewriting the graph"
        other = OnnxModel(
            (artifact.folder / MODEL_FILE).read_bytes(),
            n_features=len(manifest.columns),
            spec_hash=manifest.spec_hash,
            horizons=manifest.horizons,
            version=manifest.version,
            is_optimised=False,
        )
    one, two = artifact.model.infer(rows), other.infer(rows)
    apart = np.abs(one - two) / np.maximum(1.0, np.abs(one))
    is_edge = (apart > TOLERANCE) & ((one == 0.0) | (two == 0.0))
    is_edge[..., :N_CLASSES] = False
    most, edge = float(apart[~is_edge].max()), float(is_edge.mean())
    ok = most <= TOLERANCE and edge <= EDGE_SHARE
    figure = f"{ways}: {most:.1e} apart at most, {edge:.2%} on the edge of a dead zone"
    return Check(
        name="parity", ok=ok, figure=figure,
        mend="" if ok else "Export in float32 and rebuild weights.npy from the same numbers.",
    )  # fmt: skip


def _is_same(one: Rows, two: Rows) -> bool:
    return one.tobytes() == two.tobytes()


def _same(name: str, figure: str, model: EdgeModel, rows: Rows, order: NDArray[np.int64]) -> Check:
    first = model.infer(rows)
    ok = _is_same(first, model.infer(rows)) and _is_same(first[order], model.infer(rows[order]))
    return Check(
        name=name, ok=ok, figure=f"{figure}: {'the same bits' if ok else 'other bits'}",
        mend="" if ok else "Take out whatever draws numbers or keeps state: a row stands for itself.",
    )  # fmt: skip


def _batches(model: EdgeModel, rows: Rows) -> Check:
    alone = np.concatenate([model.infer(rows[i : i + 1]) for i in range(len(rows))])
    broken = []
    for n in BATCHES:
        parts = [model.infer(rows[i : i + n]) for i in range(0, len(rows), n)]
        if not _is_same(alone, np.concatenate(parts)):
            broken.append(n)
    found = f"other bits in batches of {broken}" if broken else "the same bits"
    return Check(
        name="batch invariance",
        ok=not broken,
        figure=f"batches of {', '.join(map(str, BATCHES))}: {found}",
        mend="Leave out dynamic quantisation and whatever else looks at the whole batch."
        if broken
        else "",
    )


def _nan(model: EdgeModel, rows: Rows) -> Check:
    width, plain = rows.shape[1], model.infer(rows)
    silent = []
    for value in (np.nan, np.inf):
        for column in range(width):
            odd = rows[:3].copy()
            odd[1, column] = value
            raw = model.infer(odd)
            others = _is_same(raw[::2], plain[:3:2])
            if not (np.isnan(raw[1]).all() and others):
                silent.append(column)
    return Check(
        name="NaN in, NaN out",
        ok=not silent,
        figure=f"columns that were guessed at: {sorted(set(silent))}" if silent
        else f"{width} columns, NaN and infinity: no claim, neighbours untouched",
        mend="A feature that is not known must not become a claim." if silent else "",
    )  # fmt: skip


def _wild(model: EdgeModel, rows: Rows) -> Check:
    raw = model.infer(rows)
    total = np.abs(raw[..., :N_CLASSES].sum(axis=-1) - 1.0).max()
    ordered = bool((np.diff(raw[..., N_CLASSES:], axis=-1) >= 0.0).all())
    ok = bool(np.isfinite(raw).all()) and total < 1e-9 and ordered
    return Check(
        name="wild rows",
        ok=ok,
        figure=f"features of {WILD:g}: {'distributions' if ok else 'no distributions'}",
        mend="" if ok else "Clip the standardised features in the graph.",
    )


def _speed(model: EdgeModel, rows: Rows, limits: Limits) -> Check:
    p50, p99 = row_us(model.infer, rows)
    ok = p50 <= limits.us
    return Check(
        name="speed", ok=ok, figure=f"p50 {p50:.1f} us, p99 {p99:.1f} us a row; may take {limits.us:g}",
        mend="" if ok else "Shrink it (finllm_lab shrink), or allow more with --max-us.",
    )  # fmt: skip


def row_us(infer: Callable[[Rows], Rows], rows: Rows, n: int = N_TIMED) -> tuple[float, float]:
    """Return median and 99th percentile of one row alone, us, over n calls after warming up."""
    singles = [rows[i : i + 1] for i in range(len(rows))]
    took = np.zeros(n)
    for i in range(N_WARM):
        infer(singles[i % len(singles)])
    for i in range(n):
        row = singles[i % len(singles)]
        started = stopwatch_ns()
        infer(row)
        took[i] = stopwatch_ns() - started
    p50, p99 = np.percentile(took, (50, 99)) / 1_000.0
    return float(p50), float(p99)


def _size(folder: Path, limits: Limits) -> Check:
    kb = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1_000.0
    ok = kb <= limits.kb
    return Check(
        name="size", ok=ok, figure=f"{kb:,.1f} kB; may take {limits.kb:g}",
        mend="" if ok else "Shrink it (finllm_lab shrink), or allow more with --max-kb.",
    )  # fmt: skip
