"""The gate that serves, living in a known world as a policy."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace

from finllm.app.bench.known import Occasion, Read, standing_at
from finllm.app.bench.policies import Ask, Learnt, Life, Took
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.protocol import Escalate, Outlook, OutlookBand
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.escalation.appraise import Appraiser, Tier
from finllm.escalation.gate import Gate, GateSettings
from finllm.escalation.latency import LatencyBelief, LatencySettings
from finllm.market.known.law import HORIZONS_S, LISTINGS
from finllm.market.known.minds import OUTLOOK_LIVES, Answer, Mind
from finllm.runtime.clock import stopwatch_ns

SETTINGS: Final = GateSettings(learn=True)


class _Tier:
    """One reasoner of a cascade, behind a gate of its own."""

    def __init__(self, mind: Mind, share: float, settings: GateSettings) -> None:
        self.gate = Gate(replace(settings, call_share=share, explore=min(settings.explore, share)))
        self.belief = LatencyBelief(
            LatencySettings(p50_ms=mind.p50_s * 1e3, p95_ms=mind.p95_s * 1e3)
        )
        self.record = Tier(
            name=mind.name,
            latency=self.belief,
            tokens=mind.tokens,
            usd=mind.usd,
            energy_j=mind.energy_j,
        )


class Gated:
    """A cascade: each reasoner is asked when a gate says so, told what the one below it has said.

    Args:
        minds: The life's, cheapest first.
        shares: By mind, of the questions put to its gate; none = it is not asked, but reads all and
            advises the next one's gate.
        settings: The gates', but for their shares.
    """

    def __init__(
        self,
        minds: Sequence[Mind],
        shares: Sequence[float | None],
        settings: GateSettings = SETTINGS,
    ) -> None:
        self._tiers = [
            None if share is None else _Tier(mind, share, settings)
            for mind, share in zip(minds, shares, strict=True)
        ]
        self._open: dict[int, tuple[Escalate, EvidenceNotice]] = {}
        self._asked: dict[int, tuple[_Tier, str]] = {}
        self._n = 0
        self.took_ns: list[int] = []
        """How long each decision took."""
        self.explored = 0

    @property
    def states(self) -> tuple[bytes, ...]:
        """Return what each gate has learnt."""
        return tuple(appraiser.state for appraiser in self._appraisers())

    def restore(self, states: Sequence[bytes]) -> None:
        """Let each gate begin with what it had learnt."""
        for appraiser, state in zip(self._appraisers(), states, strict=True):
            appraiser.restore(state)

    def _appraisers(self) -> list[Appraiser]:
        gates = [tier.gate for tier in self._tiers if tier is not None]
        return [gate.appraiser for gate in gates if gate.appraiser is not None]

    def decide(self, life: Life, read: Read, occasion: Occasion) -> Ask | None:
        """Ask the first gate, told what the reasoner below it reads in the news."""
        if occasion.notice is None:
            return None
        i, ts = occasion.instrument, occasion.ts
        first = next(k for k, tier in enumerate(self._tiers) if tier is not None)
        below = None
        if first:
            answer = life.seeing.answer(i, ts, also=first - 1)
            below = outlook_of(answer, i, 0, ts)
        return self._put(life, first, occasion.notice, i, ts, below)

    def hear(self, life: Life, i: int, ask: Ask, answer: Answer, took: Took) -> Ask | None:
        """Tell the gates what was answered; ask the next one."""
        question, notice = self._open.pop(ask.number)
        outlook = outlook_of(answer, i, ask.number, took.came)
        for k, tier in enumerate(self._tiers):
            if tier is None:
                continue
            if k == ask.mind:
                tier.belief.observe(took.came - took.asked)
                tier.gate.hear(question, outlook, took.came)
            else:
                tier.gate.stand(outlook)
        if ask.mind + 1 == len(self._tiers):
            return None
        return self._put(life, ask.mind + 1, notice, i, took.came, outlook)

    def _put(
        self, life: Life, k: int, notice: EvidenceNotice, i: int, ts: int, below: Outlook | None
    ) -> Ask | None:
        """Put a question to a gate."""
        tier = self._tiers[k]
        if tier is None:
            return None
        standing = standing_at(life.read, i, ts)
        began = stopwatch_ns()
        answer = tier.gate.decide(
            notice, standing, ts, tier.belief, tiers=(tier.record,), below=below
        )
        self.took_ns.append(stopwatch_ns() - began)
        if not isinstance(answer, Escalate):
            return None
        self._n += 1
        self.explored += answer.propensity < 1.0
        self._open[self._n] = answer, notice
        self._asked[self._n] = tier, answer.instrument
        return Ask(self._n, answer.deadline, k)

    def learn(self, learnt: Learnt) -> None:
        """Tell a gate what came of its answer."""
        tier, instrument = self._asked.pop(learnt.number)
        if tier.gate.appraiser is None:
            return
        for h, horizon_s in enumerate(HORIZONS_S):
            claimed, realised = float(learnt.claimed[h]), float(learnt.realised[h])
            if claimed > 0.0:
                tier.gate.appraiser.count(
                    instrument, learnt.number, float(horizon_s), claimed, realised
                )


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
