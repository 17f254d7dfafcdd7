"""A command of `finllm`, run in this process, which spares its start."""

from pathlib import Path
from typing import Protocol


class Command(Protocol):
    """Runs `finllm` with some words and returns what it told on standard output and on standard error."""

    def __call__(self, *words: str, cwd: Path | None = None, code: int = 0) -> tuple[str, str]: ...
