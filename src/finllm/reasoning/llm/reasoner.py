"""The reasoner: asks a language model, holds its answer to the pack, and falls back in the open."""

import math
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from finllm.domain.completion import Completion, End
from finllm.domain.evidence import EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Citation, Escalate
from finllm.domain.units import NS_PER_S
from finllm.reasoning.embedded import EmbeddedReasoner, Voice
from finllm.reasoning.fusion import BandWeights, Reading
from finllm.reasoning.llm.answer import Answer, AnswerError, read_answer
from finllm.reasoning.llm.answerer import Answerer, Ask
from finllm.reasoning.llm.bounds import moved, room
from finllm.reasoning.llm.budget import valued
from finllm.reasoning.llm.meter import share
from finllm.reasoning.llm.prompt import Prompt, render
from finllm.reasoning.llm.prose import checked
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.reasoner import DeferredReasoner, Judgement, amended

LEAST_HALF_LIFE_SHARE = 0.25
"""An answer may shorten a half-life to this share of it at most, and never lengthen it."""


_About = tuple[Escalate, tuple[Forecast, ...], EvidencePack]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that holds, and who speaks by it."""

    answer: Answer
    voice: Voice


class LlmReasoner(DeferredReasoner):
    """A language model behind the embedded reasoner's rules and bounds.

    What it may do is in `bounds`. Retractions are the fusion's alone. An answer that does not hold or
    does not come is replaced by the embedded reasoner's, and every verdict then says why.

    Args:
        settings: Which endpoint, and how.
        answerer: Whoever answers prompts.
        embedded: What stands behind it.
        on_completion: Told every exchange, before it is used: the journal.
    """

    def __init__(
        self,
        settings: LlmSettings,
        answerer: Answerer,
        *,
        embedded: EmbeddedReasoner | None = None,
        on_completion: Callable[[Completion], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._answerer = answerer
        self._embedded = embedded or EmbeddedReasoner()
        self._on_completion = on_completion
        self._prompts: dict[str, tuple[_About, Prompt]] = {}
        """Of questions that are open, what each was asked as, so that it is rendered once."""
        self.hedges: Counter[str] = Counter()
        """Second requests that were `sent`, and those that `won`."""

    @property
    def name(self) -> str:
        """Return the reasoner's id: `llm:`, the model, and what stands behind it."""
        return f"llm:{self._settings.model_name}+{self._embedded.name}"

    def ask(self, question: Escalate, forecasts: tuple[Forecast, ...], pack: EvidencePack) -> None:
        """Ask without waiting."""
        prompt = self.prompt(question, forecasts, pack)
        self._prompts[question.question_id] = ((question, forecasts, pack), prompt)
        budget_ns = min(question.deadline - question.ts, int(self._settings.deadline_s * NS_PER_S))
        self._answerer.submit(
            Ask(
                question_id=question.question_id,
                prompt_id=prompt.prompt_id,
                messages=prompt.messages,
                schema=prompt.schema,
                value=question.expected_gain,
                budget_ns=max(0, budget_ns),
                fault=lambda text: _fault(text, prompt.ids),
            )
        )

    def answers(self) -> Iterator[Completion]:
        """Yield what has come, each journalled already; never waits."""
        while (completion := self._answerer.take()) is not None:
            yield self._kept(completion)

    def recorded(self, question_id: str) -> Completion:
        """Return the end of a question that was asked, journalled; waits for it if need be."""
        return self._kept(self._answerer.wait(question_id))

    def poll(self, question_id: str) -> Completion | None:
        """Return the end of a question that was asked if it has come, journalled; never waits."""
        completion = self._answerer.poll(question_id)
        return None if completion is None else self._kept(completion)

    def _kept(self, completion: Completion) -> Completion:
        """Return a completion, journalled and counted."""
        self._on_completion(completion)
        if completion.hedged_ns:
            self.hedges["sent"] += 1
            self.hedges["won"] += completion.endpoint > 0
        return completion

    def cancel(self, question_id: str) -> None:
        """Give a question up."""
        self._prompts.pop(question_id, None)
        self._answerer.cancel(question_id)

    def close(self) -> None:
        """Give everything up, and journal how it ended."""
        self._answerer.close()
        for _ in self.answers():
            pass

    def prompt(
        self, question: Escalate, forecasts: tuple[Forecast, ...], pack: EvidencePack
    ) -> Prompt:
        """Return what a question is asked as. Pure."""
        reach_ns = max((f.horizon_ns for f in forecasts), default=question.deadline - question.ts)
        band = self._embedded.band(reach_ns)
        reading = self._embedded.read(pack, band)
        return render(question, forecasts, pack, valued(reading, band), self._settings.pack_tokens)

    def conclude(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        completion: Completion,
        now: int,
        outlook_version: int,
    ) -> Judgement:
        """Return what an exchange amounts to. Pure: the same completion, the same judgement."""
        costs = share(completion, len(forecasts))
        heard = self.hear(question, forecasts, pack, completion)
        if isinstance(heard, End):
            judgement = self._embedded.judge(question, forecasts, pack, now, outlook_version)
            fallback = str(heard)
        else:
            judgement = self._embedded.judge_as(
                heard.voice, question, forecasts, pack, now, outlook_version
            )
            fallback = ""
        verdicts = tuple(
            amended(verdict, cost=cost, fallback=fallback)
            for verdict, cost in zip(judgement.verdicts, costs, strict=True)
        )
        return msgspec.structs.replace(judgement, verdicts=verdicts, fallback=fallback)

    def hear(
        self,
        question: Escalate,
        forecasts: tuple[Forecast, ...],
        pack: EvidencePack,
        completion: Completion,
    ) -> Heard | End:
        """Return an exchange's answer, or how it ended without one that holds. Pure."""
        about, prompt = self._prompts.pop(question.question_id, (None, None))
        if prompt is None or about != (question, forecasts, pack):
            prompt = self.prompt(question, forecasts, pack)
        try:
            answer = _held(completion, prompt)
        except AnswerError:
            return End.INVALID if completion.end is End.ANSWER else completion.end
        return Heard(answer=answer, voice=_voice(self.name, answer, prompt, pack))


