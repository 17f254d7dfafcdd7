"""Microstructure observations: a row's numbers as evidence that a reasoner may cite.

Keeps an exponentially weighted mean and variance per cited column, so that each observation carries
a z-score against its own recent past. Of columns that flicker a mean of the last seconds can be cited as
well: a side of the book that stays thin shows there, not in any one row.
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
_LATELY: Final = 30
"""Samples over which the mean of the last seconds forgets."""
LATELY: Final = "_lately"
"""Ending of the name of such a mean."""


def observation(
    instrument: str,
    name: str,
    ts: int,
    value: float,
    *,
    spread: float,
    deviation: float,
    unit: str,
    window_ns: int,
) -> Evidence:
    """Return something measured of the market as evidence.

    Args:
        instrument: Instrument key.
        name: Of what was measured.
        ts: When it was known, ns UTC.
        value: In `unit`.
        spread: Its usual deviation; 0 = unknown, and the z-score is 0.
        deviation: Of the value from what is usual.
        unit: Of the value.
        window_ns: Over which it was measured; 0 = at an instant.
    """
    return Evidence(
        evidence_id=content_id("observation", instrument, name, ts, value),
        kind=EvidenceKind.OBSERVATION,
        instrument=instrument,
        ts_recv=ts,
        origin="market",
        feature=name,
        window_ns=window_ns,
        value=value,
        unit=unit,
        z_score=deviation / spread if spread > 0.0 else 0.0,
    )


class Observer:
    """Running z-scores of the cited columns of one instrument's rows.

    Args:
        instrument: Instrument key.
        spec: The rows' feature spec.
        columns: Names of the columns to cite; names that the spec lacks are refused.
        lately: Names of the columns whose mean of the last seconds is cited as well, likewise.

    Raises:
        KeyError: If a column is not in the spec.
    """

    def __init__(
        self,
        instrument: str,
        spec: FeatureSpec,
        columns: tuple[str, ...],
        lately: tuple[str, ...] = (),
    ) -> None:
        self._instrument = instrument
        self._features = tuple(spec.features[spec.columns[name]] for name in (*columns, *lately))
        self._names = (*columns, *(f"{name}{LATELY}" for name in lately))
        self._at = np.array([spec.columns[name] for name in (*columns, *lately)], dtype=np.int64)
        self._n_columns = len(columns)
        self._lately = [0.0] * len(lately)
        self._mean = [0.0] * len(self._names)
        self._var = [0.0] * len(self._names)
        self._n = 0

    def push(self, row: NDArray[np.float64]) -> None:
        """Take one row [n_features] into the running moments."""
        self._n += 1
        weight = max(1.0 / self._n, 1.0 / _MEMORY)
        quick = max(1.0 / self._n, 1.0 / _LATELY)
        values = row[self._at].tolist()
        for i, value in enumerate(values[self._n_columns :]):
            self._lately[i] += quick * (value - self._lately[i])
        for i, value in enumerate((*values[: self._n_columns], *self._lately)):
            step = value - self._mean[i]
            self._mean[i] += weight * step
            self._var[i] = (1.0 - weight) * (self._var[i] + weight * step * step)

    def z(self, name: str, row: NDArray[np.float64]) -> float:
        """Return the z-score of a cited column of a row [n_features]; 0 until a minute is known.

        Raises:
            ValueError: If the column is not cited.
        """
        i = self._names.index(name)
        spread = math.sqrt(self._var[i])
        if self._n < _MEMORY or spread <= 0.0:
            return 0.0
        return (float(row[self._at[i]]) - self._mean[i]) / spread

    def observations(self, row: NDArray[np.float64], ts: int) -> tuple[Evidence, ...]:
        """Return one observation per cited column of a row [n_features], known at `ts`."""
        found = []
        values = (*row[self._at[: self._n_columns]].tolist(), *self._lately)
        for i, (name, feature, value) in enumerate(
            zip(self._names, self._features, values, strict=True)
        ):
            spread = math.sqrt(self._var[i])
            found.append(
                observation(
                    self._instrument,
                    name,
                    ts,
                    value,
                    spread=spread,
                    deviation=value - self._mean[i],
                    unit=feature.unit,
                    window_ns=feature.window_ns if feature.unit_of_window == "ns" else 0,
                )
            )
        return tuple(found)
