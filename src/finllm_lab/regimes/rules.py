"""What the edge is told of regimes: symbols counted as its own watch sees them, in regimes known here.

The watch has to find an instrument's scales out, so what it sees differs a little from what a law means;
the rule is learnt from what it sees. On recordings the regimes are those of `law.regimes_of`; the counts
overstate what a row tells there (neighbours say the same), so likelihoods are raised to the power at which
the filter's probabilities score best.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.market import Flag
from finllm.domain.units import NS_PER_HOUR, NS_PER_S
from finllm.edge.artifact import MANIFEST_FILE, MODEL_FILE, SHIPPED, Manifest, RegimeRule
from finllm.edge.regime import N_CONTEXTS, N_REGIMES, N_SYMBOLS, watch, watch_words
from finllm.runtime.kernels import kernel
from finllm_lab.cards import write_record
from finllm_lab.export import network_of, write_artifact
from finllm_lab.regimes.law import SMOOTH, moves_of, regimes_of, runs
from finllm_lab.tapes import Session

RULES: Final = Path(__file__).parent
POWERS: Final = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
"""Tried on recordings."""

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """The clock of a rule; see `RegimeRule`."""

    row_s: float
    fast_s: float
    slow_s: float
    least_n: float
    prior_s: float


BOOK_TIMES: Final = Times(row_s=0.0, fast_s=30.0, slow_s=1_800.0, least_n=2_000.0, prior_s=1_800.0)
BAR_TIMES: Final = Times(
    row_s=3_600.0, fast_s=36_000.0, slow_s=6_350_400.0, least_n=70.0, prior_s=0.0
)


CONFIRM: Final = 0.6
"""On recordings, where a filter that scores well is hardly ever surer than that."""
BAR_WINDOW_NS: Final = 14 * 24 * NS_PER_HOUR
BAR_LEAST_ROWS: Final = 35


def book_rule(sessions: Sequence[Session], sizes: tuple[float, float]) -> RegimeRule:
    """Return the rule that order books teach.

    Args:
        sessions: Training sessions.
        sizes: Bounds of small and of large moves.
    """
    parts = [watched(session, regimes_of(session)) for session in sessions]
    return learn(parts, BOOK_TIMES, sizes=sizes, confirm=CONFIRM, powers=POWERS)


def bar_rule(sessions: Sequence[Session]) -> RegimeRule:
    """Return the rule that hourly bars teach: fortnights instead of seconds, and moves alone."""
    parts = [
        watched(s, regimes_of(s, BAR_WINDOW_NS, BAR_LEAST_ROWS, by_pace=False)) for s in sessions
    ]
    moves = [np.abs(part[shows]) for part, shows in (moves_of(s) for s in sessions)]
    sizes = np.concatenate([part / np.sqrt(np.mean(part**2)) for part in moves])
    small, large = (round(float(np.quantile(sizes, q)), 3) for q in (0.5, 0.9))
    return learn(parts, BAR_TIMES, sizes=(small, large), confirm=CONFIRM, powers=POWERS)


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """Rows as a watch takes them in, and the regime each is in."""

    ts: Ints
    mid2: Ints
    is_good: NDArray[np.bool_]
    regime: Ints
    """-1 where it is not known."""


def watched(session: Session, regime: Ints) -> Watched:
    """Return a session's rows as a watch takes them in."""
    heads = session.heads
    return Watched(
        ts=np.ascontiguousarray(heads["ts_recv"]).astype(np.int64),
        mid2=np.ascontiguousarray(heads["mid2"]).astype(np.int64),
        is_good=(heads["flags"] & int(Flag.VALID)) > 0,
        regime=regime,
    )


@kernel
def _walk(
    ts: Ints, mid2: Ints, good: NDArray[np.bool_], words: Ints, words_f: Doubles, out: Ints
) -> None:
    for i in range(len(ts)):
        watch(ts[i], mid2[i], good[i], words, words_f)
        out[i, 0] = words[2]
        out[i, 1] = words[30] - 1
        out[i, 2] = words[3]


def walk(rows: Watched, rule: RegimeRule) -> Ints:
    """Return, row by row, the regime reported, the table's row seen (-1: none), and switches so far."""
    out = np.zeros((len(rows.ts), 3), dtype=np.int64)
    words = watch_words(rule)
    _walk(rows.ts, rows.mid2, rows.is_good, words, words.view(np.float64), out)
    return out


def blank(
    times: Times, sizes: tuple[float, float], scales: tuple[float, float] = (1.0, 1.0)
) -> RegimeRule:
    """Return a rule that can tell nothing apart; `scales` are the first mean wait and deviation."""
    small, large = sizes
    even = (1.0 / 3.0,) * 3
    return RegimeRule(
        row_s=times.row_s,
        fast_s=times.fast_s,
        slow_s=times.slow_s,
        least_n=times.least_n,
        wait_s=scales[0],
        step_bps=scales[1],
        prior_s=times.prior_s,
        small=small,
        large=large,
        confirm=1.0,
        chain=(even,) * 3,
        table=(even,) * (N_CONTEXTS * N_SYMBOLS),
    )


