"""The plan: which episodes are planted when. Knows nothing of books and wire formats.

Time is cut into cycles. Each cycle's plan is a function of the seed and the cycle's number alone,
so that a tape can be of any length, takes constant memory, and never depends on its own end.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from finllm.domain.units import NS_PER_S
from finllm.market.synthetic.chance import Draw, between, draws, pick, shuffled, waiting
from finllm.market.synthetic.settings import SyntheticMarket

CYCLE_NS: Final = 150 * NS_PER_S
"""Length of a cycle: each kind of episode is planted at least once in each."""
VOLATILITY_HALF_LIFE_NS: Final = 30 * NS_PER_S
"""Half-life of the volatility that follows news."""
TYPICAL_10S_BPS: Final = 2.0
"""Usual standard deviation of a 10 s return away from episodes, bps; sets the size of effects."""

REGIMES: Final = ("calm", "active", "stressed")
_DWELL_S: Final = {"calm": 90.0, "active": 45.0, "stressed": 25.0}
_NEXT: Final = {
    "calm": ("active", "stressed", 0.85),
    "active": ("calm", "stressed", 0.7),
    "stressed": ("active", "calm", 0.7),
}
_SLOTS: Final = ("announcement",) * 4 + ("rumour", "drain", "drain", "gap")
_WHOLE_MARKET: Final = 0.25


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """A pull on one instrument's efficient price."""

    symbol: int
    """Index of the instrument."""
    onset: int
    """ns UTC."""
    effect_bps: float
    half_life_ns: int
    volatility_gain: float = 0.0


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """A side of the book that thins out with no news, before the price slips that way."""

    symbol: int
    start: int
    end: int
    is_bid: bool
    slip: Effect


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """Diffs that never arrive, and the snapshot that mends the book."""

    symbol: int
    start: int
    end: int
    request: int
    """When the new snapshot is taken, ns UTC."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of news before it is put into words."""

    symbol: int
    """Index of the instrument; -1 = the whole market."""
    is_false: bool
    is_good: bool
    ts: int
    """Publication, ns UTC."""
    effects: tuple[Effect, ...]
    n_echoes: int
    denied: int = 0
    """Publication of the denial; 0 = none."""
    denial_effects: tuple[Effect, ...] = ()


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is planted in one cycle."""

    start: int
    stories: tuple[Story, ...] = ()
    drains: tuple[Drain, ...] = ()
    outages: tuple[Outage, ...] = ()

    @property
    def effects(self) -> list[Effect]:
        """Return every pull on a price, in order of onset."""
        found = [drain.slip for drain in self.drains]
        for story in self.stories:
            found += [*story.effects, *story.denial_effects]
        return sorted(found, key=lambda effect: (effect.onset, effect.symbol))


def cycles(settings: SyntheticMarket) -> Iterator[Cycle]:
    """Yield the plan of each cycle that starts before the tape's end."""
    start = settings.start
    number = 0
    while start < settings.end:
        yield plan_cycle(settings, number)
        number += 1
        start += CYCLE_NS


def plan_cycle(settings: SyntheticMarket, number: int) -> Cycle:
    """Return the plan of one cycle; pure."""
    draw = draws(settings.seed, "plan", number)
    start = settings.start + number * CYCLE_NS
    kinds = shuffled(draw, list(_SLOTS))
    signs = shuffled(draw, [True, True, False, False])
    slot_ns = CYCLE_NS // len(_SLOTS)
    stories: list[Story] = []
    drains: list[Drain] = []
    outages: list[Outage] = []
    for slot, kind in enumerate(kinds):
        symbol = (slot + number) % len(settings.symbols)
        ts = start + slot * slot_ns + int(between(draw, 1.0, 6.0) * NS_PER_S)
        # A slot draws its episode even where it is not planted: leaving a kind out moves nothing.
        if kind == "announcement":
            made = _announcement(draw, ts, symbol, len(settings.symbols), is_good=signs.pop())
            stories += [made] if kind in settings.planted else []
        elif kind == "rumour":
            false = _rumour(draw, ts, symbol)
            stories += [false] if kind in settings.planted else []
        elif kind == "drain":
            drains += [_drain(draw, ts, symbol)] if kind in settings.planted else []
        else:
            outages += [_outage(draw, ts, symbol)] if kind in settings.planted else []
    return Cycle(start=start, stories=tuple(stories), drains=tuple(drains), outages=tuple(outages))


