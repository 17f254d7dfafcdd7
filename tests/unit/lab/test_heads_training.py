"""Folds keep copies together, and what is trained is what is served."""

from pathlib import Path

import numpy as np
import pytest

from finllm.app.narrative_scores import head_for
from finllm.domain.errors import InputError
from finllm.narrative.reading.heads import Pack
from finllm.narrative.reading.labelled import KINDS, TASKS, Text, read_labelled, resolved, task_of
from finllm.narrative.reading.marks import calibration_error, macro_f1, marks_of
from finllm.narrative.reading.reader import SHIPPED
from finllm_lab.heads.folds import folds, groups


def text(words: str, *, document: str = "", date: str = "", task: str = "sentfin") -> Text:
    return Text(task=task, text=words, label=0, document=document or words, date=date)


def test_copies_share_a_fold_whatever_their_figures_and_case() -> None:
    rows = [
        text("Acme profit rises 12% in the third quarter"),
        text("ACME profit rises 7.5% in the third quarter!"),
        text("Acme profit rises 12% in third quarter: shares"),
        text("Snow closes mountain roads", task="phrasebank"),
        text("snow closes mountain roads.", task="fiqa"),
    ]
    group = groups(rows)
    assert group[0] == group[1] == group[2]
    assert group[3] == group[4] != group[0]
    fold = folds(rows, 2)
    assert fold[0] == fold[1] == fold[2]
    assert fold[3] == fold[4]


def test_rows_of_one_document_and_of_one_day_share_a_fold() -> None:
    rng = np.random.default_rng(0)
    words = [
        f"{a}{b}"
        for a in "bcdfghjklmnpqrstvwxz"
        for b in (
            "a",
            "e",
            "i",
            "o",
            "u",
            "an",
            "en",
            "in",
            "on",
            "un",
            "ar",
            "er",
            "ir",
            "or",
            "ur",
        )
    ]
    rows = [
        text(
            " ".join(rng.choice(words, 8)), document=f"d{i // 2}", date=f"2020-01-{1 + i // 12:02d}"
        )
        for i in range(240)
    ]
    fold = folds(rows, 5)
    for key in ("document", "date"):
        held: dict[str, set[int]] = {}
        for row, f in zip(rows, fold.tolist(), strict=True):
            held.setdefault(getattr(row, key), set()).add(f)
        assert all(len(found) == 1 for found in held.values())
    assert np.bincount(fold, minlength=5).min() >= 36
    assert np.array_equal(fold, folds(rows, 5))


def test_a_task_is_told_by_its_files_name() -> None:
    for name, task in TASKS.items():
        assert task_of(Path(task.file)) == name
        assert task_of(Path(task.file + ".gz")) == name
    assert task_of(Path("weather.jsonl")) is None


def test_a_task_is_told_by_its_kind_and_the_form_of_its_first_row(tmp_path: Path) -> None:
    rows = {
        "sentfin": '{"title": "A gains", "entities": {"A": "positive"}}',
        "finentity": '{"text": "A gains", "annotations": [{"start": 0, "end": 1, "label": "Positive"}]}',
        "phrasebank": '{"sentence": "A gains", "label": "positive"}',
        "phrasebank_ko": '{"sentence_en": "A gains", "sentence_ko": "가", "label": "positive"}',
        "company_news_zh": '{"title": "涨", "label": "positive"}',
        "economic_news_es": '{"text": "sube", "label": "positive"}',
        "stockemotions": '{"text": "up", "sentiment": "bullish"}',
        "fomc": '{"sentence": "rates rise", "label": "hawkish", "year": 1999}',
    }
    kind_of = {name: kind for kind, names in KINDS.items() for name in names}
    path = tmp_path / "kept_back.jsonl"
    for name, row in rows.items():
        path.write_text(row + "\n")
        assert resolved(path, kind_of[name]) == name
    with pytest.raises(InputError, match="no form that entity_sentiment has"):
        resolved(path, "entity_sentiment")
    with pytest.raises(InputError, match="cannot be told"):
        resolved(path)
    with pytest.raises(InputError, match="weather is no task"):
        resolved(path, "weather")


