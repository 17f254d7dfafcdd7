"""Words of an observation follow its sign and its z-score, and hold no figure."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finllm.domain.evidence import Evidence, EvidenceKind
from finllm.reasoning.wording import in_words

CITED = (
    *("obi_1", "obi_5", "obi_10", "obi_10_lately", "ofi_2s", "flow_2s", "sigma", "spread_rel"),
    *(
        "depth_slope",
        "depth_slope_skew",
        "depletion_10s",
        "rv_10s",
        "event_rate_2s",
        "move_5s",
        "ret_1",
    ),
)


@given(st.sampled_from(CITED), st.floats(-1e6, 1e6), st.floats(-1e3, 1e3))
def test_all_that_is_cited_has_words_without_figures(feature: str, value: float, z: float) -> None:
    said = in_words(
        Evidence(
            evidence_id="o",
            kind=EvidenceKind.OBSERVATION,
            instrument="test:A",
            ts_recv=1,
            origin="market",
            feature=feature,
            value=value,
            z_score=z,
        )
    )
    assert said
    assert not any(c.isdigit() for c in said)


@pytest.mark.parametrize(
    ("feature", "value", "z", "said"),
    [
        ("obi_10_lately", 0.3, 0.4, "bids outweigh asks deep into the book, as usual"),
        ("depth_slope_skew_lately", -0.3, -1.2, "asks are stacked deeper than bids, rather so"),
        ("obi_1", 0.05, -3.2, "bids outweigh asks at the touch, though very unusually little"),
        ("depth_slope_lately", 0.3, -2.2, "depth behind the touch is unusually thin"),
        ("rv_60s", 1.0, 0.2, "volatility is as usual"),
        ("move_60s", 0.0, 0.0, "the price has not moved"),
        ("obi_1", 0.0, -1.0, "neither side prevails"),
        ("unheard_of", 1.0, 1.0, ""),
    ],
)
def test_words_say_which_way_and_how_unusual(
    make: Callable[..., Any], feature: str, value: float, z: float, said: str
) -> None:
    assert in_words(make("observation", "o", feature, z, value=value)) == said
