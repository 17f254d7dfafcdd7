"""Laws of where compiled kernels are kept: never where another user could put code."""

import tempfile
from pathlib import Path

import pytest

from finllm.runtime.kernels import cache_folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return home, temporary


def test_kernels_are_kept_under_the_home(places: tuple[Path, Path]) -> None:
    folder = cache_folder()
    assert folder.parent == places[0] / ".cache" / "finllm"
    assert folder.stat().st_mode & 0o077 == 0
    assert cache_folder() == folder


def test_a_home_that_cannot_be_used_gives_way_to_the_temporary_folder(
    places: tuple[Path, Path],
) -> None:
    home, temporary = places
    (home / ".cache").write_text("a file, where a folder is wanted")
    folder = cache_folder()
    assert folder.parent.parent == temporary
    assert folder.parent.stat().st_mode & 0o077 == 0


def test_a_folder_that_others_may_write_to_is_not_trusted(places: tuple[Path, Path]) -> None:
    home, temporary = places
    open_to_all = home / ".cache" / "finllm"
    open_to_all.mkdir(parents=True)
    open_to_all.chmod(0o777)
    first = cache_folder()
    assert first.parent.parent == temporary
    first.parent.chmod(0o777)
    second = cache_folder()
    assert second not in {first, open_to_all}
    assert second.name.startswith("finllm-")


def test_a_link_is_not_followed_to_a_folder_of_somebody(places: tuple[Path, Path]) -> None:
    home, temporary = places
    (home / ".cache").mkdir()
    (home / ".cache" / "finllm").symlink_to(temporary)
    assert home not in cache_folder().parents
