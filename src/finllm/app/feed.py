"""The live feed: sockets and requests, on a thread of their own. Frames in the order they were received.

Knows connections, silence and snapshots; nothing of what the frames mean. The thread reads as fast as
frames come, whatever the pipeline is doing meanwhile, so that receive times are honest and the venue's
pings are answered. What it notices about a connection it says in a frame (`market.connection`).

A frame's receive time is when this thread took it from its connection: in the turn of its loop in which
the bytes were read from the socket, after those read with it were parsed. Once too many frames wait, the
sockets are left unread and fill up, so that the venue has to wait; what lay in them meanwhile bears the
time at which it was read after all.
"""

import asyncio
import logging
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from typing import Final, Self
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from finllm.app.settings import Settings
from finllm.domain.errors import SettingsError, WorkerError
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.connection import FeedCounts, down, silent
from finllm.market.markets import Books
from finllm.market.streams import Stream, stream_of
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.retry import retry_after_ns

SILENT_NS: Final = 5_050 * NS_PER_MS
"""A silence this long is told; a little longer than books are trusted without a word."""
MAX_FRAME: Final = 1 << 24
_MAX_QUEUE: Final = 16
"""Frames that a connection parses ahead; with more it leaves its socket unread until a quarter is left."""
_PLACE: Final = "[[feed.connections]]"
_LOOK_S: Final = 0.05
_REQUEST_S: Final = 10.0
_REQUESTS: Final = 8
"""Snapshot requests at a time."""
_WAIT: Final = (418, 429)
"""Answers that ask us to wait."""
_CLOSE_S: Final = 2.0
_HAMMER_S: Final = 1.0
_FIRST_ASK_NS: Final = NS_PER_S // 2
_LAST_ASK_NS: Final = 30 * NS_PER_S
_SETTLE_NS: Final = 5 * NS_PER_S
"""So long a new connection has for sending whole books by itself."""
_FIRST_RENEWAL_NS: Final = 30 * NS_PER_S
_LAST_RENEWAL_NS: Final = 3_600 * NS_PER_S
_QUIET: Final = logging.getLogger("finllm.sockets")
"""The sockets' own log, kept shut: it would quote addresses, which may hold a key."""
_QUIET.disabled = True


