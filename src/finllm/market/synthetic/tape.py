"""The tape: frames and documents of a synthetic market, streamed in receive order."""

import gzip
import heapq
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from finllm.domain.evidence import Document
from finllm.domain.instrument import Instrument
from finllm.domain.market import Frame
from finllm.market.synthetic.chance import draws
from finllm.market.synthetic.floor import Floor
from finllm.market.synthetic.latent import (
    ACTIVITY,
    CELL_NS,
    VOLATILITY_BPS,
    CommonShocks,
    EfficientPrice,
)
from finllm.market.synthetic.newswire import Newsroom, Published
from finllm.market.synthetic.plan import (
    VOLATILITY_HALF_LIFE_NS,
    Cycle,
    Effect,
    cycles,
    regime_switches,
)
from finllm.market.synthetic.settings import SyntheticMarket, instrument, listings
from finllm.market.synthetic.truth import Truth, TruthKind

_BUSIER_WITH_NEWS: Final = 0.4
"""Events per event that news adds per unit of its volatility gain."""


class SyntheticTape:
    """A synthetic market's tape. Each call of `frames` or `documents` starts a fresh stream."""

    def __init__(self, settings: SyntheticMarket) -> None:
        self.settings = settings
        self.instruments: tuple[Instrument, ...] = tuple(
            instrument(listing) for listing in listings(settings)
        )
        """One per symbol; `Frame.source` is the index."""

    def frames(self) -> Iterator[Frame]:
        """Yield every frame of every symbol; receive times never decrease."""
        end = self.settings.end
        floor = _Market(self.settings)
        for start in range(self.settings.start, end, CELL_NS):
            for frame in floor.cell(start):
                if frame.ts_recv >= end:
                    break
                yield frame

    def documents(self) -> Iterator[Document]:
        """Yield every document; receive times never decrease."""
        for published in self._published():
            yield published.document

    @property
    def truths(self) -> tuple[Truth, ...]:
        """Return what was planted and what is true of each document, in order of time."""
        found = [*self._market_truths()]
        for published in self._published():
            found += published.truths
        end = self.settings.end
        return tuple(
            sorted(
                (truth for truth in found if truth.ts < end),
                key=lambda truth: (truth.ts, truth.kind, truth.instrument, truth.document_id),
            )
        )

    def write(self, folder: Path, *, compress: bool = True) -> tuple[Path, ...]:
        """Write the tape as `frames-<symbol>.ndjson[.gz]`, `documents.jsonl` and `truth.json`.

        A frame's line is `<ts_recv_ns> <json>`, as in the public recordings. The same settings
        give the same bytes.

        Returns:
            The files, frames first.
        """
        folder.mkdir(parents=True, exist_ok=True)
        suffix = ".ndjson.gz" if compress else ".ndjson"
        paths = [folder / f"frames-{each}{suffix}" for each in self.settings.symbols]
        with ExitStack() as stack:
            files = [stack.enter_context(_created(path)) for path in paths]
            for frame in self.frames():
                files[frame.source].write(b"%d %b\n" % (frame.ts_recv, frame.payload))
        documents = folder / "documents.jsonl"
        with documents.open("wb") as out:
            for document in self.documents():
                out.write(document_line(document))
        truth = folder / "truth.json"
        content = {"settings": self.settings, "truths": self.truths}
        truth.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        return (*paths, documents, truth)

    def _published(self) -> Iterator[Published]:
        newsroom = Newsroom(self.settings)
        waiting: list[tuple[int, str, Published]] = []
        for cycle in cycles(self.settings):
            yield from _until(waiting, cycle.start)
            for each in newsroom.publish(cycle):
                document = each.document
                heapq.heappush(waiting, (document.ts_recv, document.document_id, each))
        yield from _until(waiting, self.settings.end)

    def _market_truths(self) -> Iterator[Truth]:
        keys = [each.key for each in self.instruments]
        for ts, regime in regime_switches(self.settings):
            if ts >= self.settings.end:
                break
            for key in keys:
                yield Truth(kind=TruthKind.REGIME, instrument=key, ts=ts, state=regime)
        for cycle in cycles(self.settings):
            for drain in cycle.drains:
                yield Truth(
                    kind=TruthKind.DRAIN,
                    instrument=keys[drain.symbol],
                    ts=drain.start,
                    lag_ns=drain.slip.onset - drain.start,
                    effect_bps=drain.slip.effect_bps,
                    half_life_ns=drain.slip.half_life_ns,
                    volatility_gain=drain.slip.volatility_gain,
                    volatility_half_life_ns=VOLATILITY_HALF_LIFE_NS,
                    state="bid" if drain.is_bid else "ask",
                    duration_ns=drain.end - drain.start,
                )
            for outage in cycle.outages:
                yield Truth(
                    kind=TruthKind.GAP,
                    instrument=keys[outage.symbol],
                    ts=outage.start,
                    lag_ns=outage.request - outage.start,
                    duration_ns=outage.end - outage.start,
                )


