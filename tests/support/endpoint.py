"""An OpenAI-compatible endpoint on loopback that does as it is told: mostly what real ones do wrong."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from email.utils import formatdate
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np

CHINESE = "\u5e02\u573a\u4f1a\u4e0a\u6da8\u767e\u5206\u4e4b\u4e94\u3002"
"""The market will rise by five percent."""
GRIN = "\ud83d\ude00"
"""A character beyond the first 65,536 as the two halves by which JSON names it."""
END = b"data: [DONE]\n\n"


class Request:
    """One request, and the connection to answer it on."""

    def __init__(
        self, endpoint: "Endpoint", headers: dict[str, str], body: Any, writer: asyncio.StreamWriter
    ) -> None:
        self.endpoint, self.headers, self.body = endpoint, headers, body
        self._writer = writer

    @property
    def ids(self) -> list[str]:
        """Return the evidence ids of the pack, as they stand in the prompt."""
        lines = self.body["messages"][1]["content"].split("\n")
        return [json.loads(line)["id"] for line in lines if line.startswith('{"id"')]

    @property
    def mode(self) -> str:
        """Return how the schema was asked for."""
        return str(self.body.get("response_format", {}).get("type", "none"))

    @property
    def is_repair(self) -> bool:
        """Return whether an answer was refused before."""
        return len(self.body["messages"]) > 2

    def write(self, part: bytes) -> None:
        self._writer.write(part)

    def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} x", f"Content-Type: {kind}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def drain(self) -> None:
        """Send; raises once the other side has hung up."""
        await self._writer.drain()
        if self._writer.transport.is_closing():
            raise ConnectionResetError

    def say(self, text: str, finish: str = "stop", size: int = 40) -> None:
        """Stream a whole answer, with usage."""
        self.head()
        for i in range(0, len(text), size):
            self.write(delta(text[i : i + size]))
        self.write(delta("", finish) + usage(len(text)) + END)

    def refuse(self, status: int, **headers: str) -> None:
        self.head(status, "application/json", **headers)
        self.write(b'{"error": {"message": "no, and your key is sk-secret"}}')


def delta(text: str, finish: str | None = None) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def usage(n: int, prompt: int = 900, cached: int = 800) -> bytes:
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": max(1, n // 4),
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"


Play = Callable[[Request], Awaitable[None]]


def answer(ids: list[str], **changes: Any) -> str:
    """Return a good answer that cites the first evidence, with changes."""
    said = {
        "stance": "up",
        "shift": 0.4,
        "vol_scale": 1.3,
        "half_life_s": 8.0,
        "agreement": "conflict",
        "why": "The text leads the market.",
        "voided_by": ["time"],
        "citations": ids[:1],
    }
    return json.dumps(said | changes)


class Endpoint:
    """The endpoint, on a thread of its own. Use it as a context manager.

    Args:
        play: Answers a request.
    """

    def __init__(self, play: Play) -> None:
        self._play = play
        self.requests: list[Request] = []
        self.hung_up = 0
        """Requests whose client left before they were answered."""
        self.at_once = 0
        self.most_at_once = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        """Connections being answered, and their parts."""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        # What is accepted as the server closes would never be closed itself (asyncio of Python 3.11).
        self._loop.remove_reader(server.sockets[0].fileno())
        await asyncio.sleep(0.01)
        server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def run_on(self, what: Coroutine[Any, Any, None]) -> None:
        """Carry on until it is done or the endpoint closes, also once the client has hung up."""
        task = asyncio.create_task(what)
        self._serving.add(task)
        await asyncio.shield(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = None
        self._writers.add(writer)
        self._serving.add(_this_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:])}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            request = Request(self, headers, body, writer)
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            playing = asyncio.create_task(_played(self._play(request)))
            gone = asyncio.create_task(reader.read(1))
            self._serving |= {playing, gone}
            await asyncio.wait({playing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                self.hung_up += 1
                playing.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await playing
            self.at_once -= 1
            with suppress(ConnectionError):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if gone is not None:
                gone.cancel()
            writer.close()


class Apart:
    """An endpoint in a process of its own, so that its load is not its client's. Use it as a context manager.

    Args:
        seed: Chooses for each request one of `plays`.
    """

    def __init__(self, seed: int) -> None:
        self._pipe, pipe = Pipe()
        spawned = get_context("spawn")
        self._process = spawned.Process(target=_serve_apart, args=(seed, pipe), daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._process.start()
        self.url = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(False)
        self._process.join()

    def told(self) -> tuple[int, Counter[str]]:
        """Return how many requests it answers now, and how often it has played what."""
        self._pipe.send(True)
        at_once, played = self._pipe.recv()
        return at_once, played


def _serve_apart(seed: int, pipe: Connection) -> None:
    known = plays()
    names, choice = list(known), np.random.default_rng(seed)
    played: Counter[str] = Counter()

    async def play(request: Request) -> None:
        name = names[int(choice.integers(len(names)))]
        played[name] += 1
        await known[name](request)

    with Endpoint(play) as endpoint:
        pipe.send(endpoint.url)
        while pipe.recv():
            pipe.send((endpoint.at_once, played))


async def _played(play: Awaitable[None]) -> None:
    await play


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever() -> None:
    await asyncio.Event().wait()


def plays() -> dict[str, Play]:
    """Return what real endpoints do, by name: right first, then wrong."""
    return {
        "right": _right,
        "whole": _whole,
        "fenced": _fenced,
        "free_text": _free_text,
        "free_text_no_json": _plain_text,
        "schema_500": _schema_500,
        "schema_400": _schema_400,
        "number_of_30_digits": _said(lambda ids: answer(ids).replace("0.4", "0." + "3" * 30)),
        "hang": _hang,
        "hang_in_answer": _hang_in_answer,
        "cut": _cut,
        "runaway": _runaway,
        "rate_limited": _rate_limited,
        "rate_limited_retry_after": _rate_limited_after,
        "rate_limited_until": _rate_limited_until,
        "rate_limited_too_long": _rate_limited_long,
        "truncated": _truncated,
        "duplicate_key": _said(lambda ids: answer(ids)[:-1] + ', "shift": -1}'),
        "unknown_id": _said(lambda ids: answer(["made-up"])),
        "other_language": _said(lambda _: CHINESE),
        "other_language_inside": _said(lambda ids: answer(ids, why=CHINESE)),
        "empty": _said(lambda _: ""),
        "out_of_bounds": _said(lambda ids: answer(ids, shift=40.0)),
        "nan": _said(lambda ids: answer(ids).replace("0.4", "NaN")),
        "deep": _said(lambda _: "[" * 20_000),
        "error_in_stream": _error_in_stream,
        "hangs_up_at_once": _hangs_up,
        "broken_events": _broken_events,
        "wrong_once": _wrong_once,
        "fence_then_spaces": _said(lambda _: "```" + " " * 2_000 + "x"),
        "half_a_character": _said(lambda _: f"up {GRIN[0]}"),
        "half_a_character_inside": _said(lambda ids: answer(ids, why=f"Up {GRIN[0]}.")),
        "character_in_two_parts": _in_two_parts,
        "half_a_character_as_finish": _odd_finish,
        "stays_open": _stays_open,
        "null_error": _null_error,
        "carriage_returns": _carriage_returns,
        "goes_on_after_hang_up": _goes_on,
    }


def _said(text: Callable[[list[str]], str]) -> Play:
    async def play(request: Request) -> None:
        request.say(text(request.ids))

    return play


async def _right(request: Request) -> None:
    request.say(answer(request.ids))


async def _whole(request: Request) -> None:
    request.head(200, "application/json")
    event = {"choices": [{"message": {"content": answer(request.ids)}, "finish_reason": "stop"}]}
    request.write(json.dumps(event).encode())


async def _fenced(request: Request) -> None:
    request.say(f"<think>hm, {{}}</think>\n```json\n{answer(request.ids)}\n```")


async def _free_text(request: Request) -> None:
    request.say("Certainly! I believe that the price will rise by 5 %.")


async def _plain_text(request: Request) -> None:
    request.head(200, "text/html")
    request.write(b"<html>welcome to the proxy</html>")


async def _schema_500(request: Request) -> None:
    if request.mode == "json_schema":
        request.refuse(500)
    else:
        request.say(answer(request.ids))


async def _schema_400(request: Request) -> None:
    if request.mode != "none":
        request.refuse(400)
    else:
        request.say(answer(request.ids))


async def _hang(_: Request) -> None:
    await forever()


async def _hang_in_answer(request: Request) -> None:
    request.head()
    request.write(delta(answer(request.ids)[:30]))
    await request.drain()
    await forever()


async def _cut(request: Request) -> None:
    request.head()
    request.write(delta(answer(request.ids)[:30]))


async def _runaway(request: Request) -> None:
    request.head()
    while True:
        request.write(delta("x" * 4000))
        await request.drain()
        await asyncio.sleep(0)


async def _rate_limited(request: Request) -> None:
    if len(request.endpoint.requests) % 2:
        request.refuse(429)
    else:
        request.say(answer(request.ids))


async def _rate_limited_after(request: Request) -> None:
    if len(request.endpoint.requests) % 2:
        request.refuse(429, Retry_After="0")
    else:
        request.say(answer(request.ids))


async def _rate_limited_until(request: Request) -> None:
    if len(request.endpoint.requests) % 2:
        request.refuse(429, Retry_After=formatdate(time.time(), usegmt=True))
    else:
        request.say(answer(request.ids))


async def _rate_limited_long(request: Request) -> None:
    request.refuse(429, Retry_After="3600")


async def _truncated(request: Request) -> None:
    request.say(answer(request.ids)[:60], finish="length")


async def _error_in_stream(request: Request) -> None:
    request.head()
    request.write(delta("{") + b'data: {"error": {"message": "out of memory"}}\n\n' + END)


async def _hangs_up(_: Request) -> None:
    return


async def _broken_events(request: Request) -> None:
    request.head()
    request.write(b"data: {not json\n\n" + END)


async def _wrong_once(request: Request) -> None:
    if request.is_repair:
        request.say(answer(request.ids))
    else:
        request.say("I would say up.")


async def _in_two_parts(request: Request) -> None:
    request.say(answer(request.ids).replace("leads", GRIN), size=1)


async def _odd_finish(request: Request) -> None:
    request.say(answer(request.ids), finish=f"stop{GRIN[0]}")


async def _stays_open(request: Request) -> None:
    request.head()
    request.write(delta(answer(request.ids)) + delta("", "stop"))
    await request.drain()
    await forever()


async def _null_error(request: Request) -> None:
    request.head()
    event = {"choices": [{"delta": {"content": answer(request.ids)}}], "error": None}
    request.write(b"data: " + json.dumps(event).encode() + b"\n\n" + END)


async def _carriage_returns(request: Request) -> None:
    request.head()
    whole = delta(answer(request.ids)) + delta("", "stop") + usage(9) + END
    request.write(whole.replace(b"\n", b"\r"))


async def _goes_on(request: Request) -> None:
    request.head()
    request.write(delta("{"))
    await request.endpoint.run_on(asyncio.sleep(1.5))
