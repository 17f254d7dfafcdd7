"""What else could be installed for the same job, on the same frames: the peers of the in-process path.

Each peer keeps its library's book from the frames' bytes, makes the row's columns (`columns`, `rolling`)
and runs the artifact's ONNX graph in ONNX Runtime, with our own bound buffers. It reads the book's ten
best levels after a diff only and lays a newer bookTicker over them, as our book does, so that all agree
on the touch; a level that the touch has taken away is missed until the next diff. It does less than the
in-process path: no check of continuity, no flags, no regime, no calibration, no outlook.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.bench.columns import Doubles, NumpyColumns
from finllm.app.bench.cryptofeed import CryptofeedBook
from finllm.app.bench.nautilus import NautilusBook
from finllm.app.bench.rolling import PandasColumns
from finllm.domain.market import Frame
from finllm.edge.artifact import Artifact, open_model
from finllm.edge.model import EdgeModel
from finllm.edge.onnx import CPU
from finllm.market.feed import Market
from finllm.runtime.tally import Tally

Quote = tuple[int, tuple[float, float, float, float]]
"""Number, and bid price and size, ask price and size."""


class PeerBook(Protocol):
    """A library's book of one instrument, filled from Binance frames."""

    def snapshot(self, payload: bytes) -> int:
        """Replace the book; return the snapshot's number."""
        ...

    def decode_diff(self, payload: bytes) -> tuple[int, Any]:
        """Return a diff's final number and its content."""
        ...

    def apply(self, diff: Any) -> None:
        """Apply a diff's content."""
        ...

    def decode_touch(self, payload: bytes) -> Quote:
        """Return a bookTicker."""
        ...

    def decode_trade(self, payload: bytes) -> tuple[int, float]:
        """Return a trade's number, and its size, negative if the aggressor sold."""
        ...

    def read(self, sides: Doubles) -> None:
        """Fill float64 [4, 10]: bid prices and sizes, ask prices and sizes, best first; 0 = none."""
        ...


class Peer:
    """One instrument: book, columns, model.

    Args:
        book: The library's book.
        columns: What makes the row.
        model: What speaks of it.
        tick: The instrument's tick size.
    """

    def __init__(
        self, book: PeerBook, columns: NumpyColumns, model: EdgeModel, tick: float
    ) -> None:
        self._book, self._columns, self._model = book, columns, model
        self._per_tick = 1.0 / tick
        self._depth = np.zeros((4, 10))
        self._depth_u = -1
        self._touch: Quote = (-1, (0.0, 0.0, 0.0, 0.0))
        self._trade = -1
        self._held: list[tuple[int, Any]] = []
        self._routes: dict[bytes, Callable[[bytes], float | None]] = {
            b"@book": self._take_touch,
            b"@dept": self._take_diff,
            b"@trad": self._take_trade,
        }
        self.sides = np.zeros((4, 10))
        """What the last row was made of: bid prices (in ticks) and sizes, ask prices and sizes."""
        self.row: Doubles = np.zeros(0)
        """Its columns."""

    def push(self, frame: Frame) -> NDArray[np.float64] | None:
        """Take one frame; return the raw claim of its row, [1, H, 8], or None if it made none."""
        payload = frame.payload
        at = payload.find(b"@", 0, 64)
        take = self._routes.get(payload[at : at + 5], self._take_snapshot)
        traded = take(payload)
        if traded is None or self._depth_u < 0:
            return None
        self._lay_touch()
        self.row = self._columns.push(frame.ts_recv, self.sides, traded)
        return self._model.infer(self.row[None])

    def _take_touch(self, payload: bytes) -> float | None:
        number, (bid_px, bid_sz, ask_px, ask_sz) = self._book.decode_touch(payload)
        if number <= self._touch[0]:
            return None
        bid_px, ask_px = round(bid_px * self._per_tick), round(ask_px * self._per_tick)
        self._touch = number, (bid_px, bid_sz, ask_px, ask_sz)
        return 0.0

    def _take_trade(self, payload: bytes) -> float | None:
        number, traded = self._book.decode_trade(payload)
        if number <= self._trade:
            return None
        self._trade = number
        return traded

    def _take_diff(self, payload: bytes) -> float | None:
        number, diff = self._book.decode_diff(payload)
        if self._depth_u < 0:
            self._held.append((number, diff))
            return None
        if number <= self._depth_u:
            return None
        self._book.apply(diff)
        self._depth_u = number
        self._read()
        return 0.0

    def _take_snapshot(self, payload: bytes) -> None:
        if self._depth_u >= 0 or b'"lastUpdateId"' not in payload[:64]:
            return
        self._depth_u = self._book.snapshot(payload)
        for number, diff in self._held:
            if number > self._depth_u:
                self._book.apply(diff)
                self._depth_u = number
        self._held.clear()
        self._read()

    def _read(self) -> None:
        """Read the book's best levels, prices in whole ticks: floats of other makers differ by a bit."""
        self._book.read(self._depth)
        np.rint(self._depth[::2] * self._per_tick, out=self._depth[::2])

    def _lay_touch(self) -> None:
        """Put the touch over the depth while it is the newer of the two."""
        self.sides[:] = self._depth
        number, (bid_px, bid_sz, ask_px, ask_sz) = self._touch
        if number <= self._depth_u:
            return
        self._lay(self.sides[:2], bid_px, bid_sz, 1.0)
        self._lay(self.sides[2:], ask_px, ask_sz, -1.0)

    def _lay(self, side: Doubles, px: float, sz: float, sign: float) -> None:
        if side[0, 0] == px:
            side[1, 0] = sz
            return
        kept = side[:, ((px - side[0]) * sign > 0.0) & (side[1] > 0.0)][:, :9]
        side[:] = 0.0
        side[:, 0] = px, sz
        side[:, 1 : 1 + kept.shape[1]] = kept


