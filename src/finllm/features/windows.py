"""Sums over sliding windows of time: integers, so exact; slots, so in constant memory.

Time is cut into slots of equal length. A ring keeps one row of sums for each slot in which
something happened, and each window keeps the running total of its rows: what enters is added once and what
leaves is subtracted once. A window of n slots covers the current slot, so far, and the n - 1 before
it; there can be no more rows than slots in the longest window, so no burst overflows the ring.

Knows nothing of books or trades. Layout of one ring inside a state array int64 [rows, WIDTH], from
row `at`: one row (slots ever opened, newest slot), one row per window (rows that left, sums), then
as many rows as the longest window has slots (slot, sums).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.runtime.kernels import kernel

WIDTH: Final = 16
"""Integers in a row: the first is the slot or a pointer, fifteen are sums; two cache lines."""


def rows_of(lengths: tuple[int, ...]) -> int:
    """Return how many rows a ring with these windows takes. Lengths in slots, shortest first."""
    return 1 + len(lengths) + lengths[-1]


@kernel
def clear(state: NDArray[np.int64], at: int, lengths: tuple[int, ...]) -> None:
    """Empty the ring at row `at`: every window's sums are zero afterwards."""
    for row in range(at, at + 1 + len(lengths)):
        for column in range(WIDTH):
            state[row, column] = 0


@kernel
def slide(
    state: NDArray[np.int64], at: int, lengths: tuple[int, ...], slot: int, added: int
) -> None:
    """Move every window of a ring on to `slot` and add one event's sums to it.

    Args:
        state: int64 [rows, WIDTH]; changed in place.
        at: First row of the ring.
        lengths: Windows in slots, shortest first.
        slot: The event's slot; never earlier than the one before.
        added: Row of `state` that holds the event's own sums.
    """
    if state[at, 0] == 0 or slot > state[at, 1]:
        for window in range(len(lengths)):
            _leave(state, at, lengths, window, slot - lengths[window])
        _enter(state, at, lengths, slot)
    current = _row(at, lengths, state[at, 0] - 1)
    for column in range(1, WIDTH):
        state[current, column] += state[added, column]
    for window in range(len(lengths)):
        for column in range(1, WIDTH):
            state[at + 1 + window, column] += state[added, column]


@kernel
def _row(at: int, lengths: tuple[int, ...], number: int) -> int:
    """Return the row of the slot that was opened as `number`, from 0."""
    return at + 1 + len(lengths) + number % lengths[len(lengths) - 1]


@kernel
def _enter(state: NDArray[np.int64], at: int, lengths: tuple[int, ...], slot: int) -> None:
    """Open an empty row for a new slot."""
    row = _row(at, lengths, state[at, 0])
    state[at, 0] += 1
    state[at, 1] = slot
    state[row, 0] = slot
    for column in range(1, WIDTH):
        state[row, column] = 0


@kernel
def _leave(
    state: NDArray[np.int64], at: int, lengths: tuple[int, ...], window: int, last_out: int
) -> None:
    """Subtract from one window every row whose slot is `last_out` or earlier."""
    opened = state[at, 0]
    sums = at + 1 + window
    if state[at, 1] <= last_out:  # all of it: after a silence no row is walked
        state[sums, 0] = opened
        for column in range(1, WIDTH):
            state[sums, column] = 0
        return
    left = state[sums, 0]
    while left < opened:
        row = _row(at, lengths, left)
        if state[row, 0] > last_out:
            break
        for column in range(1, WIDTH):
            state[sums, column] -= state[row, column]
        left += 1
    state[sums, 0] = left
