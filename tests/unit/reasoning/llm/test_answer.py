"""An answer holds in every part or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finllm.reasoning.llm.answer import Answer, AnswerError, read_answer, schema
from support.endpoint import answer

IDS = ("a", "b")
BAD = {
    "nothing": "",
    "text": "up",
    "two objects": answer(["a"]) * 2,
    "list": "[]",
    "duplicate key": answer(["a"])[:-1] + ', "shift": 0.4}',
    "30 digits": answer(["a"]).replace("0.4", "0.4" + "0" * 29),
    "huge integer": answer(["a"]).replace("0.4", "1" + "0" * 40),
    "not a number": answer(["a"]).replace("0.4", "NaN"),
    "infinite": answer(["a"]).replace("0.4", "1e999"),
    "truth for a number": answer(["a"], shift=True),
    "text for a number": answer(["a"], shift="0.4"),
    "beyond a bound": answer(["a"], vol_scale=2.5),
    "unknown id": answer(["c"]),
    "unknown condition": answer(["a"], voided_by=["when I say so"]),
    "stance against shift": answer(["a"], stance="down"),
    "a key too many": answer(["a"], tool="transfer"),
    "a key too few": json.dumps({"stance": "up"}),
    "too many words": answer(["a"], why="x" * 401),
    "too deep": "[" * 100_000,
    "an object for a list": answer(["a"], citations={"a": 1}),
    "a list for an id": answer(["a"], citations=[["a"]]),
    "longer than any answer": answer(["a"], why="x" * 399) + " " * 99_999 + "{",
    "a fence never closed": "```" + " " * 1_600 + "x",
    "a thought never closed": "<think>" + " " * 1_600 + "x",
    "text behind it": answer(["a"]) + " Good luck!",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_what_does_not_hold_is_refused(text: str) -> None:
    with pytest.raises(AnswerError):
        read_answer(text, IDS)


@given(
    st.lists(st.sampled_from(["```", "json", " ", "\n", "<think>", "</think>", "{", '"', "x"]))
    .map("".join)
    .map(lambda part: part * (60_000 // max(1, len(part))))
)
def test_no_text_without_an_end_is_taken_for_an_answer(text: str) -> None:
    with pytest.raises(AnswerError):
        read_answer(text, IDS)


def test_half_a_character_in_an_answers_words_is_replaced() -> None:
    assert read_answer(answer(["a"], why="up \ud83d"), IDS).why == "up \ufffd"
    assert read_answer(answer(["a"], why="up \ud83d\ude00"), IDS).why == "up \U0001f600"


def test_a_thought_and_a_fence_around_an_answer_are_taken_off() -> None:
    text = answer([], citations=["b", "b", "a"])
    read = read_answer(text, IDS)
    assert read.cited == ("b", "a")
    assert read == read_answer(f"<think>{{}}</think>\n```json\n{text}\n```", IDS)


@given(
    st.floats(-1.0, 1.0),
    st.floats(0.5, 2.0),
    st.floats(1.0, 86_400.0),
    st.lists(st.sampled_from(IDS), max_size=8),
)
def test_what_is_within_the_schema_is_read_as_it_is(
    shift: float, scale: float, half_life_s: float, cited: list[str]
) -> None:
    rounded = [float(f"{x:.9f}") for x in (shift, scale, half_life_s)]
    stance = "up" if rounded[0] > 0 else "down" if rounded[0] < 0 else "none"
    text = answer(
        cited,
        stance=stance,
        shift=f"<{rounded[0]:.9f}>",
        vol_scale=rounded[1],
        half_life_s=rounded[2],
        citations=cited,
    )
    read = read_answer(text.replace('"<', "").replace('>"', ""), IDS)
    assert (read.shift, read.vol_scale, read.half_life_s) == tuple(rounded)
    assert read.cited == tuple(dict.fromkeys(cited))


@given(st.text(max_size=200))
def test_no_text_does_anything_but_hold_or_be_refused(text: str) -> None:
    try:
        read = read_answer(text, IDS)
    except AnswerError:
        return
    assert isinstance(read, Answer)


def test_the_schema_names_the_packs_ids_and_no_others() -> None:
    assert schema(IDS)["properties"]["citations"]["items"]["enum"] == ["a", "b"]
    assert schema(())["properties"]["citations"]["maxItems"] == 0
