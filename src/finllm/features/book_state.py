"""What is remembered of one book (windows, last levels, volatility), and how an event enters.

The whole state is one int64 array and one float64 array, because every array argument of a kernel
costs about 0.1 us. What enters a window is integer: lots, half-ticks, counts. What is remembered in
floats (volatility, mean spread, microprice) outlives a gap.
"""

from math import exp, log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import N_LEVELS, BookView, Flag, RowKind
from finllm.domain.units import BPS, NS_PER_MS, NS_PER_S
from finllm.features.book_spec import RESTART_NS, WARM_ROWS
from finllm.features.microprice import (
    MAX_STEP,
    N_CELLS,
    N_SPREADS,
    cell_of,
    expected_move,
    forget_stay,
    learn_move,
    side_of,
    visit,
)
from finllm.features.windows import WIDTH, clear, lay_out, rows_of
from finllm.runtime.kernels import kernel

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

FINE_NS: Final = NS_PER_MS
"""Slot of the windows up to 2 s."""
COARSE_NS: Final = 50 * NS_PER_MS
"""Slot of the windows of 10 and 60 s."""
FINE: Final = (100, 500, 1_000, 2_000)
"""0.1, 0.5, 1 and 2 s, in slots."""
COARSE: Final = (200, 1_200)
"""10 and 60 s, in slots."""
MLOFI_LEVELS: Final = 5
MAX_LOTS: Final = 1 << 40
"""Sizes and one event's flow are cut here, so that 4 million events in a minute cannot overflow."""
MAX_TICKS: Final = 1 << 40
"""A higher price makes the touch unusable."""
MAX_MOVE: Final = 1 << 20
"""Mid moves are cut here, half-ticks, for the same reason."""
SIGMA_HALF_LIFE_S: Final = 30.0
SIGMA_DECAY: Final = 0.5 ** (1.0 / SIGMA_HALF_LIFE_S)
SIGMA_FLOOR: Final = 1.0 / 60.0**0.5
"""Half-ticks per root second."""
SIGMA_UNKNOWN: Final = 1e-3
"""bps per root second where not even the price is known."""
SPREAD_HALF_LIFE_NS: Final = 60 * NS_PER_S

# Offsets into the view, as plain integers for the kernels.
KIND: Final = int(BookView.KIND)
FLAGS: Final = int(BookView.FLAGS)
TS_RECV: Final = int(BookView.TS_RECV)
SEQ: Final = int(BookView.SEQ)
TS_EVENT: Final = int(BookView.TS_EVENT)
TRADE_SIDE: Final = int(BookView.TRADE_SIDE)
TRADE_SZ: Final = int(BookView.TRADE_SZ)
N_BIDS: Final = int(BookView.N_BIDS)
N_ASKS: Final = int(BookView.N_ASKS)
BID_PX: Final = int(BookView.BID_PX)
BID_SZ: Final = int(BookView.BID_SZ)
ASK_PX: Final = int(BookView.ASK_PX)
ASK_SZ: Final = int(BookView.ASK_SZ)
TRADE_KIND: Final = int(RowKind.TRADE)
VALID: Final = int(Flag.VALID)
WARMING: Final = int(Flag.WARMING)
RESYNCING: Final = int(Flag.RESYNCING)
CROSSED: Final = int(Flag.CROSSED)
LOCKED: Final = int(Flag.LOCKED)

# Columns of a window's sums.
EVENTS: Final = 1
SAMPLES: Final = 2  # events with a usable touch
DEPTH: Final = 3  # lots at both touch queues, summed over samples
SMALLEST: Final = 4  # lots of the smaller one
LEVELS_SEEN: Final = 5  # levels a side that MLOFI looks at, both sides
LEVEL_DEPTH: Final = 6  # lots on them
OFI: Final = 7
MLOFI: Final = 8
FLOW: Final = 9
TURNOVER: Final = 10
TRADES: Final = 11
MOVE: Final = 12  # half-ticks
SQUARED: Final = 13  # half-ticks squared
CAME: Final = 14  # lots that came to prices known before and after, either side
LEFT: Final = 15  # lots that left them, traded or cancelled

# Rows of the state: scalars, the last usable levels, this event's sums, more scalars, the views since the
# last mid move by cell of the microprice, then the two rings.
SCALARS: Final = 0
LAST_BIDS: Final = 1
LAST_ASKS: Final = 2
ADDED: Final = 3
MORE: Final = 4
VISITS: Final = 5
FINE_AT: Final = VISITS + N_SPREADS
COARSE_AT: Final = FINE_AT + rows_of(FINE)
N_ROWS: Final = COARSE_AT + rows_of(COARSE)
W_100MS: Final = FINE_AT + 1
W_500MS: Final = FINE_AT + 2
W_1S: Final = FINE_AT + 3
W_2S: Final = FINE_AT + 4
W_10S: Final = COARSE_AT + 1
W_60S: Final = COARSE_AT + 2

