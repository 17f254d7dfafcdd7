"""The embedded reasoner: no language model, and never called one.

A fitted, bounded fusion of what the narrative and the book measured. Same pack, same bytes.
"""

import math
from collections.abc import Callable

import msgspec

from finllm.domain.evidence import Evidence, EvidencePack
from finllm.domain.forecast import Cost, Forecast
from finllm.domain.protocol import Action, Citation, Escalate, Verdict
from finllm.domain.tilt import P_FLOOR
from finllm.reasoning.fusion import BandWeights, Reading, Weights, fuse, load_weights, read
from finllm.reasoning.outlook import Fused, is_felt, outlook_of, sums, withdrawn
from finllm.reasoning.reasoner import Judgement, admissible, verdict_of

Move = Callable[[BandWeights, tuple[Citation, ...], Reading], tuple[Citation, ...]]
"""From a band, what its fusion cites and what it saw, to what is cited instead."""


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks by the fusion's rules, where it is not the embedded reasoner itself."""

    name: str
    move: Move
    conflict: str = ""
    """Said of the conflict between signals; empty = the fusion's own clause."""
    voided_by: tuple[str, ...] = ()
    """Beside the weights' own conditions."""
    cost: Cost = Cost()
    """Of each verdict."""


class EmbeddedReasoner:
    """Judges by the fusion; confirms, refines or retracts by its bands' thresholds.

    It confirms a forecast that already carries what the evidence calls for, refines one that does
    not, and retracts one issued before a credible denial of what it may have rested on.
    """

    def __init__(self, weights: Weights | None = None) -> None:
        self._weights = weights or load_weights()

    @property
    def name(self) -> str:
        """Return the reasoner's id: `embedded:` and the weights' name."""
        return f"embedded:{self._weights.name}"

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
        denials = {b.name: self._denial(pack, b) for b in w.bands}
        held = {b.name: _without_taken_back(pack, b, denials[b.name]) for b in w.bands}
        readings = {b.name: read(held[b.name], b.memory_ns, w.directed) for b in w.bands}
        fused: Fused = tuple(
            (b, voice.move(b, fuse(readings[b.name], b), readings[b.name])) for b in w.bands
        )
        cited = {band.name: citations for band, citations in fused}
        verdicts = []
        for forecast in forecasts:
            band = w.band(forecast.horizon_ns)
            denial = denials[band.name]
            verdicts.append(
                _retract(voice, question, forecast, denial)
                if denial is not None and forecast.ts_recv <= denial.ts_recv
                else self._answer(voice, question, forecast, cited[band.name], readings[band.name])
            )
        outlook = outlook_of(
            pack.instrument,
            fused,
            reach_ns=_reach_ns(question, forecasts),
            now=now,
            version=outlook_version,
            voided_by=_union(w.voided_by, voice.voided_by),
        )
        because = next((d.evidence_id for d in denials.values() if d is not None), "")
        if outlook is None and because:
            outlook = withdrawn(
                pack.instrument, w.bands, now=now, version=outlook_version, because=because
            )
        return Judgement(verdicts=tuple(verdicts), outlook=outlook)

    def _denial(self, pack: EvidencePack, band: BandWeights) -> Evidence | None:
        """Return the latest credible evidence that takes back something said before it, if any."""
        w = self._weights
        evidence = admissible(pack)
        found = [
            e
            for e in evidence
            if e.event_type in w.retract_events
            and e.credibility * e.relevance >= w.retract_credibility
            and any(_is_taken_back(earlier, e, band) for earlier in evidence)
        ]
        return max(found, key=lambda e: (e.ts_recv, e.evidence_id), default=None)

    def _answer(
        self,
        voice: Voice,
        question: Escalate,
        forecast: Forecast,
        citations: tuple[Citation, ...],
        reading: Reading,
    ) -> Verdict:
        shift, log_scale = sums(citations)
        has_shift, has_log_scale = carried(forecast)
        band = self._weights.band(forecast.horizon_ns)
        is_new = is_felt(band, shift - has_shift, log_scale - has_log_scale)
        return verdict_of(
            question,
            forecast,
            reasoner=voice.name,
            action=Action.REFINE if is_new else Action.CONFIRM,
            citations=citations,
            conflict=voice.conflict or _conflict(reading),
            voided_by=_union(self._weights.voided_by, voice.voided_by),
            cost=voice.cost,
        )


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


def _union(own: tuple[str, ...], further: tuple[str, ...]) -> tuple[str, ...]:
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


def _without_taken_back(
    pack: EvidencePack, band: BandWeights, denial: Evidence | None
) -> EvidencePack:
    """Return the pack less what a denial takes back."""
    if denial is None:
        return pack
    held = tuple(e for e in pack.evidence if not _is_taken_back(e, denial, band))
    return msgspec.structs.replace(pack, evidence=held)


def _is_taken_back(earlier: Evidence, denial: Evidence, band: BandWeights) -> bool:
    """Return whether evidence said, shortly before a denial, something that the denial takes back."""
    age_ns = denial.ts_recv - earlier.ts_recv
    if not (0 < age_ns <= band.retract_within_ns and earlier.document_id):
        return False
    return earlier.event_type == "rumour" or earlier.stance * denial.stance < 0.0


def _conflict(reading: Reading) -> str:
    """Return the conflict between text and book in a clause; empty where they do not disagree."""
    if min(abs(reading.lean), abs(reading.market)) < 0.1 or reading.lean * reading.market > 0.0:
        return ""
    text, book = ("up", "down") if reading.lean > 0.0 else ("down", "up")
    return f"the text leans {text} while the market leans {book}"


def _reach_ns(question: Escalate, forecasts: tuple[Forecast, ...]) -> int:
    """Return the longest horizon asked about; for the outlook alone, the question's patience."""
    return max((f.horizon_ns for f in forecasts), default=question.deadline - question.ts)
