"""Whoever answers prompts: an endpoint, or the journal of a run."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from finllm.domain.completion import Completion, Message
from finllm.domain.errors import InputError


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt on its way, and what an answer to it must pass."""

    question_id: str
    prompt_id: str
    messages: tuple[Message, ...]
    schema: dict[str, Any]
    value: float
    """Expected gain, nats."""
    budget_ns: int
    """From now to the deadline."""
    fault: Callable[[str], str]
    """Says why an answer does not hold; empty if it does. Pure."""


class Answerer(Protocol):
    """Answers prompts, in its own time. Every question gets exactly one completion, whatever happens."""

    def submit(self, ask: Ask) -> None:
        """Take a prompt; never waits."""
        ...

    def take(self) -> Completion | None:
        """Return a completion that has come and was not waited for, or None; never waits."""
        ...

    def poll(self, question_id: str) -> Completion | None:
        """Return a question's completion if it has come and was not taken, or None; never waits."""
        ...

    def wait(self, question_id: str) -> Completion:
        """Return a question's completion, waiting for it until its deadline."""
        ...

    def cancel(self, question_id: str) -> None:
        """Give a question up; its completion says so."""
        ...

    def close(self) -> None:
        """Give everything up."""
        ...


class Journalled:
    """Answers from the journal of a run; needs no endpoint.

    Args:
        completions: By question id.
    """

    def __init__(self, completions: Mapping[str, Completion]) -> None:
        self._completions = completions

    def submit(self, ask: Ask) -> None:
        """Take a prompt.

        Raises:
            InputError: If the journal holds another prompt for the question.
        """
        held = self._completions.get(ask.question_id)
        if held is not None and held.prompt_id != ask.prompt_id:
            raise InputError(
                f"holds another prompt for question {ask.question_id}",
                place="journal",
                mend="Replay it whole, with the version and the settings that recorded it.",
            )

    def take(self) -> Completion | None:
        """Return None: a replay says when an answer comes."""
        return None

    def poll(self, question_id: str) -> Completion:
        """Return a question's completion: in a journal all have come."""
        return self.wait(question_id)

    def wait(self, question_id: str) -> Completion:
        """Return a question's completion.

        Raises:
            InputError: If the journal holds none.
        """
        held = self._completions.get(question_id)
        if held is None:
            raise InputError(
                f"holds no answer to question {question_id}",
                place="journal",
                mend="Replay it whole, with the version and the settings that recorded it.",
            )
        return held

    def cancel(self, question_id: str) -> None:
        """Do nothing: the journal says how it ended."""

    def close(self) -> None:
        """Do nothing."""
