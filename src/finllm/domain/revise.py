"""The revision rule: what a forecast looks like after a verdict. One pure function."""

import msgspec

from finllm.domain.forecast import Cost, Forecast, Quantiles, Status, Triple
from finllm.domain.protocol import Action, Verdict
from finllm.domain.tilt import tilt


def tilted(forecast: Forecast, shift: float, vol_scale: float) -> tuple[Triple, Quantiles]:
    """Return a forecast's base probabilities and quantiles after a tilt."""
    p, q = list(forecast.base), list(forecast.base_q)
    tilt(p, q, shift, vol_scale, forecast.tilt_c)
    return (p[0], p[1], p[2]), (q[0], q[1], q[2], q[3], q[4])


def revised(forecast: Forecast, verdict: Verdict, now: int) -> Forecast:
    """Return the next version of a forecast. Pure; whether it applies is `transition`'s word.

    Confirm keeps what is emitted. Refine tilts the *base* by the verdict's shift and volatility
    scale, which replace the outlook's. Retract emits the climatology that was known at issue; with
    no reference it emits the base, and the status alone says that nobody stands behind it.

    Args:
        forecast: The standing version.
        verdict: A verdict on exactly that version, with usable numbers.
        now: When the new version is published, ns UTC.

    Returns:
        The same forecast with version + 1, its status by the action, and the verdict's cost added.
    """
    after = msgspec.structs.replace(
        forecast,
        version=forecast.version + 1,
        base_version=forecast.version,
        ts_emit=now,
        cost=total(forecast.cost, verdict.cost),
    )
    if verdict.action is Action.CONFIRM:
        return msgspec.structs.replace(after, status=Status.CONFIRMED)
    if verdict.action is Action.REFINE:
        p, q = tilted(forecast, verdict.shift, verdict.vol_scale)
        status = Status.REFINED
    else:
        p, q = _climatology(forecast)
        status = Status.RETRACTED
    return msgspec.structs.replace(after, emitted=p, emitted_q=q, outlook_version=0, status=status)


def _climatology(forecast: Forecast) -> tuple[Triple, Quantiles]:
    if forecast.reference is None:
        return forecast.base, forecast.base_q
    return forecast.reference.climatology, forecast.reference.climatology_q


def total(before: Cost, added: Cost) -> Cost:
    """Return two costs together; the method is the one that counted something last."""
    return Cost(
        tokens=before.tokens + added.tokens,
        usd=before.usd + added.usd,
        energy_j=before.energy_j + added.energy_j,
        method=before.method if added.method == "none" else added.method,
    )
