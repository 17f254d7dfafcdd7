"""Horizons: for how long an event of a kind goes on mattering, and so which horizons it bears on.

A table, not a fit: orders of magnitude for liquid instruments, to be overruled by what is measured. An
effect of half-life H has spent 1 - 2^(-h/H) of itself after h; what was received long ago has little left.
"""

from typing import Final

import msgspec

from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN
from finllm.narrative.reading.claims import EVENT_TYPES


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How long an event lasts."""

    price_ns: int
    """Half-life of what is still to come of its move of the price."""
    volatility_ns: int
    """Half-life of the volatility that it leaves behind."""
    source: str


_QUICK: Final = "scheduled or machine-readable: priced in seconds to minutes (Chordia et al. 2018)"
_VOLATILE: Final = "volatility after news decays over hours to days (Kalev et al. 2004)"

REACH: Final[dict[str, Reach]] = {
    "denial": Reach(
        price_ns=10 * NS_PER_MIN,
        volatility_ns=2 * NS_PER_HOUR,
        source="undoes a rumour, as quickly",
    ),
    "rumour": Reach(
        price_ns=10 * NS_PER_MIN, volatility_ns=2 * NS_PER_HOUR, source="until confirmed or denied"
    ),
    "hack": Reach(price_ns=NS_PER_HOUR, volatility_ns=NS_PER_DAY, source="loss known by and by"),
    "outage": Reach(
        price_ns=30 * NS_PER_MIN, volatility_ns=4 * NS_PER_HOUR, source="while it lasts"
    ),
    "merger": Reach(
        price_ns=2 * NS_PER_MIN, volatility_ns=NS_PER_HOUR, source="price set by the offer"
    ),
    "guidance": Reach(
        price_ns=2 * NS_PER_HOUR,
        volatility_ns=2 * NS_PER_DAY,
        source="drift (Bernard & Thomas 1989)",
    ),
    "earnings": Reach(price_ns=NS_PER_HOUR, volatility_ns=2 * NS_PER_DAY, source=_VOLATILE),
    "legal": Reach(price_ns=2 * NS_PER_HOUR, volatility_ns=NS_PER_DAY, source="slow to be read"),
    "listing": Reach(
        price_ns=NS_PER_HOUR, volatility_ns=NS_PER_DAY, source="buyers must act by a date"
    ),
    "macro": Reach(price_ns=5 * NS_PER_MIN, volatility_ns=2 * NS_PER_HOUR, source=_QUICK),
    "other": Reach(price_ns=15 * NS_PER_MIN, volatility_ns=2 * NS_PER_HOUR, source="unknown kind"),
}
"""By event type; every one of `EVENT_TYPES`."""
assert set(REACH) == set(EVENT_TYPES)  # noqa: S101 - a kind without a reach is a slip of ours


def bearing(event_type: str, horizon_ns: int, age_ns: int = 0) -> tuple[float, float]:
    """Return how much of an event's effect on price and on volatility falls within a horizon, 0 to 1.

    Args:
        event_type: One of `EVENT_TYPES`; any other counts as `other`.
        horizon_ns: From now on; at least 0.
        age_ns: Since the event was received; below 0 counts as 0.
    """
    reach = REACH.get(event_type, REACH["other"])
    ahead, age = max(horizon_ns, 0), max(age_ns, 0)

    def share(half_life: int) -> float:
        return float(0.5 ** (age / half_life) * (1.0 - 0.5 ** (ahead / half_life)))

    # What moves the price is spent as time goes; volatility is felt at its present height.
    return share(reach.price_ns), float(0.5 ** (age / reach.volatility_ns)) * float(ahead > 0)


def matters_for(
    event_type: str, horizons_ns: tuple[int, ...], least: float = 0.1
) -> tuple[int, ...]:
    """Return the horizons for which a fresh event's move of the price is not nearly over nor yet to come.

    Those within which at least `least` of the move happens, and that are not longer than ten of its
    half-lives, after which it is history.
    """
    reach = REACH.get(event_type, REACH["other"])
    return tuple(
        horizon
        for horizon in horizons_ns
        if bearing(event_type, horizon)[0] >= least and horizon <= 10 * reach.volatility_ns
    )
