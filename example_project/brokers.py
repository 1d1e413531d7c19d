"""Sends the shop's events to the message brokers that answer here, and reads back what arrived.

    python brokers.py    RabbitMQ, Kafka, NATS and Redis where they usually are, or where RABBITMQ_URL, KAFKA_URL, NATS_URL
                         and REDIS_URL say; ends with 0 if at least one answered and each received all of it in order

Each gets an exchange, topic, stream or key of its own for this run, which is removed at the end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from io import StringIO
from urllib.parse import urlsplit

# A word that nobody else uses on these brokers.
NAME = f"shop-demo-{uuid.uuid4().hex[:12]}"
PATIENCE = 15.0


class Broker(ABC):
    """One kind of broker: where it is, what has to be there before, and how somebody else would read from it."""

    title: str
    variable: str
    usual: str
    sender: str
    options: dict[str, object]

    @property
    def url(self) -> str:
        return os.environ.get(self.variable, self.usual)

    def missing(self) -> str | None:
        """Why it cannot be shown; None if it can."""
        parts = urlsplit(self.url if "://" in self.url else f"//{self.url}")
        try:
            socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=2).close()
        except OSError as error:
            return f"nothing answers at {parts.hostname}:{parts.port} ({error}); {self.variable} names another address"
        return None

    @abstractmethod
    def begin(self) -> None:
        """Make what the events go to."""

    @abstractmethod
    def receive(self, count: int) -> list[str]:
        """The ids of that many events, as they arrived."""

    @abstractmethod
    def end(self) -> None:
        """Remove it."""


class RabbitMQ(Broker):
    title, variable, usual = "RabbitMQ", "RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"
    sender = "django_eventstore.senders.rabbitmq.RabbitMQSender"

    def begin(self) -> None:
        from kombu import Connection

        self.options = {"exchange": NAME, "url": self.url}
        self.connection = Connection(self.url)
        self.channel = self.connection.channel()
        self.channel.exchange_declare(NAME, "topic", durable=True, auto_delete=False)
        self.channel.queue_declare(NAME, durable=True, auto_delete=False)
        self.channel.queue_bind(NAME, NAME, "shop.#")

    def receive(self, count: int) -> list[str]:
        found: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while len(found) < count and time.monotonic() < deadline:
            message = self.channel.basic_get(NAME, no_ack=True)
            if message is None:
                time.sleep(0.02)
            else:
                found.append(message.properties["message_id"])
        return found

    def end(self) -> None:
        self.channel.queue_delete(NAME)
        self.channel.exchange_delete(NAME)
        self.connection.release()


class Kafka(Broker):
    title, variable, usual = "Kafka", "KAFKA_URL", "127.0.0.1:9092"
    sender = "django_eventstore.senders.kafka.KafkaSender"

    def begin(self) -> None:
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        self.options = {"topic": NAME, "url": self.url}
        self.admin = AdminClient({"bootstrap.servers": self.url})
        for done in self.admin.create_topics([NewTopic(NAME, num_partitions=1)]).values():
            done.result(PATIENCE)

    def receive(self, count: int) -> list[str]:
        from confluent_kafka import Consumer, TopicPartition

        reader = Consumer({"bootstrap.servers": self.url, "group.id": NAME, "enable.auto.commit": False})
        reader.assign([TopicPartition(NAME, 0, 0)])
        found: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while len(found) < count and time.monotonic() < deadline:
            message = reader.poll(0.2)
            if message is not None and message.error() is None:
                found.append(dict(message.headers())["ce_id"].decode())
        reader.close()
        return found

    def end(self) -> None:
        for done in self.admin.delete_topics([NAME]).values():
            done.result(PATIENCE)


class NATS(Broker):
    title, variable, usual = "NATS JetStream", "NATS_URL", "nats://127.0.0.1:4222"
    sender = "django_eventstore.senders.nats.NATSSender"

    def begin(self) -> None:
        self.options = {"stream": NAME, "url": self.url, "subject": f"{NAME}.{{type}}"}

        async def add(stream: object) -> None:
            await stream.add_stream(name=NAME, subjects=[f"{NAME}.>"])

        asyncio.run(self._with_stream(add))

    def receive(self, count: int) -> list[str]:
        async def fetch(stream: object) -> list[str]:
            reader = await stream.pull_subscribe(f"{NAME}.>", stream=NAME)
            return [message.headers["ce-id"] for message in await reader.fetch(count, timeout=PATIENCE)]

        return asyncio.run(self._with_stream(fetch))

    def end(self) -> None:
        async def delete(stream: object) -> None:
            await stream.delete_stream(NAME)

        asyncio.run(self._with_stream(delete))

    async def _with_stream(self, act):
        import nats

        client = await nats.connect(self.url)
        try:
            return await act(client.jetstream())
        finally:
            await client.close()


class Redis(Broker):
    title, variable, usual = "Redis Streams", "REDIS_URL", "redis://127.0.0.1:6379"
    sender = "django_eventstore.senders.redis.RedisStreamSender"

    def begin(self) -> None:
        import redis

        self.options = {"key": NAME, "url": self.url}
        self.client = redis.Redis.from_url(self.url)

    def receive(self, count: int) -> list[str]:
        return [fields[b"ce-id"].decode() for _, fields in self.client.xrange(NAME, count=count)]

    def end(self) -> None:
        self.client.delete(NAME)
        self.client.close()


def set_up_shop(data: str) -> None:
    """An empty shop on SQLite."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "shop_site.settings", "SHOP_DATA": data}
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("shop_setup", stdout=StringIO())  # it prints passwords


