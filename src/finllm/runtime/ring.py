"""Shared memory between processes of one host: a table where the newest wins, a ring for many readers.

A `Table` goes from one writer to one reader. Each key has one slot, overwritten in place under a
sequence lock: odd while it is being written, twice the number of writings otherwise. The writer never
waits; a log of the keys written tells the reader where to look, and if the reader falls behind by the
length of the log it looks at every key that was ever written. What was overwritten unread is the number
of writings less the number of readings, so nothing has to be counted on the way. Keys beyond the highest
written are never touched, so that room for many costs no memory and no time.

A `Ring` goes from one writer to any number of readers, who only look: each keeps its own place, and
counts what was overwritten before it came. Entries carry their number, so that a torn reading shows.

Memory is anonymous (`memfd_create`), handed on as a descriptor, and gone with its last holder. A
reader that has nothing to do says so and waits on an eventfd; a writer makes the system call only
then. The fence between "I sleep" and "is there anything?" on one side, and between "there is" and "do
you sleep?" on the other, is what keeps a wake-up from being lost. Words are int64; it knows nothing of
what they mean.

Source:
    Lameter (2005), "Effective synchronization on Linux/NUMA systems", sequence locks; Boehm (2012), "Can
    seqlocks get along with programming language memory models?", section 4.
"""

import mmap
import os
import select
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.runtime.atomics import acquire, fence, order, release
from finllm.runtime.kernels import kernel

Words = NDArray[np.int64]

LINE: Final = 8
"""Words in a cache line; what different processes write lies on different lines."""
LAYOUT: Final = 0x66696E72_0001
"""First word of every segment: what it is, and the version of its layout."""
SPINS: Final = 2_000
"""Looks at a slot that is being written before it is left for later: about 10 us."""
_LEAST_LOG: Final = 1_024

# The first words of a segment, each on a line of its own where it is written while running.
_LAYOUT, _KEYS, _WIDTH, _LENGTH = 0, 1, 2, 3
_HEAD: Final = 8
_USED: Final = 9
"""A table's keys in use: the highest written, and one. The writer's, like the head."""
_BEAT: Final = 24
_STOP: Final = 32
_BODY: Final = 40


