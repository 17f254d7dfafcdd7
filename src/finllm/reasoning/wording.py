"""Observations in words: what a number of the market amounts to, for whoever reads rather than computes.

Words say which way and how unusual, never how much: the number stands beside them. They hold no figure,
so that nothing has to be proved of them but the sign and the z-score that they come from.
"""

from typing import Final

from finllm.domain.evidence import Evidence

_SIDES: Final = (
    ("obi_10", "bids outweigh asks deep into the book", "asks outweigh bids deep into the book"),
    ("obi_5", "bids outweigh asks near the touch", "asks outweigh bids near the touch"),
    ("obi_1", "bids outweigh asks at the touch", "asks outweigh bids at the touch"),
    ("ofi", "orders come in for buying", "orders come in for selling"),
    ("flow", "trades take from the asks", "trades take from the bids"),
    ("depth_slope_skew", "bids are stacked deeper than asks", "asks are stacked deeper than bids"),
    ("move", "the price has risen", "the price has fallen"),
    ("ret", "the price has risen", "the price has fallen"),
)
"""Beginning of a feature's name, and what it says above and below zero."""
_LEVELS: Final = (
    ("sigma", "volatility", "high", "low"),
    ("rv", "volatility", "high", "low"),
    ("spread", "the spread", "wide", "narrow"),
    ("depletion", "the touch", "eaten up", "left alone"),
    ("event_rate", "the book", "busy", "quiet"),
    ("depth_slope", "depth behind the touch", "thick", "thin"),
)
"""Beginning of a feature's name, what it measures, and what that is above and below the usual."""
_DEGREES: Final = ((3.0, "very unusually"), (2.0, "unusually"), (1.0, "rather"))


def in_words(observation: Evidence) -> str:
    """Return what an observation amounts to; empty for a feature that no words are known of."""
    name = observation.feature
    degree = next((said for least, said in _DEGREES if abs(observation.z_score) >= least), "")
    for start, above, below in _SIDES:
        if name.startswith(start):
            if observation.value == 0.0:
                return (
                    "neither side prevails" if "price" not in above else "the price has not moved"
                )
            said = above if observation.value > 0.0 else below
            if not degree:
                return f"{said}, as usual"
            is_more = (observation.value > 0.0) is (observation.z_score > 0.0)
            return f"{said}, {degree} so" if is_more else f"{said}, though {degree} little"
    for start, what, high, low in _LEVELS:
        if name.startswith(start):
            if not degree:
                return f"{what} is as usual"
            return f"{what} is {degree} {high if observation.z_score > 0.0 else low}"
    return ""