# Scalars.
ROWS: Final = 0
NOW: Final = 1  # running maximum of ts_recv
START: Final = 2  # where the windows start
WARM_FROM: Final = 3
WARM_SEEN: Final = 4
RESYNC: Final = 5  # whether the last view was resyncing
MID2: Final = 6  # last usable; 0 = none since the start
LAST_MOVE: Final = 7
TS_MOVE: Final = 8
TS_TRADE: Final = 9
SAMPLE_SECOND: Final = 10  # the second that the last volatility sample ended in
SAMPLE_MID2: Final = 11  # mid2 at its end
STEPS_BACK: Final = 12  # times the clock went back
RESTARTS: Final = 13
N_LAST_BIDS: Final = 14
N_LAST_ASKS: Final = 15

# More scalars.
SPREAD: Final = 0  # last usable, ticks, at least 1; 0 = none since the start
TS_SPREAD: Final = 1
ROLE: Final = 2  # LEADS, FOLLOWS or neither

LEADS: Final = 1
FOLLOWS: Final = 2

# The floats: sums and weights of squared returns and of the spread, then the microprice's table.
SQUARES_AT: Final = 0
SPREADS_AT: Final = 2
MICRO_AT: Final = 4
N_FLOATS: Final = MICRO_AT + 2 * N_CELLS

SIZES: Final = 8
"""Where sizes start in a row of last levels; prices start at 0."""


def new_state() -> Integers:
    """Return the state of a book that has seen nothing, int64 [N_ROWS, WIDTH], 412 kB."""
    state = np.zeros((N_ROWS, WIDTH), np.int64)
    lay_out(state, FINE_AT, FINE)
    lay_out(state, COARSE_AT, COARSE)
    return state


@kernel
def advance(view: Integers, state: Integers) -> int:
    """Take the event's time, restart where time or the stream broke, and return the time."""
    ts = int(min(max(view[TS_RECV], 0), 1 << 62))
    last = state[SCALARS, NOW]
    resyncing = 1 if view[FLAGS] & RESYNCING else 0
    if state[SCALARS, ROWS] == 0:
        state[SCALARS, START] = ts
    elif ts < last:
        state[SCALARS, STEPS_BACK] += 1
    if state[SCALARS, ROWS] > 0 and (
        last - ts > RESTART_NS or (resyncing == 1 and state[SCALARS, RESYNC] == 0)
    ):
        _restart(state, ts)
    elif ts < last:
        ts = last
    state[SCALARS, ROWS] += 1
    state[SCALARS, NOW] = ts
    state[SCALARS, RESYNC] = resyncing
    if resyncing == 0:
        if state[SCALARS, WARM_SEEN] == 0:
            state[SCALARS, WARM_FROM] = ts
        state[SCALARS, WARM_SEEN] += 1
    return ts


@kernel
def _restart(state: Integers, ts: int) -> None:
    """Forget everything but the row count, the counters, the role and what the floats hold."""
    for ring in range(2):
        clear(state, FINE_AT if ring == 0 else COARSE_AT)
    state[SCALARS, START] = ts
    state[SCALARS, WARM_SEEN] = 0
    state[SCALARS, MID2] = 0
    state[SCALARS, LAST_MOVE] = 0
    state[SCALARS, TS_MOVE] = 0
    state[SCALARS, TS_TRADE] = 0
    state[SCALARS, SAMPLE_SECOND] = 0
    state[SCALARS, SAMPLE_MID2] = 0
    state[SCALARS, N_LAST_BIDS] = 0
    state[SCALARS, N_LAST_ASKS] = 0
    state[SCALARS, RESTARTS] += 1
    state[MORE, SPREAD] = 0
    forget_stay(state, VISITS)


@kernel
def is_warm(state: Integers) -> bool:
    """Return whether enough time and rows have passed since the start or the end of a gap."""
    return bool(
        state[SCALARS, WARM_SEEN] >= WARM_ROWS
        and state[SCALARS, NOW] - state[SCALARS, WARM_FROM] >= RESTART_NS
    )


@kernel
def lots(size: int) -> int:
    """Return a size cut to [0, MAX_LOTS]."""
    return min(max(size, 0), MAX_LOTS)


@kernel
def has_touch(view: Integers) -> bool:
    """Return whether both touch queues are there with a usable price and size."""
    return bool(
        view[N_BIDS] > 0
        and view[N_ASKS] > 0
        and 0 < view[BID_PX] < MAX_TICKS
        and 0 < view[ASK_PX] < MAX_TICKS
        and view[BID_SZ] > 0
        and view[ASK_SZ] > 0
    )


