"""How far a feature's mean and deviation drift from one recording to another.

A column that drifts by several of its own deviations tells a model which year it is rather than what
comes next. Looks at rows alone, never at what became of them.
"""

import msgspec
import numpy as np

from finllm.domain.market import Flag
from finllm.domain.spec import FeatureSpec
from finllm_lab.tapes import Session


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One column of one recording against the same column of another."""

    column: str
    shift: float
    """Its mean less the reference's mean, in the reference's standard deviations."""
    stretch: float
    """Its standard deviation over the reference's."""


def drifts(reference: Session, other: Session, spec: FeatureSpec) -> tuple[Drift, ...]:
    """Return the drift of every column over valid rows, but for those that stand still in the reference.

    Raises:
        ValueError: If either session has no valid row.
    """
    before, after = (s.rows[(s.heads["flags"] & Flag.VALID) > 0] for s in (reference, other))
    if not len(before) or not len(after):
        raise ValueError(f"no valid row in {reference.name if len(after) else other.name}")
    mean, deviation = before.mean(axis=0), before.std(axis=0)
    shift, stretch = after.mean(axis=0) - mean, after.std(axis=0)
    return tuple(
        Drift(
            column=feature.name,
            shift=float(shift[i] / deviation[i]),
            stretch=float(stretch[i] / deviation[i]),
        )
        for i, feature in enumerate(spec.features)
        if deviation[i] > 1e-9 * max(1.0, float(np.abs(mean[i])))
    )
