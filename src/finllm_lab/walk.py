"""Walking an edge over a recorded session, a stretch at a time: what it said, and what became of it.

The calibration, the references and the moments at which they learn are the edge's own (`finllm.edge`);
only the serving is done for all grid points between two refits at once, so that a day of quotes takes
seconds. That it says what the edge says row by row is a law (`tests/laws/test_walk_laws.py`). Outlooks
play no part: what is scored is the edge alone.
"""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS
from finllm.domain.instrument import Horizon
from finllm.domain.market import Flag
from finllm.edge.artifact import Artifact, Manifest, RegimeRule
from finllm.edge.baselines import SIZES, Baselines, refer, weight_of
from finllm.edge.calibration import OFFSET, SCALE, TURN, WIDTH, Calibration
from finllm.edge.regime import watch, watch_words
from finllm.edge.resolved import Resolved
from finllm.edge.session import WIDTH_STEP
from finllm.edge.sizes import implied_all
from finllm.runtime.kernels import kernel
from finllm_lab.labels import Targets, targets
from finllm_lab.tapes import Session

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

P_FLOOR: Final = 1e-6
VOICES: Final = ("edge", "climatology", "ewma", "obi")
"""Who is scored, in this order."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge and its references said at each resolved grid point of one session and horizon."""

    session: str
    """Name of the recording."""
    instrument: str
    horizon: Horizon
    model_version: str
    ts: Ints
    """int64 [n], receive time of the row, ns UTC."""
    ts_end: Ints
    """int64 [n], when the outcome was known."""
    label: Ints
    """int64 [n], 0 down, 1 flat, 2 up."""
    return_bps: Array
    band_bps: Array
    regime: Ints
    """int64 [n], at issue; see `finllm.edge.regime.NAMES`."""
    is_abstained: NDArray[np.bool_]
    column: Array
    """float64 [n], the baseline column."""
    p: Array
    """float64 [n, 4, 3], down, flat, up by `VOICES`."""
    q: Array
    """float64 [n, 3, 5], bps, of edge, climatology and EWMA."""
    first_p: Array
    """float64 [n, 3], what the edge would say had it learnt from no outcome of the session."""

    def log_loss(self) -> Array:
        """Return nats, float64 [n, 4], by `VOICES`."""
        chosen = np.take_along_axis(self.p, self.label[:, None, None], axis=2)[:, :, 0]
        loss: Array = -np.log(np.maximum(chosen, P_FLOOR))
        return loss

    def pinball(self) -> Array:
        """Return the mean pinball loss in bps, float64 [n, 3], of edge, climatology and EWMA."""
        return np.stack([pinball_of(self.q[:, j], self.return_bps) for j in range(3)], axis=1)


def pinball_of(q: Array, return_bps: Array) -> Array:
    """Return the mean pinball loss in bps, float64 [n], of quantiles [n, 5] at `LEVELS`."""
    levels, miss = np.array(LEVELS), return_bps[:, None] - q
    loss: Array = np.where(miss >= 0.0, levels * miss, (levels - 1.0) * miss).mean(axis=1)
    return loss


def walk(session: Session, artifact: Artifact, grid_ns: int) -> list[Said]:
    """Walk an artifact over a session; one record a horizon.

    Args:
        session: One instrument's rows.
        artifact: Model, priors and rules.
        grid_ns: Least time between two forecasts.
    """
    manifest = artifact.manifest
    found = targets(
        session, manifest.horizons, artifact.spec.columns[manifest.sigma_column], grid_ns
    )
    rows = session.rows_at(found.at)
    column = rows[:, artifact.spec.columns[manifest.baseline_column]]
    sigma = rows[:, artifact.spec.columns[manifest.sigma_column]]
    return walked(session, manifest, found, artifact.model.infer(rows), column=column, sigma=sigma)


