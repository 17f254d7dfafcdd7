"""Linking: which watched instruments a text is about, how surely, and where it says so.

A symbol that the source attached and a cashtag are sure, a name less so, an ambiguous name (Apple,
Visa) less again unless the text is about markets, a word about the whole market least.
"""

import re
from typing import Final

import msgspec

SURE: Final = 0.9
NAMED: Final = 0.8
TICKER: Final = 0.7
AMBIGUOUS: Final = 0.35
MARKET: Final = 0.3

Span = tuple[int, int]

_QUOTES: Final = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD_PERP", "USD-PERP", "-USD", "USD")
_COINS: Final[dict[str, tuple[str, ...]]] = {
    "BTC": ("bitcoin", "xbt"),
    "ETH": ("ether", "ethereum"),
    "SOL": ("solana",),
    "XRP": ("ripple",),
    "BNB": ("binance coin",),
    "DOGE": ("dogecoin",),
    "ADA": ("cardano",),
    "LTC": ("litecoin",),
}
_COMPANIES: Final[dict[str, tuple[str, ...]]] = {
    "AAPL": ("apple", "iphone", "ipad"),
    "AIG": ("american international group",),
    "AMZN": ("amazon",),
    "BA": ("boeing",),
    "BABA": ("alibaba",),
    "BAC": ("bank of america", "bofa"),
    "C": ("citigroup", "citibank", "citi"),
    "CAT": ("caterpillar",),
    "CSCO": ("cisco",),
    "CVX": ("chevron",),
    "DIS": ("disney",),
    "FB": ("facebook",),
    "GE": ("general electric",),
    "GM": ("general motors",),
    "GOOG": ("google", "alphabet"),
    "GS": ("goldman sachs", "goldman"),
    "IBM": ("international business machines",),
    "INTC": ("intel",),
    "JNJ": ("johnson & johnson",),
    "JPM": ("jpmorgan", "jp morgan"),
    "KO": ("coca-cola", "coca cola"),
    "MCD": ("mcdonald's",),
    "META": ("facebook", "meta platforms"),
    "MRK": ("merck",),
    "MSFT": ("microsoft",),
    "NFLX": ("netflix",),
    "NVDA": ("nvidia",),
    "ORCL": ("oracle",),
    "PFE": ("pfizer",),
    "PG": ("procter & gamble",),
    "T": ("at&t",),
    "TSLA": ("tesla",),
    "V": ("visa",),
    "VZ": ("verizon",),
    "WFC": ("wells fargo",),
    "WMT": ("walmart", "wal-mart"),
    "XOM": ("exxon", "exxonmobil", "exxon mobil"),
}
_INDICES: Final[dict[str, tuple[str, ...]]] = {
    "SPY": ("s&p 500", "s&p", "spx", "stock market", "stocks", "wall street", "equities"),
    "ES": ("s&p 500", "s&p", "spx", "stock market", "stocks", "wall street", "equities"),
    "QQQ": ("nasdaq", "tech stocks"),
    "DIA": ("dow jones", "the dow"),
}
_AMBIGUOUS: Final = frozenset(
    {
        "apple", "amazon", "visa", "oracle", "intel", "meta", "disney", "caterpillar",
        "ether", "ripple", "solana", "goldman", "citi", "tether", "alphabet", "boeing",
        "google", "facebook", "iphone", "ipad",
    }
)  # fmt: skip
_WHOLE_MARKET: Final = (
    "federal reserve", "fed", "fomc", "interest rate", "interest rates", "rate hike", "rate cut",
    "federal funds rate", "inflation", "cpi", "payrolls", "unemployment", "gdp", "recession", "tariff",
    "tariffs", "trade war", "treasury yields", "ecb", "opec", "shutdown", "sanctions", "monetary policy",
    "stock market", "wall street", "s&p 500", "liquidity crisis",
)  # fmt: skip
_CRYPTO_MARKET: Final = ("crypto", "cryptocurrency", "stablecoin", "tether", "altcoins", "binance")
_ABOUT_MARKETS = re.compile(
    r"\b(?:shares?|stocks?|earnings|revenues?|profits?|quarter(?:ly)?|q[1-4]|ceo|cfo|investors?|"
    r"analysts?|nasdaq|nyse|dividend|guidance|price|trad(?:e|es|ing|ers?)|calls?|puts?|bull(?:ish)?|"
    r"bear(?:ish)?|market|ipo|merger|acqui\w+|sales|sec|upgraded?|downgraded?|buyback|coin|token)\b",
    re.IGNORECASE,
)
_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z][A-Za-z.]{0,7})\b")
_TOKEN = re.compile(r"[^\W_]+(?:[&'][^\W_]+)*")


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument that a text is about."""

    instrument: str
    relevance: float
    """0 to 1."""
    spans: tuple[Span, ...]
    """Where the text names it, in characters; empty if only the source says so."""


class _Name(msgspec.Struct, frozen=True):
    words: tuple[str, ...]
    weight: float
    instrument: str


def asset_of(instrument: str) -> str:
    """Return the symbol by which people write of an instrument: `binance-usdm:BTCUSDT` is `BTC`."""
    symbol = instrument.rpartition(":")[2].upper()
    for quote in _QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol.removesuffix(quote).rstrip("-_/")
    return symbol


def _words(text: str) -> tuple[str, ...]:
    return tuple(_plain(match.group()) for match in _TOKEN.finditer(text))


def _plain(token: str) -> str:
    return token.casefold().removesuffix("'s")


class Linker:
    """The watched instruments and every name that leads to them."""

    def __init__(self) -> None:
        self._names: dict[str, list[_Name]] = {}
        self._unspaced: list[tuple[str, str]] = []
        self._by_symbol: dict[str, list[str]] = {}
        self.watched: list[str] = []

    def watch(self, instrument: str, aliases: tuple[str, ...] = ()) -> None:
        """Link texts to an instrument from now on; watching it again adds the aliases."""
        asset = asset_of(instrument)
        if instrument not in self.watched:
            self.watched.append(instrument)
            for symbol in sorted(
                {asset, instrument.upper(), instrument.rpartition(":")[2].upper()}
            ):
                self._by_symbol.setdefault(symbol, []).append(instrument)
            self._watch_known_names(instrument, asset)
        for alias in aliases:
            self._name(alias, NAMED, instrument)

    def names_of(self, instrument: str) -> tuple[str, ...]:
        """Return the names and symbols that lead to an instrument alone or with others, sorted."""
        known = {
            " ".join(name.words)
            for names in self._names.values()
            for name in names
            if name.instrument == instrument and name.weight > MARKET
        }
        known |= {alias for alias, of in self._unspaced if of == instrument}
        known |= {symbol for symbol, of in self._by_symbol.items() if instrument in of}
        return tuple(sorted(known))

    def _watch_known_names(self, instrument: str, asset: str) -> None:
        if len(asset) >= 3:
            self._name(asset, TICKER, instrument)
        for name in (*_COINS.get(asset, ()), *_COMPANIES.get(asset, ()), *_INDICES.get(asset, ())):
            self._name(name, AMBIGUOUS if name in _AMBIGUOUS else NAMED, instrument)
        is_coin = asset in _COINS or asset != instrument.rpartition(":")[2].upper()
        for name in (*_WHOLE_MARKET, *(_CRYPTO_MARKET if is_coin else ())):
            self._name(name, MARKET, instrument)

    def _name(self, name: str, weight: float, instrument: str) -> None:
        words = _words(name)
        if not name.isascii():
            self._unspaced.append((name.casefold(), instrument))
        elif words:
            self._names.setdefault(words[0], []).append(_Name(words, weight, instrument))

    def link(self, text: str, symbols: tuple[str, ...] = ()) -> tuple[Link, ...]:
        """Return the watched instruments that a canonical text is about, by instrument key.

        Args:
            text: Canonical text.
            symbols: Symbols that the source attached.
        """
        found: dict[str, tuple[float, list[Span]]] = {}
        tags = list(_CASHTAG.finditer(text))
        for symbol in symbols:
            self._by_tag(symbol.upper().lstrip("$"), None, found)
        for tag in tags:
            self._by_tag(tag.group(1).upper().rstrip("."), tag.span(), found)
        self._by_name(text, found)
        folded = text.casefold() if self._unspaced else ""
        for alias, instrument in self._unspaced:
            at = folded.find(alias)
            if at >= 0:
                _add(found, instrument, NAMED, (at, min(len(text), at + len(alias))))
        # A list of cashtags is about none of them in particular.
        crowd = max(1, len({tag.group(1).upper() for tag in tags} | {s.upper() for s in symbols}))
        return tuple(
            Link(instrument=key, relevance=weight / crowd**0.5, spans=tuple(sorted(set(spans))))
            for key, (weight, spans) in sorted(found.items())
        )

    def _by_tag(
        self, symbol: str, span: Span | None, found: dict[str, tuple[float, list[Span]]]
    ) -> None:
        for instrument in self._by_symbol.get(symbol, ()):
            _add(found, instrument, SURE, span)

    def _by_name(self, text: str, found: dict[str, tuple[float, list[Span]]]) -> None:
        if not self._names:
            return
        tokens = [(_plain(m.group()), m.start(), m.end()) for m in _TOKEN.finditer(text)]
        about_markets: bool | None = None
        for i, (word, start, _) in enumerate(tokens):
            for name in self._names.get(word, ()):
                n = len(name.words)
                if n > 1 and tuple(t[0] for t in tokens[i : i + n]) != name.words:
                    continue
                weight, end = name.weight, tokens[i + n - 1][2]
                if not _is_written_so(text[start:end], weight):
                    continue
                if weight == AMBIGUOUS and text[start].isupper():
                    if about_markets is None:
                        about_markets = _ABOUT_MARKETS.search(text) is not None
                    weight = NAMED if about_markets else AMBIGUOUS
                _add(found, name.instrument, weight, (start, end))


def _is_written_so(as_written: str, weight: float) -> bool:
    """Return whether the case fits: `cat` is not CAT, and what somebody `fed` is not the Fed."""
    if weight == TICKER:
        return as_written.removesuffix("'s").isupper()
    return as_written != "fed"


def _add(
    found: dict[str, tuple[float, list[Span]]], instrument: str, weight: float, span: Span | None
) -> None:
    before, spans = found.get(instrument, (0.0, []))
    if span is not None and len(spans) < 64:
        spans.append(span)
    found[instrument] = (max(before, weight), spans)
