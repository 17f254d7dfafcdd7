"""Where inference runs: in this process, or spread over workers. The same bits either way.

A worker is `python -m finllm.edge.inference <descriptor> <folder> <provider>`, of a bank or an artifact;
requests are the bytes of the rows and their regimes, answers the claims'. A model is pure per row, so rows
may be split at will. Knows nothing of instruments.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import WorkerError
from finllm.edge.artifact import AUTO
from finllm.edge.bank import Bank, Models, open_models, read_bank
from finllm.edge.model import RAW_WIDTH
from finllm.runtime.worker import Worker, answer

MODULE: Final = "finllm.edge.inference"


class Inference(Protocol):
    """Something that turns rows into raw claims."""

    def infer(self, rows: NDArray[np.float64], regimes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return raw claims float64 [n, H, 8] for rows float64 [n, F] in regimes int64 [n].

        See `Models.infer`.
        """
        ...

    def close(self) -> None:
        """Let go of whatever is held; leaves no process."""
        ...


class InProcess:
    """Inference by a bank's models in this process.

    Args:
        bank: The loaded bank.
    """

    def __init__(self, bank: Bank) -> None:
        self._models = bank.models

    def infer(self, rows: NDArray[np.float64], regimes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return raw claims float64 [n, H, 8] for rows float64 [n, F] in regimes int64 [n]."""
        return self._models.infer(rows, regimes)

    def close(self) -> None:
        """Hold nothing, so let go of nothing."""


class WorkerPool:
    """Inference spread over processes of their own, which start when first asked.

    Args:
        folder: Folder of the bank or artifact; each worker loads it.
        n: Number of workers, at least one.
        provider: Where its graph runs; see `artifact.open_model`.
        timeout_s: How long one answer may take before a worker counts as dead.

    Raises:
        ArtifactError: If the folder holds no bank and no artifact.
        WorkerError: If `n` is below one.
    """

    def __init__(
        self, folder: Path, n: int, *, provider: str = AUTO, timeout_s: float = 60.0
    ) -> None:
        chosen = read_bank(folder)
        if n < 1:
            raise WorkerError(f"a pool needs at least one worker, not {n}")
        self._n_horizons = len(chosen.horizons)
        self._n_features = chosen.n_features
        self._n = n
        self._start = partial(Worker, MODULE, [str(folder), provider], timeout_s=timeout_s)
        self._workers: list[Worker] = []

    @property
    def pids(self) -> list[int]:
        """Return the workers' process ids."""
        return [worker.pid for worker in self._workers]

    @property
    def n_restarts(self) -> int:
        """Return how often a worker had to be restarted."""
        return sum(worker.n_restarts for worker in self._workers)

    def warm(self) -> None:
        """Wait until every worker has loaded its models: a pool may be made while another serves.

        Raises:
            WorkerError: If a worker cannot.
        """
        self.infer(np.zeros((self._n, self._n_features)), np.zeros(self._n, dtype=np.int64))

    def infer(self, rows: NDArray[np.float64], regimes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return raw claims float64 [n, H, 8] for rows float64 [n, F] in regimes int64 [n].

        Raises:
            WorkerError: If a worker fails again after a restart.
        """
        if not self._workers:
            self._workers = [self._start() for _ in range(self._n)]
        cuts = np.array_split(np.arange(len(rows)), len(self._workers))
        shares = [cut for cut in cuts if len(cut)]
        busy = self._workers[: len(shares)]
        for worker, share in zip(busy, shares, strict=True):
            shape = np.array((len(share), rows.shape[1]), dtype="<i8").tobytes()
            parts = regimes[share].astype("<i8").tobytes(), rows[share].astype("<f8").tobytes()
            worker.send(shape + b"".join(parts))
        answers = [np.frombuffer(worker.receive(), dtype="<f8") for worker in busy]
        raw = np.concatenate(answers) if answers else np.empty(0)
        return raw.astype(np.float64).reshape(len(rows), self._n_horizons, RAW_WIDTH)

    def close(self) -> None:
        """End every worker and wait until it is gone."""
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reply(models: Models, request: bytes) -> bytes:
    n, width = (int(number) for number in np.frombuffer(request[:16], dtype="<i8"))
    regimes = np.frombuffer(request[16 : 16 + 8 * n], dtype="<i8").astype(np.int64)
    rows = np.frombuffer(request[16 + 8 * n :], dtype="<f8").reshape(n, width).astype(np.float64)
    return models.infer(rows, regimes).astype("<f8").tobytes()


def main(folder: Path, provider: str) -> None:
    """Serve one bank until the parent is gone."""
    models = open_models(read_bank(folder), provider=provider)
    answer(lambda request: _reply(models, request))


if __name__ == "__main__":
    main(Path(sys.argv[2]), sys.argv[3])
