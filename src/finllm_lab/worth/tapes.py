"""What the law of the known worlds is fitted to: volatility, jumps and documents on the training tapes.

Reads only what is marked for training. Knows nothing of the worlds: it measures, and the law's constants
(`finllm.market.known.law`) name the figure that they were taken from.
"""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINANCE: Final = (
    "usdm_btcusdt_20230404",
    "usdm_btcusdt_20230405",
    "usdm_btcusdt_20240718",
    "usdm_btcusdt_20240719",
    "usdm_ethusdt_20240718",
    "usdm_ethusdt_20240719",
)
TICK_DAYS: Final = ("20131007", "20131008", "20131009")
OPEN_MS: Final = 34_200_000
CLOSE_MS: Final = 57_600_000
BARS_UNTIL: Final = "2015-08-01"
JUMP: Final = 4.0
"""A one-minute return of so many local deviations is a jump."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Figures from the training tapes."""

    sigma_10s_bps: dict[str, float]
    """Standard deviation of 10 s returns."""
    log_vol_sd: float
    """Standard deviation of the log of five-minute realised volatility about its usual value for the
    time of day."""
    log_vol_half_life_s: float
    regime_ratio: tuple[float, float, float]
    """Median volatility of the lowest 60 %, next 30 % and highest 10 % of five-minute spans, over the
    first's."""
    regime_share_hourly: tuple[float, float, float]
    """Median absolute hourly return (mean of three) of the same three parts, over the first's."""
    dwell_s: tuple[float, float, float]
    """Mean length of a stay in each part."""
    jumps_per_day: float
    """One-minute returns beyond `JUMP` local deviations, per trading day of 6.5 h and instrument."""
    jump_size: tuple[float, float]
    """Median and 0.9 quantile of their size over the usual deviation of ten minutes."""
    jump_volatility: float
    """Realised volatility of the five minutes after a jump over that before, median."""
    documents_per_hour: dict[str, float]
    """Posts an hour, 9 to 17 h New York on trading days, of the five symbols with most."""
    repost_share: float
    """Posts whose words had been posted before."""
    burst: float
    """Variance over mean of the number of posts in five minutes: 1 = no bursts."""


def measure(data: Path) -> Measured:
    """Return the figures of the training tapes under a data folder."""
    minutes = [_minutes(data, symbol, day) for symbol in ("spy", "aig") for day in TICK_DAYS]
    sd, half_life, ratio, dwell = _volatility(minutes)
    jumps, size, volatility = _jumps(minutes)
    per_hour, reposts, burst = _documents(data / "text_price/stock_tweets_2014_201509.jsonl.gz")
    return Measured(
        sigma_10s_bps=_deviations(data),
        log_vol_sd=sd,
        log_vol_half_life_s=half_life,
        regime_ratio=ratio,
        regime_share_hourly=_hourly(data / "text_price/us_bars_hourly_to_201509.csv.gz"),
        dwell_s=dwell,
        jumps_per_day=jumps,
        jump_size=size,
        jump_volatility=volatility,
        documents_per_hour=per_hour,
        repost_share=reposts,
        burst=burst,
    )


def _last_prices(ts: Floats, price: Floats, edges: Floats) -> Floats:
    at = np.searchsorted(ts, edges, side="right") - 1
    prices: Floats = price[np.maximum(at, 0)]
    return prices


def _trades(data: Path, symbol: str, day: str) -> tuple[Floats, Floats]:
    path = data / f"orderbook/us_ticks/{symbol}_{day}_trade.csv.gz"
    rows = np.loadtxt(path, delimiter=",", usecols=(0, 1, 5), dtype=np.float64)
    rows = rows[rows[:, 2] == 0]
    return rows[:, 0], rows[:, 1]


def _minutes(data: Path, symbol: str, day: str) -> Floats:
    """Return a trading day's one-minute log returns in bps, float64 [390]."""
    ts, price = _trades(data, symbol, day)
    edges = np.arange(OPEN_MS, CLOSE_MS + 1, 60_000, dtype=np.float64)
    returns: Floats = np.diff(np.log(_last_prices(ts, price, edges))) * 1e4
    return returns


def _deviations(data: Path) -> dict[str, float]:
    found = {}
    for name in BINANCE:
        ts, mid = [], []
        with gzip.open(data / f"orderbook/binance_frames/{name}.ndjson.gz", "rt") as file:
            for line in file:
                if "@bookTicker" not in line[:80]:
                    continue
                stamp, _, frame = line.partition(" ")
                told = json.loads(frame)["data"]
                ts.append(float(stamp) / (1e3 if name.endswith(("04", "05")) else 1e6))
                mid.append((float(told["b"]) + float(told["a"])) / 2.0)
        edges = np.arange(ts[0], ts[-1], 10_000.0)
        returns = np.diff(np.log(_last_prices(np.array(ts), np.array(mid), edges)))
        found[name] = round(float(returns.std() * 1e4), 3)
    for symbol in ("spy", "aig"):
        edges = np.arange(OPEN_MS, CLOSE_MS, 10_000.0)
        days = [np.log(_last_prices(*_trades(data, symbol, day), edges)) for day in TICK_DAYS]
        found[symbol] = round(float(np.concatenate([np.diff(d) for d in days]).std() * 1e4), 3)
    return found


