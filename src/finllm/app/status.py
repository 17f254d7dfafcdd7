"""How a live run or a recording stands, for whoever looks on."""

from collections.abc import Callable

import msgspec


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a live run stands."""

    ts: int
    frames: int
    waiting: int
    """Frames that have come and are not used yet."""
    gaps: int
    unusable: int
    """Books that wait for a snapshot."""
    downs: int
    failed_connects: int = 0
    last_failure: str = ""
    """Why a connection or a snapshot request failed the last time, and at which host."""
    rows: int = 0
    forecasts: int = 0
    escalated: int = 0
    applied: int = 0
    """Revisions applied."""
    drifted: int = 0
    """Instruments whose inputs are unlike those of training."""
    worse: int = 0
    """Instruments on which no model of the bank is as good as climatology."""
    notes: tuple[str, ...] = ()
    """What is to be known before anything of the run is trusted."""


Stop = Callable[[], bool]
"""Tells whether to stop."""
Told = Callable[[Status], None]
"""Is told how it stands."""
