"""In which whole units each instrument's prices and sizes are kept, and how an unknown one is guessed.

Only figures that could be checked are listed; any other symbol is inferred from the decimals that its
own messages carry, and says so in `Instrument.source`.
"""

from collections.abc import Collection, Iterable
from typing import Final

import numpy as np

from finllm.domain.instrument import Instrument

SPOT: Final = "binance-spot"
US_SPOT: Final = "binance-us"
SPOTS: Final = (SPOT, US_SPOT)
USDM: Final = "binance-usdm"
COIN_M: Final = "binance-cm"
US_EQUITY: Final = "us-equity"

ENOUGH_PRICES: Final = 8
"""Different prices that must have been seen before their decimals are taken for the tick."""
MAX_DECIMALS: Final = 8

_QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY")

_SPOT_INFO: Final = "Binance GET /api/v3/exchangeInfo: PRICE_FILTER.tickSize, LOT_SIZE.stepSize"
_USDM_INFO: Final = "Binance GET /fapi/v1/exchangeInfo: PRICE_FILTER.tickSize, LOT_SIZE.stepSize"
_COIN_INFO: Final = (
    "Binance GET /dapi/v1/exchangeInfo: PRICE_FILTER.tickSize, contractSize; sizes in contracts"
)


def _known(
    venue: str, symbol: str, tick: float, lot: float, source: str, multiplier: float = 1.0
) -> Instrument:
    return Instrument(
        venue=venue,
        symbol=symbol,
        tick_size=tick,
        lot_size=lot,
        contract_multiplier=multiplier,
        quote="USD" if venue == COIN_M else "USDT",
        source=source,
    )


KNOWN: Final = (
    _known(SPOT, "BTCUSDT", 0.01, 0.00001, _SPOT_INFO),
    _known(SPOT, "ETHUSDT", 0.01, 0.0001, _SPOT_INFO),
    _known(USDM, "BTCUSDT", 0.1, 0.001, _USDM_INFO),
    _known(USDM, "ETHUSDT", 0.01, 0.001, _USDM_INFO),
    _known(COIN_M, "BTCUSD_PERP", 0.1, 1.0, _COIN_INFO, 100.0),
    _known(COIN_M, "ETHUSD_PERP", 0.01, 1.0, _COIN_INFO, 10.0),
)


class InstrumentTable:
    """Looks instruments up by venue and symbol.

    Args:
        extra: Instruments beside the known ones; one with the same key replaces the known one.
    """

    def __init__(self, extra: Iterable[Instrument] = ()) -> None:
        self._rows = {instrument.key: instrument for instrument in (*KNOWN, *extra)}

    def find(self, venue: str, symbol: str) -> Instrument | None:
        """Return the instrument, or None if it is not listed."""
        return self._rows.get(f"{venue}:{symbol}")


def per_unit(step: float) -> float:
    """Return how many steps make one unit; exact where that is a whole number."""
    inverse = 1.0 / step
    return float(round(inverse)) if inverse >= 1.0 else inverse


def decimals(text: str) -> int:
    """Return how many decimals a number needs, trailing zeros aside; 0 for what is no plain decimal."""
    whole, point, rest = text.partition(".")
    if not point or not whole.isdigit() or not rest.isdigit():
        return 0
    return min(len(rest.rstrip("0")), MAX_DECIMALS)


def decimals_of(values: Collection[float]) -> int:
    """Return how many decimals the finest of some numbers needs, as `decimals` of their shortest texts.

    A number has d decimals if it is the double nearest to a whole multiple of 10^-d; all are tried at
    once, because the whole book of a large venue has tens of thousands.
    """
    numbers = np.fromiter(values, np.float64, len(values))
    numbers = numbers[(numbers >= 0.0) & (numbers < 2.0**53)]  # beyond, every double is whole
    for n in range(MAX_DECIMALS):
        scale = 10.0**n
        # What n decimals suffice for needs no more; scaled further, a large number would round.
        numbers = numbers[np.rint(numbers * scale) / scale != numbers]
        if not len(numbers):
            return n
    return MAX_DECIMALS


def _quote(symbol: str) -> str:
    pair = symbol.partition("_")[0]
    return next((quote for quote in _QUOTES if pair.endswith(quote)), "")


def _finest(numbers: Collection[str | float]) -> int:
    texts = [number for number in numbers if isinstance(number, str)]
    if texts or not numbers:
        return max(map(decimals, texts), default=MAX_DECIMALS)
    return decimals_of([float(number) for number in numbers])


def infer(
    venue: str, symbol: str, prices: Collection[str | float], sizes: Collection[str | float]
) -> Instrument:
    """Return an instrument whose tick and lot are the smallest decimal steps seen.

    Args:
        venue: The venue.
        symbol: The venue's symbol.
        prices: Prices in its first messages, all as written or all as numbers.
        sizes: Sizes there, likewise.
    """
    return Instrument(
        venue=venue,
        symbol=symbol,
        tick_size=round(10.0 ** -_finest(prices), MAX_DECIMALS),
        lot_size=round(10.0 ** -_finest(sizes), MAX_DECIMALS),
        quote=_quote(symbol),
        source=f"inferred from the decimals of {len(prices)} prices and {len(sizes)} sizes",
    )