class Feed:
    """All connections of a run. Use it as a context manager.

    Args:
        streams: What to connect to; each one's place is its frames' source index.
        reconnect_after_s: A connection that says nothing for so long is made anew.
        silent_ns: A silence this long is told.
        max_waiting: Frames that may wait; beyond that the sockets are not read until half are taken.
        on_frames: Called on the feed's thread when frames have come; must not wait.
        clock: Source of receive times.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        reconnect_after_s: float = 30.0,
        silent_ns: int = SILENT_NS,
        max_waiting: int = 200_000,
        on_frames: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self.counts = FeedCounts()
        self.last_failure = ""
        """Why a connection or a request failed the last time, and at which host; quotes no address."""
        self.on_frames = on_frames
        self._streams = streams
        self._patience_ns = int(reconnect_after_s * NS_PER_S)
        self._silent_ns = silent_ns
        self._max_waiting = max_waiting
        self._clock = clock or WallClock()
        self._frames: deque[Frame] = deque()
        self._last_ts = 0
        self._heard = [0] * len(streams)
        self._opened = [0] * len(streams)
        self._open: dict[int, ClientConnection] = {}
        self._paused: set[int] = set()
        self._renewals = [_Renewals() for _ in streams]
        self._requests: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._request_room = asyncio.Semaphore(_REQUESTS)
        self._ask_after: dict[str, int] = {}
        self._ending = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._failure: BaseException | None = None

    # -- the pipeline's side -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; what has come can still be taken."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Return how many frames have come and were not taken."""
        return len(self._frames)

    def take(self, most: int) -> list[Frame]:
        """Return what has come, in order, at most so many frames; never waits.

        Raises:
            WorkerError: If the feed's thread has failed.
        """
        if self._failure is not None:
            raise WorkerError(f"the feed failed: {self._failure!r}") from self._failure
        frames = self._frames
        return [frames.popleft() for _ in range(min(most, len(frames)))]

    def ask(self, source: int, symbol: str) -> None:
        """Ask for a symbol's whole book; it comes as a frame.

        One request for it is on its way at a time. Without an address for it, its connection is made anew,
        ever more seldom.
        """
        with suppress(RuntimeError):  # the thread has ended: `take` says why
            self._loop.call_soon_threadsafe(self._ask, source, symbol)

    # -- the thread's side -----------------------------------------------------------------------------

    def _run(self) -> None:
        loop = self._loop
        try:
            loop.run_until_complete(self._keep_all())
        except BaseException as failure:  # noqa: BLE001 - told to whoever takes frames
            self._failure = failure
            self.on_frames()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()  # unlike a Runner, waits for no thread that still looks an address up

    async def _keep_all(self) -> None:
        """Hold every connection until the end, or until one of the tasks fails."""
        tasks = [asyncio.create_task(self._keep(i)) for i in range(len(self._streams))]
        tasks += [asyncio.create_task(self._watch()), asyncio.create_task(self._end())]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        rest |= set(self._requests.values())
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    async def _end(self) -> None:
        """Wait for the end, then hang up: no socket may be left open."""
        await self._ending.wait()
        for connection in list(self._open.values()):
            connection.transport.abort()
            await connection.wait_closed()

    async def _keep(self, source: int) -> None:
        """Hold one connection for ever; a lost one is made anew at once, a refused one after a while."""
        stream = self._streams[source]
        connecting = connect(
            stream.url,
            compression=None,
            max_size=MAX_FRAME,
            max_queue=_MAX_QUEUE,
            ping_timeout=None,  # an unread socket gives no pong; silence is told by `_watch`
            close_timeout=_CLOSE_S,
            process_exception=lambda error: self._refused(stream.url, error),
            logger=_QUIET,
        )
        async for connection in connecting:
            self.counts.connects += 1
            self._open[source] = connection
            opened = self._opened[source] = self._heard[source] = self._clock.now()
            try:
                await self._read(source, connection)
            except ConnectionClosed:
                pass
            finally:
                self._open.pop(source, None)
            if self._ending.is_set():
                return
            self.counts.downs += 1
            self._put(source, down())
            if self._clock.now() - opened < NS_PER_S:  # it hangs up on us: do not hammer
                await asyncio.sleep(_HAMMER_S)

    def _refused(self, url: str, error: Exception) -> Exception | None:
        """Count a connection that could not be made. It is tried again, whatever the reason."""
        if not isinstance(error, (OSError, TimeoutError, WebSocketException)):
            return error
        self.counts.failed_connects += 1
        self.last_failure = f"{_host(url)}: {_why(error)}"
        return None

    async def _read(self, source: int, connection: ClientConnection) -> None:
        for line in self._streams[source].hello:
            await connection.send(line)
        for symbol in self._streams[source].snapshots:
            self._ask(source, symbol)
        while True:
            self._put(source, await connection.recv(decode=False))
            if len(self._frames) >= self._max_waiting:
                await self._room(source)

    async def _room(self, source: int) -> None:
        """Leave a socket unread until there is room: its queue fills, then the kernel's, then the venue's."""
        self.counts.pauses += 1
        self._paused.add(source)
        while len(self._frames) > self._max_waiting // 2:  # noqa: ASYNC110 - taken on another thread
            await asyncio.sleep(_LOOK_S)
        self._paused.discard(source)

    def _put(self, source: int, payload: bytes) -> None:
        if b"\n" in payload or b"\r" in payload:  # the journal keeps a frame in a line
            payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
        now = self._last_ts = max(self._last_ts, self._clock.now())
        self._heard[source] = now
        was_empty = not self._frames
        self._frames.append(Frame(now, payload, source))
        if was_empty:
            self.on_frames()

    async def _watch(self) -> None:
        """Tell of silences, and end connections that stay silent."""
        told = list(self._heard)
        while True:
            await asyncio.sleep(_LOOK_S)
            now = self._clock.now()
            for source, connection in list(self._open.items()):
                if source in self._paused:  # it is we who do not listen
                    self._heard[source] = now
                heard = self._heard[source]
                if now - max(heard, told[source]) < self._silent_ns:
                    continue
                told[source] = now
                self.counts.silences += 1
                for symbol in self._streams[source].symbols or ("",):
                    self._put(source, silent(symbol))
                self._heard[source] = heard  # our own word is none of the venue's
                if now - heard > self._patience_ns:
                    connection.transport.abort()

    # -- snapshots -------------------------------------------------------------------------------------

    def _ask(self, source: int, symbol: str) -> None:
        url = self._streams[source].snapshots.get(symbol)
        if url is None:
            self._renew(source)
        elif (source, url) not in self._requests and not self._is_told_to_wait(url):
            task = self._requests[source, url] = self._loop.create_task(self._fetch(source, url))
            task.add_done_callback(lambda _: self._requests.pop((source, url)))

    def _renew(self, source: int) -> None:
        """End a connection, to be made anew, unless that was done lately or it is new."""
        connection, now = self._open.get(source), self._clock.now()
        is_settled = now - self._opened[source] >= _SETTLE_NS
        if connection is not None and is_settled and self._renewals[source].allow(now):
            self.counts.renewals += 1
            connection.transport.abort()

    def _is_told_to_wait(self, url: str) -> bool:
        return self._clock.now() < self._ask_after.get(_host(url), 0)

    async def _fetch(self, source: int, url: str) -> None:
        try:
            async with self._request_room:
                if self._is_told_to_wait(url):
                    return
                async with asyncio.timeout(_REQUEST_S):
                    body = await _aside(lambda: _get(url))
        except (OSError, ValueError, HTTPException) as error:
            self._not_fetched(url, error)
            return
        self.counts.snapshots += 1
        self._put(source, b'{"url":' + msgspec.json.encode(url) + b',"data":' + body + b"}")

    def _not_fetched(self, url: str, error: Exception) -> None:
        host = _host(url)
        self.last_failure = f"{host}: {_why(error)}"
        if isinstance(error, HTTPError) and error.code in _WAIT:
            now = self._clock.now()
            self._ask_after[host] = now + _retry_ns(error.headers.get("Retry-After", ""), now)
            self.counts.refused_snapshots += 1
        else:
            self.counts.failed_snapshots += 1