def _volatility(
    minutes: list[Floats],
) -> tuple[float, float, tuple[float, float, float], tuple[float, float, float]]:
    spans = np.array([np.sqrt((d.reshape(-1, 5) ** 2).mean(axis=1)) for d in minutes])
    logs = np.log(np.maximum(spans, 1e-3))
    half = len(logs) // 2
    logs = np.concatenate([part - part.mean(axis=0) for part in (logs[:half], logs[half:])])
    # Five returns tell volatility with an error of 1 / sqrt(2 x 5) in its log, which has no memory.
    lag1 = float((logs[:, 1:] * logs[:, :-1]).mean())
    lag3 = float((logs[:, 3:] * logs[:, :-3]).mean())
    decay = (lag3 / lag1) ** 0.5 if 0.0 < lag3 < lag1 else 0.5
    sd = float(np.sqrt(lag1 / decay))
    order = np.argsort(np.argsort(spans.ravel())) / spans.size
    state = np.digitize(order, (0.6, 0.9))
    median = [float(np.median(spans.ravel()[state == k])) for k in range(3)]
    stays: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for day in state.reshape(spans.shape):
        cuts = np.flatnonzero(np.diff(day)) + 1
        for run in np.split(day, cuts):
            stays[int(run[0])].append(len(run))
    dwell = tuple(round(300.0 * float(np.mean(stays[k])), 1) for k in range(3))
    ratio = tuple(round(m / median[0], 3) for m in median)
    half_life = 300.0 * np.log(0.5) / np.log(decay)
    return round(sd, 3), round(float(half_life), 1), ratio, dwell  # type: ignore[return-value]  # three of each


def _hourly(path: Path) -> tuple[float, float, float]:
    closes: dict[str, list[float]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            if row["bar_start_ny"] < BARS_UNTIL:
                closes.setdefault(row["symbol"], []).append(float(row["close"]))
    moves = []
    for prices in closes.values():
        size = np.abs(np.diff(np.log(prices)))
        smooth = np.convolve(size, np.ones(3) / 3.0, mode="valid")
        moves.append(smooth / np.median(smooth))
    everything = np.concatenate(moves)
    low, high = np.quantile(everything, (0.6, 0.9))
    parts = (
        everything[everything <= low],
        everything[(everything > low) & (everything <= high)],
        everything[everything > high],
    )
    calm = float(np.median(parts[0]))
    a, b, c = (round(float(np.median(part)) / calm, 3) for part in parts)
    return a, b, c


def _jumps(minutes: list[Floats]) -> tuple[float, tuple[float, float], float]:
    sizes, after, n = [], [], 0
    for day in minutes:
        for i in range(30, len(day) - 6):
            before = day[i - 30 : i]
            # Bipower variation does not see jumps (Barndorff-Nielsen & Shephard 2004).
            local = np.sqrt(np.pi / 2.0 * (np.abs(before[1:]) * np.abs(before[:-1])).mean())
            if abs(day[i]) > JUMP * max(local, 0.3):
                n += 1
                sizes.append(abs(day[i]) / (local * np.sqrt(10.0)))
                earlier = np.sqrt((day[i - 5 : i] ** 2).mean())
                after.append(np.sqrt((day[i + 1 : i + 6] ** 2).mean()) / max(earlier, 0.3))
    size = (round(float(np.median(sizes)), 3), round(float(np.quantile(sizes, 0.9)), 3))
    return round(n / len(minutes), 2), size, round(float(np.median(after)), 3)


def _documents(path: Path) -> tuple[dict[str, float], float, float]:
    by_symbol: dict[str, list[int]] = {}
    seen: set[str] = set()
    n = repeats = 0
    for post in _posts(path):
        words = " ".join(w for w in post["text"].lower().split() if w[0] not in "@$#h")
        words = words.removeprefix("rt ")
        n, repeats = n + 1, repeats + (words in seen)
        seen.add(words)
        by_symbol.setdefault(post["symbol"], []).append(post["ts_ms"])
    most = sorted(by_symbol, key=lambda s: -len(by_symbol[s]))[:5]
    per_hour, bursts = {}, []
    for symbol in most:
        hour = np.array(by_symbol[symbol]) / 3_600_000.0 - 5.0
        inside = hour[(hour % 24 >= 9) & (hour % 24 < 17)]
        days = len({int(h // 24) for h in inside})
        per_hour[symbol] = round(len(inside) / days / 8.0, 2)
        slots = Counter((inside * 12).astype(int).tolist())
        counts = np.zeros(days * 96)
        counts[: len(slots)] = list(slots.values())
        bursts.append(float(counts.var() / counts.mean()))
    return per_hour, round(repeats / n, 3), round(float(np.mean(bursts)), 2)


def _posts(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        for line in file:
            post = json.loads(line)
            if post["split"] == "train":
                yield post
