"""What can be set about the synthetic market, and what is listed on it."""

import math
from typing import Final

import msgspec

from finllm.domain.errors import SettingsError
from finllm.domain.instrument import Instrument
from finllm.domain.units import NS_PER_S

VENUE: Final = "binance-usdm"
"""The venue whose wire format is spoken."""
START: Final = 1_767_225_600 * NS_PER_S
"""2026-01-01T00:00:00Z."""
EPISODES: Final = ("announcement", "rumour", "drain", "gap")
"""Kinds of episode that can be planted."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One listed instrument and the words that people use for it."""

    symbol: str
    ticks: int
    """First efficient price, in ticks."""
    decimals: int
    """A tick is 10 to the power of minus this, in quote currency."""
    queue_lots: int
    """Usual size at the touch; a lot is 0.001 of the coin."""
    volatility: float
    """Relative to BTC."""
    names: tuple[str, ...]
    places: tuple[str, ...]
    """Invented firms and projects whose fate is this instrument's."""


LISTINGS: Final = (
    Listing(
        symbol="BTCUSDT",
        ticks=618_000,
        decimals=1,
        queue_lots=3_000,
        volatility=1.0,
        names=("Bitcoin", "BTC", "$BTC", "bitcoin"),
        places=("Harbourline Custody", "Kestrel Bitcoin Trust", "Northgate Mining"),
    ),
    Listing(
        symbol="ETHUSDT",
        ticks=268_000,
        decimals=2,
        queue_lots=15_000,
        volatility=1.1,
        names=("Ethereum", "ETH", "$ETH", "Ether"),
        places=("Lattice Staking", "Orrery Rollup", "Penrose Ether Fund"),
    ),
    Listing(
        symbol="SOLUSDT",
        ticks=15_420,
        decimals=2,
        queue_lots=200_000,
        volatility=1.3,
        names=("Solana", "SOL", "$SOL"),
        places=("Meridian Validators", "Sunfish Exchange", "Corona Labs"),
    ),
)
"""Prices, ticks and queues near those of usdm futures in August 2024; firms are invented."""

_BY_SYMBOL: Final = {listing.symbol: listing for listing in LISTINGS}


class SyntheticMarket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the synthetic market. The same settings give the same bytes."""

    seed: int = 7
    duration_s: float = 600.0
    start: int = START
    """Receive time of the tape's first instant, ns UTC, a whole second."""
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
    """Names from `LISTINGS`; the first leads the others by a fraction of a second."""
    events_per_s: float = 60.0
    """Touch changes and trades per second and instrument in an average regime."""
    noise_per_min: float = 15.0
    """Documents without effect per minute."""
    planted: tuple[str, ...] = EPISODES
    """Kinds of episode to plant; empty for a market without news or faults."""

    @property
    def end(self) -> int:
        """Return the tape's end, ns UTC; everything on it is received strictly before."""
        return self.start + round(self.duration_s * NS_PER_S)


def checked(settings: SyntheticMarket) -> SyntheticMarket:
    """Return the settings if they can be used.

    Raises:
        SettingsError: If a value is outside its range or a name is unknown.
    """
    for name, low, high in (
        ("duration_s", 0.0, 31 * 86_400.0),
        ("events_per_s", 1.0, 2_000.0),
        ("noise_per_min", 0.0, 600.0),
        ("seed", 0, 2**63),
    ):
        value = getattr(settings, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise SettingsError(
                f"{value} is out of range", place=name, mend=f"Use {low:g} to {high:g}."
            )
    if settings.start < 0 or settings.start % NS_PER_S:
        raise SettingsError(
            f"{settings.start} is not a whole second",
            place="start",
            mend="Give ns UTC, in seconds.",
        )
    _known("symbols", settings.symbols, tuple(_BY_SYMBOL))
    if not settings.symbols:
        raise SettingsError("no symbol", place="symbols", mend=f"Choose from {list(_BY_SYMBOL)}.")
    _known("planted", settings.planted, EPISODES)
    return settings


def _known(place: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known or names.count(name) > 1:
            raise SettingsError(
                f"{name!r} is unknown or stands twice",
                place=place,
                mend=f"Choose from {list(known)}.",
            )


def listings(settings: SyntheticMarket) -> tuple[Listing, ...]:
    """Return the listing of each symbol, in the order of the settings."""
    return tuple(_BY_SYMBOL[symbol] for symbol in settings.symbols)


def instrument(listing: Listing) -> Instrument:
    """Return the instrument that a listing describes."""
    return Instrument(
        venue=VENUE,
        symbol=listing.symbol,
        tick_size=10.0**-listing.decimals,
        lot_size=0.001,
        quote="USDT",
        source="finllm.market.synthetic.settings.LISTINGS",
    )
