"""The reasoner's double: plays what it was told to, for tests and for showing the plumbing."""

import math
from collections.abc import Callable, Mapping

from finllm.domain.evidence import EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.identity import content_id
from finllm.domain.outlook import outlook_of
from finllm.domain.protocol import Action, Citation, Escalate, Opinion, Outlook, Reach, Share
from finllm.domain.units import NS_PER_DAY
from finllm.reasoning.reasoner import Judgement, admissible, verdict_of

Play = Callable[[Escalate, tuple[Forecast, ...], EvidencePack, int, int], Judgement]


class ScriptedReasoner:
    """Answers with a function of the question and nothing else."""

    def __init__(self, play: Play, name: str = "scripted-1") -> None:
        self._play = play
        self._name = name

    @property
    def name(self) -> str:
        """Return the reasoner's id."""
        return self._name

    def judge(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Return what the script says. See `Reasoner`."""
        return self._play(question, forecasts, pack, now, outlook_version)

    @classmethod
    def of(
        cls, judgements: Mapping[str, Judgement], name: str = "scripted-1"
    ) -> "ScriptedReasoner":
        """Return a reasoner that plays given judgements by question id.

        Raises:
            KeyError: When asked a question that is not in the script.
        """

        def play(question: Escalate, *_: object) -> Judgement:
            return judgements[question.question_id]

        return cls(play, name)

    @classmethod
    def steady(
        cls, action: Action, shift: float = 0.0, vol_scale: float = 1.0, name: str = "scripted-1"
    ) -> "ScriptedReasoner":
        """Return a reasoner that always says the same, citing the first admissible evidence.

        Where there is none it confirms: what cannot be cited moves nothing.
        """

        def play(
            question: Escalate,
            forecasts: tuple[Forecast, ...],
            pack: EvidencePack,
            now: int,
            outlook_version: int,
        ) -> Judgement:
            cited = tuple(
                Citation(evidence_id=e.evidence_id, shift=shift, log_scale=math.log(vol_scale))
                for e in admissible(pack)[:1]
            )
            said = action if cited else Action.CONFIRM
            return Judgement(
                verdicts=tuple(
                    verdict_of(question, forecast, reasoner=name, action=said, citations=cited)
                    for forecast in forecasts
                ),
                outlook=_outlook(pack, cited, now, outlook_version) if cited else None,
            )

        return cls(play, name)


def _outlook(
    pack: EvidencePack, cited: tuple[Citation, ...], now: int, outlook_version: int
) -> Outlook:
    """Return the cited shares as an outlook for every horizon, for a day."""
    (one,) = cited
    evidence = next(e for e in admissible(pack) if e.evidence_id == one.evidence_id)
    share = Share(
        evidence_id=one.evidence_id,
        origin=evidence.origin,
        ts_recv=evidence.ts_recv,
        shift=(one.shift,),
        log_scale=(one.log_scale,),
    )
    opinion = Opinion(
        opinion_id=content_id("opinion", pack.pack_id, share),
        since=pack.since,
        as_of=pack.as_of,
        ts=now,
        half_life_ns=NS_PER_DAY // 4,
        expires=now + NS_PER_DAY,
        reaches=(
            Reach(
                up_to_ns=365 * NS_PER_DAY,
                max_shift=abs(one.shift),
                max_log_scale=abs(one.log_scale),
            ),
        ),
        shares=(share,),
    )
    return outlook_of(pack.instrument, (opinion,), now=now, version=outlook_version)
