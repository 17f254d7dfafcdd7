"""The edge in processes of its own: rows go in through shared memory, forecast rows come out of it.

The feed writes each instrument's newest entry (`serving`) into a table and never waits; a worker infers
and speaks about whatever is newest, and publishes into a ring that any number of processes read. What
it is told with a row are the parameters in force, from a second table; it keeps no state of its own, so
one that dies is replaced and the stream goes on. Instruments are dealt out to the workers in turn.

One entry of a ring, in words: the instrument's number, how often its slot had been written, the
version of the parameters, the forecast row, the entry it speaks about.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import WorkerError
from finllm.domain.forecast import forecast_row_dtype
from finllm.edge.artifact import AUTO
from finllm.edge.bank import Chosen, Models, open_models, read_bank
from finllm.edge.serving import (
    N_HORIZONS,
    REGIME,
    ROW,
    entry_words,
    out_words,
    parameter_words,
    speak,
)
from finllm.runtime.atomics import acquire, fence, release
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.crew import Crew, Fall, orphaned, take_post
from finllm.runtime.kernels import kernel
from finllm.runtime.ring import Bell, Ring, Segment, Table, collect, doze, look, publish, put, read

MODULE: Final = "finllm.edge.isolated"
N_KEYS: Final = 1 << 16
"""Instruments that one worker can serve: more than the books of every venue may hold together."""
BATCH: Final = 64
"""Rows inferred together at most."""
DOORS: Final = 16
"""Readers that can be woken."""
HEAD: Final = 3
"""Words of a ring's entry before the forecast row."""
_NAP_MS: Final = 100


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How long the arrays are, in words."""

    n_horizons: int
    entry: int
    parameters: int
    out: int

    @classmethod
    def of(cls, chosen: Chosen) -> "Sizes":
        """Return the sizes that a bank's rows have."""
        n = len(chosen.horizons)
        return cls(
            n_horizons=n,
            entry=entry_words(chosen.n_features),
            parameters=parameter_words(n),
            out=out_words(n),
        )


class Post:
    """What one worker shares with the feed and with its readers."""

    def __init__(self, entries: Table, parameters: Table, ring: Ring, bell: Bell) -> None:
        self.entries = entries
        self.parameters = parameters
        self.ring = ring
        self.bell = bell

    @classmethod
    def create(cls, sizes: Sizes, n_keys: int, ring_length: int) -> "Post":
        """Make the shared memory of one worker."""
        return cls(
            Table.create("rows", n_keys, sizes.entry),
            Table.create("parameters", n_keys, sizes.parameters),
            Ring.create("forecasts", HEAD + sizes.out + sizes.entry, ring_length),
            Bell(),
        )

    @property
    def descriptors(self) -> list[int]:
        """Return what a worker must inherit, in order."""
        parts = (self.entries, self.parameters, self.ring)
        return [*(part.segment.descriptor for part in parts), self.bell.descriptor]

    @classmethod
    def attach(cls, descriptors: list[int]) -> "Post":
        """Open the shared memory of one worker from inherited descriptors."""
        entries, parameters, ring, bell = descriptors
        return cls(
            Table(Segment.attach(entries)),
            Table(Segment.attach(parameters)),
            Ring(Segment.attach(ring)),
            Bell(bell),
        )

    def close(self) -> None:
        """Let go of it all."""
        for part in (self.entries, self.parameters, self.ring):
            part.segment.close()
        self.bell.close()


