"""What versions and outlooks have to say, from the records alone: no function of the protocol's is asked."""

import math
from collections.abc import Sequence
from typing import Final

from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Action, Opinion, Outlook, Verdict

_SLACK: Final = 1e-6


def says(before: Forecast, verdict: Verdict, after: Forecast) -> bool:
    """Return whether a version says what its verdict makes of the one before."""
    if verdict.action is Action.CONFIRM:
        return _shown(after) == _shown(before)
    if after.outlook_version != 0:
        return False
    if verdict.action is Action.REFINE:
        return verdict.vol_scale > 0.0 and is_tilted(
            after, verdict.shift, math.log(verdict.vol_scale)
        )
    reference = before.reference
    if reference is None:
        return (after.emitted, after.emitted_q) == (before.base, before.base_q)
    return (after.emitted, after.emitted_q) == (reference.climatology, reference.climatology_q)


def is_tilted(forecast: Forecast, shift: float, log_scale: float) -> bool:
    """Return whether what is emitted lies so far from the base: in log-odds, and the quantiles' spread."""
    spread, base_spread = (q[-1] - q[0] for q in (forecast.emitted_q, forecast.base_q))
    if not (all(0.0 < p < 1.0 for p in forecast.emitted) and 0.0 < spread < math.inf):
        return False
    (lean, move), (base_lean, base_move) = _odds(forecast.emitted), _odds(forecast.base)
    return (
        _alike(lean - base_lean, shift)
        and _alike(move - base_move, forecast.tilt_c * log_scale)
        and _alike(math.log(spread / base_spread), log_scale)
    )


def carries(forecast: Forecast, outlook: Outlook | None) -> bool:
    """Return whether a first version is moved as far as the outlook has not faded, and by no more."""
    if outlook is None or not outlook.ts <= forecast.ts_recv < outlook.expires:
        return is_tilted(forecast, 0.0, 0.0)
    fade = 0.5 ** ((forecast.ts_recv - outlook.ts) / outlook.half_life_ns)
    band = next((b for b in outlook.bands if forecast.horizon_ns <= b.up_to_ns), None)
    if band is None:
        return is_tilted(forecast, 0.0, 0.0)
    return is_tilted(forecast, fade * band.shift, fade * math.log(band.vol_scale))


def adds_up(outlook: Outlook) -> bool:
    """Return whether an outlook says what its opinions come to, fades as they do and ends with the last."""
    speaking = [one for one in outlook.opinions if one.shares]
    for band in outlook.bands:
        shift = _sum(speaking, outlook.ts, band.up_to_ns, of_scale=False)
        log_scale = _sum(speaking, outlook.ts, band.up_to_ns, of_scale=True)
        if not (_alike(band.shift, shift) and _alike(math.log(band.vol_scale), log_scale)):
            return False
    lives = [one.half_life_ns for one in speaking]
    return not speaking or (
        min(lives) <= outlook.half_life_ns <= max(lives)
        and outlook.expires == max(one.expires for one in speaking)
        and all(outlook.bands[-1].up_to_ns >= one.reaches[-1].up_to_ns for one in speaking)
    )


def _sum(opinions: Sequence[Opinion], now: int, limit_ns: int, *, of_scale: bool) -> float:
    """Return what opinions together say up to a limit, held to the widest bound of one of them."""
    total = most = 0.0
    for one in opinions:
        for i, reach in enumerate(one.reaches):
            if limit_ns <= reach.up_to_ns:
                fade = 0.5 ** ((now - one.ts) / one.half_life_ns)
                total += fade * sum((s.log_scale if of_scale else s.shift)[i] for s in one.shares)
                most = max(most, reach.max_log_scale if of_scale else reach.max_shift)
                break
    return max(-most, min(most, total))


def _odds(p: Sequence[float]) -> tuple[float, float]:
    """Return the log-odds of up against down, and of a move against none."""
    down, flat, up = p
    return math.log(up / down), math.log((up + down) / flat)


def _shown(forecast: Forecast) -> tuple[object, ...]:
    return forecast.emitted, forecast.emitted_q, forecast.outlook_version


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= _SLACK