def walked(
    session: Session, manifest: Manifest, found: Targets, raw: Array, *, column: Array, sigma: Array
) -> list[Said]:
    """Return what an edge with these raw claims says over a session.

    Args:
        session: One instrument's rows.
        manifest: Priors and rules of learning.
        found: Grid points and what became of them, by the manifest's horizons.
        raw: float64 [n, H, 8], the model's claim at each grid point.
        column: float64 [n], the baseline column.
        sigma: float64 [n], bps per root second.
    """
    ewma, marks = followed(session.heads, manifest.regime)
    points = _Points(
        horizons=manifest.horizons,
        found=found,
        raw=raw,
        column=column,
        sigma=sigma,
        ewma=ewma[found.at],
        regime=marks[found.at, 0],
        switches=marks[found.at, 1],
        ts=session.heads["ts_recv"],
    )
    n, n_horizons = found.label.shape
    p, q = np.zeros((n_horizons, n, 4, 3)), np.zeros((n_horizons, n, 3, 5))
    edge, order = _Edge(manifest, points), _Order(points)
    begin, known = 0, 0
    for event in (*order.refits(manifest.learning.refit_ns), None):
        # A row that comes with the outcome is spoken about after it was learnt.
        end = n if event is None else int(np.searchsorted(found.at, order.row[event]))
        for h in range(n_horizons):
            p[h, begin:end], q[h, begin:end] = edge.say(slice(begin, end), h)
        if event is not None:
            edge.teach(order.point[known:event], order.horizon[known:event])
            begin, known = end, event
    said = []
    for h, horizon in enumerate(manifest.horizons):
        kept = found.label[:, h] >= 0
        said.append(
            Said(
                session=session.name,
                instrument=session.instrument,
                horizon=horizon,
                model_version=manifest.version,
                ts=points.ts[found.at[kept]],
                ts_end=points.ts[found.seen_at[kept, h]],
                label=found.label[kept, h],
                return_bps=found.return_bps[kept, h],
                band_bps=found.band_bps[kept, h],
                regime=points.regime[kept],
                is_abstained=np.logical_not(np.isfinite(raw[kept]).all(axis=(1, 2))),
                column=column[kept],
                p=p[h, kept],
                q=q[h, kept],
                first_p=_unlearnt(manifest, points, h)[kept],
            )
        )
    return said


class _Points(msgspec.Struct, frozen=True, kw_only=True):
    """The grid points of a session."""

    horizons: tuple[Horizon, ...]
    found: Targets
    raw: Array
    column: Array
    sigma: Array
    ewma: Array
    regime: Ints
    switches: Ints
    ts: Ints
    """Receive times of all rows."""

    @property
    def at_ts(self) -> Ints:
        """Return the receive times of the grid points."""
        return self.ts[self.found.at]


class _Order:
    """All outcomes of a session in the order in which the edge comes to know them."""

    def __init__(self, points: _Points) -> None:
        n, n_horizons = points.found.label.shape
        point, horizon = np.repeat(np.arange(n), n_horizons), np.tile(np.arange(n_horizons), n)
        row = points.found.seen_at.reshape(-1)
        lengths = np.array([horizon.ns for horizon in points.horizons])
        due = points.at_ts[point] + lengths[horizon]
        ranked = np.lexsort((horizon, point, due, row))
        ranked = ranked[row[ranked] < len(points.ts)]
        self.point, self.horizon, self.row = point[ranked], horizon[ranked], row[ranked]
        self._ts = points.ts[self.row]

    def refits(self, refit_ns: int) -> list[int]:
        """Return the outcomes on whose arrival everything is refitted first."""
        found: list[int] = []
        at = self._since(0, refit_ns)
        while at < len(self._ts):
            found.append(at)
            at = self._since(at, refit_ns)
        return found

    def _since(self, event: int, refit_ns: int) -> int:
        if event >= len(self._ts):
            return event
        return max(event + 1, int(np.searchsorted(self._ts, self._ts[event] + refit_ns)))


