"""RabbitMQSender: options, and what a message is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

from celery import current_app
from django.conf import settings
from django.core.checks import CheckMessage, Error
from kombu import Connection

from ...delivery import Batch, DeliveredEntry, Outcome
from ...events.cloudevents import DEFAULT_DATASCHEMA
from ...events.templates import EntryTemplate
from ...events.wire import Shape, WireEvent, WireFormat
from ...exceptions import LeaseLost, PermanentError
from ..base import EventSender, ProcessLocal, Receipts, as_unavailable, require, require_positive
from .frames import SHORT, Message, octets
from .link import Link, require_amqp
from .publication import Publication, Ready

__all__ = ["RabbitMQSender"]

MEBIBYTE = 1024 * 1024


class RabbitMQSender(EventSender):
    """Publishes events to an exchange of RabbitMQ.

    An event is accepted when the broker has confirmed it: then every durable queue that it was routed to has it on disk, and
    a quorum queue on a majority of its replicas. The events of a batch are published without waiting for one another, but for
    those of the same stream, each of which is confirmed before the next one leaves (``max_in_flight_per_stream``). With
    ``mandatory`` (the default) an event that no queue is bound for is refused; without it the broker drops it and confirms.

    ``url``: ``amqp://`` or ``amqps://``, several joined by ``;``. Without it, Celery's broker. See the guide for the others.
    """

    batch_size = 1_000

    def __init__(
        self,
        *,
        exchange: str,
        routing_key: str = "{type}",
        url: str | None = None,
        tls: Mapping[str, object] | None = None,
        declare: bool = False,
        exchange_type: str = "topic",
        mandatory: bool = True,
        nacked: Literal["wait", "refuse"] = "wait",
        format: Shape = "binary",
        source: str = "",
        dataschema: str = DEFAULT_DATASCHEMA,
        headers: Mapping[str, str] | None = None,
        max_in_flight: int = 1_000,
        max_in_flight_per_stream: int = 1,
        max_bytes: int = 16 * MEBIBYTE,
        timeout: timedelta = timedelta(seconds=30),
        connect_timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        self.exchange = EntryTemplate(exchange, option="exchange")
        self.routing_key = EntryTemplate(routing_key, option="routing_key")
        self.format = WireFormat(shape=format, source=source, dataschema=dataschema)
        require(nacked in ("wait", "refuse"), f"nacked must be 'wait' or 'refuse', got {nacked!r}.")
        require(max_in_flight > 0, f"max_in_flight must be positive, got {max_in_flight!r}.")
        require(
            max_in_flight_per_stream > 0,
            f"max_in_flight_per_stream must be positive, got {max_in_flight_per_stream!r}.",
        )
        require(max_bytes > 0, f"max_bytes must be positive, got {max_bytes!r}.")
        require_positive(timeout=timeout, connect_timeout=connect_timeout)
        self.url, self.tls = url, dict(tls or {})
        self.declare, self.exchange_type = declare, exchange_type
        self.mandatory, self.nacked = mandatory, nacked
        self.headers = dict(headers or {})
        self.max_in_flight, self.max_bytes = max_in_flight, max_bytes
        self.max_in_flight_per_stream = max_in_flight_per_stream
        self.timeout, self.connect_timeout = timeout, connect_timeout
        self._link = ProcessLocal(self._open, close=Link.close, usable=Link.is_usable)
        self._careful = False

    def send(self, batch: Batch) -> Outcome:
        if not batch.still_held():
            return Outcome(done=0)
        receipts = Receipts(batch.entries)
        try:
            with self._link.use() as link:
                self._publication(link, batch, receipts).run()
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - py-amqp and sockets have errors of many classes, AttributeError among them
            self._careful = True
            return receipts.outcome(as_unavailable(error, receiver="RabbitMQ"))
        self._careful = False
        return receipts.outcome()

    def check(self) -> list[CheckMessage]:
        try:
            self._broker()
        except ValueError as error:
            return [Error(str(error), hint="Set 'url' in the consumer's OPTIONS.", id="django_eventstore.E060")]
        return []

    def close(self) -> None:
        self._link.close()

    def _publication(self, link: Link, batch: Batch, receipts: Receipts) -> Publication:
        return Publication(
            link=link,
            batch=batch,
            receipts=receipts,
            make=self._maker(link, self.format.writer(log=batch.log, epoch=batch.epoch)),
            mandatory=self.mandatory,
            refuse_nacked=self.nacked == "refuse",
            max_in_flight=self.max_in_flight,
            per_stream=self.max_in_flight_per_stream,
            silence=self.timeout,
            careful=self._careful,
        )

    def _maker(self, link: Link, write: Callable[[DeliveredEntry], WireEvent]) -> Callable[[DeliveredEntry], Ready]:
        def make(entry: DeliveredEntry) -> Ready:
            exchange, routing_key = self.exchange.fill(entry), self.routing_key.fill(entry)
            wire = write(entry)
            message = self._message(entry, wire)
            for name, value in (
                ("exchange", exchange),
                ("routing key", routing_key),
                ("type", entry.type),
                ("content type", wire.content_type),
            ):
                if octets(value) > SHORT:
                    raise PermanentError(f"The {name} {value!r} is longer than {SHORT} octets.")
            link.assert_exchange(exchange, type=self.exchange_type, declare=self.declare)
            return Ready(message, exchange, routing_key)

        return make

    def _message(self, entry: DeliveredEntry, wire: WireEvent) -> Message:
        if len(wire.body) > self.max_bytes:
            raise PermanentError(f"The message has {len(wire.body)} bytes, and max_bytes is {self.max_bytes}.")
        correlation_id = entry.correlation_id
        return Message(
            body=wire.body,
            content_type=wire.content_type,
            headers={**self.headers, **wire.headers},
            message_id=str(entry.event_id),
            type=entry.type,
            timestamp=int(entry.timestamp.timestamp()),
            # One that is too long for the property is in the header all the same.
            correlation_id=correlation_id if correlation_id and octets(correlation_id) <= SHORT else None,
        )

    def _open(self) -> Link:
        return Link(self._broker(), connect=self.connect_timeout, silence=self.timeout, named=self.url is not None)

    def _broker(self) -> Connection:
        """Where to connect to. Raises ValueError when that is no AMQP broker. Connects to nothing."""
        if self.url is not None:
            require_amqp(self.url, "the url")
            return Connection(self.url, ssl=self.tls or False)
        if current_app.main != "default":
            require_amqp(current_app.conf.broker_write_url or current_app.conf.broker_url, "Celery's broker")
            return current_app.connection_for_write()
        url: Any = getattr(settings, "CELERY_BROKER_URL", None)  # no app is loaded: what Django's settings hold for one
        require_amqp(url, "Celery's broker")
        return Connection(url, ssl=self.tls or False)
