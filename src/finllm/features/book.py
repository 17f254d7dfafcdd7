"""From book views to feature rows: one compiled call per event, constant memory, nothing allocated.

Sums over windows are integers (lots, half-ticks), so a stream gives exactly what a recomputation
from the list of events would; the columns are plain arithmetic on them. A row uses nothing but its
own view and the views before it. Knows nothing of venues, of models, or of what a row is for.
"""

from math import log, log1p, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import ROW_HEAD
from finllm.domain.units import BPS
from finllm.features.book_spec import BOOK_SPEC
from finllm.features.book_state import (
    ADDED,
    ASK_PX,
    ASK_SZ,
    BID_PX,
    BID_SZ,
    CAME,
    COARSE_AT,
    COARSE_NS,
    CROSSED,
    DEPTH,
    EVENTS,
    FINE_AT,
    FINE_NS,
    FLAGS,
    FLOW,
    FOLLOWS,
    KIND,
    LAST_MOVE,
    LEADS,
    LEFT,
    LEVEL_DEPTH,
    LEVELS_SEEN,
    LOCKED,
    MID2,
    MLOFI,
    MORE,
    MOVE,
    N_ASKS,
    N_BIDS,
    N_FLOATS,
    NOW,
    OFI,
    RESTARTS,
    ROLE,
    SAMPLES,
    SCALARS,
    SEQ,
    SMALLEST,
    SPREAD,
    SQUARED,
    START,
    STEPS_BACK,
    TRADES,
    TS_EVENT,
    TS_MOVE,
    TS_RECV,
    TS_TRADE,
    TURNOVER,
    VALID,
    W_1S,
    W_2S,
    W_10S,
    W_60S,
    W_100MS,
    W_500MS,
    WARMING,
    Floats,
    Integers,
    advance,
    has_touch,
    is_warm,
    lots,
    mean_spread,
    measure,
    microprice_offset,
    n_levels,
    new_state,
    sample_volatility,
    sigma_bps,
)
from finllm.features.lead import BookLead, follow, leader_of, slog, tell
from finllm.features.windows import slide
from finllm.runtime.kernels import kernel

# Where each run of columns starts; the names are in the spec.
_COLUMN: Final = BOOK_SPEC.columns
WMID_AT: Final = _COLUMN["wmid_offset"]
SPREAD_AT: Final = _COLUMN["log_spread"]
OFI_AT: Final = _COLUMN["ofi_100ms"]
MLOFI_AT: Final = _COLUMN["mlofi_100ms"]
FLOW_AT: Final = _COLUMN["flow_100ms"]
RATES_AT: Final = _COLUMN["trade_rate_2s"]
CANCEL_AT: Final = _COLUMN["cancel_rate_2s"]
DEPLETION_AT: Final = _COLUMN["depletion_10s"]
RET_AT: Final = _COLUMN["ret_500ms"]
RV_AT: Final = _COLUMN["rv_1s"]
SIGMA: Final = _COLUMN["sigma"]
LAST_MOVE_AT: Final = _COLUMN["last_move_sign"]
SINCE_AT: Final = _COLUMN["since_move"]
TURNOVER_AT: Final = _COLUMN["turnover_10s"]
SLOPE_AT: Final = _COLUMN["depth_slope"]
LEAD_AT: Final = _COLUMN["lead_ret_100ms"]
RV_FLOOR: Final = 0.05
"""Least realised volatility, in units of scale."""