class _Edge:
    """What an edge has learnt so far, and what it says with it."""

    def __init__(self, manifest: Manifest, points: _Points) -> None:
        self._priors = manifest.priors
        self._points = points
        self._widths = _widths(manifest, points)
        self._calibration = Calibration(manifest.priors, manifest.learning)
        self._baselines = Baselines(manifest.priors, manifest.learning)
        self._resolved = Resolved([horizon.ns for horizon in points.horizons])

    def teach(self, point: Ints, horizon: Ints) -> None:
        """Take in outcomes, in the order in which they came to be known, and refit."""
        points = self._points
        kept = points.found.label[point, horizon] >= 0
        kept &= np.isfinite(points.raw[point]).all(axis=(1, 2))
        for h, ahead in enumerate(points.horizons):
            at = point[kept & (horizon == h)]
            if len(at):
                label = points.found.label[at, h]
                self._baselines.count(h, np.bincount(label, minlength=3))
                outcomes = self._outcomes(at, h, math.sqrt(ahead.nominal_s))
                for ts, outcome in zip(points.at_ts[at].tolist(), outcomes, strict=True):
                    self._resolved.add(h, ts, outcome)
        self._baselines.refit(self._resolved)
        self._calibration.refit(self._resolved)

    def _outcomes(self, at: Ints, h: int, root_s: float) -> Array:
        points, raw = self._points, self._points.raw[at, h]
        return np.column_stack(
            [
                points.found.label[at, h],
                points.column[at],
                points.found.return_bps[at, h],
                points.ewma[at] * root_s,
                points.found.band_bps[at, h],
                np.log((raw[:, 0] + raw[:, 2]) / raw[:, 1]),
                np.log(raw[:, 2] / raw[:, 0]),
                raw[:, 3:] * (points.sigma[at] * root_s)[:, None],
            ]
        )

    def say(self, stretch: slice, h: int) -> tuple[Array, Array]:
        """Return probabilities [n, 4, 3] by `VOICES` and quantiles [n, 3, 5] over a stretch."""
        points, root_s = self._points, math.sqrt(self._points.horizons[h].nominal_s)
        raw, column = points.raw[stretch, h], points.column[stretch]
        unit, ewma = points.sigma[stretch] * root_s, points.ewma[stretch] * root_s
        p, q = np.empty((len(raw), 4, 3)), np.empty((len(raw), 3, 5))
        x = np.column_stack([column, unit, ewma, points.found.band_bps[stretch, h]])
        refer(x, self._baselines.tables[h], p[:, 1:], q[:, 1:])
        said, lines = calibrated(raw, self._calibration.parameters[h], unit)
        prior, width = self._priors[h], self._widths[stretch, h, None]
        p[:, 0] = p[:, 1] + (said - p[:, 1]) * prior.trust_p / width
        lines = lines[:, 2:3] + (lines - lines[:, 2:3]) * width
        rest = q[:, 1]
        if prior.trust_p > 0.0:
            rest = np.empty(lines.shape)
            implied_all(p[:, 0], x[:, 3], self._baselines.tables[h, SIZES:], rest)
        q[:, 0] = prior.trust_q * lines + (1.0 - prior.trust_q) * rest
        dumb = ~np.isfinite(raw).all(axis=1)
        p[dumb, 0], q[dumb, 0] = p[dumb, 1], q[dumb, 1]
        return p, q


def _unlearnt(manifest: Manifest, points: _Points, h: int) -> Array:
    """Return what is said with an artifact's first values alone, float64 [n, 3]."""
    raw, prior = points.raw[:, h], manifest.priors[h]
    first = Calibration(manifest.priors, manifest.learning).parameters[h]
    climatology = np.array(prior.climatology)
    said, _ = calibrated(raw, first, np.ones(len(raw)))
    is_heard = np.isfinite(raw).all(axis=1, keepdims=True)
    p: Array = np.where(is_heard, climatology + (said - climatology) * prior.trust_p, climatology)
    return p


