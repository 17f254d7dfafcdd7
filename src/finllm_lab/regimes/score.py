"""How soon, and how wrongly, switches of regime are found: the edge's watch beside the oracle.

A switch is found when the new regime is reported within `WITHIN` rows of it and before it ends. A report
is a false alarm when the regime reported is not the one that holds at that row, late ones after the next
switch included. Each detector has the lowest threshold that kept to the budget of false alarms on the
tuning seeds. The rows before `BURN` are not counted: an instrument's own scales are found out there.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.edge.artifact import RegimeRule
from finllm_lab.regimes.law import Law
from finllm_lab.regimes.oracle import beliefs, confirmed
from finllm_lab.regimes.rules import Times, Watched, learn, walk
from finllm_lab.regimes.stream import Stream, draw

TIMES: Final = Times(row_s=0.0, fast_s=30.0, slow_s=3_600.0, least_n=2_000.0, prior_s=0.0)
WITHIN: Final = 200
BURN: Final = 100_000
ROWS: Final = 600_000
BUDGET: Final = 0.9
"""False alarms per 100,000 rows aimed at on the tuning seeds; one is allowed."""
THRESHOLDS: Final = (0.9, 0.93, 0.95, 0.96, 0.965, 0.97, 0.975, 0.98, 0.985, 0.99)
TRAIN_SEEDS: Final = tuple(range(100, 104))
TUNE_SEEDS: Final = tuple(range(500, 510))
UNSEEN_SEEDS: Final = tuple(range(90_001, 90_021))

Ints = NDArray[np.int64]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one detector made of a set of streams."""

    threshold: float
    switches: int
    found: float
    """Share found within `WITHIN` rows."""
    median_delay: float
    """Rows from a switch to its report, over those reported before the regime ended."""
    false_alarms: int
    false_per_100k: float


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The watch beside the oracle."""

    rows: int
    edge: Found
    oracle: Found
    of_the_oracles: float
    """Share of the switches found by the oracle that the edge found too, both within `WITHIN` rows."""
    of_the_oracles_interval: tuple[float, float]
    """95 %, by resampling streams."""
    of_all_the_oracle_ever_finds: float
    """Share found by the edge within `WITHIN` rows of those that the oracle finds at any time."""


class _Delays(msgspec.Struct, frozen=True, kw_only=True):
    delay: Ints
    """Rows from each switch to its report; -1 where it never came."""
    false: int
    rows: int


def rows_of(stream: Stream) -> Watched:
    """Return a stream as a watch takes it in."""
    return Watched(
        ts=stream.ts,
        mid2=stream.mid2,
        is_good=np.ones(len(stream.ts), dtype=bool),
        regime=stream.regime,
    )


def matched(stream: Stream, reported: Ints, burn: int = BURN) -> _Delays:
    """Match reports of a regime, int64 [n], with a stream's switches."""
    changes = np.flatnonzero(np.diff(reported)) + 1
    changes = changes[changes >= burn]
    false = int((stream.regime[changes] != reported[changes]).sum())
    ends = np.append(stream.switches[1:], len(stream.regime))
    delays = []
    for start, end in zip(stream.switches.tolist(), ends.tolist(), strict=True):
        if start < burn:
            continue
        if reported[start - 1] == stream.regime[start]:
            delays.append(-1)  # reported before it was so: a false alarm already counted
            continue
        first, last = np.searchsorted(changes, (start, end))
        hits = [c for c in changes[first:last].tolist() if reported[c] == stream.regime[start]]
        delays.append(hits[0] - start if hits else -1)
    return _Delays(delay=np.array(delays, dtype=np.int64), false=false, rows=len(reported) - burn)


def learnt(law: Law, seeds: Sequence[int] = TRAIN_SEEDS, n: int = ROWS) -> RegimeRule:
    """Return the rule that training streams teach."""
    parts = [rows_of(draw(law, seed, n)) for seed in seeds]
    return learn(parts, TIMES, sizes=(law.small, law.large), confirm=THRESHOLDS[0])


def _tuned(per_threshold: Sequence[Sequence[_Delays]]) -> float:
    for threshold, streams in zip(THRESHOLDS, per_threshold, strict=True):
        rows, false = sum(s.rows for s in streams), sum(s.false for s in streams)
        if false * 1e5 <= BUDGET * rows:
            return threshold
    return THRESHOLDS[-1]


def tune(law: Law, rule: RegimeRule, seeds: Sequence[int] = TUNE_SEEDS) -> tuple[float, float]:
    """Return the edge's and the oracle's threshold, chosen on tuning streams."""
    ours: list[list[_Delays]] = [[] for _ in THRESHOLDS]
    best: list[list[_Delays]] = [[] for _ in THRESHOLDS]
    for seed in seeds:
        stream = draw(law, seed, ROWS)
        belief, rows = beliefs(law, stream.seen), rows_of(stream)
        for k, threshold in enumerate(THRESHOLDS):
            told = msgspec.structs.replace(rule, confirm=threshold)
            ours[k].append(matched(stream, walk(rows, told)[:, 0]))
            best[k].append(matched(stream, confirmed(belief, threshold)))
    return _tuned(ours), _tuned(best)


def score(law: Law, rule: RegimeRule, oracle: float, seeds: Sequence[int] = UNSEEN_SEEDS) -> Score:
    """Return how a rule does on streams, beside the oracle at its threshold."""
    ours, best = [], []
    for seed in seeds:
        stream = draw(law, seed, ROWS)
        ours.append(matched(stream, walk(rows_of(stream), rule)[:, 0]))
        best.append(matched(stream, confirmed(beliefs(law, stream.seen), oracle)))
    pairs = [
        (int((_soon(a) & _soon(b)).sum()), int(_soon(b).sum()))
        for a, b in zip(ours, best, strict=True)
    ]
    both = np.array(pairs)
    draws = np.random.default_rng(0).integers(0, len(pairs), (2_000, len(pairs)))
    shares = both[draws, 0].sum(axis=1) / both[draws, 1].sum(axis=1)
    ever = np.concatenate([b.delay >= 0 for b in best])
    low, high = np.quantile(shares, (0.025, 0.975)).round(4).tolist()
    return Score(
        rows=sum(part.rows for part in ours),
        edge=_found(rule.confirm, ours),
        oracle=_found(oracle, best),
        of_the_oracles=round(float(both[:, 0].sum() / both[:, 1].sum()), 4),
        of_the_oracles_interval=(low, high),
        of_all_the_oracle_ever_finds=round(
            float(np.concatenate([_soon(a) for a in ours])[ever].mean()), 4
        ),
    )


def _soon(part: _Delays) -> NDArray[np.bool_]:
    return (part.delay >= 0) & (part.delay < WITHIN)


def _found(threshold: float, parts: Sequence[_Delays]) -> Found:
    delay = np.concatenate([part.delay for part in parts])
    false, rows = sum(part.false for part in parts), sum(part.rows for part in parts)
    return Found(
        threshold=threshold,
        switches=len(delay),
        found=round(float(((delay >= 0) & (delay < WITHIN)).mean()), 4),
        median_delay=float(np.median(delay[delay >= 0])),
        false_alarms=false,
        false_per_100k=round(false / rows * 1e5, 3),
    )
