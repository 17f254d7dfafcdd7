"""What the leading instrument's newest row says to the one that follows it: BTC to ETH on one venue.

One int64 array is shared by the two: the leader writes it after its own row, the follower reads it in
its own. So a follower's row knows nothing of the leader that was not received before it. All of it is
integer sums, so a stream gives exactly what a recomputation would.
"""

from math import log1p, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.units import BPS, NS_PER_MS, NS_PER_S
from finllm.features.book_state import (
    DEPTH,
    FLAGS,
    MID2,
    MOVE,
    NOW,
    OFI,
    RESYNCING,
    SAMPLES,
    SCALARS,
    W_10S,
    W_100MS,
    W_500MS,
    Floats,
    Integers,
    is_usable,
)
from finllm.runtime.kernels import kernel

FOLLOWERS: Final = (("ETH", "BTC"),)
"""How the symbol of a follower starts, and that of its leader, on the same venue."""
STALE_NS: Final = 5 * NS_PER_S
"""A leader that was silent for longer is no longer known."""

# Offsets into what is shared.
KNOWN: Final = 0
TS: Final = 1
MID2_AT: Final = 2
MOVE_100MS: Final = 3
MOVE_500MS: Final = 4
OFI_500MS: Final = 5
DEPTH_10S: Final = 6
SAMPLES_10S: Final = 7
SIZE: Final = 8
"""Length of what is shared, int64."""


class BookLead:
    """What the leading book's newest row said; shared by the leader and those that follow it."""

    def __init__(self) -> None:
        self.said: NDArray[np.int64] = np.zeros(SIZE, np.int64)


def leader_of(instrument: str) -> str:
    """Return the key of the instrument that leads another, `venue:symbol`; empty if none does."""
    venue, _, symbol = instrument.partition(":")
    for follower, leader in FOLLOWERS:
        if symbol.startswith(follower):
            return f"{venue}:{leader}{symbol.removeprefix(follower)}"
    return ""


@kernel
def tell(view: Integers, state: Integers, lead: Integers) -> None:
    """Write what the leader's newest row says, and whether its book can be trusted."""
    lead[KNOWN] = 1 if is_usable(view) and view[FLAGS] & RESYNCING == 0 else 0
    lead[TS] = state[SCALARS, NOW]
    lead[MID2_AT] = state[SCALARS, MID2]
    lead[MOVE_100MS] = state[W_100MS, MOVE]
    lead[MOVE_500MS] = state[W_500MS, MOVE]
    lead[OFI_500MS] = state[W_500MS, OFI]
    lead[DEPTH_10S] = state[W_10S, DEPTH]
    lead[SAMPLES_10S] = state[W_10S, SAMPLES]


@kernel
def follow(row: Floats, at: int, lead: Integers, now: int, scale: float) -> None:
    """Write the four columns of a follower's row.

    Args:
        row: The follower's row; zeros where this writes nothing.
        at: First of the four columns.
        lead: What the leader said.
        now: The follower's time, ns; a leader that is ahead of it says nothing.
        scale: What the follower's returns are measured in, bps per root second.
    """
    age = now - lead[TS]
    if lead[KNOWN] == 0 or age < 0 or age > STALE_NS:
        return
    row[at + 3] = 1.0
    per_scale = BPS / (lead[MID2_AT] * scale)
    if age < 100 * NS_PER_MS:
        row[at] = slog(lead[MOVE_100MS] * per_scale / sqrt(0.1))
    if age < 500 * NS_PER_MS:
        row[at + 1] = slog(lead[MOVE_500MS] * per_scale / sqrt(0.5))
        row[at + 2] = slog(lead[OFI_500MS] * 2.0 * lead[SAMPLES_10S] / lead[DEPTH_10S])


@kernel
def slog(x: float) -> float:
    """Return sign(x) log(1 + |x|)."""
    return log1p(x) if x >= 0.0 else -log1p(-x)
