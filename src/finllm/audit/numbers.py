"""Numbers as a text shows them, and as they come out when they are computed again."""

import math
import re
from collections.abc import Sequence
from typing import Final

import msgspec

_NUMBER: Final = re.compile(r"[-+\u2212]?\d(?:[\d,]*\d)?(?:\.\d+)?(?:[eE][-+]?\d+)?")
_UNIT: Final = re.compile(r"\s*(%|percent|per cent|ns|us|ms|s|min|h|d)\b|\s*(%)")
_SCALES: Final = {
    "%": (0.01,),
    "percent": (0.01,),
    "per cent": (0.01,),
    "ns": (1.0, 1e-9),
    "us": (1e3, 1e-6),
    "ms": (1e6, 1e-3),
    "s": (1e9, 1.0),
    "min": (6e10, 60.0),
    "h": (3.6e12, 3600.0),
    "d": (8.64e13, 86400.0),
}
"""What a unit behind a number may multiply it by: fields in ns, then fields in seconds."""
_SAME: Final = 1e-9
"""Numbers recomputed on another machine may differ in the last bits."""


def same(one: object, other: object) -> bool:
    """Return whether two values are the same up to the last bits of their floats, also within others."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, msgspec.Struct) and type(one) is type(other):
        names = one.__struct_fields__
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME)
    return one == other


class Token(msgspec.Struct, frozen=True):
    """A number as written in a text."""

    value: float
    half_step: float
    """Half of the last displayed digit."""
    scales: tuple[float, ...]

    def shows(self, number: float) -> bool:
        """Return whether a number, rounded as displayed, gives this token in some unit."""
        return self._is_near(number, self.half_step * (1.0 + _SAME))

    def states(self, number: float) -> bool:
        """Return whether this token is a number as it stands, in some unit."""
        return self._is_near(number, 0.0)

    def _is_near(self, number: float, slack: float) -> bool:
        return math.isfinite(number) and any(
            abs(self.value * scale - number) <= slack * scale + _SAME * abs(number)
            for scale in self.scales
        )


def without_names(text: str, names: Sequence[str]) -> str:
    """Return a text with known names taken out where they stand as whole words."""
    for name in names:
        if name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    return text


def numbers_in(text: str) -> list[Token]:
    """Return the numbers written in a text, with the rounding and the unit that they show."""
    found = []
    for match in _NUMBER.finditer(text):
        written = match.group().replace(",", "").replace("\u2212", "-")
        mantissa, _, exponent = written.lower().partition("e")
        places = len(mantissa.partition(".")[2])
        try:
            half_step = 0.5 * 10.0 ** (int(exponent or 0) - places)
        except (OverflowError, ValueError):  # beyond any evidence, so equal to none
            found.append(Token(math.nan, 0.0, (1.0,)))
            continue
        unit = _UNIT.match(text, match.end())
        scales = _SCALES[(unit.group(1) or unit.group(2))] if unit else ()
        found.append(Token(float(written), half_step, (1.0, *scales)))
    return found
