"""The endpoint's language: bodies out, events of a stream in. Opens nothing, keeps no time."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from finllm.domain.completion import Message
from finllm.reasoning.llm.settings import LlmSettings

MODES: Final = ("json_schema", "json_object", "none")
"""Ways to ask for a schema, strictest first."""
MOST_STREAM: Final = 16
"""Bytes of a stream for each byte of an answer that is allowed: every token comes in an envelope."""
MOST_LINE: Final = 1 << 16
"""Bytes of one event."""
_MOST_FINISH: Final = 32
_DONE: Final = b"[DONE]"


def body_of(
    settings: LlmSettings,
    messages: Sequence[Message],
    schema: dict[str, Any],
    mode: str,
    value: float,
) -> bytes:
    """Return the body of a request for a streamed chat completion.

    Args:
        settings: The endpoint's.
        messages: The conversation so far.
        schema: Of the answer.
        mode: One of `MODES`.
        value: The question's expected gain, nats.
    """
    body: dict[str, Any] = {
        "model": settings.model_name,
        "messages": [{"role": one.role, "content": one.content} for one in messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": settings.max_tokens,
    }
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.seed is not None:
        body["seed"] = settings.seed
    if settings.priority:
        body["priority"] = -round(1e6 * value)
    if mode == "json_schema":
        strict = {"name": "judgement", "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": strict}
    elif mode == "json_object":
        body["response_format"] = {"type": "json_object"}
    return json.dumps(body, ensure_ascii=False).encode()


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the endpoint counts them."""

    prompt: int
    cached: int
    output: int


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one event of a stream says."""

    text: str = ""
    """Its last character may be the first half of one whose other half comes next: see `healed`."""
    finish: str = ""
    usage: Usage | None = None
    failed: bool = False
    """It is an error, or no chat completion at all."""
    is_last: bool = False


class Events:
    """Cuts a stream of server-sent events into what each says.

    Source:
        HTML Living Standard, section 9.2, less what no endpoint sends (event names, ids, retry).
    """

    def __init__(self) -> None:
        self._rest = b""

    def push(self, part: bytes) -> Iterator[Said]:
        """Yield what the events say that a part of the stream completes; lines end in LF, CR or both."""
        *lines, self._rest = (self._rest + part.replace(b"\r", b"\n")).split(b"\n")
        if len(self._rest) > MOST_LINE:
            self._rest = b""
            yield Said(failed=True)
        for line in lines:
            if line.startswith(b"data:"):
                yield said(line[5:].strip())

    def end(self) -> Iterator[Said]:
        """Yield what the last event says, if no newline came after it."""
        yield from self.push(b"\n")


def said(data: bytes) -> Said:
    """Return what the JSON of one event, or of a whole answer that is not streamed, says."""
    if data == _DONE:
        return Said(is_last=True)
    try:
        event = json.loads(data)
        choices = event.get("choices") or [{}]
        first = choices[0]
        words = (first.get("delta") or first.get("message") or {}).get("content")
        return Said(
            text=words if isinstance(words, str) else "",
            finish=healed(str(first.get("finish_reason") or ""))[:_MOST_FINISH],
            usage=_usage(event.get("usage")),
            failed=bool(event.get("error")),
        )
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
        return Said(failed=True)


def healed(text: str) -> str:
    """Return a text whose halves of surrogate pairs are joined, and replaced where the other half is missing.

    JSON may name either half by itself; UTF-8, and so the journal, has no place for it.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None
    details = told.get("prompt_tokens_details")
    prompt = _count(told.get("prompt_tokens"))
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    output = _count(told.get("completion_tokens"))
    return Usage(prompt=prompt, cached=min(cached, prompt), output=output)


def _count(value: Any) -> int:
    return min(value, 10**9) if isinstance(value, int) and value > 0 else 0
