"""Laws of the edge in processes of its own. Real processes, stopped and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from finllm.domain.errors import WorkerError
from finllm.domain.market import ROW_HEAD
from finllm.edge.artifact import SHIPPED, Artifact, load_artifact
from finllm.edge.bank import alone
from finllm.edge.isolated import N_KEYS, IsolatedEdge, Served
from finllm.edge.serving import ROW, entries_of
from finllm.edge.session import EdgeSession
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.books import MAX_INSTRUMENTS
from finllm.market.markets import NAMES
from finllm.runtime.crew import Fall
from finllm.runtime.ring import publish

N = 200


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return load_artifact(SHIPPED["book"], spec=BOOK_SPEC)


@pytest.fixture(scope="module")
def entries(artifact: Artifact) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(N, len(BOOK_SPEC)))
    heads = np.zeros(N, dtype=ROW_HEAD)
    heads["seq"] = np.arange(1, N + 1)
    heads["ts_recv"] = 10**18 + np.arange(N) * 10**7
    heads["mid2"], heads["spread"], heads["flags"], heads["kind"] = 200_001, 1, 1, 1
    made = entries_of(heads, rows)
    session = EdgeSession(alone(artifact), BOOK_SPEC, "x:Y")
    for entry in made:
        session.observe(entry)
    return made


@pytest.fixture(scope="module")
def edge(artifact: Artifact) -> Iterator[IsolatedEdge]:
    made = IsolatedEdge(SHIPPED["book"], stall_ns=60_000_000_000)
    made.start()
    parameters = EdgeSession(alone(artifact), BOOK_SPEC, "x:Y").parameters
    for key in range(8):
        made.set_parameters(key, parameters)
    try:
        yield made
    finally:
        pids = [*made.crew.pids, made.crew.spare_pid]
        made.close()
        for pid in pids:
            if pid is not None:
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)


@pytest.fixture(scope="module")
def impatient() -> Iterator[IsolatedEdge]:
    """An edge that gives a silent worker up soon."""
    made = IsolatedEdge(SHIPPED["book"], stall_ns=3_000_000_000)
    made.start()
    yield made
    made.close()


def _until_served(edge: IsolatedEdge, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while edge.waiting:
        assert time.monotonic() < end
        time.sleep(0.001)


def _fall(edge: IsolatedEdge, before: int = 0) -> Fall:
    """Return the one member lost since there were so many, once the watch has told of it."""
    end = time.monotonic() + 60
    while len(edge.crew.falls) == before and time.monotonic() < end:
        time.sleep(0.01)
    (fall,) = edge.crew.falls[before:]
    return fall


def _is_accounted_for(edge: IsolatedEdge) -> bool:
    return edge.written == edge.published + edge.conflated + edge.waiting


def test_a_row_served_by_a_worker_is_the_row_served_here(
    artifact: Artifact, entries: np.ndarray, edge: IsolatedEdge
) -> None:
    session, reader = EdgeSession(alone(artifact), BOOK_SPEC, "x:Y"), edge.reader()
    published, conflated = edge.published, edge.conflated
    raw = artifact.model.infer(entries.view(np.float64)[:, ROW:])
    for i, entry in enumerate(entries):
        edge.put(3, entry)
        served: Served | None = None
        while served is None:
            served = reader.read(60_000)
        here = session.speak(entry, raw[i], int(served.rows["ts_emit"][0]))
        assert served.rows.tobytes() == here.tobytes()
        assert served.entries[0].tobytes() == entry.tobytes()
        assert (served.key[0], served.parameters[0]) == (3, session.parameters[0])
    assert (edge.published - published, edge.conflated - conflated, reader.overruns) == (N, 0, 0)


def test_a_stopped_worker_costs_rows_but_no_count_of_them(
    entries: np.ndarray, edge: IsolatedEdge
) -> None:
    edge.put(0, entries[0])
    _until_served(edge)
    written, falls = edge.written, len(edge.crew.falls)
    os.kill(edge.crew.pids[0], signal.SIGSTOP)
    for i in range(70_000):  # longer than the log of what is new
        edge.put(i % 8, entries[i % N])
    assert edge.written - written == 70_000
    assert edge.waiting >= 70_000 - 64
    reader = edge.reader()
    os.kill(edge.crew.pids[0], signal.SIGCONT)
    _until_served(edge)
    newest: dict[int, int] = {}
    while (served := reader.read()) is not None:
        newest.update(zip(served.key.tolist(), served.rows["seq"].tolist(), strict=True))
    assert newest == {(i % 8): int(entries[i % N][0]) for i in range(70_000 - 8, 70_000)}
    assert _is_accounted_for(edge)
    assert len(edge.crew.falls) == falls


def test_a_worker_that_crashes_is_replaced_and_the_stream_goes_on(
    entries: np.ndarray, edge: IsolatedEdge
) -> None:
    reader = edge.reader()
    assert edge.crew.wait_for_spare()
    before, falls = edge.crew.pids[0], len(edge.crew.falls)
    os.kill(before, signal.SIGSEGV)
    edge.put(0, entries[5])
    served = reader.read(60_000)
    assert served is not None
    assert served.rows["seq"][0] == entries[5][0]
    fall = _fall(edge, falls)
    assert (fall.pid, fall.why) == (before, "signal SIGSEGV")
    assert edge.crew.pids[0] != before
    _until_served(edge)
    assert _is_accounted_for(edge)


def test_a_worker_that_falls_silent_is_killed_and_replaced(
    entries: np.ndarray, impatient: IsolatedEdge
) -> None:
    edge = impatient
    assert edge.crew.wait_for_spare()
    stopped, falls = edge.crew.pids[0], len(edge.crew.falls)
    os.kill(stopped, signal.SIGSTOP)
    reader = edge.reader()
    edge.put(0, entries[1])
    assert reader.read(60_000) is not None
    fall = _fall(edge, falls)
    assert fall.pid == stopped
    assert fall.why.startswith("silent for")


REHEARSED = """
import sys, numpy as np
from numba.core.dispatcher import Dispatcher
from finllm.edge import isolated, linear, serving
from finllm.edge.artifact import SHIPPED
from finllm.edge.bank import open_models, read_bank
from finllm.runtime import ring
from finllm.runtime.clock import WallClock

