"""Laws of the stance head and of its training."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest

from finllm.domain.errors import ArtifactError, InputError
from finllm.narrative.reading.stance import (
    CARD,
    SHIPPED,
    WEIGHTS,
    Card,
    buckets,
    load_stance_head,
    tokens,
)
from finllm_lab.stance import (
    calibration_error,
    fit,
    macro_f1,
    make_head,
    probabilities,
    read_headlines,
)

LABELS = Path(__file__).parents[3] / ".." / "shared" / "data" / "text_labels"
HEAD = load_stance_head()


def test_the_shipped_head_tells_good_from_bad() -> None:
    good = HEAD.judge("Shares surge as profit beats estimates, outlook raised")
    bad = HEAD.judge("Shares plunge as profit misses estimates, outlook slashed")
    dull = HEAD.judge("Board meeting to be held on Tuesday")
    assert good.value > 0.5 > dull.value > -0.5 > bad.value
    assert dull.p_neutral > 0.5


def test_probabilities_sum_to_one_on_any_text() -> None:
    for text in ("", " ", "\U0001f680", "\u4eca\u5929", "x" * 50_000, "up " * 9_000):
        judged = HEAD.judge(text)
        assert judged.p_bearish + judged.p_neutral + judged.p_bullish == pytest.approx(1.0)
        assert -1.0 <= judged.value <= 1.0


def test_a_masked_name_does_not_sway_the_head() -> None:
    one, other = "Apple wins a contract", "Exxon wins a contract"
    assert HEAD.judge(one, ((0, 5),)) == HEAD.judge(other, ((0, 5),))
    assert tokens("$AAPL +3.5% vs -2 @user Great!", ()) == [
        "<name>",
        "+0",
        "%",
        "vs",
        "-0",
        "great",
        "!",
    ]


def test_the_same_text_gives_the_same_bits_in_another_process_and_hash_seed() -> None:
    code = (
        "from finllm.narrative.reading.stance import load_stance_head as l;"
        "s=l().judge('Profit jumps but outlook cut, shares mixed');"
        "print(s.p_bearish.hex(), s.p_neutral.hex(), s.p_bullish.hex())"
    )
    here = HEAD.judge("Profit jumps but outlook cut, shares mixed")
    expected = f"{here.p_bearish.hex()} {here.p_neutral.hex()} {here.p_bullish.hex()}"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == expected


def test_the_shipped_files_are_small_and_say_what_they_are() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 300_000
    card = msgspec.json.decode((SHIPPED / CARD).read_bytes(), type=Card)
    assert "MIT" in card.licence
    assert card.n_val > 1_000
    assert card.macro_f1 > 0.7


@pytest.mark.parametrize("change", ["flip", "cut", "card", "missing", "size"])
def test_weights_that_are_not_what_the_card_names_are_refused(tmp_path: Path, change: str) -> None:
    packed = bytearray((SHIPPED / WEIGHTS).read_bytes())
    card = json.loads((SHIPPED / CARD).read_text())
    if change == "flip":
        packed = bytearray(zlib.compress(b"\x01" + zlib.decompress(packed)[1:], 9))
    if change == "cut":
        del packed[1000:]
    if change == "size":
        card["n_bits"] = 15
    if change != "missing":
        (tmp_path / WEIGHTS).write_bytes(packed)
    (tmp_path / CARD).write_text("{" if change == "card" else json.dumps(card))
    with pytest.raises(ArtifactError):
        load_stance_head(tmp_path)


def test_buckets_are_sorted_unique_and_within_the_head() -> None:
    found = buckets(["profit", "rises", "profit", "rises"], 10)
    assert found == sorted(set(found))
    assert all(0 <= bucket < 1024 for bucket in found)


def _labelled(folder: Path) -> Path:
    rows = []
    for i in range(120):
        mood, word = (("positive", "soars"), ("negative", "sinks"), ("neutral", "meets"))[i % 3]
        title = f"Firm{i} {word} on day {i}"
        rows.append({"title": title, "entities": {f"Firm{i}": mood}, "split": "train"})
    path = folder / "sentfin_en.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_training_learns_what_the_rows_say_and_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    rows = read_headlines(_labelled(tmp_path))
    head, packed = make_head(*fit(rows))
    _, again = make_head(*fit(rows))
    p = probabilities(head, rows)
    labels = [row.label for row in rows]
    assert packed == again
    assert macro_f1(labels, p.argmax(axis=1)) == 1.0
    assert 0.0 <= calibration_error(labels, p) <= 1.0
    assert head.judge("Nobody soars").value > 0.0 > head.judge("Nobody sinks").value


def test_a_missing_label_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sentfin_en"):
        read_headlines(tmp_path / "sentfin_en.jsonl")


@pytest.mark.skipif(not LABELS.exists(), reason="the development data is not beside the checkout")
def test_the_card_states_the_score_that_the_shipped_head_has() -> None:
    val = [row for row in read_headlines(LABELS / "sentfin_en.jsonl") if row.split == "val"]
    p = probabilities(HEAD, val)
    labels = [row.label for row in val]
    assert macro_f1(labels, p.argmax(axis=1)) == pytest.approx(HEAD.card.macro_f1, abs=1e-4)
    assert calibration_error(labels, p) == pytest.approx(HEAD.card.ece, abs=1e-3)
