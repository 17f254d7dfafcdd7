"""A web server and a newswire on loopback, which answer as they are told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import msgspec
from websockets.sync.server import ServerConnection, serve


class Answer(msgspec.Struct, frozen=True):
    """What to answer one request with."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}


class Site:
    """A site whose answers a function chooses; keeps what it was asked."""

    def __init__(self, answer: Callable[[int, dict[str, str]], Answer]) -> None:
        self.asked: list[dict[str, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                site.asked.append({"path": self.path, **headers})
                told = answer(len(site.asked), headers)
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(told.body)))
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked had enough
                    self.wfile.write(told.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/feed"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def newswire(sessions: list[list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a newswire, and what it is told: each connection is sent the next session.

    It hangs up after each session but the last.
    """
    heard: list[str] = []
    left = list(sessions)

    def session(connection: ServerConnection) -> None:
        heard.append(str(connection.recv()))
        for line in left.pop(0) if left else []:
            connection.send(line)
        if not left:
            for _ in connection:  # until the other side hangs up
                pass

    with serve(session, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", heard
        finally:
            server.shutdown()
            thread.join()
