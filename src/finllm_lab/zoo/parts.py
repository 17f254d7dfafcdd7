"""What the zoo's models are fitted and scored on: grid points of training sessions, one left out at a time.

A claim is scored as it would be served: every 20 s two parameters of calibration and the class frequencies
that are the reference are fitted anew on what has resolved by then, older outcomes fading. Knows nothing of
how a claim is made.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.audit.intervals import (
    blocks_of,
    diebold_mariano,
    draw_runs,
    percentile_interval,
    resample,
    typical_step_ns,
)
from finllm.domain.instrument import Horizon
from finllm.domain.units import NS_PER_S
from finllm_lab.labels import targets
from finllm_lab.tapes import Session
from finllm_lab.training import Sample, pool

Array = NDArray[np.float64]
P_LEAST: Final = 1e-6
REFIT_NS: Final = 20 * NS_PER_S
PRIOR_N: Final = 10.0
"""Independent outcomes that the first calibration, which changes nothing, is worth."""
HALF_LIFE_N: Final = 60.0
"""Independent outcomes after which one counts half."""
MOST_SCALE: Final = 3.0
N_NEWTON: Final = 6
RESAMPLES: Final = 2_000


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The grid points of one session and what became of them."""

    name: str
    """Sessions of one name were recorded together and are left out together."""
    instrument: str
    ts: NDArray[np.int64]
    """[n], receive times, ns."""
    sample: Sample


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """The log losses of one model over all sessions left out, at one horizon, nats."""

    ts: NDArray[np.int64]
    """[n]."""
    instrument: NDArray[np.int64]
    """[n], which part each is of."""
    loss: Array
    """float64 [n]."""
    reference: Array
    """float64 [n], of the class frequencies known at the time."""

    @property
    def skill(self) -> float:
        """Return 1 - loss / reference."""
        return 1.0 - float(self.loss.mean() / self.reference.mean())


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """How much more skill one model has than another on the same grid points."""

    skill: float
    """Difference of skills, shares of the reference's loss."""
    low: float
    """Lower end of the 95 % interval; NaN where there are too few blocks."""
    high: float
    p: float
    """Diebold-Mariano; NaN where it cannot be had."""
    n_blocks: int


def parts_of(
    sessions: Sequence[Session], horizons: Sequence[Horizon], sigma_column: int, grid_ns: int
) -> list[Part]:
    """Return sessions as grid points with their targets; those without any are left out."""
    found = []
    for session in sessions:
        made = targets(session, horizons, sigma_column, grid_ns)
        rows = session.rows_at(made.at)
        if len(rows):
            part = Part(
                name=session.name,
                instrument=session.instrument,
                ts=session.heads["ts_recv"][made.at],
                # What is served is float32, so that is what a tree must cut.
                sample=Sample(
                    rows=rows.astype(np.float32).astype(np.float64),
                    label=made.label,
                    scaled=made.scaled,
                ),
            )
            found.append(part)
    return found


def leave_one_out(parts: Sequence[Part]) -> Iterator[tuple[str, list[Part], list[Part]]]:
    """Yield (name left out, parts to fit on, parts left out)."""
    for name in sorted({part.name for part in parts}):
        yield name, [p for p in parts if p.name != name], [p for p in parts if p.name == name]


def pooled(parts: Sequence[Part]) -> Sample:
    """Return several parts' grid points as one sample."""
    return pool([part.sample for part in parts])


def scored(
    left: Sequence[tuple[Part, Array]], h: int, horizon: Horizon, *, is_calibrated: bool = True
) -> Scored:
    """Score claims on the sessions left out.

    Args:
        left: Each part left out, and the claims made of it, float64 [n, H, 3].
        h: Which horizon.
        horizon: The same.
        is_calibrated: Whether outcomes of the session, once known, may correct what follows.
    """
    rows = [
        (part.ts[at], np.full(len(at), number), loss, reference)
        for number, (part, claims) in enumerate(left)
        for at, loss, reference in _walked(part, claims[:, h], h, horizon, is_calibrated)
    ]
    ts, instrument, loss, reference = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Scored(ts=ts, instrument=instrument, loss=loss, reference=reference)


