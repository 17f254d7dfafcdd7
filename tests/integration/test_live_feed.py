"""The live feed's laws, against small servers on loopback: no market, no model, no worker."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from finllm.app.feed import Feed, Resync
from finllm.app.record import record_live
from finllm.app.settings import ConnectionSettings, FeedSettings, Settings
from finllm.app.status import Status
from finllm.domain.instrument import Instrument
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_S
from finllm.market.streams import Stream

pytestmark = pytest.mark.timeout(60)


class Ahead:
    """The machine's time, and what a test has skipped."""

    def __init__(self) -> None:
        self.skipped = 0

    def now(self) -> int:
        return time.time_ns() + self.skipped

    def sleep(self, duration_ns: int) -> None:
        time.sleep(duration_ns / NS_PER_S)

    def skip(self, seconds: float) -> None:
        """Move on, and let the feed look at the clock a few times."""
        self.skipped += int(seconds * NS_PER_S)
        time.sleep(0.25)


class Venue:
    """A server of streams on loopback: does with each connection what it is told to."""

    def __init__(self, serve_one: Callable[[ServerConnection], Awaitable[None]]) -> None:
        self.n_connections = 0
        self.port = 0
        self._serve_one = serve_one
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        options = {"compression": None, "write_limit": 1 << 16, "close_timeout": 0.1}
        async with serve(self._one, "127.0.0.1", 0, **options) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._end.wait()
            for connection in server.connections:
                connection.transport.abort()

    async def _one(self, connection: ServerConnection) -> None:
        self.n_connections += 1
        try:
            await self._serve_one(connection)
            await connection.wait_closed()
        except ConnectionClosed:
            pass


async def say_nothing(connection: ServerConnection) -> None:
    """Keep a connection open."""


def stream(port: int, *symbols: str, rest: str = "") -> Stream:
    """Return a stream of a venue on loopback."""
    return Stream(
        venue="okx",
        prefix="okx:",
        url=f"ws://127.0.0.1:{port}/",
        hello=(),
        symbols=symbols,
        snapshots={symbol: f"{rest}/depth?symbol={symbol}" for symbol in symbols if rest},
    )


def until(happened: Callable[[], bool], most_s: float = 20.0) -> None:
    """Wait for something."""
    end = time.monotonic() + most_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_while_too_many_frames_wait_the_venue_waits_and_is_not_silent() -> None:
    n_frames, sent = 8_000, [0]

    async def flood(connection: ServerConnection) -> None:
        for number in range(n_frames):
            await connection.send(f"{number} ".ljust(8_000, "x"))
            sent[0] += 1

    clock = Ahead()
    with (
        Venue(flood) as venue,
        Feed(
            [stream(venue.port, "A")], max_waiting=1_000, reconnect_after_s=10.0, clock=clock
        ) as feed,
    ):
        until(lambda: feed.waiting >= 1_000)
        seen = -1
        while seen != sent[0]:
            seen = sent[0]
            time.sleep(0.4)
        assert 1_000 <= seen < n_frames // 2  # the rest of what was sent lies in the kernel
        assert 1_000 <= feed.waiting < 1_100
        clock.skip(40.0)
        assert (feed.counts.silences, feed.counts.downs, feed.counts.pauses) == (0, 0, 1)
        frames: list[Frame] = []

        def take() -> bool:
            frames.extend(feed.take(500))
            return len(frames) == n_frames

        until(take)
        assert [int(frame.payload.split()[0]) for frame in frames] == list(range(n_frames))
        assert feed.counts.connects == 1


@pytest.mark.parametrize("symbols", [(), ("A", "B")])
def test_a_silence_is_told_whether_or_not_symbols_are_named(symbols: tuple[str, ...]) -> None:
    clock = Ahead()
    with Venue(say_nothing) as venue, Feed([stream(venue.port, *symbols)], clock=clock) as feed:
        until(lambda: feed.counts.connects == 1)
        clock.skip(6.0)
        until(lambda: feed.waiting > 0)
        told = [frame.payload for frame in feed.take(10)]
    named = [f'{{"connection":"silent","symbol":"{symbol}"}}'.encode() for symbol in symbols]
    assert told == (named or [b'{"connection":"silent"}'])


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """Yield a listening socket that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        listening.settimeout(10.0)
        yield listening


def test_one_request_a_symbol_is_in_flight_and_hanging_up_waits_for_none(
    deaf: socket.socket,
) -> None:
    rest = f"http://127.0.0.1:{deaf.getsockname()[1]}"
    with Venue(say_nothing) as venue:
        feed = Feed([stream(venue.port, "A", "B", rest=rest)])
        with feed:
            for _ in range(5):
                feed.ask(0, "A")
                feed.ask(0, "B")
            asked = [deaf.accept()[0], deaf.accept()[0]]
            deaf.settimeout(0.3)
            with pytest.raises(TimeoutError):
                deaf.accept()
            started = time.monotonic()
        assert time.monotonic() - started < 2.0
        for request in asked:
            request.close()
    assert feed.counts.failed_snapshots == 0


class Rest:
    """What a REST server answers, and how often it was asked."""

    def __init__(self) -> None:
        self.status, self.headers, self.n_asked = 200, {}, 0


@contextmanager
def rest_server(rest: Rest) -> Iterator[str]:
    """Yield the address of a server that answers as it is told to."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            rest.n_asked += 1
            self.send_response(rest.status)
            for name, value in {**rest.headers, "Content-Length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def heard(feed: Feed) -> None:
    """Wait until the feed's thread has done what it was asked so far."""
    done = threading.Event()
    feed._loop.call_soon_threadsafe(done.set)
    assert done.wait(20.0)


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [(429, "7", 7.0), (418, "900000000", 3_600.0), (429, "soon", 30.0), (418, None, 30.0)],
)
def test_a_venue_that_says_wait_is_left_alone_for_so_long_within_bounds(
    status: int, retry_after: str | None, wait_s: float
) -> None:
    clock, rest = Ahead(), Rest()
    rest.status = status
    rest.headers = {} if retry_after is None else {"Retry-After": retry_after}
    with (
        rest_server(rest) as address,
        Venue(say_nothing) as venue,
        # Skipped time is silence; made anew for that, the connection would ask by itself.
        Feed([stream(venue.port, "A", rest=address)], clock=clock, reconnect_after_s=1e6) as feed,
    ):
        until(lambda: feed.counts.refused_snapshots == 1)  # it asks as it connects
        assert feed.last_failure.endswith(f": HTTP {status}")
        rest.status = 200
        clock.skip(wait_s - 2.0)
        feed.ask(0, "A")
        heard(feed)
        assert rest.n_asked == 1
        clock.skip(3.0)
        feed.ask(0, "A")
        until(lambda: feed.counts.snapshots == 1)
        assert (rest.n_asked, feed.counts.failed_snapshots) == (2, 0)


