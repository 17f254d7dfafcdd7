"""Fitting the edge's network: one pooled linear softmax and five linear quantiles per horizon.

A score of direction and a score of movement are fitted together. Where the market has no reason to
prefer a side (order books), a column that changes sign when bid and ask change places speaks for
direction by itself and for movement by its size, and every other column for movement alone: half the
parameters, and a mirrored tape gets the mirrored forecast. Every horizon is fitted along a path of
penalties, strongest first, each start being the last end. Knows nothing of files.

Source:
    Koenker & Bassett (1978), regression quantiles; check loss smoothed as in Zheng (2011); the dead
    zone, because most short returns are exactly nought, after Powell (1986), censored quantiles.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS
from finllm.domain.spec import FeatureSpec
from finllm.edge.linear import CLIP, Network

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Loss = Callable[[Array], tuple[float, Array]]

ODD_PREFIXES: Final = (
    "obi_", "log_queue_ratio", "wmid_offset", "microprice_offset", "ofi_", "mlofi_", "flow_", "ret_",
    "last_move_sign", "depth_slope_skew", "lead_ret_", "lead_ofi_",
)  # fmt: skip
"""Book columns that change sign when bid and ask change places."""
SIDES: Final = np.array([(-1.0, 0.0), (0.0, -1.0), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
"""Outer and inner width in each of the five quantiles."""
SMOOTH: Final = 0.02
"""Width of the smoothed corner of the pinball loss, in units of the returns' root mean square."""
N_STEPS: Final = 60
QUANTILE_STRIDE: Final = 4
"""Quantiles are fitted on every fourth grid point: neighbours overlap and say nearly the same."""


class Penalty(msgspec.Struct, frozen=True):
    """How much a fit is held back."""

    ridge: float
    """On squared weights, nats per point; infinite leaves the constants alone: every row gets the same."""
    is_core: bool = False
    """Whether only the core columns may speak."""

    def __str__(self) -> str:
        """Return how a person would say it."""
        if np.isinf(self.ridge):
            return "prior only"
        return f"{self.ridge:g}{' core' if self.is_core else ''}"


PRIOR_ONLY: Final = Penalty(float("inf"))


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the columns beforehand, bool [F] each."""

    odd: Mask
    """Changes sign when bid and ask change places; none = up and down are not alike."""
    core: Mask
    """May speak where little can be learnt."""
    unread: Mask
    """May never speak: it would tell sessions or instruments apart, not what comes next."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Grid points to fit on, pooled over sessions."""

    rows: Array
    """float64 [n, F]."""
    label: NDArray[np.int64]
    """[n, H], -1 unknown."""
    scaled: Array
    """float64 [n, H], returns in units of sigma * sqrt(horizon)."""
    soft: Array | None = None
    """float64 [n, H, 3], what a teacher says in place of the label; None = the label alone."""

    def claims(self, h: int) -> Array:
        """Return what is to be learnt of a horizon, float64 [n, 3]: a teacher's word, else the label."""
        if self.soft is not None:
            return self.soft[:, h]
        claims: Array = np.eye(3)[self.label[:, h]]  # an unknown label's row is never learnt
        return claims


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """The fits of every horizon at every penalty."""

    centre: Array
    spread: Array
    weights: Array
    """float64 [R, 2 F + 1, H, 8], the constant last; penalties strongest first."""
    dead_zone: Array
    """float64 [R, H]: quantiles smaller than this are nought."""

    def network(
        self, classes: Sequence[Sequence[int]], quantiles: Sequence[Sequence[int]]
    ) -> Network:
        """Return the network of penalties chosen per horizon, for classes and quantiles, averaged."""
        n_horizons = self.weights.shape[2]
        chosen = np.zeros(self.weights.shape[1:])
        dead = np.zeros((n_horizons, 8))
        for h in range(n_horizons):
            chosen[:, h, :3] = self.weights[list(classes[h]), :, h, :3].mean(axis=0)
            chosen[:, h, 3:] = self.weights[list(quantiles[h]), :, h, 3:].mean(axis=0)
            dead[h, 3:] = self.dead_zone[list(quantiles[h]), h].mean()
        return Network(
            centre=_rounded(self.centre),
            spread=_rounded(self.spread),
            weights=_rounded(chosen[:-1].reshape(len(chosen) - 1, -1)),
            bias=_rounded(chosen[-1].reshape(-1)),
            dead_zone=_rounded(dead.reshape(-1)),
        )