def _widths(manifest: Manifest, points: _Points) -> Array:
    """Return the widening in force at each grid point, float64 [n, H]; see `EdgeSession`."""
    learning, found = manifest.learning, points.found
    widths = np.ones(found.label.shape)
    if learning.widen <= 1.0:
        return widths
    since = np.searchsorted(points.switches, points.switches)  # first point after the same switch
    for h, prior in enumerate(manifest.priors):
        counted = np.concatenate([[0], np.cumsum(found.label[:, h] >= 0)])
        known = np.searchsorted(found.seen_at[:, h], found.at, side="right")
        # Added up one by one, as the edge does: rounding is part of what it says.
        sums = np.cumsum(np.full(len(counted), weight_of(prior, learning)))
        earned = np.concatenate([[0.0], sums])[np.maximum(0, counted[known] - counted[since])]
        left = learning.widen_n / (learning.widen_n + earned)
        steps = np.round((learning.widen - 1.0) * left * WIDTH_STEP) / WIDTH_STEP
        widths[:, h] = np.where(points.switches > 0, 1.0 + steps, 1.0)
    return widths


def calibrated(raw: Array, parameters: Array, unit_bps: Array) -> tuple[Array, Array]:
    """Return calibrated probabilities [n, 3] and quantiles [n, 5] in bps, as `serving.speak` has them.

    Args:
        raw: float64 [n, 8].
        parameters: float64 [4], offset, scale, direction, width.
        unit_bps: float64 [n], sigma * sqrt(horizon).
    """
    move = parameters[OFFSET] + parameters[SCALE] * np.log((raw[:, 0] + raw[:, 2]) / raw[:, 1])
    turn = parameters[TURN] * np.log(raw[:, 2] / raw[:, 0])
    p_move = 1.0 / (1.0 + np.exp(-np.clip(move, -16.0, 16.0)))
    up = p_move / (1.0 + np.exp(-np.clip(turn, -16.0, 16.0)))
    down = p_move - up
    median = raw[:, 5:6]
    q = (median + (raw[:, 3:] - median) * parameters[WIDTH]) * unit_bps[:, None]
    return np.stack([down, 1.0 - down - up, up], axis=1), q


@kernel
def _follow(  # noqa: PLR0917 - a kernel
    ts: Ints,
    mid2: Ints,
    good: NDArray[np.bool_],
    words: Ints,
    words_f: Array,
    ewma: Array,
    marks: Ints,
) -> None:
    for i in range(len(ts)):
        watch(ts[i], mid2[i], good[i], words, words_f)
        ewma[i] = math.sqrt(words_f[6] / words_f[8]) if words_f[8] > 0.0 else 0.0
        marks[i, 0], marks[i, 1] = words[2], words[3]


def followed(heads: NDArray[np.void], rule: RegimeRule) -> tuple[Array, Ints]:
    """Return what is observed after each row, as `serving.observe` has it.

    Returns:
        The EWMA volatility in bps per root second, float64 [n]; the regime and how often it had changed,
        int64 [n, 2].
    """
    words = watch_words(rule)
    ewma, marks = np.zeros(len(heads)), np.zeros((len(heads), 2), dtype=np.int64)
    good = (heads["flags"] & int(Flag.VALID)) > 0
    ts, mid2 = (np.ascontiguousarray(heads[name]) for name in ("ts_recv", "mid2"))
    _follow(ts, mid2, good, words, words.view(np.float64), ewma, marks)
    return ewma, marks


def skill(losses: Array, against: int) -> float:
    """Return 1 - mean loss of the first column / mean loss of column `against`; 0 of nothing."""
    if not len(losses):
        return 0.0
    return 1.0 - float(losses[:, 0].mean() / losses[:, against].mean())
