"""Settings: one file, overrides, and errors that teach."""

from pathlib import Path

import pytest

from finllm.app.settings import load_settings
from finllm.domain.errors import SettingsError


def test_no_file_gives_the_defaults() -> None:
    assert load_settings(None, {}).record.grid_ms == 100


def test_an_override_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[record]\ngrid_ms = 50\n")
    settings = load_settings(tmp_path / "a.toml", {"FINLLM_RECORD__GRID_MS": "25"})
    assert settings.record.grid_ms == 25


def test_other_variables_are_left_alone() -> None:
    assert load_settings(None, {"FINLLM_HOME": "x", "PATH": "y"}) == load_settings(None, {})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[recrod]\ngrid_ms = 1\n", "record"),
        ("[record]\ngrid_msec = 1\n", "grid_ms"),
        ("record = 1\n", r"\[record\]"),
        ("[record]\ngrid_ms = 'soon'\n", "grid_ms"),
        ("[record\n", "a.toml"),
    ],
)
def test_a_wrong_file_names_the_mend(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        load_settings(tmp_path / "a.toml", {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        load_settings(tmp_path / "gone.toml", {})