@kernel
def _sleepers(doors: NDArray[np.int64]) -> int:
    """Return the readers to be woken as bits, and count them as awake."""
    fence()
    found = 0
    for i in range(len(doors) // 8):
        if acquire(doors, 8 * i) == 1:
            release(doors, 8 * i, 0)
            found |= 1 << i
    return found


@kernel
def _refresh(
    table: NDArray[np.int64], key: int, cache: NDArray[np.int64], seen: NDArray[np.int64]
) -> None:
    count = look(table, key, cache[key])
    while count < 0:
        count = look(table, key, cache[key])
    seen[key] = count


@kernel
def _serve(  # noqa: PLR0917 - a kernel
    n: int,
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
    entries: NDArray[np.int64],
    raw: NDArray[np.float64],
    ts_emit: int,
    parameters: NDArray[np.int64],
    cache: NDArray[np.int64],
    seen: NDArray[np.int64],
    payload: NDArray[np.int64],
    ring: NDArray[np.int64],
    table: NDArray[np.int64],
) -> None:
    """Speak about each collected row, publish it, and mark it as done."""
    out_end = len(payload) - entries.shape[1]
    out = payload[3:out_end]
    for i in range(n):
        key = keys[i]
        _refresh(parameters, key, cache, seen)
        payload[0] = key
        payload[1] = counts[i]
        payload[2] = cache[key, 0]
        out[3] = ts_emit
        speak(entries[i], raw[i], cache[key], out)
        for j in range(entries.shape[1]):
            payload[out_end + j] = entries[i, j]
        publish(ring, payload)
        release(table, 40 + table[3] + key, counts[i])


class Worker:
    """The worker's whole life: collect, infer, speak, publish, sleep.

    Args:
        post: What it shares.
        doors: int64, sleeping flags of the readers, a cache line each.
        bells: The readers' bells.
        models: What infers, by the regime in each entry.
        sizes: Lengths of the arrays.
        clock: Source of `ts_emit`.
    """

    def __init__(
        self,
        post: Post,
        doors: NDArray[np.int64],
        bells: list[Bell],
        models: Models,
        sizes: Sizes,
        clock: Clock,
    ) -> None:
        n_keys = post.entries.n_keys
        self._post, self._doors, self._bells = post, doors, bells
        self._models, self._clock = models, clock
        self._mine = post.entries.reading()
        self._take_over()
        self._keys = np.zeros(BATCH, dtype=np.int64)
        self._counts = np.zeros(BATCH, dtype=np.int64)
        self._entries = np.zeros((BATCH, sizes.entry), dtype=np.int64)
        self._entries_f = self._entries.view(np.float64)
        self._cache = np.zeros((n_keys, sizes.parameters), dtype=np.int64)
        self._seen = np.zeros(n_keys, dtype=np.int64)
        self._payload = np.zeros(post.ring.width, dtype=np.int64)

    def _take_over(self) -> None:
        """Count as done what our predecessor published but had no time to mark."""
        last = self._post.ring.newest()
        if last is not None:
            key, count = int(last[0]), int(last[1])
            if count > self._mine[4 + key]:
                self._mine[4 + key] = count
                self._post.entries.mark(key, count)

    def step(self) -> int:
        """Serve what is there; return how many rows."""
        post = self._post
        n = collect(post.entries.words, self._mine, self._keys, self._counts, self._entries)
        if n == 0:
            return 0
        raw = self._models.infer(self._entries_f[:n, ROW:], self._entries[:n, REGIME])
        now = self._clock.now()
        post.entries.beat(now)
        _serve(
            n,
            self._keys,
            self._counts,
            self._entries,
            raw,
            now,
            post.parameters.words,
            self._cache,
            self._seen,
            self._payload,
            post.ring.words,
            post.entries.words,
        )
        sleepers = _sleepers(self._doors)
        while sleepers:
            lowest = sleepers & -sleepers
            self._bells[lowest.bit_length() - 1].ring()
            sleepers ^= lowest
        return n

    def run(self) -> None:
        """Work until asked to stop or left alone."""
        entries, clock = self._post.entries, self._clock
        while not entries.stopping:
            if self.step():
                continue
            entries.beat(clock.now())
            if orphaned():
                return
            if doze(entries.words, self._mine):
                self._post.bell.wait(_NAP_MS)


def main(folder: Path, descriptors: list[int], provider: str) -> None:
    """Get ready, wait for a post, and hold it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who then ends us
    chosen = read_bank(folder)
    sizes = Sizes.of(chosen)
    models = open_models(chosen, provider=provider)
    _rehearse(models, sizes)
    doors = Segment.attach(descriptors[0]).words
    bells = [Bell(descriptor) for descriptor in descriptors[1 : 1 + DOORS]]
    rest = descriptors[1 + DOORS :]
    number = take_post()
    if number < 0:
        return
    post = Post.attach(rest[4 * number : 4 * number + 4])
    Worker(post, doors, bells, models, sizes, WallClock()).run()


def _rehearse(models: Models, sizes: Sizes) -> None:
    """Go through every kernel once, so that the first real row does not wait for their loading.

    One row and two: kernels are compiled for each layout of what they are given, and a single row lies
    otherwise in memory than several. Then what only the successor of a fallen worker needs.
    """
    post = Post.create(sizes, 2, 4)
    doors = np.zeros(8 * DOORS, dtype=np.int64)
    worker = Worker(post, doors, [], models, sizes, WallClock())
    parameters = np.zeros(sizes.parameters, dtype=np.int64)
    parameters[N_HORIZONS] = sizes.n_horizons
    for n in (1, 2):
        for key in range(n):
            put(post.parameters.words, key, parameters)
            put(post.entries.words, key, np.zeros(sizes.entry, dtype=np.int64))
        worker.step()
    doze(post.entries.words, worker._mine)  # noqa: SLF001 - our own
    post.ring.newest()
    post.entries.mark(0, 1)
    post.close()


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that came back, in the order of their publication."""

    key: NDArray[np.int64]
    """[n], instrument numbers."""
    parameters: NDArray[np.int64]
    """[n], versions of the parameters."""
    rows: NDArray[np.void]
    """[n], forecast rows."""
    entries: NDArray[np.int64]
    """[n, 9 + F], what they speak about."""


class Reader:
    """One reader's place in every ring.

    Args:
        rings: The rings.
        sizes: Lengths of the arrays.
        doors: int64, the sleeping flags.
        door: Which of them is ours.
        bell: Ours.
    """

    def __init__(
        self, rings: list[Ring], sizes: Sizes, doors: NDArray[np.int64], door: int, bell: Bell
    ) -> None:
        self._rings, self._sizes = rings, sizes
        self._doors, self._door, self._bell = doors, door, bell
        self._mine = np.zeros((len(rings), 2), dtype=np.int64)
        for mine, ring in zip(self._mine, rings, strict=True):
            mine[0] = ring.head
        self._places = list(zip(self._mine, rings, strict=True))
        self._next = 0
        self._buffer = np.zeros((256, rings[0].width), dtype=np.int64)
        self._dtype = forecast_row_dtype(sizes.n_horizons)

    @property
    def overruns(self) -> int:
        """Return how many rows were overwritten before this reader came to them."""
        return int(self._mine[:, 1].sum())

    def read(self, timeout_ms: int = 0) -> Served | None:
        """Return what has come, waiting so long at most; None if nothing has."""
        words = self.words(timeout_ms)
        return None if words is None else self.served(words)

    @property
    def width(self) -> int:
        """Return the words of an entry."""
        return self._rings[0].width

    def words(self, timeout_ms: int = 0) -> NDArray[np.int64] | None:
        """Return what has come as it stands in the rings, int64 [n, width]; None if nothing has."""
        found = self._look()
        if found is not None or timeout_ms <= 0:
            return found
        release_flag(self._doors, 8 * self._door, 1)
        found = self._look()
        if found is None:
            self._bell.wait(timeout_ms)
            found = self._look()
        release_flag(self._doors, 8 * self._door, 0)
        return found

    def wake(self) -> None:
        """End a wait early; called by another thread that has something else to be looked at."""
        self._bell.ring()

    def _look(self) -> NDArray[np.int64] | None:
        for _ in self._places:  # in turn, so that a busy ring does not keep us from the others
            mine, ring = self._places[self._next]
            self._next = (self._next + 1) % len(self._places)
            n = read(ring.words, mine, self._buffer)
            if n:
                return self._buffer[:n].copy()
        return None

    @property
    def heads(self) -> list[int]:
        """Return the number of each ring's newest entry."""
        return [ring.head for ring in self._rings]

    def has_passed(self, heads: list[int]) -> bool:
        """Return whether each ring has been read, or has overrun us, up to these entries."""
        return all(
            int(mine[0]) >= head for (mine, _), head in zip(self._places, heads, strict=True)
        )

    def served(self, words: NDArray[np.int64]) -> Served:
        """Return entries, int64 [n, width], as what they mean."""
        end = HEAD + self._sizes.out
        return Served(
            key=words[:, 0],
            parameters=words[:, 2],
            rows=np.ascontiguousarray(words[:, HEAD:end]).view(self._dtype)[:, 0],
            entries=np.ascontiguousarray(words[:, end:]),
        )


@kernel
def release_flag(words: NDArray[np.int64], at: int, value: int) -> None:
    """Write one flag, and let no later read pass it."""
    release(words, at, value)
    fence()


class IsolatedEdge:
    """The feed's side: starts the workers, hands rows over, and reads what comes back.

    Args:
        folder: Folder of the bank or artifact; each worker loads it.
        n: Number of workers.
        provider: Where its graph runs; see `artifact.open_model`.
        n_keys: Instruments that each can serve.
        ring_length: Rows that a reader may fall behind.
        stall_ns: A worker silent for longer is replaced.
        on_fall: Told of each worker lost, on another thread.
    """

    def __init__(
        self,
        folder: Path,
        n: int = 1,
        *,
        provider: str = AUTO,
        n_keys: int = N_KEYS,
        ring_length: int = 1 << 13,
        stall_ns: int = 2_000_000_000,
        on_fall: Callable[[Fall], None] | None = None,
    ) -> None:
        self.sizes = Sizes.of(read_bank(folder))
        self._doors = Segment.create("doors", 8 * DOORS)
        self._bells = [Bell() for _ in range(DOORS)]
        self._posts = [Post.create(self.sizes, n_keys, ring_length) for _ in range(n)]
        self.crew = Crew(
            MODULE,
            [str(folder), ",".join(str(d) for d in self._descriptors), provider],
            self._descriptors,
            n,
            last_beat=lambda post: self._posts[post].entries.last_beat,
            stall_ns=stall_ns,
            on_fall=on_fall,
        )
        self._free_doors = list(range(DOORS - 1, -1, -1))
        self._n_keys = n * n_keys

    @property
    def _descriptors(self) -> list[int]:
        shared = [self._doors.descriptor, *(bell.descriptor for bell in self._bells)]
        return shared + [d for post in self._posts for d in post.descriptors]

    def start(self) -> None:
        """Start the workers and wait until they are warm."""
        self.crew.start()

    def put(self, key: int, entry: NDArray[np.int64]) -> None:
        """Hand over an instrument's newest row; never waits.

        Args:
            key: The instrument's number.
            entry: int64 [9 + F], observed.

        Raises:
            WorkerError: If the workers have no room for that number.
        """
        if not 0 <= key < self._n_keys:
            raise self._no_room(key)
        post = self._posts[key % len(self._posts)]
        if put(post.entries.words, key // len(self._posts), entry):
            post.bell.ring()

    def set_parameters(self, key: int, parameters: NDArray[np.int64]) -> None:
        """Put an instrument's parameters in force from the next row that a worker takes up.

        Raises:
            WorkerError: If the workers have no room for that number.
        """
        if not 0 <= key < self._n_keys:
            raise self._no_room(key)
        put(
            self._posts[key % len(self._posts)].parameters.words,
            key // len(self._posts),
            parameters,
        )

    def _no_room(self, key: int) -> WorkerError:
        return WorkerError(
            f"instrument number {key} is not among the {self._n_keys} for which {len(self._posts)} "
            "worker(s) have room. Follow fewer instruments, or set edge.workers higher."
        )

    @property
    def written(self) -> int:
        """Return how many rows were handed over."""
        return sum(post.entries.written for post in self._posts)

    @property
    def published(self) -> int:
        """Return how many rows were served."""
        return sum(post.ring.head for post in self._posts)

    @property
    def conflated(self) -> int:
        """Return how many rows were overwritten by a newer one of their instrument before service."""
        return sum(int(post.entries.done.sum()) - post.ring.head for post in self._posts)

    @property
    def waiting(self) -> int:
        """Return how many rows were written since their instruments were last served."""
        return self.written - sum(int(post.entries.done.sum()) for post in self._posts)

    @property
    def rings(self) -> list[Ring]:
        """Return the workers' rings."""
        return [post.ring for post in self._posts]

    def admit(self) -> tuple[int, list[int]] | None:
        """Take a door for a reader elsewhere; return it and the descriptors to hand on.

        They are of the rings, the sleeping flags and the reader's bell. None if no door is left.
        """
        if not self._free_doors:
            return None
        door = self._free_doors.pop()
        rings = [ring.segment.descriptor for ring in self.rings]
        return door, [*rings, self._doors.descriptor, self._bells[door].descriptor]

    def dismiss(self, door: int) -> None:
        """Give a door back."""
        self._doors.words[8 * door] = 0
        self._free_doors.append(door)

    def reader(self) -> Reader:
        """Return a reader in this process, from now on.

        Raises:
            WorkerError: If no door is left.
        """
        taken = self.admit()
        if taken is None:
            raise WorkerError(f"all {DOORS} doors are taken")
        door, _ = taken
        return Reader(self.rings, self.sizes, self._doors.words, door, self._bells[door])

    def close(self) -> None:
        """End the workers and let go of the memory."""
        for post in self._posts:
            post.entries.stop()
            post.bell.ring()
        self.crew.close()
        for post in self._posts:
            post.close()
        self._doors.close()
        for bell in self._bells:
            bell.close()


if __name__ == "__main__":
    main(Path(sys.argv[2]), [int(d) for d in sys.argv[3].split(",")], sys.argv[4])
