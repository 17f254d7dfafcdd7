"""Fixtures of tests that go in by the front door."""

import sys
from pathlib import Path

import pytest

from finllm.app.cli import main
from support.commands import Command


@pytest.fixture
def finllm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command line in this process; a command that ends otherwise than with `code` fails the test."""

    def run(*words: str, cwd: Path | None = None, code: int = 0) -> tuple[str, str]:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["finllm", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told
        return told.out, told.err

    return run
