"""The first spec of a book row: what each column is, in which unit, over which window, after whom.

Every column is free of scale, so that one model can be pooled over instruments. Two words used
below: `lots per mean touch` are lots divided by the mean size of one touch queue over the last 10 s;
`slog(x)` is sign(x) log(1 + |x|), which keeps the sign and tames the tail.
"""

from typing import Final

from finllm.domain.spec import Feature, FeatureSpec
from finllm.domain.units import NS_PER_MS, NS_PER_S

_CKS: Final = "Cont, Kukanov & Stoikov (2014), eq. 3"
_XGH: Final = "Xu, Gould & Howison (2018), eq. 5, summed over 5 levels"
_OBI: Final = "(bid - ask) / (bid + ask) in lots, Gould & Bonart (2016), cumulated over levels"
_TOUCH: Final = "slog(lots per mean touch)"


def _state(name: str, unit: str, source: str) -> Feature:
    return Feature(name=name, unit=unit, source=source)


def _window(name: str, unit: str, ms: int, source: str) -> Feature:
    return Feature(name=name, unit=unit, window_ns=ms * NS_PER_MS, source=source)


BOOK_SPEC: Final = FeatureSpec(
    name="book",
    version=1,
    features=(
        _state("obi_1", "1", f"{_OBI} 1"),
        _state("obi_3", "1", f"{_OBI} 1 to 3"),
        _state("obi_5", "1", f"{_OBI} 1 to 5"),
        _state("obi_10", "1", f"{_OBI} 1 to 10"),
        _state("log_queue_ratio", "1", "log(bid size / ask size) at the touch"),
        _window(
            "min_queue", "1", 10_000, "log(smaller touch queue / its mean over the window's events)"
        ),
        _state("wmid_offset", "bps", "(weighted mid - mid) / mid"),
        _state("log_spread", "log(ticks)", "log(max(spread, 1 tick))"),
        _state("spread", "bps", "spread / mid"),
        _window("ofi_100ms", _TOUCH, 100, _CKS),
        _window("ofi_500ms", _TOUCH, 500, _CKS),
        _window("ofi_2s", _TOUCH, 2_000, _CKS),
        _window("ofi_10s", _TOUCH, 10_000, _CKS),
        _window("mlofi_500ms", "slog(lots per mean level)", 500, _XGH),
        _window("mlofi_2s", "slog(lots per mean level)", 2_000, _XGH),
        _window("flow_500ms", _TOUCH, 500, "traded lots, signed by the aggressor"),
        _window("flow_2s", _TOUCH, 2_000, "traded lots, signed by the aggressor"),
        _window("flow_10s", _TOUCH, 10_000, "traded lots, signed by the aggressor"),
        _window("trade_rate_2s", "log(1 + 1/s)", 2_000, "trades per second"),
        _window("trade_rate_10s", "log(1 + 1/s)", 10_000, "trades per second"),
        _window("event_rate_500ms", "log(1 + 1/s)", 500, "events of any kind per second"),
        _window("event_rate_2s", "log(1 + 1/s)", 2_000, "events of any kind per second"),
        _window("ret_1s", "bps", 1_000, "sum of mid moves / mid"),
        _window("ret_10s", "bps", 10_000, "sum of mid moves / mid"),
        _window("rv_1s", "bps/sqrt(s)", 1_000, "root of summed squared mid moves, event by event"),
        _window("rv_10s", "bps/sqrt(s)", 10_000, "the same"),
        _window("rv_60s", "bps/sqrt(s)", 60_000, "the same"),
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
        _window(
            "turnover_10s", "log(1 + lots per mean touch)", 10_000, "traded lots of either side"
        ),
        _state(
            "depth_slope", "1", "log(mean size of a level, 1 to 10 / mean size of a touch queue)"
        ),
        _state("depth_slope_skew", "1", "the same of the bids less that of the asks"),
    ),
)
"""What `BookFeatures` writes, in order."""

RESTART_NS: Final = 10 * NS_PER_S
"""A row is warm once this much time, and `WARM_ROWS` rows, have passed since the start or a gap; a
clock that goes back by more than this starts everything afresh."""
WARM_ROWS: Final = 50
