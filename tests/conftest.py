"""Fixtures that several rooms' tests share."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from finllm.app.replay import Inputs, Summary
from finllm.app.settings import Settings, load_settings
from finllm.market.synthetic import SyntheticMarket, generate
from support.replays import Emitted, Replayed, inputs_of, replayed_into, tapes_of

SHARED = Path(__file__).parents[2] / "shared" / "data"

hypothesis_settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
hypothesis_settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the recordings (../shared/data) are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic market and newswire, written once: longer than the longest horizon, 30 s."""
    folder = tmp_path_factory.mktemp("synthetic")
    generate(SyntheticMarket(seed=11, duration_s=45)).write(folder)
    return folder


@pytest.fixture(scope="session")
def replayed(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The synthetic market, replayed with its documents by the default settings."""
    folder = tmp_path_factory.mktemp("replayed")
    return replayed_into(folder / "run", inputs_of(synthetic), load_settings(None, {}))


@pytest.fixture(scope="session")
def replayed_bare(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The same without documents, so without revisions."""
    folder = tmp_path_factory.mktemp("replayed-bare")
    inputs = Inputs(tapes=tapes_of(synthetic))
    return replayed_into(folder / "run", inputs, load_settings(None, {}))


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory where there is one, for tests that look at files, not at disks."""
    shm = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        yield Path(folder)


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
        chosen = msgspec.structs.replace(
            settings, edge=msgspec.structs.replace(settings.edge, **edge)
        )
        said = replayed_into(folder, inputs, chosen)
        return said.summary, said.emitted

    return run
