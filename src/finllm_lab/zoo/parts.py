"""What the zoo's models are fitted and scored on: grid points of training sessions, one left out at a time.

A claim is scored as the edge would serve it: what it says of a session left out is walked by the plan's own
rules (`finllm_lab.walk`), calibration and references learning as outcomes resolve, from priors counted on
what was fitted. Knows nothing of how a claim is made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from finllm.edge.artifact import Manifest
from finllm.edge.model import N_CLASSES, P_LEAST, RAW_WIDTH
from finllm_lab.edge import manifest_of, priors_for
from finllm_lab.labels import Targets, targets
from finllm_lab.plans import Plan
from finllm_lab.tapes import Session
from finllm_lab.training import Sample, pool
from finllm_lab.walk import Said, walked

Array = NDArray[np.float64]
NORMAL_Q: Final = (-1.28, -0.67, 0.0, 0.67, 1.28)
"""Quantiles that are walked with every claim of classes: no log loss depends on them."""
RESAMPLES: Final = 2_000


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The grid points of one session and what became of them."""

    session: Session
    targets: Targets
    rows: Array
    """float64 [n, F], features of the grid points, each a float32 as it is served."""

    @property
    def name(self) -> str:
        """Return the session's name: those of one name were recorded and are left out together."""
        return self.session.name

    @property
    def ts(self) -> NDArray[np.int64]:
        """Return the receive times of the grid points, int64 [n], ns."""
        ts: NDArray[np.int64] = self.session.heads["ts_recv"][self.targets.at]
        return ts

    @property
    def sample(self) -> Sample:
        """Return the grid points as they are fitted."""
        return Sample(rows=self.rows, label=self.targets.label, scaled=self.targets.scaled)

    def cut(self, kept: slice) -> "Part":
        """Return some of the grid points, of the same session."""
        cut = {name: column[kept] for name, column in msgspec.structs.asdict(self.targets).items()}
        return Part(session=self.session, targets=Targets(**cut), rows=self.rows[kept])


Claims = Callable[[Part], Array]
"""Class probabilities of a part's grid points, float64 [n, H, 3]."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """The log losses of one model over all sessions left out, at one horizon, nats."""

    ts: NDArray[np.int64]
    """[n]."""
    instrument: NDArray[np.int64]
    """[n], which part each is of."""
    loss: Array
    """float64 [n], of what the edge says."""
    reference: Array
    """float64 [n], of the edge's climatology."""

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


def parts_of(sessions: Sequence[Session], plan: Plan) -> list[Part]:
    """Return sessions as points of a plan's grid with their targets; those without any are left out."""
    sigma, found = plan.spec.columns["sigma"], []
    for session in sessions:
        made = targets(session, plan.horizons, sigma, plan.grid_ns)
        # What is served is float32, so that is what a tree must cut.
        rows = session.rows_at(made.at).astype(np.float32).astype(np.float64)
        if len(rows):
            found.append(Part(session=session, targets=made, rows=rows))
    return found


def leave_one_out(parts: Sequence[Part]) -> Iterator[tuple[str, list[Part], list[Part]]]:
    """Yield (name left out, parts to fit on, parts left out)."""
    for name in sorted({part.name for part in parts}):
        yield name, [p for p in parts if p.name != name], [p for p in parts if p.name == name]


def pooled(parts: Sequence[Part]) -> Sample:
    """Return several parts' grid points as one sample."""
    return pool([part.sample for part in parts])


def scores(
    parts: Sequence[Part], plan: Plan, fit: Callable[[str, Sequence[Part]], Mapping[str, Claims]]
) -> dict[str, list[Scored]]:
    """Return what models score on the sessions that they were not fitted on, by name, then by horizon.

    Args:
        parts: Training sessions only.
        plan: On whose grid they are; its horizons, columns and rules of learning are walked by.
        fit: Told which session is left out, fits every model on the other parts.
    """
    heard: dict[str, list[list[Said]]] = {}
    for left_out, fit_on, left in leave_one_out(parts):
        priors = priors_for(plan, [(part.session, part.targets) for part in fit_on])
        manifest = manifest_of(plan, priors)
        for name, claims in fit(left_out, fit_on).items():
            heard.setdefault(name, []).extend(said_of(p, claims(p), manifest) for p in left)
    return {
        name: [scored(said) for said in zip(*left, strict=True)] for name, left in heard.items()
    }


def said_of(part: Part, claims: Array, manifest: Manifest) -> list[Said]:
    """Return what an edge says with these claims over a part, one record a horizon.

    Args:
        part: Grid points of one session.
        claims: float64 [n, H, 3].
        manifest: Priors and rules of learning.
    """
    raw = np.empty((*claims.shape[:2], RAW_WIDTH))
    least = np.maximum(claims, P_LEAST)
    raw[..., :N_CLASSES] = least / least.sum(axis=2, keepdims=True)
    raw[..., N_CLASSES:] = NORMAL_Q
    rows, at = part.session.rows_at(part.targets.at), manifest.columns.index
    column, sigma = rows[:, at(manifest.baseline_column)], rows[:, at(manifest.sigma_column)]
    return walked(part.session, manifest, part.targets, raw, column=column, sigma=sigma)


def scored(said: Sequence[Said]) -> Scored:
    """Return the log losses of what was said over several parts at one horizon."""
    losses = np.concatenate([one.log_loss() for one in said])
    return Scored(
        ts=np.concatenate([one.ts for one in said]),
        instrument=np.repeat(np.arange(len(said)), [len(one.ts) for one in said]),
        loss=losses[:, 0],
        reference=losses[:, 1],
    )


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