class BookFeatures:
    """The feature rows of one book.

    Windows start afresh at a gap (a resyncing view after one that was not) and when the clock goes
    back by more than 10 s; a smaller step back is taken as no time passing. Both are counted.

    Args:
        lead: What this book shares with those that follow it, or reads from the one that it follows;
            None leaves the leader's columns at zero.
        is_leader: Whether this book writes it.
    """

    def __init__(self, lead: BookLead | None = None, *, is_leader: bool = False) -> None:
        self._state = new_state()
        if lead is not None:
            self._state[MORE, ROLE] = LEADS if is_leader else FOLLOWS
        self._lead = (lead or BookLead()).said
        self._floats = np.zeros(N_FLOATS, np.float64)
        self._head: NDArray[np.void] = np.zeros(1, ROW_HEAD)
        self._fields = _as_integers(self._head)

    def push(self, view: Integers, row: Floats, head: NDArray[np.void]) -> None:
        """Write the feature row of one event.

        Args:
            view: int64 [VIEW_SIZE], the book after the event; read only.
            row: float64 [len(BOOK_SPEC)], overwritten; always finite.
            head: One `ROW_HEAD`, as an array of no dimension or of one element; overwritten.
                Passing the same array each time saves making a new view of it (about 0.5 us).
        """
        if head is not self._head:
            self._fields = _as_integers(head)
            self._head = head
        push_view(view, row, self._fields, self._state, self._floats, self._lead)

    @property
    def clock_steps_back(self) -> int:
        """Return how often a view was older than the one before it."""
        return int(self._state[SCALARS, STEPS_BACK])

    @property
    def restarts(self) -> int:
        """Return how often the windows started afresh, the first start not counted."""
        return int(self._state[SCALARS, RESTARTS])


class BookRows:
    """Makes the features of many books, so that those that follow another read what it says."""

    def __init__(self) -> None:
        self._leads: dict[str, BookLead] = {}

    def features(self, instrument: str) -> BookFeatures:
        """Return the features of one more book.

        Args:
            instrument: Its key, `venue:symbol`.
        """
        leader = leader_of(instrument)
        lead = self._leads.setdefault(leader or instrument, BookLead())
        return BookFeatures(lead, is_leader=not leader)


def _as_integers(head: NDArray[np.void]) -> Integers:
    """Return a head's memory as int64 [6]: numba is slow to recognise structured arrays."""
    return head.reshape(1).view(np.int64)


