"""One instrument's book as a flat int64 array, and the kernels that keep it.

Knows prices in ticks and sizes in lots; nothing of messages or numbering (see `sequence`). All that
belongs to a book lies in one array, because every array argument of a kernel costs about 0.1 us:
the view (`domain.market.BookView`), a head (`Cell`), a ring of touches, then four runs of levels. A
side is kept sorted with its best level *last*, so that the usual change, near the touch, moves few.

The depth is built from snapshots and diffs alone. A `bookTicker` never edits levels: it is kept as a
touch laid over the depth while it is newer, so that comparing the two stays an honest check.
"""

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import N_LEVELS, VIEW_SIZE, BookView, Flag, RowKind
from finllm.market.shift import move
from finllm.runtime.kernels import kernel

CAPACITY: Final = 8_192
"""Levels kept a side; beyond that the deepest are dropped and counted."""
MAX_LEVELS: Final = 16_384
"""Levels that one frame may carry, both sides together."""
OFF_GRID: Final = 1e-6
"""A price or size further than this from a whole tick or lot is noted, then rounded."""
_EPSILON: Final = 2.0**-50
_LARGEST: Final = 2.0**53

Array = NDArray[np.int64]


class Cell(IntEnum):
    """Offsets of the head, behind the view."""

    N_BIDS = VIEW_SIZE
    N_ASKS = VIEW_SIZE + 1
    VALID = VIEW_SIZE + 2
    """1 while the depth is complete and continuous."""
    DEPTH_U = VIEW_SIZE + 3
    """Number of the last snapshot or diff applied."""
    TOUCH_U = VIEW_SIZE + 4
    """Number of the last bookTicker; 0 = none."""
    TOUCH_BID_PX = VIEW_SIZE + 5
    TOUCH_BID_SZ = VIEW_SIZE + 6
    TOUCH_ASK_PX = VIEW_SIZE + 7
    TOUCH_ASK_SZ = VIEW_SIZE + 8
    LAST_RECV = VIEW_SIZE + 9
    """Receive time of the last frame; 0 = none."""
    SEQ = VIEW_SIZE + 10
    STALE_AFTER = VIEW_SIZE + 11
    DEEP_DROPPED = VIEW_SIZE + 12
    """Levels dropped because a side was full."""
    OFF_GRID = VIEW_SIZE + 13
    """Prices and sizes that were not whole ticks or lots."""
    HELD_TOUCH = VIEW_SIZE + 14
    """Receive time since which only old touches came; 0 = the last one was new."""

    N_TOUCHES = VIEW_SIZE + 15
    """Touches ever remembered in the ring."""


RING: Final = 2_048
"""Touches remembered, so that a diff can be compared with the touch of its own number."""
_RING_AT: Final = VIEW_SIZE + 16
_RING_WIDTH: Final = 5
LEVELS: Final = _RING_AT + RING * _RING_WIDTH
"""Start of the levels: bid prices, bid sizes, negated ask prices, ask sizes, `CAPACITY` each."""

ROW: Final = 1
"""A kernel's answer: the view has a new row. Negative answers are the reasons below."""
ROW_NOTED: Final = 2
"""The same, and OFF_GRID or DEEP_DROPPED has grown."""
QUIET: Final = 0
BAD_PRICE: Final = -1
BAD_SIZE: Final = -2
OLD_TOUCH: Final = -3
REASONS: Final = {BAD_PRICE: "bad_price", BAD_SIZE: "bad_size", OLD_TOUCH: "old_touch"}