class Segment:
    """Anonymous shared memory as int64 words. Make one with `create` or `attach`."""

    def __init__(self, descriptor: int, *, is_writable: bool = True) -> None:
        self.descriptor = descriptor
        access = mmap.ACCESS_WRITE if is_writable else mmap.ACCESS_READ
        self._map = mmap.mmap(descriptor, 0, access=access)
        self.words: Words = np.frombuffer(self._map, dtype=np.int64)

    @classmethod
    def create(cls, name: str, n_words: int) -> Self:
        """Make a segment of zeros. The name shows in `/proc/PID/fd` only."""
        descriptor = os.memfd_create(f"finllm-{name}", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, 8 * n_words)
        return cls(descriptor)

    @classmethod
    def attach(cls, descriptor: int, *, is_writable: bool = True) -> Self:
        """Map a segment that another process made; the descriptor is ours from now on."""
        return cls(descriptor, is_writable=is_writable)

    def close(self) -> None:
        """Let go of the descriptor; the memory goes with the last array that looks into it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _up(n: int) -> int:
    """Return n rounded up to whole cache lines."""
    return -(-n // LINE) * LINE


def _check(words: Words, kind: int) -> None:
    if len(words) < _BODY or words[_LAYOUT] != LAYOUT + kind:
        raise InputError(
            "is no segment of this kind, or of another version",
            place="shared memory",
            mend="Let both processes run the same version of fin-llm-inference.",
        )


# -- a table: the newest of each key ------------------------------------------------------------------

_TABLE: Final = 1 << 16
_RING: Final = 2 << 16
_READ_WORDS: Final = 4
"""The reader's own words before its counts: place in the log, keys left to look at, times it fell
behind, slots left for later."""


@kernel
def _slot(table: Words, key: int) -> int:
    width = (table[2] + 1 + 7) // 8 * 8
    keys = (table[1] + 7) // 8 * 8
    return int(40 + table[3] + keys + key * width)


@kernel
def put(table: Words, key: int, payload: Words) -> bool:
    """Write a key's newest payload; return whether the reader sleeps and is to be woken.

    Args:
        table: The segment.
        key: From 0, less than the table's number of keys; the caller sees to that.
        payload: int64 [width].
    """
    if key >= table[9]:
        release(table, 9, key + 1)
    at = _slot(table, key)
    count = table[at]
    release(table, at, count + 1)
    order()
    for i in range(table[2]):
        table[at + 1 + i] = payload[i]
    release(table, at, count + 2)
    head = table[8]
    release(table, 40 + head % table[3], key)
    release(table, 8, head + 1)
    fence()
    if acquire(table, 16) == 0:
        return False
    release(table, 16, 0)
    return True


@kernel
def look(table: Words, key: int, payload: Words) -> int:
    """Copy a key's newest payload; return how often it was written, 0 if never, -1 if it is torn.

    Torn means that the slot was being written for all of `SPINS` looks: its writer may have died.
    """
    at = _slot(table, key)
    for _ in range(SPINS):
        before = acquire(table, at)
        if before & 1:
            continue
        for i in range(table[2]):
            payload[i] = table[at + 1 + i]
        order()
        if acquire(table, at) == before:
            return int(before >> 1)
    return -1


@kernel
def _look_everywhere(table: Words, mine: Words) -> None:
    mine[0] = acquire(table, 8)  # first: a key that comes into use from here on is in the log
    mine[1] = acquire(table, 9)


@kernel
def _next_key(table: Words, mine: Words) -> int:
    """Return the next key to look at, or -1."""
    while True:
        head = acquire(table, 8)
        if head - mine[0] >= table[3]:  # the log has come round: look at every key
            _look_everywhere(table, mine)
            mine[2] += 1
        if mine[1] > 0:
            mine[1] -= 1
            return int(mine[1])
        if mine[0] >= head:
            return -1
        key = acquire(table, 40 + mine[0] % table[3])
        if acquire(table, 8) - mine[0] < table[3]:
            mine[0] += 1
            return int(key)


@kernel
def collect(table: Words, mine: Words, keys: Words, counts: Words, payloads: Words) -> int:
    """Copy the newest payload of each key written since it was last collected; return how many.

    A slot that is torn is passed over, and every key is looked at again next time.

    Args:
        table: The segment.
        mine: int64, the reader's own: its words, then for each key the count last collected.
        keys: int64 [n], filled.
        counts: int64 [n], filled: how often the key had been written.
        payloads: int64 [n, width], filled.
    """
    found, torn = 0, -1
    while found < len(keys):
        key = _next_key(table, mine)
        if key < 0:
            break
        if key == torn or acquire(table, _slot(table, key)) == 2 * mine[4 + key]:
            continue
        count = look(table, key, payloads[found])
        if count < 0:
            mine[3] += 1
            torn = key
            continue
        mine[4 + key] = count
        keys[found] = key
        counts[found] = count
        found += 1
    if torn >= 0:
        mine[1] = acquire(table, 9)
    return found


@kernel
def doze(table: Words, mine: Words) -> bool:
    """Say that the reader is about to sleep; return False if there is something to do after all."""
    release(table, 16, 1)
    fence()
    if acquire(table, 8) == mine[0] and mine[1] == 0:
        return True
    release(table, 16, 0)
    return False


@kernel
def _mark(table: Words, key: int, count: int) -> None:
    release(table, 40 + table[3] + key, count)


class Table:
    """One writer's newest payload for each key, for one reader.

    Args:
        segment: Made by `create`, or attached by the reader.
    """

    def __init__(self, segment: Segment) -> None:
        _check(segment.words, _TABLE)
        self.segment = segment
        self.words = segment.words
        self.n_keys = int(self.words[_KEYS])
        self.width = int(self.words[_WIDTH])

    @classmethod
    def create(cls, name: str, n_keys: int, width: int, log: int = 1 << 16) -> Self:
        """Make a table.

        Args:
            name: Shown by the operating system.
            n_keys: Number of keys.
            width: Words of a payload.
            log: Writings that the reader may fall behind before it looks at every key.
        """
        length = _up(max(log, _LEAST_LOG))
        body = length + _up(n_keys) + n_keys * _up(width + 1)
        segment = Segment.create(name, _BODY + body)
        segment.words[[_LAYOUT, _KEYS, _WIDTH, _LENGTH]] = (LAYOUT + _TABLE, n_keys, width, length)
        return cls(segment)

    def reading(self) -> Words:
        """Return a reader's own words, as far as an earlier reader had marked its work done."""
        mine = np.zeros(_READ_WORDS + self.n_keys, dtype=np.int64)
        done = self.done
        mine[_READ_WORDS : _READ_WORDS + len(done)] = done
        _look_everywhere(self.words, mine)
        return mine

    @property
    def done(self) -> Words:
        """Return for each key in use the count that the reader has marked, int64 [n], a copy."""
        at = _BODY + int(self.words[_LENGTH])
        return self.words[at : at + int(self.words[_USED])].copy()

    def mark(self, key: int, count: int) -> None:
        """Reader: mark that a key's work is done up to a count."""
        _mark(self.words, key, count)

    @property
    def written(self) -> int:
        """Return how often any key was written."""
        return int(self.words[_HEAD])

    def beat(self, ts: int) -> None:
        """Reader: say that it is alive."""
        self.words[_BEAT] = ts

    @property
    def last_beat(self) -> int:
        """Return when the reader last said that it is alive."""
        return int(self.words[_BEAT])

    def stop(self) -> None:
        """Writer: ask the reader to end."""
        self.words[_STOP] = 1

    @property
    def stopping(self) -> bool:
        """Return whether the reader is asked to end."""
        return bool(self.words[_STOP])


