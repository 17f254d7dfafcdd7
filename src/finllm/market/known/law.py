"""The law of the known worlds: every number that they depend on, with where it comes from.

"Fitted" means: measured by `finllm_lab worth measure` on training tapes alone (docs/lab-log.md, 2026-11-22).
The rest is set, because no tape tells it: which text is behind which move is exactly what nobody labels.
"""

from typing import Final

import msgspec

HORIZONS_S: Final = (30, 120, 600, 1800)
GRID_S: Final = 10
DAY_S: Final = 86_400
STEPS: Final = DAY_S // GRID_S
BAND: Final = 0.4
"""Half-width of the flat band in deviations of the horizon, as `domain.label.SIGMA_BAND`."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument and the words that people use for it. All are invented."""

    key: str
    sigma_bps: float
    """Usual deviation of a 10 s return in a calm market."""
    lang: str
    names: tuple[str, ...]


LISTINGS: Final = (
    Listing(key="known:HBRL", sigma_bps=1.5, lang="en", names=("Harbourline",)),
    Listing(key="known:KSTL", sigma_bps=2.6, lang="en", names=("Kestrel Power",)),
    Listing(key="known:ORRY", sigma_bps=1.1, lang="en", names=("Orrery Chain",)),
    Listing(key="known:YJKJ", sigma_bps=2.9, lang="zh", names=("远江科技",)),
    Listing(key="known:PCLR", sigma_bps=2.0, lang="es", names=("Puerto Claro",)),
    Listing(key="known:HBDJ", sigma_bps=1.3, lang="ko", names=("한빛전자",)),
)
"""Deviations span those of the training tapes, 0.4 to 2.9 bps (fitted)."""


class Outlet(msgspec.Struct, frozen=True, kw_only=True):
    """A source. All are invented."""

    name: str
    is_sound: bool
    authors: int
    """How many write for it; 0 = none is named."""
    followers: int
    delay_s: float
    """Median time from publication to receipt."""


OUTLETS: Final = (
    Outlet(name="bureau-releases", is_sound=True, authors=0, followers=3_000_000, delay_s=0.2),
    Outlet(name="meridian-newswire", is_sound=True, authors=12, followers=2_400_000, delay_s=0.3),
    Outlet(name="ledger-post", is_sound=True, authors=9, followers=610_000, delay_s=2.0),
    Outlet(name="block-courier", is_sound=True, authors=6, followers=180_000, delay_s=4.0),
    Outlet(name="open-columns", is_sound=False, authors=40, followers=60_000, delay_s=5.0),
    Outlet(name="tape-whispers", is_sound=False, authors=5, followers=24_000, delay_s=1.0),
    Outlet(name="chirp", is_sound=False, authors=300, followers=3_200, delay_s=1.0),
    Outlet(name="street-forum", is_sound=False, authors=200, followers=700, delay_s=1.5),
)
OFFICIAL: Final = OUTLETS[0]
"""Publishes what is scheduled, and seldom anything else."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of story. Sizes are in usual deviations of ten minutes, of the present volatility."""

    per_hour: float
    """Stories an hour and instrument."""
    size: float
    """Median of the whole move; 0 = the story moves nothing."""
    size_spread: float = 0.6
    """Deviation of the size's log."""
    half_life_s: float = 60.0
    """Median half-life of what is left of the move."""
    half_life_spread: float = 0.5
    lag_s: tuple[float, float] = (0.0, 0.0)
    """From publication to the onset; below zero, the market led."""
    volatility: float = 0.0
    """Added to the factor of volatility per unit of size, at most `most_volatility`."""
    sound: float = 0.5
    """Chance of a sound outlet."""
    named: float = 0.9
    """Chance that it is plainly about the instrument; else it is mentioned in passing."""
    headline: float = 0.8
    """Chance that it is worded as a headline, not as chat."""
    as_rumour: float = 0.05
    """Chance that it is hedged as unconfirmed."""
    echoes: float = 1.0
    """Mean number of further outlets that repeat it."""


