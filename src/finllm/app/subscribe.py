"""A consumer's door on the same host: forecast rows from another process, through shared memory.

    with finllm.subscribe() as feed:
        for batch in feed:
            for instrument, row in zip(batch.instruments, batch.rows, strict=True): ...

The publisher listens on a Unix socket and hands each subscriber the descriptors of the rings (to look
at only), its sleeping flag and its bell; rows never pass through the socket. A subscriber that is too
slow loses rows and sees how many; with a spill file it loses none until the file or the disk is full.
What was published before the publisher went is still delivered. The socket's folder must be this user's
alone: whoever can write there could pass for the publisher.
"""

import array
import os
import selectors
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.edge.isolated import IsolatedEdge, Reader, Served, Sizes
from finllm.runtime.ring import Bell, Ring, Segment
from finllm.runtime.spill import Spill

FORMAT: Final = 1
_MOST_DESCRIPTORS: Final = 64
_MOST_HELLO: Final = 1 << 16
_POLL_S: Final = 0.2
_END_POLL_S: Final = 0.01


def socket_path(name: str = "edge") -> Path:
    """Return where a publisher of a name listens: in a temporary folder that is this user's alone."""
    return Path(tempfile.gettempdir()) / f"finllm-{os.getuid()}" / f"{name}.sock"


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber is told, beside its descriptors."""

    format: int
    sizes: Sizes
    n_rings: int
    door: int
    horizons: tuple[str, ...]
    model_version: str
    spec_hash: str


class Publisher:
    """Lets subscribers in, on a thread of its own. Close it before the edge.

    Args:
        edge: The edge, started.
        path: Where to listen; only this user can connect. A folder that is not there is made.
        horizons: Names of the horizons of a row, in order.
        model_version: Version of the model that speaks.
        spec_hash: Hash of the rows' feature spec.

    Raises:
        InputError: If another publisher listens there, or the folder is not this user's alone.
    """

    def __init__(
        self,
        edge: IsolatedEdge,
        path: Path,
        *,
        horizons: tuple[str, ...],
        model_version: str,
        spec_hash: str,
    ) -> None:
        self._edge, self._path = edge, path
        self._hello = Hello(
            format=FORMAT,
            sizes=edge.sizes,
            n_rings=len(edge.rings),
            door=-1,
            horizons=horizons,
            model_version=model_version,
            spec_hash=spec_hash,
        )
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._guests: dict[socket.socket, int] = {}
        self._listener = _listen(path)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="publisher", daemon=True)
        self._thread.start()

    def name(self, instrument: str) -> None:
        """Tell every subscriber, present and future, the key of the next instrument number."""
        with self._lock:
            self._names.append(instrument)
            for guest in list(self._guests):
                self._tell(guest, [instrument])

    @property
    def n_subscribers(self) -> int:
        """Return how many are connected."""
        with self._lock:
            return len(self._guests)

    def close(self) -> None:
        """Stop listening and let everyone go."""
        self._closing.set()
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        with self._lock:
            for guest in list(self._guests):
                self._dismiss(guest)

    def _receive(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._listener, selectors.EVENT_READ)
            while not self._closing.is_set():
                for key, _ in waiting.select(_POLL_S):
                    one: Any = key.fileobj
                    if one is self._listener:
                        guest = self._admit()
                        if guest is not None:
                            waiting.register(guest, selectors.EVENT_READ)
                        continue
                    waiting.unregister(one)  # a subscriber never speaks: it has gone
                    with self._lock:
                        self._dismiss(one)

    def _admit(self) -> socket.socket | None:
        guest, _ = self._listener.accept()
        guest.settimeout(0.0)
        with self._lock:
            taken = self._edge.admit()
            if taken is None:
                guest.close()
                return None
            door, descriptors = taken
            hello = msgspec.structs.replace(self._hello, door=door)
            body = msgspec.json.encode(hello) + b"\n"
            rights = array.array("i", descriptors)
            self._guests[guest] = door
            try:
                guest.sendmsg([body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except OSError:  # it has gone already
                self._dismiss(guest)
                return None
            self._tell(guest, self._names)
        return guest

    def _tell(self, guest: socket.socket, names: list[str]) -> None:
        try:
            guest.sendall(b"".join(msgspec.json.encode(name) + b"\n" for name in names))
        except OSError:
            return  # the selector sees that it has gone

    def _dismiss(self, guest: socket.socket) -> None:
        door = self._guests.pop(guest, None)
        if door is not None:
            self._edge.dismiss(door)
        guest.close()


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which another user could put a socket of theirs, or come before us.

    Raises:
        InputError: If it is no folder of this user's alone, or a link.
        OSError: If it is not there.
    """
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        what = "is a link"
    elif not stat.S_ISDIR(found.st_mode):
        what = "is no folder"
    elif found.st_uid != os.getuid():
        what = f"belongs to another user (uid {found.st_uid})"
    elif found.st_mode & 0o077:
        what = f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    raise InputError(
        what,
        place=str(folder),
        mend="Let it be a folder of your own with mode 0700, or set TMPDIR to one for both ends.",
    )


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_folder(path.parent)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.exists():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)
            else:
                listener.close()
                raise InputError(
                    "another process publishes there",
                    place=str(path),
                    mend="Give this one another name, or stop the other.",
                )
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(16)
    return listener


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in the order in which they were published."""

    instruments: list[str]
    """[n], keys."""
    rows: NDArray[np.void]
    """[n], dtype `finllm.domain.forecast.forecast_row_dtype`."""


class Subscription:
    """A subscriber's end. Use it as a context manager.

    Args:
        path: Where the publisher listens.
        spill: A file that takes what comes while the caller is busy; None = what is overrun is lost.
        spill_mb: Its bound, beyond which the newest rows are lost and counted until there is room.

    Raises:
        InputError: If nobody listens there, it speaks another format, or the socket's folder is not
            this user's alone.
    """

    def __init__(self, path: Path, *, spill: Path | None = None, spill_mb: int = 64) -> None:
        self._socket = _connect(path)
        try:
            hello, descriptors, rest = _greet(self._socket, path)
        except InputError:
            self._socket.close()
            raise
        self.horizons = hello.horizons
        """Names of the horizons of a row, in order."""
        self.model_version = hello.model_version
        self.spec_hash = hello.spec_hash
        self._names: list[str] = []
        self._text = rest
        rings = [Segment.attach(d, is_writable=False) for d in descriptors[: hello.n_rings]]
        doors, bell = descriptors[hello.n_rings :]
        self._segments = [*rings, Segment.attach(doors)]
        self._bell = Bell(bell)
        self._reader = Reader(
            [Ring(ring) for ring in rings],
            hello.sizes,
            self._segments[-1].words,
            hello.door,
            self._bell,
        )
        self._spill = (
            None
            if spill is None
            else Spill(self._reader.words, self._reader.width, spill, spill_mb << 20)
        )

    @property
    def overruns(self) -> int:
        """Return how many rows were lost: this process was too slow, or its spill file took no more."""
        return self._reader.overruns + (self._spill.lost if self._spill is not None else 0)

    def read(self, timeout_s: float = 0.0) -> Batch | None:
        """Return the rows that have come, waiting so long at most; None if there are none."""
        timeout_ms = int(timeout_s * 1000)
        source = self._spill.take if self._spill is not None else self._reader.words
        words = source(timeout_ms)
        return None if words is None else self._batch(self._reader.served(words))

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches until the publisher has closed and everything published by then is delivered."""
        while not self.is_closed:
            batch = self.read(_POLL_S)
            if batch is not None:
                yield batch
        # Workers may go on after their publisher: the end is where the rings stand now.
        heads = self._reader.heads
        if self._spill is not None:
            self._spill.finish(lambda: self._reader.has_passed(heads))
        while not self._is_through(heads):
            batch = self.read(_END_POLL_S if self._spill is not None else 0.0)
            if batch is not None:
                yield batch

    def _is_through(self, heads: list[int]) -> bool:
        if self._spill is not None:
            return self._spill.is_finished
        return self._reader.has_passed(heads)

    @property
    def is_closed(self) -> bool:
        """Return whether the publisher has gone; rows may be left, which iteration delivers."""
        return not self._hear()

    def _batch(self, served: Served) -> Batch:
        numbers = served.key.tolist()
        while max(numbers) >= len(self._names) and self._hear(wait=True):
            pass
        names = self._names
        return Batch(
            instruments=[names[i] if i < len(names) else f"#{i}" for i in numbers],
            rows=served.rows,
        )

    def _hear(self, *, wait: bool = False) -> bool:
        """Take in the names told; return False once the publisher has gone."""
        self._socket.settimeout(1.0 if wait else 0.0)
        try:
            text = self._socket.recv(_MOST_HELLO)
        except (BlockingIOError, TimeoutError):
            text = None
        except OSError:
            return False
        if text == b"":
            return False
        self._text += text or b""
        *lines, self._text = self._text.split(b"\n")
        self._names += [msgspec.json.decode(line, type=str) for line in lines]
        return not (wait and text is None)

    def close(self) -> None:
        """Let go."""
        if self._spill is not None:
            self._spill.close()
        self._socket.close()
        for segment in self._segments:
            segment.close()
        self._bell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _check_folder(path.parent)
        made.connect(str(path))
    except InputError:
        made.close()
        raise
    except OSError as error:
        made.close()
        raise InputError(
            f"nobody publishes there ({error.strerror})",
            place=str(path),
            mend="Start 'finllm run' first, or name the publisher's socket.",
        ) from error
    return made


