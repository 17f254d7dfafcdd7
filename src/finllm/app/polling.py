"""Polled sources: requests on a thread of their own, each source at its own pace.

Asks only for what has changed (ETag, Last-Modified), takes no more of a body than is allowed, unpacks it
within the same bound, and does as it is told with Retry-After. Redirections are not followed: a key in a
header must not reach another host. Knows nothing of what the bodies say.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import msgspec
import numpy as np

from finllm.app.pace import HostLimit, Pace
from finllm.app.settings import SourceSettings
from finllm.domain.errors import WorkerError
from finllm.domain.units import NS_PER_S
from finllm.narrative.sources.body import inflated
from finllm.narrative.sources.reading import Message
from finllm.narrative.sources.rows import Unusable
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.retry import retry_after_ns

if TYPE_CHECKING:
    import httpx2

_OK: Final = 200
_NOT_MODIFIED: Final = 304
_MOVED: Final = range(300, 400)
_WAIT: Final = (418, 429, 503)
"""Answers that ask us to wait."""
_LOOK_S: Final = 0.05
MOST_WAITING: Final = 256
"""Bodies that may wait to be read; with more nothing is asked for."""
_GZIP: Final = ("gzip", "x-gzip")


class PollCounts(msgspec.Struct, kw_only=True):
    """What happened to one source's requests or connection."""

    polls: int = 0
    bodies: int = 0
    """Answers with something new."""
    not_modified: int = 0
    """Answers 304, and bodies that were byte for byte the last one."""
    refused_bodies: int = 0
    """Too long, bombs, or packed in a way we cannot unpack: told as refusals."""
    failures: int = 0
    told_to_wait: int = 0
    last_failure: str = ""
    """Why the last one failed, and at which host; quotes no address."""


class _Polled:
    """One source and what is known of its last answer."""

    def __init__(self, settings: SourceSettings, chance: np.random.Generator) -> None:
        self.settings = settings
        self.host = urlsplit(settings.url).netloc.rpartition("@")[2]
        self.pace = Pace(int(settings.every_s * NS_PER_S), chance)
        self.counts = PollCounts()
        self.validators: dict[str, str] = {}
        self.last_body = b""

    def headers(self) -> dict[str, str]:
        agent = self.settings.user_agent or f"finllm/{version('fin-llm-inference')}"
        return {
            "User-Agent": agent,
            "Accept-Encoding": "gzip",
            **self.settings.headers,
            **self.validators,
        }

    def remember(self, headers: "httpx2.Headers") -> None:
        """Keep what the next request asks by."""
        self.validators = {
            ask: headers[tell]
            for ask, tell in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified"))
            if tell in headers
        }


