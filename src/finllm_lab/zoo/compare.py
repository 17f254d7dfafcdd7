"""The zoo's models beside the plain pooled logistic, each scored on training sessions that it never saw.

Knows what is tried and in which order; nothing of how each is fitted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm_lab.export import graph_of
from finllm_lab.plans import Plan
from finllm_lab.training import Columns, Penalty, Sample, fit_path, pool
from finllm_lab.zoo.graphs import Layers, claims_of, layers_nodes, softmax, with_logits
from finllm_lab.zoo.networks import Schedule, fit_convolution, fit_dense
from finllm_lab.zoo.parts import Claims, Gain, Part, gain, pooled, scores
from finllm_lab.zoo.trees import N_ROUNDS, fit_trees, tree_nodes

Array = NDArray[np.float64]
Fit = Callable[[Sequence[Part]], Claims]
Say = Callable[[str], None]

PLAIN: Final = "logistic"
"""What every other is held against."""
RIDGE: Final = 0.1
"""Nats per point on squared weights: fixed before anything here was scored."""
N_FOLDS: Final = 2
"""Stretches of time that a teacher speaks of without having seen them."""
TEACHER_SHARE: Final = 0.5
"""Share of a soft label that is the teacher's; the rest is what happened."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one model showed at one horizon."""

    model: str
    horizon: str
    n: int
    """Grid points scored."""
    skill: float
    """Of what the edge would say, over the edge's climatology."""
    gain: Gain
    """Against the plain logistic."""


