"""Which artifact serves in which regime: a bank, checked and warm before the first row.

A bank is a folder with `bank.json`: members by regime and a fallback for the rest, each an artifact's
folder of its own. A folder that holds an artifact is a bank of one. All members read one feature spec,
serve the same horizons and follow one regime rule, so that what was observed of a row chooses its member,
and nothing else does. Knows nothing of instruments or calibration.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError
from finllm.domain.identity import content_id
from finllm.domain.instrument import Horizon
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import (
    AUTO,
    Artifact,
    Manifest,
    RegimeRule,
    load_artifact,
    open_model,
    read_manifest,
)
from finllm.edge.model import RAW_WIDTH, EdgeModel
from finllm.edge.regime import NAMES

BANK_FILE: Final = "bank.json"
FORMAT: Final = 1
_SHARED: Final = ("spec_hash", "columns", "horizons", "sigma_column", "baseline_column", "regime")
"""What members must have in common."""


class BankManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bank's file."""

    format: int = FORMAT
    name: str
    members: Mapping[str, str]
    """Folder by regime, relative to the bank's; a regime left out is the fallback's."""
    fallback: str
    """Folder of the member for every other regime."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A bank's members as their manifests state them, checked against one another."""

    version: str
    folders: tuple[Path, ...]
    manifests: tuple[Manifest, ...]
    """Of each member, once; the fallback first."""
    by_regime: tuple[int, ...]
    """Which member serves each regime, in the order of `regime.NAMES`."""

    @property
    def horizons(self) -> tuple[Horizon, ...]:
        """Return the horizons that all serve."""
        return self.manifests[0].horizons

    @property
    def n_features(self) -> int:
        """Return the columns of a row."""
        return len(self.manifests[0].columns)


