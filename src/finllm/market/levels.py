"""Levels from the text of a message straight into an array, without a Python object per number.

The kernel reads the one form that Binance sends, `[["61773.6","1001"],...]`; whatever else is valid
JSON goes through the general decoder, with the same values. A plain decimal of up to 15 digits divided
by its power of ten is the correctly rounded double, which is what that decoder gives as well.

Bought: a diff of 33 levels in about 2 us instead of 9 (decoder, then slice assignment).
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.runtime.kernels import kernel

Levels = NDArray[np.float64]

FULL: Final = -1
"""More levels than the array holds."""
_UNUSUAL: Final = -2
_EXACT: Final = 2**53
_MAX_DECIMALS: Final = 18
_TENTH_OF_EXACT: Final = _EXACT // 10
_POWERS: Final = np.array([10.0**i for i in range(_MAX_DECIMALS + 1)])
_QUOTE, _COMMA, _POINT = ord('"'), ord(","), ord(".")
_OPEN, _CLOSE, _ZERO = ord("["), ord("]"), ord("0")

_decode = msgspec.json.Decoder(list[tuple[float, float]], strict=False).decode


@kernel
def _number(text: bytes, at: int, out: Levels, row: int, column: int) -> int:
    """Read `"digits.digits"` at `at` into out[row, column]; return what follows it, or _UNUSUAL."""
    if text[at] != _QUOTE:
        return _UNUSUAL
    start = at + 1
    at = start
    mantissa = np.int64(0)
    point = -1
    while True:
        digit = np.int64(text[at]) - _ZERO
        if 0 <= digit <= 9:
            if mantissa >= _TENTH_OF_EXACT:
                return _UNUSUAL
            mantissa = mantissa * 10 + digit
        elif text[at] == _POINT and point < 0 and at > start:
            point = at
        else:
            break
        at += 1
    n_decimals = at - point - 1 if point >= 0 else 0
    if text[at] != _QUOTE or at == start or point == at - 1 or n_decimals > _MAX_DECIMALS:
        return _UNUSUAL
    out[row, column] = mantissa / _POWERS[n_decimals]
    return at + 1


@kernel
def _scan(text: bytes, out: Levels, row: int) -> int:
    """Read all levels into `out` from `row` on; return the row after the last, FULL or _UNUSUAL.

    `text` is valid JSON that starts with a bracket, so every string in it ends and no read overruns.
    """
    if text[0] != _OPEN:
        return _UNUSUAL
    if text[1] == _CLOSE:
        return row
    at = 1
    while text[at] == _OPEN:
        if row == out.shape[0]:
            return FULL
        at = _number(text, at + 1, out, row, 0)
        is_pair = at > 0 and text[at] == _COMMA
        at = _number(text, at + 1, out, row, 1) if is_pair else _UNUSUAL
        if at < 0 or text[at] != _CLOSE:
            return _UNUSUAL
        row += 1
        at += 2
        if text[at - 1] != _COMMA:
            return row if text[at - 1] == _CLOSE else _UNUSUAL
    return _UNUSUAL


def read_levels(raw: msgspec.Raw, out: Levels, row: int) -> int:
    """Read the levels of one side.

    Args:
        raw: A JSON value that the decoder found well formed.
        out: float64 [any, 2], price and size.
        row: Where the first level goes.

    Returns:
        The row after the last level, or FULL.

    Raises:
        msgspec.ValidationError: If it is not a list of pairs of numbers.
    """
    end = _scan(bytes(raw), out, row)
    if end != _UNUSUAL:
        return end
    levels = _decode(raw)
    end = row + len(levels)
    if end > len(out):
        return FULL
    if levels:
        out[row:end] = levels
    return end
