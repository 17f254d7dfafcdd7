"""Laws of the shared table and the shared ring."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from finllm.domain.errors import InputError
from finllm.runtime.ring import Bell, Ring, Segment, Table, collect, doze, look, publish, put, read

WIDTH = 5
N_KEYS = 7


def _payload(value: int, width: int = WIDTH) -> np.ndarray:
    return np.full(width, value, dtype=np.int64)


def _collect(table: Table, mine: np.ndarray, n: int = 64) -> list[tuple[int, int, int]]:
    keys, counts = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    payloads = np.zeros((n, table.width), dtype=np.int64)
    found = collect(table.words, mine, keys, counts, payloads)
    assert (payloads[:found] == payloads[:found, :1]).all()
    return [(int(keys[i]), int(counts[i]), int(payloads[i, 0])) for i in range(found)]


class Newest(RuleBasedStateMachine):
    """A table against a dictionary: the newest of each key, and every overwriting accounted for."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table.create("t", N_KEYS, WIDTH)
        self.mine = self.table.reading()
        self.written = dict.fromkeys(range(N_KEYS), 0)
        self.newest: dict[int, int] = {}
        self.value = 0
        self.served = 0

    @rule(key=st.integers(0, N_KEYS - 1), times=st.sampled_from([1, 1, 2, 30, 1_500]))
    def write(self, key: int, times: int) -> None:
        for _ in range(times):
            self.value += 1
            put(self.table.words, key, _payload(self.value))
        self.written[key] += times
        self.newest[key] = self.value

    @rule(n=st.integers(1, 10))
    def serve(self, n: int) -> None:
        for key, count, value in _collect(self.table, self.mine, n):
            assert count == self.written[key]
            assert value == self.newest.pop(key)
            self.table.mark(key, count)
            self.served += 1

    @rule()
    def take_over(self) -> None:
        """Another reader goes on from what was marked."""
        self.mine = self.table.reading()

    @invariant()
    def everything_is_served_conflated_or_waiting(self) -> None:
        done = int(self.table.done.sum())
        waiting = self.table.written - done
        conflated = done - self.served
        assert self.table.written == sum(self.written.values())
        assert waiting >= len(self.newest)
        assert conflated >= 0
        if not self.newest:
            assert waiting == 0

    @invariant()
    def it_sleeps_only_when_there_is_nothing(self) -> None:
        if doze(self.table.words, self.mine.copy()):
            assert not self.newest
            self.table.words[16] = 0


TestNewest = Newest.TestCase
TestNewest.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_a_table_read_while_it_is_written_never_shows_a_torn_payload() -> None:
    width, table = 60, Table.create("t", 3, 60, log=1_024)
    mine, n = table.reading(), 60_000

    def write() -> None:
        for i in range(1, n + 1):
            put(table.words, i % 3, _payload(i, width))

    writer = threading.Thread(target=write)
    writer.start()
    served, last = 0, {}
    while writer.is_alive() or table.written != int(table.done.sum()):
        for key, count, value in _collect(table, mine, 2):
            assert value > last.get(key, 0)
            last[key] = value
            table.mark(key, count)
            served += 1
    writer.join()
    assert table.written == n
    assert sorted(last.values()) == [n - 2, n - 1, n]
    assert 0 < served <= n


@pytest.mark.parametrize("torn", [0, 1])
def test_a_slot_left_in_mid_write_is_passed_over_and_nothing_else_waits_for_it(torn: int) -> None:
    table = Table.create("t", 3, WIDTH)
    mine = table.reading()
    put(table.words, torn, _payload(7))
    at = int(np.flatnonzero(table.words == 7)[0]) - 1
    table.words[at] += 1  # the writer died here
    assert look(table.words, torn, _payload(0)) == -1
    put(table.words, 1 - torn, _payload(8))
    assert [value for _, _, value in _collect(table, mine)] == [8]
    assert mine[3] > 0
    assert not doze(table.words, mine), "it is looked at again"
    assert _collect(table, mine) == []
    table.words[at] += 1  # or it was only slow
    assert [value for _, _, value in _collect(table, mine)] == [7]


