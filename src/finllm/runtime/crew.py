"""A crew: processes that work side by side, with a spare that is warm and takes the place of the fallen.

A member is `python -m <module> <descriptor> <arguments>`. It gets ready, says so through the
descriptor, and reads one line from its standard input: the number of its post. Until then it is the
spare. It ends when its input does, so it cannot outlive us. A member that dies or falls silent is killed
(a stopped one as well: two must never hold one post) and the spare is given its post; another spare is
started. Members start only when asked for, and a post is only given to one that is ready. Knows nothing
of what they do.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from finllm.domain.errors import WorkerError
from finllm.runtime.clock import Clock, WallClock

READY: Final = b"R"
_GRACE_S: Final = 2.0
_LOOK_S: Final = 0.02
"""Time between two looks at silence; a death is seen at once."""
_START_S: Final = 120.0


class Fall(msgspec.Struct, frozen=True, kw_only=True):
    """One member lost, and what was done about it."""

    post: int
    pid: int
    why: str
    ts: int
    """When it was noticed, ns."""
    ts_filled: int
    """When its post was given to the spare, ns."""


class Member:
    """One child process, started at once.

    Args:
        module: Module to run with `python -m`; it says `READY` through the descriptor in `sys.argv[1]`.
        arguments: Its command line, from `sys.argv[2]` on.
        descriptors: Open descriptors that it inherits.
    """

    def __init__(self, module: str, arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        ours, theirs = os.pipe()
        command = [sys.executable, "-m", module, str(theirs), *arguments]
        try:
            self.child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.PIPE, bufsize=0, pass_fds=(theirs, *descriptors)
            )
        finally:
            os.close(theirs)
        self.handle = os.pidfd_open(self.child.pid)
        self._said = ours
        self._is_ready = False
        self.since = 0
        """When it was given its post, ns; 0 for a spare."""

    @property
    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return self.child.poll() is None

    def is_ready(self, timeout_s: float = 0.0) -> bool:
        """Return whether it has said that it is ready; waits so long at most, or until it dies."""
        if not self._is_ready and select.select([self._said], [], [], timeout_s)[0]:
            self._is_ready = os.read(self._said, 1) == READY
        return self._is_ready

    def post(self, number: int, now: int) -> None:
        """Give it its post."""
        if self.child.stdin is not None:
            self.child.stdin.write(b"%d\n" % number)
        self.since = now

    def end(self, grace_s: float) -> None:
        """Close its input, wait, and kill it if it stays."""
        if self.child.stdin is not None:
            with suppress(OSError):  # it is gone already
                self.child.stdin.close()
        try:
            self.child.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for descriptor in (self.handle, self._said):
            os.close(descriptor)


class Crew:
    """Members at posts 0 to n - 1, and one spare. Start it with `start`; end it with `close`.

    Args:
        module: Module to run with `python -m`; it must follow the protocol above.
        arguments: Its command line, from `sys.argv[2]` on.
        descriptors: Open descriptors that each member inherits.
        n: Number of posts.
        last_beat: Tells when the member at a post last said that it is alive, ns of `clock`.
        stall_ns: A silence longer than this counts as a death.
        on_fall: Told of each member lost; called on the watching thread.
        clock: Source of time, the same as the members'.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        descriptors: Sequence[int],
        n: int,
        *,
        last_beat: Callable[[int], int],
        stall_ns: int = 2_000_000_000,
        on_fall: Callable[[Fall], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if n < 1:
            raise WorkerError(f"a crew needs at least one post, not {n}")
        self.falls: list[Fall] = []
        """Every member lost so far."""
        self._command = (module, list(arguments), list(descriptors))
        self._n = n
        self._last_beat = last_beat
        self._stall_ns = stall_ns
        self._on_fall = on_fall or self.falls.append
        self._clock = clock or WallClock()
        self._members: list[Member] = []
        self._spare: Member | None = None
        self._thread: threading.Thread | None = None
        self._wake_out, self._wake_in = os.pipe()
        self._closing = False

    def start(self) -> None:
        """Start every member, wait until they are ready, give them their posts, and keep watch.

        Raises:
            WorkerError: If one does not get ready.
        """
        started = [Member(*self._command) for _ in range(self._n + 1)]
        self._spare = started.pop()
        self._members = started
        for number, member in enumerate(started):
            if not member.is_ready(_START_S) or not member.is_alive:
                code = member.child.poll()
                self.close()
                raise WorkerError(f"{self._command[0]} did not get ready (code {code})")
            member.post(number, self._clock.now())
        self._thread = threading.Thread(target=self._watch, name="crew", daemon=True)
        self._thread.start()

    @property
    def pids(self) -> list[int]:
        """Return the process id at each post."""
        return [member.child.pid for member in self._members]

    @property
    def spare_pid(self) -> int | None:
        """Return the spare's process id."""
        return self._spare.child.pid if self._spare is not None else None

    def wait_for_spare(self, timeout_s: float = _START_S) -> bool:
        """Wait until the spare is ready; return whether it is."""
        spare = self._spare
        return spare is not None and spare.is_ready(timeout_s)

    def close(self) -> None:
        """End every member and wait until it is gone. Closing twice is harmless."""
        if self._closing:
            return
        self._closing = True
        os.write(self._wake_in, b"x")
        if self._thread is not None:
            self._thread.join()
        for member in self._members:
            member.end(_GRACE_S)
        if self._spare is not None:
            self._spare.end(0.0 if not self._spare.is_ready() else _GRACE_S)
        for descriptor in (self._wake_out, self._wake_in):
            os.close(descriptor)

    # -- the watch -------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._closing:
            handles = [member.handle for member in self._members]
            select.select([self._wake_out, *handles], [], [], _LOOK_S)
            if self._closing:
                return
            for number, member in enumerate(self._members):
                if why := self._fault(number, member):
                    self._replace(number, member, why)

    def _fault(self, number: int, member: Member) -> str:
        code = member.child.poll()
        if code is not None:
            return f"signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        silence = self._clock.now() - max(member.since, self._last_beat(number))
        return f"silent for {silence / 1e9:.1f} s" if silence > self._stall_ns else ""

    def _replace(self, number: int, member: Member, why: str) -> None:
        noticed = self._clock.now()
        member.child.kill()  # ends a stopped one too
        spare = self._spare if self._spare is not None and self._spare.is_alive else None
        spare = spare or Member(*self._command)
        while not spare.is_ready(_LOOK_S):
            if self._closing or not spare.is_alive:
                break
        if spare.is_alive and spare.is_ready():
            spare.post(number, self._clock.now())
        # One that died before it was ready is found dead on the next round.
        self._members[number] = spare
        filled = self._clock.now()
        self._spare = Member(*self._command)
        member.end(0.0)
        self._on_fall(
            Fall(post=number, pid=member.child.pid, why=why, ts=noticed, ts_filled=filled)
        )


def take_post() -> int:
    """Member: say that we are ready and wait for a post; -1 if we are never given one.

    `sys.argv[1]` is the descriptor to say it through.
    """
    os.write(int(sys.argv[1]), READY)
    line = sys.stdin.buffer.readline()
    return int(line) if line.strip() else -1


def orphaned() -> bool:
    """Member: return whether our input has ended, which is how we are told to go."""
    ready = select.select([sys.stdin.fileno()], [], [], 0)[0]
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)
