"""The client of an endpoint: one deadline for everything, on a thread of its own.

A question waits for its turn, is sent, is sent again while no byte of an answer has come, is repaired once,
and ends, each within the one deadline; however it ends, there is a `Completion` that says how. Nothing here
knows what is asked. No header and no error's body ever leaves it: either may hold a key.
"""

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import msgspec

from finllm.domain.completion import Attempt, Completion, End, Message
from finllm.domain.errors import WorkerError
from finllm.domain.units import NS_PER_S
from finllm.reasoning.llm.answerer import Ask
from finllm.reasoning.llm.line import Line, ShedError
from finllm.reasoning.llm.meter import Meter, priced
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.llm.wire import MODES, MOST_STREAM, Events, Said, body_of, healed, said
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.retry import retry_after_ns

if TYPE_CHECKING:
    import httpx2

_OK: Final = 200
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""Answers that may be others a moment later."""
_NOT_THIS_MODE: Final = frozenset({400, 404, 415, 422, 500, 501})
"""Answers of an endpoint that cannot do the schema asked for."""
_FAULTS: Final = frozenset({500})
"""Of these, those that may as well be an accident: only several in a row are held against a mode."""
_MOST_FAULTS: Final = 3
_MOST_REPAIRED: Final = 4_000
"""Characters of a refused answer that the model is shown again."""
_LINGER_S: Final = 0.2
"""After an answer's end, until an endpoint that says no more is hung up on: it may count its tokens yet."""
_MARGIN_S: Final = 0.02
"""Before the deadline, where that is sooner."""
_LOOK_S: Final = 1.0
"""Between two looks at whether the thread that is waited for lives."""
REPAIR: Final = (
    "That answer was refused by machine: {}. Answer once more, with the JSON object alone, all keys, "
    "within the bounds, citing only ids of the pack."
)


class _OverError(Exception):
    """A question has ended without an answer."""

    def __init__(self, end: End, reason: str) -> None:
        super().__init__(reason)
        self.end, self.reason = end, reason