# What numba reads must be plain integers: a kernel freezes globals, and enums cost boxing.
_KIND, _FLAGS, _RECV, _EVENT, _SEQ = (int(x) for x in list(BookView)[:5])
_SIDE, _TRADE_PX, _TRADE_SZ, _N_BIDS, _N_ASKS = (int(x) for x in list(BookView)[5:10])
_BID_PX, _BID_SZ, _ASK_PX, _ASK_SZ = (int(x) for x in list(BookView)[10:14])
_HAVE_BIDS, _HAVE_ASKS, _IS_VALID, _DEPTH_U, _TOUCH_U = (int(x) for x in list(Cell)[:5])
_TOUCH = int(Cell.TOUCH_BID_PX)
_LAST_RECV, _SEQ_COUNT, _STALE_AFTER = (int(x) for x in list(Cell)[9:12])
_DEEP_DROPPED, _OFF_GRID_COUNT, _HELD_TOUCH, _N_TOUCHES = (int(x) for x in list(Cell)[12:16])
_DEPTH_KIND, _TOUCH_KIND, _TRADE_KIND = int(RowKind.DEPTH), int(RowKind.TOUCH), int(RowKind.TRADE)
_VALID, _RESYNCING, _STALE = int(Flag.VALID), int(Flag.RESYNCING), int(Flag.STALE)
_CROSSED, _LOCKED = int(Flag.CROSSED), int(Flag.LOCKED)


def new_book(stale_after_ns: int) -> Array:
    """Return an empty book, int64 [LEVELS + 4 * CAPACITY]; untouched levels take no real memory."""
    book = np.zeros(LEVELS + 4 * CAPACITY, dtype=np.int64)
    book[Cell.STALE_AFTER] = stale_after_ns
    return book


@kernel
def _whole(book: Array, value: float, per_unit: float) -> int:
    """Return a price or size in ticks or lots; counts one that is not whole."""
    scaled = value * per_unit
    whole = np.rint(scaled)
    if abs(scaled - whole) > OFF_GRID + scaled * _EPSILON:
        book[_OFF_GRID_COUNT] += 1
    if whole == 0.0 and value > 0.0:
        return 1  # a level must not vanish because its lot was guessed too coarse
    return int(whole)


@kernel
def _odd(book: Array) -> int:
    return book[_OFF_GRID_COUNT] + book[_DEEP_DROPPED]  # type: ignore[no-any-return] # an int64


@kernel
def _fault(price: float, size: float, per_price: float, per_size: float) -> int:
    """Return BAD_PRICE, BAD_SIZE or QUIET. NaN fails every comparison, so it is bad."""
    if not (price > 0.0 and price * per_price < _LARGEST):
        return BAD_PRICE
    if not (size >= 0.0 and size * per_size < _LARGEST):
        return BAD_SIZE
    return QUIET


