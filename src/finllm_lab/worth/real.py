"""The two-speed table on real text and prices: the served pipeline over recorded bars and documents.

Each set is replayed once for each way of asking; what was said is held against the edge alone. Recorded files
are found by the beginning of their names, several go on where one ends, so that later recordings laid beside
the known ones are scored by `later`.
"""

import bisect
import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.records import open_ledger
from finllm.app.replay import Inputs, replay
from finllm.app.settings import (
    EdgeSettings,
    LedgerSettings,
    ReasoningSettings,
    ReplaySettings,
    Settings,
)
from finllm.audit.sample import RevisionCount, Sample, assemble, gather_forecasts, gather_revisions
from finllm.audit.scorecard import Stage
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.market import Bar
from finllm.domain.protocol import Applied, Escalate, Hold, Revision
from finllm.domain.units import NS_PER_DAY, parse_instant
from finllm.edge.artifact import DAY
from finllm.escalation.gate import GateSettings
from finllm.market.bars import read_bars
from finllm.narrative.sources.documents import read_documents
from finllm.runtime.tally import Tally
from finllm_lab.realised import log_ranges, variances
from finllm_lab.statements import released
from finllm_lab.worth.figures import Line, Seen, line, usable
from finllm_lab.worth.ranges import predicted

Floats = NDArray[np.float64]
TRAIN: Final = "train"
VALIDATE: Final = "val"
LATER: Final = "later"
PARTS: Final = (TRAIN, VALIDATE, LATER)
WARM_UP_DAYS: Final = 400
"""Days of bars before the burn-in that warm the edge up."""
MEMORY_DAYS: Final = 9
"""Days of documents before the burn-in; the room looks back on less."""
_FOREVER: Final = "2100-01-01"
_BARS: Final = ("instrument", "ts_start", "ts_recv", "open", "high", "low", "close", "volume")
_OF_TWEETS: Final = {
    TRAIN: ("2015-06-01", "2015-08-01"),
    VALIDATE: ("2015-08-01", "2015-10-01"),
    LATER: ("2015-10-01", _FOREVER),
}
"""Spans of the sets of tweets: hourly and daily bars are scored on the same texts."""


