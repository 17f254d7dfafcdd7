"""Fields of JSON that others made, whatever they hold: absent or of another kind is empty."""

from typing import Any, Final

import msgspec

from finllm.narrative.sources.rows import Unusable

_MOST: Final = 2**63


def json_of(payload: bytes) -> Any:
    """Return a message's JSON.

    Raises:
        Unusable: `broken_json` or `not_utf8`.
    """
    try:
        return msgspec.json.decode(payload)
    except UnicodeDecodeError:
        raise Unusable("not_utf8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise Unusable("not_utf8") from None
        raise Unusable("broken_json", str(error)) from None


def at(value: object, *path: str) -> Any:
    """Return what stands at a path of names; None if nothing does."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text_field(row: object, *names: str) -> str:
    """Return the first of some fields that holds a text or a whole number, as text."""
    for name in names:
        value = at(row, *name.split("."))
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""


def number(row: object, *names: str) -> int:
    """Return the first of some fields that holds a whole number, also written as text; else 0."""
    for name in names:
        value = at(row, *name.split("."))
        if isinstance(value, str):
            value = int(value[:20]) if value[:20].strip().lstrip("-").isdecimal() else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and -_MOST < value < _MOST:
            return int(value)
    return 0


def words(value: object) -> tuple[str, ...]:
    """Return a list of names: of texts, of objects with `symbol`, or one text with commas or blanks."""
    if isinstance(value, str):
        value = value[:10_000].replace(",", " ").replace(";", " ").split()
    if not isinstance(value, list):
        return ()
    found = (one if isinstance(one, str) else text_field(one, "symbol", "ticker") for one in value)
    return tuple(name.strip() for name in found if name.strip())
