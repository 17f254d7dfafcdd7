"""The embedded reasoner: no language model, and never called one.

A fitted, bounded fusion of what the narrative and the book measured. Same pack, same bytes.
"""

import math
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET

from finllm.domain.evidence import Evidence, EvidencePack
from finllm.domain.forecast import Cost, Forecast
from finllm.domain.protocol import (
    Action,
    Citation,
    Driver,
    Escalate,
    Hypothesis,
    Verdict,
    Voiding,
)
from finllm.domain.tilt import P_FLOOR
from finllm.reasoning.conflict import (
    ConflictWeights,
    Weighed,
    clause,
    hypotheses,
    is_testable,
    load_conflict,
    mixed,
    options,
    weigh,
    without,
)
from finllm.reasoning.denial import believed, settled
from finllm.reasoning.driver import Said, Source, driver_of, sources_of
from finllm.reasoning.fidelity import Again
from finllm.reasoning.fusion import (
    BandWeights,
    Reading,
    Weights,
    alone,
    fuse,
    load_weights,
    read,
    trusts,
    weighed,
)
from finllm.reasoning.outlook import Fused, is_felt, opined, sums
from finllm.reasoning.reasoner import Judgement, admissible, amended, verdict_of

EMBEDDED: Final = "embedded:"
"""Beginning of the name of every embedded reasoner; its weights' name follows."""
HalfLife = Callable[[BandWeights, Reading], int]
"""From a band and what its fusion sees to the half-life of an outlook, ns."""
Move = Callable[[BandWeights, tuple[Citation, ...], Reading], tuple[Citation, ...]]
"""From a band, what its fusion cites and what it saw, to what is cited instead."""


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks by the fusion's rules, where it is not the embedded reasoner itself."""

    name: str
    move: Move
    conflict: str = ""
    """Said of the conflict between signals; empty = the reasoner's own clause."""
    is_asked_again: bool = True
    """It can be asked what it would say without a source, so that its driver can be found."""
    struck: tuple[str, ...] = ()
    """What else was said of it, and does not hold."""
    voided_by: tuple[Voiding, ...] = ()
    """Beside the weights' own conditions."""
    cost: Cost = Cost()
    """Of each verdict."""
    half_life_ns: HalfLife = lambda band, _: band.half_life_ns
    """By default the weights' own."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one band sees in a pack, less what denials take back."""

    denial: Evidence | None
    reading: Reading


class _Left(msgspec.Struct, frozen=True, kw_only=True):
    """A pack less one of its sources."""

    source: Source
    pack: EvidencePack
    probabilities: dict[str, float]
    """Of the hypotheses; empty where they were not tested."""


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one band's verdicts say, whichever forecast they are on."""

    citations: tuple[Citation, ...]
    reading: Reading
    hypotheses: tuple[Hypothesis, ...]
    driver: Driver | None