class _Renewals:
    """How often a connection may be made anew for a book's sake: every 30 s, then ever more seldom."""

    def __init__(self) -> None:
        self._last = self._wait = 0

    def allow(self, now: int) -> bool:
        """Return whether it may be now, and if so take it as done."""
        since = now - self._last
        if since < self._wait:
            return False
        was_calm = since > 3 * self._wait
        longer = min(2 * self._wait, _LAST_RENEWAL_NS)
        self._last, self._wait = now, _FIRST_RENEWAL_NS if was_calm else longer
        return True


async def _aside(work: Callable[[], bytes]) -> bytes:
    """Return what a call returns, made on a thread that nobody waits for once the loop has ended."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bytes] = loop.create_future()

    def settle(body: bytes, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(body)
        else:
            outcome.set_exception(error)

    def run() -> None:
        body, error = b"", None
        try:
            body = work()
        except Exception as failure:  # noqa: BLE001 - raised where it is awaited
            error = failure
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, body, error)

    threading.Thread(target=run, name="snapshot", daemon=True).start()
    return await outcome


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_REQUEST_S) as answer:  # noqa: S310 - from settings
            body: bytes = answer.read(MAX_FRAME + 1)
    except HTTPError as error:
        error.close()
        raise
    if len(body) > MAX_FRAME:
        raise ValueError("too long an answer")
    return body


def _retry_ns(text: str, now: int) -> int:
    """Return for how long Retry-After says to wait: ns, 1 s to an hour."""
    told_ns = retry_after_ns(text, now)
    return max(_LAST_ASK_NS if told_ns is None else told_ns, NS_PER_S)


def _host(url: str) -> str:
    """Return an address's host and port alone: the rest may hold a key."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _why(error: Exception) -> str:
    """Return why something failed, in words that quote no address."""
    match error:
        case InvalidStatus():
            return f"HTTP {error.response.status_code}"
        case HTTPError():
            return f"HTTP {error.code}"
        case URLError(reason=OSError() as reason):
            return _why(reason)
        case OSError(strerror=str(words)):
            return words
        case TimeoutError():
            return "no answer in time"
        case _:
            return type(error).__name__


def streams_of(settings: Settings) -> list[Stream]:
    """Return what the settings say to connect to.

    Raises:
        SettingsError: If they name no connection, or one that cannot be made.
    """
    if not settings.feed.connections:
        raise SettingsError(
            "no feed is named",
            place="settings",
            mend='Write [[feed.connections]] with venue = "binance-usdm" and symbols = ["BTCUSDT"].',
        )
    return [
        stream_of(one.venue, one.symbols, one.url, one.rest, one.hello, f"{_PLACE} number {number}")
        for number, one in enumerate(settings.feed.connections, start=1)
    ]


def open_feed(
    settings: Settings,
    streams: list[Stream],
    clock: Clock,
    on_frames: Callable[[], None] = lambda: None,
) -> Feed:
    """Return the feed of these streams, to be used as a context manager."""
    return Feed(
        streams,
        reconnect_after_s=settings.feed.reconnect_after_s,
        max_waiting=settings.feed.max_waiting,
        on_frames=on_frames,
        clock=clock,
    )


class Resync:
    """Asks for a whole book where depth has come and cannot be used: soon, then ever more seldom.

    It is asked of the connection that carries the book, and of no other: where its snapshots come by the
    stream alone, asking ends the connection, with all its books.

    Args:
        books: The books.
        feed: Where to ask.
    """

    def __init__(self, books: Books, feed: Feed) -> None:
        self._books, self._feed = books, feed
        self._next: dict[int, int] = {}
        self._wait: dict[int, int] = {}

    def look(self, now: int) -> int:
        """Ask where it is time to; return how many books wait for a snapshot."""
        unusable = 0
        for index, instrument in enumerate(self._books.instruments):
            if not self._books.wants_snapshot(index):
                self._next.pop(index, None)
                self._wait.pop(index, None)
                continue
            unusable += 1
            due = self._next.setdefault(index, now + _FIRST_ASK_NS)
            if now < due:
                continue
            wait = min(2 * self._wait.get(index, _FIRST_ASK_NS), _LAST_ASK_NS)
            self._wait[index], self._next[index] = wait, now + wait
            self._feed.ask(self._books.depth_source(index), instrument.symbol)
        return unusable
