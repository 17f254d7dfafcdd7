"""Training rows for the fusion: what a pack measured at an instant, and what the price did after.

Packs come from the very narrative room and reading that serve; prices from bars, or from the frames of
a synthetic market, never from its truths. Knows nothing of fitting.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.reader import open_room
from finllm.domain.evidence import Document, EvidencePack
from finllm.domain.market import ROW_HEAD, Bar, Flag
from finllm.domain.units import BPS, NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S, parse_instant
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.bars import BAR_S, BarFeatures
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.bars import read_bars
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.narrative.reading.claims import EVENT_TYPES
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm.narrative.sources.documents import read_documents
from finllm.reasoning.fusion import EVENT, SURGE, Shares, read
from finllm.runtime.tally import Tally
from finllm_lab.realised import variances
from finllm_lab.statements import released
from finllm_lab.tapes import frame_sessions

SCALE: Final = (
    "present",
    "breadth",
    "burst",
    "stance",
    "dispersion",
    "release",
    *(EVENT + e for e in EVENT_TYPES),
    *(SURGE + e for e in EVENT_TYPES),
)
"""Undirected measures that are fitted."""
SHIFT: Final = ("stance", *(EVENT + e for e in EVENT_TYPES))
"""Directed measures that are fitted."""
TRAIN_UNTIL: Final = "2015-08-01"
"""End of the training part of the tweets; nothing from here on is read."""
FIRST_TWEET: Final = "2014-01-03"
FIRST_STATEMENT: Final = "1998-03-01"
"""From when on the hourly bars have warmed up."""
STATEMENTS_UNTIL: Final = "2013-01-01"
"""End of the training part of the Committee's statements."""
NEAR_STATEMENT_NS: Final = 4 * NS_PER_DAY


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """One training row per (instrument, instant, horizon)."""

    scale: NDArray[np.float64]
    """[n, len(SCALE)]."""
    shift: NDArray[np.float64]
    """[n, len(SHIFT)]."""
    controls: NDArray[np.float64]
    """[n, c], what the edge knows anyway; the first column is 1."""
    z: NDArray[np.float64]
    """[n], the return to the target over sigma root horizon."""
    size: NDArray[np.float64]
    """[n], how far the price went, in the same unit: |z|, or on bars by gaps, highs and lows."""
    group: NDArray[np.int64]
    """[n], block of time: rows of one block are not independent."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured: a pack, and the returns of the forecasts that stand there."""

    as_of: int
    instrument: str
    group: int
    controls: tuple[float, ...]
    z: tuple[float, ...]
    """One per horizon."""
    size: tuple[float, ...] = ()
    """One per horizon; none = |z|."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """An ask with its pack."""

    ask: Ask
    pack: EvidencePack


def gather(documents: Iterable[Document], asks: list[Ask], narrative: Narrative) -> Iterator[Asked]:
    """Yield a pack for each ask that finds any text, in order of time; admits every document."""
    waiting = iter(sorted(documents, key=lambda d: (d.ts_recv, d.document_id)))
    following = next(waiting, None)
    for ask in sorted(asks, key=lambda a: (a.as_of, a.instrument)):
        while following is not None and following.ts_recv <= ask.as_of:
            narrative.admit(following, following.ts_recv)
            following = next(waiting, None)
        yield Asked(ask=ask, pack=narrative.gather(ask.instrument, ask.as_of))


def rows(asked: list[Asked], memory_ns: int) -> Rows:
    """Return training rows under one memory: one per ask and horizon."""
    scale, shift, controls, z, size, group = [], [], [], [], [], []
    for each in asked:
        reading = read(each.pack, memory_ns, ())
        sizes = each.ask.size or tuple(abs(value) for value in each.ask.z)
        for value, how_far in zip(each.ask.z, sizes, strict=True):
            scale.append(_sums(reading.undirected, SCALE))
            shift.append(_sums(reading.directed, SHIFT))
            controls.append(each.ask.controls)
            z.append(value)
            size.append(how_far)
            group.append(each.ask.group)
    return Rows(
        scale=np.array(scale),
        shift=np.array(shift),
        controls=np.array(controls),
        z=np.array(z),
        size=np.array(size),
        group=np.array(group),
    )


def _sums(shares: Shares, names: tuple[str, ...]) -> list[float]:
    return [sum(shares.get(name, ())) for name in names]


# --- bars ------------------------------------------------------------------------------------------

AFTER_CLOSE_NS: Final = 4 * NS_PER_HOUR
BEFORE_OPEN_NS: Final = 15 * NS_PER_MIN


def bar_packs(bars: Path, documents: Path, until: str = TRAIN_UNTIL) -> list[Asked]:
    """Return packs over hourly bars that have tweets, from the first tweet on.

    For each bar from its close on: at the close, where an outlook would be in force, and half-way
    through the next bar, where a standing forecast would be revised. Target: the next bar.
    """
    by_key = _bars_until(bars, until)
    symbols = frozenset(key.rpartition(":")[2] for key in by_key)
    return _asked(by_key, _hourly, FIRST_TWEET, _documents(documents, until, symbols))


def statement_packs(bars: Path, statements: Path, until: str = STATEMENTS_UNTIL) -> list[Asked]:
    """Return packs over the hourly bars of SPY, from the Committee's statements alone; as `bar_packs`.

    Only near a statement: a pack of the months between holds nothing. A control tells these rows, of other
    years, from those with tweets.
    """
    by_key = _bars_until(bars, until, frozenset({"SPY"}))
    made = [d for d in released(statements.read_bytes()) if d.ts_recv < parse_instant(until)]
    times = np.array([d.ts_recv for d in made], dtype=np.int64)

    def near(bar: Bar, after: Bar) -> tuple[int, ...]:
        is_near = bool((np.abs(times - bar.ts_recv) < NEAR_STATEMENT_NS).any())
        return _hourly(bar, after) if is_near else ()

    return _asked(by_key, near, FIRST_STATEMENT, made, era=1.0)


def day_packs(bars: Path, documents: Path, until: str = TRAIN_UNTIL) -> list[Asked]:
    """Return packs over daily bars that have tweets, from the first tweet on.

    At each close, four hours after it and a quarter of an hour before the next open. Target: the next
    day's bar, the night in it.
    """
    by_key = _bars_until(bars, until)
    symbols = frozenset(key.rpartition(":")[2] for key in by_key)
    return _asked(by_key, _daily, FIRST_TWEET, _documents(documents, until, symbols))


def _bars_until(
    path: Path, until: str, symbols: frozenset[str] | None = None
) -> dict[str, list[Bar]]:
    by_key: dict[str, list[Bar]] = {}
    for bar in read_bars(path, tally=Tally(), symbols=symbols):
        if bar.ts_recv < parse_instant(until):
            by_key.setdefault(bar.instrument, []).append(bar)
    return by_key


def _documents(path: Path, until: str, symbols: frozenset[str]) -> Iterator[Document]:
    """Yield the documents filed under one of the symbols and received before an instant."""
    for document in read_documents(path, tally=Tally()):
        if isinstance(document, Document) and symbols.intersection(document.symbols):
            if document.ts_recv >= parse_instant(until):
                return
            yield document


def _asked(
    by_key: dict[str, list[Bar]],
    when: "_Instants",
    since: str,
    documents: Iterable[Document],
    era: float = 0.0,
) -> list[Asked]:
    narrative = open_room(NarrativeSettings())
    asks: list[Ask] = []
    for key in sorted(by_key):
        narrative.watch(key)
        asks += _bar_asks(key, by_key[key], when, parse_instant(since), era)
    return list(gather(documents, asks, narrative))


def _bar_asks(
    key: str, bars: list[Bar], when: "_Instants", first: int, era: float
) -> Iterator[Ask]:
    features, realised = BarFeatures(), variances(bars)
    row, head = np.zeros(len(BAR_SPEC)), np.zeros(1, dtype=ROW_HEAD)
    columns = BAR_SPEC.columns
    for i, bar in enumerate(bars[:-1]):
        features.push(bar, row, head)
        if bar.ts_recv < first or not head["flags"][0] & Flag.VALID:
            continue
        sigma = float(row[columns["sigma"]]) * BAR_S**0.5
        after = bars[i + 1]
        controls = (
            *_clock(bars, i),
            float(row[columns["rv_ratio"]]),
            float(row[columns["range_rel"]]),
            era,
        )
        for as_of in when(bar, after):
            yield Ask(
                as_of=as_of,
                instrument=key,
                group=as_of // (7 * NS_PER_DAY),
                controls=controls,
                z=((after.close / bar.close - 1.0) * BPS / sigma,),
                size=(float(realised[i + 1]) ** 0.5 / sigma,),
            )


_Instants = Callable[[Bar, Bar], tuple[int, ...]]
"""From a bar and the next one to the instants at which is asked about the next one."""


def _hourly(bar: Bar, after: Bar) -> tuple[int, ...]:
    return bar.ts_recv, (max(after.ts_start, bar.ts_recv) + after.ts_recv) // 2


def _daily(bar: Bar, after: Bar) -> tuple[int, ...]:
    return bar.ts_recv, bar.ts_recv + AFTER_CLOSE_NS, after.ts_start - BEFORE_OPEN_NS


def _clock(bars: list[Bar], i: int) -> tuple[float, ...]:
    """Return 1, and dummies for the position of the next bar in its session."""
    position, at = 0, i + 1
    while position < 6 and at > 0 and bars[at].ts_start <= bars[at - 1].ts_recv:
        position, at = position + 1, at - 1
    return (1.0, *(float(position == p) for p in range(1, 7)))


# --- the synthetic market ----------------------------------------------------------------------------

BOOK_HORIZONS_S: Final = (5, 10, 30)
GRID_NS: Final = NS_PER_S
_READ: Final = (
    *("rv_1s", "rv_10s", "rv_60s", "event_rate_2s", "trade_rate_2s", "sigma_half_spread"),
    *("obi_1", "ofi_2s", "ofi_10s", "flow_2s", "ret_10s"),
)


def book_packs(settings: SyntheticMarket, number: int) -> list[Asked]:
    """Return packs over one synthetic tape, on a grid of one second.

    Args:
        settings: The market.
        number: The tape's number, which sets its blocks apart.
    """
    tape = generate(settings)
    narrative = open_room(NarrativeSettings())
    asks: list[Ask] = []
    for session in frame_sessions("synthetic", tape.frames()):
        narrative.watch(session.instrument)
        asks += _book_asks(session.instrument, session.heads, session.rows, number)
    return list(gather(tape.documents(), asks, narrative))


def _book_asks(
    key: str, heads: NDArray[np.void], rows_: NDArray[np.float64], number: int
) -> Iterator[Ask]:
    ts, mid2 = heads["ts_recv"], heads["mid2"].astype(np.float64)
    reach = max(BOOK_HORIZONS_S) * NS_PER_S
    for as_of in range(int(ts[0]) + 60 * NS_PER_S, int(ts[-1]) - reach, GRID_NS):
        at = int(np.searchsorted(ts, as_of, side="right")) - 1
        targets = [
            int(np.searchsorted(ts, as_of + h * NS_PER_S, side="right")) - 1
            for h in BOOK_HORIZONS_S
        ]
        if any(mid2[i] <= 0.0 or not heads["flags"][i] & Flag.VALID for i in (at, *targets)):
            continue
        row = rows_[at]
        sigma = row[BOOK_SPEC.columns["sigma"]]
        yield Ask(
            as_of=as_of,
            instrument=key,
            group=number * 10_000 + (as_of - int(ts[0])) // (120 * NS_PER_S),
            controls=_book_controls(row),
            z=tuple(
                float((mid2[i] / mid2[at] - 1.0) * BPS / (sigma * h**0.5))
                for i, h in zip(targets, BOOK_HORIZONS_S, strict=True)
            ),
        )


def _book_controls(row: NDArray[np.float64]) -> tuple[float, ...]:
    """Return what an edge model reads off the book: recent volatility against sigma, rates, leans."""
    columns = BOOK_SPEC.columns
    return (1.0, *(float(row[columns[name]]) for name in _READ))