def trade() -> None:
    """Some orders, and what becomes of them."""
    from django.contrib.auth import get_user_model
    from shop.models import Order, Product

    customer, product = get_user_model().objects.first(), Product.objects.first()
    for number in range(5):
        order = Order.place(customer=customer, product=product, quantity=1)
        if number % 2 == 0:
            order.pay()
    order.cancel("changed my mind")


def show(broker: Broker, streams: Mapping[str, str]) -> bool:
    """Send everything and read it back. Returns whether all of it arrived, each stream in order.

    ``streams``: that of each event, by its id, in the order of the log.
    """
    from django_eventstore import EventForwarder
    from django_eventstore.consumers import Consumer
    from django_eventstore.forwarding.forwarder import make_sender

    broker.begin()
    try:
        consumer = Consumer(
            name=f"demo.{broker.title}",
            events=("shop.*",),
            sender=broker.sender,
            options=broker.options,
            start="beginning",
        )
        sender = make_sender(consumer)
        try:
            began = time.perf_counter()
            delivered = EventForwarder(consumer, sender=sender).get_and_send().delivered
            taken = time.perf_counter() - began
        finally:
            sender.close()
        received = broker.receive(len(streams))
    finally:
        broker.end()
    # Events of different streams may overtake one another. The sort leaves those of one stream as they came.
    is_right = sorted(received, key=lambda id_: streams.get(id_, "")) == sorted(streams, key=lambda id_: streams[id_])
    verdict = "all arrived, each stream in order" if is_right else f"WRONG: of {len(streams)} came {received}"
    print(f"  {broker.title:15} {delivered} events accepted in {taken * 1000:.0f} ms; {verdict}")
    return is_right


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="shop-brokers-") as data:
        set_up_shop(data)
        trade()
        from django_eventstore import EventStore

        entries = EventStore().get(types=["shop.*"]).entries
        print(f"The shop has recorded {len(entries)} events: {', '.join(entry.type for entry in entries)}")
        shown = []
        for broker in (RabbitMQ(), Kafka(), NATS(), Redis()):
            reason = broker.missing()
            if reason is None:
                shown.append(show(broker, {str(entry.event_id): entry.stream for entry in entries}))
            else:
                print(f"  {broker.title:15} not shown: {reason}")
    if not shown:
        print("No broker answers. `make demo` needs none.")
    return 0 if shown and all(shown) else 1


if __name__ == "__main__":
    sys.exit(main())