class _Market:
    """All floors with what drives them, one grid cell after another."""

    def __init__(self, settings: SyntheticMarket) -> None:
        self._rate = settings.events_per_s
        self._plan = cycles(settings)
        self._upcoming: Cycle | None = next(self._plan, None)
        self._effects: list[Effect] = []
        self._cycle: Cycle | None = None
        self._switches = regime_switches(settings)
        self._switch = next(self._switches)
        self._regime = self._switch[1]
        listed = listings(settings)
        self._common = CommonShocks(draws(settings.seed, "common"), len(listed))
        self._prices = [
            EfficientPrice(each, draws(settings.seed, f"price {each.symbol}")) for each in listed
        ]
        self._floors = [
            Floor(each, price, draws(settings.seed, f"floor {each.symbol}"), source)
            for source, (each, price) in enumerate(zip(listed, self._prices, strict=True))
        ]

    def cell(self, start: int) -> list[Frame]:
        """Return the next grid cell's frames in receive order; ties by source."""
        self._turn(start)
        self._begin(start)
        self._common.step()
        frames: list[Frame] = []
        for symbol, (price, floor) in enumerate(zip(self._prices, self._floors, strict=True)):
            price.step(VOLATILITY_BPS[self._regime], self._common.felt_by(symbol))
            busy = ACTIVITY[self._regime] * (1.0 + _BUSIER_WITH_NEWS * price.boost)
            frames += floor.cell(start, self._rate * busy)
        frames.sort(key=_ts_recv)
        return frames

    def _turn(self, start: int) -> None:
        """Enter the regime and the cycle that hold at this instant."""
        while self._switch[0] <= start:
            self._regime = self._switch[1]
            self._switch = next(self._switches)
        if self._upcoming is not None and self._upcoming.start <= start:
            self._cycle = self._upcoming
            self._upcoming = next(self._plan, None)
            self._effects += self._cycle.effects
            self._effects.sort(key=lambda effect: (effect.onset, effect.symbol))

    def _begin(self, start: int) -> None:
        """Begin every episode whose time has come."""
        while self._effects and self._effects[0].onset < start + CELL_NS:
            effect = self._effects.pop(0)
            self._prices[effect.symbol].begin(effect)
        if self._cycle is None:
            return
        for drain in self._cycle.drains:
            if start <= drain.start < start + CELL_NS:
                self._floors[drain.symbol].drain(drain)
        for outage in self._cycle.outages:
            if start <= outage.start < start + CELL_NS:
                self._floors[outage.symbol].cut(outage)


def _ts_recv(frame: Frame) -> int:
    return frame.ts_recv


def _until(waiting: list[tuple[int, str, Published]], end: int) -> Iterator[Published]:
    while waiting and waiting[0][0] < end:
        yield heapq.heappop(waiting)[2]


def _created(path: Path) -> BinaryIO:
    # Neither a name nor a time in the header, so that the same tape gives the same file.
    if path.suffix == ".gz":
        return gzip.GzipFile(path, "wb", compresslevel=3, mtime=0)  # type: ignore[return-value] # GzipFile is a BinaryIO in all but name
    return path.open("wb")


def document_line(document: Document) -> bytes:
    """Return a document as one line of `documents.jsonl`."""
    return (
        msgspec.json.encode(
            {
                "source": document.source,
                "ts_published_ns": document.ts_published,
                "ts_recv_ns": document.ts_recv,
                "text": document.text,
                "lang": document.lang,
                "symbols": document.symbols,
                "author": document.author,
                "followers": document.followers,
            }
        )
        + b"\n"
    )
