"""Real texts beside real bars: the honest figure on what was kept back.

Nobody knows which tweet moved a price, so what is measured is weaker than on planted causes: does a
text fit what the market did around it better than what it did on other days? Time itself is withheld.
"""

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from finllm.domain.errors import InputError
from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.domain.market import Bar
from finllm.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_MS, parse_instant
from finllm.market.bars import read_bars
from finllm.narrative.alignment.anomalies import (
    AFTER,
    BEFORE,
    CHANNELS,
    N_CHANNELS,
    Anomaly,
    AnomalyDetector,
    Window,
)
from finllm.narrative.alignment.space import AlignedSpace, fit
from finllm.narrative.reading.encoder import Encoder
from finllm.narrative.reading.linking import Linker
from finllm.narrative.reading.reader import Reader
from finllm.narrative.text.canonical import canonical_text
from finllm.runtime.tally import Tally
from finllm_lab.alignment.baselines import describe, lexical_all
from finllm_lab.alignment.cases import Array, CaseReader

TWEETS: Final = "text_price/stock_tweets_2014_201509.jsonl.gz"
HOURS: Final = "text_price/us_bars_hourly_to_201509.csv.gz"
POSTS: Final = "text_price/posts_spy_2025_to_july.csv"
TWEETED: Final = ("AAPL", "BAC")
"""Symbols that have both tweets and hourly bars."""
TWEETS_VAL: Final = parse_instant("2015-08-01")
POSTS_VAL: Final = parse_instant("2025-06-15")
APART_NS: Final = 5 * NS_PER_DAY
"""A text this far from a window does not belong to it."""
N_CANDIDATES: Final = 100
MOST_A_BAR: Final = 3
"""Tweets of one symbol and bar that are used; a third are copies, and one story is one story."""
_NOTABLE: Final = 1.5
"""z-score from which the baseline puts a channel into words."""


class Dated(msgspec.Struct, frozen=True, kw_only=True):
    """A text with what the market did around it."""

    text: str
    features: Array
    window: Window
    symbol: str
    ts: int


def _of_bar(bar: Bar, before: float) -> Array:
    values = np.full(N_CHANNELS, np.nan)
    values[0] = (bar.close / before - 1.0) * 1e4
    values[1] = np.log(max((bar.high - bar.low) / bar.close * 1e4, 0.1))
    if bar.volume > 0.0:
        values[5] = np.log1p(bar.volume)
    return values


def tweets(data: Path, encoder: Encoder, heads: Reader, since: int = TWEETS_VAL) -> list[Dated]:
    """Return tweets on AAPL and BAC from an instant on with the hourly bars around them, by time.

    Raises:
        InputError: If a file cannot be read.
    """
    linker = Linker()
    detectors: dict[str, AnomalyDetector] = {}
    starts: dict[str, list[int]] = {}
    last: dict[str, float] = {}
    for bar in read_bars(data / HOURS, tally=Tally(), symbols=frozenset(TWEETED)):
        if bar.ts_start < TWEETS_VAL - 900 * NS_PER_DAY:
            continue
        detector = detectors.setdefault(bar.instrument, AnomalyDetector(bar.instrument))
        before = last.get(bar.instrument, bar.open)
        detector.push(bar.ts_start, bar.ts_recv, _of_bar(bar, before))
        starts.setdefault(bar.instrument, []).append(bar.ts_start)
        last[bar.instrument] = bar.close
    for instrument in detectors:
        linker.watch(instrument)
    reader = CaseReader(encoder, heads, linker)
    used: dict[tuple[str, int], set[str]] = {}
    found = []
    for row in _tweet_rows(data / TWEETS):
        instrument = f"us-equity:{row['symbol']}"
        ts = row["ts_ms"] * NS_PER_MS
        if ts < since:
            continue
        at = int(np.ceil(detectors[instrument].position(ts))) - 1
        at = min(max(at, 0), len(starts[instrument]) - 1)
        start = starts[instrument][at]
        told = used.setdefault((instrument, start), set())
        key = canonical_text(row["text"])[:40]
        if len(told) >= MOST_A_BAR or key in told or row["retweet"]:
            continue
        told.add(key)
        one = _dated(reader, detectors[instrument].window(start), row["text"], instrument, ts)
        found += [one] if one is not None else []
    return found


def _tweet_rows(path: Path) -> Iterable[dict[str, Any]]:
    try:
        with gzip.open(path) as file:
            rows = [msgspec.json.decode(line) for line in file]
    except OSError as error:
        raise InputError(
            f"cannot be read: {error}", place=str(path), mend="Name the data's folder with --data."
        ) from error
    rows = [row for row in rows if row["symbol"] in TWEETED]
    return sorted(rows, key=lambda row: (row["ts_ms"], row["text"]))