class _AgainError(Exception):
    """A request came to nothing before its first byte: another may be made."""

    def __init__(self, end: End, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.end, self.reason, self.wait_s = end, reason, wait_s


def connected(url: str, socket: str, most: int) -> "httpx2.AsyncClient":
    """Return what makes the connections.

    Connections are kept only where a new one costs a handshake of TLS: llama.cpp closes every other one that
    is used again within milliseconds of a streamed answer, unanswered.

    Args:
        url: Address of the endpoint.
        socket: Unix socket to connect through; empty = to the address.
        most: Requests at a time.
    """
    import httpx2

    kept = most if url.startswith("https:") else 0
    limits = httpx2.Limits(max_connections=2 * most, max_keepalive_connections=kept)
    transport = httpx2.AsyncHTTPTransport(uds=socket, limits=limits) if socket else None
    return httpx2.AsyncClient(limits=limits, transport=transport, follow_redirects=False)


class Modes:
    """Which way of asking for a schema an endpoint does not refuse.

    Args:
        mode: The one to use; `auto` begins with the strictest.
    """

    def __init__(self, mode: str) -> None:
        self._is_auto = mode == "auto"
        self.now = MODES[0] if self._is_auto else mode
        self._faults = 0

    def weaker(self, mode: str, status: int) -> str | None:
        """Return what to try once a mode was answered with a status; None if that is not the mode's fault."""
        if not self._is_auto or status not in _NOT_THIS_MODE or mode == MODES[-1]:
            return None
        return MODES[MODES.index(mode) + 1]

    def worked(self, mode: str, refused: int) -> None:
        """Learn that a mode was taken, after a stricter one was refused with a status; 0 = none was."""
        if not self._is_auto or not refused:
            self._faults = 0
            return
        self._faults = _MOST_FAULTS if refused not in _FAULTS else self._faults + 1
        if self._faults >= _MOST_FAULTS:
            self.now, self._faults = mode, 0


class _Log:
    """What happens to one question, as it happens; its deadline is by the loop's time."""

    def __init__(self, ask: Ask, now: int, deadline: float) -> None:
        self.ask, self.ts, self.deadline = ask, now, deadline
        self.attempts: list[Attempt] = []
        self.meter = Meter()
        self.text = ""

    def note(self, **changes: object) -> None:
        """Amend the last attempt."""
        self.attempts[-1] = msgspec.structs.replace(self.attempts[-1], **changes)


class Client:
    """An endpoint. Use it as a context manager.

    Args:
        settings: Which, and how.
        key: Sent as a bearer token; empty = none.
        socket: Unix socket to connect through; empty = the settings' address.
        url: Another address of the same model; empty = the settings'.
        clock: Source of the times in what is journalled; deadlines are the event loop's.
    """

    def __init__(
        self,
        settings: LlmSettings,
        *,
        key: str = "",
        socket: str = "",
        url: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._key = key
        self._socket = socket
        self._clock = clock or WallClock()
        address = url.rstrip("/") or settings.url
        self._url = address + "/chat/completions"
        self._host = urlsplit(address).netloc
        self.modes = Modes(settings.schema_mode)
        self._come: deque[str] = deque()
        self._logs: dict[str, _Log] = {}
        self._ends: dict[str, Future[Completion]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="llm", daemon=True)
        self._failure: BaseException | None = None
        self._http: httpx2.AsyncClient
        self._address: httpx2.URL
        self._line: Line

    # -- the caller's side -----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the thread; no connection is made yet.

        Raises:
            WorkerError: If it does not start.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise WorkerError(f"the client of {self._host} has ended: {self._failure!r}")

    @property
    def waiting(self) -> int:
        """Return how many questions wait for their turn."""
        return self._line.waiting

    @property
    def shed(self) -> int:
        """Return how many questions were sent away for more valuable ones or for want of time."""
        return self._line.shed

    def submit(self, ask: Ask) -> None:
        """Take a prompt; never waits. Its time runs from now on."""
        deadline = self._loop.time() + ask.budget_ns / NS_PER_S
        log = self._logs[ask.question_id] = _Log(ask, self._clock.now(), deadline)
        self._ends[ask.question_id] = Future()
        with suppress(RuntimeError):  # the loop has ended: `_bury` says so
            self._loop.call_soon_threadsafe(self._enter, log)

    def take(self) -> Completion | None:
        """Return a completion that has come and was not waited for, or None; never waits."""
        self._bury()
        return self.poll(self._come[0]) if self._come else None

    def poll(self, question_id: str) -> Completion | None:
        """Return a question's completion if it has come, or None; never waits."""
        self._bury()
        if not self._ends[question_id].done():
            return None
        del self._logs[question_id]
        self._come.remove(question_id)
        return self._ends.pop(question_id).result()

    def wait(self, question_id: str) -> Completion:
        """Return a question's completion, waiting for it until its deadline."""
        while (completion := self.poll(question_id)) is None:
            with suppress(TimeoutError):  # then see whether anybody is still there
                self._ends[question_id].result(_LOOK_S)
        return completion

    def cancel(self, question_id: str) -> None:
        """Give a question up: its connection is closed at once, and its completion says so."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._give_up, question_id)

    def close(self) -> None:
        """Give everything up and end the thread."""
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()

    def _bury(self) -> None:
        """End what is open if the thread is dead: nobody else will."""
        if not self._thread.is_alive():
            for log in list(self._logs.values()):
                self._end(log, End.ERROR, "the client has ended")

    # -- the thread's side -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except BaseException as failure:  # noqa: BLE001 - told to whoever starts it
            self._failure = failure
        finally:
            self._ready.set()

    async def _live(self) -> None:
        import httpx2

        most = self._settings.concurrency
        self._address = httpx2.URL(self._url)
        self._line = Line(most, self._settings.queue, self._loop.time)
        async with connected(self._url, self._socket, most) as http:
            self._http = http
            self._ready.set()
            await self._ending.wait()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _enter(self, log: _Log) -> None:
        task = self._loop.create_task(self._carry(log))
        self._tasks[log.ask.question_id] = task
        # Given up before its first step, a task never comes to say so itself.
        task.add_done_callback(lambda _: self._finish(log, End.CANCELLED, "given up"))

    def _give_up(self, question_id: str) -> None:
        if question_id in self._tasks:
            self._tasks[question_id].cancel()

    async def _carry(self, log: _Log) -> None:
        """Carry a question from its submission to its completion."""
        try:
            async with asyncio.timeout_at(log.deadline):
                await self._converse(log)
            end, reason = End.ANSWER, ""
        except _OverError as over:
            end, reason = over.end, over.reason
        except ShedError as why:
            end, reason = End.SHED, str(why)
        except TimeoutError:
            end, reason = End.TIMEOUT, "its deadline came first"
        except asyncio.CancelledError:
            end, reason = End.CANCELLED, "it was given up"
        except Exception as error:  # noqa: BLE001 - whatever a library throws, the question ends
            end, reason = End.ERROR, type(error).__name__
        self._finish(log, end, reason)

    def _finish(self, log: _Log, end: End, reason: str) -> None:
        if self._tasks.pop(log.ask.question_id, None) is not None:
            self._end(log, end, reason)

    def _end(self, log: _Log, end: End, reason: str) -> None:
        ask = log.ask
        promise = self._ends.get(ask.question_id)
        if promise is None or promise.done():
            return
        completion = Completion(
            question_id=ask.question_id,
            model=self._settings.model_name,
            prompt_id=ask.prompt_id,
            value=ask.value,
            ts_asked=log.ts,
            ts_ended=self._clock.now(),
            budget_ns=ask.budget_ns,
            end=end,
            reason=reason,
            text=log.text if end is End.ANSWER else "",
            attempts=tuple(log.attempts),
        )
        self._come.append(ask.question_id)
        promise.set_result(priced(completion, log.meter, self._settings))

    async def _converse(self, log: _Log) -> None:
        """Ask, and once more if the answer does not hold."""
        messages = log.ask.messages
        fault = ""
        for _ in range(2):
            text = await self._answer(log, messages)
            fault = log.ask.fault(text)
            log.note(failure=fault)
            if not fault:
                log.text = text
                return
            shown = Message("assistant", text[:_MOST_REPAIRED])
            messages = (*log.ask.messages, shown, Message("user", REPAIR.format(fault)))
        raise _OverError(End.INVALID, fault)

    async def _answer(self, log: _Log, messages: tuple[Message, ...]) -> str:
        """Return what the model says, trying again while no byte of it has come."""
        mode, refused = self.modes.now, 0
        wait_s = self._settings.retry_s
        last = _AgainError(End.ERROR, "no try was made")
        n = 0
        while n < self._settings.tries:
            try:
                text = await self._in_turn(log, messages, mode)
            except _AgainError as again:
                last = again
            else:
                self.modes.worked(mode, refused)
                return text
            status = log.attempts[-1].status
            log.note(failure=last.reason)
            weaker = self.modes.weaker(mode, status)
            if weaker is not None:
                mode, refused = weaker, refused or status
                continue
            n += 1
            if last.end is End.ERROR and status and status not in _AGAIN:
                break
            pause = wait_s if last.wait_s is None else last.wait_s
            wait_s *= 2.0
            if n == self._settings.tries:
                break
            if self._loop.time() + pause >= log.deadline:
                raise _OverError(last.end, f"{last.reason}; no time is left to try again")
            await asyncio.sleep(pause)
        raise _OverError(last.end, last.reason)

    async def _in_turn(self, log: _Log, messages: tuple[Message, ...], mode: str) -> str:
        """Make one request in its turn. Between two no slot is held; only answers tell how long one takes.

        Raises:
            ShedError: If there is more of value than there is time.
        """
        await self._line.enter(log.ask.value, log.deadline)
        began, took = self._loop.time(), None
        try:
            text = await self._once(log, messages, mode)
            took = self._loop.time() - began
        finally:
            self._line.leave(took)
        return text

    async def _once(self, log: _Log, messages: tuple[Message, ...], mode: str) -> str:
        """Make one request and return what the model says.

        Raises:
            _AgainError: If it came to nothing before the first byte of an answer.
            _OverError: If it did after that.
        """
        import httpx2

        ask = log.ask
        log.attempts.append(Attempt(ts=self._clock.now(), mode=mode))
        body = body_of(self._settings, messages, ask.schema, mode, ask.value)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        log.meter.sent(body)
        try:
            async with self._http.stream(
                "POST", self._address, content=body, headers=headers, timeout=None
            ) as reply:
                log.note(status=reply.status_code)
                if reply.status_code != _OK:
                    after = reply.headers.get("Retry-After", "")
                    raise _told(reply.status_code, retry_after_ns(after, self._clock.now()))
                is_stream = "event-stream" in reply.headers.get("Content-Type", "")
                return await self._read(log, reply, is_stream=is_stream)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            name = type(error).__name__
            if log.attempts[-1].ts_first_byte:
                return _cut(log, name)
            raise _AgainError(End.UNREACHABLE, name) from error

    async def _read(self, log: _Log, reply: "httpx2.Response", *, is_stream: bool) -> str:
        """Return the text of an answer, streamed or whole."""
        heard = _Heard(self._settings.max_answer_kb << 10, log.meter, is_stream=is_stream)
        first = last = 0
        try:
            async with asyncio.timeout(None) as patience:
                async for part in reply.aiter_raw():
                    last = self._clock.now()
                    first = first or last
                    heard.push(part)
                    if heard.is_over:
                        break
                    if heard.finish and patience.when() is None:
                        until = min(self._loop.time() + _LINGER_S, log.deadline - _MARGIN_S)
                        patience.reschedule(until)
                else:
                    heard.end()
        except TimeoutError:
            pass  # the answer has ended, only its connection has not
        finally:  # also where the deadline or a cut comes within it
            log.note(
                ts_first_byte=first,
                ts_last_byte=last,
                text=heard.text[: heard.most],
                finish=heard.finish,
            )
        if heard.failed:
            raise _OverError(End.ERROR, "the endpoint failed within its answer")
        if heard.size > heard.most:
            raise _OverError(End.RUNAWAY, f"the answer is longer than {heard.most} bytes")
        if not heard.is_whole:
            return _cut(log, "it ended without saying so")
        return heard.text


class _Heard:
    """One answer, as it comes in; never more of it than is allowed.

    Args:
        most: Bytes of text.
        meter: Told what is heard.
        is_stream: Whether it comes as events; else as one JSON object.
    """

    def __init__(self, most: int, meter: Meter, *, is_stream: bool) -> None:
        self.most, self._meter, self._is_stream = most, meter, is_stream
        self.size = self._n_bytes = 0
        self.finish = ""
        self.failed = False
        self._is_last = False
        self._events, self._whole = Events(), bytearray()
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """Return the text so far."""
        return healed("".join(self._parts))

    @property
    def is_over(self) -> bool:
        """Return whether nothing more is worth hearing."""
        return self._is_last or self.failed or self.size > self.most

    @property
    def is_whole(self) -> bool:
        """Return whether the endpoint said that this was all."""
        return self._is_last or bool(self.finish) or not self._is_stream

    def push(self, part: bytes) -> None:
        """Take in a part of the body."""
        self._n_bytes += len(part)
        if self._n_bytes > MOST_STREAM * self.most:
            self.size = self.most + 1
        elif self._is_stream:
            for one in self._events.push(part):
                self._add(one)
        else:
            self._whole += part

    def end(self) -> None:
        """Take in that the body has ended."""
        for one in self._events.end() if self._is_stream else [said(bytes(self._whole))]:
            self._add(one)

    def _add(self, one: Said) -> None:
        if self.is_over:
            return
        self._parts.append(one.text)
        self.size += len(one.text.encode("utf-8", "surrogatepass"))
        self.finish = one.finish or self.finish
        self.failed, self._is_last = one.failed, one.is_last
        self._meter.heard(one.text, one.usage)


def _cut(log: _Log, why: str) -> str:
    """Return what came of an answer that was cut off, if it holds as it is.

    Raises:
        _OverError: If it does not.
    """
    text = log.attempts[-1].text
    log.note(failure=f"cut: {why}")
    if log.ask.fault(text):
        raise _OverError(End.CUT, f"the connection ended within the answer: {why}")
    return text


def _told(status: int, wait_ns: int | None) -> _AgainError:
    """Return why a request came to nothing, from its status and how long it says to wait."""
    end = End.RATE_LIMITED if status in {429, 503, 529} else End.ERROR
    return _AgainError(end, f"HTTP {status}", None if wait_ns is None else wait_ns / NS_PER_S)