@kernel
def n_levels(view: Integers, n: int) -> int:
    """Return how many of a side's n levels can be trusted: the touch alone while resyncing."""
    if view[FLAGS] & RESYNCING:
        return 1
    return int(min(n, N_LEVELS))


@kernel
def sample_volatility(state: Integers, floats: Floats, now: int) -> None:
    """Fold in the mid returns of the seconds that ended before this event.

    The mid at the end of a second is the last one known in it, so a second without a move counts as
    a return of zero. `floats` holds the weighted sum of squared returns, bps squared, and the weight.
    """
    second = now // NS_PER_S
    passed = second - state[SCALARS, SAMPLE_SECOND]
    if passed <= 0 or state[SCALARS, MID2] == 0:
        return
    if state[SCALARS, SAMPLE_MID2] > 0:
        ret = (state[SCALARS, MID2] / state[SCALARS, SAMPLE_MID2] - 1.0) * BPS
        quiet = exp(log(SIGMA_DECAY) * (passed - 1))
        total = floats[SQUARES_AT] * SIGMA_DECAY + (1.0 - SIGMA_DECAY) * ret * ret
        floats[SQUARES_AT] = total * quiet
        floats[SQUARES_AT + 1] = 1.0 - (1.0 - floats[SQUARES_AT + 1]) * SIGMA_DECAY * quiet
    state[SCALARS, SAMPLE_MID2] = state[SCALARS, MID2]
    state[SCALARS, SAMPLE_SECOND] = second


@kernel
def sigma_bps(state: Integers, floats: Floats) -> float:
    """Return the EWMA volatility in bps per root second, at least the floor."""
    mid2 = state[SCALARS, MID2]
    floor = SIGMA_FLOOR / mid2 * BPS if mid2 > 0 else SIGMA_UNKNOWN
    if floats[SQUARES_AT + 1] <= 0.0:
        return floor
    return max(sqrt(floats[SQUARES_AT] / floats[SQUARES_AT + 1]), floor)


@kernel
def mean_spread(floats: Floats) -> float:
    """Return the mean spread in ticks, weighted by the time that it stood; 0 where none is known."""
    if floats[SPREADS_AT + 1] <= 0.0:
        return 0.0
    return float(floats[SPREADS_AT] / floats[SPREADS_AT + 1])


@kernel
def is_usable(view: Integers) -> bool:
    """Return whether there is a touch and it is not crossed."""
    return bool(has_touch(view) and view[BID_PX] <= view[ASK_PX])


@kernel
def measure(view: Integers, state: Integers, floats: Floats, now: int) -> None:
    """Write this event's own sums, and remember its levels, spread and place in the microprice's table."""
    for column in range(WIDTH):
        state[ADDED, column] = 0
    state[ADDED, EVENTS] = 1
    if view[KIND] == TRADE_KIND:
        size = lots(view[TRADE_SZ])
        state[ADDED, TRADES] = 1
        state[ADDED, TURNOVER] = size
        state[ADDED, FLOW] = size * min(max(view[TRADE_SIDE], -1), 1)
        state[SCALARS, TS_TRADE] = now
    if is_usable(view):
        _measure_move(view, state, now)
        _measure_spread(view, state, floats, now)
        _measure_stay(view, state, floats)
        _measure_levels(view, state)


@kernel
def _measure_move(view: Integers, state: Integers, now: int) -> None:
    mid2 = view[BID_PX] + view[ASK_PX]
    before = state[SCALARS, MID2]
    state[SCALARS, MID2] = mid2
    if before == 0:
        state[SCALARS, SAMPLE_SECOND] = now // NS_PER_S
    if before in (0, mid2):
        return
    move = min(max(mid2 - before, -MAX_MOVE), MAX_MOVE)
    state[ADDED, MOVE] = move
    state[ADDED, SQUARED] = move * move
    state[SCALARS, LAST_MOVE] = move
    state[SCALARS, TS_MOVE] = now


@kernel
def _measure_spread(view: Integers, state: Integers, floats: Floats, now: int) -> None:
    """Weigh the spread that stood until now by the time that it stood."""
    passed = now - state[MORE, TS_SPREAD]
    if state[MORE, SPREAD] > 0 and passed > 0:
        kept = exp(-log(2.0) * (passed / SPREAD_HALF_LIFE_NS))
        stood = float(state[MORE, SPREAD])
        floats[SPREADS_AT] = floats[SPREADS_AT] * kept + (1.0 - kept) * stood
        floats[SPREADS_AT + 1] = 1.0 - (1.0 - floats[SPREADS_AT + 1]) * kept
    state[MORE, SPREAD] = max(view[ASK_PX] - view[BID_PX], 1)
    state[MORE, TS_SPREAD] = now


