"""What to ask a venue for: the address of its stream, what to send on it, and where snapshots are to be had.

Knows addresses and stream names, opens nothing. Binance's are filled in; any other venue is reached by
stating them, as its documents give them.

Source: developers.binance.com, WebSocket market streams and REST market data of spot, USD-M and COIN-M.
"""

from typing import Final
from urllib.parse import urlencode, urlsplit

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
    venue: str,
    symbols: tuple[str, ...],
    url: str = "",
    rest: str = "",
    hello: tuple[str, ...] = (),
    place: str = "[[feed.connections]]",
) -> Stream:
    """Return what to connect to.

    Args:
        venue: `binance-spot`, `binance-usdm`, `binance-cm`, `binance-us`, or any venue that is decoded.
        symbols: As the venue writes them; Binance's in either case.
        url: Of the stream: for Binance only scheme, host and port, instead of its own; else all of it.
        rest: Scheme, host and port of Binance's REST service, instead of its own.
        hello: For other venues, what to send to subscribe.
        place: Where this is said, for errors.

    Raises:
        SettingsError: If the venue is unknown, the address or the symbols are missing or malformed, or
            something is given that the venue has no use for. It quotes no address, which may hold a key.
    """
    site = _SITES.get(venue)
    if site is None and venue not in NAMES:
        known = ", ".join(sorted({*_SITES, *NAMES} - {BINANCE}))
        raise SettingsError(f"no venue is called {venue!r}", place=place, mend=f"Known: {known}.")
    place = f"{place}, {venue}"
    _check_address("url", url, "wss", place)
    _check_address("rest", rest, "https", place)
    if site is not None:
        if hello:
            mend = "Leave it out: Binance is subscribed by the address, from symbols."
            raise SettingsError("'hello' is of no use here", place=place, mend=mend)
        return _binance(site, venue, _binance_symbols(symbols, place), url, rest)
    if rest:
        mend = f"Leave it out: {venue} sends whole books on its stream; subscribe to them in hello."
        raise SettingsError("'rest' is of no use here", place=place, mend=mend)
    if not url:
        raise SettingsError(
            "it lacks 'url'",
            place=place,
            mend=f"Give the stream's address, and in hello what subscribes at {venue}.",
        )
    return Stream(
        venue=venue, prefix=f"{venue}:", url=url, hello=hello, symbols=symbols, snapshots={}
    )


def _check_address(key: str, url: str, scheme: str, place: str) -> None:
    """Refuse what cannot be connected to, while somebody is there to mend it."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        parts, is_good = urlsplit(""), False
    if not is_good or parts.scheme not in {scheme, scheme[:-1]} or parts.fragment:
        mend = f'Write {key} = "{scheme}://host" or "{scheme[:-1]}://host:port".'
        raise SettingsError(f"{key!r} is no address", place=place, mend=mend)
    if parts.username is not None and (scheme == "https" or parts.password is None):
        mend = "Leave out what stands before the @."
        raise SettingsError(f"{key!r} cannot name a user so", place=place, mend=mend)


def _binance_symbols(symbols: tuple[str, ...], place: str) -> tuple[str, ...]:
    """Return symbols as Binance's REST service and messages write them: in capitals."""
    if not symbols:
        mend = 'Name them: symbols = ["BTCUSDT"].'
        raise SettingsError("it lacks 'symbols'", place=place, mend=mend)
    for symbol in symbols:
        if not symbol.replace("_", "").isalnum():
            mend = 'Write it as Binance does: "BTCUSDT", "BTCUSD_PERP".'
            raise SettingsError(f"{symbol!r} is no symbol", place=place, mend=mend)
    return tuple(symbol.upper() for symbol in symbols)


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
