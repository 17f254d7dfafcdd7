"""Model artifacts: a folder with `model.onnx` and `manifest.json`, loaded only if everything fits.

The manifest says what the weights cannot: which feature spec they read, what is believed of each
horizon before a single outcome of the day is known, how to learn from outcomes, and where it all
came from. Knows nothing of training.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from finllm.domain.errors import ArtifactError
from finllm.domain.forecast import Quantiles, Triple
from finllm.domain.identity import content_id
from finllm.domain.instrument import Horizon
from finllm.domain.spec import FeatureSpec
from finllm.edge.linear import LinearModel
from finllm.edge.model import EdgeModel
from finllm.edge.onnx import CPU, PROVIDERS, OnnxModel
from finllm.edge.sizes import KNOTS

FORMAT: Final = 1
AUTO: Final = "auto"
"""The fastest way that an artifact offers: its compiled kernel, else its graph on the CPU."""
MODEL_FILE: Final = "model.onnx"
WEIGHTS_FILE: Final = "weights.npy"
MANIFEST_FILE: Final = "manifest.json"

SHIPPED: Final[Mapping[str, Path]] = MappingProxyType(
    {name: Path(__file__).parent / "artifacts" / name for name in ("book", "bar")}
)
"""The artifacts in this package, by name."""
DAY: Final = Path(__file__).parent / "artifacts" / "day"
"""The bar model of days, for settings that name it: the one that serves bars by itself is hourly."""


Sizes = tuple[float, float, float, float, float, float, float, float]
"""Sizes of returns at `KNOTS`, in half-widths of the flat band."""
MOVE_SIZES: Final[Sizes] = (1.0, 1.1, 1.29, 1.69, 2.39, 3.3, 4.51, 5.61)
"""Of an exponential tail beyond the band."""
FLAT_SIZES: Final[Sizes] = KNOTS
"""Of a uniform law within the band."""


class HorizonPrior(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is believed of one horizon before any outcome of the day."""

    horizon: Horizon
    tilt_c: float
    """What ln k is worth in log-odds of a move (see `finllm.domain.tilt`)."""
    climatology: Triple
    """Class frequencies on the training tapes."""
    climatology_q: Quantiles
    """Return quantiles on the training tapes, in units of sigma * sqrt(horizon)."""
    baseline_logit: tuple[float, float, float, float]
    """Constant and slope of log(p_down / p_flat), then of log(p_up / p_flat), on the baseline
    column."""
    ewma_scale: float
    """Standard deviations of the EWMA baseline's law per sigma_ewma * sqrt(horizon)."""
    move_offset: float = 0.0
    """First calibration: added to the log-odds of a move."""
    move_scale: float = 1.0
    direction_scale: float = 1.0
    """First calibration: multiplies log(p_up / p_down)."""
    width_scale: float = 1.0
    """First calibration: multiplies each quantile's deviation from the median."""
    move_sizes: Sizes = MOVE_SIZES
    """Of returns that left the band, on the training tapes."""
    flat_sizes: Sizes = FLAT_SIZES
    """Of those that did not; from nought."""
    trust_p: float = 1.0
    """Share of the model in what is said, the rest being climatology; 0 = it abstains."""
    trust_q: float = 1.0
    """Share of the model's own quantiles, the rest being what the probabilities imply."""


class Learning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How calibration and baselines learn from resolved outcomes."""

    refit_ns: int
    """Least time between two refits."""
    grid_s: float
    """Time between two forecasts on the grid: outcomes that overlap share their weight."""
    prior_n: float
    """Independent outcomes that the first calibration is worth."""
    baseline_prior_n: float
    """Independent outcomes that a baseline's prior is worth."""
    half_life_n: float
    """Independent outcomes after which one counts half in calibration; 0 = they never fade."""
    widen: float = 1.0
    """Factor on widths right after a switch of regime; 1 = none."""
    widen_n: float = 20.0
    """Independent outcomes since the switch by which half of the widening is gone."""


class RegimeRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How calm, active and stressed are told apart. See `finllm.edge.regime`."""

    row_s: float
    """Seconds that one row counts for; 0 = the time that really passed."""
    fast_s: float
    """Time constant of the fast volatility, which the EWMA baseline stands on."""
    slow_s: float
    """Time constant of the slow mean wait and variance, by which rows are measured."""
    least_n: float
    """Rows, faded over `slow_s`, that these must rest on before anything is said."""
    wait_s: float
    """Mean wait that an instrument is first taken to have."""
    step_bps: float
    """Deviation per row that it is first taken to have."""
    prior_s: float
    """Seconds of its own rows that these first beliefs are worth; 0 = nothing is believed at first."""
    small: float
    """Moves up to so many slow deviations per row are small."""
    large: float
    """Moves beyond so many are large."""
    confirm: float
    """Probability that another regime must reach before it is reported."""
    chain: tuple[tuple[float, ...], ...]
    """[3, 3]: probability of each regime one row after each."""
    table: tuple[tuple[float, ...], ...]
    """[80, 3]: likelihood of each symbol, after a short wait and after a long one, in each regime."""


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model came from and what it is good for."""

    data: tuple[str, ...]
    licence_class: str
    splits: str
    scores: tuple[str, ...]
    limits: tuple[str, ...]


