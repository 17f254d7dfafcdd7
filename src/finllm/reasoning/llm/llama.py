"""The child that serves a model's file: llama.cpp over a Unix socket, out of the edge's way.

Started by `Local` with the socket's path and a `Load` as JSON. Alone in knowing the library, an extra.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from finllm.runtime.cores import leave_first_core
from finllm.runtime.crew import READY

NICENESS: Final = 10
BATCH: Final = 256
"""Prompt tokens that are read at one go: between two of them it is looked at, and turns to who waits."""
CACHE_MB: Final = 256
"""Prefixes kept beside those in the slots."""
_ERRORS: Final = 1


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is loaded, and for how many questions at a time."""

    gguf: str
    name: str
    slots: int
    context: int
    """Tokens, of all slots together."""


def parameters(library: Any, load: Load, socket: str, n_threads: int) -> Any:
    """Return the library's parameters of a server."""
    told = library.CommonParams()
    told.model.path, told.model_alias = load.gguf, {load.name}
    told.hostnames = [socket]
    told.n_parallel, told.n_ctx, told.kv_unified = load.slots, load.context, True
    told.n_batch = told.n_ubatch = BATCH
    told.cache_ram_mib = CACHE_MB
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = n_threads
    told.ui, told.verbosity = False, _ERRORS
    return told


def main() -> None:
    """Load, say so, and serve until the parent closes our input or dies."""
    said, socket, load = sys.argv[1:4]
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what our parent prints is its own
    os.nice(NICENESS)
    leave_first_core()
    import xllamacpp  # its threads take over both

    n_threads = len(os.sched_getaffinity(0))
    _server = xllamacpp.Server(
        parameters(xllamacpp, msgspec.json.decode(load, type=Load), socket, n_threads)
    )
    os.write(int(said), READY)
    sys.stdin.buffer.read()
    shutil.rmtree(Path(socket).parent, ignore_errors=True)  # a parent that was killed left it
    os._exit(0)  # without the library's own ending, which would wait for what it computes


if __name__ == "__main__":
    main()
