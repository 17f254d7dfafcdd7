"""The digest is a function of the input alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.replays import Replayed, inputs_of


@pytest.fixture
def reference(replayed: Replayed) -> str:
    return replayed.summary.digest


def digest_by_command(folder: Path, out: Path, *, seed: str, options: tuple[str, ...] = ()) -> str:
    inputs = inputs_of(folder)
    command = [
        sys.executable, "-c", "from finllm.app.cli import main; main()", "replay",
        *map(str, inputs.tapes), "--documents", str(inputs.documents),
        "--out", str(out / "run"), "--json", *options,
    ]  # fmt: skip
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
    )
    summary = json.loads(ran.stdout)
    assert summary["forecasts"] > 0
    assert summary["revisions"]["applied"] > 0
    return str(summary["digest"])


def test_another_hash_seed_gives_the_same_digest(
    synthetic: Path, tmp_path: Path, reference: str
) -> None:
    """Another than this process has, which is a random one unless it was set to 0."""
    seed = "0" if sys.flags.hash_randomization else "12345"
    assert digest_by_command(synthetic, tmp_path, seed=seed) == reference


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_another_chunk_size_gives_the_same_digest(
    run_inputs: Callable[..., tuple], synthetic: Path, reference: str, chunk: int
) -> None:
    summary, _ = run_inputs(inputs_of(synthetic), chunk=chunk)
    assert summary.digest == reference


@pytest.mark.parametrize("workers", [1, 2])
def test_another_worker_count_gives_the_same_digest(
    run_inputs: Callable[..., tuple], synthetic: Path, reference: str, workers: int
) -> None:
    summary, _ = run_inputs(inputs_of(synthetic), workers=workers)
    assert summary.digest == reference


def test_another_input_gives_another_digest(reference: str, replayed_bare: Replayed) -> None:
    assert replayed_bare.summary.digest != reference
