"""What a language model may answer: the schema it is told, and the check that it cannot talk past.

Nothing that an endpoint promises of its answers is relied on: every one is read and checked here.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from finllm.domain.protocol import Voiding
from finllm.reasoning.llm.wire import healed

MOST_SHIFT: Final = 1.0
"""Log-odds of up against down that an answer may name, either way."""
LEAST_SCALE: Final = 0.5
MOST_SCALE: Final = 2.0
LEAST_HALF_LIFE_S: Final = 1.0
MOST_HALF_LIFE_S: Final = 86_400.0
MOST_WHY: Final = 400
MOST_CITED: Final = 8
MOST_NUMERAL: Final = 17
"""Characters of a number: more digits than a double holds are no measurement."""
STANCES: Final = ("up", "down", "none")
AGREEMENTS: Final = ("agree", "conflict", "unclear")
VOIDING: Final = tuple(str(name) for name in Voiding)
"""Conditions that may end an outlook early."""
MOST_OBJECT: Final = 1 << 14
"""Characters of the object itself: three times what `why`, all in escapes, and everything else can fill."""
_THOUGHT: Final = ("<think>", "</think>")
_FENCE: Final = "```"


class AnswerError(Exception):
    """An answer that does not hold; the text says why in words fit for telling the model."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A checked answer."""

    shift: float
    """Log-odds of up against down, relative to the base."""
    vol_scale: float
    half_life_s: float
    agreement: str
    """Whether the signals agree."""
    why: str
    """As the model wrote it; nothing in it is checked yet."""
    voided_by: tuple[Voiding, ...]
    cited: tuple[str, ...]
    """Evidence ids, each once."""


def schema(ids: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of an answer that may cite these evidence ids."""
    citations: dict[str, Any] = {"type": "array", "maxItems": min(MOST_CITED, len(ids))}
    if ids:
        citations["items"] = {"type": "string", "enum": list(ids)}
    properties = {
        "stance": {"type": "string", "enum": list(STANCES)},
        "shift": {"type": "number", "minimum": -MOST_SHIFT, "maximum": MOST_SHIFT},
        "vol_scale": {"type": "number", "minimum": LEAST_SCALE, "maximum": MOST_SCALE},
        "half_life_s": {
            "type": "number",
            "minimum": LEAST_HALF_LIFE_S,
            "maximum": MOST_HALF_LIFE_S,
        },
        "agreement": {"type": "string", "enum": list(AGREEMENTS)},
        "why": {"type": "string", "maxLength": MOST_WHY},
        "voided_by": {
            "type": "array",
            "maxItems": len(VOIDING),
            "items": {"type": "string", "enum": list(VOIDING)},
        },
        "citations": citations,
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def read_answer(text: str, ids: Sequence[str]) -> Answer:
    """Return the answer in a text.

    Args:
        text: What the model said. A thought in front of it and a fence around it are taken off.
        ids: The evidence ids that it may cite.

    Raises:
        AnswerError: If it is not exactly one JSON object of the schema: a key twice, a key too many or
            too few, a number out of bounds or of more digits than a double holds, an id not in the pack.
    """
    said = _object(text)
    wanted = schema(())["required"]
    for key in wanted:
        if key not in said:
            raise AnswerError(f"the key {key} is missing")
    if len(said) > len(wanted):
        raise AnswerError("it has keys that the schema does not have")
    shift = _number(said, "shift", -MOST_SHIFT, MOST_SHIFT)
    stance = _choice(said, "stance", STANCES)
    if (stance == "up") != (shift > 0.0) or (stance == "down") != (shift < 0.0):
        raise AnswerError("stance must be up where shift is above 0, down below 0, none at 0")
    why = said["why"]
    if not isinstance(why, str) or len(why) > MOST_WHY:
        raise AnswerError(f"why must be a text of at most {MOST_WHY} characters")
    return Answer(
        shift=shift,
        vol_scale=_number(said, "vol_scale", LEAST_SCALE, MOST_SCALE),
        half_life_s=_number(said, "half_life_s", LEAST_HALF_LIFE_S, MOST_HALF_LIFE_S),
        agreement=_choice(said, "agreement", AGREEMENTS),
        why=healed(why),
        voided_by=tuple(
            Voiding(name) for name in _choices(said, "voided_by", VOIDING, len(VOIDING))
        ),
        cited=_choices(said, "citations", ids, MOST_CITED),
    )


def _object(text: str) -> dict[str, Any]:
    """Return the JSON object that a text is."""
    bare = _bare(text)
    if not bare:
        raise AnswerError("it is empty")
    if len(bare) > MOST_OBJECT:
        raise AnswerError(f"it is longer than {MOST_OBJECT:,} characters")
    try:
        said = json.loads(
            bare,
            object_pairs_hook=_pairs,
            parse_float=_numeral(float),
            parse_int=_numeral(float),
            parse_constant=_constant,
        )
    except (ValueError, RecursionError) as error:
        raise AnswerError("it is not one JSON object and nothing else") from error
    if not isinstance(said, dict):
        raise AnswerError("it is not a JSON object")
    return said


def _bare(text: str) -> str:
    """Return a text without the thought in front of it and the fence around it, in linear time."""
    bare = text.strip()
    if bare.startswith(_THOUGHT[0]):
        bare = bare.partition(_THOUGHT[1])[2].strip()
    if bare.startswith(_FENCE):
        bare = bare.removeprefix(_FENCE).removeprefix("json").removesuffix(_FENCE).strip()
    return bare


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise AnswerError("a key stands in it twice")
    return dict(pairs)


def _numeral(read: Callable[[str], float]) -> Callable[[str], float]:
    def parse(numeral: str) -> float:
        if len(numeral) > MOST_NUMERAL:
            raise AnswerError(f"a number in it has more than {MOST_NUMERAL} characters")
        return read(numeral)

    return parse


def _constant(name: str) -> float:
    raise AnswerError(f"{name} is no number")


def _number(said: dict[str, Any], key: str, low: float, high: float) -> float:
    value = said[key]
    if not isinstance(value, float) or not math.isfinite(value) or not low <= value <= high:
        raise AnswerError(f"{key} must be a number from {low:g} to {high:g}")
    return value


def _choice(said: dict[str, Any], key: str, known: Sequence[str]) -> str:
    value = said[key]
    if not isinstance(value, str) or value not in known:
        raise AnswerError(f"{key} must be one of {', '.join(known)}")
    return value


def _choices(said: dict[str, Any], key: str, known: Sequence[str], most: int) -> tuple[str, ...]:
    values = said[key]
    if not isinstance(values, list) or len(values) > most:
        raise AnswerError(f"{key} must be a list of at most {most}")
    if any(not isinstance(value, str) or value not in known for value in values):
        raise AnswerError(f"{key} names something that is not in its list of choices")
    return tuple(dict.fromkeys(values))