def learn(
    parts: Sequence[Watched],
    times: Times,
    *,
    sizes: tuple[float, float],
    confirm: float,
    powers: Sequence[float] = (1.0,),
) -> RegimeRule:
    """Return the rule that rows in known regimes teach.

    Args:
        parts: Training rows.
        times: The clock.
        sizes: Bounds of small and of large moves.
        confirm: See `RegimeRule`.
        powers: Powers of the likelihood to choose from.
    """
    plain = blank(times, sizes, _scales(parts))
    seen = [walk(part, plain)[:, 1] for part in parts]
    counts = np.full((N_CONTEXTS, N_SYMBOLS, N_REGIMES), SMOOTH)
    flat = counts.reshape(-1, N_REGIMES)
    stays, after = np.zeros(N_REGIMES), np.full((N_REGIMES, N_REGIMES), SMOOTH)
    for part, rows in zip(parts, seen, strict=True):
        known = (rows >= 0) & (part.regime >= 0)
        np.add.at(flat, (rows[known], part.regime[known]), 1.0)
        stays += np.bincount(part.regime[part.regime >= 0], minlength=N_REGIMES)
        spans = [span for span in runs(part.regime) if part.regime[span[0]] >= 0]
        for (start, _), (then, _) in pairwise(spans):
            after[part.regime[start], part.regime[then]] += 1.0
    np.fill_diagonal(after, 0.0)
    chain = after / np.maximum(stays, after.sum(axis=1) + 1.0)[:, None]
    np.fill_diagonal(chain, 1.0 - chain.sum(axis=1))
    table = (counts / counts.sum(axis=1, keepdims=True)).reshape(-1, N_REGIMES)
    scores = [_score(parts, seen, chain, table**power) for power in powers]
    power = powers[int(np.argmin(scores))]
    return msgspec.structs.replace(
        plain, confirm=confirm, chain=_told(chain), table=_told(table**power)
    )


def _scales(parts: Sequence[Watched]) -> tuple[float, float]:
    """Return the mean wait in seconds and the deviation per row in bps."""
    waits, squares = [], []
    for part in parts:
        shows = part.is_good[1:] & part.is_good[:-1] & (part.mid2[1:] > 0) & (part.mid2[:-1] > 0)
        before, after = part.mid2[:-1][shows], part.mid2[1:][shows]
        waits.append(np.diff(part.ts)[shows] / NS_PER_S)
        squares.append(((after / before - 1.0) * 1e4) ** 2)
    wait, square = (float(np.mean(np.concatenate(held))) for held in (waits, squares))
    return float(f"{wait:.6g}"), float(f"{square**0.5:.6g}")


def _told(values: Doubles) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(f"{v:.6g}") for v in row) for row in values.tolist())


@kernel
def _loss(seen: Ints, regime: Ints, chain: Doubles, table: Doubles) -> float:
    belief, moved, total_loss, n = np.full(3, 1.0 / 3.0), np.zeros(3), 0.0, 0
    for i in range(len(seen)):
        if seen[i] < 0:
            continue
        total = 0.0
        for b in range(3):
            moved[b] = 0.0
            for a in range(3):
                moved[b] += belief[a] * chain[a, b]
            moved[b] *= table[seen[i], b]
            total += moved[b]
        for b in range(3):
            belief[b] = moved[b] / total
        if regime[i] >= 0:
            total_loss -= np.log(max(belief[regime[i]], 1e-12))
            n += 1
    return total_loss / max(n, 1)


def _score(parts: Sequence[Watched], seen: Sequence[Ints], chain: Doubles, table: Doubles) -> float:
    losses = [
        _loss(rows, part.regime, chain, table) for part, rows in zip(parts, seen, strict=True)
    ]
    return float(np.mean(losses))


def load_rule(name: str) -> RegimeRule:
    """Return the learnt rule of a shipped artifact, `book` or `bar`."""
    path = RULES / f"{name}_rule.json"
    return msgspec.json.decode(path.read_bytes(), type=RegimeRule)


def write_rule(name: str, rule: RegimeRule) -> None:
    """Write a learnt rule; the same rule, the same bytes."""
    write_record(RULES / f"{name}_rule.json", rule, indent=1)


def teach(name: str) -> str:
    """Put a learnt rule into the shipped artifact of its name; return the artifact's new version."""
    folder, rule = SHIPPED[name], load_rule(name)
    graph = (folder / MODEL_FILE).read_bytes()
    network = network_of(graph)
    inputs = np.round(np.stack([network.centre, network.spread], axis=1), 4) + 0.0
    raw = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())
    raw["regime"] = msgspec.to_builtins(rule)
    raw["inputs"] = inputs.tolist()
    return write_artifact(folder, msgspec.convert(raw, Manifest), graph).version
