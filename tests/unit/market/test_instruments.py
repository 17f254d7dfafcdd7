"""Ticks and lots, known and guessed."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finllm.market.instruments import (
    KNOWN,
    USDM,
    InstrumentTable,
    decimals,
    decimals_of,
    infer,
    per_unit,
)


def test_every_listed_instrument_states_its_source():
    table = InstrumentTable()
    for instrument in KNOWN:
        assert instrument.source
        assert table.find(instrument.venue, instrument.symbol) is instrument
    assert len({instrument.key for instrument in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize("step", [0.1, 0.01, 0.001, 0.00001, 1e-8, 0.25, 0.5])
def test_steps_below_one_have_a_whole_inverse(step):
    assert per_unit(step) == round(1 / step)


@pytest.mark.parametrize(
    ("text", "n"), [("1.500", 1), ("1", 0), ("1.000", 0), ("0.00000001", 8), ("1e-5", 0), ("", 0)]
)
def test_decimals_are_those_that_a_number_needs(text, n):
    assert decimals(text) == n


def test_the_smallest_step_seen_becomes_the_tick():
    guess = infer(USDM, "ABCUSDC_250101", ["1.50", "1.25", "2.00"], ["3", "0.5"])
    assert (guess.tick_size, guess.lot_size, guess.quote) == (0.01, 0.1, "USDC")
    assert "3 prices" in guess.source


@given(
    st.lists(
        st.one_of(
            st.decimals(0, 10**9, places=8, allow_nan=False).map(float),
            st.decimals(0, 10**6, places=2, allow_nan=False).map(float),
            st.floats(),
        ),
        max_size=6,
    )
)
@example([0.01, 360287970189641.0])
def test_decimals_of_numbers_are_those_of_their_shortest_texts(numbers):
    texts = [format(Decimal(repr(number)), "f") for number in numbers]
    assert decimals_of(numbers) == max(map(decimals, texts), default=0)