def read_bank(folder: Path) -> Chosen:
    """Return what a folder's bank consists of; an artifact's folder is a bank of one.

    Raises:
        ArtifactError: If a file is missing or broken, a regime is unknown, or members differ in what they
            must share; says in what.
    """
    path = folder / BANK_FILE
    if not path.exists():
        manifest = read_manifest(folder)
        return Chosen(
            version=manifest.version,
            folders=(folder,),
            manifests=(manifest,),
            by_regime=(0,) * len(NAMES),
        )
    try:
        bank = msgspec.json.decode(path.read_bytes(), type=BankManifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: {error}; write the bank anew") from error
    if bank.format != FORMAT:
        raise ArtifactError(f"{path}: format {bank.format}, this version reads {FORMAT}")
    unknown = sorted(set(bank.members) - set(NAMES))
    if unknown:
        raise ArtifactError(f"{path}: no regime is called {unknown}; known: {', '.join(NAMES)}")
    names = list(dict.fromkeys([bank.fallback, *(bank.members[r] for r in sorted(bank.members))]))
    folders = tuple(folder / name for name in names)
    manifests = tuple(read_manifest(held) for held in folders)
    for held, manifest in zip(folders, manifests, strict=True):
        _same(folders[0], manifests[0], held, manifest)
    by_regime = tuple(names.index(bank.members.get(regime, bank.fallback)) for regime in NAMES)
    version = content_id(*(manifest.version for manifest in manifests), *by_regime)[:8]
    return Chosen(
        version=f"{bank.name}-{version}", folders=folders, manifests=manifests, by_regime=by_regime
    )


def _same(first: Path, wanted: Manifest, folder: Path, found: Manifest) -> None:
    for what in _SHARED:
        a, b = getattr(wanted, what), getattr(found, what)
        if a != b:
            raise ArtifactError(
                f"{folder}: its {what} differs from that of {first}, and members of a bank must share"
                f" it: {_brief(b)}, not {_brief(a)}"
            )


def _brief(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Horizon):
        return ", ".join(f"{h.name} ({h.band})" for h in value)
    text = str(value)
    return text if len(text) < 200 else text[:200] + "..."


class Models:
    """A bank's models, warm: rows and their regimes in, raw claims out. For one caller at a time.

    Args:
        models: Each member's, the fallback's first.
        by_regime: Which serves each regime.
    """

    def __init__(self, models: Sequence[EdgeModel], by_regime: Sequence[int]) -> None:
        self._by_regime = np.array(by_regime, dtype=np.int64)
        self._models = list(models)
        self._alone = models[0] if len(models) == 1 else None

    def infer(self, rows: NDArray[np.float64], regimes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return raw claims, each by the member of the row's own regime.

        Args:
            rows: float64 [n, F].
            regimes: int64 [n], as observed: 0 to 2.

        Returns:
            float64 [n, H, 8]; see `EdgeModel.infer`.
        """
        if self._alone is not None:
            return self._alone.infer(rows)
        chosen = self._by_regime[regimes]
        first = int(chosen[0]) if len(chosen) else 0
        if len(chosen) < 2 or (chosen == first).all():
            return self._models[first].infer(rows)
        raw = np.empty((len(rows), len(self._models[0].horizons), RAW_WIDTH))
        for number, model in enumerate(self._models):
            mine = np.flatnonzero(chosen == number)
            if len(mine):
                raw[mine] = model.infer(np.ascontiguousarray(rows[mine]))
        return raw


def open_models(chosen: Chosen, *, provider: str = AUTO) -> Models:
    """Return a bank's models, warm.

    Raises:
        ArtifactError: As `open_model`.
    """
    models = [
        open_model(folder, manifest, provider=provider)
        for folder, manifest in zip(chosen.folders, chosen.manifests, strict=True)
    ]
    return Models(models, chosen.by_regime)


class Bank:
    """A loaded bank: artifacts, all warm, and which serves in which regime.

    Args:
        artifacts: Each member once, the fallback first.
        by_regime: Which serves each regime, in the order of `regime.NAMES`.
        version: Name and content hash; a bank of one has its artifact's.
        folder: Where it stands.
    """

    def __init__(
        self, artifacts: Sequence[Artifact], by_regime: Sequence[int], version: str, folder: Path
    ) -> None:
        self.artifacts = tuple(artifacts)
        self.by_regime = tuple(by_regime)
        self.version = version
        self.folder = folder
        self.models = Models([artifact.model for artifact in artifacts], by_regime)

    @property
    def spec(self) -> FeatureSpec:
        """Return the feature spec that every member reads."""
        return self.artifacts[0].spec

    @property
    def horizons(self) -> tuple[Horizon, ...]:
        """Return the horizons that every member serves, shortest first."""
        return self.artifacts[0].horizons

    @property
    def manifest(self) -> Manifest:
        """Return the fallback's manifest: whatever members share can be read there."""
        return self.artifacts[0].manifest

    @property
    def rule(self) -> RegimeRule:
        """Return the one regime rule."""
        return self.manifest.regime

    def infer(self, rows: NDArray[np.float64], regimes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return raw claims float64 [n, H, 8]; see `Models.infer`."""
        return self.models.infer(rows, regimes)


def alone(artifact: Artifact) -> Bank:
    """Return an artifact as a bank of one."""
    return Bank([artifact], (0,) * len(NAMES), artifact.version, artifact.folder)


def load_bank(folder: Path, *, spec: FeatureSpec, provider: str = AUTO) -> Bank:
    """Load a bank, or an artifact as a bank of one, that is to serve rows of a feature spec.

    Raises:
        ArtifactError: If a member is missing, changed or differs in what members share, or reads another
            spec; says what differs.
    """
    chosen = read_bank(folder)
    artifacts = [load_artifact(held, spec=spec, provider=provider) for held in chosen.folders]
    return Bank(artifacts, chosen.by_regime, chosen.version, folder)


def write_bank(folder: Path, bank: BankManifest) -> Chosen:
    """Write `bank.json` beside its members, and return what it consists of.

    Raises:
        ArtifactError: As `read_bank`.
    """
    text = msgspec.json.format(msgspec.json.encode(bank), indent=1)
    (folder / BANK_FILE).write_bytes(text + b"\n")
    return read_bank(folder)
