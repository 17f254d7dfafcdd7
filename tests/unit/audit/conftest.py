"""Made-up records for the audit room."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from finllm.domain.forecast import Forecast, Outcome, Reference
from finllm.domain.label import label
from finllm.domain.protocol import Action, Applied, Cost, Escalate, Hold, Revision, Verdict
from finllm.domain.revise import revised
from support.forecasts import S, forecast

THIRD = (1 / 3, 1 / 3, 1 / 3)
REFERENCE = Reference(
    climatology=THIRD,
    ewma=THIRD,
    obi=THIRD,
    climatology_q=(-3.0, -1.5, 0.0, 1.5, 3.0),
    ewma_q=(-3.0, -1.5, 0.0, 1.5, 3.0),
)


def make_forecast(name: str = "f", ts: int = 0, horizon_s: float = 1.0, **changes: Any) -> Forecast:
    """Return version 1; `p` and `q` set base and emitted together."""
    for short in ("p", "q"):
        if short in changes:
            value = changes.pop(short)
            long = ("base", "emitted") if short == "p" else ("base_q", "emitted_q")
            changes = dict.fromkeys(long, value) | changes
    fields = {"base": THIRD, "emitted": THIRD, "band_bps": 1.0, "reference": REFERENCE} | changes
    return forecast(horizon_s, issued=ts, forecast_id=name, **fields)


def make_outcome(forecast: Forecast, return_bps: float, **changes: Any) -> Outcome:
    """Return what became of a forecast, labelled by the rule."""
    made = Outcome(
        forecast_id=forecast.forecast_id,
        instrument=forecast.instrument,
        horizon=forecast.horizon,
        ts_resolved=forecast.ts_recv + forecast.horizon_ns,
        return_bps=return_bps,
        label=label(return_bps, forecast.band_bps),
    )
    return msgspec.structs.replace(made, **changes)


def make_verdict(forecast: Forecast, action: Action = Action.REFINE, **changes: Any) -> Verdict:
    """Return a verdict on a standing version."""
    made = Verdict(
        verdict_id=f"v-{forecast.forecast_id}-{forecast.version}",
        question_id="q",
        forecast_id=forecast.forecast_id,
        epoch=forecast.epoch,
        base_version=forecast.version,
        reasoner="test",
        action=action,
        shift=0.5,
        vol_scale=1.0,
        citations=(),
        cost=Cost(tokens=100, energy_j=2.0, method="test"),
    )
    return msgspec.structs.replace(made, **changes)


def make_revision(standing: Forecast, verdict: Verdict, ts: int, **changes: Any) -> Revision:
    """Return the revision that applies a verdict."""
    made = Revision(
        forecast_id=standing.forecast_id,
        verdict_id=verdict.verdict_id,
        ts=ts,
        version=standing.version + 1,
        base_version=standing.version,
        applied=Applied.APPLIED,
        reason="test",
        forecast=revised(standing, verdict, ts),
    )
    return msgspec.structs.replace(made, **changes)


def make_question(name: str, ts: int = 0) -> Escalate:
    """Return a question about nothing in particular."""
    return Escalate(
        question_id=name,
        instrument="test:A",
        ts=ts,
        notice_id="n",
        standing=(),
        deadline=ts + S,
        expected_gain=0.1,
        reason="test",
    )


def make_hold(ts: int = 0) -> Hold:
    """Return a no."""
    return Hold(instrument="test:A", ts=ts, notice_id="n", expected_gain=0.0, reason="test")


def make_run(
    n: int, *, seed: int = 0, step_s: float = 1.0, sharp: float = 1.0, **changes: Any
) -> tuple[list[Forecast], list[Outcome]]:
    """Return forecasts of one instrument and outcomes drawn from exactly their probabilities.

    Args:
        n: Forecasts.
        seed: Of the draws.
        step_s: Seconds between forecasts.
        sharp: How far the true log-odds wander; 0 = always a third each.
        changes: Fields of every forecast.
    """
    rng = np.random.default_rng(seed)
    odds = np.exp(sharp * rng.standard_normal((n, 3)))
    p = odds / odds.sum(axis=1, keepdims=True)
    drawn = (rng.random(n)[:, None] > np.cumsum(p, axis=1)[:, :2]).sum(axis=1)
    name = changes.get("instrument", "test:A")
    forecasts = [
        make_forecast(f"{name}-{seed}-{i}", int(i * step_s * S), **({"p": tuple(p[i])} | changes))
        for i in range(n)
    ]
    outcomes = [
        make_outcome(forecast, (-2.0, 0.0, 2.0)[what])
        for forecast, what in zip(forecasts, drawn.tolist(), strict=True)
    ]
    return forecasts, outcomes


class Making:
    """The builders, as one fixture."""

    forecast = staticmethod(make_forecast)
    outcome = staticmethod(make_outcome)
    verdict = staticmethod(make_verdict)
    revision = staticmethod(make_revision)
    question = staticmethod(make_question)
    hold = staticmethod(make_hold)
    run = staticmethod(make_run)


@pytest.fixture
def make() -> Callable[..., Any] | type[Making]:
    return Making