def columns_of(
    spec: FeatureSpec, *, is_mirrored: bool, core: Sequence[str], unread: Sequence[str] = ()
) -> Columns:
    """Return what is known of a spec's columns; on bars (not mirrored) none is odd."""
    odd = [is_mirrored and f.name.startswith(ODD_PREFIXES) for f in spec.features]
    return Columns(
        odd=np.array(odd),
        core=np.array([f.name in core for f in spec.features]),
        unread=np.array([f.name in unread for f in spec.features]),
    )


def pool(samples: Sequence[Sample]) -> Sample:
    """Return several sessions' grid points as one sample; a teacher speaks for all or for none.

    Raises:
        ValueError: If some are soft and some are not.
    """
    soft = [s.soft for s in samples if s.soft is not None]
    if soft and len(soft) < len(samples):
        raise ValueError("a teacher must speak for every session of a sample, or for none")
    return Sample(
        rows=np.concatenate([s.rows for s in samples]),
        label=np.concatenate([s.label for s in samples]),
        scaled=np.concatenate([s.scaled for s in samples]),
        soft=None if not soft else np.concatenate(soft),
    )


def fit_path(sample: Sample, penalties: Sequence[Penalty], columns: Columns) -> Path:
    """Fit every horizon at every penalty.

    Args:
        sample: What to fit on.
        penalties: Strongest first.
        columns: Which are odd, which core.
    """
    centre, spread = _standard(sample.rows, columns.odd)
    z = np.clip((sample.rows - centre) / spread, -CLIP, CLIP)
    x = np.concatenate([z, np.abs(z), np.ones((len(z), 1))], axis=1)
    turns, moves = _roles(columns)
    core = np.concatenate([columns.core, columns.core, [True]])
    n_horizons = sample.label.shape[1]
    weights = np.zeros((len(penalties), x.shape[1], n_horizons, 8))
    dead_zone = np.zeros((len(penalties), n_horizons))
    for h in range(n_horizons):
        known = sample.label[:, h] >= 0
        classes = _Classes(x[known], sample.claims(h)[known], turns, moves, core)
        few = slice(None, None, QUANTILE_STRIDE)
        lines = _Quantiles(x[known][few], sample.scaled[known, h][few], turns, moves, core)
        for r, penalty in enumerate(penalties):
            weights[r, :, h, :3] = classes.fit(penalty)
            weights[r, :, h, 3:], dead_zone[r, h] = lines.fit(penalty)
    return Path(centre=centre, spread=spread, weights=weights, dead_zone=dead_zone)


def _rounded(values: Array) -> Array:
    """Round, so that the last bits of a sum do not show in an artifact's hash."""
    return np.round(values, 4) + 0.0


def _standard(rows: Array, pinned: Mask) -> tuple[Array, Array]:
    """Return centre and spread of each column; a pinned column is centred on zero."""
    centre = np.where(pinned, 0.0, rows.mean(axis=0))
    spread = np.sqrt(((rows - centre) ** 2).mean(axis=0))
    return centre, np.where(spread > 1e-9, np.maximum(spread, 1e-3), 1.0)


def _roles(columns: Columns) -> tuple[Mask, Mask]:
    """Return which of [z, |z|, 1] may speak for direction, and which for movement."""
    odd, n = columns.odd, len(columns.odd)
    read = ~np.concatenate([columns.unread, columns.unread, [False]])
    if not odd.any():
        return read, read
    turns = np.concatenate([odd, np.zeros(n + 1, dtype=bool)])
    moves = np.concatenate([~odd, np.ones(n + 1, dtype=bool)])
    return turns & read, moves & read


class _Fit:
    """A penalised fit whose last end is its next start."""

    def __init__(self, parts: Sequence[Mask], core: Mask) -> None:
        self._is_free = np.concatenate([np.flatnonzero(part) == len(part) - 1 for part in parts])
        self._is_core = np.concatenate([core[part] for part in parts])
        self._theta = np.zeros(len(self._is_free))

    def _descend(self, loss: Loss, penalty: Penalty) -> Array:
        from scipy.optimize import minimize

        allowed = self._is_core if penalty.is_core else np.ones_like(self._is_free)
        pinned = ~self._is_free & (np.isinf(penalty.ridge) | ~allowed)
        weight = np.where(self._is_free | pinned, 0.0, penalty.ridge)

        def penalised(theta: Array) -> tuple[float, Array]:
            value, slope = loss(theta)
            value += 0.5 * float(np.sum(weight * theta**2))
            return value, np.where(pinned, 0.0, slope + weight * theta)

        found = minimize(
            penalised, self._theta, jac=True, method="L-BFGS-B", options={"maxiter": N_STEPS}
        )
        self._theta = np.asarray(found.x, dtype=np.float64)
        return self._theta