def test_a_connection_that_cannot_be_made_says_why_and_keeps_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    rest = Rest()
    rest.status = 403
    with rest_server(rest) as address:
        host = address.removeprefix("http://")
        refused = stream(0)
        secret = msgspec.structs.replace(refused, url=f"ws://me:hidden@{host}/way?key=hidden")
        with Feed([secret]) as feed:
            until(lambda: feed.counts.failed_connects > 0)
            assert feed.last_failure == f"{host}: HTTP 403"
    with Feed([msgspec.structs.replace(secret, url="ws://me:hidden@127.0.0.1:1")]) as feed:
        until(lambda: feed.counts.failed_connects > 0)
        assert feed.last_failure.startswith("127.0.0.1:1: Connect call failed")
    assert "hidden" not in caplog.text


def test_a_connection_is_made_anew_for_a_book_at_most_every_30_s_and_ever_more_seldom() -> None:
    clock = Ahead()
    with (
        Venue(say_nothing) as venue,
        Feed([stream(venue.port)], clock=clock, reconnect_after_s=10_000.0) as feed,
    ):
        until(lambda: feed.counts.connects == 1)
        feed.ask(0, "A")  # it is new: its books may still come
        renewals = 0
        for later_s, is_renewed in [
            (10, True), (25, False), (10, True), (50, False), (15, True),
            (400, True), (35, True),  # after a calm it is as at first
        ]:  # fmt: skip
            clock.skipped += later_s * NS_PER_S
            feed.ask(0, "A")
            feed.ask(0, "B")
            if is_renewed:
                renewals += 1
                until(lambda n=renewals: feed.counts.connects == n + 1)
            else:
                time.sleep(0.1)
            assert feed.counts.renewals == feed.counts.downs == renewals


class Sick:
    """Books of which some want a snapshot, and a feed that notes what it is asked for."""

    def __init__(self, *books: tuple[str, int, bool]) -> None:
        self.instruments = [
            Instrument(venue="okx", symbol=symbol, tick_size=0.1, lot_size=0.1, source="stated")
            for symbol, _, _ in books
        ]
        self._books = books
        self.asked: list[tuple[int, str]] = []

    def depth_source(self, index: int) -> int:
        return self._books[index][1]

    def wants_snapshot(self, index: int) -> bool:
        return self._books[index][2]

    def needs_snapshot(self, index: int) -> bool:
        return True

    def ask(self, source: int, symbol: str) -> None:
        self.asked.append((source, symbol))


def test_a_whole_book_is_asked_for_of_the_connection_that_carries_it() -> None:
    sick = Sick(("A-B", 1, True), ("C-D", 0, True))
    resync = Resync(sick, sick)
    assert resync.look(0) == 2
    assert not sick.asked
    assert resync.look(NS_PER_S) == 2
    assert sick.asked == [(1, "A-B"), (0, "C-D")]


def test_a_symbol_without_depth_is_never_asked_for() -> None:
    sick = Sick(("A-B", 0, False), ("C-D", 0, False))
    resync = Resync(sick, sick)
    assert [resync.look(second * NS_PER_S) for second in range(60)] == [0] * 60
    assert not sick.asked


def test_a_connection_of_trades_alone_is_left_in_peace(tmp_path: Path) -> None:
    async def trade(connection: ServerConnection) -> None:
        for number in range(10_000):
            one = {
                "instId": "A-B",
                "tradeId": str(number + 1),
                "px": f"{100 + number % 7 / 100:.2f}",
            }
            one |= {"sz": "0.5", "side": "buy", "ts": str(time.time_ns() // 1_000_000)}
            line = {"arg": {"channel": "trades", "instId": "A-B"}, "data": [one]}
            await connection.send(json.dumps(line))
            await asyncio.sleep(0.005)

    seen: list[Status] = []
    with Venue(trade) as venue:
        connection = ConnectionSettings(venue="okx", url=f"ws://127.0.0.1:{venue.port}")
        recorded = record_live(
            Settings(feed=FeedSettings(connections=(connection,))),
            tmp_path / "tape",
            stop=lambda: len(seen) > 0 and seen[-1].frames > 300,
            told=seen.append,
        )
    assert recorded.instruments == ["okx:A-B"]
    assert recorded.used > 300
    assert (recorded.feed.connects, recorded.feed.downs) == (1, 0)
    assert {status.unusable for status in seen} == {0}
