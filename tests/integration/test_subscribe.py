"""A consumer in another process reads the rows that the edge publishes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import finllm
from finllm.app.subscribe import Publisher, Subscription
from finllm.domain.errors import InputError
from finllm.domain.market import ROW_HEAD
from finllm.edge.artifact import SHIPPED, load_artifact
from finllm.edge.bank import alone, read_bank
from finllm.edge.isolated import DOORS, HEAD, IsolatedEdge
from finllm.edge.serving import entries_of
from finllm.edge.session import EdgeSession
from finllm.features.book_spec import BOOK_SPEC
from finllm.runtime.ring import publish

N = 3_000
CONSUMER = """
import json, sys
from pathlib import Path
import finllm
spill = Path(sys.argv[2]) if len(sys.argv) > 2 else None
seqs, names = [], set()
with finllm.subscribe(path=Path(sys.argv[1]), spill=spill) as feed:
    print("ready", flush=True)
    for batch in feed:
        seqs += batch.rows["seq"].tolist()
        names.update(batch.instruments)
        if seqs[-1] == 3000:
            break
    sums = float(abs(batch.rows["p"].sum(axis=-1) - 1.0).max())
    print(json.dumps([seqs, sorted(names), feed.overruns, list(feed.horizons), sums]))
"""


@pytest.fixture(scope="module")
def started() -> Iterator[IsolatedEdge]:
    """A worker, which each test's publisher tells of anew."""
    artifact = load_artifact(SHIPPED["book"], spec=BOOK_SPEC)
    edge = IsolatedEdge(SHIPPED["book"], ring_length=1 << 13)
    edge.start()
    edge.set_parameters(0, EdgeSession(alone(artifact), BOOK_SPEC, "x:Y").parameters)
    yield edge
    edge.close()


@pytest.fixture
def published(
    started: IsolatedEdge, tmp_path: Path
) -> Iterator[tuple[IsolatedEdge, Publisher, Path]]:
    path = tmp_path / "deep" / "edge.sock"
    publisher = Publisher(
        started,
        path,
        horizons=tuple(horizon.name for horizon in read_bank(SHIPPED["book"]).horizons),
        model_version="",
        spec_hash=BOOK_SPEC.hash,
    )
    yield started, publisher, path
    publisher.close()
    assert not path.exists()


def _until(happened: Callable[[], bool]) -> None:
    """Wait for something, leaving the processor to whoever brings it about."""
    while not happened():
        time.sleep(0.0001)


def _entries() -> np.ndarray:
    heads = np.zeros(N, dtype=ROW_HEAD)
    heads["seq"] = np.arange(1, N + 1)
    heads["ts_recv"] = 10**18 + np.arange(N)
    heads["mid2"], heads["spread"], heads["flags"], heads["kind"] = 200_001, 1, 1, 1
    return entries_of(heads, np.random.default_rng(1).normal(size=(N, len(BOOK_SPEC))))


def _put_all(edge: IsolatedEdge) -> None:
    for entry in _entries():
        edge.put(0, entry)
        _until(lambda: not edge.waiting)


