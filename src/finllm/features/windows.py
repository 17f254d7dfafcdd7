"""Sums over sliding windows of time: integers, so exact; slots, so in constant memory.

Time is cut into slots of equal length. A ring keeps one row of sums for each slot in which
something happened, and each window keeps the running total of its rows: what enters is added once
and what leaves is subtracted once. A window of n slots covers the current slot, so far, and the
n - 1 before it; there can be no more rows than slots in the longest window, so no burst overflows
the ring.

Knows nothing of books or trades. Layout of one ring inside a state array int64 [rows, WIDTH], from
row `at`: one row about the ring (slots ever opened, newest slot, number of windows, then their
lengths in slots), one row per window (rows that left, sums), then as many rows as the longest
window has slots (slot, sums). The lengths lie in the state, not in a tuple, because numba takes
three times as long to compile a tuple's.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.runtime.kernels import kernel

WIDTH: Final = 16
"""Integers in a row: the first is the slot or a pointer, fifteen are sums; two cache lines."""
_OPENED: Final = 0
_NEWEST: Final = 1
_N_WINDOWS: Final = 2
_LENGTHS: Final = 3


def rows_of(lengths: tuple[int, ...]) -> int:
    """Return how many rows a ring with these windows takes. Lengths in slots, shortest first."""
    return 1 + len(lengths) + lengths[-1]


def lay_out(state: NDArray[np.int64], at: int, lengths: tuple[int, ...]) -> None:
    """Make an empty ring at row `at`. Lengths in slots, shortest first."""
    state[at : at + rows_of(lengths)] = 0
    state[at, _N_WINDOWS] = len(lengths)
    state[at, _LENGTHS : _LENGTHS + len(lengths)] = lengths


@kernel
def clear(state: NDArray[np.int64], at: int) -> None:
    """Empty the ring at row `at`: every window's sums are zero afterwards."""
    state[at, _OPENED] = 0
    for row in range(at + 1, at + 1 + state[at, _N_WINDOWS]):
        for column in range(WIDTH):
            state[row, column] = 0


@kernel
def slide(state: NDArray[np.int64], at: int, slot: int, added: int) -> None:
    """Move every window of a ring on to `slot` and add one event's sums to it.

    Args:
        state: int64 [rows, WIDTH]; changed in place.
        at: First row of the ring.
        slot: The event's slot; never earlier than the one before.
        added: Row of `state` that holds the event's own sums.
    """
    n_windows = state[at, _N_WINDOWS]
    first = at + 1 + n_windows
    capacity = state[at, _LENGTHS + n_windows - 1]
    if state[at, _OPENED] == 0 or slot > state[at, _NEWEST]:
        for window in range(n_windows):
            _leave(state, at, window, slot - state[at, _LENGTHS + window])
        row = first + state[at, _OPENED] % capacity
        state[at, _OPENED] += 1
        state[at, _NEWEST] = slot
        state[row, 0] = slot
        for column in range(1, WIDTH):
            state[row, column] = 0
    current = first + (state[at, _OPENED] - 1) % capacity
    for column in range(1, WIDTH):
        amount = state[added, column]
        state[current, column] += amount
        for row in range(at + 1, first):
            state[row, column] += amount


@kernel
def _leave(state: NDArray[np.int64], at: int, window: int, last_out: int) -> None:
    """Subtract from one window every row whose slot is `last_out` or earlier."""
    n_windows = state[at, _N_WINDOWS]
    capacity = state[at, _LENGTHS + n_windows - 1]
    sums = at + 1 + window
    if state[at, _NEWEST] <= last_out:  # all of it: after a silence no row is walked
        state[sums, 0] = state[at, _OPENED]
        for column in range(1, WIDTH):
            state[sums, column] = 0
    while state[sums, 0] < state[at, _OPENED]:
        row = at + 1 + n_windows + state[sums, 0] % capacity
        if state[row, 0] > last_out:
            break
        for column in range(1, WIDTH):
            state[sums, column] -= state[row, column]
        state[sums, 0] += 1
