"""Where inference runs: in this process, or spread over workers. The same bits either way.

A worker is `python -m finllm.edge.inference <descriptor> <artifact folder> <provider>`; requests are
the rows' bytes, answers the claims'. A model is pure per row, so rows may be split at will. Knows
nothing of instruments.
"""

import sys
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import WorkerError
from finllm.edge.artifact import AUTO, Artifact, open_model, read_manifest
from finllm.edge.model import RAW_WIDTH, EdgeModel
from finllm.runtime.worker import Worker, answer

MODULE: Final = "finllm.edge.inference"


class Inference(Protocol):
    """Something that turns rows into raw claims."""

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw claims float64 [n, H, 8] for rows float64 [n, F]. See `EdgeModel.infer`."""
        ...

    def close(self) -> None:
        """Let go of whatever is held; leaves no process."""
        ...


class InProcess:
    """Inference by an artifact's model in this process.

    Args:
        artifact: The loaded artifact.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._model = artifact.model

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw claims float64 [n, H, 8] for rows float64 [n, F]."""
        return self._model.infer(rows)

    def close(self) -> None:
        """Hold nothing, so let go of nothing."""


class WorkerPool:
    """Inference spread over processes of their own.

    Args:
        artifact_folder: Folder of the artifact; each worker loads it.
        n: Number of workers, at least one.
        provider: Where its graph runs; see `artifact.open_model`.
        timeout_s: How long one answer may take before a worker counts as dead.

    Raises:
        ArtifactError: If the folder holds no readable manifest.
        WorkerError: If `n` is below one.
    """

    def __init__(
        self, artifact_folder: Path, n: int, *, provider: str = AUTO, timeout_s: float = 60.0
    ) -> None:
        manifest = read_manifest(artifact_folder)
        if n < 1:
            raise WorkerError(f"a pool needs at least one worker, not {n}")
        self._n_horizons = len(manifest.horizons)
        self._workers = [
            Worker(MODULE, [str(artifact_folder), provider], timeout_s=timeout_s) for _ in range(n)
        ]

    @property
    def pids(self) -> list[int]:
        """Return the workers' process ids."""
        return [worker.pid for worker in self._workers]

    @property
    def n_restarts(self) -> int:
        """Return how often a worker had to be restarted."""
        return sum(worker.n_restarts for worker in self._workers)

    def infer(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw claims float64 [n, H, 8] for rows float64 [n, F].

        Raises:
            WorkerError: If a worker fails again after a restart.
        """
        shares = [part for part in np.array_split(rows, len(self._workers)) if len(part)]
        busy = self._workers[: len(shares)]
        for worker, part in zip(busy, shares, strict=True):
            worker.send(np.array(part.shape, dtype="<i8").tobytes() + part.astype("<f8").tobytes())
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


def _reply(model: EdgeModel, request: bytes) -> bytes:
    n, width = np.frombuffer(request[:16], dtype="<i8")
    rows = np.frombuffer(request[16:], dtype="<f8").reshape(n, width).astype(np.float64)
    return model.infer(rows).astype("<f8").tobytes()


def main(folder: Path, provider: str) -> None:
    """Serve one artifact until the parent is gone."""
    manifest = read_manifest(folder)
    model = open_model(folder, manifest, provider=provider)
    answer(lambda request: _reply(model, request))


if __name__ == "__main__":
    main(Path(sys.argv[2]), sys.argv[3])
