"""Drift is told in the reference's own deviations."""

import msgspec
import numpy as np
import pytest

from finllm.domain.spec import Feature, FeatureSpec
from finllm_lab.drift import drifts
from lab_sessions import session_of

SPEC = FeatureSpec(
    name="toy",
    version=1,
    features=tuple(Feature(name=name, unit="1", source="toy") for name in ("obi_1", "sigma")),
)


def test_a_recording_does_not_drift_from_itself() -> None:
    session = session_of(500, 1)
    for found in drifts(session, session, SPEC):
        assert (found.shift, found.stretch) == (0.0, 1.0)


def test_shift_and_stretch_are_in_the_references_deviations() -> None:
    session = session_of(500, 1)
    valid = session.rows[session.heads["flags"] == 1]
    rows = session.rows * [3.0, 1.0] + [0.0, 2.0 * valid[:, 1].std()]
    obi, sigma = drifts(session, msgspec.structs.replace(session, rows=rows), SPEC)
    assert obi.stretch == pytest.approx(3.0)
    assert obi.shift == pytest.approx(2.0 * valid[:, 0].mean() / valid[:, 0].std())
    assert (sigma.shift, sigma.stretch) == (pytest.approx(2.0), pytest.approx(1.0))


def test_rows_that_are_not_valid_do_not_count_and_still_columns_are_left_out() -> None:
    session = session_of(500, 1)
    rows = np.where((session.heads["flags"] == 1)[:, None], session.rows, 1e9)
    rows[:, 0] = 0.0
    still = msgspec.structs.replace(session, rows=rows)
    assert [(d.column, d.stretch) for d in drifts(still, still, SPEC)] == [("sigma", 1.0)]


def test_a_recording_without_a_valid_row_is_refused() -> None:
    session = session_of(50, 1)
    heads = session.heads.copy()
    heads["flags"] = 4
    with pytest.raises(ValueError, match="no valid row in toy"):
        drifts(session, msgspec.structs.replace(session, heads=heads), SPEC)
