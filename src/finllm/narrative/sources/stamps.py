"""Times as sources write them: numbers since the epoch in whatever unit, or texts."""

from typing import Any, Final

from finllm.domain.units import NS_PER_MS, NS_PER_S, NS_PER_US
from finllm.narrative.sources.fields import at

_UNITS: Final = ((10**11, NS_PER_S), (10**14, NS_PER_MS), (10**17, NS_PER_US))
"""A number below the first is in the second: seconds reach 10**11 in the year 5138."""


def epoch_ns(value: float) -> int:
    """Return seconds, milliseconds, microseconds or nanoseconds since the epoch as nanoseconds."""
    for below, unit in _UNITS:
        if abs(value) < below:
            return (
                int(value) * unit
                if isinstance(value, int)
                else round(value * 1e6) * (unit // 10**6)
            )
    return int(value)


def instant_field(row: Any, *names: str) -> tuple[str, int]:
    """Return the first of some fields that holds a time: as text, or in nanoseconds; else ("", 0)."""
    for name in names:
        value = at(row, *name.split("."))
        if isinstance(value, str) and value.strip():
            digits = value.strip()
            return (
                ("", epoch_ns(int(digits)))
                if digits.isdecimal() and len(digits) in range(9, 20)
                else (digits, 0)
            )
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**63:
            return "", epoch_ns(value)
    return "", 0