EMPTY_CARD: Final = Card(data=(), licence_class="A", splits="", scores=(), limits=())
"""Stands in for the card where only what is served counts."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about an artifact but the weights."""

    format: int
    name: str
    version: str
    """Name and a hash of everything else but the card."""
    spec_hash: str
    columns: tuple[str, ...]
    """Feature names in order, so that a mismatch can be named."""
    sigma_column: str
    """The feature that scales returns: bps per root second."""
    baseline_column: str
    """The feature of the logistic baseline: touch imbalance, or the last return on bars."""
    priors: tuple[HorizonPrior, ...]
    """One per horizon, shortest first."""
    learning: Learning
    regime: RegimeRule
    inputs: tuple[tuple[float, float], ...] = ()
    """Mean and deviation of each column on the training tapes; none = inputs are not monitored."""
    card: Card
    model_sha256: str
    weights_sha256: str = ""
    """Of the same numbers for the compiled kernel; empty = the graph is served by ONNX Runtime."""

    @property
    def horizons(self) -> tuple[Horizon, ...]:
        """Return the horizons served, shortest first."""
        return tuple(prior.horizon for prior in self.priors)


class Artifact:
    """A loaded artifact: its manifest, the feature spec that it reads and the model behind it."""

    def __init__(
        self, manifest: Manifest, spec: FeatureSpec, model: EdgeModel, folder: Path
    ) -> None:
        self.manifest = manifest
        self.spec = spec
        self.model = model
        self.folder = folder

    @property
    def version(self) -> str:
        """Return the version that stands on every forecast."""
        return self.manifest.version

    @property
    def horizons(self) -> tuple[Horizon, ...]:
        """Return the horizons served, shortest first."""
        return self.manifest.horizons


def read_manifest(folder: Path) -> Manifest:
    """Return an artifact's manifest.

    Raises:
        ArtifactError: If it is missing, broken or of another format.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; an artifact needs a manifest") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: {error}; rebuild the artifact") from error
    if manifest.format != FORMAT:
        raise ArtifactError(f"{path}: format {manifest.format}, this version reads {FORMAT}")
    if manifest.version != (wanted := version_of(manifest)):
        raise ArtifactError(
            f"{path}: it calls itself {manifest.version!r}, but what it states makes it {wanted!r}; write"
            " that version, so that no two models go by one name"
        )
    return manifest


def version_of(manifest: Manifest) -> str:
    """Return the version that a manifest must state: its name, and a hash of all it states but the card."""
    behind = msgspec.structs.replace(manifest, card=EMPTY_CARD, version="")
    return f"{manifest.name}-{content_id(behind)[:8]}"


def load_artifact(folder: Path, *, spec: FeatureSpec, provider: str = AUTO) -> Artifact:
    """Load an artifact that is to serve rows of a feature spec.

    Args:
        folder: The artifact's folder.
        spec: The feature spec of the rows.
        provider: See `open_model`.

    Raises:
        ArtifactError: If a file is missing or changed, the provider is not there, or the artifact
            reads another spec; says what differs.
    """
    manifest = read_manifest(folder)
    _match(manifest, spec, folder)
    return Artifact(manifest, spec, open_model(folder, manifest, provider=provider), folder)


def open_model(folder: Path, manifest: Manifest, *, provider: str = AUTO) -> EdgeModel:
    """Return an artifact's model, warm.

    Args:
        folder: The artifact's folder.
        manifest: Its manifest.
        provider: `AUTO`, or where the ONNX graph is to run, one of `onnx.PROVIDERS`, even where there
            is a compiled kernel for it.

    Raises:
        ArtifactError: If a file is missing or was changed after it was built, or the provider is
            unknown or not there.
    """
    if provider != AUTO and provider not in PROVIDERS:
        known = ", ".join((AUTO, *PROVIDERS))
        raise ArtifactError(f"no provider is called {provider!r}; known: {known}")
    graph = _read(folder / MODEL_FILE, manifest.model_sha256)
    weights = _read(folder / WEIGHTS_FILE, manifest.weights_sha256)
    if provider == AUTO and manifest.weights_sha256:
        return LinearModel(
            weights,
            n_features=len(manifest.columns),
            spec_hash=manifest.spec_hash,
            horizons=manifest.horizons,
            version=manifest.version,
        )
    return OnnxModel(
        graph,
        n_features=len(manifest.columns),
        spec_hash=manifest.spec_hash,
        horizons=manifest.horizons,
        version=manifest.version,
        provider=CPU if provider == AUTO else provider,
    )


def _read(path: Path, stated: str) -> bytes:
    """Return a file's bytes, having seen that they are what the manifest states; none if nothing."""
    if not stated:
        return b""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from error
    found = sha256(body).hexdigest()
    if found != stated:
        raise ArtifactError(
            f"{path}: sha256 is {found[:12]}..., the manifest says {stated[:12]}...;"
            " the file was changed after it was built"
        )
    return body


def _match(manifest: Manifest, spec: FeatureSpec, folder: Path) -> None:
    wanted, given = manifest.columns, tuple(spec.columns)
    if wanted != given:
        raise ArtifactError(
            f"{folder}: reads other features than {spec.name}: {_differ(wanted, given)}"
        )
    if manifest.spec_hash != spec.hash:
        raise ArtifactError(
            f"{folder}: same column names, but the spec {spec.name} v{spec.version} has hash"
            f" {spec.hash}, the artifact was built on {manifest.spec_hash} (a unit, window or"
            " source differs)"
        )
    for name in (manifest.sigma_column, manifest.baseline_column):
        if name not in spec.columns:
            raise ArtifactError(f"{folder}: names the column {name!r}, which {spec.name} has not")
    lengths = [horizon.nominal_s for horizon in manifest.horizons]
    if not lengths or lengths != sorted(set(lengths)):
        raise ArtifactError(
            f"{folder}: horizons must be stated once each, shortest first: {lengths}"
        )


def _differ(wanted: tuple[str, ...], given: tuple[str, ...]) -> str:
    missing = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in wanted]
    if missing or extra:
        return f"missing {missing}, not known to the model {extra}"
    at = next(i for i, (a, b) in enumerate(zip(wanted, given, strict=True)) if a != b)
    return f"column {at} is {given[at]!r}, the model expects {wanted[at]!r} there"
