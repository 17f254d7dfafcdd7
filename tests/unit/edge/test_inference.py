"""Inference in this process and in workers: the same bits, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from finllm.domain.errors import ArtifactError, WorkerError
from finllm.edge.artifact import Artifact
from finllm.edge.bank import alone
from finllm.edge.inference import InProcess, WorkerPool
from finllm.runtime.worker import Worker

CALM = np.zeros(101, dtype=np.int64)


def _gone(pid: int, *, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if f"{pid} (" in (stat := _stat(pid)) and stat.rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""


def test_workers_answer_what_the_process_answers_also_after_one_was_killed(
    artifact: Artifact,
) -> None:
    rows = np.random.default_rng(0).normal(size=(101, 5))
    here = InProcess(alone(artifact)).infer(rows, CALM)
    pool = WorkerPool(artifact.folder, 2)
    assert pool.infer(rows, CALM).tobytes() == here.tobytes()
    assert pool.infer(rows[:1], CALM[:1]).tobytes() == here[:1].tobytes()
    assert pool.infer(rows[:0], CALM[:0]).shape == (0, 3, 8)
    os.kill(pool.pids[1], signal.SIGKILL)
    assert pool.infer(rows, CALM).tobytes() == here.tobytes()
    assert pool.n_restarts == 1
    pids = pool.pids
    pool.close()
    pool.close()
    assert all(_gone(pid) for pid in pids)


def test_a_pool_of_none_and_a_pool_of_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="at least one"):
        WorkerPool(folder, 0)
    with pytest.raises(ArtifactError, match="needs a manifest"):
        WorkerPool(tmp_path / "none", 1)


def test_a_pool_that_is_asked_nothing_starts_no_process(folder: Path) -> None:
    with WorkerPool(folder, 2) as pool:
        assert pool.pids == []


def test_a_worker_that_cannot_start_is_given_up_after_one_restart(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "weights.npy").write_bytes(b"no weights")
    pool = WorkerPool(folder, 1)
    with pytest.raises(WorkerError, match=r"finllm\.edge\.inference.*ended with code 1"):
        pool.infer(np.zeros((1, 5)), CALM[:1])
    assert pool.n_restarts == 1
    pool.close()
    assert "the file was changed after it was built" in capfd.readouterr().err


ECHO = """
import sys, time
from finllm.runtime.worker import answer
print("noise on standard output")
def reply(request):
    if request == b"sleep":
        time.sleep(60)
    if request == b"die":
        sys.exit(3)
    return request[::-1]
answer(reply)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "echo_worker.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "echo_worker"


def test_bytes_of_any_length_come_back_and_prints_do_no_harm(echo: str) -> None:
    worker = Worker(echo, [])
    for request in (b"", b"abc", os.urandom(3_000_000)):
        assert worker.ask(request) == request[::-1]
    worker.close()


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(echo: str) -> None:
    worker = Worker(echo, [], timeout_s=3.0)
    assert worker.ask(b"x") == b"x"
    with pytest.raises(WorkerError, match="no answer within"):
        worker.ask(b"sleep")
    assert worker.ask(b"back") == b"kcab"
    worker.close()


def test_a_request_that_kills_every_worker_is_given_up_and_the_next_is_answered(echo: str) -> None:
    worker = Worker(echo, [])
    with pytest.raises(WorkerError, match="ended with code"):
        worker.ask(b"die")
    assert worker.ask(b"ok") == b"ko"
    worker.close()


def test_an_answer_to_nothing_is_an_error(echo: str) -> None:
    worker = Worker(echo, [])
    with pytest.raises(WorkerError, match="nothing was asked"):
        worker.receive()
    worker.close()


def test_a_child_does_not_outlive_its_parent(echo: str) -> None:
    code = (
        "import os, signal; from finllm.runtime.worker import Worker;"
        f"w = Worker({echo!r}, []); w.ask(b'x'); print(w.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert _gone(int(ran.stdout))