def _fault(text: str, ids: tuple[str, ...]) -> str:
    try:
        read_answer(text, ids)
    except AnswerError as why:
        return str(why)
    return ""


def _held(completion: Completion, prompt: Prompt) -> Answer:
    """Return an exchange's answer, checked again: what was journalled is no more trusted than what came.

    Raises:
        AnswerError: If there is none, or it does not hold.
    """
    if completion.end is not End.ANSWER:
        raise AnswerError(completion.reason)
    return read_answer(completion.text, prompt.ids)


def _voice(name: str, answer: Answer, prompt: Prompt, pack: EvidencePack) -> Voice:
    cited = [e for e in pack.evidence if e.evidence_id in set(answer.cited)]
    if not cited:
        return Voice(name=name, move=lambda _, citations, __: citations, is_asked_again=False)
    words = answer.why if answer.agreement == "conflict" else ""
    why, struck = checked(words, cited)
    wanted = (answer.shift, math.log(answer.vol_scale))

    def move(
        band: BandWeights, citations: tuple[Citation, ...], reading: Reading
    ) -> tuple[Citation, ...]:
        return moved(
            citations, wanted, band, reading, read=prompt.read, cited=_present(answer, reading)
        )

    def half_life_ns(band: BandWeights, reading: Reading) -> int:
        part, _ = room(reading, prompt.read, _present(answer, reading))
        return faded(band.half_life_ns, answer, part)

    return Voice(
        name=name,
        move=move,
        conflict=why.rstrip(" .!?;"),
        struck=struck,
        is_asked_again=False,
        voided_by=answer.voided_by,
        half_life_ns=half_life_ns,
    )


def _present(answer: Answer, reading: Reading) -> tuple[str, ...]:
    """Return what an answer cites of what a band's fusion sees, in the answer's order."""
    seen = {evidence.evidence_id for evidence in reading.evidence}
    return tuple(name for name in answer.cited if name in seen)


def faded(own_ns: int, answer: Answer, part: float) -> int:
    """Return a half-life as far as an answer may shorten it, ns.

    Args:
        own_ns: The band's own.
        answer: What was said.
        part: Of what an answer may do at most, 0 to 1; see `bounds`.
    """
    least = int(LEAST_HALF_LIFE_SHARE * own_ns)
    wanted = max(1, least, min(own_ns, int(answer.half_life_s * NS_PER_S)))
    return own_ns - int(part * (own_ns - wanted))
