"""Synthetic regimes: the law is frozen, streams follow it, the oracle is exact, rules are learnt."""

import numpy as np
import pytest

from finllm_lab.regimes.law import Law, law_hash, load_law, runs
from finllm_lab.regimes.oracle import beliefs, confirmed
from finllm_lab.regimes.stream import draw

FROZEN = "463c92f3711046cc8379dce0328a90d0935afb08dd8de747b6b030a57142e8c4"
"""Recorded before any detector was tuned on the law."""


@pytest.fixture(scope="module")
def law() -> Law:
    return load_law()


def test_the_law_is_the_one_that_was_frozen_before_the_detector_was_tuned() -> None:
    assert law_hash() == FROZEN


def test_a_seed_names_one_stream(law: Law) -> None:
    a, b, c = draw(law, 7, 2_000), draw(law, 7, 2_000), draw(law, 8, 2_000)
    assert a.ts.tobytes() == b.ts.tobytes()
    assert a.mid2.tobytes() == b.mid2.tobytes()
    assert a.label.tobytes() == b.label.tobytes()
    assert a.ts.tobytes() != c.ts.tobytes()


def test_a_stream_has_the_laws_dwell_times_symbols_and_unit_scale(law: Law) -> None:
    stream = draw(law, 3, 1_000_000)
    spans = runs(stream.regime)[1:-1]
    for k in range(3):
        lengths = [end - start for start, end in spans if stream.regime[start] == k]
        assert np.mean(lengths) == pytest.approx(law.dwell[k], rel=0.25)
        seen = np.bincount(stream.seen[stream.regime == k], minlength=80).reshape(2, 40)
        shares = seen / seen.sum(axis=1, keepdims=True)
        meant = np.array(law.table).reshape(2, 40, 3)[:, :, k]
        np.testing.assert_allclose(shares, meant, atol=0.01)
    assert (np.diff(stream.ts) >= 0).all()
    np.testing.assert_array_equal(stream.switches, [start for start, _ in runs(stream.regime)][1:])


def test_the_oracles_probabilities_are_calibrated(law: Law) -> None:
    """What it holds for 80 to 90 % comes true 80 to 90 % of the time: no filter could know more."""
    stream = draw(law, 4, 400_000)
    belief = beliefs(law, stream.seen)
    np.testing.assert_allclose(belief.sum(axis=1), 1.0, atol=1e-9)
    top = belief.argmax(axis=1)
    said, right = belief.max(axis=1), top == stream.regime
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        part = (said >= low) & (said < low + 0.1)
        assert right[part].mean() == pytest.approx(said[part].mean(), abs=0.05)


def test_a_regime_is_reported_only_once_it_is_confirmed() -> None:
    belief = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.5, 0.4, 0.1]])
    assert confirmed(belief, 0.8).tolist() == [0, 0, 1, 1]