@kernel
def push_view(
    view: Integers, row: Floats, head: Integers, state: Integers, floats: Floats, lead: Integers
) -> None:
    """Write one feature row. See `BookFeatures.push`; `head` is the record as int64 [6]."""
    now = advance(view, state)
    sample_volatility(state, floats, now)
    measure(view, state, floats, now)
    for ring in range(2):  # a loop, because a call for each would be compiled for each
        at = FINE_AT if ring == 0 else COARSE_AT
        slide(state, at, now // (FINE_NS if ring == 0 else COARSE_NS), ADDED)
    touch = has_touch(view)
    _write_head(view, head, state)
    for column in range(len(row)):
        row[column] = 0.0  # what stays so where a side of the book is missing
    mean = _mean_touch(state)
    row[SIGMA] = sigma_bps(state, floats)
    scale = _scale(row, state)
    _write_flows(row, state, mean)
    _write_rates(row, state, mean)
    _write_depth_flows(row, state, mean)
    _write_moves(row, state, scale)
    if touch:
        _write_imbalance(view, row, state)
        _write_profile(view, row)
        _write_spread(view, row, state)
        _write_offsets(view, row, floats, scale)
    if state[MORE, ROLE] == FOLLOWS:
        follow(row, LEAD_AT, lead, now, scale * BPS / max(state[SCALARS, MID2], 1))
    elif state[MORE, ROLE] == LEADS:
        tell(view, state, lead)


@kernel
def _write_head(view: Integers, head: Integers, state: Integers) -> None:
    """Write the head: five int64, then flags and kind packed as little-endian int32."""
    touch = has_touch(view)
    bid = view[BID_PX] if touch else 0
    ask = view[ASK_PX] if touch else 0
    found = 0
    if touch and bid > ask:
        found |= CROSSED
    if touch and bid == ask:
        found |= LOCKED
    if not is_warm(state):
        found |= WARMING
    flags = view[FLAGS] & 0x7FFFFFFF | found
    if found != 0 or not touch:
        flags &= ~VALID
    head[0] = view[SEQ]
    head[1] = view[TS_RECV]
    head[2] = view[TS_EVENT]
    head[3] = bid + ask
    head[4] = ask - bid
    head[5] = flags | ((view[KIND] & 0x7FFFFFFF) << 32)


@kernel
def _mean_touch(state: Integers) -> float:
    """Return the mean size of one touch queue over 10 s, in lots; 1 where none was seen."""
    if state[W_10S, DEPTH] <= 0:
        return 1.0
    return float(state[W_10S, DEPTH]) / (2.0 * float(state[W_10S, SAMPLES]))


@kernel
def _write_flows(row: Floats, state: Integers, mean: float) -> None:
    """Write order flow and trade flow over their windows."""
    level = 1.0
    if state[W_10S, LEVEL_DEPTH] > 0:
        level = state[W_10S, LEVEL_DEPTH] / state[W_10S, LEVELS_SEEN]
    for i in range(4):
        window = W_10S if i == 3 else (W_2S if i == 2 else W_100MS + i)
        row[OFI_AT + i] = slog(state[window, OFI] / mean)
        row[MLOFI_AT + i] = slog(state[window, MLOFI] / level)
        row[FLOW_AT + i] = slog(state[window, FLOW] / mean)


@kernel
def _length_s(state: Integers, window_s: float) -> float:
    """Return the part of a window that lies after the start, at least a fifth of it."""
    passed = (state[SCALARS, NOW] - state[SCALARS, START]) / 1e9
    return float(min(window_s, max(passed, 0.2 * window_s)))


@kernel
def _write_rates(row: Floats, state: Integers, mean: float) -> None:
    """Write how often things happen, and how much is traded."""
    row[RATES_AT] = log1p(state[W_2S, TRADES] / _length_s(state, 2.0))
    lately = state[W_10S, TRADES] / _length_s(state, 10.0)
    row[RATES_AT + 1] = log((lately + 0.1) / (state[W_60S, TRADES] / _length_s(state, 60.0) + 0.1))
    row[RATES_AT + 2] = log1p(state[W_500MS, EVENTS] / _length_s(state, 0.5))
    row[RATES_AT + 3] = log1p(state[W_2S, EVENTS] / _length_s(state, 2.0))
    row[TURNOVER_AT] = log1p(state[W_10S, TURNOVER] / mean)


@kernel
def _write_depth_flows(row: Floats, state: Integers, mean: float) -> None:
    """Write what leaves without a trade, what comes back, and how much depth is left."""
    for i in range(2):
        window = W_2S if i == 0 else W_10S
        came = state[window, CAME]
        left = state[window, LEFT]
        cancelled = max(left - state[window, TURNOVER], 0)
        row[CANCEL_AT + i] = log1p(cancelled / mean / _length_s(state, 2.0 if i == 0 else 10.0))
        if came + left > 0:
            row[CANCEL_AT + 2 + i] = (came - left) / (came + left)
    if state[ADDED, LEVEL_DEPTH] > 0:
        level = state[ADDED, LEVEL_DEPTH] / state[ADDED, LEVELS_SEEN]
        for i in range(2):
            window = W_10S if i == 0 else W_60S
            mean_level = state[window, LEVEL_DEPTH] / state[window, LEVELS_SEEN]
            row[DEPLETION_AT + i] = log(level / mean_level)


@kernel
def _scale(row: Floats, state: Integers) -> float:
    """Return sigma in half-ticks per root second, at least half of the spread that stands."""
    sigma = row[SIGMA] * max(state[SCALARS, MID2], 1) / BPS
    return float(max(sigma, float(max(state[MORE, SPREAD], 1))))


@kernel
def _write_moves(row: Floats, state: Integers, scale: float) -> None:
    """Write returns, realised volatility, the last move, and the times since things happened."""
    row[RET_AT] = slog(state[W_500MS, MOVE] / (scale * sqrt(0.5)))
    row[RET_AT + 1] = slog(state[W_1S, MOVE] / scale)
    row[RET_AT + 2] = slog(state[W_10S, MOVE] / (scale * sqrt(10.0)))
    for i in range(3):
        window = W_1S if i == 0 else (W_10S if i == 1 else W_60S)
        length = 1.0 if i == 0 else (10.0 if i == 1 else 60.0)
        realised = sqrt(state[window, SQUARED] / _length_s(state, length))
        row[RV_AT + i] = log(max(realised / scale, RV_FLOOR))
    move = state[SCALARS, LAST_MOVE]
    row[LAST_MOVE_AT] = float(int(move > 0) - int(move < 0))
    row[SINCE_AT] = _log_since(state, state[SCALARS, TS_MOVE])
    row[SINCE_AT + 1] = _log_since(state, state[SCALARS, TS_TRADE])


@kernel
def _log_since(state: Integers, ts: int) -> float:
    """Return the log of the seconds since `ts`, or since the start where that is later."""
    passed = (state[SCALARS, NOW] - max(ts, state[SCALARS, START])) / 1e9
    return log(min(max(passed, 1e-4), 60.0))


@kernel
def _imbalance(bid: int, ask: int) -> float:
    return (bid - ask) / (bid + ask) if bid + ask > 0 else 0.0


@kernel
def _lots_to(view: Integers, sizes_at: int, n: int) -> int:
    """Return the lots on the first n levels of a side."""
    total = 0
    for level in range(n):
        total += lots(view[sizes_at + level])
    return total


@kernel
def _write_imbalance(view: Integers, row: Floats, state: Integers) -> None:
    """Write the imbalances of depth and the two looks at the touch queues."""
    n_bids = n_levels(view, view[N_BIDS])
    n_asks = n_levels(view, view[N_ASKS])
    bid = lots(view[BID_SZ])
    ask = lots(view[ASK_SZ])
    row[0] = _imbalance(bid, ask)
    for i in range(1, 4):
        depth = 3 if i == 1 else 5 * (i - 1)  # 3, 5 and 10 levels
        bids = _lots_to(view, BID_SZ, min(depth, n_bids))
        row[i] = _imbalance(bids, _lots_to(view, ASK_SZ, min(depth, n_asks)))
    row[4] = log(bid / ask)
    if state[W_10S, SMALLEST] > 0:
        row[5] = log(min(bid, ask) * state[W_10S, SAMPLES] / state[W_10S, SMALLEST])


@kernel
def _write_profile(view: Integers, row: Floats) -> None:
    """Write how the size of a level changes with its distance from the touch."""
    n_bids = n_levels(view, view[N_BIDS])
    n_asks = n_levels(view, view[N_ASKS])
    bid = float(lots(view[BID_SZ]))
    ask = float(lots(view[ASK_SZ]))
    bids = float(_lots_to(view, BID_SZ, n_bids))
    asks = float(_lots_to(view, ASK_SZ, n_asks))
    row[SLOPE_AT] = log(2.0 * (bids + asks) / ((n_bids + n_asks) * (bid + ask)))
    row[SLOPE_AT + 1] = log(bids / (n_bids * bid)) - log(asks / (n_asks * ask))
    n_near = min(n_bids, 3) + min(n_asks, 3)
    n_middle = min(n_bids, 7) + min(n_asks, 7) - n_near
    n_far = n_bids + n_asks - n_near - n_middle
    near = float(_lots_to(view, BID_SZ, min(n_bids, 3)) + _lots_to(view, ASK_SZ, min(n_asks, 3)))
    to_7 = float(_lots_to(view, BID_SZ, min(n_bids, 7)) + _lots_to(view, ASK_SZ, min(n_asks, 7)))
    middle = to_7 - near
    far = bids + asks - to_7
    if middle > 0.0 and far > 0.0:
        middle /= n_middle
        row[SLOPE_AT + 2] = log(near / n_near / middle) + log(far / n_far / middle)


@kernel
def _write_spread(view: Integers, row: Floats, state: Integers) -> None:
    """Write the spread, and what is measured against it."""
    at_least_one = float(max(view[ASK_PX] - view[BID_PX], 1))
    mid2 = float(view[ASK_PX] + view[BID_PX])
    row[SPREAD_AT] = log(at_least_one)
    row[SIGMA + 1] = log(row[SIGMA] / (at_least_one / mid2 * BPS))
    row[LAST_MOVE_AT + 1] = log1p(abs(state[SCALARS, LAST_MOVE]) / at_least_one)


@kernel
def _write_offsets(view: Integers, row: Floats, floats: Floats, scale: float) -> None:
    """Write where in the spread the price is thought to be, and the spread against its mean."""
    spread = view[ASK_PX] - view[BID_PX]
    row[WMID_AT] = slog(row[0] * spread / scale)
    if spread >= 0:
        row[WMID_AT + 1] = slog(microprice_offset(view, floats) / scale)
    mean = mean_spread(floats)
    if mean > 0.0:
        row[SPREAD_AT + 1] = log(max(spread, 1) / mean)
