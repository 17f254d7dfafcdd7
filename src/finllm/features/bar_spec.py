"""The first spec of a bar row: what each column is, in which unit, over how many bars.

Windows are counted in bars of the instrument, so a night or a weekend takes no bars; what happens in
it is in the return of the bar after it.
"""

from typing import Final

from finllm.domain.spec import Feature, FeatureSpec


def _state(name: str, unit: str, source: str) -> Feature:
    return Feature(name=name, unit=unit, source=source)


def _window(name: str, unit: str, bars: int, source: str) -> Feature:
    return Feature(name=name, unit=unit, window_ns=bars, unit_of_window="bars", source=source)


BAR_SPEC: Final = FeatureSpec(
    name="bar",
    version=1,
    features=(
        _window("ret_1", "bps", 1, "close / close before - 1"),
        _window("ret_2", "bps", 2, "the same over 2 bars"),
        _window("ret_7", "bps", 7, "the same over 7 bars: a US session of hours"),
        _window("ret_35", "bps", 35, "the same over 35 bars: five such sessions"),
        _window(
            "sigma",
            "bps/sqrt(s)",
            35,
            "EWMA of squared one-bar returns, zero mean, window = half-life, weights normalised since "
            "the first, / nominal seconds of a bar; at least 1 bps per root bar",
        ),
        _window("ret_1_z", "1", 1, "ret_1 / (sigma root 1 bar)"),
        _window("ret_7_z", "1", 7, "ret_7 / (sigma root 7 bars)"),
        _window("rv_ratio", "1", 35, "log(root mean square return of 7 bars / of 35 bars)"),
        _window("range", "bps", 1, "(high - low) / close"),
        _window("range_rel", "1", 35, "log(range / its mean over the window)"),
        _window("close_in_range", "1", 1, "(2 close - high - low) / (high - low)"),
        _state("gap", "bps", "open of the session / close before it - 1, held through the session"),
        _window("volume_rel", "1", 35, "log((volume + 1) / (its mean over the window + 1))"),
        _state(
            "session_clock", "1", "time from the session's start to the bar's, / session length"
        ),
        _state("is_first", "1", "1 on the first bar after a pause of more than 4 h, else 0"),
        _state("is_last", "1", "1 if the bar's nominal end reaches the session's length, else 0"),
        _state("weekday", "1", "Monday -1 to Friday +1, of the bar's start in UTC"),
        _state("is_monday", "1", "1 on Mondays, else 0"),
        _state("is_friday", "1", "1 on Fridays, else 0"),
        _window(
            "market_ret_1",
            "bps",
            1,
            "ret_1 of the leading instrument's newest bar, if it came since our bar before, else 0",
        ),
        _window("market_ret_7", "bps", 7, "ret_7 of the same bar, else 0"),
    ),
)
"""What `BarFeatures` writes, in order."""