def compiled():
    kernels = [k for m in (isolated, linear, serving, ring) for k in vars(m).values()]
    return sorted({str((k.py_func.__name__, s)) for k in kernels if isinstance(k, Dispatcher)
                   for s in k.signatures})

chosen = read_bank(SHIPPED["book"])
sizes, model = isolated.Sizes.of(chosen), open_models(chosen)
isolated._rehearse(model, sizes)
before = compiled()
post = isolated.Post.create(sizes, 8, 16)
worker = isolated.Worker(
    post, np.zeros(8 * isolated.DOORS, dtype=np.int64), [], model, sizes, WallClock()
)
for n in (1, 2, 5):
    for key in range(n):
        ring.put(post.entries.words, key, np.zeros(sizes.entry, dtype=np.int64))
    assert worker.step() == n
assert isolated.Worker(post, np.zeros(8), [], model, sizes, WallClock())  # a successor
assert before and compiled() == before, set(compiled()) - set(before)
"""


def test_a_worker_at_its_post_has_nothing_left_to_compile() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", REHEARSED], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_a_worker_that_is_never_idle_is_not_taken_for_silent(
    artifact: Artifact, entries: np.ndarray, impatient: IsolatedEdge
) -> None:
    """Fewer rows than one would think to count by, for longer than the time-out."""
    edge, falls = impatient, len(impatient.crew.falls)
    edge.set_parameters(0, EdgeSession(alone(artifact), BOOK_SPEC, "x:Y").parameters)
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        edge.put(0, entries[0])
        time.sleep(0.02)
    assert len(edge.crew.falls) == falls


def test_one_worker_has_room_for_every_instrument_that_the_books_of_every_venue_may_hold() -> None:
    assert len(NAMES) * MAX_INSTRUMENTS <= N_KEYS


@pytest.mark.parametrize("workers", [1, 3])
def test_an_instrument_beyond_the_room_is_refused_before_it_touches_memory(
    entries: np.ndarray, workers: int
) -> None:
    edge = IsolatedEdge(SHIPPED["book"], workers, n_keys=1_100)  # not started: nobody reads
    parameters = np.zeros(edge.sizes.parameters, dtype=np.int64)
    most = 1_100 * workers
    edge.put(most - 1, entries[0])
    edge.set_parameters(most - 1, parameters)
    for key in (most, most + 10**9, -1):
        with pytest.raises(WorkerError, match=rf"{key} .* {most}.*edge\.workers"):
            edge.put(key, entries[0])
        with pytest.raises(WorkerError, match=rf"{key} .* {most}.*edge\.workers"):
            edge.set_parameters(key, parameters)
    assert (edge.written, edge.waiting) == (1, 1)
    edge.close()


def test_room_for_many_instruments_costs_memory_only_for_those_that_come(
    entries: np.ndarray,
) -> None:
    edge = IsolatedEdge(SHIPPED["book"])
    table = edge._posts[0].entries
    edge.put(7, entries[0])
    assert (edge.written, edge.waiting, edge.conflated) == (1, 1, 0)
    assert (len(table.done), table.reading()[1]) == (8, 8), "no key beyond them is looked at"
    assert os.fstat(table.segment.descriptor).st_blocks * 512 < 2 << 20
    edge.close()


def test_a_reader_of_several_workers_is_fair_to_each_and_keeps_the_order_of_each() -> None:
    edge = IsolatedEdge(SHIPPED["book"], 3, ring_length=2_048)
    reader, payload = edge.reader(), np.zeros(edge.rings[0].width, dtype=np.int64)
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for _ in range(40):
        for worker, ring in enumerate(edge.rings):
            payload[0] = worker
            for _ in range(256 if worker == 0 else 40):  # the first alone keeps the reader busy
                payload[1] = ring.head
                publish(ring.words, payload)
        words = reader.words()
        assert words is not None
        assert len(set(words[:, 0].tolist())) == 1
        seen[int(words[0, 0])] += words[:, 1].tolist()
    assert all(seen.values())
    while (words := reader.words()) is not None:
        seen[int(words[0, 0])] += words[:, 1].tolist()
    assert all(numbers == sorted(set(numbers)) for numbers in seen.values())
    assert sum(map(len, seen.values())) + reader.overruns == edge.published
    assert len(seen[1]) == len(seen[2]) == 40 * 40, "the slow ones lose nothing to the busy one"
    edge.close()