@kernel
def _find(book: Array, keys: int, n: int, key: int) -> int:
    """Return how many of the `n` keys from offset `keys` on are smaller than `key`."""
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if book[keys + middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _delete(book: Array, side: int, keys: int, n: int, at: int) -> None:
    for run in (keys, keys + CAPACITY):
        move(book, run + at, run + at + 1, n - at - 1)
    book[_HAVE_BIDS + side] = n - 1


@kernel
def _insert(book: Array, side: int, keys: int, n: int, at: int) -> int:
    """Make room for a level; return where, or -1 if the side is full of better ones."""
    if n < CAPACITY:
        for run in (keys, keys + CAPACITY):
            move(book, run + at + 1, run + at, n - at)
        book[_HAVE_BIDS + side] = n + 1
        return at
    book[_DEEP_DROPPED] += 1
    if at > 0:
        for run in (keys, keys + CAPACITY):
            move(book, run, run + 1, at - 1)
    return at - 1


@kernel
def _set_level(book: Array, side: int, key: int, size: int) -> None:
    """Set, change or delete one level. `side` 0 bids, 1 asks; `key` is larger for a better price."""
    n = book[_HAVE_BIDS + side]
    keys = LEVELS + 2 * side * CAPACITY
    at = _find(book, keys, n, key)
    if at < n and book[keys + at] == key:
        if size > 0:
            book[keys + CAPACITY + at] = size
        else:
            _delete(book, side, keys, n, at)
    elif size > 0:
        at = _insert(book, side, keys, n, at)
        if at >= 0:
            book[keys + at] = key
            book[keys + CAPACITY + at] = size


@kernel
def _fill_side(book: Array, side: int, touch_is_newer: bool, px_at: int, sz_at: int) -> int:  # noqa: FBT001 - numba takes positional arguments
    """Write one side's best levels into the view; return how many."""
    sign = 1 - 2 * side
    count = 0
    limit = np.int64(2**62)
    if touch_is_newer:
        touch = _TOUCH + 2 * side
        if book[touch + 1] > 0:
            book[px_at] = book[touch]
            book[sz_at] = book[touch + 1]
            count = 1
        limit = sign * book[touch]
    if book[_IS_VALID] == 1:
        keys = LEVELS + 2 * side * CAPACITY
        i = book[_HAVE_BIDS + side] - 1
        while i >= 0 and book[keys + i] >= limit:
            i -= 1
        while i >= 0 and count < N_LEVELS:
            book[px_at + count] = sign * book[keys + i]
            book[sz_at + count] = book[keys + CAPACITY + i]
            count += 1
            i -= 1
    for i in range(count, N_LEVELS):
        book[px_at + i] = 0
        book[sz_at + i] = 0
    return count


@kernel
def fill_view(book: Array, kind: int, ts_recv: int, ts_event: int) -> None:
    """Write the view for one event: levels, flags, times and the next row sequence."""
    touch_is_newer = book[_TOUCH_U] > book[_DEPTH_U] or (
        book[_IS_VALID] == 0 and book[_TOUCH_U] > 0
    )
    n_bids = _fill_side(book, 0, touch_is_newer, _BID_PX, _BID_SZ)
    n_asks = _fill_side(book, 1, touch_is_newer, _ASK_PX, _ASK_SZ)
    flags = _VALID if book[_IS_VALID] == 1 and n_bids > 0 and n_asks > 0 else _RESYNCING
    if n_bids > 0 and n_asks > 0:
        if book[_BID_PX] > book[_ASK_PX]:
            flags |= _CROSSED
        elif book[_BID_PX] == book[_ASK_PX]:
            flags |= _LOCKED
    last = book[_LAST_RECV]
    if last > 0 and ts_recv - last > book[_STALE_AFTER]:
        flags |= _STALE
    book[_LAST_RECV] = ts_recv
    book[_SEQ_COUNT] += 1
    book[_KIND] = kind
    book[_FLAGS] = flags
    book[_RECV] = ts_recv
    book[_EVENT] = ts_event
    book[_SEQ] = book[_SEQ_COUNT]
    book[_SIDE] = 0
    book[_TRADE_PX] = 0
    book[_TRADE_SZ] = 0
    book[_N_BIDS] = n_bids
    book[_N_ASKS] = n_asks


@kernel
def check_levels(levels: NDArray[np.float64], n: int, per_price: float, per_size: float) -> int:
    """Return QUIET if `levels[:n]` (price, size) are all usable, else the reason of the first bad one."""
    for i in range(n):
        fault = _fault(levels[i, 0], levels[i, 1], per_price, per_size)
        if fault != QUIET:
            return fault
    return QUIET


@kernel
def _set_levels(
    book: Array, levels: NDArray[np.float64], n_bids: int, n: int, per_price: float, per_size: float
) -> None:
    for i in range(n):
        side = 0 if i < n_bids else 1
        px = _whole(book, levels[i, 0], per_price)
        _set_level(book, side, px * (1 - 2 * side), _whole(book, levels[i, 1], per_size))


@kernel
def _turn_round(levels: NDArray[np.float64], start: int, end: int) -> None:
    # Element by element: reversed slices cost numba 15 s of compiling.
    for i in range((end - start) // 2):
        for column in range(2):
            low = levels[start + i, column]
            levels[start + i, column] = levels[end - 1 - i, column]
            levels[end - 1 - i, column] = low


@kernel
def apply_snapshot(  # noqa: PLR0917 - numba takes positional arguments
    book: Array,
    levels: NDArray[np.float64],
    n_bids: int,
    n: int,
    update: int,
    per_price: float,
    per_size: float,
) -> int:
    """Replace the depth by a snapshot and mark it valid; a bad one leaves the book as it was.

    Args:
        book: The book.
        levels: float64 [MAX_LEVELS, 2], price and size: bids, then asks, best first; turned round
            in place, because the best is kept last. Of two levels with one price the first stands.
        n_bids: How many of them are bids.
        n: How many there are.
        update: The snapshot's `lastUpdateId`.
        per_price: Ticks in one unit of price.
        per_size: Lots in one unit of size.

    Returns:
        QUIET, or the reason why it was refused.
    """
    fault = check_levels(levels, n, per_price, per_size)
    if fault != QUIET:
        return fault
    book[_HAVE_BIDS] = 0
    book[_HAVE_ASKS] = 0
    _turn_round(levels, 0, n_bids)
    _turn_round(levels, n_bids, n)
    _set_levels(book, levels, n_bids, n, per_price, per_size)
    book[_DEPTH_U] = update
    book[_IS_VALID] = 1
    return QUIET


@kernel
def apply_diff(  # noqa: PLR0917 - numba takes positional arguments
    book: Array,
    levels: NDArray[np.float64],
    n_bids: int,
    n: int,
    update: int,
    ts_recv: int,
    ts_event: int,
    per_price: float,
    per_size: float,
) -> int:
    """Apply one diff that continues the book, and fill the view if it is to make a row.

    Args:
        book: The book.
        levels: float64 [MAX_LEVELS, 2], price and absolute size (0 = delete): bids, then asks.
        n_bids: How many of them are bids.
        n: How many there are.
        update: The diff's `u`.
        ts_recv: Receive time, ns; 0 for a diff held back earlier, which makes no row.
        ts_event: Exchange time, ns.
        per_price: Ticks in one unit of price.
        per_size: Lots in one unit of size.

    Returns:
        ROW, ROW_NOTED or QUIET, or the reason why it was refused.
    """
    fault = check_levels(levels, n, per_price, per_size)
    if fault != QUIET:
        return fault
    odd = _odd(book)
    _set_levels(book, levels, n_bids, n, per_price, per_size)
    book[_DEPTH_U] = update
    if ts_recv == 0:
        return QUIET
    fill_view(book, _DEPTH_KIND, ts_recv, ts_event)
    return ROW if _odd(book) == odd else ROW_NOTED


@kernel
def apply_touch(  # noqa: PLR0917 - numba takes positional arguments
    book: Array,
    update: int,
    ts_recv: int,
    ts_event: int,
    bid_px: float,
    bid_sz: float,
    ask_px: float,
    ask_sz: float,
    per_price: float,
    per_size: float,
) -> int:
    """Lay a best bid and offer over the depth, and fill the view.

    A touch no newer than the last one is refused, unless for longer than the stale time none but such
    came: then the venue has restarted its numbering.

    Args:
        book: The book.
        update: The touch's `u`.
        ts_recv: Receive time, ns.
        ts_event: Exchange time, ns.
        bid_px: Best bid, quote currency.
        bid_sz: Its size.
        ask_px: Best ask.
        ask_sz: Its size.
        per_price: Ticks in one unit of price.
        per_size: Lots in one unit of size.

    Returns:
        ROW or ROW_NOTED, or the reason why it was refused.
    """
    fault = _fault(bid_px, bid_sz, per_price, per_size)
    if fault == QUIET:
        fault = _fault(ask_px, ask_sz, per_price, per_size)
    if fault != QUIET:
        return fault
    if update <= book[_TOUCH_U]:
        if book[_HELD_TOUCH] == 0:
            book[_HELD_TOUCH] = ts_recv
        if ts_recv - book[_HELD_TOUCH] <= book[_STALE_AFTER]:
            return OLD_TOUCH
    odd = _odd(book)
    book[_HELD_TOUCH] = 0
    book[_TOUCH_U] = update
    book[_TOUCH] = _whole(book, bid_px, per_price)
    book[_TOUCH + 1] = _whole(book, bid_sz, per_size)
    book[_TOUCH + 2] = _whole(book, ask_px, per_price)
    book[_TOUCH + 3] = _whole(book, ask_sz, per_size)
    ring = _RING_AT + (book[_N_TOUCHES] % RING) * _RING_WIDTH
    book[_N_TOUCHES] += 1
    for i in range(_RING_WIDTH):
        book[ring + i] = book[_TOUCH_U + i]
    fill_view(book, _TOUCH_KIND, ts_recv, ts_event)
    return ROW if _odd(book) == odd else ROW_NOTED


@kernel
def apply_trade(  # noqa: PLR0917 - numba takes positional arguments
    book: Array,
    ts_recv: int,
    ts_event: int,
    price: float,
    size: float,
    side: int,
    per_price: float,
    per_size: float,
) -> int:
    """Fill the view for a trade; the book itself stays as it is.

    Args:
        book: The book.
        ts_recv: Receive time, ns.
        ts_event: Exchange time, ns.
        price: Trade price, quote currency.
        size: Traded size.
        side: Aggressor, +1 buyer, -1 seller.
        per_price: Ticks in one unit of price.
        per_size: Lots in one unit of size.

    Returns:
        ROW or ROW_NOTED, or the reason why it was refused.
    """
    fault = _fault(price, size, per_price, per_size)
    if fault != QUIET:
        return fault
    if size <= 0.0:
        return BAD_SIZE
    odd = _odd(book)
    fill_view(book, _TRADE_KIND, ts_recv, ts_event)
    book[_SIDE] = side
    book[_TRADE_PX] = _whole(book, price, per_price)
    book[_TRADE_SZ] = _whole(book, size, per_size)
    return ROW if _odd(book) == odd else ROW_NOTED


@kernel
def touch_at(book: Array, update: int) -> int:
    """Return the offset in `book` of the last touch numbered `update` or lower; -1 if not remembered.

    Five integers stand there: number, bid price, bid size, ask price, ask size.
    """
    for back in range(min(book[_N_TOUCHES], RING)):
        ring = _RING_AT + ((book[_N_TOUCHES] - 1 - back) % RING) * _RING_WIDTH
        if book[ring] <= update:
            return int(ring)
    return -1


def invalidate(book: Array) -> None:
    """Forget the depth after a break in the numbering; touches still make rows, flagged RESYNCING."""
    book[_IS_VALID] = 0
    book[_HAVE_BIDS] = 0
    book[_HAVE_ASKS] = 0


def restart(book: Array) -> None:
    """Forget depth and touch after the venue restarted its numbering."""
    invalidate(book)
    book[_DEPTH_U] = 0
    book[_TOUCH_U] = 0
    book[_N_TOUCHES] = 0


def depth_touch(book: Array) -> tuple[int, int, int, int]:
    """Return (bid price, bid size, ask price, ask size) by snapshot and diffs alone; 0 where empty."""
    n_bids, n_asks = int(book[_HAVE_BIDS]), int(book[_HAVE_ASKS])
    bids, asks = LEVELS + n_bids - 1, LEVELS + 2 * CAPACITY + n_asks - 1
    bid = (int(book[bids]), int(book[bids + CAPACITY])) if n_bids else (0, 0)
    ask = (-int(book[asks]), int(book[asks + CAPACITY])) if n_asks else (0, 0)
    return bid + ask


def depth(book: Array, side: int) -> tuple[Array, Array]:
    """Return copies of (prices in ticks, sizes in lots) of one side, best first; 0 bids, 1 asks."""
    n = int(book[_HAVE_BIDS + side])
    keys = LEVELS + 2 * side * CAPACITY
    prices = book[keys : keys + n][::-1] * (1 - 2 * side)
    return prices, book[keys + CAPACITY : keys + CAPACITY + n][::-1].copy()
