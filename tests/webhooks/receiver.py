"""A receiver of webhooks: a real HTTP server on a thread, which keeps what it gets and answers as it is told."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came, and when it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def number(self) -> int:
        """The ``n`` of a counted event."""
        return int(self.event["data"]["n"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(path=self.path, headers=headers, body=body)
        self.server.receiver.seen.append(request)
        answer = self.server.receiver.answers.get(self.path, accept)
        try:
            answer(self, request)
        except OSError:  # who asked has gone
            self.close_connection = True

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """An answer."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


Answer = Callable[[Handler, Request], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1_000
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away in the middle, or did not trust our certificate


class Receiver:
    """``answers``: by path, how it answers; without one it accepts. ``seen``: all that came, in order."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Request] = []
        self.answers: dict[str, Answer] = {}
        self.going_on = threading.Event()
        """Set: answers that hang are given up."""
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.receiver = self
        self.port = self._server.server_address[1]
        self.scheme = "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.01), daemon=True)
        self._thread.start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def numbers(self, path: str) -> list[int]:
        """The numbers that came there, in order, repeats and refused ones among them."""
        return [request.number for request in list(self.seen) if request.path == path]

    def ids(self, path: str) -> list[str]:
        return [request.headers["webhook-id"] for request in list(self.seen) if request.path == path]

    def close(self) -> None:
        self.going_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@contextmanager
def receiving(**keywords: Any) -> Iterator[Receiver]:
    receiver = Receiver(**keywords)
    try:
        yield receiver
    finally:
        receiver.close()


# --- answers ---


def accept(handler: Handler, request: Request) -> None:
    handler.say(204)


def refusing(status: int, **headers: str) -> Answer:
    return lambda handler, request: handler.say(status, b"no", **headers)


def hang(handler: Handler, request: Request) -> None:
    """Says nothing until the receiver is closed."""
    handler.server.receiver.going_on.wait(60)
    handler.close_connection = True


def drip(handler: Handler, request: Request) -> None:
    """A byte of a header now and then, for ever: no single read takes long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.receiver.going_on.wait(0.05):
        handler.wfile.write(b"a")
    handler.close_connection = True


def flood(handler: Handler, request: Request) -> None:
    """200, and a text that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not handler.server.receiver.going_on.is_set():
        handler.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
    handler.close_connection = True


def flood_headers(handler: Handler, request: Request) -> None:
    """A header that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not handler.server.receiver.going_on.is_set():
        handler.wfile.write(b"x" * 0x1000)
    handler.close_connection = True


def vanish(handler: Handler, request: Request) -> None:
    """Ends the connection in place of an answer."""
    handler.close_connection = True


def slowly(seconds: float) -> Answer:
    def answer(handler: Handler, request: Request) -> None:
        handler.server.receiver.going_on.wait(seconds)
        handler.say(200)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One after the other, and from the last on always that."""
    left = list(answers)
    lock = threading.Lock()

    def answer(handler: Handler, request: Request) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(handler, request)

    return answer
