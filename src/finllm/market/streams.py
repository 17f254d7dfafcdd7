"""What to ask a venue for: the address of its stream, what to send on it, and where snapshots are to be had.

Knows addresses and stream names, opens nothing. Binance's are filled in; any other venue is reached by
stating them, as its documents give them.

Source: developers.binance.com, WebSocket market streams and REST market data of spot, USD-M and COIN-M.
"""

from typing import Final
from urllib.parse import urlencode

import msgspec

from finllm.domain.errors import SettingsError
from finllm.market.instruments import COIN_M, SPOT, US_SPOT, USDM
from finllm.market.markets import BINANCE, NAMES

SNAPSHOT_LEVELS: Final = 1_000


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to one venue."""

    venue: str
    """Whose messages it carries, as `markets` names them."""
    prefix: str
    """What its instruments' keys begin with, such as `binance-usdm:`; empty where it is not known."""
    url: str
    hello: tuple[str, ...]
    """Sent once it is open."""
    symbols: tuple[str, ...]
    snapshots: dict[str, str]
    """By symbol, where its whole book is to be had; empty where the stream itself sends it."""


class _Site(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    stream: str
    rest: str
    path: str
    channels: tuple[str, ...]


_SPOT: Final = ("depth@100ms", "bookTicker", "trade")
_FUTURES: Final = ("depth@0ms", "bookTicker", "trade", "markPrice@1s")
_SITES: Final = {
    SPOT: _Site(
        venue=BINANCE,
        stream="wss://stream.binance.com:9443",
        rest="https://api.binance.com",
        path="/api/v3/depth",
        channels=_SPOT,
    ),
    US_SPOT: _Site(
        venue=US_SPOT,
        stream="wss://stream.binance.us:9443",
        rest="https://api.binance.us",
        path="/api/v3/depth",
        channels=_SPOT,
    ),
    USDM: _Site(
        venue=BINANCE,
        stream="wss://fstream.binance.com",
        rest="https://fapi.binance.com",
        path="/fapi/v1/depth",
        channels=_FUTURES,
    ),
    COIN_M: _Site(
        venue=BINANCE,
        stream="wss://dstream.binance.com",
        rest="https://dapi.binance.com",
        path="/dapi/v1/depth",
        channels=_FUTURES,
    ),
}


def stream_of(
    venue: str, symbols: tuple[str, ...], url: str = "", rest: str = "", hello: tuple[str, ...] = ()
) -> Stream:
    """Return what to connect to.

    Args:
        venue: `binance-spot`, `binance-usdm`, `binance-cm`, `binance-us`, or any venue that is decoded.
        symbols: As the venue writes them.
        url: Of the stream: for Binance only scheme, host and port, instead of its own; else all of it.
        rest: Scheme, host and port of Binance's REST service, instead of its own.
        hello: For other venues, what to send to subscribe.

    Raises:
        SettingsError: If the venue is unknown, or the address or the symbols are missing.
    """
    site = _SITES.get(venue)
    if site is not None:
        if not symbols:
            raise _missing("symbols", f'Name them: symbols = ["BTCUSDT"] for {venue}.')
        return _binance(site, venue, symbols, url, rest)
    if venue not in NAMES:
        known = ", ".join(sorted({*_SITES, *NAMES} - {BINANCE}))
        raise SettingsError(
            f"no venue is called {venue!r}", place="[[feed.connections]]", mend=f"Known: {known}."
        )
    if not url:
        raise _missing(
            "url", f"Give the stream's address, and in hello what subscribes at {venue}."
        )
    return Stream(
        venue=venue, prefix=f"{venue}:", url=url, hello=hello, symbols=symbols, snapshots={}
    )


def _missing(what: str, mend: str) -> SettingsError:
    return SettingsError(f"a connection lacks {what}", place="[[feed.connections]]", mend=mend)


def _binance(site: _Site, venue: str, symbols: tuple[str, ...], url: str, rest: str) -> Stream:
    names = "/".join(f"{s.lower()}@{channel}" for s in symbols for channel in site.channels)
    root = f"{(rest or site.rest).rstrip('/')}{site.path}"
    return Stream(
        venue=site.venue,
        prefix=f"{venue}:",
        url=f"{(url or site.stream).rstrip('/')}/stream?streams={names}",
        hello=(),
        symbols=symbols,
        snapshots={
            s: f"{root}?{urlencode({'symbol': s, 'limit': SNAPSHOT_LEVELS})}" for s in symbols
        },
    )