class _Classes(_Fit):
    """The softmax with logits (move - turn, 0, move + turn)."""

    def __init__(self, x: Array, claims: Array, turns: Mask, moves: Mask, core: Mask) -> None:
        super().__init__((turns, moves), core)
        self._masks = turns, moves
        self._by_turn, self._by_move = x[:, turns], x[:, moves]
        self._sign = claims[:, 2] - claims[:, 0]
        self._moved = claims[:, 2] + claims[:, 0]

    def fit(self, penalty: Penalty) -> Array:
        """Return the three logits' weights, float64 [2 F + 1, 3]."""
        theta, (turns, moves) = self._descend(self._loss, penalty), self._masks
        turn, move = np.zeros(len(turns)), np.zeros(len(moves))
        turn[turns], move[moves] = np.split(theta, [self._by_turn.shape[1]])
        return np.stack([move - turn, np.zeros(len(move)), move + turn], axis=1)

    def _loss(self, theta: Array) -> tuple[float, Array]:
        first, second = np.split(theta, [self._by_turn.shape[1]])
        turn, move = self._by_turn @ first, self._by_move @ second
        up, down = move + turn, move - turn
        top = np.maximum(0.0, np.maximum(up, down))
        e_up, e_down, e_flat = np.exp(up - top), np.exp(down - top), np.exp(-top)
        total = e_up + e_down + e_flat
        value = np.mean(top + np.log(total) - self._sign * turn - self._moved * move)
        miss_turn = (e_up - e_down) / total - self._sign
        miss_move = (e_up + e_down) / total - self._moved
        slope = np.concatenate([miss_turn @ self._by_turn, miss_move @ self._by_move])
        return float(value), slope / len(turn)


class _Quantiles(_Fit):
    """Five lines, centre + (-outer, -inner, 0, inner, outer), and a dead zone about nought.

    The centre is made of what may speak for direction, the widths of what may speak for movement.
    """

    def __init__(self, x: Array, scaled: Array, turns: Mask, moves: Mask, core: Mask) -> None:
        super().__init__((turns, moves, moves), core)
        self._masks = turns, moves
        self._x = x
        self._by_turn, self._by_move = x[:, turns], x[:, moves]
        self._cuts = [self._by_turn.shape[1], self._by_turn.shape[1] + self._by_move.shape[1]]
        self._unit = max(1e-6, float(np.sqrt(np.mean(scaled**2))))
        self._y = scaled / self._unit

    def fit(self, penalty: Penalty) -> tuple[Array, float]:
        """Return the five lines' weights, float64 [2 F + 1, 5], and the dead zone."""
        theta, (turns, moves) = self._descend(self._loss, penalty), self._masks
        parts = np.zeros((3, len(turns)))
        parts[0, turns], parts[1, moves], parts[2, moves] = np.split(theta, self._cuts)
        lines = np.stack([parts[0] + a * parts[1] + b * parts[2] for a, b in SIDES], axis=1)
        return lines * self._unit, self._dead_zone(lines) * self._unit

    def _dead_zone(self, lines: Array) -> float:
        said = np.sort(self._x @ lines, axis=1)
        zones = [0.0, *np.quantile(np.abs(said), np.linspace(0.1, 0.99, 40)).tolist()]
        losses = [_pinball(self._y, np.where(np.abs(said) > zone, said, 0.0)) for zone in zones]
        return float(zones[int(np.argmin(losses))])

    def _loss(self, theta: Array) -> tuple[float, Array]:
        first, second, third = np.split(theta, self._cuts)
        centre, outer, inner = self._by_turn @ first, self._by_move @ second, self._by_move @ third
        value, slope = 0.0, np.zeros((3, len(self._y)))
        for level, (a, b) in zip(LEVELS, SIDES, strict=True):
            miss = (self._y - (centre + a * outer + b * inner)) / SMOOTH
            tail = np.exp(-np.abs(miss))
            value += SMOOTH * float(np.mean(level * miss + np.maximum(-miss, 0.0) + np.log1p(tail)))
            below = np.where(miss > 0.0, tail, 1.0) / (1.0 + tail)
            push = below - level
            slope += np.array([push, a * push, b * push])
        gradient = [slope[0] @ self._by_turn, slope[1] @ self._by_move, slope[2] @ self._by_move]
        return value, np.concatenate(gradient) / len(self._y)


def _pinball(y: Array, said: Array) -> float:
    miss = y[:, None] - said
    levels = np.array(LEVELS)
    return float(np.mean(np.where(miss >= 0.0, levels * miss, (levels - 1.0) * miss)))