def test_a_set_without_a_head_of_its_own_is_answered_by_one_of_its_kind_and_language() -> None:
    card = Pack(SHIPPED).card
    assert head_for("sentfin", card) == "sentfin"
    assert head_for("finentity", card) == "sentfin"
    assert head_for("phrasebank", card) == "sentfin"
    for task in ("phrasebank_ko", "fomc", "stockemotions"):
        with pytest.raises(InputError, match=f"no head for {task}"):
            head_for(task, card)


def test_a_row_of_another_form_is_met_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "sentfin_en.jsonl"
    path.write_text('{"title": "A gains", "entities": {"A": "positive"}}\n{"title": "B falls"}\n')
    with pytest.raises(InputError, match=r"sentfin_en.jsonl:2: is no row of sentfin"):
        read_labelled(path, "sentfin")


def test_each_name_in_a_headline_is_a_question_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "sentfin_en.jsonl"
    path.write_text(
        '{"title": "Alpha soars, Beta slumps", "entities": {"Alpha": "positive", "Beta": "negative"}}\n'
    )
    first, second = read_labelled(path, "sentfin")
    assert (first.span, first.label) == ((0, 5), 2)
    assert (second.span, second.label) == ((13, 17), 0)
    assert first.document == second.document


def test_marks_of_perfect_answers_are_perfect_and_of_shuffled_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=600)
    rows = [
        Text(task="sentfin", text=str(i), label=int(y), document=str(i // 2))
        for i, y in enumerate(labels)
    ]
    right = np.eye(3)[labels]
    sure = marks_of(rows, 0.98 * right + 0.02 / 3)
    assert sure.macro_f1.value == 1.0
    assert sure.divided_all_right is not None
    assert sure.divided_all_right.value == 1.0
    guessed = marks_of(rows, rng.permutation(0.98 * right + 0.02 / 3))
    assert guessed.macro_f1.interval[1] < 0.45
    assert guessed.calibration_error.value > 0.5
    assert sure.calibration_error.value < 0.1


def test_claims_that_come_true_as_often_as_they_say_show_no_more_error_than_luck() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet([1.0, 1.0, 1.0], size=2_000)
    labels = (rng.random(len(p))[:, None] > p.cumsum(axis=1)).sum(axis=1)
    rows = [
        Text(task="sentfin", text="", label=int(y), document=str(i)) for i, y in enumerate(labels)
    ]
    marks = marks_of(rows, p)
    assert abs(calibration_error(labels, p) - marks.perfect_error) < 0.01
    assert macro_f1(labels, labels, 3) == 1.0


def test_a_trained_network_is_the_graph_that_serves(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the zoo's extra")
    from finllm.narrative.reading.minilm import TOKENIZER, find_weights, graph_of, merged
    from finllm.narrative.reading.transformer import Transformer
    from finllm_lab.heads.cli import load_base
    from finllm_lab.heads.fit import questions_of
    from finllm_lab.heads.network import Network, Schedule, train

    found = find_weights()
    if found is None:
        pytest.skip("the encoder's weights are not installed")
    weights, tokenizer = load_base(None)
    headline = "Alpha soars while Beta slumps"
    rows = [
        Text(task="sentfin", text=headline, span=span, label=label, document="one")
        for span, label in (((0, 5), 2), ((18, 22), 0))
    ]
    schedule = Schedule(n_epochs=6, batch=2, rank=4)
    network = Network(weights, {"sentfin": 3}, schedule)
    losses: list[float] = []
    questions = questions_of(rows, tokenizer)
    train(network, questions, schedule, on_step=lambda _done, _all, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    (tmp_path / "encoder.onnx").write_bytes(
        graph_of(merged(weights, network.adapter()), is_rounded=False)
    )
    (tmp_path / TOKENIZER).write_bytes((found / TOKENIZER).read_bytes())
    served = Transformer(tmp_path, "exact").read(headline, (0, 5)).features
    trained = network.features(questions[:1], is_training=False).detach().numpy()[0]
    assert np.dot(served, trained) / np.linalg.norm(served) / np.linalg.norm(trained) > 0.995
