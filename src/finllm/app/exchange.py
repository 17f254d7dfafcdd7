"""A simulated exchange: recorded frames of Binance over a real socket, as Binance sends them.

Serves combined streams (`/usdm/stream?streams=btcusdt@depth@0ms/...`) and snapshots over HTTP on the same
port (`/usdm/fapi/v1/depth?symbol=BTCUSDT`), restamped to the present, paced as they were recorded, with
faults at a stated interval. It listens on loopback only.
"""

import asyncio
import http
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.domain.units import NS_PER_MS, NS_PER_S
from finllm.market.faults import Fault, Injected, Injector, restamped
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.market.tape import Tape, files_of, merged, read_frames
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.tally import Tally

HOST: Final = "127.0.0.1"
LATE_S: Final = 3.0
"""By how much a late snapshot is late."""
_WRITE_LIMIT: Final = 1 << 20
_LOOK: Final = 200


class _Named(msgspec.Struct):
    symbol: str = msgspec.field(name="s")


class _Combined(msgspec.Struct):
    stream: str
    data: _Named


_decode_combined: Final = msgspec.json.Decoder(_Combined).decode


def room_of(tape: Tape) -> tuple[str, set[str]]:
    """Return the market that a tape is of, `spot`, `usdm` or `cm`, and the symbols of its first frames.

    Raises:
        InputError: If its first frames show none.
    """
    room, symbols = "", set()
    for frame in islice(read_frames(tape, source=0, tally=Tally()), _LOOK):
        if b'"depthUpdate"' not in frame.payload:
            continue
        try:
            symbols.add(_decode_combined(frame.payload).data.symbol)
        except (msgspec.DecodeError, UnicodeDecodeError):  # of a stream by itself, or broken
            continue
        is_futures, is_coin = b'"pu":' in frame.payload, b'"ps":' in frame.payload
        room = ("cm" if is_coin else "usdm") if is_futures else "spot"
    if room:
        return room, symbols
    raise InputError(
        "no depth of Binance's combined streams among its first frames",
        place=str(files_of(tape)[0]),
        mend='Name a tape whose lines are {"stream":"btcusdt@depth...","data":...}.',
    )


@contextmanager
def synthetic_tapes(seed: int, minutes: float = 10.0) -> Iterator[list[Path]]:
    """Yield tapes of a synthetic market, in a folder that goes away afterwards."""
    with TemporaryDirectory() as folder:
        generate(SyntheticMarket(seed=seed, duration_s=60.0 * minutes)).write(Path(folder))
        yield sorted(Path(folder).glob("frames-*"))


class _Client:
    def __init__(self, connection: ServerConnection, room: str, streams: frozenset[str]) -> None:
        self.connection, self.room, self.streams = connection, room, streams