class Polls:
    """All polled sources of a run. Use it as a context manager.

    Args:
        sources: Those with an address that is polled.
        seed: Of the jitter.
        clock: Source of receive times.
    """

    def __init__(
        self, sources: Sequence[SourceSettings], *, seed: int = 0, clock: Clock | None = None
    ) -> None:
        chance = np.random.default_rng(seed)
        self._polled = [_Polled(one, chance) for one in sources]
        self._clock = clock or WallClock()
        self._hosts = HostLimit()
        self._rates = {
            host: min(p.settings.per_second for p in self._polled if p.host == host)
            for host in {p.host for p in self._polled}
        }
        self._messages: deque[Message] = deque()
        self._last_ts = 0
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sources", daemon=True)
        self._failure: BaseException | None = None

    @property
    def counts(self) -> dict[str, PollCounts]:
        """Return what happened, by source."""
        return {polled.settings.name: polled.counts for polled in self._polled}

    def __enter__(self) -> Self:
        if self._polled:
            self._thread.start()
        else:
            self._loop.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End; what has come can still be taken."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()

    def take(self) -> Message | None:
        """Return the next body that has come, or None; never waits.

        Raises:
            WorkerError: If the thread has failed.
        """
        if self._failure is not None:
            raise WorkerError(f"polling failed: {self._failure!r}") from self._failure
        return self._messages.popleft() if self._messages else None

    # -- the thread's side -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._poll_all())
        except BaseException as failure:  # noqa: BLE001 - told to whoever takes messages
            self._failure = failure
        finally:
            self._loop.close()

    async def _poll_all(self) -> None:
        import httpx2

        limits = httpx2.Limits(max_connections=16)
        async with httpx2.AsyncClient(limits=limits, follow_redirects=False) as client:
            tasks = [asyncio.create_task(self._keep(client, polled)) for polled in self._polled]
            ending = asyncio.create_task(self._ending.wait())
            done, _ = await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in (ending, *tasks):
                task.cancel()
            await asyncio.gather(ending, *tasks, return_exceptions=True)
            for task in done - {ending}:
                task.result()

    async def _keep(self, client: "httpx2.AsyncClient", polled: _Polled) -> None:
        """Poll one source for ever."""
        due = self._clock.now()
        while True:
            await self._until(due)
            while len(self._messages) >= MOST_WAITING:  # noqa: ASYNC110 - taken on another thread
                await asyncio.sleep(_LOOK_S)
            await self._until(
                self._hosts.turn(polled.host, self._clock.now(), self._rates[polled.host])
            )
            due = await self._poll(client, polled)

    async def _until(self, instant: int) -> None:
        await asyncio.sleep(max(0, instant - self._clock.now()) / NS_PER_S)

    async def _poll(self, client: "httpx2.AsyncClient", polled: _Polled) -> int:
        """Make one request; return when to make the next."""
        import httpx2

        polled.counts.polls += 1
        try:
            async with asyncio.timeout(polled.settings.timeout_s):
                return await self._ask(client, polled)
        except TimeoutError:
            return self._failed(polled, "no answer in time")
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            return self._failed(polled, type(error).__name__)

    async def _ask(self, client: "httpx2.AsyncClient", polled: _Polled) -> int:
        async with client.stream(
            "GET", polled.settings.url, headers=polled.headers(), timeout=polled.settings.timeout_s
        ) as answer:
            if answer.status_code == _NOT_MODIFIED:
                polled.counts.not_modified += 1
                return polled.pace.answered(self._clock.now())
            if answer.status_code != _OK:
                return self._not_ok(polled, answer)
            body, refused = await _body(answer, int(polled.settings.max_mb * 1e6))
            polled.remember(answer.headers)
        self._take_in(polled, body, refused)
        return polled.pace.answered(self._clock.now())

    def _take_in(self, polled: _Polled, body: bytes, refused: str) -> None:
        digest = blake2b(body + refused.encode(), digest_size=16).digest()
        if digest == polled.last_body:
            polled.counts.not_modified += 1
            return
        polled.last_body = digest
        polled.counts.refused_bodies += bool(refused)
        polled.counts.bodies += not refused
        self._last_ts = max(self._last_ts, self._clock.now())
        self._messages.append(
            Message(
                source=polled.settings.name, ts_recv=self._last_ts, payload=body, refused=refused
            )
        )

    def _not_ok(self, polled: _Polled, answer: "httpx2.Response") -> int:
        now = self._clock.now()
        told_ns = 0
        if answer.status_code in _WAIT:
            polled.counts.told_to_wait += 1
            told_ns = retry_after_ns(answer.headers.get("Retry-After", ""), now) or 0
            self._hosts.close_until(polled.host, now + told_ns)
        moved = answer.status_code in _MOVED
        where = urlsplit(answer.headers.get("Location", "")).netloc.rpartition("@")[2]
        return self._failed(
            polled,
            f"HTTP {answer.status_code}"
            + (f", moved to {where or 'another path'}" if moved else ""),
            told_ns,
        )

    def _failed(self, polled: _Polled, why: str, told_ns: int = 0) -> int:
        polled.counts.failures += 1
        polled.counts.last_failure = f"{polled.host}: {why}"
        return polled.pace.failed(self._clock.now(), told_ns)


async def _body(answer: "httpx2.Response", most: int) -> tuple[bytes, str]:
    """Return an answer's body, unpacked, or empty with the reason why it is not taken."""
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in (*_GZIP, "identity", ""):
        return b"", "unknown_encoding"
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > most:
            return b"", "too_long"
        parts.append(part)
    body = b"".join(parts)
    if packing not in _GZIP:
        return body, ""
    try:
        return inflated(body, most), ""
    except Unusable as why:
        return b"", why.reason
