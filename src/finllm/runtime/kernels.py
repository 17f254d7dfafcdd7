"""Compiled kernels, and a cache for them that cannot go stale.

numba notices an edit of the file that a kernel stands in, but not of a file whose kernels it calls.
So the cache folder is named by a hash of all sources that hold kernels or constants compiled into them,
numba's version and the CPU.
"""

import os
import platform
import stat
import sys
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import binding as llvm

F = TypeVar("F", bound=Callable[..., Any])


def _fingerprint() -> str:
    digest = blake2b(digest_size=12)
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if path.parent.name == "domain" or b"finllm.runtime.kernels" in source:
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(source)
    for part in (numba.__version__, sys.version, platform.machine(), llvm.get_host_cpu_name()):
        digest.update(part.encode())
    return digest.hexdigest()


def _is_ours(folder: Path) -> bool:
    """Make a folder, and return whether we can write there and no other user can: it holds code."""
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for held in (folder.parent, folder):
            held.mkdir(mode=0o700, exist_ok=True)
            status = held.lstat()
            is_folder = stat.S_ISDIR(status.st_mode)
            if not is_folder or status.st_uid != os.getuid() or status.st_mode & stat.S_IWOTH:
                return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folder() -> Path:
    """Return the folder for compiled kernels: under the home, else under the temporary folder."""
    name = f"kernels-{_fingerprint()}"
    temporary = Path(tempfile.gettempdir()) / f"finllm-kernels-{os.getuid()}"
    for root in (Path.home() / ".cache" / "finllm", temporary):
        if _is_ours(root / name):
            return root / name
    return Path(tempfile.mkdtemp(prefix="finllm-"))


numba.config.CACHE_DIR = str(cache_folder())


def kernel(function: F) -> F:
    """Compile a function of scalars and arrays to machine code, cached, without the interpreter lock.

    Strict floating point: no reassociation and no contraction, so the same inputs give the same bits.
    """
    return numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(function)  # type: ignore[no-any-return]
