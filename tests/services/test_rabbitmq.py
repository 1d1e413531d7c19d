"""RabbitMQSender on a real RabbitMQ, through a proxy that cuts, freezes and loses answers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import amqp
import pytest

from django_eventstore.senders.rabbitmq import RabbitMQSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import connect, rabbitmq_url

pytestmark = [pytest.mark.no_database, pytest.mark.needs("rabbitmq")]

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
        return RabbitMQSender(**{**defaults, **options})

    def close(self) -> None:
        self.proxy.close()
        for name in self.queues:
            self.channel.queue_delete(name)
        self.channel.exchange_delete(self.name)
        self.straight.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


def ids(messages: list[amqp.Message]) -> list[str]:
    return [str(message.properties["message_id"]) for message in messages]


def wanted(entries: list[ContractEntry]) -> list[str]:
    return [str(entry.event_id) for entry in entries]


contract = SenderContract()


class RabbitMQContract(SenderContract):
    patience = timedelta(seconds=12)
    options: dict[str, object] = {}
    queue_arguments: dict[str, object] = {}

    @pytest.fixture(autouse=True)
    def _broker(self, broker: Broker) -> None:
        self.broker = broker
        broker.queue(**self.queue_arguments)

    def make_sender(self) -> RabbitMQSender:
        return self.broker.sender(**self.options)

    def arrivals(self, atleast: int) -> list[Arrival]:
        return [
            Arrival(str(message.properties["message_id"]), self.payload(message))
            for message in self.broker.read(atleast)
        ]

    def payload(self, message: amqp.Message) -> str:
        return bytes(message.body).decode()

    def refusable(self, entry: ContractEntry) -> ContractEntry:
        entry.type = "contract." + "x" * 300  # a routing key longer than AMQP has room for
        return entry

    def take_away(self) -> None:
        self.broker.proxy.cut()

    def freeze(self) -> None:
        self.broker.proxy.freeze()

    def bring_back(self) -> None:
        self.broker.proxy.open()


class TestRabbitMQSender(RabbitMQContract):
    pass


class TestRabbitMQSenderToAQuorumQueue(RabbitMQContract):
    queue_arguments = {"x-queue-type": "quorum"}
    many = 2_000


class TestRabbitMQSenderWithStructuredEvents(RabbitMQContract):
    options = {"format": "structured", "max_in_flight": 7}
    many = 1_000

    def payload(self, message: amqp.Message) -> str:
        # The data is the last member, byte for byte as it was recorded.
        return bytes(message.body).decode().partition(',"data":')[2][:-1]