def _span(draw: Draw, low_s: float, high_s: float) -> int:
    return int(between(draw, low_s, high_s) * NS_PER_S)


def _announcement(draw: Draw, ts: int, symbol: int, n_symbols: int, *, is_good: bool) -> Story:
    is_market = draw() < _WHOLE_MARKET
    lag = _span(draw, 2.0, 10.0)
    size = between(draw, 3.0, 8.0) * TYPICAL_10S_BPS
    half_life = _span(draw, 4.0, 8.0)
    gain = between(draw, 0.5, 0.9)
    effects = tuple(
        Effect(
            symbol=each,
            onset=ts + lag,
            effect_bps=size if is_good else -size,
            half_life_ns=half_life,
            volatility_gain=gain,
        )
        for each in (range(n_symbols) if is_market else (symbol,))
    )
    n_echoes = 1 + int(draw() * 3.0)
    return Story(
        symbol=-1 if is_market else symbol,
        is_false=False,
        is_good=is_good,
        ts=ts,
        effects=effects,
        n_echoes=n_echoes,
    )


def _rumour(draw: Draw, ts: int, symbol: int) -> Story:
    is_good = draw() < 0.5
    size = between(draw, 1.5, 3.0) * TYPICAL_10S_BPS
    move = Effect(
        symbol=symbol,
        onset=ts + _span(draw, 2.0, 5.0),
        effect_bps=size if is_good else -size,
        half_life_ns=_span(draw, 2.0, 4.0),
        volatility_gain=0.4,
    )
    denied = ts + _span(draw, 14.0, 22.0)
    reversal = Effect(
        symbol=symbol,
        onset=denied + _span(draw, 1.0, 4.0),
        effect_bps=-move.effect_bps,
        half_life_ns=_span(draw, 2.0, 4.0),
        volatility_gain=0.3,
    )
    return Story(
        symbol=symbol,
        is_false=True,
        is_good=is_good,
        ts=ts,
        effects=(move,),
        n_echoes=int(draw() * 3.0),
        denied=denied,
        denial_effects=(reversal,),
    )


def _drain(draw: Draw, ts: int, symbol: int) -> Drain:
    is_bid = draw() < 0.5
    size = between(draw, 2.0, 4.0) * TYPICAL_10S_BPS
    onset = ts + _span(draw, 5.0, 8.0)
    slip = Effect(
        symbol=symbol,
        onset=onset,
        effect_bps=-size if is_bid else size,
        half_life_ns=_span(draw, 2.0, 4.0),
        volatility_gain=0.3,
    )
    return Drain(symbol=symbol, start=ts, end=onset + 6 * NS_PER_S, is_bid=is_bid, slip=slip)


def _outage(draw: Draw, ts: int, symbol: int) -> Outage:
    end = ts + _span(draw, 0.4, 1.5)
    return Outage(symbol=symbol, start=ts, end=end, request=end + _span(draw, 1.5, 4.0))


def regime_switches(settings: SyntheticMarket) -> Iterator[tuple[int, str]]:
    """Yield (instant, regime) from the tape's start on, without end; one chain for all.

    Source:
        Hamilton (1989), "A new approach to the economic analysis of nonstationary time series and
        the business cycle": volatility here follows such a hidden Markov chain, in continuous time.
    """
    draw = draws(settings.seed, "regimes")
    regime = pick(draw, REGIMES[:2])
    ts = settings.start
    while True:
        yield ts, regime
        # At least 10 s, so that a regime can be told from a burst.
        ts += int((10.0 + waiting(draw, _DWELL_S[regime] - 10.0)) * NS_PER_S)
        likely, other, p_likely = _NEXT[regime]
        regime = likely if draw() < p_likely else other
