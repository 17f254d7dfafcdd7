"""Measure indexes of embeddings for memory: latency, cost, recall, and what later rows do to answers.

Needs, beside the package: sqlite-vec, usearch and hnswlib; what is missing is left out.

    python scripts/vector_index.py --n 100000 --dim 384
"""

import argparse
import importlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finllm.narrative.memory.vectors import ONE, products

K, N_QUERIES = 10, 20
Search = Callable[[np.ndarray], list[int]]


def clustered(n: int, dim: int, n_stories: int, seed: int = 7) -> np.ndarray:
    """Return vectors of unit length around some centres, as news of one story lie together, float32."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_stories, dim)).astype(np.float32)
    rows = centres[rng.integers(0, len(centres), n)]
    rows += rng.normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _print(line: str) -> None:
    print(line, flush=True)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, s, and what it returned."""
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def top(scores: np.ndarray) -> list[int]:
    """Return the rows of the greatest scores, best first, ties by number."""
    best = np.argpartition(-scores, K)[:K]
    return [int(i) for i in sorted(best, key=lambda i: (-scores[i], i))]


def tell(
    name: str, build_s: float, search: Search, queries: np.ndarray, exact: list[list[int]]
) -> list[list[int]]:
    """Time a search, tell of it, and return what it found."""
    search(queries[0])
    times, found = zip(*(timed(lambda q=q: search(q)) for q in queries), strict=True)
    hits = np.mean([len(set(f) & set(e)) / K for f, e in zip(found, exact, strict=True)])
    ms = np.percentile(times, (50, 95)) * 1e3
    _print(
        f"{name:<34} build {build_s:8.2f} s  p50 {ms[0]:8.2f} ms  p95 {ms[1]:8.2f} ms  recall@10 {hits:.4f}"
    )
    return list(found)


def exact_kinds(rows: np.ndarray, queries: np.ndarray, exact: list[list[int]]) -> None:
    """Measure exact search over blocks, and whether a float product hangs on what stands beside it."""
    n, dim = rows.shape
    tell("float32, BLAS, in memory", 0.0, lambda q: top(rows @ q), queries, exact)
    build, ints = timed(lambda: np.rint(rows * ONE).clip(1 - ONE, ONE - 1).astype(np.int16))
    out = np.empty(n, np.int32)

    def whole(q: np.ndarray) -> list[int]:
        products(np.rint(q * ONE).astype(np.int16), ints, out)
        return top(out)

    tell("int16 kernel, in memory", build, whole, queries, exact)
    bytes_of = np.rint(rows * 127).astype(np.int8)
    small = bytes_of.astype(np.int16)
    tell(
        "int8 (as the same kernel)", 0.0,
        lambda q: (products(np.rint(q * 127).astype(np.int16), small, out), top(out))[1],
        queries, exact,
    )  # fmt: skip
    folder = tempfile.mkdtemp()
    for size in (256, 4_096):
        connection = sqlite3.connect(Path(folder) / "blocks.sqlite", isolation_level=None)
        connection.execute("DROP TABLE IF EXISTS b")
        connection.execute("CREATE TABLE b (i INTEGER PRIMARY KEY, v BLOB)")

        def fill(connection: Any = connection, size: int = size) -> None:
            connection.execute("BEGIN")
            for i in range(0, n, size):
                connection.execute("INSERT INTO b VALUES (?, ?)", (i, ints[i : i + size].tobytes()))
            connection.execute("COMMIT")

        build, _ = timed(fill)

        def stream(q: np.ndarray, connection: Any = connection) -> list[int]:
            mine = np.rint(q * ONE).astype(np.int16)
            for i, body in connection.execute("SELECT i, v FROM b ORDER BY i"):
                block = np.frombuffer(body, "<i2").reshape(-1, dim)
                products(mine, block, out[i : i + len(block)])
            return top(out)

        kind = f"int16 kernel, SQLite, {size} a block"
        tell(kind, build, stream, queries, exact)
        connection.close()
    shutil.rmtree(folder)