# -- a ring: everything, for whoever keeps up ---------------------------------------------------------


@kernel
def _entry(ring: Words, number: int) -> int:
    width = (ring[2] + 1 + 7) // 8 * 8
    return int(40 + (number % ring[3]) * width)


@kernel
def publish(ring: Words, payload: Words) -> int:
    """Append one entry and return its number, from 1.

    Args:
        ring: The segment.
        payload: int64 [width].
    """
    number = ring[8] + 1
    at = _entry(ring, number)
    release(ring, at, -number)
    order()
    for i in range(ring[2]):
        ring[at + 1 + i] = payload[i]
    release(ring, at, number)
    release(ring, 8, number)
    return int(number)


@kernel
def read(ring: Words, mine: Words, payloads: Words) -> int:
    """Copy the entries that a reader has not seen, oldest first; return how many.

    Args:
        ring: The segment.
        mine: int64 [2], the reader's own: number of the last entry seen, entries overrun.
        payloads: int64 [n, width], filled.
    """
    found = 0
    while found < len(payloads):
        head = acquire(ring, 8)
        if head - mine[0] > ring[3]:
            mine[1] += head - ring[3] - mine[0]
            mine[0] = head - ring[3]
        if mine[0] >= head:
            break
        number = mine[0] + 1
        at = _entry(ring, number)
        mine[0] = number
        if acquire(ring, at) != number:
            mine[1] += 1
            continue
        for i in range(ring[2]):
            payloads[found, i] = ring[at + 1 + i]
        order()
        if acquire(ring, at) == number:
            found += 1
        else:
            mine[1] += 1
    return found


class Ring:
    """One writer's entries for any number of readers.

    Args:
        segment: Made by `create`, or attached by a reader, who may map it for reading only.
    """

    def __init__(self, segment: Segment) -> None:
        _check(segment.words, _RING)
        self.segment = segment
        self.words = segment.words
        self.width = int(self.words[_WIDTH])

    @classmethod
    def create(cls, name: str, width: int, length: int = 1 << 12) -> Self:
        """Make a ring.

        Args:
            name: Shown by the operating system.
            width: Words of a payload.
            length: Entries kept.
        """
        segment = Segment.create(name, _BODY + length * _up(width + 1))
        segment.words[[_LAYOUT, _KEYS, _WIDTH, _LENGTH]] = (LAYOUT + _RING, 1, width, length)
        return cls(segment)

    @property
    def head(self) -> int:
        """Return the number of the newest entry; 0 before the first."""
        return int(self.words[_HEAD])

    def newest(self) -> Words | None:
        """Return a copy of the newest entry, or None: for a writer that takes over."""
        if self.head == 0:
            return None
        mine = np.array([self.head - 1, 0], dtype=np.int64)
        payloads = np.zeros((1, self.width), dtype=np.int64)
        return payloads[0] if read(self.words, mine, payloads) else None


# -- waking ----------------------------------------------------------------------------------------------


class Bell:
    """An eventfd: rung by one process, waited on by another.

    Args:
        descriptor: Of an eventfd; None makes one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        made = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if descriptor is None else descriptor
        self.descriptor = made
        self._poll = select.poll()
        self._poll.register(made, select.POLLIN)

    def ring(self) -> None:
        """Wake whoever waits."""
        os.eventfd_write(self.descriptor, 1)

    def wait(self, timeout_ms: int) -> bool:
        """Wait until it rings, at most so long; return whether it did."""
        if not self._poll.poll(timeout_ms):
            return False
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go of it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
