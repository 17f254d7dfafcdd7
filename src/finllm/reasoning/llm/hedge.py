"""Several endpoints of one model: a slow question is asked of a second one where that pays.

The first answer that holds wins and the other request is cancelled. The one completion holds what both cost.
"""

import threading
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from finllm.domain.completion import Completion, End
from finllm.reasoning.llm.answerer import Answerer, Ask
from finllm.runtime.clock import Clock, WallClock

WINDOW: Final = 64
"""Answers whose duration is remembered."""
LEAST_KNOWN: Final = 8
"""Answers before their durations are relied on; until then half of the time to the deadline is waited."""
_LEVEL: Final = 0.95
"""Share of answers that have come when a second endpoint is asked."""
_OURS: Final = frozenset({End.CANCELLED, End.SHED})
"""Ends that another endpoint would not mend."""
_POLL_S: Final = 0.002


class Durations:
    """How long the last answers took, ns."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []

    def observe(self, duration_ns: int) -> None:
        """Take in one."""
        if len(self._recent) == WINDOW:
            self._sorted.remove(self._recent.popleft())
        self._recent.append(duration_ns)
        insort(self._sorted, duration_ns)

    def patience_ns(self, budget_ns: int) -> int:
        """Return how long to wait before a second endpoint is asked."""
        n = len(self._sorted)
        return self._sorted[int(_LEVEL * (n - 1))] if n >= LEAST_KNOWN else budget_ns // 2

    def chance(self, elapsed_ns: int, budget_ns: int) -> float:
        """Return the chance that an answer that has not come comes in time (Laplace's rule)."""
        n = len(self._sorted) - bisect_right(self._sorted, elapsed_ns)
        in_time = bisect_right(self._sorted, budget_ns) - bisect_right(self._sorted, elapsed_ns)
        return (max(0, in_time) + 1) / (n + 2)


class _Race:
    """One question, and the endpoints that it was put to."""

    def __init__(self, ask: Ask, began: int) -> None:
        self.ask, self.began = ask, began
        self.asked = [0]
        self.ended: dict[int, Completion] = {}
        self.hedged_ns = 0
        self.is_given_up = False

    @property
    def pending(self) -> list[int]:
        """Return the endpoints that have not ended."""
        return [i for i in self.asked if i not in self.ended]

    @property
    def winner(self) -> int | None:
        """Return the endpoint whose answer came first, if any has answered."""
        answered = [(c.ts_ended, i) for i, c in self.ended.items() if c.end is End.ANSWER]
        return min(answered)[1] if answered else None


class Hedged:
    """Endpoints of one model as one answerer.

    Args:
        endpoints: The first is asked every question; at least two.
        price_nats: Of a second request.
        clock: Source of times.
    """

    def __init__(
        self, endpoints: Sequence[Answerer], price_nats: float, clock: Clock | None = None
    ) -> None:
        self._endpoints = endpoints
        self._price_nats = price_nats
        self._clock = clock or WallClock()
        self._races: dict[str, _Race] = {}
        self._done: dict[str, Completion] = {}
        self._n_hedged = 0
        self._durations = Durations()
        self._is_closed = False

    def submit(self, ask: Ask) -> None:
        """Take a prompt; never waits."""
        self._races[ask.question_id] = _Race(ask, self._clock.now())
        self._endpoints[0].submit(ask)

    def take(self) -> Completion | None:
        """Return a completion that has come and was not waited for, or None; never waits."""
        self._look()
        return self._done.pop(next(iter(self._done))) if self._done else None

    def poll(self, question_id: str) -> Completion | None:
        """Return a question's completion if it has come and was not taken, or None; never waits."""
        self._look()
        return self._done.pop(question_id, None)

    def wait(self, question_id: str) -> Completion:
        """Return a question's completion, waiting for it until its deadline."""
        while (completion := self.poll(question_id)) is None:
            threading.Event().wait(_POLL_S)
        return completion

    def cancel(self, question_id: str) -> None:
        """Give a question up."""
        race = self._races.get(question_id)
        if race is not None:
            self._give_up(race)

    def close(self) -> None:
        """Give everything up."""
        self._is_closed = True
        for endpoint in self._endpoints:
            endpoint.close()

    def _look(self) -> None:
        """Hear all endpoints, then see what is to be done about each question."""
        for i, endpoint in enumerate(self._endpoints):
            while (completion := endpoint.take()) is not None:
                self._races[completion.question_id].ended[i] = completion
                if completion.end is End.ANSWER:
                    self._durations.observe(completion.ts_ended - completion.ts_asked)
        for race in list(self._races.values()):
            self._see(race)

    def _see(self, race: _Race) -> None:
        question_id = race.ask.question_id
        if race.winner is not None and race.pending and not race.is_given_up:
            self._give_up(race)
        elif self._is_due(race):
            self._hedge(race)
        elif not race.pending:
            del self._races[question_id]
            self._done[question_id] = _together(race)

    def _give_up(self, race: _Race) -> None:
        race.is_given_up = True
        for i in race.pending:
            self._endpoints[i].cancel(race.ask.question_id)

    def _is_due(self, race: _Race) -> bool:
        """Return whether a second endpoint is to be asked now: what that may gain is worth its price."""
        if self._is_closed or race.is_given_up or race.hedged_ns or race.winner is not None:
            return False
        elapsed, budget = self._clock.now() - race.began, race.ask.budget_ns
        first = race.ended.get(0)
        if elapsed >= budget or (first is not None and first.end in _OURS):
            return False
        if first is None and elapsed < self._durations.patience_ns(budget):
            return False
        in_vain = 1.0 if first is not None else 1.0 - self._durations.chance(elapsed, budget)
        gained = in_vain * self._durations.chance(0, budget - elapsed)
        return race.ask.value * gained > self._price_nats

    def _hedge(self, race: _Race) -> None:
        race.hedged_ns = max(1, self._clock.now() - race.began)
        other = 1 + self._n_hedged % (len(self._endpoints) - 1)
        self._n_hedged += 1
        race.asked.append(other)
        left = max(0, race.ask.budget_ns - race.hedged_ns)
        self._endpoints[other].submit(msgspec.structs.replace(race.ask, budget_ns=left))


def _together(race: _Race) -> Completion:
    """Return all that was exchanged about a question as one completion: the winner's, or else the first's."""
    first, winner = race.ended[0], race.winner or 0
    ended = list(race.ended.items())
    attempts = [
        msgspec.structs.replace(attempt, endpoint=i)
        for i, completion in ended
        for attempt in completion.attempts
    ]
    return msgspec.structs.replace(
        race.ended[winner],
        ts_asked=first.ts_asked,
        budget_ns=first.budget_ns,
        attempts=tuple(sorted(attempts, key=lambda attempt: attempt.ts)),
        prompt_tokens=sum(c.prompt_tokens for _, c in ended),
        cached_tokens=sum(c.cached_tokens for _, c in ended),
        output_tokens=sum(c.output_tokens for _, c in ended),
        is_counted=all(c.is_counted for _, c in ended),
        usd=sum(c.usd for _, c in ended),
        energy_j=sum(c.energy_j for _, c in ended),
        hedged_ns=race.hedged_ns,
        endpoint=winner,
    )
