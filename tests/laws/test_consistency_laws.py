"""The protocol under fire: no seed breaks an invariant, and a protocol with a fault in it does."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from file_disk import FileDisk
from finllm.ledger.verify import verify
from finllm_lab.cli import app
from finllm_lab.consistency.campaign import campaign
from finllm_lab.consistency.chance import KINDS, Chance
from finllm_lab.consistency.simulate import NODES, needed, simulate
from planted_faults import FAULTS, planted

SEEDS = 200
RARE = {"uncounted outlook kept": 5.0, "succession before catching up": 5.0}
"""Faults that show only when several things go wrong at once: sought at so many times the usual rates."""
MINUTES = 4.0
"""Virtual time of each seed here; the whole ten minutes are `finllm_lab consistency`'s."""


@pytest.mark.parametrize(("part", "fire"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 5.0)])
def test_no_seed_breaks_an_invariant(part: int, fire: float) -> None:
    n = SEEDS // 4
    found = campaign(part * n, n, MINUTES, 1, fire=fire, told=lambda _: None)
    assert not found.violations, found.failed[0]
    assert all(found.happened[kind] >= n / 4 for kind in KINDS), "a kind of fault hardly happened"
    verdicts = [
        found.happened[f"verdict {of}"] for of in ("applied", "superseded", "late", "refused")
    ]
    assert min(verdicts) > n / 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, record_property: Callable[..., None]) -> None:
    fire = RARE.get(fault, 1.0)
    with planted(fault):
        broken = (s for s in range(SEEDS) if simulate(s, MINUTES, fire=fire).violation)
        seed = next(broken, None)
        assert seed is not None
    record_property("seeds", seed + 1)
    assert not simulate(seed, MINUTES, fire=fire).violation, "the fault is the planted one"


def test_a_seed_gives_the_same_trace_in_another_process_and_hash_order() -> None:
    wanted = simulate(7, 2.0).trace_hash
    code = (
        "from finllm_lab.consistency.simulate import simulate; print(simulate(7, 2.0).trace_hash)"
    )
    for hash_seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert child.stdout.strip() == wanted


def test_leaving_a_fault_out_leaves_the_draws_of_the_others() -> None:
    whole, less = Chance(3), Chance(3, frozenset({"duplicate"}))
    for _ in range(1_000):
        assert not less.happens("duplicate")
        whole.happens("duplicate")
        assert whole.happens("loss") == less.happens("loss")
    assert whole.times("partition", 10.0) == less.times("partition", 10.0)


def test_a_failing_seed_says_which_faults_it_takes_and_replays() -> None:
    with planted("duplicate verdict judged twice"):
        kinds = needed(0, MINUTES)
        assert 1 <= len(kinds) <= 3, kinds
        without = frozenset(KINDS) - set(kinds)
        lines: list[str] = []
        again = simulate(0, MINUTES, without, tell=lines.append)
        assert again.violation == simulate(0, MINUTES, without).violation != ""
        assert list(again.timeline) == lines[-len(again.timeline) :]


def test_the_command_names_a_failing_seed_and_the_line_that_shows_it_again() -> None:
    with planted("epoch ignored"):
        failed = CliRunner().invoke(
            app, ["consistency", "--seeds", "2", "--minutes", "2", "--json"]
        )
        assert failed.exit_code == 1
        assert json.loads(failed.stdout)["violations"] == 2
        line = failed.stderr.strip().splitlines()[-1]
        assert line.startswith("finllm_lab consistency --first 0 --minutes 2 --fire 1 --replay")
        again = CliRunner().invoke(app, shlex.split(line)[1:])
        assert again.exit_code == 1
        assert "violated: a verdict applies in its own epoch" in again.stdout
    assert CliRunner().invoke(app, shlex.split(line)[1:]).exit_code == 0


@pytest.mark.parametrize("plan", ["--minutes=-5", "--minutes=0", "--minutes=nan", "--fire=inf"])
def test_a_plan_under_which_nothing_would_be_tried_is_no_pass(plan: str) -> None:
    assert CliRunner().invoke(app, ["consistency", "--seeds", "1", plan]).exit_code == 2


@pytest.mark.parametrize("seed", [1, 5])
def test_ledgers_in_files_give_the_same_trace_as_in_memory(seed: int, tmp_path: Path) -> None:
    found = simulate(seed, MINUTES, new_disk=lambda name, stored: FileDisk(tmp_path / name, stored))
    assert not found.violation, found.violation
    assert found.happened["crash"]
    assert found.trace_hash == simulate(seed, MINUTES).trace_hash
    for name in NODES:
        assert verify(tmp_path / name).ok


def test_without_faults_nearly_every_word_counts() -> None:
    happened = simulate(1, MINUTES, frozenset(KINDS)).happened
    assert not set(happened) & {*KINDS, "verdict superseded", "uncounted Revision"}
    assert happened["verdict applied"] > 50