class Zoo:
    """The models that can be tried, by name.

    Args:
        columns: What is known of the columns beforehand.
        ridge: Of the linear fits.
        schedule: Of the networks.
        n_rounds: Of boosting.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        ridge: float = RIDGE,
        schedule: Schedule | None = None,
        n_rounds: int = N_ROUNDS,
    ) -> None:
        self._columns = columns
        self._ridge = ridge
        self._n_rounds = n_rounds
        self._schedule = schedule or Schedule()
        self._fitted: dict[tuple[str, tuple[int, ...]], tuple[Sequence[Part], Claims]] = {}
        self.fits: dict[str, Fit] = {
            PLAIN: self.logistic,
            "trees": self.trees,
            "blend": self.blend,
            "dense": self.dense,
            "convolution": self.convolution,
            "student of trees": lambda parts: self.student(parts, self.trees),
            "student of blend": lambda parts: self.student(parts, self.blend),
            "student of convolution": lambda parts: self.student(parts, self.convolution),
        }

    def linear_graph(self, sample: Sample) -> bytes:
        """Return the pooled linear network fitted on a sample, as ONNX bytes."""
        path = fit_path(sample, (Penalty(self._ridge),), self._columns)
        first = [(0,)] * sample.label.shape[1]
        return graph_of(path.network(first, first))

    def tree_graph(self, parts: Sequence[Part]) -> bytes:
        """Return boosted trees, with the linear network's quantiles, as ONNX bytes."""
        sample = pooled(parts)
        nodes = tree_nodes(fit_trees(sample, self._columns.odd, n_rounds=self._n_rounds))
        return with_logits(self.linear_graph(sample), nodes, {})

    def dense_graph(self, parts: Sequence[Part]) -> bytes:
        """Return a dense network, with the linear network's quantiles, as ONNX bytes."""
        layers: Layers = fit_dense(parts, self._columns.odd, self._schedule)
        return with_logits(self.linear_graph(pooled(parts)), *layers_nodes(layers))

    def logistic(self, parts: Sequence[Part]) -> Claims:
        """Fit the plain pooled logistic."""
        return self._once("logistic", parts, lambda: _by_graph(self.linear_graph(pooled(parts))))

    def trees(self, parts: Sequence[Part]) -> Claims:
        """Fit boosted trees."""
        return self._once("trees", parts, lambda: _by_graph(self.tree_graph(parts)))

    def blend(self, parts: Sequence[Part]) -> Claims:
        """Fit logistic and trees, and take the mean of their log-odds."""
        return _blend(self.logistic(parts), self.trees(parts))

    def _once(self, name: str, parts: Sequence[Part], fit: Callable[[], Claims]) -> Claims:
        """Return a fit that was made before of the very same parts, else make it."""
        key = name, tuple(id(part) for part in parts)
        if key not in self._fitted:
            self._fitted[key] = tuple(parts), fit()  # held, so that no other part gets its id
        return self._fitted[key][1]

    def dense(self, parts: Sequence[Part]) -> Claims:
        """Fit a dense network."""
        return _by_graph(self.dense_graph(parts))

    def convolution(self, parts: Sequence[Part]) -> Claims:
        """Fit the convolution over the last rows."""
        return fit_convolution(parts, self._columns.odd, self._schedule).claims

    def student(self, parts: Sequence[Part], teach: Fit) -> Claims:
        """Fit the linear network to what a teacher says of rows that it has not seen."""
        return _by_graph(self.linear_graph(_lesson(parts, teach)))

    def student_graph(self, parts: Sequence[Part], kind: str) -> bytes:
        """Return what a model distils to, as ONNX bytes.

        A dense network is distilled to the linear one; the linear one to itself on a quarter of its
        columns, those with the largest weights.
        """
        if kind == "dense":
            return self.linear_graph(_lesson(parts, self.dense))
        lesson = _lesson(parts, self.logistic)
        few = msgspec.structs.replace(self._columns, unread=~self._largest(pooled(parts)))
        return Zoo(few, ridge=self._ridge).linear_graph(lesson)

    def _largest(self, sample: Sample) -> NDArray[np.bool_]:
        """Return the quarter of the columns that move the linear network's logits most, bool [F]."""
        first = [(0,)] * sample.label.shape[1]
        path = fit_path(sample, (Penalty(self._ridge),), self._columns)
        weights = path.network(first, first).weights
        n = sample.rows.shape[1]
        size = np.linalg.norm(weights.reshape(2, n, -1), axis=(0, 2))
        kept = np.zeros(n, dtype=bool)
        kept[np.argsort(-size, kind="stable")[: max(1, n // 4)]] = True
        return kept


def _by_graph(graph: bytes) -> Claims:
    return lambda part: claims_of(graph, part.rows)


def _blend(one: Claims, other: Claims) -> Claims:
    """Return the mean of two models' log-odds."""
    return lambda part: softmax(0.5 * (np.log(one(part)) + np.log(other(part))))


def _lesson(parts: Sequence[Part], teach: Fit) -> Sample:
    """Return every row with what a teacher that has not seen it says, mixed with what happened."""
    return pool([_softened(part, claims) for part, claims in _taught(parts, teach)])


def _taught(parts: Sequence[Part], teach: Fit) -> list[tuple[Part, Array]]:
    """Return stretches of time with the claims of a teacher that was fitted on the others."""
    stretches = [[_stretch(part, k) for part in parts] for k in range(N_FOLDS)]
    found = []
    for k, held in enumerate(stretches):
        others = [part for j, rest in enumerate(stretches) for part in rest if j != k]
        claims = teach(others)
        found += [(part, claims(part)) for part in held]
    return found


def _stretch(part: Part, k: int) -> Part:
    cuts = np.linspace(0, len(part.rows), N_FOLDS + 1).astype(int)
    return part.cut(slice(int(cuts[k]), int(cuts[k + 1])))


def _softened(part: Part, claims: Array) -> Sample:
    happened = np.eye(3)[part.targets.label]
    soft = TEACHER_SHARE * claims + (1.0 - TEACHER_SHARE) * happened
    return msgspec.structs.replace(part.sample, soft=soft)


def compare(parts: Sequence[Part], plan: Plan, fits: Mapping[str, Fit], say: Say) -> list[Line]:
    """Return what each model showed on the sessions left out, horizon by horizon, the plain one first.

    Args:
        parts: Training sessions only.
        plan: On whose grid they are.
        fits: Models by name; `PLAIN` must be among them.
        say: Told what is being fitted.
    """

    def fit_all(left_out: str, fit_on: Sequence[Part]) -> dict[str, Claims]:
        fitted = {}
        for name, fit in fits.items():
            say(f"{name}, leaving {left_out} out")
            fitted[name] = fit(fit_on)
        return fitted

    found = scores(parts, plan, fit_all)
    return [
        Line(
            model=name,
            horizon=horizon.name,
            n=len(found[name][h].loss),
            skill=found[name][h].skill,
            gain=gain(found[name][h], found[PLAIN][h], horizon),
        )
        for h, horizon in enumerate(plan.horizons)
        for name in fits
    ]