@pytest.mark.parametrize("spill", [False, True])
def test_a_consumer_elsewhere_gets_every_row_under_its_instruments_key(
    published: tuple[IsolatedEdge, Publisher, Path], tmp_path: Path, spill: bool
) -> None:
    edge, publisher, path = published
    command = [sys.executable, "-c", CONSUMER, str(path), *([str(tmp_path / "s")] * spill)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as consumer:
        assert consumer.stdout is not None
        assert consumer.stdout.readline() == "ready\n"
        publisher.name("test:BTC")
        _put_all(edge)
        seqs, names, overruns, horizons, error = json.loads(consumer.stdout.read())
    assert seqs == list(range(1, N + 1))
    assert (names, overruns) == (["test:BTC"], 0)
    assert horizons[0] == "0.1s"
    assert error < 1e-9
    _until(lambda: not publisher.n_subscribers)


def test_a_door_is_free_again_once_its_subscriber_has_gone(
    published: tuple[IsolatedEdge, Publisher, Path],
) -> None:
    _, publisher, path = published
    guests = [finllm.subscribe(path=path) for _ in range(DOORS)]
    with pytest.raises(InputError, match="no door left"):
        finllm.subscribe(path=path)
    for guest in guests:
        guest.close()
    _until(lambda: not publisher.n_subscribers)
    finllm.subscribe(path=path).close()


def test_nobody_there_and_somebody_there_already_are_told(
    published: tuple[IsolatedEdge, Publisher, Path], tmp_path: Path
) -> None:
    edge, _, path = published
    with pytest.raises(InputError, match="nobody publishes there"):
        finllm.subscribe(path=tmp_path / "nowhere.sock")
    with pytest.raises(InputError, match="another process publishes there"):
        Publisher(edge, path, horizons=(), model_version="", spec_hash="")


@pytest.fixture
def unstarted(tmp_path: Path) -> Iterator[tuple[IsolatedEdge, Publisher, Path]]:
    """An edge of two workers that nobody is: the test publishes in their stead."""
    edge = IsolatedEdge(SHIPPED["book"], 2, ring_length=4_096)
    path = tmp_path / "edge.sock"
    publisher = Publisher(edge, path, horizons=(), model_version="", spec_hash="")
    publisher.name("test:BTC")
    yield edge, publisher, path
    publisher.close()
    edge.close()


def _publish(edge: IsolatedEdge, n: int) -> None:
    payload = np.zeros(edge.rings[0].width, dtype=np.int64)
    for ring in edge.rings:
        for _ in range(n):
            payload[HEAD] += 1  # the forecast row's own seq
            publish(ring.words, payload)


@pytest.mark.parametrize("spill", [False, True])
@pytest.mark.parametrize("n", [3_000, 5_000])
def test_what_was_published_before_the_end_is_delivered_or_counted(
    unstarted: tuple[IsolatedEdge, Publisher, Path], tmp_path: Path, n: int, spill: bool
) -> None:
    edge, publisher, path = unstarted
    with Subscription(path, spill=tmp_path / "spill" if spill else None) as feed:
        _publish(edge, n)
        delivered, names = 0, set()
        for k, batch in enumerate(feed):
            delivered += len(batch.rows)
            names.update(batch.instruments)
            if k == 2:
                publisher.close()
        assert delivered + feed.overruns == 2 * n
        assert names == {"test:BTC"}
        assert list(feed) == []
    if n < 4_096:
        assert delivered == 2 * n, "the rings held it all"


@pytest.mark.parametrize("spill", [False, True])
def test_the_end_comes_even_if_workers_go_on_after_the_publisher(
    unstarted: tuple[IsolatedEdge, Publisher, Path], tmp_path: Path, spill: bool
) -> None:
    edge, publisher, path = unstarted
    with Subscription(path, spill=tmp_path / "spill" if spill else None) as feed:
        _publish(edge, 1_000)
        publisher.close()
        delivered = 0
        for batch in feed:
            delivered += len(batch.rows)
            _publish(edge, 300)
        assert 2_000 <= delivered < edge.published


def _folder(tmp_path: Path, fault: str) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    if fault == "is a link":
        (tmp_path / "link").symlink_to(folder)
        return tmp_path / "link"
    if fault == "is open to others":
        folder.chmod(0o777)
    return folder


@pytest.mark.parametrize("fault", ["is a link", "is open to others", "belongs to another user"])
def test_a_folder_that_is_not_this_users_alone_is_trusted_by_neither_end(
    unstarted: tuple[IsolatedEdge, Publisher, Path],
    tmp_path: Path,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edge, _, path = unstarted
    folder = _folder(tmp_path, fault)
    path.rename(folder / "edge.sock")
    if fault == "belongs to another user":
        uid = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: uid)
    with pytest.raises(InputError, match=rf"{folder}: .*{fault}.*TMPDIR"):
        finllm.subscribe(path=folder / "edge.sock")
    with pytest.raises(InputError, match=rf"{folder}: .*{fault}.*TMPDIR"):
        Publisher(edge, folder / "new.sock", horizons=(), model_version="", spec_hash="")
    assert not (folder / "new.sock").exists()


def test_the_folder_that_a_publisher_makes_is_this_users_alone(
    unstarted: tuple[IsolatedEdge, Publisher, Path], tmp_path: Path
) -> None:
    edge, _, _ = unstarted
    path = tmp_path / "made" / "edge.sock"
    publisher = Publisher(edge, path, horizons=(), model_version="", spec_hash="")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    finllm.subscribe(path=path).close()
    publisher.close()
