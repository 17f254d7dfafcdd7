"""Instruments: what is traded where, and in which integer units its prices and sizes are kept."""

import msgspec


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument at one venue.

    Prices are kept as integer ticks and sizes as integer lots, so that sums over a window are exact.
    """

    venue: str
    """Lower-case venue and market, such as `binance-usdm`."""
    symbol: str
    """The venue's own symbol, upper case."""
    tick_size: float
    """Quote currency per tick."""
    lot_size: float
    """Base units (or contracts) per lot."""
    contract_multiplier: float = 1.0
    """Quote currency per contract on coin-margined futures, else 1."""
    quote: str = "USD"
    """Currency of the price."""
    source: str
    """Where tick, lot and multiplier were taken from."""

    @property
    def key(self) -> str:
        """Return `venue:symbol`, the name used in every record."""
        return f"{self.venue}:{self.symbol}"


class Horizon(msgspec.Struct, frozen=True, kw_only=True):
    """How far ahead a forecast looks, and how its flat band is stated.

    A horizon counts clock time (`events` is 0) or events of its instrument: bars, on bar input.
    """

    name: str
    """Short name, such as `1s` or `1d`."""
    ns: int
    """Length in nanoseconds; for an event horizon the least time that the events can take."""
    events: int = 0
    """Number of bars ahead; 0 for clock time."""
    nominal_s: float
    """Length shown to people, in seconds."""
    band: str
    """`half_spread`: half the spread at issue; `sigma`: 0.4 sigma root h."""
