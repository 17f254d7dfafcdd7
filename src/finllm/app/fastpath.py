"""The fast path alone: frames in, forecast rows out, for a desk with an event loop of its own.

No ledger, no documents, no records: `Pipeline` has those. Here a frame goes from its book to its row and
is either spoken about at once (`push`) or handed to workers (`hand_over`), who publish what they say.
"""

import gc
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import ROW_HEAD, Frame
from finllm.edge.bank import Bank
from finllm.edge.isolated import IsolatedEdge
from finllm.edge.serving import REGIME, ROW, entry_words
from finllm.edge.session import EdgeSession
from finllm.features.book import BookFeatures, BookRows
from finllm.market.feed import Market
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.tally import Tally


class _Track:
    """One instrument: its features, its session and the arrays that it reuses."""

    __slots__ = (
        "entry",
        "entry_f",
        "features",
        "head",
        "regimes",
        "row",
        "rows",
        "session",
        "told",
    )

    def __init__(self, bank: Bank, instrument: str, features: BookFeatures) -> None:
        self.session = EdgeSession(bank, bank.spec, instrument)
        self.features = features
        self.entry = np.zeros(entry_words(len(bank.spec)), dtype=np.int64)
        self.entry_f = self.entry.view(np.float64)
        self.row = self.entry_f[ROW:]
        self.rows = self.entry_f[None, ROW:]
        self.regimes = self.entry[REGIME : REGIME + 1]
        self.head: NDArray[np.void] = self.entry[: ROW_HEAD.itemsize // 8].view(ROW_HEAD)
        self.told = -1
        """Version of the parameters that the workers were last told."""


class FastPath:
    """Every instrument of a set of feeds, from frame to forecast row.

    Args:
        bank: The models, for book rows.
        market: The books; None makes new ones.
        edge: Workers, started, for `hand_over`.
        clock: Source of `ts_emit`.
    """

    def __init__(
        self,
        bank: Bank,
        market: Market | None = None,
        *,
        edge: IsolatedEdge | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.market = market or Market(Tally())
        self.tracks: list[_Track] = []
        self._rows = BookRows()
        self._bank, self._edge = bank, edge
        self._infer = bank.models.infer
        self._clock = clock or WallClock()

    def push(self, frame: Frame) -> NDArray[np.void] | None:
        """Take one frame; return its forecast row, shape [1], or None if it made none.

        The row is reused by the instrument's next row: copy what is to be kept.
        """
        index = self.market.push(frame)
        if index < 0:
            return None
        track = self._observe(index)
        raw = self._infer(track.rows, track.regimes)
        return track.session.speak(track.entry, raw[0], self._clock.now())

    def swap(self, bank: Bank) -> None:
        """Let another bank, loaded and warm, serve from the next row on; call it between two frames.

        Nothing is dropped: books, features, regimes and outlooks go on. For `push`; workers serve the
        bank that they were started with.

        Raises:
            ArtifactError: If it does not fit; nothing has changed then.
        """
        for track in self.tracks:
            track.session.fits(bank)
        for track in self.tracks:
            track.session.swap(bank)
        self._bank, self._infer = bank, bank.models.infer

    def hand_over(self, frame: Frame) -> int:
        """Take one frame and hand its row to the workers; return its instrument's number, else -1."""
        index = self.market.push(frame)
        if index < 0 or self._edge is None:
            return -1
        track = self._observe(index)
        parameters = track.session.parameters
        if track.told != parameters[0]:
            self._edge.set_parameters(index, parameters)
            track.told = int(parameters[0])
        self._edge.put(index, track.entry)
        return index

    def _observe(self, index: int) -> _Track:
        while index >= len(self.tracks):
            key = self.market.instruments[len(self.tracks)].key
            self.tracks.append(_Track(self._bank, key, self._rows.features(key)))
        track = self.tracks[index]
        track.features.push(self.market.view(index), track.row, track.head)
        track.session.observe(track.entry)
        return track


COLLECT_EVERY: Final = 200_000
"""Allocations between two looks of the garbage collector at the young, where latency counts."""


def quiet_collector() -> None:
    """Keep the garbage collector off the hot path: what lives now is never looked at again.

    The hot path makes no cycles, so nothing accumulates; the collector still runs, seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 50, 100)
