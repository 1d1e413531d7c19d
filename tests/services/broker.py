"""The shared RabbitMQ as one test uses it: through a proxy, with an exchange and queues of its own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import urlsplit

import amqp

from django_eventstore.delivery import DeliveredEntry
from django_eventstore.senders.rabbitmq import RabbitMQSender
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import connect, rabbitmq_url

SHORT = timedelta(seconds=2)


class Broker:
    """The shared broker through a proxy, with an exchange and queues of this test alone."""

    def __init__(self, **queue: object) -> None:
        self.name = f"eventstore-test-{uuid.uuid4().hex}"
        self.straight = connect(rabbitmq_url())
        self.channel = self.straight.channel()
        self.channel.exchange_declare(self.name, "topic", durable=True, auto_delete=False)
        self.queues: list[str] = []
        upstream = urlsplit(rabbitmq_url())
        self.proxy = Proxy(str(upstream.hostname), upstream.port or 5672)
        self.url = upstream._replace(netloc=f"guest:guest@127.0.0.1:{self.proxy.port}").geturl()
        self.got: list[amqp.Message] = []
        self.senders: list[RabbitMQSender] = []

    def queue(self, *keys: str, **arguments: object) -> str:
        """A durable queue, bound for these routing keys."""
        name = f"{self.name}-{len(self.queues)}"
        self.channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments or None)
        for key in keys or ("#",):
            self.channel.queue_bind(name, self.name, key)
        self.queues.append(name)
        return name

    def read(self, atleast: int, queue: str | None = None) -> list[amqp.Message]:
        """All that the queue has had so far."""
        name, deadline = queue or self.queues[0], time.monotonic() + 5
        while True:
            message = self.channel.basic_get(name, no_ack=True)
            if message is not None:
                self.got.append(message)
            elif len(self.got) >= atleast or time.monotonic() > deadline:
                return list(self.got)
            else:
                time.sleep(0.02)

    def sender(self, **options: object) -> RabbitMQSender:
        defaults = {"exchange": self.name, "url": self.url, "timeout": SHORT, "connect_timeout": SHORT}
        self.senders.append(RabbitMQSender(**{**defaults, **options}))
        return self.senders[-1]

    def close(self) -> None:
        for sender in self.senders:
            sender.close()
        self.proxy.close()
        for name in self.queues:
            self.channel.queue_delete(name)
            self.channel.exchange_delete(name)  # Celery makes one of the same name
        self.channel.exchange_delete(self.name)
        self.straight.close()


def ids(messages: list[amqp.Message]) -> list[str]:
    return [str(message.properties["message_id"]) for message in messages]


def wanted(entries: Iterable[DeliveredEntry]) -> list[str]:
    return [str(entry.event_id) for entry in entries]
