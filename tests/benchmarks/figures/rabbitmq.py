"""20,000 entries of the log forwarded to a durable queue of RabbitMQ, every one confirmed."""

from __future__ import annotations

import time
from datetime import timedelta

import amqp
from amqp import spec

from django_eventstore import EventEntry, EventForwarder
from django_eventstore.consumers import Consumer
from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import begin_log, catch_up, load, order_shipped, payload_of, settle
from tests.benchmarks.stopwatch import Stopwatch
from tests.servers.rabbitmq import connect, rabbitmq_url

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
QUEUE = "eventstore-benchmarks"
WINDOW = 1_000


def _entries(scale: Scale) -> int:
    return scale.of(20_000, quick=300)


def prepare(scale: Scale) -> None:
    begin_log()
    load(_entries(scale), transactions=5)
    catch_up()
    settle(scale.vendor)


def by_default(scale: Scale) -> Measurement:
    return _forwarded(scale, limit=None)


def in_small_batches(scale: Scale) -> Measurement:
    return _forwarded(scale, limit=100)


def in_large_batches(scale: Scale) -> Measurement:
    return _forwarded(scale, limit=5_000)


def _forwarded(scale: Scale, *, limit: int | None) -> Measurement:
    """The whole way: read from the log, written as CloudEvents, published, confirmed, the offset saved."""
    with _Queue() as queue:
        options = {"exchange": "", "routing_key": QUEUE, "url": rabbitmq_url()}
        sender = "django_eventstore.senders.rabbitmq.RabbitMQSender"
        consumer = Consumer(
            name=f"benchmarks-{limit}", events=("*",), sender=sender, options=options, start="beginning", limit=limit
        )
        forwarder = EventForwarder(consumer)
        EventEntry.objects.first()
        with Stopwatch() as watch:
            done = forwarder.get_and_send(most_events=10**9, longest=timedelta(hours=1))
        forwarder.sender.close()
        queue.require(done.delivered, _entries(scale))
    return watch.measurement(done.delivered)


def bare_publisher(scale: Scale) -> Measurement:
    """One payload again and again by py-amqp, as many in flight: no log, no envelope, no headers, no mandatory."""
    count, body = _entries(scale), payload_of(order_shipped(0)).encode()
    with _Queue() as queue:
        with Stopwatch() as watch:
            confirmed = _publish(queue.channel, body, count)
        queue.require(confirmed, count)
    return watch.measurement(count)


def _publish(channel: amqp.Channel, body: bytes, count: int) -> int:
    confirmed = 0

    def on_ack(tag: int, multiple: bool) -> None:
        nonlocal confirmed
        confirmed = tag if multiple else confirmed + 1

    channel.events["basic_ack"].add(on_ack)
    channel.confirm_select()
    for number in range(count):
        message = amqp.Message(body, content_type="application/json", delivery_mode=2)
        # What basic_publish() does, without its look for a frame before each message.
        channel.send_method(spec.Basic.Publish, "Bssbb", (0, "", QUEUE, False, False), message)
        while number + 1 - confirmed >= WINDOW:
            channel.connection.drain_events(timeout=30)
    while confirmed < count:
        channel.connection.drain_events(timeout=30)
    return confirmed


class _Queue:
    """A durable queue, empty, for one measurement."""

    def __enter__(self) -> _Queue:
        self._connection = connect(rabbitmq_url())
        self.channel = self._connection.channel()
        self.channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        self.channel.queue_purge(QUEUE)
        return self

    def __exit__(self, *error: object) -> None:
        self.channel.queue_delete(QUEUE)
        self._connection.close()

    def require(self, claimed: int, expected: int) -> None:
        """As many are claimed as there are, and as many are there."""
        found, deadline = -1, time.monotonic() + 10
        while found != expected and time.monotonic() < deadline:
            _, found, _ = self.channel.queue_declare(QUEUE, passive=True)
        if (claimed, found) != (expected, expected):
            raise AssertionError(f"{claimed} of {expected} were claimed, and {found} are in the queue")


BARE = Reading(variant="bare", quantity=RATE)

FIGURE = Figure(
    name="rabbitmq",
    databases=EVERYWHERE,
    variants={"large": in_large_batches, "default": by_default, "bare": bare_publisher, "small": in_small_batches},
    prepare=prepare,
    fresh="round",
    needs=("rabbitmq",),
    comparisons=(
        Comparison(
            title="20,000 entries to RabbitMQ, `LIMIT` 5,000",
            measured=Reading(variant="large", quantity=RATE),
            limit=BARE,
            limit_name="a bare pipelined publisher with confirms",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≥", number=0.6)),
        ),
        Comparison(
            title="the same, `LIMIT` 1,000, the default",
            measured=Reading(variant="default", quantity=RATE),
            limit=BARE,
            limit_name="a bare pipelined publisher with confirms",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≥", number=0.6)),
        ),
        Comparison(
            title="the same, `LIMIT` 100",
            measured=Reading(variant="small", quantity=RATE),
            limit=BARE,
            limit_name="a bare pipelined publisher with confirms",
        ),
    ),
)
