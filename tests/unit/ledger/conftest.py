"""Folders in memory where there is one: these tests look at files, not at disks."""

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    return memory_path
