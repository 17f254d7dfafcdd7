"""Laws that every edge model must keep, whoever made it; and every way of running one."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from finllm.edge.artifact import SHIPPED, Artifact, load_artifact, open_model
from finllm.edge.bank import alone
from finllm.edge.inference import InProcess, WorkerPool
from finllm.edge.model import ConstantModel
from finllm.edge.onnx import CPU
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.book_spec import BOOK_SPEC

Infer = Callable[[NDArray[np.float64]], NDArray[np.float64]]
BOOK = load_artifact(SHIPPED["book"], spec=BOOK_SPEC)
BAR = load_artifact(SHIPPED["bar"], spec=BAR_SPEC)


def _constant() -> Artifact:
    model = ConstantModel(BOOK_SPEC.hash, BOOK.horizons)
    return Artifact(BOOK.manifest, BOOK_SPEC, model, BOOK.folder)


def _by_graph(artifact: Artifact) -> Artifact:
    model = open_model(artifact.folder, artifact.manifest, provider=CPU)
    return Artifact(artifact.manifest, artifact.spec, model, artifact.folder)


@pytest.fixture(
    scope="module", params=["constant", "book", "bar", "book by its graph", "book in workers"]
)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Artifact, Infer]]:
    made = {"constant": _constant(), "bar": BAR, "book by its graph": _by_graph(BOOK)}
    artifact = made.get(request.param, BOOK)
    if request.param == "book in workers":
        with WorkerPool(artifact.folder, 2) as pool:
            yield artifact, lambda rows: pool.infer(rows, np.zeros(len(rows), dtype=np.int64))
    else:
        here = InProcess(alone(artifact))
        yield artifact, lambda rows: here.infer(rows, np.zeros(len(rows), dtype=np.int64))


def _rows(artifact: Artifact, n: int, seed: int, scale: float) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_t(2, (n, len(artifact.spec))) * scale


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.01, 1.0, 1e3, 1e30]))
def test_a_claim_is_a_distribution(served: tuple[Artifact, Infer], seed: int, scale: float) -> None:
    artifact, infer = served
    raw = infer(_rows(artifact, 50, seed, scale))
    assert raw.shape == (50, len(artifact.horizons), 8)
    assert np.isfinite(raw).all()
    assert (raw[..., :3] > 0.0).all()
    np.testing.assert_allclose(raw[..., :3].sum(axis=-1), 1.0, rtol=0.0, atol=1e-12)
    assert (np.diff(raw[..., 3:], axis=-1) >= 0.0).all()


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 70), max_size=4))
def test_no_batch_or_split_changes_a_bit(
    served: tuple[Artifact, Infer], seed: int, cuts: list[int]
) -> None:
    artifact, infer = served
    rows = _rows(artifact, 70, seed, 1.0)
    whole = infer(rows)
    parts = np.concatenate([infer(part) for part in np.split(rows, sorted(cuts))])
    assert whole.tobytes() == parts.tobytes()
    alone = np.concatenate([infer(rows[i : i + 1]) for i in range(0, 70, 7)])
    assert whole[::7].tobytes() == alone.tobytes()


def test_a_claim_depends_on_its_own_row_alone(served: tuple[Artifact, Infer]) -> None:
    artifact, infer = served
    rows = _rows(artifact, 9, 1, 1.0)
    other = rows.copy()
    other[[0, 3, 8]] += 1.0
    same = [1, 2, 4, 5, 6, 7]
    assert infer(rows)[same].tobytes() == infer(other)[same].tobytes()
    assert infer(rows).tobytes() == infer(rows).tobytes()


def test_the_rows_are_left_as_they_were(served: tuple[Artifact, Infer]) -> None:
    artifact, infer = served
    rows = _rows(artifact, 9, 1, 1.0)
    before = rows.tobytes()
    infer(rows)
    assert rows.tobytes() == before


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_gets_no_guess(
    served: tuple[Artifact, Infer], poison: float
) -> None:
    artifact, infer = served
    rows = _rows(artifact, 4, 1, 1.0)
    clean = infer(rows)
    rows[2, 3] = poison
    raw = infer(rows)
    assert np.isnan(raw[2]).all()
    assert raw[[0, 1, 3]].tobytes() == clean[[0, 1, 3]].tobytes()


def test_no_rows_give_no_claims(served: tuple[Artifact, Infer]) -> None:
    artifact, infer = served
    assert infer(np.empty((0, len(artifact.spec)))).shape == (0, len(artifact.horizons), 8)


@pytest.mark.parametrize("artifact", [BOOK, BAR], ids=["book", "bar"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_the_kernel_says_what_the_graph_says(artifact: Artifact, scale: float) -> None:
    rows = _rows(artifact, 500, 7, scale)
    rows[3, 2] = np.nan
    kernel, graph = artifact.model.infer(rows), _by_graph(artifact).model.infer(rows)
    assert type(artifact.model) is not type(_by_graph(artifact).model)
    np.testing.assert_allclose(kernel, graph, rtol=2e-5, atol=2e-6)
