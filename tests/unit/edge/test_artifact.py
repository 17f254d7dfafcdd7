"""An artifact loads only where everything fits, and says what does not."""

from pathlib import Path

import msgspec
import pytest

from finllm.domain.errors import ArtifactError
from finllm.domain.spec import Feature, FeatureSpec
from finllm.edge.artifact import SHIPPED, load_artifact, read_manifest, version_of
from finllm.edge.onnx import OnnxModel
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.book_spec import BOOK_SPEC


def _edit(folder: Path, **changes: object) -> None:
    manifest = msgspec.structs.replace(read_manifest(folder), **changes)
    manifest = msgspec.structs.replace(manifest, version=version_of(manifest))
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def test_a_fitting_artifact_loads(folder: Path, spec: FeatureSpec) -> None:
    artifact = load_artifact(folder, spec=spec)
    assert artifact.model.spec_hash == spec.hash
    assert artifact.version == artifact.model.version == artifact.manifest.version


@pytest.mark.parametrize(("name", "spec"), [("book", BOOK_SPEC), ("bar", BAR_SPEC)])
def test_the_shipped_artifacts_read_the_specs_that_the_features_write(
    name: str, spec: FeatureSpec
) -> None:
    artifact = load_artifact(SHIPPED[name], spec=spec)
    assert artifact.manifest.card.licence_class == "A"
    size = sum(path.stat().st_size for path in SHIPPED[name].iterdir())
    assert size <= 200_000


def test_a_missing_and_an_unknown_column_are_named(folder: Path) -> None:
    names = ("obi_1", "sigma", "a", "b", "z")
    other = FeatureSpec(
        name="other",
        version=1,
        features=tuple(Feature(name=n, unit="1", source="toy") for n in names),
    )
    with pytest.raises(ArtifactError, match=r"missing \['c'\].*\['z'\]"):
        load_artifact(folder, spec=other)


def test_two_columns_that_changed_places_are_named(folder: Path, spec: FeatureSpec) -> None:
    a, b, *rest = spec.features
    other = FeatureSpec(name="toy", version=1, features=(b, a, *rest))
    with pytest.raises(ArtifactError, match=r"column 0 is 'sigma'.*expects 'obi_1'"):
        load_artifact(folder, spec=other)


def test_another_unit_is_another_spec(folder: Path, spec: FeatureSpec) -> None:
    first = msgspec.structs.replace(spec.features[0], unit="ticks")
    other = FeatureSpec(name="toy", version=1, features=(first, *spec.features[1:]))
    with pytest.raises(ArtifactError, match="unit, window or"):
        load_artifact(folder, spec=other)


def test_a_changed_model_file_is_refused(folder: Path, spec: FeatureSpec) -> None:
    path = folder / "model.onnx"
    graph = bytearray(path.read_bytes())
    graph[len(graph) // 2] ^= 1
    path.write_bytes(graph)
    with pytest.raises(ArtifactError, match="changed after it was built"):
        load_artifact(folder, spec=spec)


def test_a_missing_folder_is_an_artifact_error(tmp_path: Path, spec: FeatureSpec) -> None:
    with pytest.raises(ArtifactError, match="needs a manifest"):
        load_artifact(tmp_path / "none", spec=spec)


@pytest.mark.parametrize("text", [b"{", b"\xff", b"{}", b'{"format": 1, "colour": "red"}'])
def test_a_broken_manifest_is_an_artifact_error(
    folder: Path, spec: FeatureSpec, text: bytes
) -> None:
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(ArtifactError, match="rebuild"):
        load_artifact(folder, spec=spec)


def test_another_format_is_refused(folder: Path, spec: FeatureSpec) -> None:
    _edit(folder, format=2)
    with pytest.raises(ArtifactError, match="format 2"):
        load_artifact(folder, spec=spec)


def test_a_manifest_that_goes_by_another_models_name_is_refused_with_the_right_one(
    folder: Path, spec: FeatureSpec
) -> None:
    manifest = read_manifest(folder)
    first, *rest = manifest.priors
    priors = (msgspec.structs.replace(first, trust_p=0.25), *rest)
    other = msgspec.structs.replace(manifest, priors=priors)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(other))
    with pytest.raises(ArtifactError, match=version_of(other)):
        load_artifact(folder, spec=spec)


def test_a_column_that_the_spec_lacks_is_refused(folder: Path, spec: FeatureSpec) -> None:
    _edit(folder, sigma_column="vol")
    with pytest.raises(ArtifactError, match="'vol'"):
        load_artifact(folder, spec=spec)


def test_horizons_out_of_order_are_refused(folder: Path, spec: FeatureSpec) -> None:
    _edit(folder, priors=read_manifest(folder).priors[::-1])
    with pytest.raises(ArtifactError, match="shortest first"):
        load_artifact(folder, spec=spec)


def test_a_graph_of_another_width_is_refused(folder: Path, spec: FeatureSpec) -> None:
    _edit(folder, priors=read_manifest(folder).priors[:2])
    with pytest.raises(ArtifactError, match=r"float32 \(14, 24\), not float32 \(14, 16\)"):
        load_artifact(folder, spec=spec)
    _edit(folder, weights_sha256="")
    with pytest.raises(ArtifactError, match="24 numbers a row, not 16"):
        load_artifact(folder, spec=spec)


def test_bytes_that_are_no_graph_are_refused(folder: Path, spec: FeatureSpec) -> None:
    from hashlib import sha256

    (folder / "model.onnx").write_bytes(b"no graph")
    _edit(folder, model_sha256=sha256(b"no graph").hexdigest(), weights_sha256="")
    with pytest.raises(ArtifactError, match="cannot load"):
        load_artifact(folder, spec=spec)


def test_weights_that_are_no_weights_are_refused(folder: Path, spec: FeatureSpec) -> None:
    from hashlib import sha256

    (folder / "weights.npy").write_bytes(b"no weights")
    with pytest.raises(ArtifactError, match=r"weights\.npy: sha256"):
        load_artifact(folder, spec=spec)
    _edit(folder, weights_sha256=sha256(b"no weights").hexdigest())
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_artifact(folder, spec=spec)


def test_a_provider_that_is_not_there_is_named_with_those_that_are(
    folder: Path, spec: FeatureSpec
) -> None:
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(
            ArtifactError, match=rf"{provider}.*CPUExecutionProvider.*edge\.provider"
        ):
            load_artifact(folder, spec=spec, provider=provider)
    with pytest.raises(ArtifactError, match="'gpu'; known: auto, cpu, cuda, tensorrt"):
        load_artifact(folder, spec=spec, provider="gpu")
    assert type(load_artifact(folder, spec=spec, provider="cpu").model) is OnnxModel
