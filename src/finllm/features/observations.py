"""Microstructure observations: a row's numbers as evidence that a reasoner may cite.

Keeps an exponentially weighted mean and variance per cited column, so that each observation carries
a z-score against its own recent past.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.evidence import Evidence, EvidenceKind
from finllm.domain.identity import content_id
from finllm.domain.spec import FeatureSpec

_MEMORY: Final = 600
"""Samples over which the mean and variance forget: a minute on a 100 ms grid."""


class Observer:
    """Running z-scores of the cited columns of one instrument's rows.

    Args:
        instrument: Instrument key.
        spec: The rows' feature spec.
        columns: Names of the columns to cite; names that the spec lacks are refused.

    Raises:
        KeyError: If a column is not in the spec.
    """

    def __init__(self, instrument: str, spec: FeatureSpec, columns: tuple[str, ...]) -> None:
        self._instrument = instrument
        self._features = tuple(spec.features[spec.columns[name]] for name in columns)
        self._at = np.array([spec.columns[name] for name in columns], dtype=np.int64)
        self._mean = [0.0] * len(columns)
        self._var = [0.0] * len(columns)
        self._n = 0

    def push(self, row: NDArray[np.float64]) -> None:
        """Take one row [n_features] into the running moments."""
        self._n += 1
        weight = max(1.0 / self._n, 1.0 / _MEMORY)
        for i, value in enumerate(row[self._at].tolist()):
            step = value - self._mean[i]
            self._mean[i] += weight * step
            self._var[i] = (1.0 - weight) * (self._var[i] + weight * step * step)

    def observations(self, row: NDArray[np.float64], ts: int) -> tuple[Evidence, ...]:
        """Return one observation per cited column of a row [n_features], known at `ts`."""
        found = []
        for i, (feature, value) in enumerate(
            zip(self._features, row[self._at].tolist(), strict=True)
        ):
            spread = math.sqrt(self._var[i])
            found.append(
                Evidence(
                    evidence_id=content_id(
                        "observation", self._instrument, feature.name, ts, value
                    ),
                    kind=EvidenceKind.OBSERVATION,
                    instrument=self._instrument,
                    ts_recv=ts,
                    origin="market",
                    feature=feature.name,
                    window_ns=feature.window_ns if feature.unit_of_window == "ns" else 0,
                    value=value,
                    unit=feature.unit,
                    z_score=(value - self._mean[i]) / spread if spread > 0.0 else 0.0,
                )
            )
        return tuple(found)
