"""The queue that many would put before an inference process: the peer of the isolated worker.

The feed keeps the book and the features with the same code as ours, puts each row into a
`multiprocessing.Queue`, a worker process runs the same ONNX model on it (one thread, no spinning,
bound buffers, as ours does) and puts the claim into a second queue, which a consumer process reads.

It does less than the isolated worker: no calibration, no outlook, no flags, no conflation (a burst
waits in the queue), no restart of a worker that dies. Rows go as bytes, which pickle fastest.
"""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.bench.measure import CLOCK, Nanoseconds, arrivals
from finllm.app.fastpath import FastPath
from finllm.domain.errors import WorkerError
from finllm.domain.market import Frame
from finllm.edge.artifact import Artifact, open_model, read_manifest
from finllm.edge.bank import alone
from finllm.edge.onnx import CPU
from finllm.edge.serving import ROW, TS_RECV
from finllm.market.feed import Market
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.tally import Tally

if TYPE_CHECKING:
    from finllm.edge.isolated import IsolatedEdge

NAME: Final = "multiprocessing.Queue"
WAIT_S: Final = 60.0
"""A process that says nothing for so long is lost."""


def _work(folder: Path, rows: Any, claims: Any) -> None:
    """Infer for every row until None comes; a number is passed on as it is."""
    model = open_model(folder, read_manifest(folder), provider=CPU)
    while (message := rows.get()) is not None:
        if isinstance(message, int):
            claims.put(message)
            continue
        index, entry = message
        words = np.frombuffer(entry, dtype=np.int64)
        raw = model.infer(words.view(np.float64)[None, ROW:])
        claims.put((index, int(words[TS_RECV]), raw.tobytes()))
    claims.put(None)


def _consume(claims: Any, out: Connection) -> None:
    """Note when each claim can be read; answer a number at once, and None with all that was noted."""
    kept = []
    while (message := claims.get()) is not None:
        if isinstance(message, int):
            out.send_bytes(b"through")
            continue
        kept.append((stopwatch_ns(), *message))
    times = np.array([(now, index, ts) for now, index, ts, _ in kept], dtype=np.int64)
    out.send_bytes(times.tobytes())
    out.send_bytes(b"".join(raw for *_, raw in kept))


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What came back through the queues, in the order in which it came."""

    now: NDArray[np.int64]
    """[n], when it could be read, on the stopwatch, ns."""
    index: NDArray[np.int64]
    """[n], numbers of the instruments."""
    ts_recv: NDArray[np.int64]
    """[n], receive times of the frames."""
    raw: NDArray[np.float64]
    """[n, H, 8], raw claims."""


class QueueLine:
    """Feed, queue, worker, queue, consumer; see `measure.Line`. Use it as a context manager.

    Args:
        artifact: The model.
        frames: The tape.
        first: Frames before it warm the line and are not measured.
    """

    def __init__(self, artifact: Artifact, frames: Sequence[Frame], first: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._rows, self._claims = context.Queue(), context.Queue()
        self._ear, mouth = context.Pipe(duplex=False)
        self._shape = (-1, len(artifact.horizons), 8)
        self._processes = [
            context.Process(
                target=_work, args=(artifact.folder, self._rows, self._claims), daemon=True
            ),
            context.Process(target=_consume, args=(self._claims, mouth), daemon=True),
        ]
        for process in self._processes:
            process.start()
        mouth.close()
        # It takes what workers are told; parameters are not for this one, who does not calibrate.
        self._path = FastPath(alone(artifact), Market(Tally()), edge=cast("IsolatedEdge", self))
        self._start = 0
        self._settle()
        for frame in frames[:first]:
            self._path.hand_over(frame)
        self._settle()

    def set_parameters(self, index: int, parameters: NDArray[np.int64]) -> None:
        """Take the parameters of an instrument: there is nobody to use them."""

    def put(self, index: int, entry: NDArray[np.int64]) -> None:
        """Queue one observed row."""
        self._rows.put((index, entry.tobytes()))

    def _settle(self) -> None:
        """Wait until all that was put is through."""
        self._rows.put(0)
        if not self._ear.poll(WAIT_S):
            raise WorkerError("the queue's worker or consumer has died")
        self._ear.recv_bytes()

    def run(self, frames: Sequence[Frame], span: range, pace: float) -> None:
        """Queue frames at their intended arrivals. See `measure.Line`."""
        start = stopwatch_ns() + 1_000_000
        self._start = self._start or start
        push = self._path.hand_over
        for i, due in arrivals(frames, span, pace, start):
            push(Frame(ts_recv=due, payload=frames[i].payload, source=frames[i].source))
        CLOCK.sleep(20_000_000)
        self._settle()

    def answers(self) -> Answers:
        """End both processes; return all that came back, that of the warm-up too."""
        self._rows.put(None)
        if not self._ear.poll(WAIT_S):
            raise WorkerError("the queue's worker or consumer has died")
        times = np.frombuffer(self._ear.recv_bytes(), dtype=np.int64).reshape(-1, 3)
        raw = np.frombuffer(self._ear.recv_bytes()).reshape(self._shape)
        self.close()
        return Answers(now=times[:, 0], index=times[:, 1], ts_recv=times[:, 2], raw=raw)

    def finish(self) -> Nanoseconds:
        """Close; return from intended arrival to readable by the consumer, int64 [n], ns."""
        answers = self.answers()
        # The warm-up has the tape's own receive times, which are on another clock.
        measured = (answers.ts_recv >= self._start) & (answers.ts_recv <= answers.now)
        return (answers.now - answers.ts_recv)[measured]

    def close(self) -> None:
        """End both processes, whatever they are at."""
        for process in self._processes:
            process.terminate()
            process.join()
        for queue in (self._rows, self._claims):
            queue.cancel_join_thread()
            queue.close()
        self._ear.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
