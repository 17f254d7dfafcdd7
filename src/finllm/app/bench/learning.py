"""The gate that serves, living in a known world as a policy."""

from typing import Final

import numpy as np

from finllm.app.bench.known import Occasion, Read, standing_at
from finllm.app.bench.policies import Ask, Learnt, Life
from finllm.domain.protocol import Escalate, Outlook, OutlookBand
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.escalation.appraise import Tier
from finllm.escalation.gate import Gate, GateSettings
from finllm.escalation.latency import LatencyBelief, LatencySettings
from finllm.market.known.law import HORIZONS_S, LISTINGS
from finllm.market.known.minds import OUTLOOK_LIVES, Answer, Mind
from finllm.runtime.clock import stopwatch_ns

SETTINGS: Final = GateSettings(learn=True)


class Gated:
    """Asks when the gate says so, and tells it what becomes of it.

    Args:
        mind: Who is asked.
        settings: The gate's.
    """

    def __init__(self, mind: Mind, settings: GateSettings = SETTINGS) -> None:
        self.gate = Gate(settings)
        self._belief = LatencyBelief(
            LatencySettings(p50_ms=mind.p50_s * 1e3, p95_ms=mind.p95_s * 1e3)
        )
        self._tier = Tier(
            name=mind.name,
            latency=self._belief,
            tokens=mind.tokens,
            usd=mind.usd,
            energy_j=mind.energy_j,
        )
        self._open: dict[int, Escalate] = {}
        self._of: dict[int, str] = {}
        self._n = 0
        self.took_ns: list[int] = []
        """How long each decision took."""
        self.explored = 0

    def decide(self, life: Life, read: Read, occasion: Occasion) -> Ask | None:
        """Ask the gate."""
        if occasion.notice is None:
            return None
        standing = standing_at(read, occasion.instrument, occasion.ts)
        began = stopwatch_ns()
        answer = self.gate.decide(
            occasion.notice, standing, occasion.ts, self._belief, tiers=(self._tier,)
        )
        self.took_ns.append(stopwatch_ns() - began)
        if not isinstance(answer, Escalate):
            return None
        self._n += 1
        self.explored += answer.propensity < 1.0
        self._open[self._n] = answer
        self._of[self._n] = answer.instrument
        return Ask(self._n, answer.deadline)

    def hear(self, read: Read, i: int, number: int, answer: Answer, took_ns: int) -> None:
        """Tell the gate what was answered."""
        question = self._open.pop(number)
        self._belief.observe(took_ns)
        now = question.ts + took_ns
        self.gate.hear(question, outlook_of(answer, i, number, now), now)

    def learn(self, learnt: Learnt) -> None:
        """Tell the gate what came of it."""
        appraiser = self.gate.appraiser
        key = self._of.pop(learnt.number)
        if appraiser is None:
            return
        for h, horizon_s in enumerate(HORIZONS_S):
            claimed, realised = float(learnt.claimed[h]), float(learnt.realised[h])
            if claimed > 0.0:
                appraiser.count(key, learnt.number, float(horizon_s), claimed, realised)


def outlook_of(answer: Answer, i: int, version: int, now: int) -> Outlook:
    """Return an answer as the record that a reasoner would give."""
    bands = tuple(
        OutlookBand(
            up_to_ns=horizon_s * NS_PER_S,
            shift=float(answer.shift[h]),
            vol_scale=float(np.exp(answer.log_scale[h])),
        )
        for h, horizon_s in enumerate(HORIZONS_S)
    )
    return Outlook(
        instrument=LISTINGS[i].key,
        version=version,
        ts=now,
        bands=bands,
        half_life_ns=max(NS_PER_MS, answer.half_life_ns),
        expires=now + OUTLOOK_LIVES * answer.half_life_ns,
    )