@kernel
def _measure_stay(view: Integers, state: Integers, floats: Floats) -> None:
    """Learn from a mid move what the cells before it were worth, and count a view in the new one."""
    bid = lots(view[BID_SZ])
    ask = lots(view[ASK_SZ])
    cell = cell_of(bid, ask, view[ASK_PX] - view[BID_PX])
    side = side_of(bid, ask)
    if state[ADDED, MOVE] != 0:
        move = min(max(float(state[ADDED, MOVE]), -MAX_STEP), MAX_STEP)
        target = move + side * expected_move(floats, MICRO_AT, cell)
        learn_move(state, VISITS, floats, MICRO_AT, target)
    visit(state, VISITS, cell, side)


@kernel
def microprice_offset(view: Integers, floats: Floats) -> float:
    """Return the microprice less the mid of a usable touch, half-ticks."""
    bid = lots(view[BID_SZ])
    ask = lots(view[ASK_SZ])
    cell = cell_of(bid, ask, view[ASK_PX] - view[BID_PX])
    return side_of(bid, ask) * expected_move(floats, MICRO_AT, cell)


@kernel
def _measure_levels(view: Integers, state: Integers) -> None:
    """Sum depth and order flow over the levels, and keep them for the next event."""
    bid = lots(view[BID_SZ])
    ask = lots(view[ASK_SZ])
    state[ADDED, SAMPLES] = 1
    state[ADDED, DEPTH] = bid + ask
    state[ADDED, SMALLEST] = min(bid, ask)
    for sign in range(1, -2, -2):
        _measure_side(view, state, sign)
    for column in range(LEVEL_DEPTH, MLOFI + 1):  # depth, OFI and MLOFI
        state[ADDED, column] = min(max(state[ADDED, column], -MAX_LOTS), MAX_LOTS)
    for column in range(CAME, LEFT + 1):
        state[ADDED, column] = min(state[ADDED, column], MAX_LOTS)


@kernel
def _measure_side(view: Integers, state: Integers, sign: int) -> None:
    """Add one side's levels and order flow; `sign` +1 for bids, -1 for asks.

    Level by level: a better price than before adds the new size, a worse one takes the old size
    away, the same price adds the difference. Only levels known before and after are compared.
    """
    px, sz, n_at = (BID_PX, BID_SZ, N_BIDS) if sign > 0 else (ASK_PX, ASK_SZ, N_ASKS)
    kept, n_kept = (LAST_BIDS, N_LAST_BIDS) if sign > 0 else (LAST_ASKS, N_LAST_ASKS)
    n = min(n_levels(view, view[n_at]), MLOFI_LEVELS)
    n_both = min(n, state[SCALARS, n_kept])
    if n_both > 0:
        _measure_turnover(view, state, sign, n)
    for level in range(n):
        price = view[px + level]
        size = lots(view[sz + level])
        if level < n_both:
            better = (price - state[kept, level]) * sign
            flow = (size if better >= 0 else 0) - (state[kept, SIZES + level] if better <= 0 else 0)
            state[ADDED, MLOFI] += flow * sign
            if level == 0:
                state[ADDED, OFI] += flow * sign
        state[kept, level] = price
        state[kept, SIZES + level] = size
        state[ADDED, LEVEL_DEPTH] += size
    state[ADDED, LEVELS_SEEN] += n
    state[SCALARS, n_kept] = n


@kernel
def _measure_turnover(view: Integers, state: Integers, sign: int, n: int) -> None:
    """Add what came to and what left one side's prices, matched price by price.

    Both lists are walked best first, down to the better of their last prices: beyond it one of the two
    does not know. `n` levels are known now, at least one before.
    """
    px, sz = (BID_PX, BID_SZ) if sign > 0 else (ASK_PX, ASK_SZ)
    kept, n_kept = (LAST_BIDS, N_LAST_BIDS) if sign > 0 else (LAST_ASKS, N_LAST_ASKS)
    n_old = state[SCALARS, n_kept]
    last = max(view[px + n - 1] * sign, state[kept, n_old - 1] * sign)
    new, old = 0, 0
    while new < n or old < n_old:
        here = view[px + new] * sign if new < n else last
        there = state[kept, old] * sign if old < n_old else last
        is_new = new < n and (old == n_old or here >= there)
        is_old = old < n_old and (new == n or there >= here)
        if (here if is_new else there) < last:
            break
        change = 0
        if is_new:
            change += lots(view[sz + new])
            new += 1
        if is_old:
            change -= state[kept, SIZES + old]
            old += 1
        state[ADDED, CAME] += max(change, 0)
        state[ADDED, LEFT] += max(-change, 0)
