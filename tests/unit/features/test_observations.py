"""Laws of the columns that may be cited."""

import numpy as np
import pytest

from finllm.features.book_spec import BOOK_SPEC
from finllm.features.observations import Observer


def row(value: float) -> np.ndarray:
    made = np.zeros(len(BOOK_SPEC))
    made[BOOK_SPEC.columns["depletion_10s"]] = value
    return made


def test_the_z_of_a_column_is_that_of_its_evidence_once_a_minute_is_known() -> None:
    observer = Observer("test:A", BOOK_SPEC, ("sigma", "depletion_10s"))
    for i in range(599):
        observer.push(row(float(i % 5)))
    assert observer.z("depletion_10s", row(-9.0)) == 0.0
    observer.push(row(2.0))
    cited = {e.feature: e.z_score for e in observer.observations(row(-9.0), 1)}
    assert observer.z("depletion_10s", row(-9.0)) == cited["depletion_10s"] < -4.0
    assert observer.z("sigma", row(0.0)) == 0.0
    with pytest.raises(ValueError, match="not in tuple"):
        observer.z("obi_1", row(0.0))
