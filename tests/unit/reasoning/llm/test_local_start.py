"""What keeps a model's file from being served is said at the start, with what to do about it."""

import subprocess
import sys
from pathlib import Path

import pytest

from finllm.domain.errors import SettingsError
from finllm.reasoning.llm import local
from finllm.reasoning.llm.settings import LlmSettings


def served(path: Path) -> local.Local:
    return local.Local(LlmSettings(gguf=str(path)))


def test_without_the_extra_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'fin-llm-inference\[llm\]'"):
        served(tmp_path / "m.gguf").start()


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"", "GGUF"), (b"PK\x03\x04", "GGUF")]
)
def test_what_is_no_model_stops_the_start(
    content: bytes | None, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "find_spec", lambda _: object())
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=why):
        served(path).start()


def test_what_llama_cpp_cannot_load_stops_the_start_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "find_spec", lambda _: object())
    monkeypatch.setattr(local.tempfile, "mkdtemp", lambda **_: str(tmp_path / "socket"))
    (tmp_path / "socket").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(SettingsError, match=r"cannot be loaded"):
        served(tmp_path / "m.gguf").start()
    assert not (tmp_path / "socket").exists()


def test_the_library_is_loaded_by_nobody_but_the_child() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, finllm.app.wiring, finllm.reasoning.llm.llama; print('xllamacpp' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "False"


def test_a_file_beside_an_address_is_refused_and_names_its_model_by_itself() -> None:
    with pytest.raises(SettingsError, match="gguf"):
        LlmSettings(gguf="m.gguf", base_url="http://h/v1", model="m")
    assert LlmSettings(gguf="models/qwen3-8b.gguf").model_name == "qwen3-8b"
    assert LlmSettings(gguf="models/qwen3-8b.gguf", model="mine").model_name == "mine"
