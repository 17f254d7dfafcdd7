"""The ensemble: asks its members at once, hears them under one deadline, and concludes from their pool."""

import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec

from finllm.domain.completion import Completion, End
from finllm.domain.evidence import EvidenceKind, EvidencePack
from finllm.domain.forecast import Cost, Forecast
from finllm.domain.identity import content_id
from finllm.domain.protocol import Citation, Escalate, MemberAnswer, Pool
from finllm.domain.revise import total
from finllm.domain.units import NS_PER_S
from finllm.reasoning.embedded import EmbeddedReasoner, Voice
from finllm.reasoning.ensemble.pool import Shares, answer_of, left_of, pool_of, pooled, shares_of
from finllm.reasoning.ensemble.settings import EnsembleSettings, MemberSettings
from finllm.reasoning.ensemble.standing import ANSWER, Standing, words_of
from finllm.reasoning.ensemble.track import TrackRecord
from finllm.reasoning.fusion import BandWeights, Reading
from finllm.reasoning.llm.meter import share
from finllm.reasoning.llm.reasoner import Heard, LlmReasoner
from finllm.reasoning.reasoner import DeferredReasoner, Judgement, admissible, amended, left_sum
from finllm.runtime.clock import Clock, WallClock

UNASKED = "unasked"
"""Stands for the language models where none of them was to be asked."""
_POLL_S = 0.002


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member: whom it is for, and who asks it."""

    settings: MemberSettings
    reasoner: LlmReasoner

    @property
    def name(self) -> str:
        """Return its name."""
        return self.settings.name


class Round(Completion, frozen=True, kw_only=True):
    """A question's exchanges with all members that were asked. Each is journalled, this is not."""

    parts: dict[str, Completion]
    """By member."""
    spared: dict[str, str]
    """Members that would have fitted but were not asked, each with its outcome."""

    @property
    def queued_ns(self) -> int:
        """Return how long the last of its members waited for its turn."""
        return max((part.queued_ns for part in self.parts.values()), default=0)


class _Asked(msgspec.Struct, kw_only=True):
    """A question that members think about."""

    question: Escalate
    names: tuple[str, ...]
    spared: dict[str, str]
    parts: dict[str, Completion]
    """Of those that have ended."""
    began: int
    """ns, by the ensemble's clock."""
    has_given_up: bool = False
    """Those that were late have been given up."""

    @property
    def missing(self) -> list[str]:
        """Return the members that have not ended."""
        return [name for name in self.names if name not in self.parts]

    @property
    def median_ns(self) -> int | None:
        """Return how long it took until half of the members had answered; None if they have not."""
        took = sorted(
            part.ts_ended - part.ts_asked for part in self.parts.values() if part.end is End.ANSWER
        )
        half = (len(self.names) + 1) // 2
        return took[half - 1] if half and len(took) >= half else None


