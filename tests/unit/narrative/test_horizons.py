"""Horizons: how long events of a kind go on mattering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from finllm.narrative.alignment.horizons import REACH, bearing, matters_for
from finllm.narrative.reading.claims import EVENT_TYPES


@given(
    st.sampled_from(EVENT_TYPES),
    st.integers(0, 30 * NS_PER_DAY),
    st.integers(0, 30 * NS_PER_DAY),
    st.integers(0, 30 * NS_PER_DAY),
)
def test_a_move_is_shared_out_between_horizons_and_wanes_with_age(
    kind: str, first: int, second: int, age: int
) -> None:
    whole = bearing(kind, first + second, age)[0]
    parts = bearing(kind, first, age)[0] + bearing(kind, second, age + first)[0]
    assert whole == pytest.approx(parts, abs=1e-9)
    assert 0.0 <= whole <= bearing(kind, first + second)[0] <= 1.0
    assert bearing(kind, second + 1, age)[1] <= bearing(kind, second + 1)[1]


def test_half_of_a_move_happens_within_its_half_life() -> None:
    for kind, reach in REACH.items():
        assert bearing(kind, reach.price_ns)[0] == pytest.approx(0.5)


def test_a_takeover_is_priced_sooner_than_an_outlook_and_a_second_tells_of_neither() -> None:
    horizons = (NS_PER_S, 10 * NS_PER_MIN, NS_PER_DAY)
    assert bearing("merger", 10 * NS_PER_MIN)[0] > bearing("guidance", 10 * NS_PER_MIN)[0]
    assert matters_for("guidance", horizons) == (NS_PER_DAY,)
    assert 10 * NS_PER_MIN in matters_for("merger", horizons)
    assert matters_for("merger", (40 * NS_PER_HOUR,)) == ()


def test_an_unknown_kind_counts_as_other() -> None:
    assert bearing("alien landing", NS_PER_HOUR) == bearing("other", NS_PER_HOUR)
