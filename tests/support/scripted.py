"""Whoever answers prompts by a script."""

from collections import deque
from collections.abc import Callable

from finllm.domain.completion import Completion, End
from finllm.reasoning.llm.answerer import Ask


class Scripted:
    """Answers at once with a function of the prompt.

    Args:
        play: From a prompt to what the model says.
    """

    def __init__(self, play: Callable[[Ask], str]) -> None:
        self._play = play
        self._held: dict[str, Completion] = {}
        self._come: deque[str] = deque()

    def submit(self, ask: Ask) -> None:
        """Answer a prompt."""
        text = self._play(ask)
        fault = ask.fault(text)
        self._come.append(ask.question_id)
        self._held[ask.question_id] = Completion(
            question_id=ask.question_id,
            model="scripted",
            prompt_id=ask.prompt_id,
            value=ask.value,
            ts_asked=0,
            ts_ended=0,
            budget_ns=ask.budget_ns,
            end=End.INVALID if fault else End.ANSWER,
            reason=fault,
            text="" if fault else text,
        )

    def take(self) -> Completion | None:
        """Return the next completion, or None."""
        while self._come:
            held = self._held.pop(self._come.popleft(), None)
            if held is not None:
                return held
        return None

    def poll(self, question_id: str) -> Completion:
        """Return a question's completion: it comes at once."""
        return self.wait(question_id)

    def wait(self, question_id: str) -> Completion:
        """Return a question's completion."""
        return self._held.pop(question_id)

    def cancel(self, question_id: str) -> None:
        """Do nothing: it has been answered."""

    def close(self) -> None:
        """Do nothing."""
