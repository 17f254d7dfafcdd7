"""The efficient price behind a book: diffusion in regimes, shared shocks, pulls from episodes.

Nobody on the tape sees it. It moves on a fixed grid, before the events of each grid cell.
"""

import math
from collections import deque
from typing import Final

from finllm.domain.units import BPS, NS_PER_MS, NS_PER_S
from finllm.market.synthetic.chance import Draw, normal
from finllm.market.synthetic.plan import VOLATILITY_HALF_LIFE_NS, Effect
from finllm.market.synthetic.settings import Listing

CELL_NS: Final = 50 * NS_PER_MS
"""Grid of the efficient price and of depth diffs; the usdm recordings have a diff every 52 ms."""
VOLATILITY_BPS: Final = {"calm": 0.35, "active": 0.55, "stressed": 0.95}
"""Per root second, by regime; news adds to it, so that the whole is near the recordings'."""
ACTIVITY: Final = {"calm": 0.7, "active": 0.9, "stressed": 1.4}
"""Factor of the event rate, by regime."""
_SHARED: Final = 0.5
"""Share of the variance of a shock that the instruments have in common."""
_LEAD_CELLS: Final = 4
"""Cells by which each instrument reacts later to the common shock than the one before it."""
_ROOT_CELL: Final = math.sqrt(CELL_NS / NS_PER_S)
_BOOST_DECAY: Final = 0.5 ** (CELL_NS / VOLATILITY_HALF_LIFE_NS)


class CommonShocks:
    """The market's common shock, of variance one per cell, and what it was a few cells ago."""

    def __init__(self, draw: Draw, n_symbols: int) -> None:
        self._draw = draw
        self._past = deque(
            [0.0] * (_LEAD_CELLS * n_symbols + 1), maxlen=_LEAD_CELLS * n_symbols + 1
        )

    def step(self) -> None:
        """Draw the next cell's shock."""
        self._past.append(normal(self._draw))

    def felt_by(self, symbol: int) -> float:
        """Return the shock that reaches this instrument in this cell."""
        return self._past[-1 - _LEAD_CELLS * symbol]


class EfficientPrice:
    """One instrument's efficient price."""

    def __init__(self, listing: Listing, draw: Draw) -> None:
        self.ticks = float(listing.ticks)
        self.boost = 0.0
        self._draw = draw
        self._scale = listing.volatility * _ROOT_CELL / BPS
        self._pulls: list[list[float]] = []

    def begin(self, effect: Effect) -> None:
        """Start a pull: half of what is left of it is felt in each half-life."""
        share = 1.0 - 0.5 ** (CELL_NS / effect.half_life_ns)
        self._pulls.append([effect.effect_bps / BPS, share])
        self.boost += effect.volatility_gain

    def step(self, volatility_bps: float, common: float) -> None:
        """Move by one cell."""
        own = normal(self._draw)
        shock = math.sqrt(_SHARED) * common + math.sqrt(1.0 - _SHARED) * own
        change = shock * volatility_bps * self._scale * (1.0 + self.boost)
        for pull in self._pulls:
            moved = pull[0] * pull[1]
            pull[0] -= moved
            change += moved
        self._pulls = [pull for pull in self._pulls if abs(pull[0]) > 1e-8]
        self.ticks *= 1.0 + change
        self.boost *= _BOOST_DECAY
