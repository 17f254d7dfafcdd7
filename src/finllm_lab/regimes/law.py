"""The law of synthetic regimes: a hidden semi-Markov chain over rows, fitted to the training tapes.

A tape is cut into windows of clock time; how far the mid moved in each, how often, and how many rows
came, say which are calm, active or stressed within their session. Counted are then, per regime: which
symbol (waiting time, move; `finllm.edge.regime`) follows a short or a long wait, how long a regime lasts
in rows, and how touch imbalance bears on the next second. Only these sums are kept. The law is frozen:
its hash is a test.

Tried and left: assigning rows by expectation-maximisation. It parted recordings by the resolution of their
clocks, and hours by how exchanges batch their messages, not by how the market moved.

Source:
    Yu (2010), "Hidden semi-Markov models": dwell times here are negative binomial, in stages.
"""

import math
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import Flag
from finllm.domain.units import NS_PER_S
from finllm.edge.fitting import fit_three_way
from finllm.edge.regime import N_CONTEXTS, N_REGIMES, N_SYMBOLS, wait_class
from finllm_lab.cards import write_record
from finllm_lab.labels import BOOK_HORIZONS, GRID_NS, targets
from finllm_lab.tapes import Session

LAW: Final = Path(__file__).parent / "law.json"
WINDOW_NS: Final = 10 * NS_PER_S
LEAST_ROWS: Final = 500
"""Shorter stays are counted to the regime before: they are bursts."""
CUTS: Final = (0.4, 0.9)
"""Places among a session's windows, by wildness, that part calm from active from stressed."""
HORIZON_S: Final = 1.0
SMOOTH: Final = 0.5
"""Added to every count of a symbol."""

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Law(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a synthetic stream is drawn from."""

    files: tuple[str, ...]
    rows: int
    small: float
    large: float
    """Bounds of the classes of moves, in slow deviations per row."""
    largest: float
    """Longest move; chosen so that the deviation per row is one."""
    table: tuple[tuple[float, ...], ...]
    """[80, 3]: probability of each symbol, after a short wait and after a long one, in each regime."""
    dwell: tuple[float, float, float]
    """Mean rows that a regime lasts."""
    stages: tuple[int, int, int]
    """Stages of the dwell time; 1 = geometric."""
    after: tuple[tuple[float, ...], ...]
    """[3, 3]: which regime follows which."""
    touch: tuple[tuple[float, ...], ...]
    """[3, 4]: per regime, constant and slope of log(p_down / p_flat), then of log(p_up / p_flat), one second
    ahead, on touch imbalance."""
    wait_s: tuple[float, float]
    """Least and greatest mean wait of the sessions."""


def load_law(path: Path = LAW) -> Law:
    """Return the frozen law."""
    return msgspec.json.decode(path.read_bytes(), type=Law)


def law_hash(path: Path = LAW) -> str:
    """Return the SHA-256 of the law's file."""
    return sha256(path.read_bytes()).hexdigest()


def write_law(law: Law, path: Path = LAW) -> None:
    """Write a law; the same law, the same bytes."""
    write_record(path, law, indent=1)


def regimes_of(
    session: Session,
    window_ns: int = WINDOW_NS,
    least_rows: int = LEAST_ROWS,
    *,
    by_pace: bool = True,
) -> Ints:
    """Return each row's regime by how much its window moved, int64 [n], 0 to 2.

    Args:
        session: Rows of one instrument.
        window_ns: Length of a window.
        least_rows: Shorter stays are counted to the regime before.
        by_pace: Whether how often it moved and how many rows came count as well; not on bars.
    """
    heads = session.heads
    window = (heads["ts_recv"] - heads["ts_recv"][0]) // window_ns
    moves, _ = moves_of(session)
    n = int(window[-1]) + 1
    measures = (
        np.bincount(window, weights=moves**2, minlength=n),
        np.bincount(window, weights=moves != 0.0, minlength=n),
        np.bincount(window, minlength=n),
    )
    used = measures if by_pace else measures[:1]
    wildness = _ranks(np.sum([_ranks(measure.astype(np.float64)) for measure in used], axis=0))
    found = np.searchsorted(np.array(CUTS), wildness)[window].astype(np.int64)
    return _without_bursts(found, least_rows)


def _ranks(values: Doubles) -> Doubles:
    """Return each value's place among all, from 0 to 1; ties in the order of time."""
    place = np.empty(len(values))
    place[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / len(values)
    return place


def _without_bursts(found: Ints, least_rows: int) -> Ints:
    out = found.copy()
    for start, end in runs(found):
        if end - start < least_rows and start > 0:
            out[start:end] = out[start - 1]
    return out


def runs(states: Ints) -> list[tuple[int, int]]:
    """Return the runs of equal states as (start, end)."""
    edges = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
    return list(pairwise(edges))


def moves_of(session: Session) -> tuple[Doubles, NDArray[np.bool_]]:
    """Return each row's return in bps (0 where unknown), and which rows show one."""
    mid2 = session.heads["mid2"].astype(np.float64)
    good = (session.heads["flags"] & int(Flag.VALID) > 0) & (mid2 > 0)
    shows = np.zeros(len(mid2), dtype=bool)
    shows[1:] = good[1:] & good[:-1]
    moves = np.zeros(len(mid2))
    moves[shows] = (mid2[shows] / mid2[np.flatnonzero(shows) - 1] - 1.0) * 1e4
    return moves, shows


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One session in its own units."""

    regime: Ints
    wait: Doubles
    size: Doubles
    """Moves in the session's deviation per row."""
    shows: NDArray[np.bool_]
    mean_wait: float


def _shown(session: Session, regime: Ints) -> _Shown:
    moves, shows = moves_of(session)
    wait = np.diff(session.heads["ts_recv"], prepend=session.heads["ts_recv"][0]) / NS_PER_S
    mean = float(wait[shows].mean())
    return _Shown(
        regime=regime,
        wait=wait / mean,
        size=np.abs(moves) / math.sqrt(float((moves[shows] ** 2).mean())),
        shows=shows,
        mean_wait=mean,
    )


def _bounds(parts: Sequence[_Shown]) -> tuple[float, float]:
    moved = np.concatenate([part.size[part.shows & (part.size > 0)] for part in parts])
    return round(float(np.quantile(moved, 0.5)), 3), round(float(np.quantile(moved, 0.9)), 3)


def _seen(part: _Shown, small: float, large: float) -> Ints:
    """Return which row of the table each row of a session is; -1 where it shows nothing."""
    wait = np.array([wait_class(value) for value in part.wait.tolist()])
    size = np.searchsorted(np.array([0.0, small, large]), part.size)
    context = np.concatenate([[0], (wait[:-1] >= 4).astype(np.int64)])
    return np.where(part.shows, N_SYMBOLS * context + 4 * wait + size, -1).astype(np.int64)


def _counted(seen: Sequence[Ints], weights: Sequence[Doubles]) -> Doubles:
    counts = np.full((N_CONTEXTS * N_SYMBOLS, N_REGIMES), SMOOTH)
    for held, weight in zip(seen, weights, strict=True):
        np.add.at(counts, held[held >= 0], weight[held >= 0])
    shaped = counts.reshape(N_CONTEXTS, N_SYMBOLS, N_REGIMES)
    table: Doubles = (shaped / shaped.sum(axis=1, keepdims=True)).reshape(-1, N_REGIMES)
    return table


def _dwell(parts: Sequence[_Shown]) -> tuple[list[float], list[int], Doubles]:
    stays: list[list[int]] = [[] for _ in range(N_REGIMES)]
    after = np.full((N_REGIMES, N_REGIMES), SMOOTH)
    np.fill_diagonal(after, 0.0)
    for part in parts:
        spans = runs(part.regime)
        for start, end in spans:
            stays[part.regime[start]].append(end - start)
        for (start, _), (then, _) in pairwise(spans):
            after[part.regime[start], part.regime[then]] += 1.0
    means = [float(np.mean(held)) for held in stays]
    stages = [
        int(min(4, max(1, round(mean**2 / max(1.0, float(np.var(held)))))))
        for mean, held in zip(means, stays, strict=True)
    ]
    return means, stages, after / after.sum(axis=1, keepdims=True)


def _touch(
    sessions: Sequence[Session], parts: Sequence[_Shown], columns: tuple[int, int]
) -> Doubles:
    """Return per regime how touch imbalance bears on the next second, float64 [3, 4]."""
    imbalance, sigma = columns
    (horizon,) = (h for h in BOOK_HORIZONS if h.nominal_s == HORIZON_S)
    x, y, r = [], [], []
    for session, part in zip(sessions, parts, strict=True):
        found = targets(session, (horizon,), sigma, GRID_NS)
        known = found.label[:, 0] >= 0
        x.append(session.rows[found.at[known], imbalance])
        y.append(found.label[known, 0])
        r.append(part.regime[found.at[known]])
    imbalances, labels, regime = np.concatenate(x), np.concatenate(y), np.concatenate(r)
    out = np.zeros((N_REGIMES, 4))
    for k in range(N_REGIMES):
        a, b = imbalances[regime == k], labels[regime == k]
        both = np.concatenate([a, -a]).astype(np.float32), np.concatenate([b, 2 - b])
        fit_three_way(both[0], both[1].astype(np.float32), 1.0, np.zeros(4), 1.0, out[k])
    return out


def _second_moment(low: float, high: float) -> float:
    """Return E[s^2] of a size whose logarithm is uniform between two bounds."""
    return (high**2 - low**2) / (2.0 * math.log(high / low))


def _largest(share: Doubles, small: float, large: float) -> float:
    """Return the longest move that makes the mean square one, at least 1.1 and at most 100 large."""
    held = share[1] * _second_moment(small / 8.0, small) + share[2] * _second_moment(small, large)
    low, high = 1.1 * large, 100.0 * large
    for _ in range(60):
        middle = math.sqrt(low * high)
        if held + share[3] * _second_moment(large, middle) > 1.0:
            high = middle
        else:
            low = middle
    return low


def fit_law(sessions: Sequence[Session], columns: tuple[int, int], files: Sequence[str]) -> Law:
    """Return the law that sessions show.

    Args:
        sessions: Training sessions.
        columns: Places of touch imbalance and of sigma in a row.
        files: What they were read from.
    """
    parts = [_shown(session, regimes_of(session)) for session in sessions]
    small, large = _bounds(parts)
    seen = [_seen(part, small, large) for part in parts]
    table = _counted(seen, [np.eye(N_REGIMES)[part.regime] for part in parts])
    sizes = np.concatenate([part.size[part.shows] for part in parts])
    share = np.bincount(np.concatenate(seen)[np.concatenate(seen) >= 0] % 4, minlength=4) / len(
        sizes
    )
    dwell, stages, after = _dwell(parts)
    touch = _touch(sessions, parts, columns)
    waits = [part.mean_wait for part in parts]
    return Law(
        files=tuple(files),
        rows=len(sizes),
        small=small,
        large=large,
        largest=round(_largest(share, small, large), 3),
        table=_rounded(table, 8),
        dwell=(round(dwell[0], 1), round(dwell[1], 1), round(dwell[2], 1)),
        stages=(stages[0], stages[1], stages[2]),
        after=_rounded(after, 6),
        touch=_rounded(touch, 4),
        wait_s=(round(min(waits), 6), round(max(waits), 6)),
    )


def _rounded(values: Doubles, digits: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(v, digits) for v in row) for row in values.tolist())
