"""An HTTP client for endpoints that nobody trusts: one connection to a checked address, every wait and every answer bounded.

The standard library's, since it follows no redirect, asks no proxy of the environment, and takes a socket that is open.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import selectors
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from .targets import Rules, Target, addresses_of

__all__ = ["Answer", "Connection", "Limits"]

# A reader of a slow answer looks at the clock after each piece of it.
LEAST_WAIT = 0.001
PIECE = 16 * 1024
"""Bytes of an answer that are read at once: never as many as it says it has, which are allocated first."""
SWITCHING_PROTOCOLS = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one request."""

    timeout: timedelta = timedelta(seconds=10)
    """From its begin to the end of the answer."""
    connect_timeout: timedelta = timedelta(seconds=5)
    """Until a connection is there, TLS included; the resolver of names has time-outs of its own."""
    max_answer: int = 64 * 1024
    """Bytes that are read of an answer, headers included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is read of an answer: its status, and when it wants to be asked again. Its text is dropped."""

    status: int
    retry_after: timedelta | None = None


class AnswerTooLong(Exception):
    """The endpoint sends more than is read of an answer."""


class Connection:
    """To one target, used by one thread at a time. Opened when it is first used; closed, it may be used again."""

    def __init__(self, target: Target, *, rules: Rules, limits: Limits, tls: ssl.SSLContext) -> None:
        self._target, self._rules, self._limits, self._tls = target, rules, limits, tls
        self._wire: _Wire | None = None
        self.opened_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the next request has a connection to go by."""
        return self._wire is not None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send the body and return the answer, whatever its status.

        Raises AddressRefused, AnswerTooLong, OSError (TimeoutError, ssl.SSLError) and http.client.HTTPException.
        """
        deadline = time.monotonic() + self._limits.timeout.total_seconds()
        wire = self._wire
        if wire is not None and not wire.is_quiet():  # closed by the other side, or it says what nobody asked for
            self.close()
            wire = None
        if wire is not None:
            try:
                return self._exchange(wire, body, headers, deadline)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                # Closed while the request was on its way: nothing has failed but the connection.
                if wire.received:
                    raise
        return self._exchange(self._open(deadline), body, headers, deadline)

    def close(self) -> None:
        """Let go of the connection without a word."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.shut()

    def _exchange(self, wire: _Wire, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        try:
            wire.begin(deadline, self._limits.max_answer)
            request = http.client.HTTPConnection(self._target.host, self._target.port)
            request.default_port = 443 if self._target.scheme == "https" else 80
            request.auto_open = 0
            request.sock = wire
            request.response_class = _Response
            request.request("POST", self._target.path, body=body, headers=dict(headers))
            response = request.getresponse()
            answer = Answer(status=response.status, retry_after=_retry_after(response.getheader("Retry-After")))
            if not _drain(response) or response.will_close or response.status == SWITCHING_PROTOCOLS:
                self.close()
            return answer
        except BaseException:
            self.close()
            raise

    def _open(self, deadline: float) -> _Wire:
        until = min(deadline, time.monotonic() + self._limits.connect_timeout.total_seconds())
        error: OSError | None = None
        addresses = addresses_of(self._target, self._rules)
        for number, address in enumerate(addresses):
            connection = socket.socket(address.family, socket.SOCK_STREAM)
            try:
                # One that drops what it gets leaves the others their part of the time.
                part = time.monotonic() + _left(until) / (len(addresses) - number)
                connection.settimeout(_left(part))
                connection.connect(address.sockaddr)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._target.scheme == "https":
                    connection.settimeout(_left(part))
                    connection = self._tls.wrap_socket(connection, server_hostname=self._target.host.rstrip("."))
            except OSError as problem:
                connection.close()
                error = problem
            except BaseException:
                connection.close()
                raise
            else:
                self._wire, self.opened_at = _Wire(connection), time.monotonic()
                return self._wire
        raise error or OSError(f"{self._target.host} has no address.")


class _Wire:
    """A socket as http.client uses it, on which every read looks at the deadline of the request and at what came before."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._deadline = 0.0
        self._left = 0
        self.received = 0

    def begin(self, deadline: float, most: int) -> None:
        self._deadline, self._left, self.received = deadline, most, 0

    def is_quiet(self) -> bool:
        """Whether it is open and nothing has come by it since the last answer."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return False
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                return not selector.select(0)
        except (OSError, ValueError):
            return False

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._deadline))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def receive(self, buffer: memoryview) -> int:
        if self._left <= 0:
            raise AnswerTooLong("The answer is longer than is read of one.")
        self._socket.settimeout(_left(self._deadline))
        count = self._socket.recv_into(buffer[: self._left])
        self._left -= count
        self.received += count
        return count

    def close(self) -> None:
        """http.client is through with it, and may have the end of an answer to read; see ``shut``."""

    def shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


class _Reader(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._wire.receive(memoryview(buffer))


class _Response(http.client.HTTPResponse):
    """The final answer. Taken for one, an interim answer would leave the final one for the next request to find."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        is_interim = 100 <= status < 200 and status != SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if is_interim else status, reason  # what follows "continue" is read next


def _left(until: float) -> float:
    """Seconds until then. Raises TimeoutError when there are none."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return max(seconds, LEAST_WAIT)


def _drain(response: http.client.HTTPResponse) -> bool:
    """Read the rest of the answer, so that the connection is free for the next one. Returns whether it is.

    The status has been said: what becomes of the text does not matter any more.
    """
    try:
        while response.read(PIECE):
            pass
        return not response.length  # of one that is cut off something is left
    except (AnswerTooLong, OSError, http.client.HTTPException, ValueError):  # the last for the sizes of chunks
        return False


def _retry_after(text: str | None) -> timedelta | None:
    """Seconds or a date; None for what is neither."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=min(int(text[:10]), 10**9))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(timedelta(0), moment - datetime.now(timezone.utc))