def test_a_reader_of_a_ring_gets_everything_in_order_or_counts_what_it_missed() -> None:
    ring = Ring.create("r", WIDTH, length=16)
    mine, rng = np.zeros(2, dtype=np.int64), np.random.default_rng(3)
    out, value, seen = np.zeros((8, WIDTH), dtype=np.int64), 0, []
    for _ in range(400):
        for _ in range(int(rng.integers(0, 24))):
            value += 1
            assert publish(ring.words, _payload(value)) == value
        for _ in range(int(rng.integers(0, 4))):
            found = read(ring.words, mine, out)
            seen += out[:found, 0].tolist()
    while found := read(ring.words, mine, out):
        seen += out[:found, 0].tolist()
    assert seen == sorted(set(seen))
    assert len(seen) + mine[1] == value == ring.head
    assert mine[1] > 0
    newest = ring.newest()
    assert newest is not None
    assert newest[0] == value


def test_readers_of_a_ring_do_not_disturb_each_other_or_the_writer() -> None:
    width, n = 150, 30_000
    ring = Ring.create("r", width, length=64)
    done = threading.Event()
    results: list[tuple[int, int, bool]] = []

    def follow(batch: int) -> None:
        looking = Ring(Segment.attach(os.dup(ring.segment.descriptor), is_writable=False))
        mine, out = np.zeros(2, dtype=np.int64), np.zeros((batch, width), dtype=np.int64)
        count, last, is_sound = 0, 0, True
        while not (done.is_set() and mine[0] == n):
            found = read(looking.words, mine, out)
            rows = out[:found]
            is_sound &= bool((rows == rows[:, :1]).all())
            for value in rows[:, 0].tolist():
                is_sound &= value > last
                last = value
            count += found
        results.append((count, int(mine[1]), is_sound))

    readers = [threading.Thread(target=follow, args=(batch,)) for batch in (1, 40)]
    for reader in readers:
        reader.start()
    for i in range(1, n + 1):
        publish(ring.words, _payload(i, width))
    done.set()
    for reader in readers:
        reader.join()
    assert all(is_sound and count + missed == n for count, missed, is_sound in results)


CHILD = """
import sys, time
import numpy as np
from finllm.runtime.ring import Bell, Segment, Table, put
table, bell = Table(Segment.attach(int(sys.argv[1]))), Bell(int(sys.argv[2]))
value = 0
print("going", flush=True)
while True:
    value += 1
    if put(table.words, value % table.n_keys, np.full(table.width, value, dtype=np.int64)):
        bell.ring()
"""


def test_a_writer_killed_in_full_flight_leaves_every_other_slot_readable() -> None:
    table, bell = Table.create("t", 5, 400), Bell()
    shared = (table.segment.descriptor, bell.descriptor)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, shared)], pass_fds=shared, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"going\n"
    mine = table.reading()
    while table.written < 5_000:
        _collect(table, mine)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    _collect(table, mine)
    out = np.zeros(400, dtype=np.int64)
    torn = [key for key in range(5) if look(table.words, key, out) < 0]
    assert len(torn) <= 1


def test_a_bell_wakes_whoever_sleeps_and_only_then() -> None:
    table, bell = Table.create("t", 2, WIDTH), Bell()
    mine = table.reading()
    assert _collect(table, mine) == []
    assert not put(table.words, 0, _payload(1))
    assert not doze(table.words, mine), "there is something to do"
    assert len(_collect(table, mine)) == 1
    assert doze(table.words, mine)
    assert not bell.wait(1)
    assert put(table.words, 0, _payload(2)), "it sleeps"
    bell.ring()
    assert bell.wait(1_000)
    assert not put(table.words, 0, _payload(3)), "it was woken already"


def test_memory_of_another_kind_is_refused() -> None:
    ring = Ring.create("r", WIDTH)
    with pytest.raises(InputError, match="no segment of this kind"):
        Table(ring.segment)