def products_of_floats(rows: np.ndarray, queries: np.ndarray, exact: list[list[int]]) -> None:
    """Tell whether a float product hangs on what stands beside it."""
    del exact
    q, alone = queries[0], rows[: len(rows) // 2]
    moved = int(np.count_nonzero((rows @ q)[: len(alone)] != alone @ q))
    prefixes = sum(int((rows[:k] @ q)[k - 1] != (rows @ q)[k - 1]) for k in range(1, 200))
    _print(f"  float32 BLAS: of {len(alone):,} products {moved} change when later rows are added; "
          f"the newest row's, in {prefixes} of 199 prefixes")  # fmt: skip


def sqlite_vec(rows: np.ndarray, queries: np.ndarray, exact: list[list[int]]) -> None:
    """Measure sqlite-vec; many builds of Python load no extension, so by way of apsw."""
    vec, apsw = importlib.import_module("sqlite_vec"), importlib.import_module("apsw")
    _print(
        f"  Python's sqlite3 loads extensions: {hasattr(sqlite3.Connection, 'enable_load_extension')}"
    )
    connection = apsw.Connection(":memory:")
    connection.enable_load_extension(True)  # noqa: FBT003 - theirs
    connection.load_extension(vec.loadable_path())
    connection.execute(
        f"CREATE VIRTUAL TABLE v USING vec0(e float[{rows.shape[1]}] distance_metric=cosine)"
    )

    def fill() -> None:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO v (rowid, e) VALUES (?, ?)", ((i, r.tobytes()) for i, r in enumerate(rows))
        )
        connection.execute("COMMIT")

    def search(q: np.ndarray) -> list[int]:
        return [i for (i,) in connection.execute(query, (q.tobytes(),))]

    build, _ = timed(fill)
    query = f"SELECT rowid FROM v WHERE e MATCH ? AND k = {K}"  # noqa: S608 - ours
    tell("sqlite-vec (exact)", build, search, queries, exact)


def changed(name: str, early: list[list[int]], late: list[list[int]], m: int) -> None:
    """Tell how many answers among the first m rows differ once later rows are in the graph."""
    same = sum(a == b for a, b in zip(early, late, strict=True))
    _print(f"  {name}: {len(early) - same} of {len(early)} answers over the first {m:,} rows change "
          "when later rows are inserted and filtered out")  # fmt: skip


def usearch_graph(rows: np.ndarray, queries: np.ndarray, exact: list[list[int]]) -> None:
    """Measure usearch's graph, and whether later rows change what is found among earlier ones."""
    index_module = importlib.import_module("usearch.index")
    n, dim = rows.shape
    m = n // 2
    index = index_module.Index(ndim=dim, metric="ip", dtype="f16")

    def search(q: np.ndarray, k: int = K) -> list[int]:
        return [int(i) for i in index.search(q, k).keys]

    first, _ = timed(lambda: index.add(np.arange(m), rows[:m], threads=1))
    early = [search(q) for q in queries]
    second, _ = timed(lambda: index.add(np.arange(m, n), rows[m:], threads=1))
    tell("usearch (HNSW, f16)", first + second, search, queries, exact)
    # No filter in its Python door: ask for more, and leave later rows out.
    changed("usearch", early, [[i for i in search(q, 8 * K) if i < m][:K] for q in queries], m)


def hnsw_graph(rows: np.ndarray, queries: np.ndarray, exact: list[list[int]]) -> None:
    """Measure hnswlib's graph in the same way; it can leave rows out while it searches."""
    hnswlib = importlib.import_module("hnswlib")
    n, dim = rows.shape
    m = n // 2
    index = hnswlib.Index(space="ip", dim=dim)
    index.init_index(max_elements=n, ef_construction=100, M=16, random_seed=1)
    index.set_ef(64)
    index.set_num_threads(1)

    def search(q: np.ndarray, only: Callable[[int], bool] | None = None) -> list[int]:
        return [int(i) for i in index.knn_query(q, k=K, num_threads=1, filter=only)[0][0]]

    first, _ = timed(lambda: index.add_items(rows[:m], np.arange(m), num_threads=1))
    early = [search(q) for q in queries]
    second, _ = timed(lambda: index.add_items(rows[m:], np.arange(m, n), num_threads=1))
    tell("hnswlib (M 16, ef 64)", first + second, search, queries, exact)
    changed("hnswlib", early, [search(q, lambda i: i < m) for q in queries], m)


def main() -> None:
    """Measure them all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--stories", type=int, default=0, help="default: one for each 50 vectors")
    parser.add_argument("--graphs", action="store_true", help="only the graphs")
    given = parser.parse_args()
    rows = clustered(given.n, given.dim, given.stories or given.n // 50)
    rng = np.random.default_rng(3)
    queries = rows[rng.integers(0, given.n, N_QUERIES)]
    queries = queries + 0.02 * rng.normal(size=queries.shape).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    truth = queries.astype(np.float64) @ rows.astype(np.float64).T
    exact = [top(scores) for scores in truth]
    _print(f"{given.n:,} vectors of {given.dim}, {N_QUERIES} queries, top {K}, one thread")
    exacts = () if given.graphs else (exact_kinds, products_of_floats, sqlite_vec)
    for measure in (*exacts, usearch_graph, hnsw_graph):
        try:
            measure(rows, queries.astype(np.float32), exact)
        except ModuleNotFoundError as missing:
            _print(f"  left out: {missing}")


if __name__ == "__main__":
    main()
