"""The spec of a book row: what each column is, in which unit, over which window, after whom.

Every column is free of scale, so that one model can be pooled over instruments and years. Words used
below: `lots per mean touch` are lots divided by the mean size of one touch queue over the last 10 s;
`slog(x)` is sign(x) log(1 + |x|), which keeps the sign and tames the tail; `scale root w` is the
volatility of a window of length w by the column `sigma`, which is taken as at least half the spread.
That and the means over a minute are the rolling standardisation: what drifts with the price, the tick
or the year is stated against its own recent past.
"""

from typing import Final

from finllm.domain.spec import Feature, FeatureSpec
from finllm.domain.units import NS_PER_MS, NS_PER_S

_CKS: Final = "Cont, Kukanov & Stoikov (2014), eq. 3"
_XGH: Final = "Xu, Gould & Howison (2018), eq. 5, summed over 5 levels"
_OBI: Final = "(bid - ask) / (bid + ask) in lots, Gould & Bonart (2016), cumulated over levels"
_TOUCH: Final = "slog(lots per mean touch)"
_SCALED: Final = "slog(scale root w)"
_LEVEL: Final = "slog(lots per mean level)"
_TRADED: Final = "traded lots, signed by the aggressor"
_RV: Final = "root of summed squared mid moves, event by event, at least 0.05 scale root w"
_CANCELLED: Final = (
    "lots that left the 5 best levels less lots traded, at least 0: what left without a trade"
)
_RESILIENCE: Final = (
    "(lots that came - lots that left) / both, price by price on the 5 best levels: -1 where nothing "
    "of what was consumed has come back, 0 where all of it has; after Large (2007)"
)
_DEPLETION: Final = "log(mean size of the 5 best levels / its mean over the window's events)"
_LEADS: Final = (
    "newest row of the leader (BTC for ETH) received before; 0 once older than the window"
)


def _state(name: str, unit: str, source: str) -> Feature:
    return Feature(name=name, unit=unit, source=source)


def _window(name: str, unit: str, ms: int, source: str) -> Feature:
    return Feature(name=name, unit=unit, window_ns=ms * NS_PER_MS, source=source)


BOOK_SPEC: Final = FeatureSpec(
    name="book",
    version=2,
    features=(
        _state("obi_1", "1", f"{_OBI} 1"),
        _state("obi_3", "1", f"{_OBI} 1 to 3"),
        _state("obi_5", "1", f"{_OBI} 1 to 5"),
        _state("obi_10", "1", f"{_OBI} 1 to 10"),
        _state("log_queue_ratio", "1", "log(bid size / ask size) at the touch"),
        _window(
            "min_queue", "1", 10_000, "log(smaller touch queue / its mean over the window's events)"
        ),
        _state("wmid_offset", "slog(scale root 1 s)", "weighted mid - mid"),
        _state(
            "microprice_offset",
            "slog(scale root 1 s)",
            "microprice - mid, Stoikov (2018), section 3, its table learnt online: half of what a cell "
            "knows is from its last 100 stays",
        ),
        _state("log_spread", "log(ticks)", "log(max(spread, 1 tick))"),
        _window(
            "spread_rel",
            "1",
            60_000,
            "log(spread / its mean over time, window = half-life), the spread at least 1 tick",
        ),
        _window("ofi_100ms", _TOUCH, 100, _CKS),
        _window("ofi_500ms", _TOUCH, 500, _CKS),
        _window("ofi_2s", _TOUCH, 2_000, _CKS),
        _window("ofi_10s", _TOUCH, 10_000, _CKS),
        _window("mlofi_100ms", _LEVEL, 100, _XGH),
        _window("mlofi_500ms", _LEVEL, 500, _XGH),
        _window("mlofi_2s", _LEVEL, 2_000, _XGH),
        _window("mlofi_10s", _LEVEL, 10_000, _XGH),
        _window("flow_100ms", _TOUCH, 100, _TRADED),
        _window("flow_500ms", _TOUCH, 500, _TRADED),
        _window("flow_2s", _TOUCH, 2_000, _TRADED),
        _window("flow_10s", _TOUCH, 10_000, _TRADED),
        _window("trade_rate_2s", "log(1 + 1/s)", 2_000, "trades per second"),
        _window(
            "trade_rate_rel",
            "1",
            10_000,
            "log((trades per second + 0.1) / (the same over 60 s + 0.1))",
        ),
        _window("event_rate_500ms", "log(1 + 1/s)", 500, "events of any kind per second"),
        _window("event_rate_2s", "log(1 + 1/s)", 2_000, "events of any kind per second"),
        _window("cancel_rate_2s", "log(1 + lots per mean touch/s)", 2_000, _CANCELLED),
        _window("cancel_rate_10s", "log(1 + lots per mean touch/s)", 10_000, _CANCELLED),
        _window("resilience_2s", "1", 2_000, _RESILIENCE),
        _window("resilience_10s", "1", 10_000, _RESILIENCE),
        _window("depletion_10s", "1", 10_000, _DEPLETION),
        _window("depletion_60s", "1", 60_000, _DEPLETION),
        _window(
            "turnover_10s", "log(1 + lots per mean touch)", 10_000, "traded lots of either side"
        ),
        _window("ret_500ms", _SCALED, 500, "sum of mid moves"),
        _window("ret_1s", _SCALED, 1_000, "sum of mid moves"),
        _window("ret_10s", _SCALED, 10_000, "sum of mid moves"),
        _window("rv_1s", "log(scale root w)", 1_000, _RV),
        _window("rv_10s", "log(scale root w)", 10_000, _RV),
        _window("rv_60s", "log(scale root w)", 60_000, _RV),
        _window(
            "sigma",
            "bps/sqrt(s)",
            30_000,
            "EWMA of squared 1 s mid returns, zero mean, window = half-life, weights normalised "
            "since the first; at least a half-tick per root minute",
        ),
        _state(
            "sigma_half_spread",
            "1",
            "log(sigma root 1 s / half spread), the spread at least 1 tick",
        ),
        _state("last_move_sign", "1", "sign of the last mid move"),
        _state("last_move_size", "1", "log(1 + |last mid move| / half spread at present)"),
        _state("since_move", "log(s)", "time since the last mid move, 0.1 ms to 60 s"),
        _state("since_trade", "log(s)", "time since the last trade, 0.1 ms to 60 s"),
        _state(
            "depth_slope", "1", "log(mean size of a level, 1 to 10 / mean size of a touch queue)"
        ),
        _state("depth_slope_skew", "1", "the same of the bids less that of the asks"),
        _state(
            "depth_convexity",
            "1",
            "log(mean size of levels 1 to 3) - 2 log(of 4 to 7) + log(of 8 to 10), both sides "
            "together: second difference of the depth profile",
        ),
        _window("lead_ret_100ms", _SCALED, 100, f"{_LEADS}; its return, our scale"),
        _window("lead_ret_500ms", _SCALED, 500, f"{_LEADS}; its return, our scale"),
        _window("lead_ofi_500ms", _TOUCH, 500, f"{_LEADS}; its OFI over its own mean touch"),
        _state("lead_known", "1", "1 if the leader's book is trusted and spoke within 5 s, else 0"),
    ),
)
"""What `BookFeatures` writes, in order."""

RESTART_NS: Final = 10 * NS_PER_S
"""A row is warm once this much time, and `WARM_ROWS` rows, have passed since the start or a gap; a
clock that goes back by more than this starts everything afresh."""
WARM_ROWS: Final = 50
