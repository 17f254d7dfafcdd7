"""A seeded, lively use of a ledger; as a command it is the child that gets killed.

    python -m support.ledgers FOLDER SEED STEPS GROUP

prints `ack COUNT HASH` on standard output each time a group is acknowledged, in one write.
"""

import os
import sys
from pathlib import Path

import msgspec
import numpy as np

from finllm.domain.forecast import Cost, Forecast, Outcome
from finllm.domain.identity import content_id
from finllm.domain.protocol import Action, Citation, Verdict
from finllm.domain.trace import Statement, Trace
from finllm.ledger.store import Ledger
from support import forecasts

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
INSTRUMENT = "binance.usdm:BTCUSDT"


def forecast(i: int, *, epoch: int = 1, lifetime_ns: int = 8_000 * MS) -> Forecast:
    ts = T0 + i * MS
    down = 0.3 + (i % 7) * 1e-3
    p = (down, 0.4, 0.6 - down)
    return forecasts.forecast(
        10.0,
        issued=ts,
        forecast_id=content_id("forecast", i),
        instrument=INSTRUMENT,
        ts_event=ts - 1_000,
        ts_emit=ts + 5_000,
        valid_until=ts + lifetime_ns,
        epoch=epoch,
        base=p,
        emitted=p,
        row_seq=i,
    )


def verdict(
    about: Forecast, *, tag: int = 0, action: Action = Action.REFINE, **changes: object
) -> Verdict:
    made = Verdict(
        verdict_id=content_id("verdict", about.forecast_id, about.version, tag),
        question_id=content_id("question", tag),
        forecast_id=about.forecast_id,
        epoch=about.epoch,
        base_version=about.version,
        reasoner="scripted",
        action=action,
        shift=0.1,
        vol_scale=1.2,
        citations=(Citation(evidence_id="e1", shift=0.1, log_scale=0.18),),
        cost=Cost(tokens=12),
    )
    return msgspec.structs.replace(made, **changes)


def revised(standing: Forecast, by: Verdict, now: int) -> Forecast:
    down, flat, up = standing.base
    move = by.shift / 10
    return msgspec.structs.replace(standing, emitted=(down - move, flat, up + move), ts_emit=now)


def step(ledger: Ledger, rng: np.random.Generator, i: int) -> None:
    """One step: open one, perhaps revise an open one, close what is due with its outcome."""
    ledger.open_forecast(forecast(i, lifetime_ns=int(rng.integers(5, 60)) * MS))
    now = T0 + i * MS
    known = ledger.latest(content_id("forecast", int(rng.integers(max(0, i - 40), i + 1))))
    if known is not None and rng.random() < 0.6:
        stale = int(rng.random() < 0.2)
        answer = verdict(known, tag=i, base_version=known.version - stale)
        ledger.append(answer)
        revision = ledger.revise(answer, now, revised)
        ledger.append(trace(answer, revision.version, now))
    for closing in ledger.close_due(now):
        ledger.append(
            Outcome(
                forecast_id=closing.forecast_id,
                instrument=INSTRUMENT,
                horizon="10s",
                ts_resolved=now,
                return_bps=float(rng.normal()),
                label=int(rng.integers(0, 3)),
            )
        )


def trace(about: Verdict, version: int, now: int) -> Trace:
    said = Statement(text="Stance 0.42 in one document.", evidence_id="e1", number=0.42)
    return Trace(
        trace_id=content_id("trace", about.verdict_id),
        forecast_id=about.forecast_id,
        verdict_id=about.verdict_id,
        version=version,
        ts=now,
        headline="A claim moved the shift by 0.1.",
        statements=(said,) * (1 + len(about.verdict_id) % 3),
    )


def work(ledger: Ledger, seed: int, steps: int, start: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for i in range(start, start + steps):
        step(ledger, rng, i)


def main() -> None:
    folder, seed, steps, group = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    acknowledge = lambda count, last: os.write(1, f"ack {count} {last}\n".encode())  # noqa: E731 - one line says it
    ledger = Ledger.create(folder, group=group, on_commit=acknowledge)
    work(ledger, seed, steps)
    ledger.close()


if __name__ == "__main__":
    main()
