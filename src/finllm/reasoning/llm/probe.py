"""What an endpoint can do: found out by asking it, before it is relied on.

Every figure is measured from outside. Whether an endpoint stops when one hangs up is judged by how long the
next short answer takes, which an endpoint with many slots to spare can hide.
"""

import asyncio
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from finllm.domain.completion import Message
from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.instrument import Horizon
from finllm.domain.protocol import Escalate
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.reasoning.llm.answer import AnswerError, read_answer
from finllm.reasoning.llm.budget import Valued
from finllm.reasoning.llm.client import connected
from finllm.reasoning.llm.prompt import Prompt, render
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.llm.wire import MODES, Events, Said, Usage, body_of, said
from finllm.runtime.clock import stopwatch_ns

if TYPE_CHECKING:
    import httpx2

PATIENCE: Final = 10.0
"""A horizon is refined by itself only if it is this many times the 95th percentile of an answer's time."""
NOT_MEASURED: Final = "not measured"
_OK: Final = 200
_HUNG_UP: Final = 4
"""Long answers that are hung up on."""
_LONG_TOKENS: Final = 2_000
_SLOWER: Final = 2.0
"""Times the 95th percentile that an answer may take after hanging up."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried."""

    name: str
    ok: bool
    figure: str
    mend: str = ""
    is_needed: bool = False
    """Without it nothing can be asked at all."""


class EndpointReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about an endpoint."""

    url: str
    model: str
    checks: tuple[Check, ...]
    schema_modes: dict[str, bool]
    """Whether a schema asked for in this way gave an answer that holds."""
    logprobs: bool
    stops_on_disconnect: bool | None
    """None = not measured: not every long answer had begun, or the short one after them did not come."""
    cached_prompt_tokens: int
    """Of the same prompt a second time; 0 also where the endpoint does not tell."""
    same_twice: bool | None
    """None = not measured: fewer than two answers came."""
    p50_ms: float
    """Of all that was asked; what did not come took for ever."""
    p95_ms: float
    least_horizon_s: float
    """Shorter ones get the outlook alone."""
    horizons: tuple[str, ...]
    """Of those asked about, the ones that are long enough."""
    n: int
    """Questions timed."""
    n_failed: int
    """Of these, the ones that no answer came to."""

    @property
    def ok(self) -> bool:
        """Return whether it can be asked at all."""
        return all(check.ok for check in self.checks if check.is_needed)


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    text: str = ""
    usage: Usage | None = None
    ms: float = math.inf
    has_logprobs: bool = False
    failure: str = ""

    @property
    def is_answer(self) -> bool:
        """Return whether the model said anything."""
        return bool(self.text) and not self.failure


def sample_prompt() -> Prompt:
    """Return a small question of the kind that is asked, always the same."""
    claim = Evidence(
        evidence_id="sample-claim",
        kind=EvidenceKind.CLAIM,
        instrument="sample:A",
        ts_recv=0,
        origin="wire",
        quote="The company confirms its guidance for the year.",
        stance=0.3,
        novelty=0.8,
        credibility=0.9,
        relevance=0.9,
        event_type="guidance",
    )
    book = Evidence(
        evidence_id="sample-book",
        kind=EvidenceKind.OBSERVATION,
        instrument="sample:A",
        ts_recv=0,
        origin="market",
        feature="obi_1",
        window_ns=NS_PER_S,
        value=-0.42,
        unit="1",
        z_score=-1.7,
    )
    pack = EvidencePack(
        pack_id="sample",
        instrument="sample:A",
        as_of=NS_PER_S,
        evidence=(claim, book),
        n_documents=1,
        n_copies=0,
        burst=1.0,
    )
    question = Escalate(
        question_id="sample",
        instrument="sample:A",
        ts=NS_PER_S,
        notice_id="sample",
        standing=(),
        deadline=60 * NS_PER_S,
        expected_gain=0.0,
        reason="sample",
    )
    told = (
        Valued(evidence=claim, weight=0.6, worth=0.6),
        Valued(evidence=book, weight=0.0, worth=0.3),
    )
    return render(question, (), pack, told, 1_000)


def probe(
    settings: LlmSettings,
    *,
    key: str,
    horizons: Sequence[Horizon],
    n: int = 10,
    socket: str = "",
) -> EndpointReport:
    """Ask an endpoint what it can do.

    Args:
        settings: Which endpoint; `deadline_s` bounds each request.
        key: Sent as a bearer token; empty = none.
        horizons: Those of the models that are served.
        n: Answers to time.
        socket: Unix socket to connect through; empty = the settings' address.
    """
    return asyncio.run(_Probe(settings, key, socket).report(horizons, n))


class _Probe:
    def __init__(self, settings: LlmSettings, key: str, socket: str) -> None:
        self._settings, self._socket = settings, socket
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._url = settings.url + "/chat/completions"
        self._prompt = sample_prompt()
        self._http: httpx2.AsyncClient

    async def report(self, horizons: Sequence[Horizon], n: int) -> EndpointReport:
        async with connected(self._url, self._socket, _HUNG_UP) as http:
            self._http = http
            by_mode = {mode: await self._ask(mode) for mode in MODES}
            holds = {mode: self._holds(reply) for mode, reply in by_mode.items()}
            mode = next((mode for mode in MODES if holds[mode]), MODES[-1])
            replies = [await self._ask(mode) for _ in range(n)] if by_mode[mode].is_answer else []
            with_logprobs = await self._ask(mode, logprobs=True)
            texts = [reply.text for reply in replies if reply.is_answer]
            stops_ms = await self._after_hanging_up(mode) if texts else None
        times = sorted(reply.ms if reply.is_answer else math.inf for reply in replies)
        p50, p95 = _quantile(times, 0.5), _quantile(times, 0.95)
        # What is slow to fail would make any answer quick: the times of answers alone are compared.
        usual_ms = _quantile([ms for ms in times if math.isfinite(ms)], 0.95)
        stops = None if stops_ms is None else stops_ms <= _SLOWER * usual_ms
        cached = max((r.usage.cached for r in replies[1:] if r.usage is not None), default=0)
        same = len(set(texts)) == 1 if len(texts) > 1 else None
        least_s = PATIENCE * p95 / 1e3
        failures = sorted({reply.failure or "empty" for reply in replies if not reply.is_answer})
        failed = f"; no answer to {n - len(texts)}: {', '.join(failures)}" if failures else ""
        checks = (
            _answers(by_mode),
            _schema(holds, by_mode),
            Check(
                name="log-probabilities",
                ok=with_logprobs.has_logprobs,
                figure="given" if with_logprobs.has_logprobs else "not given",
            ),
            Check(
                name="stops when hung up on",
                ok=bool(stops),
                figure=f"next answer after {_HUNG_UP} were hung up on: {_ms(stops_ms)}",
                mend="It may go on generating for nobody: lower max_tokens."
                if stops is False
                else "",
            ),
            Check(name="keeps prefixes", ok=cached > 0, figure=f"{cached:,} prompt tokens cached"),
            Check(
                name="same answer twice",
                ok=bool(same),
                figure=NOT_MEASURED
                if same is None
                else f"{len(set(texts))} different in {len(texts)}",
                mend="Replay takes answers from the journal, so digests hold."
                if same is False
                else "",
            ),
            Check(
                name="answers in time",
                ok=p95 <= self._settings.deadline_s * 1e3,
                figure=f"p50 {_ms(p50)}, p95 {_ms(p95)} of {len(times)}{failed}"
                if times
                else NOT_MEASURED,
                mend="" if math.isfinite(p95) else "Raise deadline_s, or lower max_tokens.",
                is_needed=True,
            ),
        )
        return EndpointReport(
            url=self._settings.gguf or self._settings.base_url,
            model=self._settings.model_name,
            checks=checks,
            schema_modes=holds,
            logprobs=with_logprobs.has_logprobs,
            stops_on_disconnect=stops,
            cached_prompt_tokens=cached,
            same_twice=same,
            p50_ms=p50,
            p95_ms=p95,
            least_horizon_s=least_s,
            horizons=tuple(one.name for one in horizons if one.ns >= least_s * NS_PER_S),
            n=len(times),
            n_failed=len(times) - len(texts),
        )

    def _holds(self, reply: _Reply) -> bool:
        try:
            read_answer(reply.text, self._prompt.ids)
        except AnswerError:
            return False
        return True

    async def _after_hanging_up(self, mode: str) -> float | None:
        """Return how long a short answer takes right after long ones were hung up on, ms; None if unknown."""
        begun = await asyncio.gather(*(self._hang_up() for _ in range(_HUNG_UP)))
        reply = await self._ask(mode)
        return reply.ms if all(begun) and reply.is_answer else None

    async def _hang_up(self) -> bool:
        """Ask for a long answer and leave at its first byte; return whether one came."""
        import httpx2

        told = (Message("user", "Count upwards from 1 in words, without end."),)
        long = msgspec.structs.replace(self._settings, max_tokens=_LONG_TOKENS)
        body = body_of(long, told, {}, "none", 0.0)
        try:
            async with (
                asyncio.timeout(self._settings.deadline_s),
                self._http.stream(
                    "POST", self._url, content=body, headers=self._headers, timeout=None
                ) as reply,
            ):
                async for _ in reply.aiter_raw():
                    return reply.status_code == _OK
        except (httpx2.HTTPError, httpx2.StreamError, OSError, TimeoutError):
            pass
        return False

    async def _ask(self, mode: str, *, logprobs: bool = False) -> _Reply:
        """Ask the sample question once."""
        import httpx2

        body = body_of(self._settings, self._prompt.messages, self._prompt.schema, mode, 0.0)
        if logprobs:
            body = json.dumps(json.loads(body) | {"logprobs": True, "top_logprobs": 2}).encode()
        began = stopwatch_ns()
        try:
            async with (
                asyncio.timeout(self._settings.deadline_s),
                self._http.stream(
                    "POST", self._url, content=body, headers=self._headers, timeout=None
                ) as reply,
            ):
                if reply.status_code != _OK:
                    return _Reply(status=reply.status_code, failure=f"HTTP {reply.status_code}")
                return await self._read(reply, began)
        except TimeoutError:
            return _Reply(status=0, failure=f"no answer in {self._settings.deadline_s:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            return _Reply(status=0, failure=type(error).__name__)

    async def _read(self, reply: "httpx2.Response", began: int) -> _Reply:
        events, whole, size = Events(), bytearray(), 0
        is_stream = "event-stream" in reply.headers.get("Content-Type", "")
        heard: list[Said] = []
        async for part in reply.aiter_raw():
            size += len(part)
            if size > self._settings.max_answer_kb << 14:
                return _Reply(status=_OK, failure="an answer without end")
            whole += part
            heard += events.push(part) if is_stream else ()
        heard += events.end() if is_stream else (said(bytes(whole)),)
        return _Reply(
            status=_OK,
            text="".join(one.text for one in heard),
            usage=next((one.usage for one in reversed(heard) if one.usage is not None), None),
            ms=(stopwatch_ns() - began) / NS_PER_MS,
            has_logprobs=b'"top_logprobs"' in whole or b'"token_logprobs"' in whole,
            failure="not a chat completion" if any(one.failed for one in heard) else "",
        )


def _answers(by_mode: dict[str, _Reply]) -> Check:
    failures = {mode: reply.failure for mode, reply in by_mode.items() if reply.failure}
    ok = len(failures) < len(by_mode)
    return Check(
        name="answers",
        ok=ok,
        figure="; ".join(f"{mode}: {why}" for mode, why in failures.items()) or "in every mode",
        mend="" if ok else "Mend the address, the model's name or the key's variable.",
        is_needed=True,
    )


def _schema(holds: dict[str, bool], by_mode: dict[str, _Reply]) -> Check:
    held = [mode for mode, ok in holds.items() if ok]
    said_so: list[Any] = [mode for mode, reply in by_mode.items() if not reply.failure]
    return Check(
        name="schema",
        ok=bool(held),
        figure=f"answers that hold with {', '.join(held) or 'no mode'}"
        + (f"; answered with {', '.join(said_so)}" if said_so != held else ""),
        mend=""
        if held
        else "The embedded reasoner would answer every question: use another model.",
    )


def _ms(duration_ms: float | None) -> str:
    if duration_ms is None:
        return NOT_MEASURED
    return f"{duration_ms:,.0f} ms" if math.isfinite(duration_ms) else "never"


def _quantile(ordered: Sequence[float], level: float) -> float:
    """Return the smallest value that a share `level` is not above; infinite of none."""
    return ordered[max(0, math.ceil(level * len(ordered)) - 1)] if ordered else math.inf
