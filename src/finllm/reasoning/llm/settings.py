"""Which endpoint is asked, how, for how long and at what price."""

import math
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from finllm.domain.errors import SettingsError

Price = Annotated[float, Meta(ge=0.0, le=1e6)]


class LlmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenAI-compatible endpoint for chat completions, or a model to serve: `[reasoning.llm]`."""

    base_url: str = ""
    """Such as http://localhost:8000/v1; with `gguf` empty as well, no language model is asked."""
    also: tuple[str, ...] = ()
    """Further addresses of the same model, asked with the same key: a question that is slow is put to one of
    them as well where that pays; the first answer that holds wins."""
    gguf: Annotated[str, Meta(max_length=4_096)] = ""
    """Instead of an address, a model's file in GGUF: a llama.cpp of our own serves it (extra `llm`)."""
    model: Annotated[str, Meta(max_length=200)] = ""
    """As the endpoint calls it; empty with `gguf` = the file's stem."""
    api_key_env: Annotated[str, Meta(pattern=r"^[A-Z_][A-Z0-9_]{0,63}$|^$")] = ""
    """Name of the environment variable that holds the key; the key itself never stands in a file."""
    deadline_s: Annotated[float, Meta(gt=0.0, le=600.0)] = 10.0
    """From question to last byte: queue, connection, retries and repair included. The gate's own deadline
    holds where it is earlier."""
    schema_mode: Literal["auto", "json_schema", "json_object", "none"] = "auto"
    """How the schema is asked for; `auto` takes the strictest that the endpoint does not refuse."""
    max_tokens: Annotated[int, Meta(ge=16, le=100_000)] = 700
    max_answer_kb: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """Kilobytes of an answer; a longer one is hung up on."""
    pack_tokens: Annotated[int, Meta(ge=200, le=2_000_000)] = 6_000
    """Tokens of evidence in a prompt, three bytes each; what is worth least for its tokens is left out."""
    tries: Annotated[int, Meta(ge=1, le=20)] = 4
    """Most requests for one answer; another is made only while no byte of an answer has come."""
    retry_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.25
    """Wait before the second try where the endpoint states none; doubled with each."""
    concurrency: Annotated[int, Meta(ge=1, le=1_000)] = 4
    """Requests at a time."""
    queue: Annotated[int, Meta(ge=0, le=100_000)] = 64
    """Questions that may wait; the least valuable beyond it are shed, counted."""
    priority: bool = False
    """Send the value as `priority`, lower first, as vLLM takes it."""
    temperature: float | None = 0.0
    """None = not sent."""
    seed: int | None = 0
    """None = not sent."""
    usd_per_m_prompt: Price = 0.0
    """US dollars for a million tokens."""
    usd_per_m_cached: Price = 0.0
    usd_per_m_output: Price = 0.0
    j_per_prompt_token: Price = 0.3
    """A tenth of an output token's, assumed: a prompt is read in batches."""
    j_per_output_token: Price = 3.0
    """Samsi et al. (2023), "From Words to Watts": 3 to 4 J a token of LLaMA 65B on A100s."""

    def __post_init__(self) -> None:
        """Check the address.

        Raises:
            SettingsError: If there is an address and it is none, holds a password, no model is named, or a
                file is named as well.
        """
        if self.temperature is not None and not math.isfinite(self.temperature):
            raise self.bad("temperature", "is not finite", "Write 0.0.")
        if self.base_url:
            self._check_address("base_url", self.base_url)
        elif self.also:
            raise self.bad("also", "stands without a base_url", "Write the first address there.")
        for address in self.also:
            self._check_address("also", address)

    def _check_address(self, key: str, address: str) -> None:
        url = urlsplit(address)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise self.bad(key, "is no http(s) address", "Write http://HOST:PORT/v1.")
        if url.username or url.password or url.query:
            raise self.bad(
                key,
                "holds a password or a query",
                "Name the variable that holds the key in api_key_env.",
            )
        if not self.model:
            raise self.bad("model", "is empty", "Name the model as the endpoint calls it.")
        if self.gguf:
            raise self.bad("gguf", "stands beside a base_url", "Leave one of the two out.")

    @property
    def is_on(self) -> bool:
        """Return whether a language model is asked at all."""
        return bool(self.base_url or self.gguf)

    @property
    def place(self) -> str:
        """Return the table in the settings' file."""
        return "reasoning.llm"

    @property
    def model_name(self) -> str:
        """Return the model's name."""
        return self.model or Path(self.gguf).stem

    @property
    def url(self) -> str:
        """Return the address without a slash at its end; of a file, the one it is asked by on its socket."""
        return self.base_url.rstrip("/") or "http://localhost/v1"

    def bad(self, key: str, what: str, mend: str) -> SettingsError:
        """Return what is to be said of a value that cannot be used."""
        return SettingsError(what, place=f"{self.place}.{key}", mend=mend)
