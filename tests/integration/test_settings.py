"""Settings: one file, overrides, and errors that teach."""

import re
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


def test_variables_of_others_are_left_alone() -> None:
    assert load_settings(None, {"FINLLMS": "x", "PATH": "y"}) == load_settings(None, {})


@pytest.mark.parametrize("name", ["FINLLM_GRID_MS", "FINLLM_RECORD__GRID", "FINLLM_RECRD__GRID_MS"])
def test_a_variable_that_names_no_setting_is_told_with_the_nearest(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}.*FINLLM_RECORD__GRID_MS"):
        load_settings(None, {name: "50"})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("record", "grid_ms", "0"),
        ("edge", "chunk", "0"),
        ("edge", "workers", "-1"),
        ("documents", "delay_s", "nan"),
        ("documents", "delay_s", "-1"),
        ("documents", "delay_s", "inf"),
        ("ledger", "group", "0"),
        ("ledger", "max_mb", "-5"),
        ("replay", "warm_up_days", "-1"),
        ("narrative", "near_copy", "1.5"),
        ("narrative", "pack_size", "0"),
        ("escalation", "min_gain", "-1.0"),
        ("latency", "p50_ms", "0.0"),
    ],
)
def test_a_value_out_of_range_names_its_file_section_and_key(
    tmp_path: Path, section: str, key: str, value: str
) -> None:
    (tmp_path / "a.toml").write_text(f"[{section}]\n{key} = {value}\n")
    with pytest.raises(SettingsError, match=rf"a\.toml.*{section}.*{key}"):
        load_settings(tmp_path / "a.toml", {})
    with pytest.raises(SettingsError, match=rf"environment.*{section}.*{key}"):
        load_settings(None, {f"FINLLM_{section}__{key}".upper(): value})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[recrod]\ngrid_ms = 1\n", "record"),
        ("[record]\ngrid_msec = 1\n", "grid_ms"),
        ("record = 1\n", r"\[record\]"),
        ("[record]\ngrid_ms = 'soon'\n", "grid_ms"),
        ("[record\n", "a.toml"),
        (
            "[[feed.connections]]\nvenue = 'okx'\n[[feed.connections]]\nvenue = 'okx'\nsymbol = []\n",
            r"\[\[feed\.connections\]\] number 2.*'symbol'.*'symbols'",
        ),
    ],
)
def test_a_wrong_file_names_the_mend(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        load_settings(tmp_path / "a.toml", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[[tier]]\nreasoner = 'embedded'\n[[tier]]\nreasoner = 'lm'\n",
            "[[tier]] number 2, reasoner: Invalid enum value 'lm'. "
            "Write one of 'embedded', 'llm', 'ensemble'.",
        ),
        ("[edge]\nprovider = 'gpu'\n", "Write one of 'auto', 'cpu', 'cuda', 'tensorrt'."),
        ("[reasoning.llm]\nschema_mode = 'xml'\n", "[reasoning.llm], schema_mode: "),
        ("[[tier]]\nshare = 0.1\n", "[[tier]] number 1: Object missing required field `reasoner`"),
        ("tier = 3\n", "[[tier]]: Expected `array`, got `int`"),
        (
            "[[feed.connections]]\nvenue = 'okx'\nsymbols = ['a', 3]\n",
            "[[feed.connections]] number 1, symbols number 2: Expected `str`, got `int`",
        ),
        (
            "[[source]]\nname = 'a'\nkind = 'rss'\nheaders = {key = 1}\n",
            "[[source]] number 1, headers: Expected `str`, got `int`",
        ),
    ],
)
def test_a_value_that_does_not_fit_names_where_it_stands_and_what_would(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SettingsError, match=rf"a\.toml.*{re.escape(said)}"):
        load_settings(tmp_path / "a.toml", {})


@pytest.mark.parametrize(
    "second",
    ["reasoner = 'llm'\nshares = 0.1\n", "reasoner = 'lm'\n", "reasoner = 'llm'\nshare = 2.0\n"],
    ids=["key", "choice", "range"],
)
def test_keys_and_values_of_tables_are_counted_alike(tmp_path: Path, second: str) -> None:
    (tmp_path / "a.toml").write_text(f"[[tier]]\nreasoner = 'embedded'\n[[tier]]\n{second}")
    with pytest.raises(SettingsError, match=r"\[\[tier\]\] number 2"):
        load_settings(tmp_path / "a.toml", {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        load_settings(tmp_path / "gone.toml", {})


def test_a_tier_whose_two_latencies_are_none_is_named(tmp_path: Path) -> None:
    one = '[reasoning.llm]\nbase_url = "http://h:1/v1"\nmodel = "m"\n\n[[tier]]\nreasoner = "llm"\n'
    (tmp_path / "a.toml").write_text(f"{one}p50_ms = 5000.0\n")
    with pytest.raises(SettingsError, match="tier llm: p50 5000"):
        load_settings(tmp_path / "a.toml", {})