KINDS: Final[dict[str, Kind]] = {
    "surprise": Kind(
        per_hour=0.35, size=1.5, half_life_s=180.0, half_life_spread=0.6, lag_s=(2.0, 60.0),
        volatility=0.3, sound=0.95, named=0.9, headline=0.7, echoes=2.0,
    ),
    "scheduled": Kind(
        per_hour=0.17, size=1.2, half_life_s=120.0, lag_s=(0.0, 4.0), volatility=0.4, sound=1.0,
        named=1.0, headline=1.0, as_rumour=0.0, echoes=2.0,
    ),
    "slow drift": Kind(
        per_hour=0.10, size=2.0, half_life_s=1_500.0, lag_s=(20.0, 120.0), volatility=0.03,
        sound=0.9, headline=0.6,
    ),
    "true rumour": Kind(
        per_hour=0.05, size=1.2, half_life_s=240.0, lag_s=(5.0, 60.0), volatility=0.3, sound=0.25,
        as_rumour=0.9,
    ),
    "false rumour": Kind(
        per_hour=0.10, size=0.9, half_life_s=90.0, lag_s=(5.0, 40.0), volatility=0.3, sound=0.1,
        as_rumour=0.8,
    ),
    "priced in": Kind(
        per_hour=0.20, size=1.5, half_life_s=120.0, lag_s=(-1_200.0, -600.0), volatility=0.3,
        sound=0.85,
    ),
    "no effect": Kind(per_hour=0.30, size=0.0, sound=0.8, echoes=1.5),
    "campaign": Kind(per_hour=0.04, size=0.0, sound=0.0, headline=0.7, as_rumour=0.3, echoes=0.0),
    "chatter": Kind(
        per_hour=7.5, size=0.0, sound=0.05, named=0.75, headline=0.7, as_rumour=0.12, echoes=0.1,
    ),
    "drain": Kind(
        per_hour=0.15, size=0.9, half_life_s=60.0, half_life_spread=0.4, lag_s=(15.0, 60.0),
        volatility=0.3, echoes=0.0,
    ),
}  # fmt: skip
"""The median size of a sudden move, 1.5, is that of one-minute jumps (fitted, 1.49); so is the volatility
after one, 1.47 times that before (fitted)."""

SILENT: Final = frozenset({"drain"})
"""Kinds that no document tells of: the market's own flags raise the question."""


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """Every further number."""

    regime_ratio: tuple[float, float, float] = (1.0, 2.0, 3.1)
    """Volatility of calm, active and stressed times (fitted: 1, 1.997, 3.142)."""
    dwell_s: tuple[float, float, float] = (1_240.0, 535.0, 476.0)
    """Mean stay in each (fitted)."""
    log_vol_sd: float = 0.2
    """Slow noise in the log of volatility (fitted: 0.205)."""
    log_vol_half_life_s: float = 6_286.0
    """(fitted)"""
    common: float = 0.5
    """Chance that an instrument is in the whole market's regime."""
    size: float = 1.0
    """Scale of all sizes."""
    pace: float = 1.0
    """Scale of all half-lives."""
    rate: float = 1.0
    """Scale of how often there is a story with an effect."""
    noise: float = 1.0
    """Scale of how often there is one without."""
    soundness: float = 1.0
    """Scale of how far sound outlets are preferred by what has an effect."""
    most_volatility: float = 1.5
    repost: float = 0.42
    """Share of posts whose words were posted before (fitted); of our copies so many are exact."""
    busy: float = 2.1
    """Mean size of a burst of chatter: variance over mean of its number in five minutes (fitted: 2.14)."""
    echo_s: tuple[float, float] = (3.0, 240.0)
    """From one copy to the next."""
    campaign_posts: tuple[int, int] = (6, 12)
    campaign_s: float = 600.0
    denied: float = 0.7
    """Chance that a false rumour is denied; else its effect fades by itself."""
    denial_s: tuple[float, float] = (120.0, 900.0)
    fade_s: float = 900.0
    alarm_false_per_hour: float = 0.2
    """Flags of the market's own that nothing follows."""
    schedule_h: tuple[int, ...] = (2, 8, 14, 20)
    """Hours UTC of scheduled news, each instrument at a minute of its own."""


LAW: Final = Law()
MOVED: Final = ("size", "pace", "rate", "noise", "soundness", "regime_ratio", "dwell_s")
"""What is moved by half either way to see what remains."""


def moved(name: str, factor: float) -> Law:
    """Return the law with one of `MOVED` scaled; regimes keep calm as their unit."""
    value = getattr(LAW, name)
    if name == "regime_ratio":
        changed: object = (1.0, *(1.0 + (ratio - 1.0) * factor for ratio in value[1:]))
    elif isinstance(value, tuple):
        changed = tuple(each * factor for each in value)
    else:
        changed = value * factor
    return msgspec.structs.replace(LAW, **{name: changed})
