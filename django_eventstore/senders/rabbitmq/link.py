"""One connection to RabbitMQ with a channel in confirm mode; every wait on it ends."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from datetime import timedelta
from typing import Any

import amqp
from kombu import Connection

from ...exceptions import Unavailable
from .confirms import Confirms
from .frames import Message, publish_frames

__all__ = ["Link", "require_amqp"]

GATHERED = 64 * 1024
"""Bytes of messages that are written at once: a system call costs as much as a message."""
GOODBYE = 2.0
"""Seconds that a polite close may take."""


SCHEMES = ("amqp", "amqps", "pyamqp")


def require_amqp(url: object, what: str) -> None:
    """Raise ValueError unless this URL, or list of URLs, is of AMQP. Looks at it only: kombu would import what serves it."""
    urls = url.split(";") if isinstance(url, str) else url
    if not isinstance(urls, (list, tuple)) or not urls:
        raise ValueError(f"RabbitMQ: {what} must be a URL, or several joined by ';'.")
    for each in urls:
        scheme = str(each).partition("://")[0]
        if scheme not in SCHEMES:
            raise ValueError(
                f"RabbitMQ: {what} is not AMQP: it begins with {scheme[:20]!r}, and not with 'amqp' or 'amqps'."
            )


def _open(connection: Connection, *, connect: timedelta, silence: timedelta, named: bool) -> Any:
    """Connect to the first host of the URL that answers. ``named``: its certificate must be for its name."""
    options = dict(connection.transport_options or {})
    options["socket_settings"] = {**_socket_settings(silence), **options.get("socket_settings", {})}
    # Confirms are awaited by many, here; not by each publish, there.
    options["confirm_publish"] = False
    error: Exception | None = None
    candidate = connection.clone(transport_options=options, connect_timeout=connect.total_seconds(), heartbeat=0)
    for _ in range(max(1, len(candidate.alt))):
        if named and candidate.ssl:
            candidate.ssl = _with_host_name(candidate.ssl, candidate.hostname or "localhost")
        try:
            return candidate.transport.establish_connection()
        except (OSError, amqp.exceptions.AMQPError) as exc:
            error = exc
            candidate.maybe_switch_next()
    raise error or Unavailable("RabbitMQ: no host to connect to.")


def _with_host_name(tls: bool | dict[str, Any], host: str) -> dict[str, Any]:
    """py-amqp looks at the name in a certificate only if it is told which one to expect."""
    options = {} if tls is True else dict(tls or {})
    if "context" not in options and options.get("cert_reqs") is not ssl.CERT_NONE:
        options.setdefault("server_hostname", host)
    return options


def _socket_settings(silence: timedelta) -> dict[int, int]:
    """py-amqp gives up after a second in which the peer takes nothing; RabbitMQ makes publishers wait for longer."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return {}
    return {socket.TCP_USER_TIMEOUT: int(silence.total_seconds() * 1000)}


class Link:
    """``silence`` bounds each wait for the broker: a write, an answer to a method, the next confirm."""

    def __init__(self, connection: Connection, *, connect: timedelta, silence: timedelta, named: bool) -> None:
        self._silence = silence.total_seconds()
        self._raw: Any = _open(connection, connect=connect, silence=silence, named=named)
        self._broken = False
        self._blocked = False
        self._tag = 0
        self._unwritten = bytearray()
        self._confirms: Confirms | None = None
        self._exchanges = {""}
        self._selector = selectors.DefaultSelector()
        try:
            self._begin()
        except BaseException:
            self.distrust()
            self.close()
            raise

    def _begin(self) -> None:
        # From here on py-amqp's own waits, which know no time-out, have this one.
        self._raw.sock.settimeout(self._silence)
        self._selector.register(self._raw.sock, selectors.EVENT_READ)
        self._raw.on_blocked = self._on_blocked
        self._raw.on_unblocked = self._on_unblocked
        self._channel = self._raw.channel()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._channel.confirm_select()

    # --- publishing ---

    def begin(self, confirms: Confirms) -> None:
        """What is answered from now on goes here; late answers to what was published before are dropped."""
        self._confirms = confirms

    def publish(self, message: Message, *, exchange: str, routing_key: str, mandatory: bool) -> int:
        """Put the message on its way and wait for nothing. Returns its delivery tag.

        It may still be here when this returns: ``poll`` and ``wait`` write what has gathered. Raises PermanentError for a
        message that does not fit into AMQP; nothing of it was written.
        """
        self._unwritten += publish_frames(
            message,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            channel=self._channel.channel_id,
            frame_max=self._raw.frame_max,
        )
        self._tag += 1
        if len(self._unwritten) > GATHERED:
            self._write()
        return self._tag

    def poll(self) -> None:
        """Read the answers that are there."""
        self._write()
        while self._is_readable(0):
            self._raw.drain_events(timeout=self._silence)

    def wait(self, seconds: float) -> None:
        """Read answers, after waiting for the first of them at most so long."""
        self._write()
        if self._is_readable(seconds):
            self._raw.drain_events(timeout=self._silence)
            self.poll()

    def _write(self) -> None:
        if self._unwritten:
            self._raw.transport.write(self._unwritten)
            self._unwritten = bytearray()

    def assert_exchange(self, exchange: str, *, type: str, declare: bool) -> None:
        """Declare the exchange, or see that it is there: once per connection. A missing one ends the channel."""
        if exchange in self._exchanges:
            return
        self._write()
        try:
            self._channel.exchange_declare(exchange, type, passive=not declare, durable=True, auto_delete=False)
        except amqp.exceptions.ChannelError as error:
            # Not the fault of any event, whichever is on its way.
            raise Unavailable(f"RabbitMQ: exchange {exchange!r}: {error.reply_text}") from error
        self._exchanges.add(exchange)

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has said that it takes no messages for now, for want of memory or disk."""
        return self._blocked

    # --- the end ---

    def is_usable(self) -> bool:
        """Whether nothing is known against it: reads what has come since it was used."""
        try:
            self.poll()
        except Exception:  # noqa: BLE001 - py-amqp raises AttributeError and others too when the connection is gone
            self._broken = True
        return not self._broken and bool(self._raw.connected)

    def distrust(self) -> None:
        """Something went wrong on it: it is not used again, and closed without a word."""
        self._broken = True

    def close(self) -> None:
        """Say goodbye if the connection is sound, and let go of it in any case."""
        with contextlib.suppress(Exception):
            self._raw.sock.settimeout(GOODBYE)
            if not self._broken:
                self._raw.close()
        with contextlib.suppress(Exception):
            self._raw.collect()
        self._selector.close()

    # --- what py-amqp calls ---

    def _on_ack(self, tag: int, multiple: bool) -> None:
        if self._confirms is not None:
            self._confirms.ack(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        if self._confirms is not None:
            self._confirms.nack(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        if self._confirms is not None:
            reason = (
                f"RabbitMQ returned it: no queue is bound to exchange {exchange!r} for routing key {routing_key!r}."
            )
            self._confirms.returned(str(message.properties.get("message_id")), reason)

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False

    def _is_readable(self, seconds: float) -> bool:
        sock = self._raw.sock
        pending = getattr(sock, "pending", None)  # TLS may hold bytes that the socket does not show any more
        return bool(pending is not None and pending()) or bool(self._selector.select(seconds))
