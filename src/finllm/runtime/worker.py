"""A worker: a child process that answers requests in bytes over pipes, watched and restarted.

Both ends are here. The parent's `Worker` starts `python -m <module> <descriptor> <arguments>`; that
module calls `answer` with a function from bytes to bytes. A message is eight bytes of length, then the
bytes; requests come on standard input, answers leave by the descriptor, and whatever else the child
prints goes to the parent's standard error. The child ends when its input does, so it cannot outlive
the parent. Knows nothing of what is asked.
"""

import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO, Final

from finllm.domain.errors import WorkerError
from finllm.runtime.clock import stopwatch_ns

_LENGTH: Final = struct.Struct("<Q")
LONGEST: Final = 1 << 32
"""Bytes; a longer announced message means that the stream is out of step."""
_GRACE_S: Final = 5.0
_STDERR: Final = 2


class _Broken(Exception):  # noqa: N818 - never leaves this module: the caller sees WorkerError
    """The child died, fell silent or spoke out of step."""


class Worker:
    """One child process, started at once.

    Args:
        module: Module to run with `python -m`; it must call `answer`.
        arguments: Its command line, from `sys.argv[2]` on.
        timeout_s: How long one answer may take before the child counts as dead.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, timeout_s: float = 60.0) -> None:
        self._module = module
        self._arguments = list(arguments)
        self._timeout_s = timeout_s
        self._asked: bytes | None = None
        self.n_restarts = 0
        self._child = self._start()

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        return self._child.pid

    def send(self, request: bytes) -> None:
        """Hand over a request without waiting; `receive` must follow before the next one."""
        self._asked = request
        try:
            self._write(request)
        except (_Broken, OSError):
            # Told by `receive`, which restarts the child and asks again.
            return

    def receive(self) -> bytes:
        """Return the answer to the last request.

        A child found dead is restarted once and asked again.

        Raises:
            WorkerError: If the restarted child fails too, or nothing was asked.
        """
        if self._asked is None:
            raise WorkerError("nothing was asked of the worker")
        try:
            return self._read()
        except (_Broken, OSError) as first:
            self._restart()
            try:
                self._write(self._asked)
                return self._read()
            except (_Broken, OSError) as error:
                raise WorkerError(f"{self._module}: {first}; then {error}") from error
        finally:
            self._asked = None

    def ask(self, request: bytes) -> bytes:
        """Return the answer to a request. Raises as `receive` does."""
        self.send(request)
        return self.receive()

    def close(self) -> None:
        """End the child and wait until it is gone. Closing twice is harmless."""
        for pipe in (self._child.stdin, self._answers):
            if pipe is not None and not pipe.closed:
                _close_quietly(pipe)
        try:
            self._child.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        ours, theirs = os.pipe()
        command = [sys.executable, "-m", self._module, str(theirs), *self._arguments]
        try:
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.PIPE, stdout=_STDERR, bufsize=0, pass_fds=(theirs,)
            )
        finally:
            os.close(theirs)
        self._answers = os.fdopen(ours, "rb", buffering=0)
        return child

    def _restart(self) -> None:
        self._child.kill()
        self.close()
        self.n_restarts += 1
        self._child = self._start()

    def _exit_code(self) -> int | None:
        """Return what the child ended with: its pipe closes a little before the system tells."""
        try:
            return self._child.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            return None

    def _write(self, message: bytes) -> None:
        pipe = self._child.stdin
        if pipe is None or pipe.closed:
            raise _Broken("its pipe is closed")
        write_message(pipe.fileno(), message)

    def _read(self) -> bytes:
        pipe = self._answers
        if pipe.closed:
            raise _Broken("its pipe is closed")
        deadline = stopwatch_ns() + int(self._timeout_s * 1e9)
        (length,) = _LENGTH.unpack(self._take(pipe.fileno(), _LENGTH.size, deadline))
        if length > LONGEST:
            raise _Broken(f"announced {length} bytes")
        return self._take(pipe.fileno(), length, deadline)

    def _take(self, descriptor: int, n: int, deadline: int) -> bytes:
        parts, left = [], n
        while left:
            wait_s = (deadline - stopwatch_ns()) / 1e9
            if wait_s <= 0 or not select.select([descriptor], [], [], wait_s)[0]:
                raise _Broken(f"no answer within {self._timeout_s} s")
            part = os.read(descriptor, min(left, 1 << 20))
            if not part:
                raise _Broken(f"ended with code {self._exit_code()}")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _close_quietly(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except OSError:
        return


def write_message(descriptor: int, message: bytes) -> None:
    """Write one framed message to a descriptor."""
    whole = memoryview(_LENGTH.pack(len(message)) + message)
    while whole:
        whole = whole[os.write(descriptor, whole) :]


def answer(reply: Callable[[bytes], bytes]) -> None:
    """Answer requests until the parent closes the pipe or dies. The child's whole life.

    `sys.argv[1]` is the descriptor that answers leave by.
    """
    source, sink = sys.stdin.buffer, int(sys.argv[1])
    while True:
        header = source.read(_LENGTH.size)
        if len(header) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack(header)
        request = source.read(length)
        if len(request) < length:
            return
        try:
            write_message(sink, reply(request))
        except BrokenPipeError:
            return
