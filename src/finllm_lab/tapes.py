"""Training sessions: recorded tapes turned into feature rows by the very code that serves.

A session is one instrument over one stretch of time: every row's head and features, in order. Which
tapes exist, and what each may be used for, is stated here once; only class A sources are listed. Knows
nothing of labels or models.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.domain.market import ROW_HEAD, Frame
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.bars import BarFeatures, MarketLead
from finllm.features.book import BookFeatures, BookRows
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.bars import read_bars
from finllm.market.feed import Market
from finllm.market.tape import read_chain
from finllm.runtime.tally import Tally
from finllm_lab.manifest import checked


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument's rows over one stretch of time."""

    name: str
    """Name of the tape, shared by instruments recorded together: what is left out, is left out whole."""
    instrument: str
    heads: NDArray[np.void]
    """[n] of `ROW_HEAD`, times never decreasing."""
    rows: NDArray[np.float64]
    """float64 [n, F], or [m, F] where only the rows `at` are kept."""
    at: NDArray[np.int64] | None = None
    """[m], indices of the heads whose features are kept, rising; None = all."""

    @property
    def kept(self) -> NDArray[np.int64]:
        """Return the indices of the heads whose features are kept, [m]."""
        return np.arange(len(self.heads)) if self.at is None else self.at

    def rows_at(self, heads: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the features of some heads, float64 [k, F].

        Raises:
            InputError: If the features of one of them are not kept.
        """
        if self.at is None:
            return self.rows[heads]
        places = np.searchsorted(self.at, heads)
        is_known = places < len(self.at)
        is_known[is_known] = self.at[places[is_known]] == heads[is_known]
        if not is_known.all():
            raise InputError(
                f"{int((~is_known).sum())} rows were wanted whose features are not kept",
                place=f"session {self.name} {self.instrument}",
                mend="Read it with the grid that is wanted: features are kept on one grid only.",
            )
        return self.rows[places]


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """One recording: the files to be merged by receive time, and what it may be used for.

    Books that lead and follow one another are recorded together.
    """

    name: str
    files: tuple[str, ...]
    use: str
    """`train` or `validate`."""


BOOK_TAPES: Final = (
    Tape(
        name="2023-04",
        files=("usdm_btcusdt_20230404", "usdm_btcusdt_20230405"),
        use="train",
    ),
    Tape(
        name="2024-07",
        files=(
            "usdm_btcusdt_20240718",
            "usdm_btcusdt_20240719",
            "usdm_ethusdt_20240718",
            "usdm_ethusdt_20240719",
        ),
        use="train",
    ),
    *(
        Tape(name="2024-08", files=tuple(f"{name}_20240808" for name in names), use="validate")
        for names in (
            ("usdm_btcusdt", "usdm_ethusdt"),
            ("spot_btcusdt", "spot_ethusdt"),
            ("cm_btcusd_perp", "cm_ethusd_perp"),
        )
    ),
)
"""Binance frames of nkaz001/hftbacktest (MIT). The 2024-08 day is opened for the card's figures only."""
BINANCE: Final = "orderbook/binance_frames"
BARS: Final = "text_price/us_bars_hourly_to_201509.csv.gz"
"""Hourly bars of QuantConnect/Lean (Apache-2.0)."""
DAYS: Final = "text_price/stock_prices_daily_to_201509.csv.gz"
"""Daily bars of yumoxu/stocknet-dataset (MIT)."""
SYMBOLS: Final = frozenset({"SPY", "AAPL", "BAC", "IBM", "AIG"})
LEAD: Final = "us-equity:SPY"


def tape_paths(root: Path, tape: Tape) -> list[Path]:
    """Return the files of a tape under the data folder, having seen that they are those entered.

    Raises:
        InputError: If one is missing or was changed.
    """
    return [checked(root, f"{BINANCE}/{name}.ndjson.gz", use=tape.use) for name in tape.files]


def book_sessions(name: str, paths: Sequence[Path]) -> list[Session]:
    """Return one session per instrument found in a chain of frame tapes."""
    return frame_sessions(name, read_chain(paths, Tally()))


def frame_sessions(name: str, frames: Iterable[Frame]) -> list[Session]:
    """Return one session per instrument found in a stream of frames."""
    market = Market(Tally())
    gathering: list[_Gathering] = []
    features = BookRows()
    for frame in frames:
        index = market.push(frame)
        if index < 0:
            continue
        while len(gathering) <= index:
            key = market.instruments[len(gathering)].key
            gathering.append(_Gathering(key, features.features(key)))
        gathering[index].push(market.view(index))
    return [part.session(name) for part in gathering if part.heads]


def bar_sessions(path: Path, symbols: frozenset[str] | None = None) -> list[Session]:
    """Return one session per symbol of a file of bars, all of it. SPY leads, as it does when serving.

    Args:
        path: A file of bars.
        symbols: Symbols to keep; None keeps all.
    """
    lead = MarketLead(LEAD)
    features: dict[str, BarFeatures] = {}
    heads: dict[str, list[bytes]] = {}
    rows: dict[str, list[bytes]] = {}
    head, row = np.zeros(1, dtype=ROW_HEAD), np.zeros(len(BAR_SPEC))
    for bar in read_bars(path, tally=Tally(), symbols=symbols):
        key = bar.instrument
        if key not in features:
            features[key] = BarFeatures(lead)
            heads[key], rows[key] = [], []
        features[key].push(bar, row, head)
        heads[key].append(head.tobytes())
        rows[key].append(row.tobytes())
    return [
        Session(
            name=path.name,
            instrument=key,
            heads=np.frombuffer(b"".join(heads[key]), dtype=ROW_HEAD),
            rows=np.frombuffer(b"".join(rows[key])).reshape(-1, len(BAR_SPEC)),
        )
        for key in sorted(features)
    ]


def between(session: Session, start: int, end: int) -> Session:
    """Return the part of a session received at or after `start` and before `end`, ns UTC."""
    ts = session.heads["ts_recv"]
    first, last = int(np.searchsorted(ts, start)), int(np.searchsorted(ts, end))
    if session.at is None:
        heads, rows = session.heads[first:last], session.rows[first:last]
        return msgspec.structs.replace(session, heads=heads, rows=rows)
    low, high = np.searchsorted(session.at, (first, last)).tolist()
    return msgspec.structs.replace(
        session,
        heads=session.heads[first:last],
        rows=session.rows[low:high],
        at=session.at[low:high] - first,
    )


class _Gathering:
    """One instrument's rows while a tape is read."""

    def __init__(self, instrument: str, features: BookFeatures) -> None:
        self.instrument = instrument
        self.heads: list[bytes] = []
        self.rows: list[bytes] = []
        self._features = features
        self._row = np.zeros(len(BOOK_SPEC))
        self._head = np.zeros(1, dtype=ROW_HEAD)

    def push(self, view: NDArray[np.int64]) -> None:
        self._features.push(view, self._row, self._head)
        self.heads.append(self._head.tobytes())
        self.rows.append(self._row.tobytes())

    def session(self, name: str) -> Session:
        return Session(
            name=name,
            instrument=self.instrument,
            heads=np.frombuffer(b"".join(self.heads), dtype=ROW_HEAD),
            rows=np.frombuffer(b"".join(self.rows)).reshape(-1, len(BOOK_SPEC)),
        )