def _greet(made: socket.socket, path: Path) -> tuple[Hello, list[int], bytes]:
    made.settimeout(5.0)
    descriptors: list[int] = []
    text = b""
    while b"\n" not in text:
        part, fresh, _, _ = socket.recv_fds(made, _MOST_HELLO, _MOST_DESCRIPTORS)
        descriptors += fresh
        if not part:
            raise InputError(
                "the publisher has no door left",
                place=str(path),
                mend="Close another subscriber.",
            )
        text += part
    line, _, rest = text.partition(b"\n")
    hello = msgspec.json.decode(line, type=Hello)
    if hello.format != FORMAT:
        raise InputError(
            f"speaks format {hello.format}, not {FORMAT}",
            place=str(path),
            mend="Let both processes run the same version of fin-llm-inference.",
        )
    return hello, descriptors, rest


def subscribe(
    name: str = "edge", *, path: Path | None = None, spill: Path | None = None, spill_mb: int = 64
) -> Subscription:
    """Subscribe to the forecast rows of an edge that runs on this host.

    Args:
        name: The publisher's name.
        path: Its socket, instead of the place that goes with the name.
        spill: A file that takes what comes while the caller is busy.
        spill_mb: Its bound, beyond which the newest rows are lost and counted until there is room.

    Raises:
        InputError: If nobody publishes there, or the socket's folder is not this user's alone.
    """
    return Subscription(path or socket_path(name), spill=spill, spill_mb=spill_mb)
