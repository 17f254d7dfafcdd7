"""What other software needs for a part of the job, for scale: no peer, since it makes no forecast."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.market.binance import decode_any_snapshot, decode_depth
from finllm.market.levels import read_levels
from finllm.runtime.clock import stopwatch_ns

NEEDS: Final = ("hftbacktest",)
ROUNDS: Final = 5
TIMEOUT_NS: Final = 10**15
NEW_FEED: Final = 2
"""What `wait_next_feed` answers when there was one."""


class ReplayedBook:
    """hftbacktest's book over the snapshot and diffs of one tape, decoded beforehand.

    Timed is its replay alone: a compiled loop waits for each message and reads the best bid and ask. It
    decodes nothing, and its simulated exchange keeps a second book beside the local one.

    Args:
        frames: The tape of one instrument.
        tick: Its tick size.
        lot: Its lot size.
    """

    def __init__(self, frames: Sequence[Frame], tick: float, lot: float) -> None:
        self._library: Any = import_module("hftbacktest")
        self._tick, self._lot = tick, lot
        self._events, self.n_messages = self._decode(frames)
        self._drain: Any = import_module("numba").njit(_drain)
        self.best = self._replay()[1]
        """Best bid and ask at the end."""

    def _decode(self, frames: Sequence[Frame]) -> tuple[NDArray[np.void], int]:
        kinds: Any = import_module("hftbacktest.types")
        both = kinds.EXCH_EVENT | kinds.LOCAL_EVENT
        parts, room, last, n = [], np.zeros((1 << 14, 2)), -1, 0
        for frame, event, number in _messages(frames):
            if number <= last:
                continue
            last = number
            n_bids = read_levels(event.bids, room, 0)
            end = read_levels(event.asks, room, n_bids)
            part = np.zeros(end, dtype=kinds.event_dtype)
            part["ev"][:n_bids] = both | kinds.DEPTH_EVENT | kinds.BUY_EVENT
            part["ev"][n_bids:] = both | kinds.DEPTH_EVENT | kinds.SELL_EVENT
            part["exch_ts"] = part["local_ts"] = frame.ts_recv
            part["px"], part["qty"] = room[:end].T
            parts.append(part)
            n += 1
        if not parts:
            raise InputError(
                "holds no depth snapshot",
                place="bench edge",
                mend="Name a tape with one, or uninstall hftbacktest.",
            )
        return np.concatenate(parts), n

    def _replay(self) -> tuple[int, tuple[float, float]]:
        """Return how long one replay took, ns, and the best bid and ask at its end."""
        asset = (
            self._library.BacktestAsset()
            .data([self._events])
            .linear_asset(1.0)
            .constant_order_latency(0, 0)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(0.0, 0.0)
            .tick_size(self._tick)
            .lot_size(self._lot)
        )
        replay = self._library.HashMapMarketDepthBacktest([asset])
        started = stopwatch_ns()
        best = self._drain(replay, TIMEOUT_NS)
        passed = stopwatch_ns() - started
        replay.close()
        return passed, best

    def measure(self) -> dict[str, float | str]:
        """Return the median of `ROUNDS` replays."""
        took = float(np.median([self._replay()[0] for _ in range(ROUNDS)]))
        return {
            "what": "book only, decoded beforehand, replayed in compiled code",
            "us_per_message": round(took / self.n_messages / 1e3, 3),
            "us_per_level": round(took / len(self._events) / 1e3, 4),
            "messages": self.n_messages,
        }


def _messages(frames: Sequence[Frame]) -> list[tuple[Frame, Any, int]]:
    """Return the snapshot and the diffs that follow it: frame, event, final number."""
    found: list[tuple[Frame, Any, int]] = []
    held: list[tuple[Frame, Any, int]] = []
    for frame in frames:
        if b"@depth" in frame.payload[:64]:
            event = decode_depth(frame.payload).data
            (found or held).append((frame, event, event.final))
        elif b'"lastUpdateId"' in frame.payload[:64] and not found:
            snapshot = decode_any_snapshot(frame.payload)
            found.append((frame, snapshot, snapshot.update))
            later = ((f, event, u) for f, event, u in held if u > snapshot.update)
            found += [(Frame(frame.ts_recv, f.payload), event, u) for f, event, u in later]
    return found


def _drain(replay: Any, timeout_ns: int) -> Any:  # compiled by numba, with the library's own types
    bid = ask = 0.0
    while replay.wait_next_feed(False, timeout_ns) == NEW_FEED:  # noqa: FBT003 - its signature
        depth = replay.depth(0)
        bid, ask = depth.best_bid, depth.best_ask
    return bid, ask
