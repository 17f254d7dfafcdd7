"""Replays inputs and prints `ack COUNT HASH` after each synced group; made to be killed.

python tests/soak/replay_child.py FOLDER TAPE... [--documents FILE]
"""

import argparse
from pathlib import Path

import msgspec

from finllm.app.replay import Inputs, replay
from finllm.app.settings import load_settings


def main() -> None:
    """Run one replay with small groups, so that there is much to acknowledge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tapes", type=Path, nargs="+")
    parser.add_argument("--documents", type=Path)
    options = parser.parse_args()
    settings = load_settings(None, {})
    settings = msgspec.structs.replace(
        settings, ledger=msgspec.structs.replace(settings.ledger, group=100)
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    inputs = Inputs(tapes=tuple(options.tapes), documents=options.documents)

    def acknowledge(count: int, digest: str) -> None:
        print(f"ack {count} {digest}", flush=True)  # noqa: T201 - the parent reads it

    replay(inputs, settings, options.folder, on_commit=acknowledge)


if __name__ == "__main__":
    main()