class EmbeddedReasoner:
    """Judges by the fusion; confirms, refines or retracts by its bands' thresholds.

    It confirms a forecast that already carries what the evidence calls for, refines one that does
    not, and retracts one issued before a credible denial of what it may have rested on, where the denial
    is worth what it ends.
    """

    def __init__(
        self, weights: Weights | None = None, conflict: ConflictWeights | None = None
    ) -> None:
        self._weights = weights or load_weights()
        self._conflict = conflict or load_conflict()

    @property
    def name(self) -> str:
        """Return the reasoner's id: `embedded:` and the weights' name."""
        return f"{EMBEDDED}{self._weights.name}"

    @property
    def conflict_model(self) -> str:
        """Return the name of the hypotheses' weights."""
        return self._conflict.name

    def judge(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Return a verdict on each forecast, and the outlook. See `Reasoner`."""
        own = Voice(name=self.name, move=lambda _, citations, __: citations)
        return self.judge_as(own, question, forecasts, pack, now, outlook_version)

    def band(self, reach_ns: int) -> BandWeights:
        """Return the weights of the band that reaches a horizon."""
        return self._weights.band(reach_ns)

    def read(self, pack: EvidencePack, band: BandWeights) -> Reading:
        """Return what a band's fusion sees in a pack, whatever has been taken back left in."""
        return read(pack, band.memory_ns, self._weights.directed)

    def test(self, pack: EvidencePack) -> tuple[Hypothesis, ...]:
        """Return the hypotheses on a pack, most probable first; none where they cannot be tested."""
        tests = self._test(pack)
        return hypotheses(tests) if tests else ()

    def driver(self, pack: EvidencePack, reach_ns: int) -> Driver | None:
        """Return the source that what is said of a horizon most hangs on."""
        tests = self._test(pack)
        left_out = self._left_out(pack, tests)
        return self._driver(pack, self._weights.band(reach_ns), tests, left_out)

    def again(self, forecast: Forecast, pack: EvidencePack) -> Again:
        """Return what it would say of a forecast by another pack. Hypotheses and driver are left out."""
        band = self._weights.band(forecast.horizon_ns)
        seen = self._see(pack, band)
        if _is_retracted(forecast, seen.denial):
            return Again(action=Action.RETRACT, shift=0.0, log_scale=0.0)
        shift, log_scale = sums(fuse(seen.reading, band))
        action = _action(forecast, band, shift, log_scale)
        return Again(action=action, shift=shift, log_scale=log_scale)

    def judge_as(
        self,
        voice: Voice,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Return what another voice says by the same rules: its moves, the same retractions."""
        w = self._weights
        seen = {b.name: self._see(pack, b) for b in w.bands}
        fused: Fused = tuple(
            (b, voice.move(b, fuse(seen[b.name].reading, b), seen[b.name].reading)) for b in w.bands
        )
        tests = self._test(pack)
        left_out = self._left_out(pack, tests) if forecasts and voice.is_asked_again else []
        told = {
            band.name: _Told(
                citations=citations,
                reading=seen[band.name].reading,
                hypotheses=hypotheses(tests) if tests else (),
                driver=self._driver(pack, band, tests, left_out) if left_out else None,
            )
            for band, citations in fused
            if any(w.band(f.horizon_ns) is band for f in forecasts)
        }
        verdicts = []
        for forecast in forecasts:
            band = w.band(forecast.horizon_ns)
            denial = seen[band.name].denial
            verdict = (
                _retract(voice, question, forecast, denial)
                if denial is not None and _is_retracted(forecast, denial)
                else self._answer(voice, question, forecast, told[band.name])
            )
            verdicts.append(
                amended(
                    verdict,
                    hypotheses=told[band.name].hypotheses,
                    driver=told[band.name].driver,
                )
            )
        lasting = w.band(_reach_ns(question, forecasts))
        outlook = opined(
            pack,
            fused,
            half_life_ns=voice.half_life_ns(lasting, seen[lasting.name].reading),
            life_ns=lasting.life_ns,
            now=now,
            version=outlook_version,
            voided_by=_union(w.voided_by, voice.voided_by),
        )
        return Judgement(verdicts=tuple(verdicts), outlook=outlook)

    def _see(self, pack: EvidencePack, band: BandWeights) -> "_Seen":
        found = believed(pack, self._weights, band)
        denial = next((one for one in found if self._retracts(one, pack, band)), None)
        return _Seen(denial=denial, reading=self._settled(pack, band))

    def _settled(self, pack: EvidencePack, band: BandWeights) -> Reading:
        w = self._weights
        return weighed(pack, settled(pack, w, band), band.memory_ns, w.directed)

    def _retracts(self, denial: Evidence, pack: EvidencePack, band: BandWeights) -> bool:
        """Return whether a denial may end what would be said without it: it is worth that much itself."""
        left = without(pack, (denial.evidence_id,))
        shift, log_scale = sums(fuse(self._settled(left, band), band))
        weight = alone(denial, pack.as_of, band.memory_ns)
        return (
            abs(shift) <= band.max_shift * weight and abs(log_scale) <= band.max_log_scale * weight
        )

    def _test(self, pack: EvidencePack) -> list[Weighed]:
        """Return what the hypotheses' model makes of a pack; nothing where it cannot be tested."""
        if not is_testable(pack):
            return []
        return weigh(options(pack, self._conflict.memory_ns), self._conflict)

    def _left_out(self, pack: EvidencePack, tests: list[Weighed]) -> "list[_Left]":
        """Return the pack less each of its sources in turn, with what is then said of the hypotheses."""
        evidence = admissible(pack)
        trust = trusts(evidence, pack.as_of, self._conflict.memory_ns)
        weights = {e.evidence_id: w for e, w in zip(evidence, trust, strict=True)}
        found = []
        for source in sources_of(pack, weights):
            left = without(pack, source.evidence_ids)
            if not tests:
                again: dict[str, float] = {}
            elif source.is_text:
                again = mixed(tests, source.name)
            else:
                again = mixed(weigh(options(left, self._conflict.memory_ns), self._conflict))
            found.append(_Left(source=source, pack=left, probabilities=again))
        return found

    def _driver(
        self,
        pack: EvidencePack,
        band: BandWeights,
        tests: list[Weighed],
        left_out: "list[_Left]",
    ) -> Driver | None:
        """Return the source without which most would be otherwise."""
        return driver_of(
            self._say(pack, band, mixed(tests) if tests else {}),
            ((one.source, self._say(one.pack, band, one.probabilities)) for one in left_out),
        )

    def _say(self, pack: EvidencePack, band: BandWeights, probabilities: dict[str, float]) -> Said:
        shift, log_scale = sums(fuse(self._see(pack, band).reading, band))
        return Said(shift=shift, log_scale=log_scale, probabilities=probabilities)

    def _answer(
        self,
        voice: Voice,
        question: Escalate,
        forecast: Forecast,
        told: "_Told",
    ) -> Verdict:
        shift, log_scale = sums(told.citations)
        band = self._weights.band(forecast.horizon_ns)
        verdict = verdict_of(
            question,
            forecast,
            reasoner=voice.name,
            action=_action(forecast, band, shift, log_scale),
            citations=told.citations,
            conflict=voice.conflict or _conflict(told),
            voided_by=_union(self._weights.voided_by, voice.voided_by),
            cost=voice.cost,
        )
        return msgspec.structs.replace(verdict, struck=voice.struck or UNSET)


def _retract(voice: Voice, question: Escalate, forecast: Forecast, denial: Evidence) -> Verdict:
    return verdict_of(
        question,
        forecast,
        reasoner=voice.name,
        action=Action.RETRACT,
        citations=(Citation(evidence_id=denial.evidence_id, shift=0.0, log_scale=0.0),),
        conflict="what the forecast may have rested on has been taken back",
        cost=voice.cost,
    )


def _is_retracted(forecast: Forecast, denial: Evidence | None) -> bool:
    """Return whether a forecast may have rested on what was taken back after it was issued."""
    return denial is not None and forecast.ts_recv <= denial.ts_recv


def _action(forecast: Forecast, band: BandWeights, shift: float, log_scale: float) -> Action:
    """Return whether a forecast carries a shift and ln k already."""
    has_shift, has_log_scale = carried(forecast)
    is_new = is_felt(band, shift - has_shift, log_scale - has_log_scale)
    return Action.REFINE if is_new else Action.CONFIRM


def _union(own: tuple[Voiding, ...], further: tuple[Voiding, ...]) -> tuple[Voiding, ...]:
    return tuple(dict.fromkeys((*own, *further)))


def carried(forecast: Forecast) -> tuple[float, float]:
    """Return the (shift, ln k) by which what a forecast emits differs from its base already."""
    if forecast.emitted == forecast.base and forecast.emitted_q == forecast.base_q:
        return 0.0, 0.0
    shift = _lean(forecast.emitted) - _lean(forecast.base)
    base_width = forecast.base_q[3] - forecast.base_q[1]
    width = forecast.emitted_q[3] - forecast.emitted_q[1]
    if base_width <= 0.0 or width <= 0.0:
        return shift, 0.0
    return shift, math.log(width / base_width)


def _lean(p: tuple[float, float, float]) -> float:
    return math.log(max(p[2], P_FLOOR) / max(p[0], P_FLOOR))


def _conflict(told: "_Told") -> str:
    """Return the conflict in a clause: who leans where, and what may be behind it; empty without one."""
    return "; ".join(said for said in (_clash(told.reading), clause(told.hypotheses)) if said)


def _clash(reading: Reading) -> str:
    """Return how text and book disagree; empty where they do not."""
    if min(abs(reading.lean), abs(reading.market)) < 0.1 or reading.lean * reading.market > 0.0:
        return ""
    text, book = ("up", "down") if reading.lean > 0.0 else ("down", "up")
    return f"the text leans {text} while the market leans {book}"


def _reach_ns(question: Escalate, forecasts: tuple[Forecast, ...]) -> int:
    """Return the shortest horizon asked about; for the outlook alone, the question's patience.

    Its band says how the outlook fades: what is over within hours must not outlast them on an hourly grid
    because a forecast for the day was asked about as well.
    """
    return min((f.horizon_ns for f in forecasts), default=question.deadline - question.ts)
