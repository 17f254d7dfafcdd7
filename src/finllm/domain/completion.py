"""One request to a language model and its end: what a run's journal keeps, so that a replay asks nobody."""

from enum import StrEnum

import msgspec


class End(StrEnum):
    """How a request ended."""

    ANSWER = "answer"
    """With an answer that holds."""
    INVALID = "invalid"
    """With an answer that does not hold, nor the one after it was told why."""
    ERROR = "error"
    """The endpoint refused, or failed each time."""
    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate_limited"
    """It said to wait longer than there was time."""
    CUT = "cut"
    """The connection ended within the answer."""
    RUNAWAY = "runaway"
    """The answer went on beyond its bound."""
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SHED = "shed"
    """There were more valuable questions than time."""


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation."""

    role: str
    content: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request."""

    ts: int
    """When it was made, ns UTC."""
    mode: str
    """How a schema was asked for: `json_schema`, `json_object` or `none`."""
    status: int = 0
    """HTTP status; 0 = there was none."""
    ts_first_byte: int = 0
    """0 = no byte of an answer came."""
    ts_last_byte: int = 0
    text: str = ""
    """What the model said, cut at the bound."""
    finish: str = ""
    """Why the model stopped, in the endpoint's word."""
    failure: str = ""
    """Why it came to nothing, or why the answer does not hold. Never quotes a header or an error's body."""
    endpoint: int = 0
    """Which of the model's addresses; 0 = the first."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole exchange with a language model about one question."""

    question_id: str
    model: str
    prompt_id: str
    """Hash of the messages first sent; they are a pure function of question, forecasts and pack."""
    value: float
    """What it was queued by: the question's expected gain, nats."""
    ts_asked: int
    ts_ended: int
    budget_ns: int
    """From asked to deadline."""
    end: End
    reason: str = ""
    text: str = ""
    """The answer that holds; empty unless `end` is `answer`."""
    attempts: tuple[Attempt, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's, those that the endpoint had at hand."""
    output_tokens: int = 0
    is_counted: bool = True
    """The endpoint counted the tokens; else they are estimated at three bytes each."""
    usd: float = 0.0
    energy_j: float = 0.0
    """By model: tokens times joules a token; nothing is measured."""
    hedged_ns: int = 0
    """When a second address was asked as well, from asked on; 0 = none was."""
    endpoint: int = 0
    """Whose answer it is; 0 = the first address."""

    @property
    def queued_ns(self) -> int:
        """Return how long it waited for its turn; 0 if it never had one."""
        return min((one.ts for one in self.attempts), default=self.ts_asked) - self.ts_asked

    @property
    def ts_last_byte(self) -> int:
        """Return when the last byte of any answer came, ns UTC; 0 if none did."""
        return max((one.ts_last_byte for one in self.attempts), default=0)