class Exchange:
    """The exchange, on a thread of its own. Use it as a context manager.

    Args:
        tapes: Tapes of Binance, played side by side from their first frames, merged by receive time.
        port: Where to listen; 0 = any free one.
        speed: Times the recorded pace.
        fault_every_s: A fault at this interval, each kind in turn in a shuffled order; 0 = none.
        seed: Of the faults' order.
        clock: The machine's own when None.

    Raises:
        InputError: If a tape cannot be read or is none of Binance; on entering, if the port cannot be had.
    """

    def __init__(
        self,
        tapes: Sequence[Tape],
        *,
        port: int = 0,
        speed: float = 1.0,
        fault_every_s: float = 0.0,
        seed: int = 7,
        clock: Clock | None = None,
    ) -> None:
        self.n_sent = 0
        self.done = threading.Event()
        """Set once the tapes have ended."""
        self._tapes = tapes
        looks = [room_of(tape) for tape in tapes]
        self._rooms = [room for room, _ in looks]
        self._symbols: dict[str, set[str]] = {room: set() for room in self._rooms}
        for room, symbols in looks:
            self._symbols[room] |= symbols
        self._port = port
        self._speed = speed
        self._every_ns = int(fault_every_s * NS_PER_S)
        self._rng = np.random.default_rng(seed)
        self._clock = clock or WallClock()
        self._injector = Injector(self._rng)
        self._coming: list[Fault] = []
        self._cuts: list[Injected] = []
        self._clients: set[_Client] = set()
        self._failure: BaseException | None = None
        self._server_failure: Exception | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._go = asyncio.Event()
        self._stop = asyncio.Event()
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)

    # -- the caller's side ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._server_failure is not None:
            self._thread.join()
            raise InputError(
                f"cannot listen there ({self._server_failure})",
                place=f"{HOST}, port {self._port}",
                mend="Name another port; 0 takes any free one.",
            ) from self._server_failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def port(self) -> int:
        """Return where it listens."""
        return self._port

    @property
    def faults(self) -> list[Injected]:
        """Return what went wrong so far, in order."""
        return sorted([*self._injector.log, *self._cuts], key=lambda one: one.ts)

    def addresses(self, room: str) -> tuple[str, str]:
        """Return the addresses of a market's stream and of its REST service."""
        return f"ws://{HOST}:{self._port}/{room}", f"http://{HOST}:{self._port}/{room}"

    def settings(self) -> str:
        """Return the settings, as TOML, with which to run on it; its symbols are known once it has begun."""
        lines = []
        for room in dict.fromkeys(self._rooms):
            url, rest = self.addresses(room)
            symbols = sorted(self._symbols[room])
            lines += [
                "[[feed.connections]]",
                f'venue = "binance-{room}"',
                f"symbols = {json.dumps(symbols)}",
                f'url = "{url}"',
                f'rest = "{rest}"',
                "",
            ]
        return "\n".join(lines)

    # -- the thread's side -----------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._live())
            except (
                OSError,
                OverflowError,
            ) as failure:  # a port in use, not allowed or out of range
                self._server_failure = failure
            finally:
                self._ready.set()

    async def _live(self) -> None:
        async with serve(
            self._serve,
            HOST,
            self._port,
            process_request=self._answer,
            compression=None,
            write_limit=_WRITE_LIMIT,
            close_timeout=1.0,
        ) as server:
            self._port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            playing = asyncio.create_task(self._play())
            playing.add_done_callback(self._played)
            await self._stop.wait()
            playing.cancel()
            for client in list(self._clients):
                client.connection.transport.abort()
                await client.connection.wait_closed()

    def _played(self, playing: asyncio.Task[None]) -> None:
        if not playing.cancelled():
            self._failure = playing.exception()
            self.done.set()

    async def _serve(self, connection: ServerConnection) -> None:
        url = urlsplit(connection.request.path if connection.request else "")
        names = parse_qs(url.query).get("streams", [""])[0]
        room = url.path.strip("/").partition("/")[0]
        client = _Client(connection, room, frozenset(names.split("/")))
        self._clients.add(client)
        self._go.set()
        try:
            await connection.wait_closed()
        finally:
            self._clients.discard(client)

    async def _play(self) -> None:
        """Send the tapes from when the first client has come."""
        await self._go.wait()
        start, first, next_fault = 0, 0, 0
        for frame in self._frames():
            if not start:
                start, first = self._clock.now(), frame.ts_recv
                next_fault = start + self._every_ns
            due = start + int((frame.ts_recv - first) / self._speed)
            ahead = due - self._clock.now()
            if ahead > 0:
                await asyncio.sleep(ahead / NS_PER_S)
            if self._every_ns and due >= next_fault and not self._injector.is_busy:
                next_fault = due + self._every_ns
                self._strike(due)
            moved = restamped(frame.payload, (start - first) // NS_PER_MS)
            for sent in self._injector.push(Frame(due, moved, frame.source)):
                await self._send(sent)

    def _frames(self) -> Iterator[Frame]:
        return merged(
            [read_frames(tape, source=i, tally=Tally()) for i, tape in enumerate(self._tapes)]
        )

    def _strike(self, now: int) -> None:
        if not self._coming:
            self._coming = [*Fault]
            self._rng.shuffle(self._coming)
        fault = self._coming.pop()
        if fault is not Fault.DISCONNECT:
            self._injector.want(fault)
            return
        self._cuts.append(Injected(fault=fault, ts=now, symbol=""))
        for client in self._clients:
            client.connection.transport.abort()

    async def _send(self, frame: Frame) -> None:
        room = self._rooms[frame.source]
        stream = frame.payload[: frame.payload.find(b'"', 11)].partition(b'"stream":"')[2].decode()
        for client in list(self._clients):
            if client.room == room and stream in client.streams:
                self.n_sent += 1
                try:
                    await client.connection.send(frame.payload, text=True)
                except (OSError, ConnectionClosed):
                    self._clients.discard(client)

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request for a snapshot; let everything else become a stream."""
        url = urlsplit(request.path)
        if not url.path.endswith("/depth"):
            return None
        if self._injector.snapshot_fault is Fault.LATE_SNAPSHOT:
            self._injector.snapshot_fault = None
            await asyncio.sleep(LATE_S)
        room = url.path.strip("/").partition("/")[0]
        symbol = parse_qs(url.query).get("symbol", [""])[0]
        event_ms = self._clock.now() // NS_PER_MS
        for source, own in enumerate(self._rooms):
            body = self._injector.snapshot(source, symbol, event_ms) if own == room else None
            if body is not None:
                headers = Headers([("Content-Type", "application/json"), ("Connection", "close")])
                headers["Content-Length"] = str(len(body))
                return Response(http.HTTPStatus.OK, "OK", headers, body)
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "no book yet\n")