def posts(data: Path, encoder: Encoder, heads: Reader, since: int = POSTS_VAL) -> list[Dated]:
    """Return posts from an instant on, by time, with the minute of SPY around each; only it is known.

    Raises:
        InputError: If the file cannot be read.
    """
    linker = Linker()
    linker.watch("us-equity:SPY")
    reader = CaseReader(encoder, heads, linker)
    detector = AnomalyDetector("us-equity:SPY")
    texts: dict[int, list[tuple[int, str]]] = {}
    try:
        with (data / POSTS).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                ts = int(row["ts_ms"]) * NS_PER_MS
                texts.setdefault(ts // NS_PER_MIN, []).append((ts, row["text"]))
    except OSError as error:
        raise InputError(
            f"cannot be read: {error}", place=str(data / POSTS), mend="Name the data with --data."
        ) from error
    found = []
    for bar in read_bars(data / POSTS, tally=Tally()):
        detector.push(bar.ts_start, bar.ts_recv, _of_bar(bar, bar.open))
        window = np.full((BEFORE + AFTER, N_CHANNELS), np.nan)
        window[BEFORE] = detector.window(bar.ts_start)[BEFORE]
        for ts, text in texts.get(bar.ts_start // NS_PER_MIN, []):
            if ts < since:
                continue
            one = _dated(reader, window, text, "us-equity:SPY", ts)
            found += [one] if one is not None else []
    return found


def _dated(reader: CaseReader, window: Window, text: str, instrument: str, ts: int) -> Dated | None:
    """Return a text about an instrument, whether or not it names it; None if nothing is left of it."""
    document = Document(
        document_id=content_id("tape", ts, text),
        source="tape",
        ts_published=ts,
        ts_recv=ts,
        text=text,
        symbols=(instrument.rpartition(":")[2],),
    )
    claims = reader.claims(document, instrument)
    if not claims or not np.isfinite(window).any():
        return None
    return Dated(
        text=claims[0].quote,
        features=reader.features(claims[0]),
        window=window,
        symbol=instrument,
        ts=ts,
    )


class TapeScore(msgspec.Struct, frozen=True, kw_only=True):
    """How well the right text is told from texts of other days; intervals by bootstrap over days."""

    n: int
    n_days: int
    auc: float
    auc_low: float
    auc_high: float
    recall_5: float
    """Of the right one among 100; by chance 0.05."""
    recall_5_low: float
    recall_5_high: float


def score_tape(found: list[Dated], fitting: Array, seed: int = 3) -> TapeScore:
    """Return the score of a matrix of fits, [window, text].

    Args:
        found: Texts and windows, n of each.
        fitting: [n, n].
        seed: Of the candidates and the bootstrap.
    """
    rng = np.random.default_rng(seed)
    ts = np.array([one.ts for one in found])
    symbols = np.array([one.symbol for one in found])
    aucs, hits, days = [], [], []
    for i, one in enumerate(found):
        far = np.flatnonzero((np.abs(ts - one.ts) >= APART_NS) & (symbols == one.symbol))
        if len(far) < N_CANDIDATES - 1:
            continue
        others = fitting[i, far]
        mine = fitting[i, i]
        aucs.append(float((others < mine).mean() + 0.5 * (others == mine).mean()))
        chosen = rng.choice(others, size=(4, N_CANDIDATES - 1))
        place = 1.0 + (chosen > mine).sum(axis=1) + 0.5 * (chosen == mine).sum(axis=1)
        hits.append(float((place <= 5.0).mean()))
        days.append(one.ts // NS_PER_DAY)
    auc, recall = _by_day(np.array(aucs), days, rng), _by_day(np.array(hits), days, rng)
    return TapeScore(
        n=len(aucs),
        n_days=len(set(days)),
        auc=auc[0],
        auc_low=auc[1],
        auc_high=auc[2],
        recall_5=recall[0],
        recall_5_low=recall[1],
        recall_5_high=recall[2],
    )


def _by_day(values: Array, days: list[int], rng: np.random.Generator) -> tuple[float, float, float]:
    _, at = np.unique(days, return_inverse=True)
    sums = np.bincount(at, weights=values)
    counts = np.bincount(at).astype(np.float64)
    draw = rng.integers(len(sums), size=(2_000, len(sums)))
    means = sums[draw].sum(axis=1) / counts[draw].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return round(float(values.mean()), 4), round(float(low), 4), round(float(high), 4)


def fits(found: list[Dated], space: AlignedSpace) -> Array:
    """Return how well each text fits each window in the space, [window, text]."""
    texts = space.texts([one.features for one in found])
    return np.array([fit(texts, space.market(one.window, one.ts)) for one in found])


def words_fit(found: list[Dated]) -> Array:
    """Return the lexical baseline, [window, text]."""
    queries = [
        describe(_notable(one), (one.symbol.rpartition(":")[2],)).partition(" move at ")[0]
        for one in found
    ]
    return lexical_all(queries, [one.text for one in found])


def _notable(one: Dated) -> list[Anomaly]:
    z = one.window[BEFORE]
    return [
        Anomaly(
            anomaly_id="",
            move_id="",
            instrument=one.symbol,
            channel=name,
            ts_start=one.ts,
            ts_recv=one.ts,
            value=0.0,
            z_score=float(score),
        )
        for name, score in zip(CHANNELS, z, strict=True)
        if abs(score) >= _NOTABLE or name == "return"
    ]
