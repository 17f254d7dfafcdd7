"""The small artifact of `edge_toys` as fixtures."""

from pathlib import Path

import pytest

from edge_toys import COLUMNS, manifest_of, network_of, spec_of
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import Artifact, load_artifact
from finllm_lab.export import graph_of, write_artifact


@pytest.fixture
def spec() -> FeatureSpec:
    return spec_of(*COLUMNS)


@pytest.fixture
def folder(tmp_path: Path, spec: FeatureSpec) -> Path:
    write_artifact(tmp_path / "toy", manifest_of(spec), graph_of(network_of(spec)))
    return tmp_path / "toy"


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder, spec = tmp_path_factory.mktemp("toy"), spec_of(*COLUMNS)
    write_artifact(folder, manifest_of(spec), graph_of(network_of(spec)))
    return load_artifact(folder, spec=spec)
