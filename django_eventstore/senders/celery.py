"""A Celery task for each event, or for each batch of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid5

import msgspec
from celery import current_app
from django.core.checks import CheckMessage, Error
from kombu import Producer
from kombu.exceptions import EncodeError

from ..delivery import Batch, DeliveredEntry, Outcome
from ..events.cloudevents import trace_of
from ..events.templates import EntryTemplate
from ..events.wire import plain_json
from ..exceptions import PermanentError, Unavailable
from .base import Capabilities, EventSender, ProcessLocal, Receipts

__all__ = ["CelerySender"]

CHUNK = 20
"""How many tasks are sent between two looks at the lease."""
GOODBYE = 1.0
"""Seconds that a polite close may take."""
AMQP = ("amqp", "amqps", "pyamqp")
_decode = msgspec.json.decode


class CelerySender(EventSender):
    """Sends a task by its name for each event: ``task(event)``, with what the HTTP API shows of it as plain values.

    An event is accepted when Celery's broker has taken the message: RabbitMQ has confirmed it, Redis has answered; other
    transports say less. What becomes of the task is the task's own business: its retries, its failure and its order are
    Celery's, and the consumer has gone on. A task may run twice for an event, and has the same id each time.

    ``batch=True``: one task for a whole batch, ``task([event, …])``.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(ordered=False)

    def __init__(
        self,
        *,
        task: str,
        batch: bool = False,
        queue: str | None = None,
        routing_key: str | None = None,
        priority: int | None = None,
        expires: timedelta | None = None,
        max_bytes: int = 1024 * 1024 * 16,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self.task = EntryTemplate(task, option="task", fields=("type",))
        if not task or (batch and not self.task.constant):
            raise ValueError(
                f"task must be the name of a task, one for all events when they come in batches, got {task!r}."
            )
        if not isinstance(timeout, timedelta) or timeout <= timedelta(0):
            raise ValueError(f"timeout must be a positive timedelta, got {timeout!r}.")
        if max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive, got {max_bytes!r}.")
        self.batch, self.max_bytes, self.timeout = batch, max_bytes, timeout
        given = {"queue": queue, "routing_key": routing_key, "priority": priority}
        self.options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if expires is not None:
            self.options["expires"] = expires.total_seconds()
        self._line = ProcessLocal(lambda: _Line(self.timeout.total_seconds()), close=_Line.close)

    def send(self, batch: Batch) -> Outcome:
        if not batch.still_held():
            return Outcome(done=0)
        receipts = Receipts(batch.entries)
        send = self._send_together if self.batch else self._send_each
        try:
            with self._line.use() as line:
                send(line.producer, batch, receipts)
        except Exception as error:  # noqa: BLE001 - kombu, its transports and sockets each have errors of their own
            cause = error.__cause__ or error  # kombu wraps what the transport raised
            problem = Unavailable(f"Celery's broker: {type(cause).__name__} {cause}".strip())
            problem.__cause__ = error
            return receipts.outcome(problem)
        return receipts.outcome()

    def check(self) -> list[CheckMessage]:
        if current_app.main != "default":  # the app that Celery makes up when there is no other
            return []
        return [
            Error(
                f"Tasks {self.task.text!r} are to be sent, and no Celery app is loaded whose broker could take them.",
                hint="Import the project's Celery app in its __init__.py.",
                id="django_eventstore.E061",
            )
        ]

    def close(self) -> None:
        self._line.close()

    def _send_each(self, producer: Producer, batch: Batch, receipts: Receipts) -> None:
        for number, entry in enumerate(batch.entries):
            if number % CHUNK == 0 and not batch.still_held():
                return
            try:
                event = self._plain(entry, batch)
                self._send(producer, batch, self.task.fill(entry), event, [entry])
            except (PermanentError, EncodeError) as error:
                receipts.refuse(number, error)
            else:
                receipts.accept(number)

    def _send_together(self, producer: Producer, batch: Batch, receipts: Receipts) -> None:
        events: dict[int, object] = {}
        for number, entry in enumerate(batch.entries):
            try:
                events[number] = self._plain(entry, batch)
            except PermanentError as error:
                receipts.refuse(number, error)
        if events and batch.still_held():
            entries = [batch.entries[number] for number in events]
            self._send(producer, batch, self.task.text, list(events.values()), entries)
            for number in events:
                receipts.accept(number)

    def _plain(self, entry: DeliveredEntry, batch: Batch) -> object:
        text = plain_json(entry, log=batch.log, epoch=batch.epoch)
        if len(text) > self.max_bytes:
            raise PermanentError(f"The event has {len(text)} bytes, and max_bytes is {self.max_bytes}.")
        return _decode(text)

    def _send(
        self, producer: Producer, batch: Batch, name: str, argument: object, entries: Sequence[DeliveredEntry]
    ) -> None:
        current_app.send_task(
            name,
            args=[argument],
            task_id=str(_task_id(batch.consumer, name, entries)),
            producer=producer,
            headers=_headers(entries[0]) if len(entries) == 1 else {},
            ignore_result=True,
            add_to_parent=False,
            # No retries of its own: the consumer's wait is visible, and looks at the lease.
            retry=False,
            timeout=self.timeout.total_seconds(),
            **self.options,
        )


class _Line:
    """A connection of its own to Celery's broker, on which every wait ends."""

    def __init__(self, seconds: float) -> None:
        broker = current_app.connection_for_write()
        self._is_amqp = broker.transport_cls in AMQP
        options = dict(broker.transport_options or {})
        if self._is_amqp:
            options["confirm_publish"] = True
        else:
            options = {"socket_timeout": seconds, "socket_connect_timeout": seconds, **options}
        self._connection = broker.clone(transport_options=options, connect_timeout=seconds, heartbeat=0)
        raw: Any = self._connection.connect()
        self._raw = raw
        if self._is_amqp:
            self._raw.sock.settimeout(seconds)  # of each wait that py-amqp would make without one
        self.producer = current_app.amqp.Producer(self._connection)

    def close(self) -> None:
        """Say goodbye as far as that goes, and let go of the connection."""
        with contextlib.suppress(Exception):
            if self._is_amqp:
                self._raw.sock.settimeout(GOODBYE)
            self._connection.release()
        if self._is_amqp:
            with contextlib.suppress(Exception):
                self._raw.collect()


def _task_id(consumer: str, name: str, entries: Sequence[DeliveredEntry]) -> UUID:
    """The same for the same events, and another one for another consumer or task."""
    return uuid5(entries[0].event_id, f"{consumer}/{name}/{entries[-1].event_id}")


def _headers(entry: DeliveredEntry) -> Mapping[str, object]:
    """The trace that the event belongs to; and as the context of what the task records: the event is its cause."""
    attributes = trace_of(entry.metadata)
    context = {"correlation_id": entry.correlation_id or str(entry.event_id), "causation_id": str(entry.event_id)}
    if "traceparent" in attributes:
        context["traceparent"] = attributes["traceparent"]
    return {**attributes, "eventstore_context": msgspec.json.encode(context).decode()}
