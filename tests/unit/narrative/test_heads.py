"""Heads answer as the card says, by what there is to read with, and a damaged pack is refused."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.domain.errors import ArtifactError, InputError
from finllm.narrative.reading.features import piece_buckets, word_buckets
from finllm.narrative.reading.heads import (
    CARD,
    N_BUCKETS,
    WEIGHTS,
    Card,
    Heads,
    Pack,
    version_of,
    with_emoji_names,
)
from finllm.narrative.reading.labelled import Text
from finllm.narrative.reading.minilm import PINNED, check_pinned, merged
from finllm_lab.heads.export import rounded_rows, write_pack
from finllm_lab.heads.fit import Fitted, Said, blend, blended
from finllm_lab.heads.words import fit_words, hashed

UP, DOWN = ("gains", "soars", "beats"), ("slumps", "falls", "misses")
NAMES = ("Alpha", "Beta", "Gamma", "Delta", "Omega")


def rows(n: int, seed: int = 0) -> list[Text]:
    """Headlines in which two names fare differently; the question is about the first or the second."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        a, b = rng.choice(NAMES, 2, replace=False)
        good, bad = rng.choice(UP), rng.choice(DOWN)
        text = f"{a} {good} while {b} {bad} on day {i}"
        at = text.index(b, len(a))
        out.append(Text(task="sentfin", text=text, span=(0, len(a)), label=2, document=str(i)))
        out.append(
            Text(task="sentfin", text=text, span=(at, at + len(b)), label=0, document=str(i))
        )
        flat = f"{a} holds its yearly meeting number {i}"
        out.append(Text(task="sentfin", text=flat, span=(0, len(a)), label=1, document=f"{i} flat"))
    return out


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    kept, held = rows(60), rows(30, seed=1)
    words = fit_words(hashed(kept), kept, 3)
    said = Said(rows=held, words=words.read_out(hashed(held)), encoder=None)
    write_pack(
        folder,
        Fitted(words={"sentfin": words}, adapter={}, heads={}),
        {"sentfin": (blend(said, with_encoder=False), None)},
        scores={},
        n_rows={"sentfin": len(kept)},
        licence="made up for this test",
        command="a test",
    )
    return folder


def test_names_in_one_headline_get_answers_of_their_own(pack_folder: Path) -> None:
    heads = Heads(Pack(pack_folder), None)
    for row in rows(20, seed=2):
        answer = heads.judge("sentfin", row.text, row.span)
        assert answer.classes.index(answer.label) == row.label
        assert sum(answer.p) == pytest.approx(1.0)


def test_served_answers_are_the_fitted_ones(pack_folder: Path) -> None:
    heads = Heads(Pack(pack_folder), None)
    held = rows(10, seed=3)
    kept = rows(60)
    words = fit_words(hashed(kept), kept, 3)
    said = Said(rows=held, words=words.read_out(hashed(held)), encoder=None)
    card = heads.card.tasks["sentfin"]
    served = [heads.judge("sentfin", row.text, row.span).p for row in held]
    assert np.allclose(served, blended(said, card.alone), atol=1e-12)


def test_an_answer_says_that_no_encoder_read_the_text(pack_folder: Path) -> None:
    heads = Heads(Pack(pack_folder), None)
    assert heads.judge("sentfin", "Alpha gains", (0, 5)).by.startswith("hashing/")


def test_an_unknown_task_is_met_with_those_there_are(pack_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no head for weather \(it has sentfin\)"):
        Heads(Pack(pack_folder), None).judge("weather", "rain")


@pytest.mark.parametrize("name", [WEIGHTS, CARD])
def test_a_damaged_pack_is_refused(pack_folder: Path, tmp_path: Path, name: str) -> None:
    for file in (WEIGHTS, CARD):
        (tmp_path / file).write_bytes((pack_folder / file).read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        Pack(tmp_path)


def test_a_card_that_promises_other_classes_is_refused(pack_folder: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes((pack_folder / WEIGHTS).read_bytes())
    card = msgspec.json.decode((pack_folder / CARD).read_bytes())
    card["tasks"]["sentfin"]["classes"] = ["down", "up"]
    made = msgspec.convert(card, Card)
    made = msgspec.structs.replace(made, version=version_of(made))
    (tmp_path / CARD).write_bytes(msgspec.json.encode(made))
    with pytest.raises(ArtifactError, match="words is"):
        Pack(tmp_path)


def test_a_blend_never_does_worse_than_its_parts_where_it_was_fitted() -> None:
    rng = np.random.default_rng(0)
    held = rows(100)
    labels = np.array([row.label for row in held])

    def noisy(scale: float) -> np.ndarray:
        z = scale * rng.normal(size=(len(held), 3)) + 2.0 * np.eye(3)[labels]
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    said = Said(rows=held, words=noisy(1.0), encoder=noisy(2.0))

    def loss(p: np.ndarray) -> float:
        return float(-np.log(p[np.arange(len(labels)), labels]).mean())

    both = loss(blended(said, blend(said, with_encoder=True)))
    alone = loss(blended(said, blend(said, with_encoder=False)))
    assert both <= alone + 1e-3
    assert alone <= loss(np.exp(said.words)) + 1e-3


def test_a_span_stands_where_its_name_does_once_emoji_are_words() -> None:
    text = "\U0001f680 AAPL to the moon \U0001f680"
    named, span = with_emoji_names(text, (2, 6))
    assert span is not None
    assert named[slice(*span)] == "AAPL"
    assert "rocket" in named[: span[0]].split()


def test_words_near_a_name_are_told_from_words_elsewhere() -> None:
    text = "Alpha gains while Beta falls"
    first, second = word_buckets(text, (0, 5)), word_buckets(text, (18, 22))
    assert set(first.tolist()) != set(second.tolist())
    assert np.array_equal(first, word_buckets(text, (0, 5)))


@pytest.mark.parametrize("text", ["", "   ", "\u4e2d\u6587" * 10_000, "9" * 50_000])
def test_any_text_has_buckets_in_range(text: str) -> None:
    for found, n_buckets in (
        (piece_buckets(text), N_BUCKETS["pieces"]),
        (word_buckets(text), N_BUCKETS["words"]),
    ):
        assert len(set(found.tolist())) == len(found)
        assert found.size == 0 or (found.min() >= 0 and found.max() < n_buckets)


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    for name in PINNED:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ArtifactError, match=r"is not the pinned"):
        check_pinned(tmp_path)


def test_an_adapter_is_added_to_the_weight_it_names() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 4)).astype(np.float32)
    down, up = (rng.normal(size=s).astype(np.float32) for s in ((2, 4), (6, 2)))
    out = merged({"a": weight, "b": weight}, {"a": (down, up)})
    assert np.allclose(out["a"], weight + up @ down)
    assert out["b"] is weight
    with pytest.raises(ArtifactError, match="does not fit"):
        merged({"a": weight}, {"a": (up, down)})


def test_rounding_a_row_costs_at_most_half_a_step() -> None:
    matrix = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    rounded, scale = rounded_rows(matrix)
    assert np.all(np.abs(rounded * scale[:, None] - matrix) <= scale[:, None] * 0.501)