class RealSet(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded bars and documents that belong together."""

    name: str
    bars: str
    """Files under `text_price/`, by a pattern."""
    documents: str
    symbols: frozenset[str] = frozenset()
    """Only these symbols' bars; empty = all."""
    horizon: str
    """The horizon that is scored."""
    model: str = ""
    """Folder of the bars' model; empty = the one that ships."""
    spans: dict[str, tuple[str, str]]
    """From and to by part."""
    burn_in_days: int = 30
    """Days before a part that are replayed, so that the level of a deviation is known when it begins."""
    foresees_ranges: bool = False
    """Whether the ranges of bars are foreseen as well, in the workshop beside the walk."""


SETS: Final = (
    RealSet(
        name="tweets-hourly",
        bars="us_bars_hourly_*.csv.gz",
        documents="stock_tweets_*.jsonl.gz",
        horizon="1bar",
        spans=_OF_TWEETS,
    ),
    RealSet(
        name="tweets-daily",
        bars="stock_prices_daily_*.csv.gz",
        documents="stock_tweets_*.jsonl.gz",
        horizon="1d",
        model=str(DAY),
        spans=_OF_TWEETS,
    ),
    RealSet(
        name="posts",
        bars="posts_spy_*.csv",
        documents="posts_spy_*.csv",
        horizon="1bar",
        spans={
            TRAIN: ("2025-01-20", "2025-06-15"),
            VALIDATE: ("2025-06-15", "2025-08-01"),
            LATER: ("2025-08-01", _FOREVER),
        },
        burn_in_days=120,
        foresees_ranges=True,
    ),
    RealSet(
        name="fomc",
        bars="us_bars_hourly_*.csv.gz",
        documents="fomc_statements_*.jsonl",
        symbols=frozenset({"SPY"}),
        horizon="1bar",
        spans={
            TRAIN: ("2005-01-01", "2013-01-01"),
            VALIDATE: ("2013-01-01", "2015-01-01"),
            LATER: ("2015-01-01", _FOREVER),
        },
    ),
)


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one replay left behind."""

    sample: Sample
    revised: RevisionCount
    notices: int
    """Put to the gate within the part."""
    calls: int


def sets_of(names: Iterable[str]) -> tuple[RealSet, ...]:
    """Return the sets of these names; all where none is named.

    Raises:
        InputError: If there is none of a name.
    """
    wanted = tuple(names)
    known = {one.name: one for one in SETS}
    for name in wanted:
        if name not in known:
            raise InputError("no such set", place=f"--set {name}", mend=f"Say {', '.join(known)}.")
    return tuple(known[name] for name in wanted) or SETS


def ready(data: Path, sets: Iterable[RealSet]) -> None:
    """See that the files of some sets are there, without reading them.

    Raises:
        InputError: If one is missing.
    """
    for one in sets:
        for pattern in (one.bars, one.documents):
            _files(data / "text_price", pattern)


def table(data: Path, one: RealSet, part: str) -> list[Line]:
    """Return a set's lines: the edge alone, the gate as served, always asking, chance by the gate's share.

    Args:
        data: Folder that holds `text_price/`.
        one: The set.
        part: One of `PARTS`.

    Raises:
        InputError: If a file is missing, or nothing of the part is in the files.
    """
    since, until = (parse_instant(instant) for instant in one.spans[part])
    with TemporaryDirectory() as folder:
        scene = _Scene(data / "text_price", one, since, until, Path(folder))
        gate = scene.run("gate", GateSettings())
        always = scene.run("always", ALWAYS)
        chance = scene.run("random", _by_chance(gate))
        lines = [scene.line(part, "edge only", gate, Stage.EDGE, None)]
        asked = scene.line(part, "always", always, Stage.IN_FORCE, None)
        for policy, run in (("gate", gate), ("always", always), ("random", chance)):
            lines.append(scene.line(part, policy, run, Stage.IN_FORCE, asked.vol_all.value))
    return lines


ALWAYS: Final = GateSettings(min_gain=0.0, copy_novelty=0.0, budget_per_min=1_000_000)
"""Asks whatever is new and not within the bars' least interval."""


def _by_chance(gate: _Run) -> GateSettings:
    """Return a gate that asks as large a share of the notices as another did, drawn from their ids."""
    share = gate.calls / max(1, gate.notices)
    return GateSettings(learn=True, min_gain=1e9, explore=share, call_share=1.0)


class _Scene:
    """One set over one part: its inputs, and what prices did.

    Args:
        folder: `text_price`.
        one: The set.
        since: Start of the part, ns.
        until: Its end, ns.
        scratch: Where inputs and runs are written.
    """

    def __init__(self, folder: Path, one: RealSet, since: int, until: int, scratch: Path) -> None:
        self._set, self._since, self._until, self._scratch = one, since, until, scratch
        self._bars = _bars(folder, one, until)
        self._from = since - one.burn_in_days * NS_PER_DAY
        _write_bars(scratch / "bars.csv", self._bars)
        remembered = self._from - MEMORY_DAYS * NS_PER_DAY
        found = [each for each in _documents(folder, one) if each.ts_recv < until]
        _write_documents(
            scratch / "documents.jsonl", (each for each in found if each.ts_recv >= remembered)
        )
        self._posts = found if one.foresees_ranges else []

    def run(self, policy: str, gate: GateSettings) -> _Run:
        """Replay the set under a gate."""
        folder = self._scratch / policy
        settings = Settings(
            edge=EdgeSettings(bar_artifact=self._set.model),
            escalation=gate,
            reasoning=ReasoningSettings(explain=False),
            ledger=LedgerSettings(group=20_000),
            replay=ReplaySettings(warm_up_days=WARM_UP_DAYS),
        )
        inputs = Inputs(
            bars=self._scratch / "bars.csv",
            documents=self._scratch / "documents.jsonl",
            symbols=self._set.symbols,
            since=self._from,
            until=self._until,
        )
        replay(inputs, settings, folder)
        with open_ledger(folder) as ledger:
            revised = gather_revisions(ledger.records(Revision), Tally())
            made = (f for f in ledger.records(Forecast) if f.horizon == self._set.horizon)
            columns = gather_forecasts(made, Tally())
            sample = assemble(columns, ledger.records(Outcome), revised, Tally())
            calls = sum(self._since <= one.ts < self._until for one in ledger.records(Escalate))
            holds = sum(self._since <= one.ts < self._until for one in ledger.records(Hold))
        return _Run(sample=sample, revised=revised, notices=calls + holds, calls=calls)

    def line(self, part: str, policy: str, run: _Run, stage: Stage, always: float | None) -> Line:
        """Return a policy's line.

        Raises:
            InputError: If nothing can be scored.
        """
        variance = self._by_row(run.sample, variances)
        rows = usable(run.sample, variance, self._since, self._until)
        if not len(rows):
            raise InputError(
                "nothing of this part can be scored",
                place=f"{self._set.name} {part}",
                mend="Lay the recordings of that time under text_price/.",
            )
        is_edge = stage is Stage.EDGE
        return line(
            Seen(sample=run.sample, rows=rows, variance=variance),
            stage,
            name=(self._set.name, part, policy),
            notices=run.notices,
            calls=0 if is_edge else run.calls,
            late=0 if is_edge else run.revised.counts[Applied.LATE],
            always=always,
            ranges=self._ranges(run.sample, stage) if self._set.foresees_ranges else None,
        )

    def _ranges(self, sample: Sample, stage: Stage) -> tuple[Floats, Floats]:
        """Return by row the next bar's log range foreseen and realised; the edge reads no text."""

        def foreseen(bars: Sequence[Bar]) -> Floats:
            is_edge = stage is Stage.EDGE
            return predicted(bars, None if is_edge else first_texts(bars, self._posts))

        return self._by_row(sample, foreseen), self._by_row(sample, log_ranges)

    def _by_row(self, sample: Sample, figures: Callable[[Sequence[Bar]], Floats]) -> Floats:
        """Return by row the next bar's figure, [n]; nan where none follows."""
        found = np.full(len(sample), np.nan)
        for code, key in enumerate(sample.instruments):
            bars = self._bars[key]
            ends = np.array([bar.ts_recv for bar in bars], dtype=np.int64)
            rows = np.flatnonzero(sample.instrument == code)
            following = np.searchsorted(ends, sample.ts_recv[rows], side="right")
            rows, following = rows[following < len(bars)], following[following < len(bars)]
            found[rows] = figures(bars)[following]
        return found


def first_texts(bars: Sequence[Bar], documents: Iterable[Document]) -> list[str]:
    """Return the text of the first document published within each bar, empty where there is none.

    Args:
        bars: In order.
        documents: In order.
    """
    starts = [bar.ts_start for bar in bars]
    found = [""] * len(bars)
    for each in documents:
        at = bisect.bisect_right(starts, each.ts_published) - 1
        if at >= 0 and each.ts_published < bars[at].ts_recv and not found[at]:
            found[at] = each.text
    return found


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(
            "there is no such file",
            place=str(folder / pattern),
            mend="Point --data at the folder that holds text_price/.",
        )
    return found


def _bars(folder: Path, one: RealSet, until: int) -> dict[str, list[Bar]]:
    """Return the bars before an instant by instrument, in order of receipt; splits are worked in by file."""
    found: dict[str, dict[int, Bar]] = {}
    for path in _files(folder, one.bars):
        for bar in read_bars(path, tally=Tally(), symbols=one.symbols or None):
            if bar.ts_recv < until:
                found.setdefault(bar.instrument, {}).setdefault(bar.ts_recv, bar)
    return {key: [held[ts] for ts in sorted(held)] for key, held in found.items()}


def _documents(folder: Path, one: RealSet) -> Iterator[Document]:
    """Yield a set's documents in order of receipt, each once."""
    paths = _files(folder, one.documents)
    if one.name == "fomc":
        read: Iterable[object] = itertools.chain.from_iterable(
            released(path.read_bytes()) for path in paths
        )
    else:
        read = itertools.chain.from_iterable(read_documents(p, tally=Tally()) for p in paths)
    made = {each.document_id: each for each in read if isinstance(each, Document)}
    yield from sorted(made.values(), key=lambda each: (each.ts_recv, each.document_id))


def _write_bars(path: Path, bars: dict[str, list[Bar]]) -> None:
    merged = sorted(itertools.chain.from_iterable(bars.values()), key=lambda bar: bar.ts_recv)
    with path.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(_BARS)
        rows.writerows([getattr(bar, name) for name in _BARS] for bar in merged)


def _write_documents(path: Path, documents: Iterable[Document]) -> None:
    with path.open("wb") as out:
        for each in documents:
            row = {
                "ts_published_ns": each.ts_published,
                "ts_recv_ns": each.ts_recv,
                "source": each.source,
                "lang": each.lang,
                "text": each.text,
                "symbols": each.symbols,
                "author": each.author,
                "followers": each.followers,
                "retweet": int(each.is_repost),
                "verified": int(each.is_verified),
                "flags": each.flags,
            }
            out.write(msgspec.json.encode(row) + b"\n")