class EnsembleReasoner(DeferredReasoner):
    """Several language models and the embedded reasoner, pooled by their track record.

    The embedded reasoner is always a member, and has the weight of those without a say; retractions are the
    fusion's alone. Every exchange ends by the one deadline, whatever its endpoint does; sooner, given
    up as late, where half of the members have long answered.

    Args:
        settings: The deadline, and the embedded reasoner's weight.
        members: In any order.
        track: What became of what they said; whoever owns it tells it of verdicts and outcomes.
        language_of: From a text to its language, ISO 639-1, or nothing.
        embedded: What stands behind them.
        clock: Tells who is late. What follows from that is in the exchanges, which say who was given up.
    """

    def __init__(
        self,
        settings: EnsembleSettings,
        members: Sequence[Member],
        track: TrackRecord,
        *,
        language_of: Callable[[str], str],
        embedded: EmbeddedReasoner | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or WallClock()
        self._settings = settings
        self._members = {m.name: m for m in sorted(members, key=lambda m: m.name)}
        self._standing = {name: Standing() for name in self._members}
        self._track = track
        self._language_of = language_of
        self._embedded = embedded or EmbeddedReasoner()
        self._asked: dict[str, _Asked] = {}

    @property
    def name(self) -> str:
        """Return the reasoner's id: `ensemble:`, its members, and what stands behind them."""
        return f"ensemble:{'+'.join(self._members)}+{self._embedded.name}"

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return by member how its questions ended, those that it was spared included."""
        return {name: dict(sorted(one.counts.items())) for name, one in self._standing.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be known of the members before their agreement is trusted."""
        dropped = {name: one.dropped for name, one in self._standing.items() if one.dropped}
        families = {m.settings.family for m in self._members.values()}
        alike = len(self._members) > 1 and len(families) == 1 and "" not in families
        return (
            *(f"reasoner {name} is dropped: {why}" for name, why in dropped.items()),
            *(["all reasoners are of one family: that they agree says little"] if alike else []),
        )

    def ask(self, question: Escalate, forecasts: tuple[Forecast, ...], pack: EvidencePack) -> None:
        """Ask all members that fit and are not dropped, without waiting."""
        claims = (e for e in admissible(pack) if e.kind is EvidenceKind.CLAIM)
        languages = frozenset(self._language_of(claim.quote) for claim in claims if claim.quote)
        turns = {
            m.name: self._standing[m.name].turn()
            for m in self._members.values()
            if m.settings.fits(question.instrument, languages)
        }
        asked = _Asked(
            question=question,
            names=tuple(name for name, spared in turns.items() if not spared),
            spared={name: spared for name, spared in turns.items() if spared},
            parts={},
            began=self._clock.now(),
        )
        self._asked[question.question_id] = asked
        for name in asked.names:
            self._members[name].reasoner.ask(self._own(question, name), forecasts, pack)

    def answers(self) -> Iterator[Round]:
        """Yield the questions that all members asked have ended, given up if they are late; never waits."""
        for name, member in self._members.items():
            for completion in member.reasoner.answers():
                held = self._asked.get(_question_id(completion.question_id))
                if held is not None:
                    held.parts[name] = completion
        for held in self._asked.values():
            self._give_up_late(held)
        whole = [question_id for question_id, held in self._asked.items() if not held.missing]
        for question_id in whole:
            if question_id in self._asked:  # else given up because of the one before it
                yield self.recorded(question_id)

    def recorded(self, question_id: str) -> Round:
        """Return the end of a question that was asked, waiting for its members if need be."""
        held = self._asked[question_id]
        while self._has_missing(held):
            self._give_up_late(held)
            threading.Event().wait(_POLL_S)
        del self._asked[question_id]
        return self._round(held)

    def _has_missing(self, held: _Asked) -> bool:
        """Look who has ended; return whether anybody has not."""
        for name in held.missing:
            own_id = _own_id(held.question.question_id, name)
            completion = self._members[name].reasoner.poll(own_id)
            if completion is not None:
                held.parts[name] = completion
        return bool(held.missing)

    def _give_up_late(self, held: _Asked) -> None:
        """Give up the members that let the others wait. Their exchanges say so, and so does a replay."""
        median_ns = held.median_ns
        if held.has_given_up or median_ns is None or not held.missing:
            return
        budget_ns = max(part.budget_ns for part in held.parts.values())
        patience_ns = self._settings.patience_ns(median_ns, budget_ns)
        if self._clock.now() - held.began > patience_ns:
            held.has_given_up = True
            for name in held.missing:
                own_id = _own_id(held.question.question_id, name)
                self._members[name].reasoner.cancel(own_id)

    def cancel(self, question_id: str) -> None:
        """Give a question up, with every member."""
        for name in self._asked.pop(question_id).names:
            self._members[name].reasoner.cancel(_own_id(question_id, name))

    def close(self) -> None:
        """Give everything up, and journal how it ended."""
        for member in self._members.values():
            member.reasoner.close()

    def conclude(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        completion: Completion,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Return what the members' exchanges amount to.

        It follows from them, from the outcomes known before the question, and from the exchanges concluded
        before; it notes each member's standing, so that one question is concluded once.

        Raises:
            TypeError: If the completion is not a round of this ensemble's.
        """
        if not isinstance(completion, Round):
            raise TypeError("an ensemble concludes from a round of its own")
        heard, outcomes = self._hear(question, forecasts, pack, completion)
        shares = self._shares(question, completion, heard)
        pools: dict[str, Pool] = {}

        def move(
            band: BandWeights, citations: tuple[Citation, ...], reading: Reading
        ) -> tuple[Citation, ...]:
            said = {name: one.voice.move(band, citations, reading) for name, one in heard.items()}
            answers = [answer_of(name, shares[name], said[name]) for name in said]
            silent = [MemberAnswer(name=n, weight=0.0, outcome=o) for n, o in outcomes.items()]
            own = answer_of(self._embedded.name, left_of(shares), citations)
            others = sorted([*answers, *silent], key=lambda member: member.name)
            pools[band.name] = pool_of([own, *others])
            return pooled([(own.weight, citations), *((shares[n], said[n]) for n in said)])

        judgement = self._embedded.judge_as(
            self._voice(heard, shares, move), question, forecasts, pack, now, outlook_version
        )
        costs = _costs(completion, len(forecasts))
        fallback = "" if heard else ", ".join(sorted(set(outcomes.values()))) or UNASKED
        verdicts = tuple(
            amended(
                verdict,
                cost=cost,
                fallback=fallback,
                pool=pools[self._embedded.band(forecast.horizon_ns).name],
            )
            for verdict, forecast, cost in zip(judgement.verdicts, forecasts, costs, strict=True)
        )
        return Judgement(verdicts=verdicts, outlook=judgement.outlook, fallback=fallback)

    def _hear(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        completion: Round,
    ) -> tuple[dict[str, Heard], dict[str, str]]:
        """Return who has a say, by name, and of everybody else why not."""
        evidence = admissible(pack)
        texts = sorted(e.evidence_id for e in evidence if e.kind is EvidenceKind.CLAIM)
        heard: dict[str, Heard] = {}
        outcomes = dict(completion.spared)
        for name, part in completion.parts.items():
            standing = self._standing[name]
            own = self._own(question, name)
            found = self._members[name].reasoner.hear(own, forecasts, pack, part)
            if found is End.CANCELLED and part.attempts:
                outcomes[name] = standing.late()
            elif isinstance(found, End):
                outcomes[name] = standing.failed(found)
            elif (outcome := standing.answered(found.answer, tuple(texts))) == ANSWER:
                heard[name] = found
            else:
                outcomes[name] = outcome
        return heard, outcomes

    def _own(self, question: Escalate, name: str) -> Escalate:
        """Return a question as a member is asked it: under an id of its own, due before the ensemble's."""
        left_s = (question.deadline - question.ts) / NS_PER_S
        return msgspec.structs.replace(
            question,
            question_id=_own_id(question.question_id, name),
            deadline=question.ts + int(self._settings.budget_s(left_s) * NS_PER_S),
        )

    def _shares(self, question: Escalate, ended: Round, heard: dict[str, Heard]) -> Shares:
        """Return the weights of those that have a say, from what was known before the question."""
        fitting = (*ended.parts, *ended.spared)
        factors = self._track.factors(fitting, question.ts)
        asked = {name: self._members[name].settings.weight * factors[name] for name in fitting}
        said = {name: words_of(one.answer) for name, one in heard.items()}
        return shares_of(asked, said, self._settings.embedded_weight)

    def _voice(
        self,
        heard: dict[str, Heard],
        shares: Shares,
        move: Callable[[BandWeights, tuple[Citation, ...], Reading], tuple[Citation, ...]],
    ) -> Voice:
        """Return who speaks: the ensemble in the words of its weightiest member, or the embedded reasoner."""
        if not heard:
            return Voice(name=self._embedded.name, move=move)
        first = max(heard, key=lambda name: shares[name])

        def half_life_ns(band: BandWeights, reading: Reading) -> int:
            """Return the weighted mean of the half-lives that the members ask for."""
            asked = left_sum(
                shares[name] * one.voice.half_life_ns(band, reading) for name, one in heard.items()
            )
            return max(1, round(left_of(shares) * band.half_life_ns + asked))

        return Voice(
            name=self.name,
            move=move,
            conflict=heard[first].voice.conflict,
            is_asked_again=False,
            voided_by=tuple(sorted({v for one in heard.values() for v in one.voice.voided_by})),
            struck=heard[first].voice.struck,
            half_life_ns=half_life_ns,
        )

    def _round(self, held: _Asked) -> Round:
        question = held.question
        parts = {name: held.parts[name] for name in held.names}
        ends = [part.end for part in parts.values()]
        return Round(
            question_id=question.question_id,
            model=self.name,
            prompt_id=content_id("prompts", [part.prompt_id for part in parts.values()]),
            value=question.expected_gain,
            ts_asked=min((part.ts_asked for part in parts.values()), default=question.ts),
            ts_ended=max((part.ts_ended for part in parts.values()), default=question.ts),
            budget_ns=max((part.budget_ns for part in parts.values()), default=0),
            end=End.ANSWER if not ends or End.ANSWER in ends else ends[0],
            parts=parts,
            spared=held.spared,
        )


def _own_id(question_id: str, name: str) -> str:
    """Return the id by which a member is asked a question."""
    return f"{question_id}/{name}"


def _question_id(own_id: str) -> str:
    return own_id.rpartition("/")[0]


def _costs(ended: Round, n: int) -> list[Cost]:
    """Return what all exchanges of a round cost, divided among verdicts."""
    costs = [Cost()] * n
    for part in ended.parts.values():
        costs = [total(a, b) for a, b in zip(costs, share(part, n), strict=True)]
    return costs
