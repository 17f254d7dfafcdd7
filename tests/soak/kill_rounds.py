"""Kills a command that writes a ledger, at random instants, and looks at what is left.

The command is a list of words in which `{folder}` stands for a new folder; it writes its ledger there,
or in a folder below it, and prints `ack COUNT HASH` on standard output after each group:

    python tests/soak/kill_rounds.py --rounds 200 -- finllm replay TAPE --out {folder} ...
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from finllm.ledger import rows
from finllm.ledger.store import Ledger
from finllm.ledger.verify import verify


class Round(msgspec.Struct, kw_only=True):
    """One kill."""

    after_s: float
    """Since the first acknowledgement, or since the start."""
    killed: bool
    """False if the command had ended before."""
    acknowledged: int
    found: int
    failures: list[str]


def acknowledgements(printed: bytes) -> list[tuple[int, str]]:
    """Return the whole lines of the form `ack COUNT HASH`."""
    lines = printed.decode(errors="replace").split("\n")[:-1]
    words = [line.split() for line in lines if line.startswith("ack ")]
    return [(int(word[1]), word[2]) for word in words]


def ledger_under(folder: Path) -> Path | None:
    """Return the one folder with a ledger at or below a folder, if there is one yet."""
    found = sorted(folder.rglob(rows.HEAD))
    return found[0].parent if found else None


def kill_once(
    command: Sequence[str], folder: Path, after_s: float, *, from_start: bool = False
) -> Round:
    """Start the command, kill -9 it a while after its first acknowledgement, check what it left."""
    words = [word.replace("{folder}", str(folder)) for word in command]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True, bufsize=0)
    assert child.stdout is not None
    first = b"" if from_start else child.stdout.readline()
    try:
        rest, _ = child.communicate(timeout=after_s)
        killed = False
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        killed = True
    acknowledged = acknowledgements(first + rest)
    failures, found = examine(folder, acknowledged)
    if not killed and child.returncode != 0:
        failures.append(f"the command failed by itself: {child.returncode}")
    last = acknowledged[-1][0] if acknowledged else 0
    return Round(after_s=after_s, killed=killed, acknowledged=last, found=found, failures=failures)


def examine(folder: Path, acknowledged: list[tuple[int, str]]) -> tuple[list[str], int]:
    """Return what is wrong, and how many entries are there: every acknowledged one, bit for bit."""
    place = ledger_under(folder)
    if place is None or not (place / rows.DB).exists():
        return (["acknowledged, yet there is no ledger"] if acknowledged else []), 0
    before = verify(place, anchors=tuple(acknowledged))
    failures = [f"{failure.id}: {failure.why}" for failure in before.failures]
    if before.checked == 0 and not acknowledged:
        failures = []  # killed while the ledger was being made; opening finishes it
    ledger = Ledger.open(place)
    found = ledger.head.count
    ledger.close()
    if acknowledged and found < acknowledged[-1][0]:
        failures.append(f"{acknowledged[-1][0]} acknowledged, {found} found")
    return failures, found


def kill_rounds(
    command: Sequence[str], rounds: int, *, seed: int, workplace: Path, writing_s: float
) -> list[Round]:
    """Kill the command `rounds` times, at instants spread over the time that it writes.

    Args:
        command: Its words; `{folder}` stands for a new folder each time.
        rounds: How often.
        seed: Of the instants.
        workplace: For the folders; each is removed after its round.
        writing_s: About how long the command writes, from its first acknowledgement on. Every eighth
            round counts from the command's start instead, to hit the making of the ledger too.
    """
    rng = np.random.default_rng(seed)
    done = []
    for i in range(rounds):
        folder = workplace / f"round-{i}"
        after_s = float(rng.uniform(0.0, writing_s))
        done.append(kill_once(command, folder, after_s, from_start=i % 8 == 7))
        shutil.rmtree(folder, ignore_errors=True)
    return done


def summary(done: list[Round]) -> dict[str, object]:
    """Return the figures of a series."""
    return {
        "rounds": len(done),
        "killed": sum(one.killed for one in done),
        "killed_after_first_ack": sum(one.killed and one.acknowledged > 0 for one in done),
        "with_entries_beyond_ack": sum(one.found > one.acknowledged for one in done),
        "entries_acknowledged": sum(one.acknowledged for one in done),
        "failures": [failure for one in done for failure in one.failures],
    }


def main() -> None:
    """Run rounds on any command; exits 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--writing-s", type=float, default=5.0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as workplace:
        done = kill_rounds(
            options.command,
            options.rounds,
            seed=options.seed,
            workplace=Path(workplace),
            writing_s=options.writing_s,
        )
    found = summary(done)
    print(json.dumps(found))  # noqa: T201 - this is a command
    sys.exit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
