"""What an exchange cost: tokens as the endpoint counts them, their price, and joules by model."""

from typing import Final

import msgspec

from finllm.domain.completion import Completion
from finllm.domain.forecast import Cost
from finllm.reasoning.llm.budget import BYTES_PER_TOKEN
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.llm.wire import Usage

METHOD: Final = "modelled: tokens x J/token"


class Meter:
    """Counts the tokens of a question's requests: each by the endpoint, or else by its bytes."""

    def __init__(self) -> None:
        self._requests: list[tuple[int, int, Usage | None]] = []

    def sent(self, body: bytes) -> None:
        """Take in a request."""
        self._requests.append((len(body), 0, None))

    def heard(self, text: str, usage: Usage | None) -> None:
        """Take in a part of its answer."""
        sent, heard, counted = self._requests[-1]
        self._requests[-1] = (sent, heard + len(text.encode("utf-8", "replace")), usage or counted)

    @property
    def is_counted(self) -> bool:
        """Return whether the endpoint has counted every request that got a byte of an answer."""
        return all(usage is not None for _, heard, usage in self._requests if heard)

    @property
    def usage(self) -> Usage:
        """Return the tokens of all requests; one that was answered with nothing counts none."""
        counts = [_estimated(*one) for one in self._requests]
        return Usage(
            prompt=sum(one.prompt for one in counts),
            cached=sum(one.cached for one in counts),
            output=sum(one.output for one in counts),
        )


def _estimated(sent: int, heard: int, usage: Usage | None) -> Usage:
    if usage is not None:
        return usage
    if not heard:
        return Usage(prompt=0, cached=0, output=0)
    return Usage(prompt=sent // BYTES_PER_TOKEN, cached=0, output=max(1, heard // BYTES_PER_TOKEN))


def priced(completion: Completion, meter: Meter, settings: LlmSettings) -> Completion:
    """Return a completion with its tokens, price and joules."""
    used = meter.usage
    fresh = used.prompt - used.cached
    usd = (
        fresh * settings.usd_per_m_prompt
        + used.cached * settings.usd_per_m_cached
        + used.output * settings.usd_per_m_output
    ) / 1e6
    energy_j = fresh * settings.j_per_prompt_token + used.output * settings.j_per_output_token
    return msgspec.structs.replace(
        completion,
        prompt_tokens=used.prompt,
        cached_tokens=used.cached,
        output_tokens=used.output,
        is_counted=meter.is_counted,
        usd=usd,
        energy_j=energy_j,
    )


def share(completion: Completion, n: int) -> list[Cost]:
    """Return a completion's cost divided among verdicts; tokens left over go to the first."""
    tokens = completion.prompt_tokens + completion.output_tokens
    if not tokens or not n:
        return [Cost()] * n
    each, left = divmod(tokens, n)
    method = METHOD if completion.is_counted else f"{METHOD}, tokens estimated"
    return [
        Cost(
            tokens=each + (left if i == 0 else 0),
            usd=completion.usd / n,
            energy_j=completion.energy_j / n,
            method=method,
        )
        for i in range(n)
    ]