def gain(one: Scored, other: Scored, horizon: Horizon, *, seed: int = 0) -> Gain:
    """Return how much more skill `one` has than `other`, with what blocks of time say of it."""
    step = typical_step_ns(one.ts, one.instrument)
    blocks = blocks_of(one.ts, horizon.ns, step)
    better = other.loss - one.loss
    sums = blocks.sums(np.stack([better, one.reference, np.ones(len(better))], axis=1))
    runs = draw_runs(len(sums), RESAMPLES, np.random.default_rng(seed))
    totals = resample(sums, runs)
    interval = percentile_interval(totals[:, 0] / totals[:, 1], blocks.n_blocks)
    p = diebold_mariano(sums[:, 0], sums[:, 2])
    low, high = interval or (np.nan, np.nan)
    return Gain(
        skill=float(better.sum() / one.reference.sum()),
        low=low,
        high=high,
        p=np.nan if p is None else p,
        n_blocks=blocks.n_blocks,
    )


def _walked(
    part: Part,
    said: Array,
    h: int,
    horizon: Horizon,
    is_calibrated: bool,  # noqa: FBT001 - handed on
) -> Iterator[tuple[NDArray[np.int64], Array, Array]]:
    """Yield (grid points, losses, the reference's) of each stretch between two refits, from the second on."""
    ts, label = part.ts, part.sample.label[:, h]
    ahead = max(horizon.ns, round(horizon.nominal_s * NS_PER_S))
    step = max(float(np.median(np.diff(ts))) if len(ts) > 1 else 1.0, float(ahead))
    share = min(1.0, (float(np.median(np.diff(ts))) if len(ts) > 1 else 1.0) / step)
    move, turn = _odds(said)
    for start in range(int(ts[0]) + REFIT_NS, int(ts[-1]) + 1, REFIT_NS):
        at = np.flatnonzero((label >= 0) & (ts >= start) & (ts < start + REFIT_NS))
        past = np.flatnonzero((label >= 0) & (ts + ahead < start))
        if not len(at):
            continue
        weight = share * 0.5 ** ((start - ts[past]) / step / HALF_LIFE_N)
        counts = np.bincount(label[past], weights=weight, minlength=3) + PRIOR_N / 3.0
        reference = -np.log(counts / counts.sum())[label[at]]
        told = said[at]
        if is_calibrated:
            shift = _shift(move[past], label[past] != 1, weight)
            moved = past[label[past] != 1]
            scale = _scale(turn[moved], label[moved] == 2, weight[label[past] != 1])
            told = _claims(move[at] + shift, scale * turn[at])
        loss = -np.log(np.maximum(told[np.arange(len(at)), label[at]], P_LEAST))
        yield at, loss, reference


def _odds(said: Array) -> tuple[Array, Array]:
    """Return the log-odds of a move, and of up against down, float64 [n] each."""
    logs = np.log(np.maximum(said, P_LEAST))
    return np.logaddexp(logs[:, 0], logs[:, 2]) - logs[:, 1], logs[:, 2] - logs[:, 0]


def _claims(move: Array, turn: Array) -> Array:
    p_move, p_up = _share(move), _share(turn)
    return np.stack([p_move * (1.0 - p_up), 1.0 - p_move, p_move * p_up], axis=1)


def _share(odds: Array) -> Array:
    share: Array = 1.0 / (1.0 + np.exp(-odds))
    return share


def _shift(odds: Array, happened: NDArray[np.bool_], weight: Array) -> float:
    """Return what must be added to log-odds, a prior's outcomes pulling it to nought."""
    shift = 0.0
    for _ in range(N_NEWTON):
        p = _share(odds + shift)
        slope = float((weight * (happened - p)).sum()) - 0.25 * PRIOR_N * shift
        shift += slope / (float((weight * p * (1.0 - p)).sum()) + 0.25 * PRIOR_N)
    return shift


def _scale(odds: Array, happened: NDArray[np.bool_], weight: Array) -> float:
    """Return what log-odds must be multiplied by, a prior's outcomes pulling it to one."""
    scale = 1.0
    for _ in range(N_NEWTON):
        p = _share(scale * odds)
        slope = float((weight * odds * (happened - p)).sum()) - 0.25 * PRIOR_N * (scale - 1.0)
        bend = float((weight * odds**2 * p * (1.0 - p)).sum()) + 0.25 * PRIOR_N
        scale = min(max(scale + slope / bend, 0.0), MOST_SCALE)
    return scale
