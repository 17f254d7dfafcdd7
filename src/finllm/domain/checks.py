"""Checks: what others bring, a model or a source, held to one promise after the other."""

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One promise and what was found."""

    name: str
    ok: bool
    figure: str
    """What was measured, read or seen."""
    mend: str = ""
    """What to do, with the line where one is known; empty where the promise holds."""
