"""Fixtures that several rooms' tests share."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from finllm.app.replay import Inputs, Summary, replay
from finllm.app.settings import Settings, load_settings
from finllm.domain.identity import canonical
from finllm.market.synthetic import SyntheticMarket, generate

SHARED = Path(__file__).parents[2] / "shared" / "data"

hypothesis_settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
hypothesis_settings.load_profile("repeatable")

Emitted = list[tuple[int, bytes]]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the recordings (../shared/data) are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety seconds of synthetic market and newswire, written once."""
    folder = tmp_path_factory.mktemp("synthetic")
    generate(SyntheticMarket(seed=11, duration_s=90)).write(folder)
    return folder


@pytest.fixture
def settings() -> Settings:
    """The defaults, whatever the environment says."""
    return load_settings(None, {})


@pytest.fixture
def run_inputs(tmp_path: Path, settings: Settings) -> Callable[..., tuple[Summary, Emitted]]:
    """Return a function that replays inputs into a new folder: the summary and all emitted bytes."""
    count = 0

    def run(inputs: Inputs, **edge: int) -> tuple[Summary, Emitted]:
        nonlocal count
        import msgspec

        count += 1
        folder = tmp_path / f"run-{count}"
        folder.mkdir()
        emitted: Emitted = []

        def watch(ts: int, record: object) -> None:
            emitted.append((ts, record if isinstance(record, bytes) else canonical(record)))

        chosen = msgspec.structs.replace(
            settings, edge=msgspec.structs.replace(settings.edge, **edge)
        )
        return replay(inputs, chosen, folder, watch=watch), emitted

    return run


def lines_of(path: Path) -> list[bytes]:
    """Return a plain or gzip file's lines."""
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).splitlines(keepends=True)
