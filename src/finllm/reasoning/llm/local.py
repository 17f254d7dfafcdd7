"""A model's file served by a llama.cpp of our own: started with us, watched, ended with us.

The model runs in one niced child process off the edge's core (`llama`), behind a Unix socket that no other
user may open, and speaks there what any endpoint speaks, so that the client is the same. A child that dies,
or whose loop says nothing for as long as `patience_s`, is killed and replaced; until the next is ready,
questions find nobody there and the embedded reasoner answers them.
"""

import shutil
import socket
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

import msgspec

from finllm.reasoning.llm.llama import Load
from finllm.reasoning.llm.settings import LlmSettings
from finllm.runtime.crew import Member

MODULE: Final = "finllm.reasoning.llm.llama"
LIBRARY: Final = "xllamacpp"
AROUND_TOKENS: Final = 3_400
"""Of a prompt beside its evidence: the system's text, the forecasts, an answer that is repaired. A longer one
is refused, and fallen back from."""
PATIENCE_S: Final = 60.0
"""A batch of `llama.BATCH` tokens of a large model on few cores takes half of it."""
_LOOK_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_LOAD_S: Final = 300.0
_LOOK: Final = b"GET /slots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_WELL: Final = b"HTTP/1.1 200"
_MAGIC: Final = b"GGUF"


class Local:
    """A model's file, served. Use it as a context manager.

    Args:
        settings: With the file.
        patience_s: Silence of the loop that counts as its death.
    """

    def __init__(self, settings: LlmSettings, *, patience_s: float = PATIENCE_S) -> None:
        self._settings = settings
        self._patience_s = patience_s
        self._folder = Path()
        self._member: Member
        self._pause_s = _LOOK_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="llama", daemon=True)
        self.n_restarts = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def socket(self) -> str:
        """Return the path of the Unix socket that it answers on."""
        return str(self._folder / "llama.sock")

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        return self._member.child.pid

    def start(self) -> None:
        """Load the model and keep watch over it.

        Raises:
            SettingsError: If the extra is not installed, or the file is not one that llama.cpp can load.
        """
        _check(self._settings)
        self._folder = Path(tempfile.mkdtemp(prefix="finllm-llm-"))
        self._member = self._begun()
        if not self._member.is_ready(_LOAD_S):
            self._end()
            raise self._settings.bad(
                "gguf", "cannot be loaded by llama.cpp", "What it said of it stands above."
            )
        self._thread.start()

    def close(self) -> None:
        """End the child and wait until it is gone."""
        self._stop.set()
        self._member.child.kill()  # a look at it that waits for an answer ends too
        self._thread.join()
        self._end()

    def _end(self) -> None:
        self._member.end(0.0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begun(self) -> Member:
        settings = self._settings
        load = Load(
            gguf=settings.gguf,
            name=settings.model_name,
            slots=settings.concurrency,
            context=settings.pack_tokens + AROUND_TOKENS + settings.max_tokens,
        )
        return Member(MODULE, [self.socket, msgspec.json.encode(load).decode()], ())

    def _watch(self) -> None:
        while not self._stop.wait(self._pause_s):
            if self._is_well():
                self._pause_s = _LOOK_S
            elif not self._stop.is_set():
                self._restart()

    def _is_well(self) -> bool:
        """Return whether it is loaded and its loop, not only its door, answers."""
        if not self._member.is_ready(_LOAD_S):
            return False
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(self._patience_s)
            try:
                door.connect(self.socket)
                door.sendall(_LOOK)
                return door.recv(len(_WELL), socket.MSG_WAITALL) == _WELL
            except OSError:
                return False

    def _restart(self) -> None:
        self._member.end(0.0)
        Path(self.socket).unlink(missing_ok=True)
        self._member = self._begun()
        self.n_restarts += 1
        self._pause_s = min(2.0 * self._pause_s, _LONGEST_PAUSE_S)


def _check(settings: LlmSettings) -> None:
    if find_spec(LIBRARY) is None:
        raise settings.bad(
            "gguf",
            f"needs {LIBRARY}, which is not installed",
            "Run: pip install 'fin-llm-inference[llm]'",
        )
    try:
        with Path(settings.gguf).open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as why:
        raise settings.bad(
            "gguf", f"cannot be read: {why.strerror or why}", "Name a file in GGUF."
        ) from why
    if magic != _MAGIC:
        raise settings.bad(
            "gguf", "is no file in GGUF", "Name one, such as llama.cpp's own tools write."
        )