class PeerPath:
    """Every instrument of a set of feeds, each a `Peer` of the same kind.

    Args:
        book: Makes an empty book.
        columns: Makes the columns of an instrument.
        artifact: The model.
        ticks: Tick size by source; a source carries one instrument.
    """

    def __init__(
        self,
        book: Callable[[], PeerBook],
        columns: Callable[[], NumpyColumns],
        artifact: Artifact,
        ticks: Mapping[int, float],
    ) -> None:
        model = open_model(artifact.folder, artifact.manifest, provider=CPU)
        self.peers = {
            source: Peer(book(), columns(), model, tick) for source, tick in ticks.items()
        }

    def push(self, frame: Frame) -> NDArray[np.float64] | None:
        """Take one frame; return the raw claim of its row, or None if it made none."""
        peer = self.peers.get(frame.source)
        return None if peer is None else peer.push(frame)


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of peer."""

    name: str
    needs: tuple[str, ...]
    """Modules that must be installed."""
    book: Callable[[], PeerBook]
    columns: Callable[[], NumpyColumns]


KINDS: Final = (
    Kind(
        name="nautilus_trader + numpy",
        needs=("nautilus_trader.core.nautilus_pyo3",),
        book=NautilusBook,
        columns=NumpyColumns,
    ),
    Kind(
        name="cryptofeed + pandas",
        needs=("cryptofeed.types", "yapic.json", "pandas"),
        book=CryptofeedBook,
        columns=PandasColumns,
    ),
)


def missing(needs: Iterable[str]) -> str:
    """Return the first of the modules that cannot be imported; empty if all can."""
    for name in needs:
        try:
            import_module(name)
        except ImportError:
            return name
    return ""


def tick_sizes(frames: Iterable[Frame]) -> dict[int, float]:
    """Return the tick size of each source's instrument, as our own book takes it to be."""
    market, ticks = Market(Tally()), {}
    for frame in frames:
        index = market.push(frame)
        if index >= 0:
            ticks[frame.source] = market.instruments[index].tick_size
    return ticks
